//! A publisher's picture: AVC access units become RTP payloads, in the order in which they are shown.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{clock::Growing, media::MediaError};
use crate::{
    codec::h264::{
        DecoderConfiguration, DisplayOrder, ParameterSets, Verdict,
        nal::{kind, split_lengths, unit_type},
        packetize,
    },
    media::{CaptureStamps, CaptureTime, Codec, ExtendedSeq, TrackFormat},
    track::TrackPacket,
};

/// Parameter sets a stream may have at a time, of both kinds. Encoders use two; a few more for several sizes.
const PARAMETER_SETS_MAX: usize = 16;
/// Composition offsets beyond this are nonsense, 10 s.
const COMPOSITION_MAX_MS: i32 = 10_000;
pub(super) const TICKS_PER_MS: u64 = 90;

/// Pictures that were not sent, by cause.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Dropped {
    pub reordered: u64,
    pub reordered_references: u64,
    pub missing_references: u64,
    pub undecodable: u64,
}

/// See the module.
#[derive(Debug)]
pub struct VideoTrack {
    length_bytes: usize,
    sets: ParameterSets,
    order: DisplayOrder,
    ticks: Growing,
    next_seq: ExtendedSeq,
    stamps: CaptureStamps,
    pub dropped: Dropped,
}

impl VideoTrack {
    /// # Errors
    /// When the decoder configuration makes no sense.
    pub fn new(record: &Bytes) -> Result<Self, MediaError> {
        let mut track = Self {
            length_bytes: 4,
            sets: ParameterSets::default(),
            order: DisplayOrder::default(),
            ticks: Growing::default(),
            // One cycle up, as the widened numbers of RTP publishers are.
            next_seq: ExtendedSeq(1 << 16),
            stamps: CaptureStamps::default(),
            dropped: Dropped::default(),
        };
        track.configure(record)?;
        Ok(track)
    }

    /// A decoder configuration came, the first or another.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn configure(&mut self, record: &Bytes) -> Result<(), MediaError> {
        let configuration = DecoderConfiguration::parse(record)?;
        self.length_bytes = configuration.length_bytes;
        let known = std::mem::take(&mut self.sets);
        for nal in &configuration.parameter_sets {
            self.take_set(nal)?;
        }
        if !self.sets.is_complete() {
            // Parameter sets that come with the pictures only; those known before stay in use.
            self.sets = known;
        }
        Ok(())
    }

    /// The track's format, once the parameter sets are known.
    pub fn format(&self) -> Option<TrackFormat> {
        let sps = self.sets.first_sps()?;
        Some(TrackFormat { codec: Codec::H264, fmtp: sps.fmtp(), channels: 1 })
    }

    fn take_set(&mut self, nal: &Bytes) -> Result<(), MediaError> {
        if matches!(unit_type(nal), kind::SPS | kind::PPS) {
            self.sets.insert(nal)?;
        }
        if self.sets.nals().count() > PARAMETER_SETS_MAX {
            return Err(MediaError::TooManyParameterSets(PARAMETER_SETS_MAX));
        }
        Ok(())
    }

    /// The access unit holds an IDR picture, whatever its message says of it.
    pub fn is_keyframe(&self, data: &Bytes) -> bool {
        let nals = split_lengths(data, self.length_bytes);
        nals.is_ok_and(|nals| nals.iter().any(|nal| unit_type(nal) == kind::IDR_SLICE))
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
        composition_ms: i32,
        data: &Bytes,
        capture: impl FnOnce(i64) -> Option<CaptureTime>,
    ) -> Result<Vec<Arc<TrackPacket>>, MediaError> {
        let nals = split_lengths(data, self.length_bytes)?;
        for nal in &nals {
            self.take_set(nal)?;
        }
        let composition_ms = composition_ms.clamp(-COMPOSITION_MAX_MS, COMPOSITION_MAX_MS);
        let presentation_ms = decode_ms + i64::from(composition_ms);
        let counter = match self.order.judge(&nals, &self.sets, presentation_ms) {
            Verdict::Send => return Ok(self.packets(now, presentation_ms, nals, || capture(presentation_ms))),
            Verdict::Reordered => &mut self.dropped.reordered,
            Verdict::ReorderedReference => &mut self.dropped.reordered_references,
            Verdict::MissingReference => &mut self.dropped.missing_references,
            Verdict::Undecodable => &mut self.dropped.undecodable,
        };
        *counter += 1;
        Ok(Vec::new())
    }

    fn packets(
        &mut self,
        now: Instant,
        presentation_ms: i64,
        nals: Vec<Bytes>,
        capture: impl FnOnce() -> Option<CaptureTime>,
    ) -> Vec<Arc<TrackPacket>> {
        let keyframe = nals.iter().any(|nal| unit_type(nal) == kind::IDR_SLICE);
        // Delimiters and filler say nothing, RTP has the marker. Supplemental information is for buffers that WebRTC
        // does not model, and x264's version string is the longest of it. What stays is slices, and parameter sets:
        // before every keyframe all of them, between keyframes those that the encoder sent.
        let kept = nals.into_iter().filter(|nal| match unit_type(nal) {
            kind::SLICE..=kind::IDR_SLICE => true,
            kind::SPS | kind::PPS => !keyframe,
            _ => false,
        });
        let nals: Vec<_> = if keyframe { self.sets.nals().cloned().chain(kept).collect() } else { kept.collect() };
        let payloads = packetize(&nals);
        if payloads.is_empty() {
            return Vec::new();
        }
        let time_ticks = self.ticks.after(presentation_ms.max(0) as u64 * TICKS_PER_MS);
        let capture = self.stamps.stamp(now, time_ticks, capture);
        let count = payloads.len();
        let mut packets = Vec::with_capacity(count);
        for (at, payload) in payloads.into_iter().enumerate() {
            packets.push(Arc::new(TrackPacket {
                seq: self.next_seq,
                time_ticks,
                arrival: now,
                marker: at + 1 == count,
                keyframe_start: keyframe && at == 0,
                capture: capture.filter(|_| at == 0),
                payload,
            }));
            self.next_seq = self.next_seq.next();
        }
        packets
    }
}
