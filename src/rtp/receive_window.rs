//! Which packets of one SSRC came already: sorts arrivals into new, late, double and senseless. Sans-I/O.
//!
//! Jumps are judged as in RFC 3550 appendix A.1: one packet far away is a stray, two in a row are a restarted sender.

use crate::media::{ExtendedSeq, SeqExtender};

/// How far behind the newest a packet may come: 2048 packets are 8 s at 2 Mb/s and 0.8 s at 20 Mb/s, longer than a
/// retransmission is waited for.
pub const WINDOW_PACKETS: u64 = 2_048;
const WORDS: usize = (WINDOW_PACKETS / 64) as usize;
/// A larger step forward is a jump, not loss (RFC 3550's `MAX_DROPOUT`).
const DROPOUT_MAX: u64 = 3_000;

/// What an arriving number is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrival {
    /// The newest so far; the `skipped` numbers before it have not come.
    Newest { seq: ExtendedSeq, skipped: u64 },
    /// From before the newest, for the first time.
    Late(ExtendedSeq),
    /// It came before.
    Duplicate,
    /// Too far from the newest, in either direction.
    Stray,
    /// The sender began numbering anew with this packet; numbers from before mean nothing any more.
    Restarted(ExtendedSeq),
}

/// The last [`WINDOW_PACKETS`] numbers of a stream, a bit each.
#[derive(Debug, Clone)]
pub struct ReceiveWindow {
    extender: SeqExtender,
    /// Bit `seq % WINDOW_PACKETS`, for the numbers up to the newest.
    seen: [u64; WORDS],
    /// What a restarted sender would send next, after a stray.
    after_stray: Option<u16>,
}

impl Default for ReceiveWindow {
    fn default() -> Self {
        Self { extender: SeqExtender::default(), seen: [0; WORDS], after_stray: None }
    }
}

impl ReceiveWindow {
    /// Notes an arrival.
    pub fn insert(&mut self, wire: u16) -> Arrival {
        let Some(newest) = self.extender.highest() else {
            let seq = self.extender.extend(wire);
            self.mark(seq);
            return Arrival::Newest { seq, skipped: 0 };
        };
        let ahead = i64::from(wire.wrapping_sub(newest.wire()) as i16);
        if ahead > DROPOUT_MAX as i64 || ahead <= -(WINDOW_PACKETS as i64) {
            return self.stray(wire);
        }
        self.after_stray = None;
        let seq = self.extender.extend(wire);
        if seq > newest {
            let steps = seq - newest;
            for step in 1..steps.min(WINDOW_PACKETS) {
                self.clear(ExtendedSeq(seq.0 - step));
            }
            self.mark(seq);
            return Arrival::Newest { seq, skipped: steps - 1 };
        }
        if self.has(seq) {
            return Arrival::Duplicate;
        }
        self.mark(seq);
        Arrival::Late(seq)
    }

    /// Whether a number may still be of use: not seen, and not too far from the newest.
    pub fn wants(&self, wire: u16) -> bool {
        let Some(newest) = self.extender.highest() else { return true };
        let ahead = i64::from(wire.wrapping_sub(newest.wire()) as i16);
        if ahead > 0 {
            return ahead <= DROPOUT_MAX as i64;
        }
        ahead > -(WINDOW_PACKETS as i64) && !self.has(ExtendedSeq(newest.0.saturating_add_signed(ahead)))
    }

    pub fn newest(&self) -> Option<ExtendedSeq> {
        self.extender.highest()
    }

    fn stray(&mut self, wire: u16) -> Arrival {
        if self.after_stray.replace(wire.wrapping_add(1)) != Some(wire) {
            return Arrival::Stray;
        }
        *self = Self::default();
        let seq = self.extender.extend(wire);
        self.mark(seq);
        Arrival::Restarted(seq)
    }

    fn has(&self, seq: ExtendedSeq) -> bool {
        let (word, bit) = place(seq);
        self.seen[word] & bit != 0
    }

    fn mark(&mut self, seq: ExtendedSeq) {
        let (word, bit) = place(seq);
        self.seen[word] |= bit;
    }

    fn clear(&mut self, seq: ExtendedSeq) {
        let (word, bit) = place(seq);
        self.seen[word] &= !bit;
    }
}

fn place(seq: ExtendedSeq) -> (usize, u64) {
    let at = seq.0 % WINDOW_PACKETS;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq_of(arrival: Arrival) -> ExtendedSeq {
        match arrival {
            Arrival::Newest { seq, .. } | Arrival::Late(seq) | Arrival::Restarted(seq) => seq,
            Arrival::Duplicate | Arrival::Stray => panic!("{arrival:?}"),
        }
    }

    #[test]
    fn late_and_double_packets_are_told_apart_through_the_wrap() {
        let mut window = ReceiveWindow::default();
        let first = seq_of(window.insert(65_534));
        assert_eq!(window.insert(2), Arrival::Newest { seq: first + 4, skipped: 3 });
        assert!(window.wants(0) && window.wants(3) && !window.wants(2));
        assert_eq!(window.insert(0), Arrival::Late(first + 2));
        assert_eq!(window.insert(0), Arrival::Duplicate);
        assert_eq!(window.insert(65_534), Arrival::Duplicate);
        assert_eq!(window.insert(65_535), Arrival::Late(first + 1));
        assert_eq!(window.insert(1), Arrival::Late(first + 3));
    }

    #[test]
    fn the_window_forgets_what_lies_behind_it() {
        let mut window = ReceiveWindow::default();
        let first = seq_of(window.insert(0));
        for wire in 1..10_000u16 {
            assert_eq!(window.insert(wire), Arrival::Newest { seq: first + u64::from(wire), skipped: 0 });
        }
        let oldest = 9_999 - WINDOW_PACKETS as u16 + 1;
        assert_eq!(window.insert(oldest), Arrival::Duplicate);
        assert_eq!(window.insert(oldest - 1), Arrival::Stray);
        // A step that overtakes the whole window leaves no old marks in it.
        assert_eq!(window.insert(9_999 + 2_500), Arrival::Newest { seq: first + 12_499, skipped: 2_499 });
        assert_eq!(window.insert(11_000), Arrival::Late(first + 11_000));
    }

    #[test]
    fn one_stray_is_ignored_and_two_in_a_row_are_a_restart() {
        let mut window = ReceiveWindow::default();
        let first = seq_of(window.insert(100));
        assert_eq!(window.insert(30_000), Arrival::Stray);
        assert_eq!(window.insert(101), Arrival::Newest { seq: first + 1, skipped: 0 });
        assert_eq!(window.insert(30_001), Arrival::Stray, "the stray before it was not believed");
        assert!(matches!(window.insert(30_002), Arrival::Restarted(_)));
        assert!(matches!(window.insert(30_003), Arrival::Newest { skipped: 0, .. }));
    }
}
