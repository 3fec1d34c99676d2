//! A session that this worker has claimed: its transport, and what it carries.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    inbox::{Inbox, Message},
    links::RouteKey,
    session_entry::{Pending, SessionEntry},
};
use crate::{
    egress::whep::WhepSender,
    ingest::whip::WhipReceiver,
    media::SessionId,
    track::{EndReason, LayerIndex, PublisherControl, TrackIndex, ViewerCount},
    transport::Transport,
};

/// What a session does once its transport is connected.
pub enum Role {
    /// Not connected yet.
    Connecting(Box<Pending>),
    Publisher(Box<WhipReceiver>),
    Viewer(Box<Viewer>),
}

/// A viewer and the stream it reads.
pub struct Viewer {
    pub sender: WhepSender,
    /// Place in the worker's local streams.
    pub stream: usize,
    pub _counted: ViewerCount,
}

pub struct Session {
    pub entry: Arc<SessionEntry>,
    pub transport: Transport,
    pub role: Role,
    /// Tells this session from the slot's earlier ones.
    pub tenant: u64,
    /// Addresses that lead here.
    pub routes: Vec<RouteKey>,
    /// The earliest look that is entered in the timers.
    pub timer: Option<Instant>,
    /// In the list of viewers that pacing holds back.
    pub is_paced: bool,
    /// In the list of publishers with packets not yet handed on.
    pub is_unflushed: bool,
}

impl Session {
    /// How long a viewer has been without anything of its stream; no time for all others.
    pub fn waits_since(&self, now: Instant) -> Duration {
        match &self.role {
            Role::Viewer(viewer) if !viewer.sender.has_begun() => {
                now.saturating_duration_since(self.entry.info.offered_at)
            }
            _ => Duration::ZERO,
        }
    }

    /// When the session wants to be looked at next.
    pub fn next_timeout(&self) -> Option<Instant> {
        let role = match &self.role {
            Role::Connecting(_) => None,
            Role::Publisher(receiver) => receiver.poll_timeout(),
            Role::Viewer(viewer) => viewer.sender.report_due(),
        };
        [self.transport.poll_timeout(), role].into_iter().flatten().min()
    }
}

/// How the tree reaches a publisher that lives on a worker.
pub struct PublisherHandle {
    pub inbox: Arc<Inbox>,
    pub session: SessionId,
    pub entry: Arc<SessionEntry>,
}

impl PublisherControl for PublisherHandle {
    fn request_keyframe(&self, track: TrackIndex, layer: LayerIndex) {
        self.inbox.post(Message::KeyframeRequested { session: self.session, track, layer });
    }

    fn end(&self, reason: EndReason) {
        self.entry.request_end(reason);
        self.inbox.post(Message::EndRequested(self.session));
    }
}
