//! Numbers a layer's packets without the publisher's probes, across restarts of its numbering. Sans-I/O.
//!
//! A publisher that probes for bandwidth sends packets of nothing but padding in between. Handed on with the
//! publisher's numbers they would be gaps in every viewer's stream, so numbering closes over them. That needs no
//! waiting: a packet's number is its own less the probes before it, and whatever is still missing keeps its place. Only
//! a probe that arrives after a later packet was handed on cannot vanish any more, and is passed on empty.

use std::collections::VecDeque;

use crate::{media::ExtendedSeq, rtp::WINDOW_PACKETS};

/// Maps the publisher's numbers to the layer's.
#[derive(Debug)]
pub struct Renumber {
    /// Probes that vanished, ascending; at most [`WINDOW_PACKETS`], as older ones are only counted.
    vanished: VecDeque<ExtendedSeq>,
    /// Probes from before those.
    vanished_before: u64,
    /// Newest media packet, in the publisher's numbers.
    newest: Option<ExtendedSeq>,
    /// Added to the publisher's numbers, wrapping: a restart may number lower than before.
    offset: u64,
    /// One past the highest number handed out.
    end: Option<ExtendedSeq>,
    /// Numbers below it belong to the numbering before the restart.
    floor: ExtendedSeq,
}

impl Default for Renumber {
    fn default() -> Self {
        Self {
            vanished: VecDeque::new(),
            vanished_before: 0,
            newest: None,
            offset: 0,
            end: None,
            floor: ExtendedSeq(0),
        }
    }
}

impl Renumber {
    /// The layer's number of a media packet. `None`: it comes from before the restart, and its number is taken.
    pub fn media(&mut self, seq: ExtendedSeq) -> Option<ExtendedSeq> {
        if self.newest.is_none() {
            // The first packet, or the first after a restart: numbering goes on where it was.
            self.offset = self.end.map_or(self.offset, |end| end.0.wrapping_sub(seq.0));
            self.floor = self.end.unwrap_or_default();
        }
        self.newest = self.newest.max(Some(seq));
        let number = self.number(seq)?;
        self.end = self.end.max(Some(number.next()));
        self.forget(seq);
        Some(number)
    }

    /// A probe. `None`: it vanishes. Otherwise the number it must be passed on with, empty.
    pub fn probe(&mut self, seq: ExtendedSeq) -> Option<ExtendedSeq> {
        let newest = self.newest?;
        if seq < newest {
            return self.number(seq);
        }
        let at = self.vanished.partition_point(|vanished| *vanished < seq);
        self.vanished.insert(at, seq);
        self.forget(seq);
        None
    }

    /// The publisher numbers anew from its next packet on.
    pub fn restart(&mut self) {
        self.vanished.clear();
        self.vanished_before = 0;
        self.newest = None;
    }

    fn number(&self, seq: ExtendedSeq) -> Option<ExtendedSeq> {
        let before = self.vanished_before + self.vanished.partition_point(|vanished| *vanished < seq) as u64;
        let number = ExtendedSeq(seq.0.wrapping_sub(before).wrapping_add(self.offset));
        // Distances to the floor are far below 2^63, so a number from below wraps to above it.
        (number.0.wrapping_sub(self.floor.0) < 1 << 63).then_some(number)
    }

    /// Nothing older than the receive window is asked about any more.
    fn forget(&mut self, newest: ExtendedSeq) {
        while self.vanished.front().is_some_and(|vanished| vanished.0 + WINDOW_PACKETS < newest.0) {
            self.vanished.pop_front();
            self.vanished_before += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(seq: u64) -> ExtendedSeq {
        ExtendedSeq(seq)
    }

    #[test]
    fn probes_vanish_and_late_packets_keep_their_place() {
        let mut renumber = Renumber::default();
        assert_eq!(renumber.media(seq(100)), Some(seq(100)));
        assert_eq!(renumber.probe(seq(102)), None);
        assert_eq!(renumber.probe(seq(103)), None);
        assert_eq!(renumber.media(seq(104)), Some(seq(102)));
        assert_eq!(renumber.media(seq(101)), Some(seq(101)));
        assert_eq!(renumber.media(seq(99)), Some(seq(99)), "from before the first");
        assert_eq!(renumber.media(seq(107)), Some(seq(105)));
        assert_eq!(renumber.media(seq(106)), Some(seq(104)));
    }

    #[test]
    fn a_probe_behind_the_newest_is_passed_on_empty() {
        let mut renumber = Renumber::default();
        renumber.media(seq(100));
        renumber.media(seq(103));
        assert_eq!(renumber.probe(seq(102)), Some(seq(102)));
        assert_eq!(renumber.media(seq(101)), Some(seq(101)));
        assert_eq!(renumber.media(seq(104)), Some(seq(104)));
    }

    #[test]
    fn probes_may_overtake_each_other() {
        let mut renumber = Renumber::default();
        renumber.media(seq(10));
        assert_eq!(renumber.probe(seq(12)), None);
        assert_eq!(renumber.probe(seq(11)), None);
        assert_eq!(renumber.media(seq(13)), Some(seq(11)));
    }

    #[test]
    fn numbering_goes_on_after_a_restart_and_old_numbers_stay_taken() {
        let mut renumber = Renumber::default();
        renumber.media(seq(70_000));
        renumber.probe(seq(70_001));
        renumber.media(seq(70_002));
        renumber.restart();
        assert_eq!(renumber.media(seq(66_000)), Some(seq(70_002)));
        assert_eq!(renumber.media(seq(65_999)), None);
        assert_eq!(renumber.media(seq(66_001)), Some(seq(70_003)));
    }

    #[test]
    fn memory_of_probes_is_bounded_and_numbering_stays_right() {
        let mut renumber = Renumber::default();
        for at in 0..20_000 {
            assert_eq!(renumber.media(seq(2 * at)), Some(seq(at)));
            assert_eq!(renumber.probe(seq(2 * at + 1)), None);
            assert!(renumber.vanished.len() <= WINDOW_PACKETS as usize);
        }
    }
}
