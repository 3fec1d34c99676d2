//! The access units since a keyframe, of a publisher that hands them over.
//!
//! Not the last keyframe: as many whole groups of pictures are kept before it as last [`BEHIND_TICKS`]. Players of HLS other than Apple's
//! begin with a whole segment; the first of them would have to wait for one, for as long as the publisher takes to its next keyframe.

use std::{collections::VecDeque, sync::Arc};

use super::{Original, OriginalFormat};
use crate::{
    media::MediaKind,
    track::{RingLimits, frames::ORIGINALS_CLOCK_HZ},
};

/// What is kept before the last keyframe lasts so long at least, if it fits the bounds: two segments of the shortest kind.
const BEHIND_TICKS: u64 = 2 * ORIGINALS_CLOCK_HZ as u64;
/// How far before a keyframe sound is kept: publishers send it up to so much ahead of the pictures it belongs to.
const SOUND_BEFORE_TICKS: u64 = ORIGINALS_CLOCK_HZ as u64;
/// Frames of sound at the most: for two groups of pictures of 10.5 s, and a second before; 94 a second at 96 kHz.
const SOUND_FRAMES_MAX: usize = 22 * 94;
/// Their bytes: 22 s at 1.5 Mb/s, which is more than encoders give to eight channels.
const SOUND_BYTES_MAX: usize = 4 << 20;

/// See the module. All pictures together are bounded by [`RingLimits::VIDEO`] in number and bytes, each group in duration; a group
/// that is too much by itself is not kept. Sound has bounds of its own.
#[derive(Debug, Default)]
pub(in crate::track) struct OriginalsCache {
    formats: [Option<Arc<OriginalFormat>>; 2],
    units: VecDeque<Original>,
    /// Of pictures, oldest first. The last one is where pictures are appended.
    gops: VecDeque<Gop>,
    sound_frames: usize,
    sound_bytes: usize,
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
        self.formats[MediaKind::Video as usize] = Some(original.format.clone());
        let is_same = self.last_picture().is_none_or(|last| last.format == original.format);
        if original.unit.keyframe {
            self.begin_gop(time_ticks, is_same);
        }
        let Some(gop) = self.gops.back_mut() else { return };
        gop.frames += 1;
        gop.bytes += original.unit.data.len();
        let ticks = time_ticks.saturating_sub(gop.start_ticks);
        let ticks_max = RingLimits::VIDEO.gop_duration.as_millis() as u64 * u64::from(ORIGINALS_CLOCK_HZ) / 1_000;
        let fits = ticks <= ticks_max && (is_same || original.unit.keyframe);
        self.units.push_back(original);
        if !fits {
            self.gops.clear();
            self.units.retain(is_sound);
        }
        while self.is_over_limits() {
            self.drop_gops(1);
        }
    }

    /// What came before a keyframe stays as long as it is needed, and can be played into it: in one format, on a clock that grows.
    fn begin_gop(&mut self, start_ticks: u64, is_same: bool) {
        let goes_on = is_same && self.gops.back().is_some_and(|last| last.start_ticks < start_ticks);
        if !goes_on {
            self.gops.clear();
            self.units.retain(is_sound);
        }
        self.gops.push_back(Gop { start_ticks, frames: 0, bytes: 0 });
        let is_long_enough = |from: &Gop| from.start_ticks + BEHIND_TICKS <= start_ticks;
        self.drop_gops(self.gops.iter().rposition(is_long_enough).unwrap_or(0));
    }

    fn last_picture(&self) -> Option<&Original> {
        self.units.iter().rev().find(|unit| !is_sound(unit))
    }

    fn is_over_limits(&self) -> bool {
        let frames: u32 = self.gops.iter().map(|gop| gop.frames).sum();
        let bytes: usize = self.gops.iter().map(|gop| gop.bytes).sum();
        frames > RingLimits::VIDEO.gop_frames || bytes > RingLimits::VIDEO.gop_bytes
    }

    /// The oldest ones, and the sound that was for them.
    fn drop_gops(&mut self, count: usize) {
        let mut left: u32 = self.gops.drain(..count).map(|gop| gop.frames).sum();
        self.units.retain(|unit| {
            let goes = left > 0 && !is_sound(unit);
            left -= u32::from(goes);
            !goes
        });
        if let Some(first) = self.gops.front() {
            self.drop_sound_before(first.start_ticks.saturating_sub(SOUND_BEFORE_TICKS));
        }
    }

    fn insert_sound(&mut self, original: Original) {
        self.formats[MediaKind::Audio as usize] = Some(original.format.clone());
        let time_ticks = original.unit.decode_time_ticks;
        self.sound_frames += 1;
        self.sound_bytes += original.unit.data.len();
        self.units.push_back(original);
        if self.gops.is_empty() {
            self.drop_sound_before(time_ticks.saturating_sub(SOUND_BEFORE_TICKS));
        }
        // With groups of pictures, that is bounded in time; without, a second is kept. But publishers decide what they say of times.
        while self.sound_frames > SOUND_FRAMES_MAX || self.sound_bytes > SOUND_BYTES_MAX {
            let first = self.units.iter().position(is_sound);
            let Some(first) = first.and_then(|at| self.units.remove(at)) else { return };
            self.sound_frames -= 1;
            self.sound_bytes -= first.unit.data.len();
        }
    }

    fn drop_sound_before(&mut self, ticks: u64) {
        self.units.retain(|unit| !is_sound(unit) || unit.unit.decode_time_ticks >= ticks);
        let sound = || self.units.iter().filter(|unit| is_sound(unit));
        (self.sound_frames, self.sound_bytes) = (sound().count(), sound().map(|unit| unit.unit.data.len()).sum());
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
    fn whole_groups_of_two_seconds_stay_before_a_keyframe_and_a_second_of_sound() {
        let mut cache = OriginalsCache::default();
        cache.insert(unit(PICTURE, 90, false, 9));
        assert_eq!(kept(&cache), [], "nothing to begin with");
        for original in [
            unit(PICTURE, 100, true, 9),
            unit(SOUND, 110, false, 9),
            unit(PICTURE, 140, false, 9),
            unit(SOUND, 1_500, false, 9),
            unit(PICTURE, 2_101, true, 9),
            unit(PICTURE, 2_140, false, 9),
            unit(PICTURE, 4_000, true, 9),
        ] {
            cache.insert(original);
        }
        assert_eq!(kept(&cache).len(), 7, "1.9 s before the last keyframe are not enough");
        cache.insert(unit(PICTURE, 4_101, true, 9));
        let after = [(SOUND, 1_500), (PICTURE, 2_101), (PICTURE, 2_140), (PICTURE, 4_000), (PICTURE, 4_101)];
        assert_eq!(kept(&cache), after);
        cache.insert(unit(PICTURE, 14_000, true, 9));
        assert_eq!(kept(&cache), [(PICTURE, 4_101), (PICTURE, 14_000)]);
    }

    #[test]
    fn what_cannot_be_played_into_a_keyframe_goes() {
        let other = Arc::new(OriginalFormat::Avc(Bytes::from_static(b"other")));
        for next in [unit(PICTURE, 900, true, 9), Original { format: other, ..unit(PICTURE, 1_500, true, 9) }] {
            let mut cache = OriginalsCache::default();
            cache.insert(unit(PICTURE, 1_000, true, 9));
            cache.insert(unit(PICTURE, 1_040, false, 9));
            let time_ticks = next.unit.decode_time_ticks;
            cache.insert(next);
            assert_eq!(kept(&cache), [(PICTURE, time_ticks)], "a clock that went back, or another format");
        }
    }

    #[test]
    fn older_groups_make_room_for_the_last_one() {
        for (frames, bytes) in [(400_u64, 9), (2, 7 << 20)] {
            let mut cache = OriginalsCache::default();
            let mut gop = |start: u64| {
                (0..frames).for_each(|at| cache.insert(unit(PICTURE, start + at, at == 0, bytes)));
                kept(&cache).len()
            };
            assert_eq!((gop(0), gop(1_000)), (frames as usize, frames as usize), "{frames} of {bytes} bytes");
        }
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
        (0..500).for_each(|_| cache.insert(unit(SOUND, 9_980, false, 64 << 10)));
        assert_eq!(kept(&cache).len(), SOUND_BYTES_MAX / (64 << 10), "nor how long its frames are");
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
