//! What the API asks of whatever keeps the sessions, as a trait: who watches, and end it.

use std::{net::SocketAddr, time::SystemTime};

use crate::{
    media::{SessionId, StreamName},
    track::EndReason,
};

/// One viewer's session, as it is now.
#[derive(Debug, Clone)]
pub struct ViewerState {
    pub session: SessionId,
    /// The HTTP client's address.
    pub from: SocketAddr,
    pub user_agent: String,
    /// The token's `sub`.
    pub subject: Option<String>,
    pub since: SystemTime,
    /// Media can flow: ICE and DTLS are done.
    pub connected: bool,
    pub packets_sent: u64,
    pub bytes_sent: u64,
}

/// The viewers' sessions. Calls return at once.
pub trait Sessions: Send + Sync {
    fn viewers(&self, stream: &StreamName) -> Vec<ViewerState>;
    /// False when there is no such session (any more).
    fn end_session(&self, session: SessionId, reason: EndReason) -> bool;
}
