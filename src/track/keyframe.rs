//! Keyframe requests of many viewers become few toward the publisher.

use std::time::{Duration, Instant};

/// The shortest time between two keyframe requests to a publisher: about the time that one takes to be answered, so
/// that a hundred viewers who lost the same picture cost one keyframe.
pub const KEYFRAME_REQUEST_INTERVAL: Duration = Duration::from_millis(500);

/// Lets one request through per interval; a request made meanwhile waits for the interval's end unless a keyframe
/// comes first.
#[derive(Debug, Default)]
pub struct KeyframeGate {
    last_sent: Option<Instant>,
    wanted: bool,
}

impl KeyframeGate {
    /// Somebody wants a keyframe; true when the request is to be sent now.
    pub fn request(&mut self, now: Instant) -> bool {
        self.wanted = true;
        self.poll(now)
    }

    /// True when a request that had to wait is to be sent now.
    pub fn poll(&mut self, now: Instant) -> bool {
        let due = self.last_sent.is_none_or(|sent| now >= sent + KEYFRAME_REQUEST_INTERVAL);
        if self.wanted && due {
            self.wanted = false;
            self.last_sent = Some(now);
            return true;
        }
        false
    }

    /// A keyframe arrived: whoever waited has it.
    pub fn keyframe_arrived(&mut self) {
        self.wanted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn many_requests_become_one_per_interval() {
        let start = epoch();
        let mut gate = KeyframeGate::default();
        assert!(gate.request(start));
        assert!(!gate.request(start + Duration::from_millis(10)));
        assert!(!gate.poll(start + Duration::from_millis(499)));
        assert!(gate.poll(start + Duration::from_millis(500)), "the waiting request goes out");
        assert!(!gate.poll(start + Duration::from_millis(2_000)));
    }

    #[test]
    fn a_keyframe_answers_the_request_that_waits() {
        let start = epoch();
        let mut gate = KeyframeGate::default();
        gate.request(start);
        gate.request(start + Duration::from_millis(10));
        gate.keyframe_arrived();
        assert!(!gate.poll(start + Duration::from_secs(1)));
    }
}
