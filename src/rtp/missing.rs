//! Packets of one SSRC that are missing, and when to ask for each again (RFC 4585 section 6.2.1). Sans-I/O.
//!
//! A gap is asked for after a short grace (it may be mere reordering), then once per round trip, a bounded number of
//! times. The round trip is learned from the answers: nothing else tells a receiver.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{media::ExtendedSeq, rtp::rtcp::NACK_PAIRS_MAX};

/// Missing packets that are kept track of: half a second of 10 Mb/s. Whoever loses more needs a keyframe, not a list.
const MISSING_MAX: usize = 512;
/// Packets that overtake each other do so by a few milliseconds.
const REORDERING_GRACE: Duration = Duration::from_millis(5);
const TRIES_MAX: u8 = 10;
/// Ten tries at 200 ms; whoever watches live has given up on the picture by then.
const LIFE_MAX: Duration = Duration::from_secs(2);
/// Before the first answer: more than most round trips on a continent.
const FIRST_SPACING: Duration = Duration::from_millis(100);
/// Between a request and its repetition: not below what scheduling on both sides adds, not so long that [`LIFE_MAX`]
/// passes with fewer than four tries.
const SPACING_MIN: Duration = Duration::from_millis(20);
const SPACING_MAX: Duration = Duration::from_millis(500);

#[derive(Debug, Clone, Copy)]
struct Missing {
    seq: ExtendedSeq,
    since: Instant,
    asked: Instant,
    due: Instant,
    tries: u8,
}

/// Packets that are not waited for any longer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GivenUp {
    pub packets: u64,
    /// The newest of them.
    pub newest: Option<ExtendedSeq>,
}

/// What is missing, oldest first.
#[derive(Debug)]
pub struct MissingPackets {
    /// False: nobody answers, so a packet is given up when its grace ends.
    retransmission: bool,
    entries: VecDeque<Missing>,
    round_trip: RoundTrip,
}

impl MissingPackets {
    /// `retransmission`: NACK was agreed on.
    pub fn new(retransmission: bool) -> Self {
        Self { retransmission, entries: VecDeque::new(), round_trip: RoundTrip::default() }
    }

    /// Numbers from `first` to before `end` were skipped, none of which is on the list. Returns how many packets had to be given up because they are
    /// more than can be kept track of.
    pub fn skipped(&mut self, now: Instant, first: ExtendedSeq, end: ExtendedSeq) -> u64 {
        let fresh = end - first;
        if self.entries.len() as u64 + fresh > MISSING_MAX as u64 {
            let lost = self.entries.len() as u64 + fresh;
            self.entries.clear();
            return lost;
        }
        let due = now + REORDERING_GRACE;
        let entry = |seq| Missing { seq: ExtendedSeq(seq), since: now, asked: now, due, tries: 0 };
        // Nearly always at the end; before that only when the stream's first packets came out of order.
        let at = self.entries.partition_point(|missing| missing.seq < first);
        if at == self.entries.len() {
            self.entries.extend((first.0..end.0).map(entry));
        } else {
            for seq in (first.0..end.0).rev() {
                self.entries.insert(at, entry(seq));
            }
        }
        0
    }

    /// A late packet came.
    pub fn arrived(&mut self, now: Instant, seq: ExtendedSeq) {
        let Ok(at) = self.entries.binary_search_by_key(&seq, |missing| missing.seq) else { return };
        let Some(missing) = self.entries.remove(at) else { return };
        // An answer to the second request cannot be told from a late one to the first.
        if missing.tries == 1 {
            self.round_trip.sample(now.saturating_duration_since(missing.asked));
        }
    }

    /// Collects numbers to be asked for now into `sequences`, ascending, as many as one NACK packet holds. Call until
    /// it adds none. Returns what was given up.
    pub fn poll(&mut self, now: Instant, sequences: &mut Vec<u16>) -> GivenUp {
        let spacing = self.round_trip.spacing();
        let (mut given_up, mut pairs, mut pair_start) = (GivenUp::default(), 0, None);
        let retransmission = self.retransmission;
        self.entries.retain_mut(|missing| {
            if now < missing.due {
                return true;
            }
            if !retransmission || missing.tries >= TRIES_MAX || now >= missing.since + LIFE_MAX {
                given_up.packets += 1;
                given_up.newest = Some(missing.seq);
                return false;
            }
            if pair_start.is_none_or(|start| missing.seq - start > 16) {
                if pairs == NACK_PAIRS_MAX {
                    return true;
                }
                pairs += 1;
                pair_start = Some(missing.seq);
            }
            missing.tries += 1;
            missing.asked = now;
            missing.due = now + spacing;
            sequences.push(missing.seq.wire());
            true
        });
        given_up
    }

    /// Packets from before `seq` are of no use any more.
    pub fn forget_before(&mut self, seq: ExtendedSeq) {
        while self.entries.front().is_some_and(|missing| missing.seq < seq) {
            self.entries.pop_front();
        }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn next_due(&self) -> Option<Instant> {
        self.entries.iter().map(|missing| missing.due).min()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

/// Smoothed round trip and its deviation, as TCP keeps them (RFC 6298 section 2).
#[derive(Debug, Default)]
struct RoundTrip {
    smoothed: Option<(Duration, Duration)>,
}

impl RoundTrip {
    fn sample(&mut self, sample: Duration) {
        self.smoothed = Some(match self.smoothed {
            None => (sample, sample / 2),
            Some((mean, deviation)) => ((mean * 7 + sample) / 8, (deviation * 3 + mean.abs_diff(sample)) / 4),
        });
    }

    /// How long an answer may take before the question is repeated.
    fn spacing(&self) -> Duration {
        let spacing = self.smoothed.map_or(FIRST_SPACING, |(mean, deviation)| mean + deviation * 4);
        spacing.clamp(SPACING_MIN, SPACING_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    fn ms(ms: u64) -> Instant {
        epoch() + Duration::from_millis(ms)
    }

    fn polled(missing: &mut MissingPackets, now: Instant) -> (Vec<u16>, u64) {
        let mut sequences = Vec::new();
        let given_up = missing.poll(now, &mut sequences);
        (sequences, given_up.packets)
    }

    #[test]
    fn a_gap_is_asked_for_after_the_grace_and_again_after_the_spacing() {
        let mut missing = MissingPackets::new(true);
        missing.skipped(ms(0), ExtendedSeq(70_000), ExtendedSeq(70_003));
        assert_eq!(polled(&mut missing, ms(4)), (vec![], 0));
        missing.arrived(ms(4), ExtendedSeq(70_001));
        assert_eq!(missing.next_due(), Some(ms(5)));
        assert_eq!(polled(&mut missing, ms(5)).0, [4_464, 4_466]);
        assert_eq!(polled(&mut missing, ms(104)), (vec![], 0));
        assert_eq!(polled(&mut missing, ms(105)).0, [4_464, 4_466]);
    }

    #[test]
    fn the_spacing_follows_the_round_trip_that_answers_show() {
        let mut missing = MissingPackets::new(true);
        let mut now = 0;
        for seq in 0..20 {
            missing.skipped(ms(now), ExtendedSeq(seq), ExtendedSeq(seq + 1));
            assert_eq!(polled(&mut missing, ms(now + 5)).0.len(), 1);
            missing.arrived(ms(now + 45), ExtendedSeq(seq));
            now += 100;
        }
        missing.skipped(ms(now), ExtendedSeq(50), ExtendedSeq(51));
        polled(&mut missing, ms(now + 5));
        let spacing = missing.next_due().unwrap() - ms(now + 5);
        assert!((Duration::from_millis(40)..Duration::from_millis(50)).contains(&spacing), "{spacing:?}");
    }

    #[test]
    fn tries_and_life_are_bounded() {
        let mut missing = MissingPackets::new(true);
        missing.skipped(ms(0), ExtendedSeq(1), ExtendedSeq(2));
        let (mut asked, mut given_up) = (0, 0);
        for now in 0..3_000 {
            let (sequences, lost) = polled(&mut missing, ms(now));
            asked += sequences.len();
            given_up += lost;
        }
        assert_eq!((asked, given_up), (usize::from(TRIES_MAX), 1));
        assert!(missing.is_empty());
    }

    #[test]
    fn without_retransmission_a_packet_is_given_up_when_its_grace_ends() {
        let mut missing = MissingPackets::new(false);
        missing.skipped(ms(0), ExtendedSeq(1), ExtendedSeq(4));
        missing.arrived(ms(2), ExtendedSeq(2));
        assert_eq!(polled(&mut missing, ms(5)), (vec![], 2));
    }

    #[test]
    fn the_list_is_bounded_and_says_what_it_gave_up() {
        let mut missing = MissingPackets::new(true);
        assert_eq!(missing.skipped(ms(0), ExtendedSeq(0), ExtendedSeq(512)), 0);
        assert_eq!(missing.skipped(ms(0), ExtendedSeq(600), ExtendedSeq(601)), 513);
        assert!(missing.is_empty());
    }

    #[test]
    fn the_list_stays_sorted_when_the_stream_turns_out_to_begin_earlier() {
        let mut missing = MissingPackets::new(true);
        missing.skipped(ms(0), ExtendedSeq(20), ExtendedSeq(21));
        missing.skipped(ms(0), ExtendedSeq(10), ExtendedSeq(12));
        assert_eq!(polled(&mut missing, ms(5)).0, [10, 11, 20]);
    }

    #[test]
    fn what_does_not_fit_into_one_packet_is_asked_for_by_the_next() {
        let mut missing = MissingPackets::new(true);
        for seq in 0..100 {
            missing.skipped(ms(0), ExtendedSeq(seq * 20), ExtendedSeq(seq * 20 + 1));
        }
        assert_eq!(polled(&mut missing, ms(5)).0.len(), NACK_PAIRS_MAX);
        assert_eq!(polled(&mut missing, ms(5)).0.len(), 100 - NACK_PAIRS_MAX);
        assert_eq!(polled(&mut missing, ms(5)).0.len(), 0);
    }
}
