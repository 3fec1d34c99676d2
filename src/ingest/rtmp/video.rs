//! A publisher's picture: AVC access units become RTP payloads, in the order in which they are shown.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    codec::h264::{DisplayOrder, Verdict},
    media::{CaptureTime, ExtendedSeq, TrackFormat},
    track::{AvcPackets, BadAvc, TrackPacket},
};

/// Composition offsets beyond this are nonsense, 10 s.
const COMPOSITION_MAX_MS: i32 = 10_000;
/// One cycle up, as the widened numbers of RTP publishers are.
const FIRST_SEQ: ExtendedSeq = ExtendedSeq(1 << 16);

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
    packets: AvcPackets,
    order: DisplayOrder,
    pub dropped: Dropped,
}

impl VideoTrack {
    /// # Errors
    /// When the decoder configuration makes no sense.
    pub fn new(record: &Bytes) -> Result<Self, BadAvc> {
        let packets = AvcPackets::new(record, FIRST_SEQ)?;
        Ok(Self { packets, order: DisplayOrder::default(), dropped: Dropped::default() })
    }

    /// A decoder configuration came, the first or another.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn configure(&mut self, record: &Bytes) -> Result<(), BadAvc> {
        self.packets.configure(record)
    }

    /// The track's format, once the parameter sets are known.
    pub fn format(&self) -> Option<TrackFormat> {
        self.packets.format()
    }

    /// The access unit holds an IDR picture, whatever its message says of it.
    pub fn is_keyframe(&self, data: &Bytes) -> bool {
        self.packets.is_keyframe(data)
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
    ) -> Result<Vec<Arc<TrackPacket>>, BadAvc> {
        let nals = self.packets.split(data)?;
        let composition_ms = composition_ms.clamp(-COMPOSITION_MAX_MS, COMPOSITION_MAX_MS);
        let presentation_ms = decode_ms + i64::from(composition_ms);
        let counter = match self.order.judge(&nals, self.packets.sets(), presentation_ms) {
            Verdict::Send => {
                return Ok(self.packets.packets(now, presentation_ms, nals, || capture(presentation_ms)));
            }
            Verdict::Reordered => &mut self.dropped.reordered,
            Verdict::ReorderedReference => &mut self.dropped.reordered_references,
            Verdict::MissingReference => &mut self.dropped.missing_references,
            Verdict::Undecodable => &mut self.dropped.undecodable,
        };
        *counter += 1;
        Ok(Vec::new())
    }
}
