//! What a viewer may have again: each packet once per round trip, within a share of what it is sent anyway.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// Before a report has told: a guess that suits a continent.
const RTT_BEFORE_KNOWN: Duration = Duration::from_millis(60);
/// A link never so short that a packet asked for twice within this was lost twice.
const RTT_MIN: Duration = Duration::from_millis(5);
/// Packets remembered as sent again: a viewer that loses a tenth of 8 Mb/s asks for about this many in 100 ms.
const REMEMBERED_PACKETS: usize = 64;
/// One byte may be sent again for so many sent: losing more than a third for long, a link is not helped by sending more.
const BYTES_PER_RESENT_BYTE: u64 = 3;
/// Saved up at the most, and so what may go at once, beside the live pictures: all of it, in packets of 1,200 bytes, takes
/// half of a browser's socket buffer (208 KiB by Linux's default, which counts 2.3 KB for each).
const CREDIT_BYTES_MAX: u64 = 56 * 1024;

/// Grants and refuses retransmissions to one viewer.
#[derive(Debug)]
pub struct ResendBudget {
    rtt: Option<Duration>,
    /// Wire sequence numbers and when they were sent again, oldest first.
    recent: VecDeque<(u16, Instant)>,
    credit_bytes: u64,
}

impl Default for ResendBudget {
    fn default() -> Self {
        Self { rtt: None, recent: VecDeque::new(), credit_bytes: CREDIT_BYTES_MAX }
    }
}

impl ResendBudget {
    /// A round trip was measured (RFC 3550 section 6.4.1); smoothed as TCP does (RFC 6298).
    pub fn measured_rtt(&mut self, sample: Duration) {
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * 7 + sample) / 8));
    }

    /// Packets went out the usual way.
    pub fn sent(&mut self, bytes: u32) {
        let earned = u64::from(bytes) / BYTES_PER_RESENT_BYTE;
        self.credit_bytes = (self.credit_bytes + earned).min(CREDIT_BYTES_MAX);
    }

    /// Whether so much could be sent again at once, at the best of times.
    pub fn could_grant(bytes: u64) -> bool {
        bytes <= CREDIT_BYTES_MAX
    }

    /// Whether a packet of `bytes` may be sent again now; if so, it is noted as sent.
    pub fn grant(&mut self, now: Instant, wire_seq: u16, bytes: usize) -> bool {
        let rtt = self.rtt.unwrap_or(RTT_BEFORE_KNOWN).max(RTT_MIN);
        while self.recent.front().is_some_and(|(_, at)| now.saturating_duration_since(*at) >= rtt) {
            self.recent.pop_front();
        }
        let bytes = bytes as u64;
        if bytes > self.credit_bytes || self.recent.iter().any(|(seq, _)| *seq == wire_seq) {
            return false;
        }
        if self.recent.len() == REMEMBERED_PACKETS {
            self.recent.pop_front();
        }
        self.recent.push_back((wire_seq, now));
        self.credit_bytes -= bytes;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn a_packet_is_sent_again_once_per_round_trip() {
        let start = epoch();
        let mut budget = ResendBudget::default();
        budget.measured_rtt(Duration::from_millis(40));
        assert!(budget.grant(start, 7, 1_200));
        assert!(!budget.grant(start + Duration::from_millis(39), 7, 1_200));
        assert!(budget.grant(start + Duration::from_millis(39), 8, 1_200));
        assert!(budget.grant(start + Duration::from_millis(40), 7, 1_200));
    }

    #[test]
    fn resending_stays_within_its_share() {
        let start = epoch();
        let mut budget = ResendBudget::default();
        let mut resent = 0u64;
        let ask = |budget: &mut ResendBudget, seq| u64::from(budget.grant(start, seq, 1_000)) * 1_000;
        for seq in 0..1_000 {
            resent += ask(&mut budget, seq);
        }
        assert!(resent <= CREDIT_BYTES_MAX);
        budget.sent(30_000);
        let before = resent;
        for seq in 1_000..2_000 {
            resent += ask(&mut budget, seq);
        }
        assert!((9_000..=11_000).contains(&(resent - before)));
    }
}
