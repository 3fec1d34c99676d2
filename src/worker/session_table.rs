//! The one table that all workers and signalling share: sessions by id and by ICE user name fragment.
//!
//! A session is made pending by signalling; the worker that gets its first DTLS record claims it and keeps it for life.
//! The packet path never comes here: only connectivity checks, claims and the API do.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::{Mutex, RwLock};
use sluice_signaling::{
    events::EventStreams,
    ice::IceCredentials,
    media_plane::{Direction, LayerChoice, SenderIds},
    sdp::Negotiated,
};

use super::ice_sessions::{IceSession, IceSessions, Overtaken, Restarted};
use crate::{
    media::{Codec, SessionId, StreamName},
    track::{EndReason, WorkerIndex},
    transport::{DtlsRole, TransportConfig},
};

/// How long a session waits for its client to connect: RFC 9725 section 4.2 leaves it to us; browsers give up after 30 s.
pub const PENDING_MAX: Duration = Duration::from_secs(30);
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
            packets: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
        }
    }

    /// The ICE session that signalling speaks about: the one that was begun last.
    pub fn present_ice(&self) -> Arc<IceSession> {
        self.ice.lock().present().clone()
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

    pub fn is_gone(&self) -> bool {
        self.gone.load(Ordering::Acquire)
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

/// The table is full (`webrtc.sessions_max`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server has {0} WebRTC sessions, as many as webrtc.sessions_max allows")]
pub struct TableFull(pub usize);

/// Who answers a check, and by which of its ICE sessions.
type Answering = (Arc<SessionEntry>, Arc<IceSession>);

/// All sessions, pending and claimed.
#[derive(Debug)]
pub struct SessionTable {
    sessions_max: usize,
    by_id: RwLock<HashMap<SessionId, Arc<SessionEntry>>>,
    /// A session stands here under every user name fragment of ours that it answers to: two at the most ([`IceSessions`]).
    by_ufrag: RwLock<HashMap<String, Answering>>,
}

impl SessionTable {
    pub fn new(sessions_max: usize) -> Self {
        Self { sessions_max, by_id: RwLock::default(), by_ufrag: RwLock::default() }
    }

    /// Puts a pending session in.
    ///
    /// # Errors
    /// [`TableFull`] at `sessions_max`.
    pub fn insert(&self, entry: Arc<SessionEntry>) -> Result<(), TableFull> {
        let mut by_id = self.by_id.write();
        if by_id.len() >= self.sessions_max {
            return Err(TableFull(self.sessions_max));
        }
        by_id.insert(entry.info.id, entry.clone());
        let ice = entry.info.ice.clone();
        self.by_ufrag.write().insert(ice.local.ufrag.clone(), (entry, ice));
        Ok(())
    }

    /// # Errors
    /// [`TableFull`] when [`Self::insert`] would say so now.
    pub fn check_room(&self) -> Result<(), TableFull> {
        if self.count() < self.sessions_max { Ok(()) } else { Err(TableFull(self.sessions_max)) }
    }

    pub fn by_id(&self, id: SessionId) -> Option<Arc<SessionEntry>> {
        self.by_id.read().get(&id).cloned()
    }

    /// By a user name fragment we gave the session, and the ICE session that has it.
    pub fn by_ufrag(&self, ufrag: &str) -> Option<Answering> {
        self.by_ufrag.read().get(ufrag).cloned()
    }

    /// Takes a session out: from now on its checks are not answered.
    pub fn remove(&self, entry: &SessionEntry) {
        entry.gone.store(true, Ordering::Release);
        self.by_id.write().remove(&entry.info.id);
        let mut by_ufrag = self.by_ufrag.write();
        for ice in entry.ice.lock().answering() {
            by_ufrag.remove(&ice.local.ufrag);
        }
    }

    /// Begins an ICE restart: checks with `local` are answered from now on, those of before too until a path is nominated.
    ///
    /// # Errors
    /// [`Overtaken`] when `remote` is not new. `Ok(None)`: the session is gone.
    pub fn restart_ice(
        &self,
        entry: &Arc<SessionEntry>,
        local: IceCredentials,
        remote: IceCredentials,
    ) -> Result<Option<Arc<IceSession>>, Overtaken> {
        let mut by_ufrag = self.by_ufrag.write();
        // Whoever removes the session says so first, and then waits for this lock to take its fragments out.
        if entry.is_gone() {
            return Ok(None);
        }
        let Restarted { begun, given_up } = entry.ice.lock().restart(local, remote)?;
        if let Some(given_up) = given_up {
            by_ufrag.remove(&given_up.local.ufrag);
        }
        by_ufrag.insert(begun.local.ufrag.clone(), (entry.clone(), begun.clone()));
        Ok(Some(begun))
    }

    /// A check of `ice` has nominated a path: what it replaces answers no more.
    pub fn nominated(&self, entry: &SessionEntry, ice: &IceSession) {
        if ice.number <= entry.ice_in_use() {
            return;
        }
        let mut by_ufrag = self.by_ufrag.write();
        if let Some(replaced) = entry.ice.lock().nominated(ice.number) {
            by_ufrag.remove(&replaced.local.ufrag);
            entry.ice_in_use.store(ice.number, Ordering::Relaxed);
        }
    }

    pub fn all(&self) -> Vec<Arc<SessionEntry>> {
        self.by_id.read().values().cloned().collect()
    }

    /// Sessions, pending and claimed.
    pub fn count(&self) -> usize {
        self.by_id.read().len()
    }

    /// Removes and returns unclaimed sessions whose client never came, or that were ended while pending.
    pub fn sweep_pending(&self, now: Instant, wall: SystemTime) -> Vec<Arc<SessionEntry>> {
        let overdue = |entry: &SessionEntry| {
            now.saturating_duration_since(entry.info.offered_at) >= PENDING_MAX || entry.end_due(wall).is_some()
        };
        let candidates: Vec<_> =
            self.by_id.read().values().filter(|entry| entry.owner().is_none() && overdue(entry)).cloned().collect();
        // Whoever takes the pending part decides: a worker that claims it, or we who drop it.
        candidates
            .into_iter()
            .filter(|entry| entry.pending.lock().take().is_some())
            .inspect(|entry| self.remove(entry))
            .collect()
    }
}

#[cfg(test)]
pub(super) mod testing {
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
    fn a_session_is_found_by_id_and_by_user_name_until_it_is_removed() {
        let table = SessionTable::new(1);
        let first = entry(epoch(), None);
        table.insert(first.clone()).unwrap();
        assert_eq!(table.check_room(), Err(TableFull(1)));
        assert_eq!(table.insert(entry(epoch(), None)), Err(TableFull(1)));
        assert!(table.by_id(first.info.id).is_some());
        assert!(table.by_ufrag(&first.info.ice.local.ufrag).is_some());
        table.remove(&first);
        assert!(first.is_gone());
        assert!(table.by_id(first.info.id).is_none());
        assert!(table.by_ufrag(&first.info.ice.local.ufrag).is_none());
        assert_eq!(table.count(), 0);
    }

    #[test]
    fn a_session_whose_client_never_comes_is_swept_and_a_claimed_one_stays() {
        let table = SessionTable::new(10);
        let (waiting, claimed) = (entry(epoch(), None), entry(epoch(), None));
        table.insert(waiting.clone()).unwrap();
        table.insert(claimed.clone()).unwrap();
        claimed.claim(WorkerIndex(0));
        let wall = SystemTime::UNIX_EPOCH;
        assert!(table.sweep_pending(epoch() + PENDING_MAX - Duration::from_millis(1), wall).is_empty());
        let swept = table.sweep_pending(epoch() + PENDING_MAX, wall);
        assert_eq!(swept.iter().map(|entry| entry.info.id).collect::<Vec<_>>(), [waiting.info.id]);
        assert!(waiting.claim(WorkerIndex(0)).is_none(), "it cannot be claimed any more");
        assert_eq!(table.count(), 1);
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

    fn restart(table: &SessionTable, entry: &Arc<SessionEntry>) -> Arc<IceSession> {
        let restarted = table.restart_ice(entry, IceCredentials::random(), IceCredentials::random());
        restarted.unwrap().expect("the session is there")
    }

    fn answers(table: &SessionTable, ice: &IceSession) -> bool {
        table.by_ufrag(&ice.local.ufrag).is_some_and(|(_, found)| found.number == ice.number)
    }

    #[test]
    fn both_user_names_lead_to_a_session_until_its_restart_has_nominated() {
        let (table, entry) = (SessionTable::new(1), entry(epoch(), None));
        table.insert(entry.clone()).unwrap();
        let first = entry.present_ice();
        let second = restart(&table, &entry);
        assert_eq!(entry.present_ice().number, second.number);
        assert!(answers(&table, &first) && answers(&table, &second));
        table.nominated(&entry, &first);
        assert!(answers(&table, &first) && answers(&table, &second));
        table.nominated(&entry, &second);
        assert!(!answers(&table, &first) && answers(&table, &second));
        assert_eq!(entry.ice_in_use(), 1);
    }

    #[test]
    fn user_names_of_a_session_are_bounded_however_often_it_restarts_and_go_with_it() {
        let (table, entry) = (SessionTable::new(1), entry(epoch(), None));
        table.insert(entry.clone()).unwrap();
        for round in 0..100 {
            let ice = restart(&table, &entry);
            if round % 3 == 0 {
                table.nominated(&entry, &ice);
            }
            assert!(table.by_ufrag.read().len() <= 2);
        }
        restart(&table, &entry);
        table.remove(&entry);
        assert!(table.by_ufrag.read().is_empty());
        let late = table.restart_ice(&entry, IceCredentials::random(), IceCredentials::random());
        assert!(matches!(late, Ok(None)), "a restart that comes after the end begins nothing");
        assert!(table.by_ufrag.read().is_empty());
    }
}
