//! Where streams are fetched from, and sent on to.

use serde::Serialize;
use utoipa::ToSchema;

use super::rfc3339;
use crate::relay::{PullReport, RelayReport};

/// Another server that a stream is fetched from.
#[derive(Debug, Serialize, ToSchema)]
pub struct Pull {
    /// Its URL without the stream key, and without anything else that may be secret.
    #[schema(example = "rtmp://a.example.net:1935/live")]
    pub source: String,
    /// It is connected while somebody wants the stream, and not all the time.
    pub on_demand: bool,
    /// `idle`: on demand, and nobody wants it; `waiting`: another primary publishes the stream; `connecting`; `standby`: connected, while a backup
    /// publisher is on air; `live` or `retrying`.
    #[schema(example = "live")]
    pub state: &'static str,
    /// Since when it is that.
    #[schema(example = "2026-01-31T12:00:05.000Z")]
    pub since: String,
    /// Connections begun so far.
    pub attempts: u32,
    pub bytes_received: u64,
    /// What is wrong at present.
    pub problem: Option<String>,
    /// What went wrong last, also after it has been mended.
    pub last_failure: Option<RelayFailure>,
}

/// A server that a stream is sent on to.
#[derive(Debug, Serialize, ToSchema)]
pub struct Push {
    /// Its URL without the stream key.
    #[schema(example = "rtmp://a.example.net:1935/live2")]
    pub target: String,
    /// `connecting`, `live` or `retrying`; `waiting` where as many streams are sent on already as may be.
    #[schema(example = "live")]
    pub state: &'static str,
    /// Since when it is that.
    #[schema(example = "2026-01-31T12:00:05.000Z")]
    pub since: String,
    /// Connections begun so far.
    pub attempts: u32,
    pub bytes_sent: u64,
    /// What is wrong at present, or what of the stream is not sent.
    pub problem: Option<String>,
    /// What went wrong last, also after it has been mended.
    pub last_failure: Option<RelayFailure>,
}

/// Why a target was not sent a stream, or no longer; or why nothing came from a source.
#[derive(Debug, Serialize, ToSchema)]
pub struct RelayFailure {
    #[schema(example = "it closed the connection")]
    pub reason: String,
    #[schema(example = "2026-01-31T12:00:05.000Z")]
    pub at: String,
}

impl From<PullReport> for Pull {
    fn from(report: PullReport) -> Self {
        Self {
            source: report.source,
            on_demand: report.on_demand,
            state: report.state.as_str(),
            since: rfc3339(report.since),
            attempts: report.attempts,
            bytes_received: report.received_bytes,
            problem: report.problem,
            last_failure: report.last_failure.map(|(reason, at)| RelayFailure { reason, at: rfc3339(at) }),
        }
    }
}

impl From<RelayReport> for Push {
    fn from(report: RelayReport) -> Self {
        Self {
            target: report.target,
            state: report.state.as_str(),
            since: rfc3339(report.since),
            attempts: report.attempts,
            bytes_sent: report.sent_bytes,
            problem: report.problem,
            last_failure: report.last_failure.map(|(reason, at)| RelayFailure { reason, at: rfc3339(at) }),
        }
    }
}
