//! When which session wants to be looked at again. Entries are not removed when a session's time moves: an early look
//! finds nothing due and is entered anew, which is cheaper than keeping the heap exact.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    time::{Duration, Instant},
};

/// A session's place in the worker's slab, with the count that tells it from the slot's earlier tenants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slot {
    pub index: usize,
    pub tenant: u64,
}

/// The worker's heap of looks.
#[derive(Debug, Default)]
pub struct Timers {
    heap: BinaryHeap<Reverse<(Instant, Slot)>>,
}

impl Timers {
    pub fn set(&mut self, at: Instant, slot: Slot) {
        self.heap.push(Reverse((at, slot)));
    }

    /// The next slot whose time has come.
    pub fn due(&mut self, now: Instant) -> Option<Slot> {
        let Reverse((at, slot)) = *self.heap.peek()?;
        (at <= now).then(|| {
            self.heap.pop();
            slot
        })
    }

    /// How long nothing is due, at most `longest`.
    pub fn idle_for(&self, now: Instant, longest: Duration) -> Duration {
        self.heap.peek().map_or(longest, |Reverse((at, _))| at.saturating_duration_since(now).min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn slots_come_due_in_order_of_time() {
        let start = epoch();
        let slot = |index| Slot { index, tenant: 0 };
        let mut timers = Timers::default();
        timers.set(start + Duration::from_millis(20), slot(2));
        timers.set(start + Duration::from_millis(10), slot(1));
        assert_eq!(timers.idle_for(start, Duration::from_secs(1)), Duration::from_millis(10));
        assert_eq!(timers.idle_for(start, Duration::from_millis(5)), Duration::from_millis(5));
        assert_eq!(timers.due(start), None);
        assert_eq!(timers.due(start + Duration::from_millis(20)), Some(slot(1)));
        assert_eq!(timers.due(start + Duration::from_millis(20)), Some(slot(2)));
        assert_eq!(timers.due(start + Duration::from_secs(9)), None);
    }
}
