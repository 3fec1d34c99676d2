//! One layer's pictures, whole and in decoding order, whichever way their publisher sends them.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::original_pictures::OriginalPictures;
use crate::{
    codec::depacketize::{DecoderSetup, Depacketizer},
    media::Codec,
    track::{AssembledFrame, Assembler, ClockReference, ORIGINALS_CLOCK_HZ, Original, OriginalFormat, TrackPacket},
};

/// Of all pictures.
pub(super) const PICTURE_CLOCK_HZ: u32 = 90_000;
const TICKS_PER_MS: i64 = (PICTURE_CLOCK_HZ / ORIGINALS_CLOCK_HZ) as i64;
/// Distances between pictures that the frame rate is measured by.
const INTERVALS: usize = 16;
/// So many of them are enough.
const INTERVALS_ENOUGH: usize = 8;
/// With fewer nothing is said of the frame rate.
const RATE_INTERVALS: usize = 3;
/// A distance longer than this is a pause, not a frame rate.
const INTERVAL_MAX_TICKS: i64 = 3 * PICTURE_CLOCK_HZ as i64;
/// Pictures that wait for the rendition to begin: as many as a group of pictures that is kept for joins.
const READY_PICTURES_MAX: usize = 640;
/// How long a rendition waits for its frame rate to be known.
const MEASURE_WAIT: Duration = Duration::from_millis(400);
/// Parts are never made longer than this, however sparse the pictures are.
const SPARSE_PART_MAX: Duration = Duration::from_secs(2);

/// A picture on its publisher's clock.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub decode_ticks: i64,
    pub composition_ticks: i32,
    pub keyframe: bool,
    pub data: Bytes,
    pub setup: Arc<DecoderSetup>,
    pub arrival: Instant,
}

#[derive(Debug)]
enum Input {
    Rtp { assembler: Assembler, depacketizer: Depacketizer },
    Originals { reader: OriginalPictures, format: Option<Arc<OriginalFormat>> },
}

/// See the module.
#[derive(Debug)]
pub(super) struct PictureSource {
    input: Input,
    /// As of the last keyframe; none while that is waited for.
    setup: Option<Arc<DecoderSetup>>,
    ready: VecDeque<Frame>,
    last_decode_ticks: Option<i64>,
    intervals: VecDeque<i64>,
    /// The clock by the publisher's reports, and by the first arrival.
    pub reported: Option<ClockReference>,
    pub arrived: Option<ClockReference>,
    pub rid: Option<String>,
    pub active: bool,
    /// Its segments are the first layer's, of which it is made here, or which its publisher sends beside it.
    pub follows: bool,
    /// Number of the last picture of the encoder that makes it.
    last_number: u64,
}

impl PictureSource {
    /// `None` for a codec that MP4 players do not take.
    pub(super) fn of_rtp(codec: Codec, rid: Option<String>) -> Option<Self> {
        let assembler = Assembler::new(codec.kind());
        Some(Self::new(Input::Rtp { assembler, depacketizer: Depacketizer::new(codec)? }, rid))
    }

    pub(super) fn of_originals() -> Self {
        Self::new(Input::Originals { reader: OriginalPictures::default(), format: None }, None)
    }

    /// A layer beside the originals'.
    pub(super) fn of_layer(rid: &str) -> Self {
        let input = Input::Originals { reader: OriginalPictures::default(), format: None };
        Self { follows: true, ..Self::new(input, Some(rid.to_owned())) }
    }

    fn new(input: Input, rid: Option<String>) -> Self {
        Self {
            input,
            setup: None,
            ready: VecDeque::new(),
            last_decode_ticks: None,
            intervals: VecDeque::new(),
            reported: None,
            arrived: None,
            rid,
            active: true,
            follows: false,
            last_number: 0,
        }
    }

    pub(super) fn push_packet(&mut self, packet: Arc<TrackPacket>) {
        if let Input::Rtp { assembler, .. } = &mut self.input {
            assembler.push(packet);
        }
    }

    pub(super) fn push_original(&mut self, original: &Original) {
        let Input::Originals { reader, format } = &mut self.input else { return };
        if format.as_ref().is_none_or(|known| known != &original.format) {
            *format = Some(original.format.clone());
            reader.configure(&original.format);
        }
        let unit = &original.unit;
        let Ok(picture) = reader.picture(unit) else { return };
        self.ready(Frame {
            decode_ticks: unit.decode_time_ticks as i64 * TICKS_PER_MS,
            composition_ticks: unit.composition_offset_ticks.saturating_mul(TICKS_PER_MS as i32),
            keyframe: picture.keyframe,
            data: picture.data,
            setup: match picture.setup.or_else(|| self.setup.clone()) {
                Some(setup) => setup,
                None => return,
            },
            arrival: original.arrival,
        });
    }

    /// The next picture of the encoder, unless some are missing before it: then, and when another encoder has begun, the next keyframe.
    pub(super) fn push_of_layer(&mut self, unit: &Original) {
        if std::mem::replace(&mut self.last_number, unit.number) + 1 != unit.number {
            self.lose();
        }
        if self.setup.is_some() || unit.unit.keyframe {
            self.push_original(unit);
        }
    }

    /// Pictures were lost before the next one: what comes is of no use up to a keyframe.
    pub(super) fn lose(&mut self) {
        self.setup = None;
    }

    /// Takes what packets have made whole.
    pub(super) fn assemble(&mut self, now: Instant) {
        while let Input::Rtp { assembler, depacketizer } = &mut self.input {
            let Some(AssembledFrame { time_ticks, arrival, payloads, after_loss }) = assembler.poll(now) else {
                return;
            };
            if after_loss {
                self.setup = None;
            }
            let decode_ticks = time_ticks as i64;
            let picture = depacketizer.picture(&payloads).ok();
            let Some((picture, setup)) = picture.and_then(|mut picture| {
                let setup = picture.setup.take().or_else(|| self.setup.clone())?;
                Some((picture, setup))
            }) else {
                // What comes after it refers to it.
                self.setup = None;
                assembler.restart();
                continue;
            };
            self.arrived.get_or_insert(ClockReference { at: arrival, time_ticks, by_report: false });
            let composition_ticks = 0;
            let (keyframe, data) = (picture.keyframe, picture.data);
            self.ready(Frame { decode_ticks, composition_ticks, keyframe, data, setup, arrival });
        }
    }

    fn ready(&mut self, frame: Frame) {
        self.setup = Some(frame.setup.clone());
        if let Some(last) = self.last_decode_ticks.replace(frame.decode_ticks) {
            let interval = frame.decode_ticks - last;
            if (1..=INTERVAL_MAX_TICKS).contains(&interval) {
                if self.intervals.len() == INTERVALS {
                    self.intervals.pop_front();
                }
                self.intervals.push_back(interval);
            }
        }
        if self.ready.len() == READY_PICTURES_MAX {
            self.drop_ready();
        }
        self.ready.push_back(frame);
    }

    /// The next picture.
    pub(super) fn pop(&mut self) -> Option<Frame> {
        self.ready.pop_front()
    }

    /// The first picture that waits.
    pub(super) fn first(&self) -> Option<&Frame> {
        self.ready.front()
    }

    /// A keyframe waits, and what is needed to begin with it is known or was waited for.
    pub(super) fn can_begin(&self, now: Instant) -> bool {
        let Some(first) = self.ready.front().filter(|frame| frame.keyframe) else { return false };
        self.intervals.len() >= INTERVALS_ENOUGH || now >= first.arrival + MEASURE_WAIT
    }

    /// When [`Self::can_begin`] may turn true though nothing came.
    pub(super) fn begin_due(&self) -> Option<Instant> {
        Some(self.ready.front()?.arrival + MEASURE_WAIT)
    }

    /// Lets go what waits, up to the next keyframe that waits.
    pub(super) fn drop_to_keyframe(&mut self) {
        while self.ready.pop_front().is_some() && self.ready.front().is_some_and(|frame| !frame.keyframe) {}
        if self.ready.is_empty() {
            self.drop_ready();
        }
    }

    fn drop_ready(&mut self) {
        self.ready.clear();
        self.setup = None;
        if let Input::Rtp { assembler, .. } = &mut self.input {
            assembler.restart();
        }
    }

    /// Nothing of it can be decoded before a keyframe comes.
    pub(super) fn needs_keyframe(&self) -> bool {
        match &self.input {
            Input::Rtp { assembler, .. } => assembler.is_lost() || self.setup.is_none(),
            Input::Originals { .. } => false,
        }
    }

    /// When [`Self::assemble`] is to be called although nothing came.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.input {
            Input::Rtp { assembler, .. } => assembler.due(),
            Input::Originals { .. } => None,
        }
    }

    /// The usual distance between pictures: the mean of those that are near the median; 33 ms while that is not known.
    pub(super) fn interval_ticks(&self) -> i64 {
        let sorted = self.sorted();
        let Some(median) = sorted.get(sorted.len() / 2) else { return i64::from(PICTURE_CLOCK_HZ) / 30 };
        let usual = sorted.iter().filter(|interval| (median / 2..=median * 3 / 2).contains(*interval));
        let (sum, count) = usual.fold((0, 0), |(sum, count), interval| (sum + interval, count + 1));
        (sum + count / 2) / count.max(1)
    }

    /// Pictures per second, where they come regularly.
    pub(super) fn frame_rate(&self) -> Option<f64> {
        let sorted = self.sorted();
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let regular = sorted.len() >= RATE_INTERVALS && most <= 2 * least;
        let measured = f64::from(PICTURE_CLOCK_HZ) * sorted.len() as f64 / sorted.iter().sum::<i64>() as f64;
        // Times rounded to milliseconds (RTMP) are 0.2 % off over so few pictures: what the encoder says, or else a whole rate, is believed
        // where it is as near as that.
        let is_near = |rate: &f64| (measured - rate).abs() < rate * 0.003;
        let said = self.setup.as_ref().and_then(|setup| setup.frame_rate);
        let said = said.map(|(pictures, seconds)| f64::from(pictures) / f64::from(seconds));
        let rate = [said, Some(measured.round())].into_iter().flatten().find(is_near).unwrap_or(measured);
        // As playlists write it.
        regular.then(|| (rate * 1_000.0).round() / 1_000.0)
    }

    /// How long parts of these pictures are to be, at the most: as many whole pictures as come nearest to what is wanted, and what their
    /// times vary by. Where pictures are sparser than that, as long as those are apart that come late.
    pub(super) fn part_target(&self, wanted: Duration) -> Duration {
        let interval = self.interval_ticks().max(1);
        let wanted_ticks = wanted.as_millis() as i64 * i64::from(PICTURE_CLOCK_HZ) / 1_000;
        let regular = ((wanted_ticks + interval / 2) / interval).max(1) * interval;
        let sorted = self.sorted();
        let late = sorted.get(sorted.len() * 9 / 10).copied().unwrap_or(interval);
        let varies = late - sorted.first().copied().unwrap_or(interval);
        // Never so much that a regular part is below 85 % of it (RFC 8216bis section 4.4.4.9).
        let least = 2 * TICKS_PER_MS + if self.is_slewed() { regular / 50 } else { 0 };
        let slack = (varies * 3 / 2).clamp(least, (regular * 8 / 100).max(least));
        let sparse = (late + late / 50).min(SPARSE_PART_MAX.as_millis() as i64 * TICKS_PER_MS);
        let target = (regular + slack).max(if late > regular { sparse } else { 0 });
        Duration::from_millis((target / TICKS_PER_MS).unsigned_abs())
    }

    /// Sender reports may move these pictures against the sound, each by a fiftieth of its duration.
    fn is_slewed(&self) -> bool {
        matches!(self.input, Input::Rtp { .. })
    }

    fn sorted(&self) -> Vec<i64> {
        let mut sorted: Vec<_> = self.intervals.iter().copied().collect();
        sorted.sort_unstable();
        sorted
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::PictureSize;

    fn frame_rate(interval_ms: impl Fn(usize) -> i64, said: Option<(u32, u32)>) -> Option<f64> {
        let mut source = PictureSource::of_originals();
        source.intervals = (0..INTERVALS).map(|at| interval_ms(at) * TICKS_PER_MS).collect();
        source.setup = Some(Arc::new(DecoderSetup {
            entry: *b"avc1",
            configuration_box: *b"avcC",
            configuration: Bytes::new(),
            size: PictureSize { width: 320, height: 180 },
            codecs: "avc1.64000b".into(),
            frame_rate: said,
        }));
        source.frame_rate()
    }

    #[test]
    fn the_encoder_is_believed_where_it_is_near_to_what_is_measured() {
        // As RTMP rounds 29.97, 30 and 23.976 pictures per second.
        let rounded =
            |at: usize, every_us: usize| (((at + 1) * every_us + 500) / 1_000 - (at * every_us + 500) / 1_000) as i64;
        for (every_us, said, rate) in [
            (33_367, Some((30_000, 1_001)), 29.97),
            (33_367, None, 30.0),
            (33_333, Some((60, 2)), 30.0),
            (41_708, Some((48_000, 2_002)), 23.976),
            (20_000, Some((50, 2)), 50.0),
            (20_000, Some((0, 2)), 50.0),
            (66_667, Some((30, 1)), 15.0),
        ] {
            assert_eq!(frame_rate(|at| rounded(at, every_us), said), Some(rate), "{every_us} {said:?}");
        }
        assert_eq!(frame_rate(|at| if at % 2 == 0 { 20 } else { 90 }, Some((30, 1))), None, "no rate at all");
    }
}
