//! Two clocks held together: the kernel stamps received datagrams with wall time, everything else runs on [`Instant`].

use std::time::{Duration, Instant, SystemTime};

/// One reading of both clocks.
#[derive(Debug, Clone, Copy)]
pub struct Wall {
    pub now: Instant,
    /// Since 1970.
    unix: Duration,
}

impl Wall {
    pub fn read() -> Self {
        let now = Instant::now();
        Self { now, unix: SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() }
    }

    /// When a datagram reached its socket's queue; `None` (no kernel stamp) counts as now, a stamp ahead of the clock too.
    pub fn arrival(&self, kernel: Option<Duration>) -> Instant {
        let age = kernel.map_or(Duration::ZERO, |stamp| self.unix.saturating_sub(stamp));
        self.now.checked_sub(age).unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn a_stamp_becomes_its_age_before_now() {
        let wall = Wall { now: epoch() + Duration::from_secs(9), unix: Duration::from_secs(1_000) };
        assert_eq!(wall.arrival(Some(Duration::from_millis(999_990))), wall.now - Duration::from_millis(10));
        assert_eq!(wall.arrival(Some(Duration::from_secs(1_001))), wall.now, "a stepped clock gives no negative age");
        assert_eq!(wall.arrival(None), wall.now);
    }
}
