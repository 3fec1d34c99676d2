//! Who publishes, what is asked of them, and what they are told.

use std::{fmt, net::SocketAddr};

use sluice_signaling::priority::Priority;

use super::{Protocol, TrackIndex};
use crate::{media::SessionId, track::LayerIndex};

/// Who publishes.
#[derive(Debug, Clone)]
pub struct PublisherInfo {
    pub session: SessionId,
    pub protocol: Protocol,
    pub priority: Priority,
    pub remote: SocketAddr,
    /// HTTP user agent or RTMP `flashVer`; empty when unknown.
    pub user_agent: String,
    /// The token's `sub`.
    pub subject: Option<String>,
}

/// Something the publisher should know and change, in words fit for the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Stable, for programs: `b-frames-dropped`.
    pub code: &'static str,
    pub text: String,
}

/// Why a session is ended from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its client asked for it (DELETE on the session's URL).
    Deleted,
    /// Another publisher took the stream.
    Superseded,
    /// An operator ended it by the API.
    Kicked,
    /// Its token's `exp` has come.
    TokenExpired,
    /// The server is stopping.
    Draining,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "ended by its client",
            Self::Superseded => "another publisher took the stream over",
            Self::Kicked => "ended by an operator",
            Self::TokenExpired => "the token has expired",
            Self::Draining => "the server is stopping",
        })
    }
}

/// What the tree asks of whoever publishes. Calls come from any thread, some under the stream's lock: post the wish and
/// return; never block, and never call the stream back.
pub trait PublisherControl: Send + Sync {
    fn request_keyframe(&self, track: TrackIndex, layer: LayerIndex);
    fn end(&self, reason: EndReason);

    /// It may pass this on, where its protocol has a way to.
    fn notice(&self, _notice: &Notice) {}
}
