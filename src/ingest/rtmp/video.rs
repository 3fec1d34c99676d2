//! A publisher's pictures: access units become RTP payloads, in the order in which they are shown.

mod avc;
mod frames;
mod hevc;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use self::{avc::AvcTrack, frames::FramesTrack, hevc::HevcTrack};
use super::flv::PictureTag;
use crate::{
    codec::{h264::X264Settings, hevc::BadHevcConfiguration, packetize::BadTemporalUnit},
    media::{CaptureTime, Codec, ExtendedSeq, TrackFormat},
    track::{BadAvc, OriginalFormat, TrackPacket},
};

/// Composition offsets beyond this are nonsense, 10 s.
const COMPOSITION_MAX_MS: i32 = 10_000;
/// One cycle up, as the widened numbers of RTP publishers are.
const FIRST_SEQ: ExtendedSeq = ExtendedSeq(1 << 16);

/// A decoder configuration: 16 parameter sets of 4 KiB, and what is around them. Frame readers' caches keep it beside what they count.
const RECORD_MAX_BYTES: usize = 17 * 4096;

/// Pictures that were not sent, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub reordered: u64,
    pub reordered_references: u64,
    pub missing_references: u64,
    pub undecodable: u64,
}

/// Why pictures cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadPictures {
    #[error("a decoder configuration of {0} bytes; at most {RECORD_MAX_BYTES} are taken")]
    RecordTooLong(usize),
    #[error(transparent)]
    Avc(#[from] BadAvc),
    #[error(transparent)]
    HevcConfiguration(#[from] BadHevcConfiguration),
    #[error("a picture of H.265: {0}")]
    HevcPicture(crate::codec::h264::nal::BadLengths),
    #[error(transparent)]
    Av1(#[from] BadTemporalUnit),
}

/// When a picture is decoded and shown, on the media clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Times {
    decode_ms: i64,
    shown_ms: i64,
    /// In ticks of 90 kHz, with what the publisher says below a millisecond.
    shown_ticks: u64,
}

impl Times {
    fn of(decode_ms: i64, tag: &PictureTag) -> Self {
        const TICKS_PER_MS: u64 = crate::track::PicturePackets::TICKS_PER_MS;
        let composition_ms = tag.composition_ms.clamp(-COMPOSITION_MAX_MS, COMPOSITION_MAX_MS);
        let shown_ms = decode_ms + i64::from(composition_ms);
        let below_ms = u64::from(tag.offset_ns) * TICKS_PER_MS / 1_000_000;
        Self { decode_ms, shown_ms, shown_ticks: shown_ms.max(0) as u64 * TICKS_PER_MS + below_ms }
    }
}

/// One picture, as it goes on.
pub struct Handled {
    /// None when the picture is left out for WebRTC viewers.
    pub packets: Vec<Arc<TrackPacket>>,
    /// A decoder can begin with it, whatever its message says.
    pub keyframe: bool,
}

#[derive(Debug)]
enum Track {
    Avc(AvcTrack),
    Hevc(HevcTrack),
    Frames(FramesTrack),
}

/// See the module.
#[derive(Debug)]
pub struct VideoTrack {
    track: Track,
    codec: Codec,
    pub dropped: Dropped,
}

impl VideoTrack {
    /// With the decoder configuration that came first. VP8 and VP9 need none.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn new(codec: Codec, record: &Bytes) -> Result<Self, BadPictures> {
        check_length(record)?;
        let track = match codec {
            Codec::H264 => Track::Avc(AvcTrack::new(record)?),
            Codec::Hevc => Track::Hevc(HevcTrack::new(record)?),
            _ => Track::Frames(FramesTrack::new(codec, record)?),
        };
        Ok(Self { track, codec, dropped: Dropped::default() })
    }

    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// What the encoder has said of what it holds back, and of how many pictures are a second.
    pub fn held_back(&self) -> Option<(X264Settings, Option<f64>)> {
        if let Track::Avc(track) = &self.track { track.held_back() } else { None }
    }

    /// Another decoder configuration of the same codec.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn configure(&mut self, record: &Bytes) -> Result<(), BadPictures> {
        check_length(record)?;
        match &mut self.track {
            Track::Avc(track) => Ok(track.configure(record)?),
            Track::Hevc(track) => track.configure(record),
            Track::Frames(track) => track.configure(record),
        }
    }

    /// The track's format, once it is known.
    pub fn format(&self) -> Option<TrackFormat> {
        match &self.track {
            Track::Avc(track) => track.format(),
            Track::Hevc(track) => Some(track.format()),
            Track::Frames(track) => track.format(),
        }
    }

    /// How frame readers are told of a configuration that was taken.
    pub fn original(&self, record: &Bytes) -> OriginalFormat {
        // A copy: it stays, and what it came in should not.
        let kept = || Bytes::copy_from_slice(record);
        match self.codec {
            Codec::Hevc => OriginalFormat::Hevc(kept()),
            Codec::Av1 => OriginalFormat::Av1(Bytes::copy_from_slice(frames::av1_obus(record))),
            Codec::Vp8 => OriginalFormat::Vp8,
            Codec::Vp9 => OriginalFormat::Vp9,
            _ => OriginalFormat::Avc(kept()),
        }
    }

    /// One access unit becomes the packets of one picture; none when the picture is left out. `capture` tells when what is shown at a time
    /// of the media clock was captured.
    ///
    /// # Errors
    /// When it cannot be taken apart, or brings parameter sets that make no sense.
    pub fn handle_picture(
        &mut self,
        now: Instant,
        decode_ms: i64,
        tag: &PictureTag,
        capture: impl FnOnce(i64) -> Option<CaptureTime>,
    ) -> Result<Handled, BadPictures> {
        let times = Times::of(decode_ms, tag);
        let capture = || capture(times.shown_ms);
        match &mut self.track {
            Track::Avc(track) => Ok(track.handle_picture(now, times, tag, capture, &mut self.dropped)?),
            Track::Hevc(track) => track.handle_picture(now, times, tag, capture, &mut self.dropped),
            Track::Frames(track) => track.handle_picture(now, times, tag, capture),
        }
    }
}

fn check_length(record: &[u8]) -> Result<(), BadPictures> {
    if record.len() > RECORD_MAX_BYTES { Err(BadPictures::RecordTooLong(record.len())) } else { Ok(()) }
}
