//! A stream's frames become the messages that an RTMP server takes: H.264 and AAC, with times that begin at 0 and go on over a change of
//! publisher. Of an RTMP publisher they are what it sent, B-frames too; of a WebRTC publisher, its packets put together ([`super::packets`]).

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::{metadata::on_meta_data, packets::Packets};
use crate::{
    codec::opus::{self, PacketTimes},
    media::{AccessUnit, MediaKind},
    rtmp::kind,
    track::{FrameDelivery, Original, OriginalFormat, Originals, OriginalsSnapshot},
    transcode::OpusToAac,
};

/// Between the last message of one publisher and the first of the next.
const NEXT_PUBLISHER_MS: i64 = 40;
/// Times may go back by so much, as clocks are measured better: what comes goes on a millisecond after what was sent until time has caught up.
/// Further back is a clock that was set anew: pictures and sound both go on from where they are.
const STEP_BACK_MAX_MS: i64 = 1_000;
/// Sound that comes with the first picture may belong so long before it.
const BEFORE_MAX_MS: i64 = 10_000;
/// Messages that wait to be sent: a group of pictures, and its sound.
const OUTGOING_MAX: usize = 2_048;

/// A message of pictures or sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outgoing {
    /// As [`crate::rtmp::kind`] has it.
    pub kind: u8,
    /// Milliseconds, wrapping.
    pub time_ms: u32,
    pub body: Bytes,
}

/// What is sent, before it has its place on the target's clock.
#[derive(Debug, Clone)]
pub(super) enum Frame {
    /// An `AVCDecoderConfigurationRecord`.
    PictureFormat(Bytes),
    Picture {
        composition_ms: i32,
        keyframe: bool,
        data: Bytes,
    },
    /// An `AudioSpecificConfig`.
    SoundFormat(Bytes),
    Sound(Bytes),
}

/// See the module.
#[derive(Default)]
pub struct Feed {
    publication: Option<u64>,
    /// The publication's time that is the target's [`Self::begin_ms`].
    base_ms: Option<i64>,
    begin_ms: i64,
    /// Of pictures and of sound, on the target's clock; below [`Self::begin_ms`] before the publication's first.
    last_ms: [i64; 2],
    lane: Lane,
    sent_formats: [Option<Bytes>; 2],
    /// As far as known, which may be before it is sent; and as the metadata told last have it.
    known_formats: [Option<Bytes>; 2],
    told_formats: [Option<Bytes>; 2],
    refusals: [Option<String>; 2],
    outgoing: VecDeque<Outgoing>,
    /// Pictures wait for their next keyframe.
    waits: bool,
}

#[derive(Default)]
enum Lane {
    #[default]
    Nobody,
    Originals {
        last_number: u64,
        formats: [Option<Arc<OriginalFormat>>; 2],
        opus: Option<Box<(PacketTimes, OpusToAac)>>,
    },
    Packets(Box<Packets>),
}

impl Feed {
    /// Why pictures or sound are not sent, in words.
    pub fn refusal(&self) -> Option<&str> {
        self.refusals.iter().flatten().next().map(String::as_str)
    }

    /// The next message.
    pub fn poll(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.lane {
            Lane::Packets(packets) => packets.due(),
            _ => None,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.assemble(now);
    }

    /// A layer of which keyframes are wanted, since WebRTC publishers send them when asked only.
    pub fn wants_keyframes_of(&self) -> Option<(crate::track::TrackIndex, crate::track::LayerIndex)> {
        match &self.lane {
            Lane::Packets(packets) => packets.pictures(),
            _ => None,
        }
    }

    /// A frame reader's delivery.
    pub fn take(&mut self, now: Instant, delivery: FrameDelivery) {
        match delivery {
            // For readers of those only.
            FrameDelivery::Originals(Originals::Layers(_) | Originals::LayersStopped(_)) => {}
            FrameDelivery::Originals(Originals::Snapshot(snapshot)) => self.take_snapshot(&snapshot),
            FrameDelivery::Originals(Originals::Units(units)) => {
                units.iter().for_each(|unit| self.take_original(unit));
            }
            FrameDelivery::Rtp(delivery) => {
                if let crate::track::Delivery::Snapshot(snapshot) = &delivery
                    && self.begin(snapshot.publication, !snapshot.tracks.is_empty())
                {
                    self.lane = if snapshot.tracks.is_empty() { Lane::Nobody } else { Lane::Packets(Box::default()) };
                }
                if let Lane::Packets(packets) = &mut self.lane {
                    packets.take(&delivery);
                    self.refusals = packets.refusals();
                }
                self.assemble(now);
            }
        }
    }

    /// Who publishes now. True when it is another.
    fn begin(&mut self, publication: u64, anybody: bool) -> bool {
        if self.publication == Some(publication) && anybody != matches!(self.lane, Lane::Nobody) {
            return false;
        }
        let first = self.publication.is_none();
        self.publication = Some(publication);
        self.base_ms = None;
        self.begin_ms = if first { 0 } else { self.last_ms[0].max(self.last_ms[1]) + NEXT_PUBLISHER_MS };
        self.last_ms = [self.begin_ms - 1; 2];
        self.refusals = Default::default();
        self.waits = true;
        true
    }

    fn assemble(&mut self, now: Instant) {
        let mut frames = Vec::new();
        if let Lane::Packets(packets) = &mut self.lane {
            packets.assemble(now, |time_ms, frame| frames.push((time_ms, frame)));
        }
        self.begin_with(frames.iter().map(|(time_ms, _)| *time_ms));
        for (time_ms, frame) in frames {
            self.place(time_ms, &frame);
        }
    }

    /// Of what is there to begin with, pictures may be older than the sound that is handed out before them.
    fn begin_with(&mut self, times_ms: impl Iterator<Item = i64>) {
        self.base_ms = self.base_ms.or_else(|| times_ms.min());
    }

    fn take_snapshot(&mut self, snapshot: &OriginalsSnapshot) {
        if self.begin(snapshot.publication, !snapshot.formats.is_empty()) {
            self.lane = Lane::Originals { last_number: 0, formats: Default::default(), opus: None };
            self.known_formats = Default::default();
        }
        for format in &snapshot.formats {
            if let OriginalFormat::Avc(known) | OriginalFormat::Aac(known) = &**format {
                self.known_formats[format.kind() as usize] = Some(known.clone());
            }
        }
        // What is live begins with the last keyframe.
        let pictures = |unit: &&Original| unit.format.kind() == MediaKind::Video;
        let from = snapshot.units.iter().rposition(|unit| pictures(&unit) && unit.unit.keyframe);
        let live = || snapshot.units.iter().skip(from.unwrap_or(0));
        // Sound may come later than the picture that it belongs to; what belongs before it is not sent.
        let first = from.and_then(|from| snapshot.units.get(from));
        match first {
            Some(first) => self.begin_with(std::iter::once(first.unit.decode_time_ticks as i64)),
            None => self.begin_with(live().map(|unit| unit.unit.decode_time_ticks as i64)),
        }
        live().for_each(|unit| self.take_original(unit));
    }

    fn take_original(&mut self, original: &Original) {
        let Lane::Originals { last_number, formats, opus } = &mut self.lane else { return };
        if original.number <= *last_number {
            return;
        }
        if original.number != *last_number + 1 {
            // Something was lost on the way here.
            self.waits = true;
        }
        *last_number = original.number;
        let kind = original.format.kind() as usize;
        let time_ms = original.unit.decode_time_ticks as i64;
        let data = original.unit.data.clone();
        let is_new = formats[kind].as_ref().is_none_or(|known| *known != original.format);
        formats[kind] = Some(original.format.clone());
        let mut frames = Vec::new();
        match &*original.format {
            OriginalFormat::Avc(record) => {
                let AccessUnit { keyframe, composition_offset_ticks: composition_ms, .. } = original.unit;
                if is_new || keyframe {
                    frames.push((time_ms, Frame::PictureFormat(record.clone())));
                }
                frames.push((time_ms, Frame::Picture { composition_ms, keyframe, data }));
            }
            OriginalFormat::Aac(config) => {
                frames.push((time_ms, Frame::SoundFormat(config.clone())));
                frames.push((time_ms, Frame::Sound(data)));
            }
            OriginalFormat::Opus { .. } => {
                if is_new {
                    *opus = OpusToAac::new().ok().map(|to_aac| Box::new((PacketTimes::default(), to_aac)));
                }
                frames.extend(opus.iter().map(|opus| (time_ms, Frame::SoundFormat(opus.1.configuration().clone()))));
                if let Some((times, to_aac)) = opus.as_deref_mut()
                    && let Some(placed) = times.place(time_ms * TICKS_PER_MS, &data)
                {
                    let made = |frame: crate::transcode::AacFrame| {
                        frames.push((frame.time_ticks / TICKS_PER_MS, Frame::Sound(frame.data)));
                    };
                    if to_aac.push(&data, placed.time_ticks, made).is_err() {
                        *opus = None;
                    }
                }
            }
            OriginalFormat::Hevc(_) | OriginalFormat::Av1(_) | OriginalFormat::Vp8 | OriginalFormat::Vp9 => {
                self.refusals[kind] = Some(refusal(format_name(&original.format)));
            }
        }
        for (time_ms, frame) in frames {
            self.place(time_ms, &frame);
        }
    }

    /// Puts a frame on the target's clock.
    fn place(&mut self, time_ms: i64, frame: &Frame) {
        if let Frame::Picture { keyframe, .. } = frame {
            self.waits &= !keyframe;
            if self.waits {
                return;
            }
        }
        let Some(at_ms) = self.at_ms(time_ms, frame) else { return };
        let (kind, kept, body) = match frame {
            Frame::PictureFormat(record) => (kind::VIDEO, Some(record), video(true, 0, 0, record)),
            Frame::Picture { composition_ms, keyframe, data } => {
                (kind::VIDEO, None, video(*keyframe, 1, *composition_ms, data))
            }
            Frame::SoundFormat(config) => (kind::AUDIO, Some(config), sound(0, config)),
            Frame::Sound(data) => (kind::AUDIO, None, sound(1, data)),
        };
        let mut metadata = None;
        if let Some(format) = kept {
            let sent = &mut self.sent_formats[frame.of() as usize];
            if sent.as_ref() == Some(format) {
                return;
            }
            *sent = Some(format.clone());
            self.known_formats[frame.of() as usize] = Some(format.clone());
            metadata = self.metadata();
        }
        if self.outgoing.len() + 2 > OUTGOING_MAX {
            // Nobody takes them: what is left makes no sense without what goes.
            self.outgoing.clear();
            (self.sent_formats, self.told_formats) = Default::default();
            self.waits = true;
            return;
        }
        let messages = metadata.map(|body| (kind::DATA_AMF0, body)).into_iter().chain([(kind, body)]);
        self.outgoing.extend(messages.map(|(kind, body)| Outgoing { kind, time_ms: at_ms as u32, body }));
    }

    /// Says what is sent, if that is something else than was told last.
    fn metadata(&mut self) -> Option<Bytes> {
        if self.told_formats == self.known_formats {
            return None;
        }
        self.told_formats = self.known_formats.clone();
        let [sound, pictures] = [MediaKind::Audio, MediaKind::Video].map(|of| self.known_formats[of as usize].as_ref());
        Some(on_meta_data(pictures, sound))
    }

    /// When a frame is on the target's clock, which never goes back; none: before the target's beginning.
    fn at_ms(&mut self, time_ms: i64, frame: &Frame) -> Option<i64> {
        let last_ms = self.last_ms[frame.of() as usize];
        let begins = last_ms < self.begin_ms;
        let base_ms = *self.base_ms.get_or_insert(time_ms);
        if begins && frame.of() == MediaKind::Audio && (base_ms - BEFORE_MAX_MS..base_ms).contains(&time_ms) {
            return None;
        }
        let mut at_ms = self.begin_ms + time_ms - base_ms;
        if at_ms < last_ms - STEP_BACK_MAX_MS {
            self.base_ms = Some(base_ms + at_ms - (last_ms + 1));
            at_ms = last_ms + 1;
        }
        Some(match frame {
            Frame::PictureFormat(_) | Frame::SoundFormat(_) => at_ms.max(last_ms).max(self.begin_ms),
            Frame::Picture { .. } | Frame::Sound(_) => {
                let at_ms = at_ms.max(last_ms + 1);
                self.last_ms[frame.of() as usize] = at_ms;
                at_ms
            }
        })
    }
}

impl Frame {
    fn of(&self) -> MediaKind {
        match self {
            Self::PictureFormat(_) | Self::Picture { .. } => MediaKind::Video,
            Self::SoundFormat(_) | Self::Sound(_) => MediaKind::Audio,
        }
    }
}

/// Of sound, at 48 kHz.
const TICKS_PER_MS: i64 = opus::CLOCK_HZ as i64 / 1_000;

pub(super) fn refusal(codec: &str) -> String {
    format!("pictures are {codec}, and RTMP targets are sent H.264: only the sound is sent")
}

fn format_name(format: &OriginalFormat) -> &'static str {
    match format {
        OriginalFormat::Hevc(_) => "H.265",
        OriginalFormat::Av1(_) => "AV1",
        OriginalFormat::Vp8 => "VP8",
        _ => "VP9",
    }
}

/// FLV 10.1 annex E.4.3.
fn video(keyframe: bool, packet: u8, composition_ms: i32, data: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(5 + data.len());
    body.put_u8(if keyframe { 0x17 } else { 0x27 });
    body.put_u8(packet);
    body.put_int(composition_ms.into(), 3);
    body.put_slice(data);
    body.freeze()
}

/// FLV 10.1 annex E.4.2: AAC, said to be of 44 kHz, 16 bits and stereo, whatever it is.
fn sound(packet: u8, data: &[u8]) -> Bytes {
    let mut body = BytesMut::with_capacity(2 + data.len());
    body.put_slice(&[0xaf, packet]);
    body.put_slice(data);
    body.freeze()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed() -> Feed {
        let mut feed = Feed::default();
        feed.begin(1, true);
        feed
    }

    fn picture(keyframe: bool) -> Frame {
        Frame::Picture { composition_ms: 0, keyframe, data: Bytes::new() }
    }

    /// Kinds and times of what comes out.
    fn sent(feed: &mut Feed) -> Vec<(u8, u32)> {
        std::iter::from_fn(|| feed.poll()).map(|message| (message.kind, message.time_ms)).collect()
    }

    #[test]
    fn times_of_a_lane_go_on_where_its_clock_goes_back() {
        let mut feed = feed();
        for ms in [500, 540, 520, 530, 580] {
            feed.place(ms, &picture(ms == 500));
        }
        let times = |ms: [u32; 5]| ms.map(|ms| (kind::VIDEO, ms)).to_vec();
        assert_eq!(sent(&mut feed), times([0, 40, 41, 42, 80]));
        // Set back by an hour, both lanes: neither stands still, and they are as far apart as before.
        feed.place(600, &Frame::Sound(Bytes::new()));
        for ms in [620, 660] {
            feed.place(ms - 3_600_000, &picture(false));
            feed.place(ms - 3_600_000, &Frame::Sound(Bytes::new()));
        }
        let (picture, sound) = (kind::VIDEO, kind::AUDIO);
        assert_eq!(sent(&mut feed), [(sound, 100), (picture, 81), (sound, 101), (picture, 121), (sound, 121)]);
    }

    #[test]
    fn the_oldest_of_what_is_there_is_the_beginning_and_sound_from_before_it_is_left_out() {
        let mut feed = feed();
        feed.begin_with([900, 100, 140].into_iter());
        feed.place(900, &Frame::Sound(Bytes::new()));
        feed.place(100, &picture(true));
        feed.place(140, &picture(false));
        assert_eq!(sent(&mut feed), [(kind::AUDIO, 800), (kind::VIDEO, 0), (kind::VIDEO, 40)]);
        assert!(feed.begin(2, true));
        feed.begin_with(std::iter::once(7_000));
        for ms in [6_950, 7_010] {
            feed.place(ms, &Frame::Sound(Bytes::new()));
        }
        assert_eq!(sent(&mut feed), [(kind::AUDIO, 850)], "after the 800 ms of before, and 40 between");
    }

    #[test]
    fn what_is_known_of_both_lanes_is_told_once() {
        let format = |bytes| Bytes::from_static(bytes);
        let formats = vec![OriginalFormat::Avc(format(&[1])), OriginalFormat::Aac(format(&[0x11, 0x90]))];
        let formats = formats.into_iter().map(Arc::new).collect();
        let mut feed = Feed::default();
        feed.take_snapshot(&OriginalsSnapshot {
            publication: 1,
            formats,
            units: Vec::new(),
            ..OriginalsSnapshot::default()
        });
        feed.place(0, &Frame::PictureFormat(format(&[1])));
        feed.place(0, &Frame::SoundFormat(format(&[0x11, 0x90])));
        let kinds = |feed: &mut Feed| sent(feed).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        assert_eq!(kinds(&mut feed), [kind::DATA_AMF0, kind::VIDEO, kind::AUDIO]);
        feed.place(0, &Frame::PictureFormat(format(&[2])));
        assert_eq!(kinds(&mut feed), [kind::DATA_AMF0, kind::VIDEO]);
    }

    #[test]
    fn formats_are_told_with_metadata_and_again_after_messages_were_lost() {
        let mut feed = feed();
        let original = |number, keyframe| Original {
            number,
            format: Arc::new(OriginalFormat::Avc(Bytes::from_static(&[1]))),
            arrival: crate::media::testing::epoch(),
            unit: AccessUnit {
                decode_time_ticks: number * 40,
                composition_offset_ticks: 0,
                keyframe,
                data: Bytes::new(),
            },
        };
        feed.lane = Lane::Originals { last_number: 0, formats: Default::default(), opus: None };
        let kinds = |feed: &mut Feed| sent(feed).into_iter().map(|(kind, _)| kind).collect::<Vec<_>>();
        (1..=3).for_each(|number| feed.take_original(&original(number, number == 1)));
        let first = [kind::DATA_AMF0, kind::VIDEO, kind::VIDEO, kind::VIDEO, kind::VIDEO];
        assert_eq!(kinds(&mut feed), first);
        (4..=4 + OUTGOING_MAX as u64).for_each(|number| feed.take_original(&original(number, false)));
        assert!(feed.waits && feed.outgoing.len() <= OUTGOING_MAX);
        feed.outgoing.clear();
        feed.take_original(&original(5 + OUTGOING_MAX as u64, true));
        assert_eq!(kinds(&mut feed), [kind::DATA_AMF0, kind::VIDEO, kind::VIDEO]);
    }
}
