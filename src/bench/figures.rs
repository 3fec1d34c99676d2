//! Distributions of durations, and what is said of them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Durations from 1 us to 1 min, to three digits.
#[derive(Debug, Clone)]
pub struct Delays(Histogram<u64>);

const MAX_US: u64 = 60_000_000;

impl Default for Delays {
    fn default() -> Self {
        #[expect(clippy::expect_used, reason = "a test shows that the histogram takes these constants")]
        Self(Histogram::new_with_bounds(1, MAX_US, 3).expect("constants that the histogram takes"))
    }
}

impl Delays {
    /// Durations outside the range count as its ends.
    pub fn note(&mut self, delay: Duration) {
        self.0.saturating_record((delay.as_micros() as u64).clamp(1, MAX_US));
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The duration that a share of all (0 to 1) does not exceed; `None` of nothing.
    pub fn at(&self, share: f64) -> Option<Duration> {
        (self.count() > 0).then(|| Duration::from_micros(self.0.value_at_quantile(share)))
    }

    pub fn summary(&self) -> Option<Summary> {
        let ms = |share| self.at(share).map(|delay| round(delay.as_secs_f64() * 1e3, 3));
        Some(Summary { count: self.count(), p50_ms: ms(0.5)?, p95_ms: ms(0.95)?, p99_ms: ms(0.99)?, max_ms: ms(1.0)? })
    }
}

impl FromIterator<Duration> for Delays {
    fn from_iter<I: IntoIterator<Item = Duration>>(delays: I) -> Self {
        let mut all = Self::default();
        delays.into_iter().for_each(|delay| all.note(delay));
        all
    }
}

/// A distribution in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Summary {
    pub count: u64,
    pub p50_ms: f64,
    pub p95_ms: f64,
    pub p99_ms: f64,
    pub max_ms: f64,
}

/// Digits that mean nothing are left out of JSON.
pub fn round(value: f64, digits: i32) -> f64 {
    let scale = 10f64.powi(digits);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_what_was_noted() {
        let delays: Delays = (1..=100).map(Duration::from_millis).collect();
        let summary = delays.summary().unwrap();
        assert_eq!(summary.count, 100);
        assert!((summary.p50_ms - 50.0).abs() < 0.1 && (summary.p95_ms - 95.0).abs() < 0.1);
        assert_eq!(Delays::default().summary(), None);
    }
}
