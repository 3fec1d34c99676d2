//! The paths that authenticated checks have validated, and the one that is in use (RFC 8445 section 8.1.1, as a lite agent sees it).

use std::time::{Duration, Instant};

use super::{Check, Path};

/// Pairs of a peer's interfaces (4) with our addresses (4); a roaming peer's old ones make room for new ones.
const PATHS_MAX: usize = 16;
/// A selected path whose checks stop for so long while others are checked is dead: the peer's address has changed on the way
/// (a NAT forgot it), and not every agent nominates again. Checks of the selected pair come every 5 s, give or take a fifth (RFC 7675
/// section 5.1): one may be lost.
const SELECTED_SILENT_MAX: Duration = Duration::from_secs(13);

/// How long datagrams are still taken from the paths of before an ICE restart, once that has nominated a path: the peer sends there
/// no more, but what it had sent may be on its way, behind a queue of a mobile network.
const REPLACED_MAX: Duration = Duration::from_secs(2);

#[derive(Debug, Clone, Copy)]
struct Validated {
    path: Path,
    checked: Instant,
    ice_session: u32,
    /// When a later ICE session took over.
    replaced: Option<Instant>,
}

/// A small table; almost always it holds one or two paths.
#[derive(Debug, Default)]
pub(super) struct Paths {
    validated: Vec<Validated>,
    selected: Option<Path>,
    /// The latest ICE session that has nominated a path.
    nominated_in: Option<u32>,
}

impl Paths {
    /// An authenticated check was answered on `path`. The first path, and later every nominated one, is selected; so is any other
    /// when the selected one has fallen silent. False when the check counts for nothing: a later ICE session has nominated.
    pub fn validate(&mut self, now: Instant, path: Path, check: Check) -> bool {
        let Check { nominated, ice_session } = check;
        if self.nominated_in.is_some_and(|latest| ice_session < latest) {
            return false;
        }
        let validated = Validated { path, checked: now, ice_session, replaced: None };
        match self.validated.iter_mut().find(|known| known.path == path) {
            Some(known) => *known = Validated { ice_session: known.ice_session.max(ice_session), ..validated },
            None => self.insert(validated),
        }
        if nominated || !self.selected_is_live(now) {
            self.selected = Some(path);
        }
        if nominated && self.nominated_in.is_none_or(|latest| latest < ice_session) {
            self.nominated_in = Some(ice_session);
            for known in self.validated.iter_mut().filter(|known| known.ice_session < ice_session) {
                known.replaced.get_or_insert(now);
            }
        }
        true
    }

    fn selected_is_live(&self, now: Instant) -> bool {
        let checked = self.validated.iter().find(|known| Some(known.path) == self.selected).map(|known| known.checked);
        checked.is_some_and(|checked| now < checked + SELECTED_SILENT_MAX)
    }

    /// The handshake was finished on `path`: while nothing was nominated, that is the best sign of the peer's choice.
    pub fn prove(&mut self, path: Path) {
        if self.nominated_in.is_none() {
            self.selected = Some(path);
        }
    }

    fn insert(&mut self, validated: Validated) {
        if self.validated.len() >= PATHS_MAX {
            let selected = self.selected;
            let oldest = self.validated.iter().enumerate().filter(|(_, known)| Some(known.path) != selected);
            if let Some((index, _)) = oldest.min_by_key(|(_, known)| known.checked) {
                self.validated.swap_remove(index);
            }
        }
        self.validated.push(validated);
    }

    pub fn selected(&self) -> Option<Path> {
        self.selected
    }

    /// Whether datagrams from `path` are taken: it is the selected one, or was checked within `lifetime`.
    pub fn admits(&self, now: Instant, path: Path, lifetime: Duration) -> bool {
        self.selected == Some(path)
            || self.validated.iter().any(|known| {
                let in_flight = known.replaced.is_none_or(|at| now < at + REPLACED_MAX);
                known.path == path && in_flight && now < known.checked + lifetime
            })
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;
    use crate::{media::testing::epoch, transport::Link};

    const LIFETIME: Duration = Duration::from_secs(30);

    fn path(port: u16) -> Path {
        Path { remote: SocketAddr::from(([192, 0, 2, 1], port)), local_ip: None, link: Link::Udp }
    }

    #[test]
    fn the_first_path_is_selected_then_only_nominated_ones() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(false));
        paths.validate(epoch(), path(2), Check::of_first(false));
        assert_eq!(paths.selected(), Some(path(1)));
        paths.validate(epoch(), path(2), Check::of_first(true));
        assert_eq!(paths.selected(), Some(path(2)));
    }

    #[test]
    fn without_a_nomination_the_handshakes_path_is_selected() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(false));
        paths.validate(epoch(), path(2), Check::of_first(false));
        paths.prove(path(2));
        assert_eq!(paths.selected(), Some(path(2)));
        paths.validate(epoch(), path(1), Check::of_first(true));
        paths.prove(path(2));
        assert_eq!(paths.selected(), Some(path(1)));
    }

    #[test]
    fn a_peer_whose_address_changed_is_followed_without_a_nomination() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(true));
        let silent = epoch() + SELECTED_SILENT_MAX;
        paths.validate(silent - Duration::from_nanos(1), path(2), Check::of_first(false));
        assert_eq!(paths.selected(), Some(path(1)));
        paths.validate(silent, path(2), Check::of_first(false));
        assert_eq!(paths.selected(), Some(path(2)));
        paths.validate(silent, path(1), Check::of_first(true));
        assert_eq!(paths.selected(), Some(path(1)), "it nominates after all");
    }

    #[test]
    fn an_unselected_path_is_forgotten_when_its_checks_stop() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(true));
        paths.validate(epoch(), path(2), Check::of_first(false));
        assert!(paths.admits(epoch() + LIFETIME - Duration::from_nanos(1), path(2), LIFETIME));
        assert!(!paths.admits(epoch() + LIFETIME, path(2), LIFETIME));
        assert!(paths.admits(epoch() + LIFETIME, path(1), LIFETIME));
        assert!(!paths.admits(epoch(), path(3), LIFETIME));
    }

    #[test]
    fn the_table_stays_small_and_keeps_the_selected_path() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(true));
        for port in 2..1000 {
            paths.validate(epoch() + Duration::from_millis(u64::from(port)), path(port), Check::of_first(false));
        }
        assert_eq!(paths.validated.len(), PATHS_MAX);
        assert!(paths.admits(epoch() + LIFETIME, path(1), LIFETIME));
        assert!(paths.admits(epoch() + LIFETIME, path(999), LIFETIME));
        assert!(!paths.admits(epoch() + Duration::from_secs(1), path(2), LIFETIME));
    }

    const RESTARTED: Check = Check { nominated: false, ice_session: 1 };
    const RESTARTED_NOMINATED: Check = Check { nominated: true, ice_session: 1 };

    #[test]
    fn a_restart_leaves_the_selected_path_until_it_nominates_another() {
        let mut paths = Paths::default();
        assert!(paths.validate(epoch(), path(1), Check::of_first(true)));
        assert!(paths.validate(epoch(), path(2), RESTARTED));
        assert_eq!(paths.selected(), Some(path(1)));
        assert!(paths.admits(epoch(), path(2), LIFETIME), "a peer may send on a path that has answered");
        assert!(paths.validate(epoch(), path(1), Check::of_first(true)), "the old consent is still refreshed");
        assert!(paths.validate(epoch(), path(2), RESTARTED_NOMINATED));
        assert_eq!(paths.selected(), Some(path(2)));
    }

    #[test]
    fn once_a_restart_has_nominated_checks_of_before_count_no_more() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(true));
        paths.validate(epoch(), path(2), RESTARTED_NOMINATED);
        assert!(!paths.validate(epoch(), path(1), Check::of_first(true)), "overtaken on its way from another worker");
        assert_eq!(paths.selected(), Some(path(2)));
        let silent = epoch() + SELECTED_SILENT_MAX;
        assert!(!paths.validate(silent, path(3), Check::of_first(false)));
        assert_eq!(paths.selected(), Some(path(2)));
    }

    #[test]
    fn what_was_in_flight_on_a_replaced_path_is_taken_and_no_more() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(true));
        paths.validate(epoch(), path(2), RESTARTED_NOMINATED);
        assert!(paths.admits(epoch() + REPLACED_MAX - Duration::from_nanos(1), path(1), LIFETIME));
        assert!(!paths.admits(epoch() + REPLACED_MAX, path(1), LIFETIME));
        assert!(paths.admits(epoch() + REPLACED_MAX, path(2), LIFETIME));
    }

    #[test]
    fn a_peer_that_keeps_its_address_through_a_restart_keeps_its_path() {
        let mut paths = Paths::default();
        paths.validate(epoch(), path(1), Check::of_first(true));
        paths.validate(epoch(), path(1), RESTARTED_NOMINATED);
        assert_eq!(paths.selected(), Some(path(1)));
        assert!(paths.admits(epoch() + REPLACED_MAX, path(1), LIFETIME));
    }
}
