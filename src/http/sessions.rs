//! What the API asks of whatever keeps the sessions, as a trait: how many, who watches, and end it.

use crate::{
    media::{SessionId, StreamName},
    track::EndReason,
    worker::{ViewerState, Workers},
};

/// The sessions of WHIP and WHEP. Calls return at once.
pub trait Sessions: Send + Sync {
    /// Pending and connected.
    fn count(&self) -> usize;
    fn viewers(&self, stream: &StreamName) -> Vec<ViewerState>;
    /// False when there is no such session (any more).
    fn end_session(&self, session: SessionId, reason: EndReason) -> bool;
}

impl Sessions for Workers {
    fn count(&self) -> usize {
        self.session_count()
    }

    fn viewers(&self, stream: &StreamName) -> Vec<ViewerState> {
        Self::viewers(self, stream)
    }

    fn end_session(&self, session: SessionId, reason: EndReason) -> bool {
        Self::end_session(self, session, reason)
    }
}
