//! Pacing: how much may go to one viewer at once.

use std::time::Instant;

/// What may be sent at once to a viewer at the live edge: a keyframe of usual size goes out whole, and a quarter of a
/// browser's socket buffer (208 KiB by Linux's default) is enough of it.
const LIVE_BURST_BYTES: i64 = 56 * 1024;
/// What may be sent at once to a viewer that catches up: the rate is meant, not the burst. One call's worth.
const CATCH_UP_BURST_BYTES: i64 = 12 * 1024;

/// A token bucket of bytes.
#[derive(Debug)]
pub struct Pace {
    /// In bytes per second.
    rate: i64,
    /// Below 0 when the last packet took more than there was.
    credit_bytes: i64,
    /// When credit was last added.
    at: Instant,
}

impl Pace {
    /// `rate_mbps` in megabits per second, at least 1.
    pub fn new(now: Instant, rate_mbps: u32) -> Self {
        Self { rate: i64::from(rate_mbps.max(1)) * 125_000, credit_bytes: CATCH_UP_BURST_BYTES, at: now }
    }

    /// Adds what time has earned.
    pub fn refill(&mut self, now: Instant, catching_up: bool) {
        let most = if catching_up { CATCH_UP_BURST_BYTES } else { LIVE_BURST_BYTES };
        let micros = now.saturating_duration_since(self.at).as_micros().min(1_000_000) as i64;
        self.credit_bytes = (self.credit_bytes + self.rate * micros / 1_000_000).min(most);
        self.at = now;
    }

    /// Whether a packet may go out now. It may overdraw what is left, else a large one might never go.
    pub fn allows(&self) -> bool {
        self.credit_bytes > 0
    }

    pub fn spend(&mut self, bytes: usize) {
        self.credit_bytes -= bytes as i64;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn the_rate_is_kept_whatever_the_size_of_the_steps() {
        for step_micros in [500, 1_000, 2_000] {
            let mut now = epoch();
            let mut pace = Pace::new(now, 40);
            let mut sent = 0;
            for _ in 0..(1_000_000 / step_micros) {
                pace.refill(now, true);
                while pace.allows() {
                    pace.spend(1_200);
                    sent += 1_200;
                }
                now += Duration::from_micros(step_micros);
            }
            assert!((4_900_000..5_100_000).contains(&sent), "40 Mb/s are 5 MB a second, sent {sent}");
        }
    }

    #[test]
    fn idle_time_earns_no_more_than_the_burst() {
        let start = epoch();
        let mut pace = Pace::new(start, 40);
        pace.refill(start + Duration::from_secs(60), false);
        let mut sent = 0;
        while pace.allows() {
            pace.spend(1_200);
            sent += 1_200;
        }
        assert!(sent <= LIVE_BURST_BYTES + 1_200);
    }
}
