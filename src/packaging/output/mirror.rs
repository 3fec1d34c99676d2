//! What lies in the store of one packaged stream, and when it may go. Sans-I/O.

use std::{
    array,
    collections::{HashSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use crate::egress::hls::{RENDITIONS_MAX, RenditionIndex};

/// See the module. Names of media are relative to the playlists. Bounded by what the window lists, what was listed
/// lately, and what the task looks at of earlier packagings' leftovers.
pub struct Mirror {
    kept: [Kept; RENDITIONS_MAX],
    /// What is listed no more, and when nobody can ask for it any longer.
    doomed: Vec<(Instant, String)>,
}

/// Of one rendition.
#[derive(Default)]
struct Kept {
    /// The media sequence number of the first segment that is not stored.
    next: u64,
    /// Oldest first.
    segments: VecDeque<KeptSegment>,
    initializations: HashSet<String>,
}

struct KeptSegment {
    number: u64,
    name: String,
    initialization: String,
}

impl Mirror {
    pub fn new() -> Self {
        Self { kept: array::from_fn(|_| Kept::default()), doomed: Vec::new() }
    }

    /// From which segment on a rendition is still to be stored.
    pub fn next(&self, rendition: RenditionIndex) -> u64 {
        self.kept.get(usize::from(rendition.0)).map_or(0, |kept| kept.next)
    }

    pub fn has_initialization(&self, rendition: RenditionIndex, name: &str) -> bool {
        self.kept.get(usize::from(rendition.0)).is_some_and(|kept| kept.initializations.contains(name))
    }

    /// A segment lies in the store, and so does its initialization. Those of a rendition come in order.
    pub fn stored(&mut self, rendition: RenditionIndex, number: u64, name: String, initialization: String) {
        let Some(kept) = self.kept.get_mut(usize::from(rendition.0)) else { return };
        kept.next = number + 1;
        kept.initializations.insert(initialization.clone());
        kept.segments.push_back(KeptSegment { number, name, initialization });
    }

    /// The playlist that lies in the store begins with segment `first`: what came before goes after `hold`.
    pub fn listed_from(&mut self, now: Instant, rendition: RenditionIndex, first: u64, hold: Duration) {
        let Some(kept) = self.kept.get_mut(usize::from(rendition.0)) else { return };
        while let Some(oldest) = kept.segments.pop_front_if(|oldest| oldest.number < first) {
            self.doomed.push((now + hold, oldest.name));
            if kept.segments.iter().all(|other| other.initialization != oldest.initialization) {
                kept.initializations.remove(&oldest.initialization);
                self.doomed.push((now + hold, oldest.initialization));
            }
        }
    }

    /// Somebody else left it there, or it could not be removed.
    pub fn doom(&mut self, at: Instant, name: String) {
        self.doomed.push((at, name));
    }

    /// All goes after `hold`.
    pub fn end(&mut self, now: Instant, hold: Duration) {
        for at in 0..RENDITIONS_MAX as u8 {
            self.listed_from(now, RenditionIndex(at), u64::MAX, hold);
        }
    }

    /// When something may go.
    pub fn due(&self) -> Option<Instant> {
        self.doomed.iter().map(|(at, _)| *at).min()
    }

    /// What may go now, `max` at the most.
    pub fn take_due(&mut self, now: Instant, max: usize) -> Vec<String> {
        self.doomed.extract_if(.., |(at, _)| *at <= now).take(max).map(|(_, name)| name).collect()
    }

    /// Segments that are listed.
    pub fn segments(&self) -> usize {
        self.kept.iter().map(|kept| kept.segments.len()).sum()
    }
}
