//! A layer's RTP time, widened, and carried on when the publisher starts anew with another SSRC or numbering.

use std::time::{Duration, Instant};

use crate::media::TimeExtender;

/// A sender report whose RTP time is further from where the layer's time should be is not believed: some senders report
/// before their clock runs.
const REPORT_DEVIATION_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Timeline {
    clock_rate_hz: u32,
    extender: TimeExtender,
    /// Added to the widened time, wrapping.
    offset: u64,
    /// The newest time given out, and when.
    latest: Option<(u64, Instant)>,
    restarting: bool,
}

impl Timeline {
    pub(super) fn new(clock_rate_hz: u32) -> Self {
        Self { clock_rate_hz, extender: TimeExtender::default(), offset: 0, latest: None, restarting: false }
    }

    /// The next timestamp has no relation to those before.
    pub(super) fn restart(&mut self) {
        self.restarting = self.latest.is_some();
    }

    /// Widens a packet's timestamp.
    pub(super) fn extend(&mut self, now: Instant, timestamp: u32) -> u64 {
        if self.restarting {
            self.restarting = false;
            self.extender = TimeExtender::default();
            let expected = self.expected(now).unwrap_or_default();
            self.offset = expected.wrapping_sub(self.extender.extend(timestamp));
        }
        let ticks = self.extender.extend(timestamp).wrapping_add(self.offset);
        if self.latest.is_none_or(|(latest, _)| ticks > latest) {
            self.latest = Some((ticks, now));
        }
        ticks
    }

    /// Widens a report's timestamp; `None` when it cannot be right.
    pub(super) fn of_report(&self, now: Instant, timestamp: u32) -> Option<u64> {
        let expected = self.expected(now).filter(|_| !self.restarting)?;
        let ticks = self.extender.clone().extend(timestamp).wrapping_add(self.offset);
        let most = REPORT_DEVIATION_MAX.as_secs() * u64::from(self.clock_rate_hz);
        (ticks.abs_diff(expected) <= most).then_some(ticks)
    }

    /// Where the layer's time is now, going by its clock rate; `None` before the first packet.
    fn expected(&self, now: Instant) -> Option<u64> {
        let (latest, at) = self.latest?;
        let elapsed = now.saturating_duration_since(at);
        Some(latest.saturating_add((elapsed.as_micros() * u128::from(self.clock_rate_hz) / 1_000_000) as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn time_goes_on_at_the_clock_rate_after_a_restart() {
        let mut time = Timeline::new(90_000);
        let first = time.extend(epoch(), u32::MAX - 5);
        assert_eq!(time.extend(epoch(), 3_000), first + 3_006);
        time.restart();
        assert_eq!(time.of_report(epoch(), 7), None, "no report before the first new packet");
        let later = epoch() + Duration::from_millis(100);
        assert_eq!(time.extend(later, 777_777_777), first + 3_006 + 9_000);
        assert_eq!(time.extend(later, 777_780_777), first + 3_006 + 12_000);
    }

    #[test]
    fn reports_are_widened_and_senseless_ones_refused() {
        let mut time = Timeline::new(48_000);
        assert_eq!(time.of_report(epoch(), 7), None);
        let first = time.extend(epoch(), 5_000);
        let later = epoch() + Duration::from_secs(30);
        assert_eq!(time.of_report(later, 5_000 + 30 * 48_000), Some(first + 30 * 48_000));
        assert_eq!(time.of_report(later, 5_000), None);
        assert_eq!(time.of_report(epoch(), 4_000), Some(first - 1_000));
    }
}
