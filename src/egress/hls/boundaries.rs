//! Where segments end, in common for all renditions of a run: the first layer with a keyframe when it is time sets a boundary, the others
//! owe it at their next keyframe, and sound at the frame that is nearest. So all have as many segments, and as many discontinuities.

use std::collections::VecDeque;

/// A keyframe so little before a boundary is one for it, 100 ms: layers' encoders are not in step.
const TOLERANCE_NS: i64 = 100_000_000;
/// A layer that owes a boundary for longer is not waited for, 3 s.
const OWED_MAX_NS: i64 = 3_000_000_000;
/// Boundaries that are remembered: those of a minute at one a second. Nobody is further behind.
const BOUNDARIES_MAX: usize = 64;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Boundary {
    /// Counts those of a stream, over all its runs.
    pub number: u64,
    /// On the presentation timeline.
    pub at_ns: i64,
    /// What follows has no relation to what was before.
    pub discontinuous: bool,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Boundaries {
    /// Never empty.
    known: VecDeque<Boundary>,
    latest: Boundary,
    first: Boundary,
}

impl Boundaries {
    /// Of a run that begins there, with a boundary of that number.
    pub(super) fn new(at_ns: i64, number: u64) -> Self {
        let latest = Boundary { number, at_ns, discontinuous: false };
        Self { known: VecDeque::from([latest]), latest, first: latest }
    }

    /// What the run begins with.
    pub(super) fn first(&self) -> Boundary {
        self.first
    }

    /// No other was set yet.
    pub(super) fn is_first(&self) -> bool {
        self.latest.number == self.first.number
    }

    /// The number of the segment that a rendition is in which begins at that time: of the last boundary up to then.
    pub(super) fn number_at(&self, at_ns: i64) -> u64 {
        let until_ns = at_ns + TOLERANCE_NS;
        let last = self.known.iter().rev().find(|boundary| boundary.at_ns <= until_ns).or(self.known.front());
        last.map_or(self.latest.number, |boundary| boundary.number)
    }

    pub(super) fn latest(&self) -> Boundary {
        self.latest
    }

    pub(super) fn set(&mut self, at_ns: i64, discontinuous: bool) -> Boundary {
        self.latest = Boundary { number: self.latest.number + 1, at_ns, discontinuous };
        if self.known.len() == BOUNDARIES_MAX {
            self.known.pop_front();
        }
        self.known.push_back(self.latest);
        self.latest
    }

    /// What a rendition that has passed `passed` owes at a time: the last boundary up to then, discontinuous if any of them is.
    pub(super) fn owed(&self, passed: u64, until_ns: i64) -> Option<Boundary> {
        let owed = self.known.iter().filter(|boundary| boundary.number > passed && boundary.at_ns <= until_ns);
        owed.copied()
            .reduce(|before, last| Boundary { discontinuous: before.discontinuous || last.discontinuous, ..last })
    }

    /// The same for pictures, at a keyframe.
    pub(super) fn owed_at_keyframe(&self, passed: u64, at_ns: i64) -> Option<Boundary> {
        self.owed(passed, at_ns + TOLERANCE_NS)
    }

    /// A new one may be set there: others have passed the latest, or are not waited for.
    pub(super) fn may_set(&self, at_ns: i64, min_ns: i64, mut others_passed: impl Iterator<Item = u64>) -> bool {
        let since_ns = at_ns - self.latest.at_ns;
        since_ns >= min_ns && (since_ns >= OWED_MAX_NS || others_passed.all(|passed| passed >= self.latest.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: i64 = 1_000_000_000;

    #[test]
    fn what_is_owed_is_passed_once_and_discontinuities_are_not_lost() {
        let mut boundaries = Boundaries::new(0, 0);
        assert_eq!(boundaries.owed(0, 9 * S), None);
        boundaries.set(2 * S, true);
        boundaries.set(4 * S, false);
        assert_eq!(boundaries.owed(0, S), None);
        assert_eq!(boundaries.owed(0, 3 * S), Some(Boundary { number: 1, at_ns: 2 * S, discontinuous: true }));
        assert_eq!(boundaries.owed(0, 5 * S), Some(Boundary { number: 2, at_ns: 4 * S, discontinuous: true }));
        assert_eq!(boundaries.owed(1, 5 * S), Some(Boundary { number: 2, at_ns: 4 * S, discontinuous: false }));
        assert_eq!(boundaries.owed(2, 5 * S), None);
        assert!(boundaries.owed_at_keyframe(1, 4 * S - S / 20).is_some());
    }

    #[test]
    fn who_comes_late_is_in_the_segment_of_its_time() {
        let mut boundaries = Boundaries::new(0, 7);
        assert!(boundaries.is_first());
        boundaries.set(2 * S, false);
        boundaries.set(4 * S, false);
        assert_eq!([0, S, 2 * S - S / 20, 3 * S, 9 * S].map(|at| boundaries.number_at(at)), [7, 7, 8, 8, 9]);
        assert_eq!(boundaries.number_at(-S), 7);
        assert!(!boundaries.is_first());
    }

    #[test]
    fn a_boundary_waits_for_the_others_but_not_for_ever() {
        let mut boundaries = Boundaries::new(0, 0);
        boundaries.set(S, false);
        assert!(!boundaries.may_set(S + S / 2, S, [1].into_iter()), "too soon");
        assert!(boundaries.may_set(2 * S, S, [1, 1].into_iter()));
        assert!(!boundaries.may_set(2 * S, S, [1, 0].into_iter()));
        assert!(boundaries.may_set(4 * S, S, [1, 0].into_iter()));
    }
}
