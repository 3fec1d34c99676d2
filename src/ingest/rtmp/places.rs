//! Places for connections. Whoever publishes keeps its own; whoever does not yet has it until a newcomer needs one.
//!
//! So a thousand connections that do nothing keep no publisher out, and each of them costs what an empty session does.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

/// Connections that were sent away and have not ended yet, at the most.
pub(super) const LEAVING_MAX: usize = 64;

/// Of the connections that do not publish yet.
#[derive(Debug, Default)]
pub(super) struct Places {
    waiting: Mutex<Waiting>,
}

/// As many as there are connections at the most.
#[derive(Debug, Default)]
struct Waiting {
    last: u64,
    /// The oldest first.
    by_age: BTreeMap<u64, CancellationToken>,
}

impl Places {
    /// A connection that has come.
    pub(super) fn take(self: &Arc<Self>) -> Place {
        let mut waiting = self.waiting.lock();
        waiting.last += 1;
        let (number, needed) = (waiting.last, CancellationToken::new());
        waiting.by_age.insert(number, needed.clone());
        Place { places: self.clone(), number, needed }
    }

    /// Sends away the connection that has been here longest without publishing; false when all publish.
    pub(super) fn make_room(&self) -> bool {
        let oldest = self.waiting.lock().by_age.pop_first();
        oldest.inspect(|(_, needed)| needed.cancel()).is_some()
    }
}

/// The place of a connection that does not publish yet; to be dropped when it does.
#[derive(Debug)]
pub(super) struct Place {
    places: Arc<Places>,
    number: u64,
    needed: CancellationToken,
}

impl Place {
    /// Returns when somebody else needs it.
    pub(super) async fn needed(&self) {
        self.needed.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.waiting.lock().by_age.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_one_that_has_waited_longest_goes_first_and_those_that_publish_never() {
        let places = Arc::new(Places::default());
        let [publishes, first, second] = [(); 3].map(|()| places.take());
        drop(publishes);
        assert!(places.make_room() && first.needed.is_cancelled() && !second.needed.is_cancelled());
        drop(first);
        assert!(places.make_room() && second.needed.is_cancelled());
        assert!(!places.make_room());
    }
}
