//! Payloads of pictures become the packets of a layer: numbers, times that grow, markers.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::TrackPacket;
use crate::media::{CaptureStamps, CaptureTime, ExtendedSeq, Growing};

/// See the module.
#[derive(Debug)]
pub struct PicturePackets {
    ticks: Growing,
    next_seq: ExtendedSeq,
    stamps: CaptureStamps,
}

impl PicturePackets {
    /// Ticks of a layer's clock per millisecond.
    pub const TICKS_PER_MS: u64 = 90;

    /// The first packet has this number.
    pub fn new(first_seq: ExtendedSeq) -> Self {
        Self { ticks: Growing::default(), next_seq: first_seq, stamps: CaptureStamps::default() }
    }

    /// The packets of one picture, which is shown at this time, in ticks of 90 kHz. `capture` tells when it was captured.
    pub fn packets(
        &mut self,
        now: Instant,
        shown_ticks: u64,
        keyframe: bool,
        payloads: Vec<Bytes>,
        capture: impl FnOnce() -> Option<CaptureTime>,
    ) -> Vec<Arc<TrackPacket>> {
        if payloads.is_empty() {
            return Vec::new();
        }
        let time_ticks = self.ticks.after(shown_ticks);
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
