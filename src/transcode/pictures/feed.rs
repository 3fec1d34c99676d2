//! A publisher's pictures on their way into an encoder, and their times on the way out. Sans-I/O.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    arguments::Pictures,
    flv::{FILE_HEAD, TIME_MAX_MS, write_configuration, write_frame_rate, write_picture},
};
use crate::{
    codec::{
        PictureSize,
        h264::{DecoderConfiguration, nal, parameter_sets::Sps},
    },
    media::MediaKind,
    track::{Original, OriginalFormat},
};

/// Where the encoder's times begin: room for times that lie before the first one's.
const START_MS: i64 = 10_000;
/// Then the encoder is begun anew: half of what its times can count, 12 days.
const LASTS_MAX_MS: i64 = TIME_MAX_MS as i64 / 2;
/// Pictures whose way through the encoder is measured: those of 8 s at 60 a second.
const UNDER_WAY_MAX: usize = 480;
/// Pictures as old as this when the encoder begins are decoded only: viewers have seen them.
const SHOWN_AFTER_MS: i64 = 200;
/// Where neither the encoder nor the times say a frame rate.
const USUAL_RATE: f64 = 30.0;

/// What an encoder begins with.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub format: Arc<OriginalFormat>,
    /// Pictures from a keyframe on; not empty.
    pub units: Vec<Original>,
    /// What the publisher sends, as far as was seen.
    pub bitrate_bps: u64,
    /// Pictures per second, as far as was seen.
    rate: Option<f64>,
    /// Number of the last unit that was seen, of pictures or sound.
    last: u64,
}

impl Group {
    /// The last group among these: from the last keyframe on.
    pub fn last_of(units: &[Original]) -> Option<Self> {
        let pictures: Vec<_> = units.iter().filter(|unit| unit.format.kind() == MediaKind::Video).collect();
        let from = pictures.iter().rposition(|unit| unit.unit.keyframe)?;
        let format = pictures[from].format.clone();
        let (first, last) = (pictures.first()?, pictures.last()?);
        let span_ms = last.unit.decode_time_ticks.saturating_sub(first.unit.decode_time_ticks);
        let bytes: usize = pictures.iter().map(|unit| unit.unit.data.len()).sum();
        let bitrate_bps = (bytes as u64 * 8_000).checked_div(span_ms).unwrap_or(0);
        let rate = (span_ms > 0).then(|| (pictures.len() - 1) as f64 * 1_000.0 / span_ms as f64);
        let group = pictures[from..].iter().map(|unit| (*unit).clone()).collect();
        let last = units.last()?.number;
        Some(Self { format, units: group, bitrate_bps, rate, last })
    }
}

/// The stream's decoder configuration cannot be read, or is of another codec.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the publisher's H.264 configuration cannot be read")]
pub(super) struct Unreadable;

/// Another encoder is to begin: the format is another, pictures are missing, or the times are at their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BeginAnew;

/// See the module.
#[derive(Debug)]
pub(super) struct Feed {
    format: Arc<OriginalFormat>,
    /// What the media clock is ahead of the encoder's times.
    base_ms: i64,
    /// Number of the last unit, of pictures or sound.
    last: u64,
    /// Presentation times on the media clock, and arrivals.
    under_way: VecDeque<(i64, Instant)>,
}

impl Feed {
    /// Writes what the encoder begins with.
    ///
    /// # Errors
    /// [`Unreadable`].
    pub fn begin(group: &Group, out: &mut BytesMut) -> Result<(Self, Pictures), Unreadable> {
        let OriginalFormat::Avc(record) = &*group.format else { return Err(Unreadable) };
        let configuration = DecoderConfiguration::parse(record).map_err(|_| Unreadable)?;
        let sps = configuration.parameter_sets.iter().find(|set| nal::unit_type(set) == nal::kind::SPS);
        let sps = Sps::parse(sps.ok_or(Unreadable)?).map_err(|_| Unreadable)?;
        let decoded_ms = |unit: &Original| unit.unit.decode_time_ticks as i64;
        let (Some(first), Some(last)) = (group.units.first(), group.units.last()) else { return Err(Unreadable) };
        let base_ms = decoded_ms(first) - START_MS;
        let said = sps.usability.frame_rate.map(|(pictures, seconds)| f64::from(pictures) / f64::from(seconds));
        let rate = group.rate.or(said).unwrap_or(USUAL_RATE).clamp(1.0, 240.0);
        let behind_ms = decoded_ms(last) - decoded_ms(first);
        let from_ms = if behind_ms > SHOWN_AFTER_MS { (START_MS + behind_ms).clamp(0, LASTS_MAX_MS) as u32 } else { 0 };
        let pictures = Pictures {
            size: PictureSize { width: sps.width, height: sps.height },
            rate,
            profile_idc: sps.profile_idc,
            bitrate_bps: group.bitrate_bps,
            from_ms,
        };
        out.extend_from_slice(FILE_HEAD);
        write_frame_rate(rate, out);
        if !write_configuration(record, out) {
            return Err(Unreadable);
        }
        let mut feed = Self { format: group.format.clone(), base_ms, last: group.last, under_way: VecDeque::new() };
        for unit in &group.units {
            feed.write(unit, out);
        }
        Ok((feed, pictures))
    }

    /// Writes what came, in order; what came before is passed over.
    ///
    /// # Errors
    /// [`BeginAnew`].
    pub fn take(&mut self, units: &[Original], out: &mut BytesMut) -> Result<(), BeginAnew> {
        let known = self.last;
        for unit in units.iter().filter(|unit| unit.number > known) {
            let is_picture = unit.format.kind() == MediaKind::Video;
            let decoded_ms = unit.unit.decode_time_ticks as i64 - self.base_ms;
            let is_other = is_picture && unit.format != self.format;
            // Sound and pictures are counted together.
            if is_other || unit.number != self.last + 1 || decoded_ms > LASTS_MAX_MS {
                return Err(BeginAnew);
            }
            self.last = unit.number;
            if is_picture {
                self.write(unit, out);
            }
        }
        Ok(())
    }

    fn write(&mut self, unit: &Original, out: &mut BytesMut) {
        let unit_of = &unit.unit;
        let time_ms = (unit_of.decode_time_ticks as i64 - self.base_ms).clamp(0, LASTS_MAX_MS) as u32;
        if !write_picture(time_ms, unit_of.composition_offset_ticks, unit_of.keyframe, &unit_of.data, out) {
            return;
        }
        if self.under_way.len() == UNDER_WAY_MAX {
            self.under_way.pop_front();
        }
        let shown_ms = i64::from(time_ms) + i64::from(unit_of.composition_offset_ticks) + self.base_ms;
        self.under_way.push_back((shown_ms, unit.arrival));
    }

    /// The media clock's time of what the encoder gives.
    pub fn shown_ms(&self, time_ms: u32, composition_ms: i32) -> i64 {
        i64::from(time_ms) + i64::from(composition_ms) + self.base_ms
    }

    /// Pictures have come since then, and are still under way.
    pub fn fed_since(&self, since: Instant) -> bool {
        self.under_way.iter().any(|(_, arrival)| *arrival > since)
    }

    /// How long a picture was under way that is shown at this time.
    pub fn took(&mut self, shown_ms: i64, now: Instant) -> Option<Duration> {
        let at = self.under_way.iter().position(|(of_ms, _)| *of_ms == shown_ms)?;
        let (_, arrival) = self.under_way.remove(at)?;
        Some(now.saturating_duration_since(arrival))
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{
        super::flv::{FlvReader, Tag},
        *,
    };
    use crate::media::{AccessUnit, testing::epoch};

    const FIRST_MS: u64 = 60_000;

    fn read(bytes: &[u8]) -> Vec<Tag> {
        let mut reader = FlvReader::default();
        reader.buffer.extend_from_slice(bytes);
        std::iter::from_fn(|| reader.read().unwrap()).collect()
    }

    /// Four seconds with B-frames, 30 pictures a second, a keyframe a second, as a publisher sends them; between them sound.
    fn units() -> Vec<Original> {
        let tags = read(include_bytes!("../../../tests/fixtures/flv/b-frames.flv"));
        let Tag::Configuration(record) = &tags[0] else { panic!("a configuration comes first") };
        let (pictures, sound) =
            (Arc::new(OriginalFormat::Avc(record.clone())), Arc::new(OriginalFormat::Aac(Bytes::new())));
        let mut units = Vec::new();
        for tag in &tags[1..] {
            let Tag::Picture { time_ms, composition_ms, data } = tag else { panic!("one configuration") };
            let mut add = |format: &Arc<OriginalFormat>, composition_offset_ticks, keyframe, data| {
                let decode_time_ticks = FIRST_MS + u64::from(*time_ms);
                let arrival = epoch() + Duration::from_millis((*time_ms).into());
                let unit = AccessUnit { decode_time_ticks, composition_offset_ticks, keyframe, data };
                units.push(Original { number: units.len() as u64 + 1, format: format.clone(), arrival, unit });
            };
            let nals = nal::split_lengths(data, 4).unwrap();
            let keyframe = nals.iter().any(|nal| nal::unit_type(nal) == nal::kind::IDR_SLICE);
            add(&pictures, *composition_ms, keyframe, data.clone());
            add(&sound, 0, true, Bytes::from_static(b"sound"));
        }
        units
    }

    #[test]
    fn an_encoder_begins_with_the_last_group_and_gets_what_comes_after_once() {
        let units = units();
        let is_picture = |unit: &&Original| unit.format.kind() == MediaKind::Video;
        let keyframes: Vec<_> = units.iter().filter(|unit| is_picture(unit) && unit.unit.keyframe).collect();
        assert_eq!(keyframes.len(), 4);
        let at = units.iter().position(|unit| unit.number == keyframes[1].number).unwrap();
        // Half a second into the second group.
        let (before, after) = units.split_at(at + 30);
        let group = Group::last_of(before).unwrap();
        assert_eq!(group.units.len(), 15);
        let mut out = BytesMut::new();
        let (mut feed, pictures) = Feed::begin(&group, &mut out).unwrap();
        assert_eq!((pictures.size.width, pictures.size.height, pictures.profile_idc), (160, 90, 100));
        assert!((pictures.rate - 30.0).abs() < 0.5, "{}", pictures.rate);
        assert_eq!(pictures.from_ms, 10_467, "what was shown is decoded only");
        // What a snapshot repeats is passed over.
        feed.take(&units[at..], &mut out).unwrap();
        feed.take(after, &mut out).unwrap();
        let tags = read(&out);
        assert!(matches!(tags[0], Tag::Configuration(_)));
        let sent: Vec<_> = units[at..].iter().filter(is_picture).collect();
        assert_eq!(tags.len() - 1, sent.len());
        for (tag, unit) in tags[1..].iter().zip(sent) {
            let Tag::Picture { time_ms, composition_ms, data } = tag else { panic!("{tag:?}") };
            assert_eq!(*data, unit.unit.data);
            let shown_ms = unit.unit.decode_time_ticks as i64 + i64::from(unit.unit.composition_offset_ticks);
            assert_eq!(feed.shown_ms(*time_ms, *composition_ms), shown_ms);
            let later = unit.arrival + Duration::from_millis(70);
            assert_eq!(feed.took(shown_ms, later), Some(Duration::from_millis(70)));
            assert_eq!(feed.took(shown_ms, later), None, "each once");
        }
        assert!(!feed.fed_since(epoch()), "nothing is under way");
    }

    #[test]
    fn what_is_missing_or_another_takes_another_encoder() {
        let units = units();
        let begin = || Feed::begin(&Group::last_of(&units[..2]).unwrap(), &mut BytesMut::new()).unwrap().0;
        let mut out = BytesMut::new();
        assert_eq!(begin().take(&units[2..4], &mut out), Ok(()));
        assert_eq!(begin().take(&units[3..4], &mut out), Err(BeginAnew), "one is missing");
        let mut other = units[2].clone();
        other.format = Arc::new(OriginalFormat::Avc(Bytes::from_static(b"another")));
        assert_eq!(begin().take(&[other], &mut out), Err(BeginAnew));
        let mut late = units[2].clone();
        late.unit.decode_time_ticks += TIME_MAX_MS as u64 / 2;
        assert_eq!(begin().take(&[late], &mut out), Err(BeginAnew), "before its times wrap");
    }

    #[test]
    fn nothing_begins_without_a_keyframe_or_with_what_is_no_configuration() {
        let units = units();
        assert!(Group::last_of(&units[1..20]).is_none());
        assert!(Group::last_of(&[]).is_none());
        let mut group = Group::last_of(&units[..2]).unwrap();
        assert_eq!((group.bitrate_bps, group.units.len()), (0, 1), "one picture says nothing of the bitrate");
        group.format = Arc::new(OriginalFormat::Avc(Bytes::from_static(b"nonsense")));
        assert_eq!(Feed::begin(&group, &mut BytesMut::new()).err(), Some(Unreadable));
    }
}
