//! A session as everybody may see it: what was told at its making, who has it, how it stands. What moves is atomic.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Mutex, MutexGuard};
use sluice_signaling::{
    events::EventStreams,
    media_plane::{Direction, LayerChoice, SenderIds},
    priority::Priority,
    sdp::Negotiated,
};

use super::ice_sessions::{IceSession, IceSessions};
use crate::{
    egress::whep::ViewerPath,
    media::{Codec, SessionId, StreamName},
    track::{EndReason, WorkerIndex},
    transport::{DtlsRole, TransportConfig},
};

/// Addresses one session may be checked from at a time; a client has a handful of candidates, behind two or three addresses
/// each, and may change its network a few times before the old ones are forgotten.
const LIVE_PATHS_PER_SESSION_MAX: u8 = 32;

const UNCLAIMED: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;

/// What the worker needs once it has claimed the session.
#[derive(Debug)]
pub struct Pending {
    pub transport: TransportConfig,
    pub media: Negotiated,
    /// For egress, one entry per accepted media section.
    pub senders: Vec<SenderIds>,
}

/// What is told about a session at its making.
#[derive(Debug, Clone)]
pub struct SessionInfo {
    pub id: SessionId,
    pub direction: Direction,
    pub stream: StreamName,
    /// The first one, of the offer and the answer.
    pub ice: Arc<IceSession>,
    /// The HTTP client.
    pub from: SocketAddr,
    pub user_agent: String,
    /// The `m=` line of pictures in the session's descriptions, from 0.
    pub video_line: Option<usize>,
    pub subject: Option<String>,
    /// Of a publisher.
    pub priority: Priority,
    pub expires: Option<SystemTime>,
    /// What was agreed on for pictures, each codec once.
    pub video_codecs: Vec<Codec>,
    pub since: SystemTime,
    pub offered_at: Instant,
}

/// A session as everybody may see it. What moves is atomic.
#[derive(Debug)]
pub struct SessionEntry {
    pub info: SessionInfo,
    ice: Mutex<IceSessions>,
    /// The number of the ICE session in use.
    ice_in_use: AtomicU32,
    pending: Mutex<Option<Box<Pending>>>,
    owner: AtomicU32,
    /// 0: goes on; otherwise an [`EndReason`], numbered by [`END_REASONS`].
    end: AtomicU8,
    /// Gone for good: routes to it are to be forgotten.
    gone: AtomicBool,
    expires_unix_ms: AtomicU64,
    connected: AtomicBool,
    /// Over, but its client should come back with a new offer.
    come_again: AtomicBool,
    events: EventStreams,
    live_paths: AtomicU8,
    /// What its viewer chose of the picture's layers.
    layer: Mutex<LayerChoice>,
    /// What its viewer has told of its path.
    path: Mutex<ViewerPath>,
    packets: AtomicU64,
    bytes: AtomicU64,
}

const END_REASONS: [EndReason; 5] =
    [EndReason::Deleted, EndReason::Superseded, EndReason::Kicked, EndReason::TokenExpired, EndReason::Draining];

impl SessionEntry {
    pub fn new(info: SessionInfo, pending: Pending) -> Self {
        Self {
            expires_unix_ms: AtomicU64::new(info.expires.map_or(NEVER, unix_ms)),
            ice: Mutex::new(IceSessions::new(info.ice.clone())),
            ice_in_use: AtomicU32::new(info.ice.number),
            info,
            pending: Mutex::new(Some(Box::new(pending))),
            owner: AtomicU32::new(UNCLAIMED),
            end: AtomicU8::new(0),
            gone: AtomicBool::new(false),
            connected: AtomicBool::new(false),
            come_again: AtomicBool::new(false),
            events: EventStreams::default(),
            live_paths: AtomicU8::new(0),
            layer: Mutex::default(),
            path: Mutex::default(),
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The ICE session that signalling speaks about: the one that was begun last.
    pub fn present_ice(&self) -> Arc<IceSession> {
        self.ice.lock().present().clone()
    }

    /// Its ICE sessions, to begin one or to end it; the table follows.
    pub(super) fn ice(&self) -> MutexGuard<'_, IceSessions> {
        self.ice.lock()
    }

    /// A check of this ICE session, a restarted one, has nominated a path.
    pub(super) fn set_ice_in_use(&self, number: u32) {
        self.ice_in_use.store(number, Ordering::Relaxed);
    }

    /// The number of the ICE session that has nominated a path last; what belongs to an earlier one is out of use.
    pub fn ice_in_use(&self) -> u32 {
        self.ice_in_use.load(Ordering::Relaxed)
    }

    /// Takes the session for a worker; `None` when another was first, or it has ended.
    pub fn claim(&self, worker: WorkerIndex) -> Option<Box<Pending>> {
        let pending = self.pending.lock().take()?;
        self.owner.store(u32::from(worker.0), Ordering::Release);
        Some(pending)
    }

    /// Takes it from whoever might still claim it; false when a worker has.
    pub(super) fn give_up_pending(&self) -> bool {
        self.pending.lock().take().is_some()
    }

    pub fn owner(&self) -> Option<WorkerIndex> {
        let owner = self.owner.load(Ordering::Acquire);
        (owner != UNCLAIMED).then_some(WorkerIndex(owner as u16))
    }

    /// The DTLS role that the session will have; `None` once it is claimed.
    pub fn dtls_role(&self) -> Option<DtlsRole> {
        self.pending.lock().as_ref().map(|pending| pending.transport.role)
    }

    /// Asks for the session's end; the first reason stands.
    pub fn request_end(&self, reason: EndReason) {
        let number = END_REASONS.iter().position(|known| *known == reason).map_or(0, |at| at as u8 + 1);
        let _ = self.end.compare_exchange(0, number, Ordering::AcqRel, Ordering::Relaxed);
    }

    /// Why the session is to end now, if it is: asked for, or its token's time is over.
    pub fn end_due(&self, now: SystemTime) -> Option<EndReason> {
        let asked = usize::from(self.end.load(Ordering::Acquire));
        let expired =
            || (unix_ms(now) >= self.expires_unix_ms.load(Ordering::Relaxed)).then_some(EndReason::TokenExpired);
        asked.checked_sub(1).and_then(|at| END_REASONS.get(at).copied()).or_else(expired)
    }

    /// The viewer chose among the layers of the picture; its worker is to be told.
    pub fn choose_layer(&self, choice: LayerChoice) {
        *self.layer.lock() = choice;
    }

    pub fn layer_choice(&self) -> LayerChoice {
        self.layer.lock().clone()
    }

    /// When the session ends as things stand; `None`: never by itself.
    pub fn expires(&self) -> Option<SystemTime> {
        let ms = self.expires_unix_ms.load(Ordering::Relaxed);
        (ms != NEVER).then(|| SystemTime::UNIX_EPOCH + Duration::from_millis(ms))
    }

    pub fn renew(&self, expires: Option<SystemTime>) {
        self.expires_unix_ms.store(expires.map_or(NEVER, unix_ms), Ordering::Relaxed);
    }

    /// Counts a path in, until what is returned is dropped; `None` when the session has too many as it is.
    pub fn count_path(self: &Arc<Self>) -> Option<LivePath> {
        self.live_paths
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| (n < LIVE_PATHS_PER_SESSION_MAX).then_some(n + 1))
            .ok()?;
        Some(LivePath(self.clone()))
    }

    /// The session ends over something that a new one would not have.
    pub fn set_come_again(&self) {
        self.come_again.store(true, Ordering::Release);
    }

    /// Whether the client of an ended session should come back with a new offer: when it was ended for this, or to make room.
    pub fn should_come_again(&self, now: SystemTime) -> bool {
        self.come_again.load(Ordering::Acquire)
            || matches!(self.end_due(now), Some(EndReason::Kicked | EndReason::Draining))
    }

    pub fn events(&self) -> &EventStreams {
        &self.events
    }

    pub fn set_connected(&self) {
        self.connected.store(true, Ordering::Relaxed);
    }

    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    pub(super) fn set_gone(&self) {
        self.gone.store(true, Ordering::Release);
    }

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
    }

    pub(super) fn set_path(&self, path: ViewerPath) {
        *self.path.lock() = path;
    }

    /// What the viewer has told of its path.
    pub fn path(&self) -> ViewerPath {
        *self.path.lock()
    }

    /// Only the owner counts, so that no bus is locked.
    pub fn count(&self, packets: u32, bytes: u32) {
        let add = |to: &AtomicU64, more: u32| to.store(to.load(Ordering::Relaxed) + u64::from(more), Ordering::Relaxed);
        add(&self.packets, packets);
        add(&self.bytes, bytes);
    }

    /// Packets and bytes carried so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.packets.load(Ordering::Relaxed), self.bytes.load(Ordering::Relaxed))
    }
}

/// One address of a session's peer, counted until it is forgotten.
#[derive(Debug)]
pub struct LivePath(Arc<SessionEntry>);

impl Drop for LivePath {
    fn drop(&mut self) {
        self.0.live_paths.fetch_sub(1, Ordering::Relaxed);
    }
}

fn unix_ms(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[cfg(test)]
pub(super) mod testing {
    use sluice_signaling::ice::IceCredentials;

    use super::*;
    use crate::transport::Certificate;

    /// A viewer's session, pending.
    pub fn entry(offered_at: Instant, expires: Option<SystemTime>) -> Arc<SessionEntry> {
        let info = SessionInfo {
            id: SessionId::random(),
            direction: Direction::Egress,
            stream: "cam".parse().expect("a good name"),
            ice: Arc::new(IceSession::first(IceCredentials::random(), IceCredentials::random())),
            from: SocketAddr::from(([127, 0, 0, 1], 9)),
            user_agent: String::new(),
            video_line: None,
            subject: None,
            priority: Priority::default(),
            expires,
            video_codecs: Vec::new(),
            since: SystemTime::UNIX_EPOCH,
            offered_at,
        };
        let transport = TransportConfig {
            role: DtlsRole::Server,
            remote_fingerprints: Vec::new(),
            certificate: Certificate::generate().expect("a certificate"),
            consent_timeout: Duration::from_secs(30),
        };
        Arc::new(SessionEntry::new(info, Pending { transport, media: Negotiated::default(), senders: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use super::{testing::entry, *};
    use crate::media::testing::epoch;

    #[test]
    fn one_worker_claims_a_session_and_no_other() {
        let entry = entry(epoch(), None);
        assert_eq!(entry.owner(), None);
        assert!(entry.claim(WorkerIndex(1)).is_some());
        assert!(entry.claim(WorkerIndex(0)).is_none());
        assert_eq!(entry.owner(), Some(WorkerIndex(1)));
    }

    #[test]
    fn a_session_ends_with_its_token_unless_renewed_or_when_asked() {
        let at = |s| SystemTime::UNIX_EPOCH + Duration::from_secs(s);
        let entry = entry(epoch(), Some(at(100)));
        assert_eq!(entry.end_due(at(99)), None);
        assert_eq!(entry.end_due(at(100)), Some(EndReason::TokenExpired));
        entry.renew(Some(at(200)));
        assert_eq!(entry.end_due(at(100)), None);
        assert_eq!(entry.expires(), Some(at(200)));
        for reason in END_REASONS {
            let entry = testing::entry(epoch(), None);
            entry.request_end(reason);
            entry.request_end(EndReason::Draining);
            assert_eq!(entry.end_due(at(0)), Some(reason), "the first reason stands");
        }
    }

    #[test]
    fn paths_of_one_session_are_bounded_at_a_time_and_not_over_its_life() {
        let entry = entry(epoch(), None);
        for _ in 0..3 {
            let paths: Vec<_> = (0..100).filter_map(|_| entry.count_path()).collect();
            assert_eq!(paths.len(), usize::from(LIVE_PATHS_PER_SESSION_MAX));
        }
    }
}
