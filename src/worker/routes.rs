//! Whose datagrams come from where: addresses learned from connectivity checks, forgotten when they fall silent.
//! Sans-I/O: the worker says when, and which addresses are in use.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    links::RouteKey,
    session_entry::{LivePath, SessionEntry},
};
use crate::transport::Check;

/// An address is forgotten when nothing has come from it for so long: consent without a check lasts 30 s (RFC 7675 section 5.1),
/// and Chromium checks the pairs that it keeps in reserve every 25 s.
const SILENT_MAX: Duration = Duration::from_secs(30);

/// So soon where an ICE restart has nominated another address since: nothing more is to come. A client that restarts again and
/// again must not fill its share of addresses with those that it has left.
const REPLACED_SILENT_MAX: Duration = Duration::from_secs(2);

/// Where datagrams from an address go.
pub struct Route {
    pub entry: Arc<SessionEntry>,
    /// Here: the session's slot.
    pub slot: Option<usize>,
    /// The last one.
    pub check: Check,
    heard: Instant,
    /// Absent where another worker has answered the check and counts it.
    counted: Option<LivePath>,
}

/// A check that was answered.
pub struct Checked {
    pub entry: Arc<SessionEntry>,
    pub slot: Option<usize>,
    pub check: Check,
    /// From [`Routes::admit`], on the worker that answered.
    pub admitted: Option<Admitted>,
}

/// Leave to learn an address.
#[derive(Debug)]
pub enum Admitted {
    Known,
    New(LivePath),
}

/// All that this worker has answered a check from, and what others have told it. A session has as many as
/// [`SessionEntry::count_path`] allows on the workers that answer, and as many again on the one that owns it.
#[derive(Default)]
pub struct Routes(HashMap<RouteKey, Route>);

impl Routes {
    /// Whether a check for `entry` from here is to be answered; `None` when the session has too many addresses.
    pub fn admit(&self, key: &RouteKey, entry: &Arc<SessionEntry>) -> Option<Admitted> {
        let known = self.0.get(key).is_some_and(|route| Arc::ptr_eq(&route.entry, entry) && route.counted.is_some());
        if known { Some(Admitted::Known) } else { entry.count_path().map(Admitted::New) }
    }

    /// From now on the address leads to the session of the check. The newest session of a client has its address.
    pub fn learn(&mut self, now: Instant, key: RouteKey, checked: Checked) {
        let Checked { entry, slot, check, admitted } = checked;
        let before = self.0.remove(&key).filter(|route| Arc::ptr_eq(&route.entry, &entry));
        let counted = match admitted {
            Some(Admitted::New(path)) => Some(path),
            Some(Admitted::Known) | None => before.and_then(|route| route.counted),
        };
        self.0.insert(key, Route { entry, slot, check, heard: now, counted });
    }

    pub fn get(&self, key: &RouteKey) -> Option<&Route> {
        self.0.get(key)
    }

    /// A datagram came from there for a session of another worker, which alone knows whether the address is in use.
    pub fn heard(&mut self, now: Instant, key: &RouteKey) {
        if let Some(route) = self.0.get_mut(key) {
            route.heard = now;
        }
    }

    /// The session is over; the address may meanwhile lead to a newer one.
    pub fn remove(&mut self, key: &RouteKey, entry: &Arc<SessionEntry>) {
        if self.0.get(key).is_some_and(|route| Arc::ptr_eq(&route.entry, entry)) {
            self.0.remove(key);
        }
    }

    /// Forgets ended sessions, and silent addresses but those `in_use` by a session here. Gives the latter with their slots.
    pub fn forget_silent(
        &mut self,
        now: Instant,
        in_use: impl Fn(&RouteKey, usize) -> bool,
    ) -> Vec<(RouteKey, Option<usize>)> {
        let is_silent = |key: &RouteKey, route: &Route| {
            let replaced = route.check.ice_session < route.entry.ice_in_use();
            let silent_max = if replaced { REPLACED_SILENT_MAX } else { SILENT_MAX };
            now >= route.heard + silent_max && !route.slot.is_some_and(|slot| in_use(key, slot))
        };
        self.0.retain(|_, route| !route.entry.is_gone());
        self.0.extract_if(|key, route| is_silent(key, route)).map(|(key, route)| (key, route.slot)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use sluice_signaling::ice::IceCredentials;

    use super::{
        super::{session_entry::testing, session_table::SessionTable},
        *,
    };
    use crate::{media::testing::epoch, transport::Link};

    fn key(port: u16) -> RouteKey {
        (SocketAddr::from(([192, 0, 2, 1], port)), Link::Udp)
    }

    /// A check from `port` that is answered here for a session of ours; whether it was.
    fn check(routes: &mut Routes, now: Instant, port: u16, entry: &Arc<SessionEntry>) -> bool {
        let Some(admitted) = routes.admit(&key(port), entry) else { return false };
        let admitted = Some(admitted);
        routes.learn(
            now,
            key(port),
            Checked { entry: entry.clone(), slot: Some(0), check: Check::of_first(true), admitted },
        );
        true
    }

    #[test]
    fn a_session_may_roam_for_ever_but_not_have_too_many_addresses_at_a_time() {
        let (mut routes, entry) = (Routes::default(), testing::entry(epoch(), None));
        let mut now = epoch();
        for port in 1..1_000 {
            assert!(check(&mut routes, now, port, &entry), "address {port}");
            assert!(check(&mut routes, now, port, &entry), "the same once more");
            now += Duration::from_secs(2);
            routes.forget_silent(now, |used, _| *used == key(port));
        }
        assert!(routes.0.len() <= 16);

        let answered = (2_000..3_000).filter(|port| check(&mut routes, now, *port, &entry)).count();
        assert!(answered < 32, "{answered} at once");
        assert!(check(&mut routes, now, 2_000, &entry), "those it has go on");
        now += SILENT_MAX;
        routes.forget_silent(now, |_, _| false);
        assert!(check(&mut routes, now, 4_000, &entry));
    }

    #[test]
    fn silent_addresses_are_forgotten_but_the_one_in_use() {
        let (mut routes, entry) = (Routes::default(), testing::entry(epoch(), None));
        (1..=3).for_each(|port| assert!(check(&mut routes, epoch(), port, &entry)));
        routes.heard(epoch() + Duration::from_secs(1), &key(3));
        let later = epoch() + SILENT_MAX;
        assert_eq!(routes.forget_silent(later, |used, slot| (*used, slot) == (key(1), 0)), [(key(2), Some(0))]);
        assert!(routes.get(&key(1)).is_some() && routes.get(&key(3)).is_some());
    }

    #[test]
    fn an_address_leads_to_the_newest_session_and_counts_for_that_alone() {
        let mut routes = Routes::default();
        let (older, newer) = (testing::entry(epoch(), None), testing::entry(epoch(), None));
        assert!(check(&mut routes, epoch(), 1, &older));
        assert!(check(&mut routes, epoch(), 1, &newer));
        routes.remove(&key(1), &older);
        assert!(routes.get(&key(1)).is_some_and(|route| Arc::ptr_eq(&route.entry, &newer)));
        assert_eq!((2..100).filter(|port| check(&mut routes, epoch(), *port, &older)).count(), 32);
        routes.remove(&key(1), &newer);
        assert!(routes.get(&key(1)).is_none());
    }

    #[test]
    fn what_another_worker_tells_is_counted_there() {
        let (mut routes, entry) = (Routes::default(), testing::entry(epoch(), None));
        for port in 1..100 {
            let told = Checked { entry: entry.clone(), slot: Some(0), check: Check::of_first(false), admitted: None };
            routes.learn(epoch(), key(port), told);
        }
        assert!(check(&mut routes, epoch(), 1, &entry));
    }

    #[test]
    fn a_client_may_restart_ice_again_and_again() {
        let table = SessionTable::new(1);
        let (mut routes, entry) = (Routes::default(), testing::entry(epoch(), None));
        table.insert(entry.clone()).unwrap();
        let mut now = epoch();
        let mut ports = 1..;
        for restart in 0..100 {
            let ice = table.restart_ice(&entry, IceCredentials::random(), IceCredentials::random()).unwrap().unwrap();
            // Chromium takes new sockets for every restart, one for each of its interfaces.
            let mut last = 0;
            for port in ports.by_ref().take(8) {
                let admitted = routes.admit(&key(port), &entry);
                assert!(admitted.is_some(), "restart {restart}, address {port}");
                let check = Check { nominated: true, ice_session: ice.number };
                routes.learn(now, key(port), Checked { entry: entry.clone(), slot: Some(0), check, admitted });
                last = port;
            }
            table.nominated(&entry, &ice);
            now += REPLACED_SILENT_MAX;
            routes.forget_silent(now, |used, _| *used == key(last));
        }
        assert!(routes.get(&key(799)).is_some(), "those of the present ICE session are kept in reserve");
    }
}
