//! What a process costs.

use std::time::{Duration, Instant};

/// Ticks a second of the times in `/proc` (`USER_HZ`): the same on every Linux.
const TICKS_PER_S: u64 = 100;

/// Measures the processor time of a process, where the system tells.
#[derive(Debug)]
pub(super) struct Usage {
    process: u32,
    last: (Instant, Duration),
}

impl Usage {
    pub fn new(process: u32, now: Instant) -> Self {
        Self { process, last: (now, Duration::ZERO) }
    }

    /// Since the last call: processor time, and its share of one core.
    pub fn measure(&mut self, now: Instant) -> Option<(Duration, f64)> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.process)).ok()?;
        let total = processor_time(&stat)?;
        let (at, before) = std::mem::replace(&mut self.last, (now, total));
        let spent = total.saturating_sub(before);
        let passed = now.saturating_duration_since(at);
        Some((spent, spent.as_secs_f64() / passed.as_secs_f64().max(0.001)))
    }
}

/// In user and in kernel mode, of all threads. The second field is a name, which may hold anything but the last parenthesis.
fn processor_time(stat: &str) -> Option<Duration> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map_while(|field| field.parse::<u64>().ok());
    let ticks = times.next()? + times.next()?;
    Some(Duration::from_millis(ticks * 1_000 / TICKS_PER_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_modes_count_whatever_the_name() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194304 9 0 0 0 250 50 3 4 20 0 9 0 1 2 3";
        assert_eq!(processor_time(stat), Some(Duration::from_secs(3)));
        assert_eq!(processor_time("7 (x) S 1"), None);
    }
}
