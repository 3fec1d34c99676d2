//! Why a stream that is fetched from another server ended, whichever the protocol.

use std::fmt;

use crate::track::EndReason;

/// Why nothing more is fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PullEnding {
    /// The source ended the stream, or closed the connection.
    Over(String),
    /// It refuses, or what it sends makes no sense.
    Failed(String),
    /// A deadline passed.
    Silent(String),
    /// Somebody else publishes the stream here.
    Busy,
    /// The tree or the server ended it.
    Ended(EndReason),
}

impl PullEnding {
    /// The metric's label.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::Over(_) | Self::Ended(EndReason::Deleted) => "ended",
            Self::Failed(_) => "failed",
            Self::Silent(_) => "timeout",
            Self::Busy => "refused",
            Self::Ended(EndReason::Superseded) => "superseded",
            Self::Ended(EndReason::Kicked) => "kicked",
            Self::Ended(EndReason::TokenExpired) => "expired",
            Self::Ended(EndReason::Draining) => "draining",
        }
    }
}

impl fmt::Display for PullEnding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Over(reason) | Self::Failed(reason) | Self::Silent(reason) => f.write_str(reason),
            Self::Busy => f.write_str("somebody else publishes the stream"),
            Self::Ended(reason) => reason.fmt(f),
        }
    }
}
