//! A publisher's sound as frames that follow each other without a hole, whichever codec comes in and goes out.
//!
//! AAC stays as it is. Its times come rounded to milliseconds (RTMP), so frames are counted. Where the publisher's samples are made by
//! another clock than its times, the count goes on, and how far it has moved is told, for pictures to follow. It is set right by a frame only
//! when it is off by more than half of one on average. Opus becomes AAC, or stays as it is. What is missing becomes silence.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::Bytes;

use super::fmp4::SampleFormat;
use crate::{
    codec::{
        aac::AudioSpecificConfig,
        opus::{self, PacketTimes},
    },
    track::{AssembledFrame, Assembler, ClockReference, ORIGINALS_CLOCK_HZ, Original, OriginalFormat, TrackPacket},
    transcode::{AAC_FRAME_SAMPLES, AacFrame, OpusToAac},
};

/// Frames that wait to be placed: ten seconds of 10 ms.
const READY_FRAMES_MAX: usize = 1_000;
/// Weight of a new difference between counted and given times in their average.
const DRIFT_SHARE: i64 = 16;
/// The count moves against given times by this share of a frame...
const MOVE_SHARE: i64 = 1_000;
/// ...while they are further apart than this on average, 1 ms: beyond what rounding leaves.
const MOVE_FROM_HZ: i64 = 1_000;
/// Silence of Opus: 20 ms of stereo, full band.
const OPUS_SILENCE: &[u8] = &[0xfc, 0xff, 0xfe];
/// Silence of AAC-LC, raw, mono and stereo.
const AAC_SILENCE: [&[u8]; 2] =
    [&[0x00, 0xc8, 0x00, 0x80, 0x23, 0x80], &[0x21, 0x00, 0x49, 0x90, 0x02, 0x19, 0x00, 0x23, 0x80]];

/// A frame on its publisher's clock.
#[derive(Debug, Clone)]
pub(super) struct SoundFrame {
    pub start_ticks: i64,
    pub duration_ticks: i64,
    pub data: Bytes,
    pub arrival: Instant,
    pub format: Arc<SampleFormat>,
    pub rate_hz: u32,
}

#[derive(Debug)]
enum Input {
    Opus { assembler: Assembler, to_aac: Option<Box<OpusToAac>>, times: PacketTimes },
    Aac,
}

/// How frames are counted.
#[derive(Debug)]
struct Count {
    format: Arc<SampleFormat>,
    rate_hz: u32,
    frame_ticks: i64,
    silence: Option<Bytes>,
    /// Where the last frame ends, once there is one.
    end_ticks: Option<i64>,
    drift_ticks: i64,
    /// What is to be taken off given times to have counted ones.
    moved_ticks: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct SoundSource {
    input: Input,
    original: Option<Arc<OriginalFormat>>,
    count: Option<Count>,
    ready: VecDeque<SoundFrame>,
    /// The clock by the publisher's reports, and by the first arrival.
    pub reported: Option<ClockReference>,
    pub arrived: Option<ClockReference>,
    pub last_arrival: Option<Instant>,
}

impl SoundSource {
    /// Opus, to stay so or to become AAC.
    pub(super) fn of_rtp(stays_opus: bool, channels: u8) -> Self {
        let assembler = Assembler::new(crate::media::MediaKind::Audio);
        let to_aac = if stays_opus { None } else { OpusToAac::new().ok().map(Box::new) };
        let channels = channels.clamp(1, 2);
        let (format, frame_ticks, silence) = match &to_aac {
            Some(to_aac) => {
                let configuration = to_aac.configuration().clone();
                let format =
                    SampleFormat::Aac { configuration, sample_rate_hz: opus::CLOCK_HZ, channels: 2, object_type: 2 };
                (format, AAC_FRAME_SAMPLES as i64, None)
            }
            None => {
                let format = SampleFormat::Opus { channels, pre_skip_samples: 0 };
                (format, opus::FRAME_SAMPLES as i64, Some(Bytes::from_static(OPUS_SILENCE)))
            }
        };
        let count = Count {
            format: Arc::new(format),
            rate_hz: opus::CLOCK_HZ,
            frame_ticks,
            silence,
            end_ticks: None,
            drift_ticks: 0,
            moved_ticks: 0,
        };
        Self::new(Input::Opus { assembler, to_aac, times: PacketTimes::default() }, Some(count))
    }

    /// As the publisher handed it over: AAC stays so, Opus as in [`Self::of_rtp`].
    pub(super) fn of_originals(format: &OriginalFormat, stays_opus: bool) -> Self {
        match format {
            OriginalFormat::Opus { channels } => Self::of_rtp(stays_opus, *channels),
            _ => Self::new(Input::Aac, None),
        }
    }

    /// Whether originals of this format are what it was made for.
    pub(super) fn takes(&self, format: &OriginalFormat) -> bool {
        matches!(self.input, Input::Opus { .. }) == matches!(format, OriginalFormat::Opus { .. })
    }

    fn new(input: Input, count: Option<Count>) -> Self {
        Self { input, original: None, count, ready: VecDeque::new(), reported: None, arrived: None, last_arrival: None }
    }

    pub(super) fn push_packet(&mut self, packet: Arc<TrackPacket>) {
        if let Input::Opus { assembler, .. } = &mut self.input {
            assembler.push(packet);
        }
    }

    pub(super) fn push_original(&mut self, original: &Original) {
        if let Input::Opus { times, .. } = &mut self.input {
            let given_ticks = at_rate(original.unit.decode_time_ticks, opus::CLOCK_HZ);
            let packet = &original.unit.data;
            if let Some(placed) = times.place(given_ticks, packet) {
                self.take_opus(packet, placed.time_ticks, original.arrival);
            }
            return;
        }
        if self.original.as_ref().is_none_or(|known| *known != original.format) {
            self.original = Some(original.format.clone());
            self.count = count_of(&original.format);
        }
        let Some(count) = &mut self.count else { return };
        let given_ticks = at_rate(original.unit.decode_time_ticks, count.rate_hz);
        self.last_arrival = Some(original.arrival);
        let Some(end) = count.end_ticks else {
            count.end_ticks = Some(given_ticks);
            self.add(original.unit.data.clone(), original.arrival, 0);
            return;
        };
        let off = given_ticks - count.moved_ticks - end;
        count.drift_ticks += (off - count.drift_ticks) / DRIFT_SHARE;
        let frame_ticks = count.frame_ticks;
        if count.drift_ticks.abs() > i64::from(count.rate_hz) / MOVE_FROM_HZ {
            count.moved_ticks += count.drift_ticks.signum() * (frame_ticks / MOVE_SHARE).max(1);
        }
        // A gap of some frames is one at once; rounding shows on average only.
        let at_once = off.abs() > 4 * frame_ticks;
        if at_once || count.drift_ticks.abs() > frame_ticks / 2 {
            count.drift_ticks = 0;
            if off < -frame_ticks / 2 {
                // For a time that has been filled.
                return;
            }
            let missing = (off + frame_ticks / 2) / frame_ticks;
            self.add_silence(missing, original.arrival);
        }
        self.add(original.unit.data.clone(), original.arrival, 0);
    }

    /// Takes what packets have made whole.
    pub(super) fn assemble(&mut self, now: Instant) {
        while let Input::Opus { assembler, .. } = &mut self.input {
            let Some(frame) = assembler.poll(now) else { return };
            let AssembledFrame { time_ticks, arrival, payloads, .. } = frame;
            self.arrived.get_or_insert(ClockReference { at: arrival, time_ticks, by_report: false });
            if let Some(packet) = payloads.first() {
                self.take_opus(packet, time_ticks as i64, arrival);
            }
        }
    }

    fn take_opus(&mut self, packet: &Bytes, time_ticks: i64, arrival: Instant) {
        self.last_arrival = Some(arrival);
        let Input::Opus { to_aac, .. } = &mut self.input else { return };
        match to_aac {
            Some(to_aac) => {
                let mut made = Vec::new();
                if to_aac.push(packet, time_ticks, |frame| made.push(frame)).is_err() {
                    *to_aac = match OpusToAac::new() {
                        Ok(new) => Box::new(new),
                        Err(_) => return,
                    };
                }
                self.add_aac(made, arrival);
            }
            None => self.push_opus(packet, time_ticks, arrival),
        }
    }

    fn push_opus(&mut self, packet: &Bytes, time_ticks: i64, arrival: Instant) {
        let Some(duration) = opus::duration_samples(packet).map(i64::from) else { return };
        let Some(count) = &mut self.count else { return };
        let end = *count.end_ticks.get_or_insert(time_ticks);
        let off = time_ticks - end;
        if off < 0 && off > -10 * i64::from(opus::CLOCK_HZ) {
            // For a time that has been filled.
            return;
        }
        if off < 0 || off > 10 * i64::from(opus::CLOCK_HZ) {
            count.end_ticks = Some(time_ticks);
        } else if off > 0 {
            // What no whole frame of silence fits into, the last one lasts longer.
            let frames = off / count.frame_ticks;
            let rest = off % count.frame_ticks;
            self.add_silence(frames, arrival);
            match self.ready.back_mut() {
                Some(last) => last.duration_ticks += rest,
                None => self.add(Bytes::from_static(OPUS_SILENCE), arrival, rest),
            }
            if let Some(count) = &mut self.count {
                count.end_ticks = Some(time_ticks);
            }
        }
        self.add(packet.clone(), arrival, duration);
    }

    fn add_aac(&mut self, made: Vec<AacFrame>, arrival: Instant) {
        for AacFrame { time_ticks, data } in made {
            if let Some(count) = &mut self.count {
                count.end_ticks = Some(time_ticks);
            }
            self.add(data, arrival, 0);
        }
    }

    /// A frame where the last one ended; of the usual duration if none is given.
    fn add(&mut self, data: Bytes, arrival: Instant, duration_ticks: i64) {
        let Some(count) = &mut self.count else { return };
        let Some(start_ticks) = count.end_ticks else { return };
        let duration_ticks = if duration_ticks > 0 { duration_ticks } else { count.frame_ticks };
        count.end_ticks = Some(start_ticks + duration_ticks);
        if self.ready.len() == READY_FRAMES_MAX {
            self.ready.pop_front();
        }
        let (format, rate_hz) = (count.format.clone(), count.rate_hz);
        self.ready.push_back(SoundFrame { start_ticks, duration_ticks, data, arrival, format, rate_hz });
    }

    fn add_silence(&mut self, frames: i64, arrival: Instant) {
        let Some(count) = &mut self.count else { return };
        let frames = frames.clamp(0, READY_FRAMES_MAX as i64);
        match count.silence.clone() {
            Some(silence) => (0..frames).for_each(|_| self.add(silence.clone(), arrival, 0)),
            // What cannot be silenced is a hole.
            None => count.end_ticks = count.end_ticks.map(|end| end + frames * count.frame_ticks),
        }
    }

    /// Nothing came although it should have: silence up to a time on the publisher's clock.
    pub(super) fn silence_until(&mut self, ticks: i64, now: Instant) {
        if let Input::Opus { to_aac: Some(to_aac), .. } = &mut self.input {
            let mut made = Vec::new();
            let _ = to_aac.silence_until(ticks, |frame| made.push(frame));
            return self.add_aac(made, now);
        }
        let Some((end, frame)) = self.count.as_ref().and_then(|count| Some((count.end_ticks?, count.frame_ticks)))
        else {
            return;
        };
        self.add_silence((ticks - end) / frame, now);
    }

    pub(super) fn pop(&mut self) -> Option<SoundFrame> {
        self.ready.pop_front()
    }

    pub(super) fn first(&self) -> Option<&SoundFrame> {
        self.ready.front()
    }

    /// What is to be taken off the publisher's times to have those of frames.
    pub(super) fn moved_ticks(&self) -> i64 {
        self.count.as_ref().map_or(0, |count| count.moved_ticks)
    }

    /// Where the frames that were made end.
    pub(super) fn end_ticks(&self) -> Option<i64> {
        self.count.as_ref()?.end_ticks
    }

    pub(super) fn rate_hz(&self) -> Option<u32> {
        Some(self.count.as_ref()?.rate_hz)
    }

    /// When [`Self::assemble`] is to be called although nothing came.
    pub(super) fn due(&self) -> Option<Instant> {
        match &self.input {
            Input::Opus { assembler, .. } => assembler.due(),
            Input::Aac => None,
        }
    }
}

/// Milliseconds at a rate.
pub(super) fn at_rate(ms: u64, rate_hz: u32) -> i64 {
    (i128::from(ms) * i128::from(rate_hz) / i128::from(ORIGINALS_CLOCK_HZ)) as i64
}

fn count_of(format: &OriginalFormat) -> Option<Count> {
    let OriginalFormat::Aac(configuration) = format else { return None };
    let parsed = AudioSpecificConfig::parse(configuration).ok()?;
    let channels = parsed.channels();
    const LOW_COMPLEXITY: u8 = 2;
    let silence = AAC_SILENCE.get(usize::from(channels).wrapping_sub(1)).copied();
    Some(Count {
        format: Arc::new(SampleFormat::Aac {
            configuration: configuration.clone(),
            sample_rate_hz: parsed.output_rate_hz,
            channels,
            object_type: parsed.object_type,
        }),
        rate_hz: parsed.output_rate_hz,
        frame_ticks: i64::from(parsed.frame_samples),
        silence: silence.filter(|_| parsed.object_type == LOW_COMPLEXITY).map(Bytes::from_static),
        end_ticks: None,
        drift_ticks: 0,
        moved_ticks: 0,
    })
}
