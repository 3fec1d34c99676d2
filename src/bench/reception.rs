//! How one RTP stream is received: what is missing, what came twice, jitter (RFC 3550 section 6.4.1 and appendix A.8),
//! and the numbers to ask for again. From headers alone, which SRTP leaves in clear. Sans-I/O.

use std::time::{Duration, Instant};

use crate::{
    media::{RtpHeader, SeqExtender},
    rtp::rtcp::{NtpTime, ReceptionReport, to_ntp_short},
};

/// Numbers of which it is known whether they came: 1 s at 1,000 packets/s, and a power of two.
const WINDOW_PACKETS: u64 = 1_024;
/// A gap is asked for so often, so far apart, while it may still be filled (about what browsers do).
const ASKS_MAX: u8 = 10;
const ASK_INTERVAL: Duration = Duration::from_millis(40);
/// Numbers asked for at one time; a larger gap wants a keyframe, not packets.
const ASKED_MAX: usize = 256;

#[derive(Debug)]
pub struct Reception {
    ssrc: u32,
    clock_rate_hz: u32,
    extender: SeqExtender,
    first: u64,
    highest: u64,
    /// One bit per number of the window before the highest, at the number's place modulo the window.
    came: [u64; WINDOW_PACKETS as usize / 64],
    counts: Counts,
    /// Expected and distinct packets at the last report.
    reported: (u64, u64),
    /// Arrival minus timestamp in clock ticks, of the latest packet; and its smoothed variation.
    transit: Option<i64>,
    jitter_ticks: f64,
    last_report: Option<(NtpTime, Instant)>,
    asked: Vec<Asked>,
}

#[derive(Debug)]
struct Asked {
    seq: u64,
    next_at: Instant,
    asks: u8,
}

/// What came so far. `expected - distinct` is missing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Datagrams, duplicates included.
    pub packets: u64,
    /// Of whole datagrams, without UDP and IP headers.
    pub bytes: u64,
    pub expected: u64,
    pub distinct: u64,
    pub duplicates: u64,
}

impl Counts {
    pub fn lost(&self) -> u64 {
        self.expected.saturating_sub(self.distinct)
    }

    /// What was added since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            packets: self.packets - earlier.packets,
            bytes: self.bytes - earlier.bytes,
            expected: self.expected - earlier.expected,
            distinct: self.distinct - earlier.distinct,
            duplicates: self.duplicates - earlier.duplicates,
        }
    }

    pub fn add(&mut self, other: &Self) {
        self.packets += other.packets;
        self.bytes += other.bytes;
        self.expected += other.expected;
        self.distinct += other.distinct;
        self.duplicates += other.duplicates;
    }
}

impl Reception {
    pub fn new(ssrc: u32, clock_rate_hz: u32) -> Self {
        Self {
            ssrc,
            clock_rate_hz,
            extender: SeqExtender::default(),
            first: 0,
            highest: 0,
            came: [0; WINDOW_PACKETS as usize / 64],
            counts: Counts::default(),
            reported: (0, 0),
            transit: None,
            jitter_ticks: 0.0,
            last_report: None,
            asked: Vec::new(),
        }
    }

    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// Takes a packet of this stream. `since_start` is its arrival on any clock that does not jump.
    pub fn note(&mut self, header: &RtpHeader, datagram_bytes: usize, now: Instant, since_start: Duration, nack: bool) {
        self.counts.packets += 1;
        self.counts.bytes += datagram_bytes as u64;
        self.note_jitter(header.timestamp, since_start);
        self.note_sequence(header.sequence, now, nack);
    }

    /// A number that came by another way: a retransmission.
    pub fn note_sequence(&mut self, sequence: u16, now: Instant, nack: bool) {
        let seq = self.extender.extend(sequence).0;
        if self.counts.expected == 0 {
            (self.first, self.highest) = (seq, seq);
            self.counts.expected = 1;
        } else if seq > self.highest {
            for skipped in (self.highest + 1..seq).rev().take(WINDOW_PACKETS as usize) {
                self.clear(skipped);
                if nack && self.asked.len() < ASKED_MAX {
                    self.asked.push(Asked { seq: skipped, next_at: now, asks: 0 });
                }
            }
            self.clear(seq);
            self.highest = seq;
            self.counts.expected = self.highest - self.first + 1;
        } else if seq < self.first || self.highest - seq >= WINDOW_PACKETS {
            // From before our time, or too late for anybody.
            return;
        }
        let (word, bit) = place(seq);
        if self.came[word] & bit != 0 {
            self.counts.duplicates += 1;
            return;
        }
        self.came[word] |= bit;
        self.counts.distinct += 1;
        self.asked.retain(|asked| asked.seq != seq);
    }

    fn clear(&mut self, seq: u64) {
        let (word, bit) = place(seq);
        self.came[word] &= !bit;
    }

    fn note_jitter(&mut self, timestamp: u32, since_start: Duration) {
        let arrival = (since_start.as_secs_f64() * f64::from(self.clock_rate_hz)) as i64;
        // Both wrap with the timestamp; only differences of neighbours are looked at.
        let transit = i64::from((arrival as u32).wrapping_sub(timestamp) as i32);
        if let Some(before) = self.transit.replace(transit) {
            let variation = (transit.wrapping_sub(before) as i32).unsigned_abs();
            self.jitter_ticks += (f64::from(variation) - self.jitter_ticks) / 16.0;
        }
    }

    pub fn note_sender_report(&mut self, ntp: NtpTime, now: Instant) {
        self.last_report = Some((ntp, now));
    }

    /// The block about this stream for the next receiver report.
    pub fn report(&mut self, now: Instant) -> ReceptionReport {
        let Counts { expected, distinct, .. } = self.counts;
        let (expected_before, distinct_before) = std::mem::replace(&mut self.reported, (expected, distinct));
        let expected_now = expected - expected_before;
        let lost_now = expected_now.saturating_sub(distinct - distinct_before);
        ReceptionReport {
            ssrc: self.ssrc,
            fraction_lost: (lost_now * 256).checked_div(expected_now).unwrap_or(0).min(255) as u8,
            lost: self.counts.lost().min(0x7f_ffff) as i32,
            highest_sequence: self.highest as u32,
            jitter_ticks: self.jitter_ticks as u32,
            last_sender_report: self.last_report.map_or(0, |(ntp, _)| ntp.middle()),
            delay_since_last: self.last_report.map_or(0, |(_, at)| to_ntp_short(now.saturating_duration_since(at))),
        }
    }

    /// Numbers to ask for now, ascending.
    pub fn missing(&mut self, now: Instant) -> Vec<u16> {
        let horizon = (self.highest + 1).saturating_sub(WINDOW_PACKETS);
        self.asked.retain(|asked| asked.asks < ASKS_MAX && asked.seq >= horizon);
        let mut due: Vec<u64> = Vec::new();
        for asked in self.asked.iter_mut().filter(|asked| asked.next_at <= now) {
            asked.asks += 1;
            asked.next_at = now + ASK_INTERVAL;
            due.push(asked.seq);
        }
        due.sort_unstable();
        due.into_iter().map(|seq| seq as u16).collect()
    }
}

fn place(seq: u64) -> (usize, u64) {
    let at = seq % WINDOW_PACKETS;
    ((at / 64) as usize, 1 << (at % 64))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    fn note(reception: &mut Reception, sequence: u16) {
        let header = RtpHeader { marker: false, payload_type: 96, sequence, timestamp: 0, ssrc: 5 };
        reception.note(&header, 100, epoch(), Duration::ZERO, true);
    }

    #[test]
    fn gaps_are_lost_until_they_are_filled_and_nothing_counts_twice() {
        let mut reception = Reception::new(5, 90_000);
        for sequence in [65_534, 65_535, 2, 3, 3] {
            note(&mut reception, sequence);
        }
        assert_eq!(reception.counts().lost(), 2);
        assert_eq!((reception.counts().expected, reception.counts().duplicates), (6, 1));
        assert_eq!(reception.missing(epoch()), [0, 1]);
        assert_eq!(reception.missing(epoch()), [] as [u16; 0], "not asked again at once");
        note(&mut reception, 1);
        assert_eq!(reception.counts().lost(), 1);
        assert_eq!(reception.missing(epoch() + ASK_INTERVAL), [0]);
        note(&mut reception, 65_000);
        assert_eq!(reception.counts().expected, 6, "from before the first packet");
    }

    #[test]
    fn a_report_says_what_was_lost_since_the_last_one() {
        let mut reception = Reception::new(5, 90_000);
        (0..10).for_each(|sequence| note(&mut reception, sequence));
        assert_eq!(reception.report(epoch()).fraction_lost, 0);
        (15..20).for_each(|sequence| note(&mut reception, sequence));
        let report = reception.report(epoch());
        assert_eq!((report.fraction_lost, report.lost), (128, 5));
        assert_eq!(report.highest_sequence & 0xffff, 19);
        assert_eq!(reception.report(epoch()).fraction_lost, 0);
    }

    #[test]
    fn a_gap_of_any_size_costs_bounded_work_and_memory() {
        let mut reception = Reception::new(5, 90_000);
        note(&mut reception, 0);
        for n in 1..200u32 {
            note(&mut reception, (n * 30_000) as u16);
        }
        assert!(reception.asked.len() <= ASKED_MAX);
        assert!(reception.counts().lost() > 1_000_000);
    }

    #[test]
    fn even_arrivals_have_no_jitter() {
        let mut reception = Reception::new(5, 90_000);
        for n in 0..100u32 {
            let header =
                RtpHeader { marker: true, payload_type: 96, sequence: n as u16, timestamp: n * 3_000, ssrc: 5 };
            let at = Duration::from_nanos(u64::from(n) * 1_000_000_000 / 30);
            reception.note(&header, 100, epoch() + at, at, false);
        }
        assert!(reception.report(epoch()).jitter_ticks <= 1);
    }
}
