//! A layer's packets: the current group of pictures, for instant joins, and some history, for retransmission. Each packet
//! is held once; rings of several workers share it.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use crate::{
    media::{ExtendedSeq, MediaKind},
    track::TrackPacket,
};

/// What a ring may hold.
#[derive(Debug, Clone, Copy)]
pub struct RingLimits {
    /// Packets kept behind the newest for retransmission, whatever the group of pictures.
    pub history_packets: u64,
    /// A group of pictures beyond any of these is no longer kept for joins: catching up with it would take too long.
    pub gop_duration: Duration,
    pub gop_frames: u32,
    pub gop_bytes: usize,
    /// A sequence number this far from the newest is a new beginning, not a gap.
    pub jump_packets: u64,
}

impl RingLimits {
    /// 512 packets are two seconds of 2 Mb/s. 10.5 s hold the ten seconds between keyframes that encoders' defaults go up
    /// to; 10 s at 30 frames/s are 300 frames, doubled for 60; 16 MiB are 10 s at 13 Mb/s.
    pub const VIDEO: Self = Self {
        history_packets: 512,
        gop_duration: Duration::from_millis(10_500),
        gop_frames: 640,
        gop_bytes: 16 << 20,
        jump_packets: 1 << 14,
    };
    /// 128 packets of 20 ms are 2.5 s; sound has no group of pictures.
    pub const AUDIO: Self =
        Self { history_packets: 128, gop_duration: Duration::ZERO, gop_frames: 0, gop_bytes: 0, jump_packets: 1 << 14 };

    /// What a layer of this kind keeps.
    pub fn of(kind: MediaKind) -> Self {
        match kind {
            MediaKind::Video => Self::VIDEO,
            MediaKind::Audio => Self::AUDIO,
        }
    }
}

/// What became of an inserted packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Insertion {
    /// The newest so far.
    Newest,
    /// Filled a gap behind the newest.
    Late,
    /// Already there, or older than what is kept.
    Useless,
    /// Numbering jumped: everything before it was dropped.
    Restarted,
}

/// The group of pictures that is being collected.
#[derive(Debug, Clone, Copy)]
struct Gop {
    start: ExtendedSeq,
    start_ticks: u64,
    frames: u32,
    bytes: usize,
}

/// Packets by sequence number; a missing one leaves a hole.
#[derive(Debug)]
pub struct PacketRing {
    limits: RingLimits,
    /// The number of the first slot.
    base: ExtendedSeq,
    slots: VecDeque<Option<Arc<TrackPacket>>>,
    gop: Option<Gop>,
    clock_rate_hz: u32,
}

impl PacketRing {
    pub fn new(limits: RingLimits) -> Self {
        // Only video has a group of pictures, and all video clocks run at 90 kHz.
        Self { limits, base: ExtendedSeq(0), slots: VecDeque::new(), gop: None, clock_rate_hz: 90_000 }
    }

    /// Keeps a packet, and forgets what the limits no longer cover.
    pub fn insert(&mut self, packet: Arc<TrackPacket>) -> Insertion {
        let seq = packet.seq;
        if self.slots.is_empty() {
            self.base = seq;
            self.append(packet);
            return Insertion::Newest;
        }
        let end = self.end();
        if seq >= end {
            if seq - end > self.limits.jump_packets {
                return self.restart(packet);
            }
            self.slots.extend((0..seq - end).map(|_| None));
            self.append(packet);
            return Insertion::Newest;
        }
        if seq < self.base {
            let back = end - seq;
            return if back > self.limits.jump_packets { self.restart(packet) } else { Insertion::Useless };
        }
        let slot = &mut self.slots[(seq - self.base) as usize];
        if slot.is_some() {
            return Insertion::Useless;
        }
        if let Some(gop) = self.gop.as_mut().filter(|gop| gop.start <= seq) {
            gop.bytes += packet.payload.len();
        }
        if packet.keyframe_start && self.gop.is_none_or(|gop| gop.start < seq) {
            self.gop = Some(self.collect_from(&packet));
        }
        self.slots[(seq - self.base) as usize] = Some(packet);
        Insertion::Late
    }

    pub fn get(&self, seq: ExtendedSeq) -> Option<&Arc<TrackPacket>> {
        let at = seq.0.checked_sub(self.base.0)?;
        self.slots.get(usize::try_from(at).ok()?)?.as_ref()
    }

    /// One past the newest number.
    pub fn end(&self) -> ExtendedSeq {
        self.base + self.slots.len() as u64
    }

    pub fn newest(&self) -> Option<&Arc<TrackPacket>> {
        self.slots.back()?.as_ref()
    }

    pub fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Where a joiner can begin: the last keyframe, if every packet since is here or may still come.
    pub fn join_point(&self) -> Option<ExtendedSeq> {
        Some(self.gop?.start)
    }

    /// Packets missing between the join point and the newest.
    pub fn holes_since_join_point(&self) -> usize {
        let Some(gop) = self.gop else { return 0 };
        let first = (gop.start - self.base) as usize;
        self.slots.range(first..).filter(|slot| slot.is_none()).count()
    }

    /// The kept packets, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<TrackPacket>> {
        self.slots.iter().flatten()
    }

    fn restart(&mut self, packet: Arc<TrackPacket>) -> Insertion {
        self.slots.clear();
        self.gop = None;
        self.base = packet.seq;
        self.append(packet);
        Insertion::Restarted
    }

    fn append(&mut self, packet: Arc<TrackPacket>) {
        if packet.keyframe_start {
            self.gop = Some(Gop { start: packet.seq, start_ticks: packet.time_ticks, frames: 0, bytes: 0 });
        }
        if let Some(gop) = &mut self.gop {
            gop.frames += u32::from(packet.marker);
            gop.bytes += packet.payload.len();
            let ticks = packet.time_ticks.saturating_sub(gop.start_ticks);
            let most_ticks = self.limits.gop_duration.as_millis() as u64 * u64::from(self.clock_rate_hz) / 1_000;
            if gop.frames > self.limits.gop_frames || gop.bytes > self.limits.gop_bytes || ticks > most_ticks {
                self.gop = None;
            }
        }
        self.slots.push_back(Some(packet));
        self.forget_old();
    }

    /// A keyframe's first packet came late: what follows it is counted again.
    fn collect_from(&self, first: &TrackPacket) -> Gop {
        let after = (first.seq - self.base) as usize + 1;
        let later = self.slots.range(after..).flatten();
        let (frames, bytes) = later.fold((u32::from(first.marker), first.payload.len()), |(frames, bytes), packet| {
            (frames + u32::from(packet.marker), bytes + packet.payload.len())
        });
        Gop { start: first.seq, start_ticks: first.time_ticks, frames, bytes }
    }

    fn forget_old(&mut self) {
        let history = ExtendedSeq(self.end().0.saturating_sub(self.limits.history_packets));
        let keep_from = self.gop.map_or(history, |gop| gop.start.min(history));
        while self.base < keep_from && !self.slots.is_empty() {
            self.slots.pop_front();
            self.base = self.base.next();
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::media::testing::epoch;

    fn packet(seq: u64, keyframe_start: bool) -> Arc<TrackPacket> {
        Arc::new(TrackPacket {
            seq: ExtendedSeq(seq),
            time_ticks: seq * 3_000,
            arrival: epoch(),
            marker: true,
            keyframe_start,
            capture: None,
            payload: Bytes::from_static(&[0; 100]),
        })
    }

    fn kept(ring: &PacketRing) -> Vec<u64> {
        ring.iter().map(|packet| packet.seq.0).collect()
    }

    #[test]
    fn the_group_of_pictures_outlives_the_history() {
        let mut ring = PacketRing::new(RingLimits { history_packets: 2, ..RingLimits::VIDEO });
        ring.insert(packet(10, false));
        ring.insert(packet(11, true));
        for seq in 12..20 {
            assert_eq!(ring.insert(packet(seq, false)), Insertion::Newest);
        }
        assert_eq!(kept(&ring), (11..20).collect::<Vec<_>>());
        ring.insert(packet(20, true));
        assert_eq!(kept(&ring), [19, 20], "history reaches behind a new keyframe");
        assert_eq!(ring.join_point(), Some(ExtendedSeq(20)));
    }

    #[test]
    fn gaps_are_filled_late_and_old_or_double_packets_are_useless() {
        let mut ring = PacketRing::new(RingLimits::VIDEO);
        ring.insert(packet(100, true));
        ring.insert(packet(103, false));
        assert_eq!(ring.holes_since_join_point(), 2);
        assert_eq!(ring.insert(packet(101, false)), Insertion::Late);
        assert_eq!(ring.insert(packet(101, false)), Insertion::Useless);
        assert_eq!(ring.insert(packet(99, false)), Insertion::Useless);
        assert_eq!(ring.holes_since_join_point(), 1);
        assert_eq!(ring.get(ExtendedSeq(103)).unwrap().seq.0, 103);
        assert!(ring.get(ExtendedSeq(102)).is_none());
        assert!(ring.get(ExtendedSeq(99)).is_none());
        assert!(ring.get(ExtendedSeq(104)).is_none());
    }

    #[test]
    fn a_keyframe_start_that_comes_late_is_a_join_point() {
        let mut ring = PacketRing::new(RingLimits::VIDEO);
        ring.insert(packet(100, true));
        ring.insert(packet(102, false));
        assert_eq!(ring.insert(packet(101, true)), Insertion::Late);
        assert_eq!(ring.join_point(), Some(ExtendedSeq(101)));
    }

    #[test]
    fn a_group_of_pictures_beyond_the_limits_is_not_kept() {
        for limits in [
            RingLimits { gop_frames: 5, ..RingLimits::VIDEO },
            RingLimits { gop_bytes: 500, ..RingLimits::VIDEO },
            RingLimits { gop_duration: Duration::from_millis(170), ..RingLimits::VIDEO },
        ] {
            let mut ring = PacketRing::new(RingLimits { history_packets: 3, ..limits });
            ring.insert(packet(1, true));
            for seq in 2..6 {
                ring.insert(packet(seq, false));
            }
            assert_eq!(ring.join_point(), Some(ExtendedSeq(1)));
            for seq in 6..8 {
                ring.insert(packet(seq, false));
            }
            assert_eq!(ring.join_point(), None);
            assert_eq!(kept(&ring), [5, 6, 7]);
        }
    }

    #[test]
    fn a_jump_in_numbering_starts_anew_in_both_directions() {
        let mut ring = PacketRing::new(RingLimits::VIDEO);
        ring.insert(packet(100_000, true));
        assert_eq!(ring.insert(packet(200_000, false)), Insertion::Restarted);
        assert_eq!(ring.insert(packet(100_000, false)), Insertion::Restarted);
        assert_eq!(kept(&ring), [100_000]);
        assert_eq!(ring.join_point(), None);
    }
}
