//! Why an RTMP session ended: for the log, the metrics and the peer.

use std::fmt;

use crate::track::EndReason;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// The peer closed the connection, after or without `deleteStream`.
    PeerLeft,
    /// What it asked for was denied; it has been told.
    Denied(String),
    /// What it sends is not taken.
    Refused(String),
    /// What it sends makes no sense, or breaks a bound.
    Failed(String),
    /// A deadline passed.
    Stalled(&'static str),
    /// The tree or the server ended it.
    Ended(EndReason),
}

impl Ending {
    /// The metric's label.
    pub fn outcome(&self) -> &'static str {
        match self {
            Self::PeerLeft | Self::Ended(EndReason::Deleted) => "ended",
            Self::Denied(_) | Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Stalled(_) => "timeout",
            Self::Ended(EndReason::Superseded) => "superseded",
            Self::Ended(EndReason::Kicked) => "kicked",
            Self::Ended(EndReason::TokenExpired) => "expired",
            Self::Ended(EndReason::Draining) => "draining",
        }
    }

    /// Code and description of the status that tells the peer; none when it left, or was told already.
    pub fn status(&self) -> Option<(&'static str, String)> {
        let code = match self {
            Self::PeerLeft | Self::Denied(_) | Self::Ended(EndReason::Deleted) => return None,
            Self::Refused(_) | Self::Failed(_) | Self::Stalled(_) => "NetStream.Failed",
            Self::Ended(EndReason::Superseded) => "NetStream.Publish.BadName",
            Self::Ended(EndReason::Kicked | EndReason::TokenExpired) => "NetStream.Publish.Denied",
            Self::Ended(EndReason::Draining) => "NetConnection.Connect.AppShutdown",
        };
        Some((code, self.to_string()))
    }
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PeerLeft => f.write_str("the publisher left"),
            Self::Denied(reason) | Self::Refused(reason) | Self::Failed(reason) => f.write_str(reason),
            Self::Stalled(what) => f.write_str(what),
            Self::Ended(reason) => reason.fmt(f),
        }
    }
}
