//! One layer's packets become whole frames, in order: for readers of frames only, who can wait where viewers need not. A gap is waited
//! for as long as a repetition takes; then the pictures up to the next keyframe are left out. Sans-I/O.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    media::{ExtendedSeq, MediaKind},
    track::TrackPacket,
};

/// How long a missing packet is waited for: two round trips to the other side of the world, less what viewers notice.
pub const GAP_WAIT: Duration = Duration::from_millis(250);
/// Packets that may wait: 16 MiB of them, the largest group of pictures, in packets of 1,200 bytes, and some.
const WAITING_PACKETS_MAX: usize = 16 << 10;
/// Packets that wait while there is no keyframe to begin with: its first one may come late, by a picture of 600 kB.
const WITHOUT_KEYFRAME_PACKETS_MAX: u64 = 512;
/// A number this far ahead is a new beginning, not a gap; as [`RingLimits`](super::RingLimits) has it.
const JUMP_PACKETS: u64 = 1 << 14;

/// One picture's payloads, or one packet of sound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssembledFrame {
    pub time_ticks: u64,
    /// Of its last packet to come.
    pub arrival: Instant,
    pub payloads: Vec<Bytes>,
    /// Something is missing before it.
    pub after_loss: bool,
}

/// See the module.
#[derive(Debug)]
pub struct Assembler {
    kind: MediaKind,
    /// The number that the next frame begins with; none: wherever decoding can begin.
    next: Option<ExtendedSeq>,
    waiting: BTreeMap<ExtendedSeq, Arc<TrackPacket>>,
    /// Since when a gap is known.
    gap_since: Option<Instant>,
    lost: bool,
}

/// What the waiting packets begin with.
enum Head {
    /// A frame that ends with this number.
    Frame(ExtendedSeq),
    /// More is to come.
    Unfinished,
    /// A number is missing before others that are there.
    Gap,
}

impl Assembler {
    pub fn new(kind: MediaKind) -> Self {
        Self { kind, next: None, waiting: BTreeMap::new(), gap_since: None, lost: false }
    }

    /// True for one that waits for something that decoding can begin with.
    pub fn is_lost(&self) -> bool {
        self.kind == MediaKind::Video && self.next.is_none()
    }

    /// What was handed out last cannot be decoded: begins anew at the next keyframe.
    pub fn restart(&mut self) {
        self.lost = true;
        self.gap_since = None;
        self.next = None;
    }

    /// A packet came, in any order; doubles are of no matter.
    pub fn push(&mut self, packet: Arc<TrackPacket>) {
        if let Some(next) = self.next {
            let jump = packet.seq.0.abs_diff(next.0) > JUMP_PACKETS;
            if !jump && packet.seq < next {
                return;
            }
            if jump || self.waiting.len() >= WAITING_PACKETS_MAX {
                self.waiting.clear();
                self.restart();
            }
        } else if self.waiting.len() >= WAITING_PACKETS_MAX {
            self.waiting.pop_first();
        }
        self.waiting.insert(packet.seq, packet);
    }

    /// When [`Self::poll`] is to be called although nothing came.
    pub fn due(&self) -> Option<Instant> {
        Some(self.gap_since? + GAP_WAIT)
    }

    /// The next frame, if it is whole; to be called until there is none.
    pub fn poll(&mut self, now: Instant) -> Option<AssembledFrame> {
        loop {
            let next = match self.next {
                Some(next) => next,
                None => self.begin()?,
            };
            match self.head(next) {
                Head::Frame(last) => {
                    self.gap_since = None;
                    self.next = Some(last.next());
                    if let Some(frame) = self.take(last) {
                        return Some(frame);
                    }
                }
                Head::Unfinished => {
                    self.gap_since = None;
                    return None;
                }
                Head::Gap => {
                    if now < *self.gap_since.get_or_insert(now) + GAP_WAIT {
                        return None;
                    }
                    self.skip(next);
                }
            }
        }
    }

    /// Finds where to begin: at the last keyframe; sound anywhere.
    fn begin(&mut self) -> Option<ExtendedSeq> {
        let is_start = |packet: &Arc<TrackPacket>| self.kind == MediaKind::Audio || packet.keyframe_start;
        let start = match self.kind {
            MediaKind::Audio => self.waiting.first_key_value().map(|(seq, _)| *seq),
            MediaKind::Video => self.waiting.iter().rev().find(|(_, packet)| is_start(packet)).map(|(seq, _)| *seq),
        };
        match start {
            Some(start) => self.waiting = self.waiting.split_off(&start),
            // What cannot be begun with is not waited with, but for what may still come before it.
            None => {
                let newest = self.waiting.last_key_value().map(|(seq, _)| *seq);
                if let Some(newest) = newest {
                    self.waiting =
                        self.waiting.split_off(&ExtendedSeq(newest.0.saturating_sub(WITHOUT_KEYFRAME_PACKETS_MAX)));
                }
            }
        }
        self.next = start;
        start
    }

    fn head(&self, next: ExtendedSeq) -> Head {
        let mut expected = next;
        let mut time = None;
        for (seq, packet) in &self.waiting {
            if *seq != expected {
                return Head::Gap;
            }
            // Padding belongs to nobody.
            if !packet.payload.is_empty() {
                // The picture before was one without a marker.
                if time.is_some_and(|time| time != packet.time_ticks) {
                    return Head::Frame(ExtendedSeq(seq.0 - 1));
                }
                time = Some(packet.time_ticks);
            }
            if self.kind == MediaKind::Audio || packet.marker {
                return Head::Frame(*seq);
            }
            expected = seq.next();
        }
        Head::Unfinished
    }

    /// Takes the packets up to `last`; none when they were padding only.
    fn take(&mut self, last: ExtendedSeq) -> Option<AssembledFrame> {
        let after = self.waiting.split_off(&last.next());
        let packets = std::mem::replace(&mut self.waiting, after);
        let packets = packets.into_values().filter(|packet| !packet.payload.is_empty());
        let mut frame: Option<AssembledFrame> = None;
        for packet in packets {
            let frame = frame.get_or_insert_with(|| AssembledFrame {
                time_ticks: packet.time_ticks,
                arrival: packet.arrival,
                payloads: Vec::new(),
                after_loss: false,
            });
            frame.arrival = frame.arrival.max(packet.arrival);
            frame.payloads.push(packet.payload.clone());
        }
        let mut frame = frame?;
        frame.after_loss = std::mem::take(&mut self.lost);
        Some(frame)
    }

    /// What is missing will not come.
    fn skip(&mut self, next: ExtendedSeq) {
        self.lost = true;
        self.gap_since = None;
        let is_start = |packet: &&Arc<TrackPacket>| self.kind == MediaKind::Audio || packet.keyframe_start;
        // The packet that should be next may be there, of a picture of which another is missing.
        let start = self.waiting.values().find(|packet| packet.seq > next && is_start(packet));
        self.next = start.map(|packet| packet.seq);
        self.waiting = match self.next {
            Some(start) => self.waiting.split_off(&start),
            None => BTreeMap::new(),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    fn packet(seq: u64, time: u64, marker: bool, keyframe_start: bool) -> Arc<TrackPacket> {
        let payload = Bytes::from(vec![seq as u8]);
        let seq = ExtendedSeq(seq);
        Arc::new(TrackPacket {
            seq,
            time_ticks: time,
            arrival: epoch(),
            capture: None,
            marker,
            keyframe_start,
            payload,
        })
    }

    fn polled(assembler: &mut Assembler, at_ms: u64) -> Vec<(u64, Vec<u8>, bool)> {
        let now = epoch() + Duration::from_millis(at_ms);
        std::iter::from_fn(|| assembler.poll(now))
            .map(|frame| (frame.time_ticks, frame.payloads.concat(), frame.after_loss))
            .collect()
    }

    #[test]
    fn pictures_begin_at_a_keyframe_and_are_whole() {
        let mut assembler = Assembler::new(MediaKind::Video);
        assembler.push(packet(9, 0, true, false));
        assert_eq!(polled(&mut assembler, 0), []);
        assert!(assembler.is_lost());
        for (seq, time, marker, start) in
            [(10, 1, false, true), (11, 1, true, false), (12, 2, true, false), (13, 3, false, false)]
        {
            assembler.push(packet(seq, time, marker, start));
        }
        assert_eq!(polled(&mut assembler, 0), [(1, vec![10, 11], false), (2, vec![12], false)]);
        assert_eq!((assembler.due(), assembler.is_lost()), (None, false), "the rest of a picture is no gap");
    }

    #[test]
    fn a_picture_without_a_marker_ends_where_another_begins() {
        let mut assembler = Assembler::new(MediaKind::Video);
        for (seq, time) in [(10, 1), (11, 1), (12, 2)] {
            assembler.push(packet(seq, time, false, seq == 10));
        }
        assert_eq!(polled(&mut assembler, 0), [(1, vec![10, 11], false)]);
    }

    #[test]
    fn a_repeated_packet_fills_its_gap_in_time() {
        let mut assembler = Assembler::new(MediaKind::Video);
        assembler.push(packet(10, 1, true, true));
        assembler.push(packet(12, 3, true, false));
        assert_eq!(polled(&mut assembler, 0), [(1, vec![10], false)]);
        assert_eq!(assembler.due(), Some(epoch() + GAP_WAIT));
        assembler.push(packet(11, 2, true, false));
        assert_eq!(polled(&mut assembler, 200), [(2, vec![11], false), (3, vec![12], false)]);
        assert_eq!(assembler.due(), None);
    }

    #[test]
    fn after_a_loss_pictures_wait_for_a_keyframe_and_sound_does_not() {
        let mut pictures = Assembler::new(MediaKind::Video);
        for (seq, start) in [(10, true), (12, false), (13, false)] {
            pictures.push(packet(seq, seq, true, start));
        }
        assert_eq!(polled(&mut pictures, 0).len(), 1);
        assert_eq!(polled(&mut pictures, 249), []);
        assert_eq!(polled(&mut pictures, 250), []);
        assert!(pictures.is_lost());
        pictures.push(packet(14, 14, true, false));
        assert_eq!(polled(&mut pictures, 260), []);
        pictures.push(packet(15, 15, true, true));
        assert_eq!(polled(&mut pictures, 260), [(15, vec![15], true)]);

        let mut sound = Assembler::new(MediaKind::Audio);
        for seq in [10, 12] {
            sound.push(packet(seq, seq, false, false));
        }
        assert_eq!(polled(&mut sound, 0), [(10, vec![10], false)]);
        assert_eq!(polled(&mut sound, 250), [(12, vec![12], true)]);
    }

    #[test]
    fn a_keyframe_that_came_behind_a_gap_is_gone_on_with() {
        let mut assembler = Assembler::new(MediaKind::Video);
        assembler.push(packet(10, 10, true, true));
        assert_eq!(polled(&mut assembler, 0).len(), 1);
        for (seq, start) in [(12, false), (13, true), (14, false)] {
            assembler.push(packet(seq, seq, true, start));
        }
        assert_eq!(polled(&mut assembler, 0), []);
        assert_eq!(polled(&mut assembler, 250), [(13, vec![13], true), (14, vec![14], false)]);
    }

    #[test]
    fn padding_is_no_picture() {
        let mut assembler = Assembler::new(MediaKind::Video);
        assembler.push(packet(10, 1, true, true));
        let padding = TrackPacket { payload: Bytes::new(), ..(*packet(11, 1, false, false)).clone() };
        assembler.push(Arc::new(padding));
        assembler.push(packet(12, 2, true, false));
        assert_eq!(polled(&mut assembler, 0), [(1, vec![10], false), (2, vec![12], false)]);
    }

    #[test]
    fn a_jump_in_numbers_begins_anew() {
        let mut assembler = Assembler::new(MediaKind::Video);
        assembler.push(packet(100_000, 1, true, true));
        assert_eq!(polled(&mut assembler, 0).len(), 1);
        assembler.push(packet(5, 2, true, true));
        assert_eq!(polled(&mut assembler, 0), [(2, vec![5], true)]);
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut assembler = Assembler::new(MediaKind::Video);
        assembler.push(packet(1, 1, true, true));
        polled(&mut assembler, 0);
        for seq in 3..40_000 {
            assembler.push(packet(seq, seq, true, false));
            assert!(assembler.waiting.len() <= WAITING_PACKETS_MAX);
        }
        let mut never = Assembler::new(MediaKind::Video);
        for seq in 3..40_000 {
            never.push(packet(seq, seq, true, false));
            never.poll(epoch());
            assert!(never.waiting.len() <= WAITING_PACKETS_MAX);
        }
    }
}
