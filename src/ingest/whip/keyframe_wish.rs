//! A keyframe that ingest itself needs: at the start, and after losses.

use std::time::{Duration, Instant};

/// A wish that was not granted is repeated: the request, or the keyframe, may have been lost.
const ASK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct KeyframeWish {
    /// When to ask (again); `None` while none is needed.
    ask: Option<Instant>,
    ever_granted: bool,
}

impl KeyframeWish {
    pub(super) fn want(&mut self, now: Instant) {
        self.ask.get_or_insert(now);
    }

    /// A keyframe begins. True when one was wanted.
    pub(super) fn granted(&mut self) -> bool {
        self.ever_granted = true;
        self.ask.take().is_some()
    }

    pub(super) fn was_ever_granted(&self) -> bool {
        self.ever_granted
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.ask
    }

    /// True when the publisher is to be asked now.
    pub(super) fn poll(&mut self, now: Instant) -> bool {
        let due = self.ask.is_some_and(|at| now >= at);
        if due {
            self.ask = Some(now + ASK_AGAIN);
        }
        due
    }
}
