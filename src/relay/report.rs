//! How it stands with a target, as the API shows it.

use std::{sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use tracing::warn;

use crate::metrics::Metrics;

/// How it stands with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayState {
    /// Others are sent on already, as many as may be.
    Waiting,
    Connecting,
    /// The target takes the stream.
    Live,
    /// The connection was lost, or did not come up; another try is waited for.
    Retrying,
}

impl RelayState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Retrying => "retrying",
        }
    }
}

/// A target of a stream.
#[derive(Debug, Clone)]
pub struct RelayReport {
    /// Its URL without the key.
    pub target: String,
    pub state: RelayState,
    /// Since when it is that.
    pub since: SystemTime,
    /// Connections begun so far.
    pub attempts: u32,
    /// Of all connections.
    pub sent_bytes: u64,
    /// What is wrong now, or left out, in words.
    pub problem: Option<String>,
    /// What went wrong last, and when, whatever came after it.
    pub last_failure: Option<(String, SystemTime)>,
}

impl RelayReport {
    pub(super) fn new(target: String, state: RelayState, since: SystemTime) -> Self {
        Self { target, state, since, attempts: 0, sent_bytes: 0, problem: None, last_failure: None }
    }
}

/// A report, and the counters that go with it.
#[derive(Clone)]
pub(super) struct Shown {
    report: Arc<Mutex<RelayReport>>,
    metrics: Arc<Metrics>,
}

impl Shown {
    pub(super) fn new(target: String, metrics: Arc<Metrics>) -> Self {
        let report = RelayReport::new(target, RelayState::Connecting, SystemTime::now());
        Self { report: Arc::new(Mutex::new(report)), metrics }
    }

    pub(super) fn report(&self) -> RelayReport {
        self.report.lock().clone()
    }

    pub(super) fn connecting(&self) {
        self.change(RelayState::Connecting, |report| report.attempts += 1);
    }

    /// Until the guard is dropped.
    pub(super) fn live(&self) -> Live {
        self.metrics.count_relay("push", "live");
        self.change(RelayState::Live, |report| report.problem = None);
        let gauge = self.metrics.relays("push");
        gauge.inc();
        Live(gauge)
    }

    pub(super) fn retrying(&self, reason: String) {
        self.metrics.count_relay("push", "failed");
        self.change(RelayState::Retrying, |report| {
            report.last_failure = Some((reason.clone(), SystemTime::now()));
            report.problem = Some(reason);
        });
    }

    pub(super) fn ended(&self) {
        self.metrics.count_relay("push", "ended");
    }

    /// What is left out of a connection that is live; logged when it is news.
    pub(super) fn leaves_out(&self, problem: Option<&str>) {
        let mut report = self.report.lock();
        if report.problem.as_deref() != problem {
            problem.inspect(|problem| warn!("{problem}"));
            report.problem = problem.map(str::to_owned);
        }
    }

    pub(super) fn sent(&self, bytes: u64) {
        self.metrics.relay_bytes.sent.inc_by(bytes);
        self.report.lock().sent_bytes += bytes;
    }

    fn change(&self, state: RelayState, change: impl FnOnce(&mut RelayReport)) {
        let mut report = self.report.lock();
        if report.state != state {
            (report.state, report.since) = (state, SystemTime::now());
        }
        change(&mut report);
    }
}

/// Counts a connection that is live.
pub(super) struct Live(prometheus_client::metrics::gauge::Gauge);

impl Drop for Live {
    fn drop(&mut self) {
        self.0.dec();
    }
}
