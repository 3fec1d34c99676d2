//! A packet of a layer, kept once however many watch it.

use std::time::Instant;

use bytes::Bytes;

use crate::media::ExtendedSeq;

/// The longest payload that goes into the tree: a jumbo frame's. A datagram may bring seven times as much, which would not fit
/// into a datagram of ours with its header, extensions and tag.
pub const PAYLOAD_BYTES_MAX: usize = 9_000;

/// One RTP packet of a layer, stripped of everything that is rewritten for each viewer.
#[derive(Debug, Clone)]
pub struct TrackPacket {
    /// The publisher's numbering, widened. A number that is missing was lost (or is still on its way).
    pub seq: ExtendedSeq,
    /// The publisher's RTP timestamp, widened, in ticks of the track's clock.
    pub time_ticks: u64,
    pub arrival: Instant,
    /// RTP marker: the last packet of a picture; for audio, the first after silence.
    pub marker: bool,
    /// The first packet of a picture that a decoder can begin with.
    pub keyframe_start: bool,
    /// The codec's RTP payload, without padding; at most [`PAYLOAD_BYTES_MAX`].
    pub payload: Bytes,
}

/// A point where the track's clock and ours meet; what sender reports are made of. All tracks of a publisher use one
/// sender clock, so two of these say how sound and picture belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReference {
    pub at: Instant,
    pub time_ticks: u64,
}
