//! When to try again. Sans-I/O but for its dice.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
pub(super) const LONGEST: Duration = Duration::from_secs(10);
/// A connection that was live for so long makes the next failure a first one.
pub(super) const STEADY: Duration = Duration::from_secs(60);

/// Waits grow from half a second to ten, each by chance up to a quarter longer, so that streams of one target do not come all at once.
#[derive(Debug, Default)]
pub(super) struct Retry {
    failures: u32,
}

impl Retry {
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }

    /// How long to wait after another failure.
    pub(super) fn next(&mut self) -> Duration {
        let wait = FIRST.saturating_mul(1 << self.failures.min(5)).min(LONGEST);
        self.failures = self.failures.saturating_add(1);
        wait + wait.mul_f64(rand::random::<f64>() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_bound() {
        let mut retry = Retry::default();
        for seconds in [0.5, 1.0, 2.0, 4.0, 8.0, 10.0, 10.0, 10.0] {
            let wait = retry.next().as_secs_f64();
            assert!((seconds..=seconds * 1.25).contains(&wait), "{wait} for {seconds}");
        }
        retry.reset();
        assert!(retry.next() < Duration::from_secs(1));
    }
}
