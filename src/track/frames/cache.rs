//! The access units since the last keyframe, of a publisher that hands them over.

use std::{collections::VecDeque, sync::Arc};

use super::{Original, OriginalFormat};
use crate::{
    media::MediaKind,
    track::{RingLimits, frames::ORIGINALS_CLOCK_HZ},
};

/// How far before a keyframe sound is kept: publishers send it up to so much ahead of the pictures it belongs to.
const SOUND_BEFORE_TICKS: u64 = ORIGINALS_CLOCK_HZ as u64;
/// Frames of sound at the most, for 10.5 s between keyframes, and a second before: 94 a second at 96 kHz.
const SOUND_FRAMES_MAX: usize = 12 * 94;

/// See the module. Bounded by [`RingLimits::VIDEO`] for pictures; beyond that it waits for the next keyframe.
#[derive(Debug, Default)]
pub(in crate::track) struct OriginalsCache {
    formats: [Option<Arc<OriginalFormat>>; 2],
    units: VecDeque<Original>,
    /// Of pictures.
    gop: Option<Gop>,
    sound_frames: usize,
    last_number: u64,
}

#[derive(Debug, Clone, Copy)]
struct Gop {
    start_ticks: u64,
    frames: u32,
    bytes: usize,
}

impl OriginalsCache {
    /// The number of the next unit.
    pub(in crate::track) fn next_number(&self) -> u64 {
        self.last_number + 1
    }

    pub(in crate::track) fn formats(&self) -> impl Iterator<Item = &Arc<OriginalFormat>> {
        self.formats.iter().flatten()
    }

    pub(in crate::track) fn units(&self) -> impl Iterator<Item = &Original> {
        self.units.iter()
    }

    /// A format, before anything came in it.
    pub(in crate::track) fn announce(&mut self, format: Arc<OriginalFormat>) {
        let kind = format.kind();
        self.formats[kind as usize] = Some(format);
    }

    pub(in crate::track) fn insert(&mut self, original: Original) {
        self.last_number = original.number;
        match original.format.kind() {
            MediaKind::Video => self.insert_picture(original),
            MediaKind::Audio => self.insert_sound(original),
        }
    }

    fn insert_picture(&mut self, original: Original) {
        let time_ticks = original.unit.decode_time_ticks;
        if original.unit.keyframe {
            self.drop_pictures();
            self.drop_sound_before(time_ticks.saturating_sub(SOUND_BEFORE_TICKS));
            self.gop = Some(Gop { start_ticks: time_ticks, frames: 0, bytes: 0 });
        }
        let changed = self.formats[MediaKind::Video as usize].replace(original.format.clone());
        let is_same = original.unit.keyframe || changed.is_none_or(|before| before == original.format);
        let Some(gop) = &mut self.gop else { return };
        gop.frames += 1;
        gop.bytes += original.unit.data.len();
        let ticks = time_ticks.saturating_sub(gop.start_ticks);
        let limits = RingLimits::VIDEO;
        let ticks_max = limits.gop_duration.as_millis() as u64 * u64::from(ORIGINALS_CLOCK_HZ) / 1_000;
        if !is_same || gop.frames > limits.gop_frames || gop.bytes > limits.gop_bytes || ticks > ticks_max {
            self.gop = None;
            self.drop_pictures();
            return;
        }
        self.units.push_back(original);
    }

    fn insert_sound(&mut self, original: Original) {
        self.formats[MediaKind::Audio as usize] = Some(original.format.clone());
        let time_ticks = original.unit.decode_time_ticks;
        self.units.push_back(original);
        self.sound_frames += 1;
        if self.gop.is_none() {
            self.drop_sound_before(time_ticks.saturating_sub(SOUND_BEFORE_TICKS));
        }
        // With a group of pictures, that is bounded in time; without, a second is kept. But publishers decide what they say of times.
        while self.sound_frames > SOUND_FRAMES_MAX {
            let first = self.units.iter().position(is_sound);
            first.and_then(|at| self.units.remove(at));
            self.sound_frames -= 1;
        }
    }

    fn drop_pictures(&mut self) {
        self.units.retain(is_sound);
    }

    fn drop_sound_before(&mut self, ticks: u64) {
        self.units.retain(|unit| !is_sound(unit) || unit.unit.decode_time_ticks >= ticks);
        self.sound_frames = self.units.iter().filter(|unit| is_sound(unit)).count();
    }
}

fn is_sound(original: &Original) -> bool {
    original.format.kind() == MediaKind::Audio
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::{AccessUnit, testing::epoch};

    fn unit(kind: MediaKind, ms: u64, keyframe: bool, bytes: usize) -> Original {
        let format = match kind {
            MediaKind::Video => OriginalFormat::Avc(Bytes::new()),
            MediaKind::Audio => OriginalFormat::Aac(Bytes::new()),
        };
        let data = Bytes::from(vec![0; bytes]);
        let unit = AccessUnit { decode_time_ticks: ms, composition_offset_ticks: 0, keyframe, data };
        Original { number: 0, format: Arc::new(format), arrival: epoch(), unit }
    }

    fn kept(cache: &OriginalsCache) -> Vec<(MediaKind, u64)> {
        cache.units().map(|original| (original.format.kind(), original.unit.decode_time_ticks)).collect()
    }

    const PICTURE: MediaKind = MediaKind::Video;
    const SOUND: MediaKind = MediaKind::Audio;

    #[test]
    fn a_keyframe_drops_the_pictures_before_it_and_keeps_a_second_of_sound() {
        let mut cache = OriginalsCache::default();
        cache.insert(unit(PICTURE, 90, false, 9));
        assert_eq!(kept(&cache), [], "nothing to begin with");
        for original in [
            unit(PICTURE, 100, true, 9),
            unit(SOUND, 110, false, 9),
            unit(PICTURE, 140, false, 9),
            unit(SOUND, 1_500, false, 9),
            unit(PICTURE, 2_100, true, 9),
            unit(PICTURE, 2_140, false, 9),
        ] {
            cache.insert(original);
        }
        assert_eq!(kept(&cache), [(SOUND, 1_500), (PICTURE, 2_100), (PICTURE, 2_140)]);
    }

    #[test]
    fn what_is_too_much_is_not_kept_until_the_next_keyframe() {
        let too_long = |cache: &mut OriginalsCache| cache.insert(unit(PICTURE, 10_501, false, 9));
        let too_many = |cache: &mut OriginalsCache| (1..=640).for_each(|ms| cache.insert(unit(PICTURE, ms, false, 9)));
        let too_large = |cache: &mut OriginalsCache| cache.insert(unit(PICTURE, 1, false, 16 << 20));
        for fill in [&too_long as &dyn Fn(&mut OriginalsCache), &too_many, &too_large] {
            let mut cache = OriginalsCache::default();
            cache.insert(unit(PICTURE, 0, true, 9));
            assert_eq!(kept(&cache).len(), 1);
            fill(&mut cache);
            assert_eq!(kept(&cache), []);
            cache.insert(unit(PICTURE, 11_000, false, 9));
            assert_eq!(kept(&cache), []);
            cache.insert(unit(PICTURE, 11_040, true, 9));
            assert_eq!(kept(&cache).len(), 1);
        }
    }

    #[test]
    fn sound_alone_is_kept_for_a_second_whatever_its_times_say() {
        let mut cache = OriginalsCache::default();
        (0..500).for_each(|at| cache.insert(unit(SOUND, at * 20, false, 9)));
        assert_eq!(kept(&cache).len(), 51);
        (0..5_000).for_each(|_| cache.insert(unit(SOUND, 9_980, false, 9)));
        assert_eq!(kept(&cache).len(), SOUND_FRAMES_MAX);
    }

    #[test]
    fn pictures_of_another_format_wait_for_their_keyframe() {
        let mut cache = OriginalsCache::default();
        cache.insert(unit(PICTURE, 0, true, 9));
        let other = Arc::new(OriginalFormat::Avc(Bytes::from_static(b"other")));
        cache.insert(Original { format: other.clone(), ..unit(PICTURE, 40, false, 9) });
        assert_eq!(kept(&cache), []);
        assert_eq!(cache.formats().collect::<Vec<_>>(), [&other]);
    }
}
