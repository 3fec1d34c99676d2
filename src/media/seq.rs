//! Wrapping counters, widened where they enter the house, so that nobody further in thinks of wraparound.

use std::ops::{Add, Sub};

/// An RTP sequence number (RFC 3550 section 5.1), widened to 64 bits. The low 16 bits are those on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ExtendedSeq(pub u64);

impl ExtendedSeq {
    /// What goes on the wire.
    pub fn wire(self) -> u16 {
        self.0 as u16
    }

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Add<u64> for ExtendedSeq {
    type Output = Self;

    fn add(self, packets: u64) -> Self {
        Self(self.0 + packets)
    }
}

/// How many packets lie between two numbers; the left one is the later.
impl Sub for ExtendedSeq {
    type Output = u64;

    fn sub(self, earlier: Self) -> u64 {
        self.0 - earlier.0
    }
}

/// Widens 16-bit sequence numbers: each becomes the 64-bit number nearest to the highest one seen.
#[derive(Debug, Clone, Default)]
pub struct SeqExtender {
    highest: Option<u64>,
}

/// Where widened counters start: one cycle up, so that a packet from before the first one still has a number.
const FIRST_CYCLE: u64 = 1 << 16;

impl SeqExtender {
    pub fn extend(&mut self, wire: u16) -> ExtendedSeq {
        let Some(highest) = self.highest else {
            let first = FIRST_CYCLE + u64::from(wire);
            self.highest = Some(first);
            return ExtendedSeq(first);
        };
        let ahead = wire.wrapping_sub(highest as u16) as i16;
        let seq = highest.saturating_add_signed(i64::from(ahead));
        self.highest = Some(highest.max(seq));
        ExtendedSeq(seq)
    }

    pub fn highest(&self) -> Option<ExtendedSeq> {
        self.highest.map(ExtendedSeq)
    }
}

/// Widens 32-bit RTP timestamps to 64 bits, likewise.
#[derive(Debug, Clone, Default)]
pub struct TimeExtender {
    latest: Option<u64>,
}

const FIRST_TIME_CYCLE: u64 = 1 << 32;

impl TimeExtender {
    pub fn extend(&mut self, wire: u32) -> u64 {
        let Some(latest) = self.latest else {
            let first = FIRST_TIME_CYCLE + u64::from(wire);
            self.latest = Some(first);
            return first;
        };
        let ahead = wire.wrapping_sub(latest as u32) as i32;
        let time = latest.saturating_add_signed(i64::from(ahead));
        self.latest = Some(time);
        time
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequence_numbers_grow_through_the_wrap() {
        let mut extender = SeqExtender::default();
        let first = extender.extend(65_534);
        assert_eq!(extender.extend(65_535) - first, 1);
        assert_eq!(extender.extend(1) - first, 3);
        assert_eq!(extender.extend(0) - first, 2, "a late packet keeps its place");
        assert_eq!(extender.highest(), Some(first + 3));
        assert_eq!(extender.extend(1).wire(), 1);
    }

    #[test]
    fn a_packet_from_before_the_first_has_a_lower_number() {
        let mut extender = SeqExtender::default();
        let first = extender.extend(0);
        assert!(extender.extend(65_535) < first);
    }

    #[test]
    fn times_grow_through_the_wrap_and_may_step_back() {
        let mut extender = TimeExtender::default();
        let first = extender.extend(u32::MAX - 10);
        assert_eq!(extender.extend(10), first + 21);
        assert_eq!(extender.extend(0), first + 11);
    }
}
