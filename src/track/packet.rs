//! A packet of a layer, kept once however many watch it.

use std::time::Instant;

use bytes::Bytes;

use crate::media::{CaptureTime, ExtendedSeq};

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
    /// When it was captured, where it is to say so: about once a second.
    pub capture: Option<CaptureTime>,
    /// The codec's RTP payload, without padding; at most [`PAYLOAD_BYTES_MAX`].
    pub payload: Bytes,
}

/// A point where a layer's clock and ours meet; what sender reports are made of. All tracks of a publisher use one
/// sender clock, so two of these say how sound and picture belong together, and how the layers of a picture do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReference {
    pub at: Instant,
    pub time_ticks: u64,
    /// By the publisher's word; else by the arrival of the first packet, which the way and the encoder have delayed.
    pub by_report: bool,
}

impl ClockReference {
    /// The clock's ticks at another instant.
    pub fn ticks_at(&self, instant: Instant, rate_hz: u32) -> u64 {
        advance(self.time_ticks, self.at, instant, rate_hz)
    }
}

/// A clock's ticks at an instant, given its ticks at another.
pub(super) fn advance(ticks: u64, at: Instant, instant: Instant, rate_hz: u32) -> u64 {
    let since = |later: Instant, earlier: Instant| {
        (later.saturating_duration_since(earlier).as_nanos() * u128::from(rate_hz) / 1_000_000_000) as u64
    };
    if instant >= at { ticks.wrapping_add(since(instant, at)) } else { ticks.wrapping_sub(since(at, instant)) }
}
