//! A stream's frames become the messages that an RTMP server takes: H.264 and AAC, with times that begin at 0 and go on over a change of
//! publisher. Of an RTMP publisher they are what it sent, B-frames too; of a WebRTC publisher, its packets put together ([`super::packets`]).

use std::{collections::VecDeque, sync::Arc, time::Instant};

use bytes::{BufMut, Bytes, BytesMut};

use super::packets::Packets;
use crate::{
    codec::opus::{self, PacketTimes},
    media::MediaKind,
    rtmp::kind,
    track::{FrameDelivery, Original, OriginalFormat, Originals, OriginalsSnapshot},
    transcode::OpusToAac,
};

/// Between the last message of one publisher and the first of the next.
const NEXT_PUBLISHER_MS: i64 = 40;
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
    last_ms: i64,
    lane: Lane,
    sent_formats: [Option<Bytes>; 2],
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
            FrameDelivery::Originals(Originals::Rungs(_) | Originals::RungsStopped(_)) => {}
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
        self.begin_ms = if first { 0 } else { self.last_ms + NEXT_PUBLISHER_MS };
        self.refusals = Default::default();
        self.waits = true;
        true
    }

    fn assemble(&mut self, now: Instant) {
        let mut frames = Vec::new();
        if let Lane::Packets(packets) = &mut self.lane {
            packets.assemble(now, |time_ms, frame| frames.push((time_ms, frame)));
        }
        for (time_ms, frame) in frames {
            self.place(time_ms, &frame);
        }
    }

    fn take_snapshot(&mut self, snapshot: &OriginalsSnapshot) {
        if self.begin(snapshot.publication, !snapshot.formats.is_empty()) {
            self.lane = Lane::Originals { last_number: 0, formats: Default::default(), opus: None };
        }
        // What is live begins with the last keyframe.
        let pictures = |unit: &&Original| unit.format.kind() == MediaKind::Video;
        let from = snapshot.units.iter().rposition(|unit| pictures(&unit) && unit.unit.keyframe).unwrap_or(0);
        snapshot.units.iter().skip(from).for_each(|unit| self.take_original(unit));
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
                if is_new {
                    frames.push((time_ms, Frame::PictureFormat(record.clone())));
                }
                let composition_ms = original.unit.composition_offset_ticks;
                frames.push((time_ms, Frame::Picture { composition_ms, keyframe: original.unit.keyframe, data }));
            }
            OriginalFormat::Aac(config) => {
                if is_new {
                    frames.push((time_ms, Frame::SoundFormat(config.clone())));
                }
                frames.push((time_ms, Frame::Sound(data)));
            }
            OriginalFormat::Opus { .. } => {
                if is_new {
                    *opus = OpusToAac::new().ok().map(|to_aac| Box::new((PacketTimes::default(), to_aac)));
                    frames
                        .extend(opus.iter().map(|opus| (time_ms, Frame::SoundFormat(opus.1.configuration().clone()))));
                }
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
        let base_ms = *self.base_ms.get_or_insert(time_ms);
        let at_ms = (self.begin_ms + time_ms - base_ms).max(self.begin_ms);
        self.last_ms = self.last_ms.max(at_ms);
        let (kind, kept, body) = match frame {
            Frame::PictureFormat(record) => (kind::VIDEO, Some((MediaKind::Video, record)), video(true, 0, 0, record)),
            Frame::Picture { composition_ms, keyframe, data } => {
                (kind::VIDEO, None, video(*keyframe, 1, *composition_ms, data))
            }
            Frame::SoundFormat(config) => (kind::AUDIO, Some((MediaKind::Audio, config)), sound(0, config)),
            Frame::Sound(data) => (kind::AUDIO, None, sound(1, data)),
        };
        if let Some((of, format)) = kept {
            let sent = &mut self.sent_formats[of as usize];
            if sent.as_ref() == Some(format) {
                return;
            }
            *sent = Some(format.clone());
        }
        if self.outgoing.len() == OUTGOING_MAX {
            // Nobody takes them: what is left makes no sense without what goes.
            self.outgoing.clear();
            self.sent_formats = Default::default();
            self.waits = true;
            return;
        }
        self.outgoing.push_back(Outgoing { kind, time_ms: at_ms as u32, body });
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
