//! The one table that all workers and signalling share: sessions by id and by ICE user name fragment.
//!
//! A session is made pending by signalling; the worker that gets its first DTLS record claims it and keeps it for life.
//! The packet path never comes here: only connectivity checks, claims and the API do.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::RwLock;
use sluice_signaling::ice::IceCredentials;

use super::{
    ice_sessions::{IceSession, Overtaken, Restarted},
    session_entry::SessionEntry,
};
use crate::media::SessionId;

/// How long a session waits for its client to connect: RFC 9725 section 4.2 leaves it to us; browsers give up after 30 s.
pub const PENDING_MAX: Duration = Duration::from_secs(30);
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
    /// A session stands here under every user name fragment of ours that it answers to: two at the most
    /// ([`IceSessions`](super::ice_sessions::IceSessions)).
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
        entry.set_gone();
        self.by_id.write().remove(&entry.info.id);
        let mut by_ufrag = self.by_ufrag.write();
        for ice in entry.ice().answering() {
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
        let Restarted { begun, given_up } = entry.ice().restart(local, remote)?;
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
        if let Some(replaced) = entry.ice().nominated(ice.number) {
            by_ufrag.remove(&replaced.local.ufrag);
            entry.set_ice_in_use(ice.number);
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
        candidates.into_iter().filter(|entry| entry.give_up_pending()).inspect(|entry| self.remove(entry)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{media::testing::epoch, track::WorkerIndex, worker::session_entry::testing::entry};

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
