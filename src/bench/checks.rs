//! ICE from the controlling side, as little of it as a client with one socket needs (RFC 8445): checks towards each of the
//! server's candidates, the first that answers is used, and consent on it ever after (RFC 7675). Sans-I/O.
//!
//! Every check nominates (what RFC 5245 called aggressive nomination), so that the first answer is the last word: a lite
//! server needs one round trip. No candidates of our own are told: the server learns our address from the check.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use sluice_signaling::ice::IceCredentials;

use crate::transport::stun::{BindingAnswer, CheckRequest, TRANSACTION_ID_BYTES};

/// Between checks while none has been answered (RFC 8445 section 14.2).
const PACE: Duration = Duration::from_millis(50);
/// Between consent checks (RFC 7675 section 5.1).
const CONSENT_INTERVAL: Duration = Duration::from_secs(5);
/// Without an answer for so long, the server is gone (RFC 7675 section 5.1).
const CONSENT_EXPIRES: Duration = Duration::from_secs(30);
/// Checks that may still be answered: half a second's worth of pace, or of consent much more.
const PENDING_MAX: usize = 16;
/// What a peer-reflexive candidate of ours would have: type preference 110, local preference 65535, component 1 (RFC 8445
/// section 5.1.2.1).
const PRIORITY: u32 = 110 << 24 | 65_535 << 8 | 255;

pub struct Checks {
    local_ufrag: String,
    remote: IceCredentials,
    candidates: Vec<SocketAddr>,
    tie_breaker: u64,
    /// Ids of checks under way, oldest first, with where they went.
    pending: Vec<([u8; TRANSACTION_ID_BYTES], SocketAddr)>,
    sent: usize,
    next_at: Instant,
    selected: Option<SocketAddr>,
    last_answer: Instant,
}

impl Checks {
    pub fn new(
        now: Instant,
        local_ufrag: &str,
        remote: IceCredentials,
        candidates: Vec<SocketAddr>,
        tie_breaker: u64,
    ) -> Self {
        Self {
            local_ufrag: local_ufrag.to_owned(),
            remote,
            candidates,
            tie_breaker,
            pending: Vec::with_capacity(PENDING_MAX),
            sent: 0,
            next_at: now,
            selected: None,
            last_answer: now,
        }
    }

    pub fn poll_timeout(&self) -> Instant {
        self.next_at
    }

    /// The server answers no more.
    pub fn expired(&self, now: Instant) -> bool {
        self.selected.is_some() && now.saturating_duration_since(self.last_answer) >= CONSENT_EXPIRES
    }

    /// The next check, when its time has come.
    pub fn poll_check(&mut self, now: Instant) -> Option<(SocketAddr, Vec<u8>)> {
        if now < self.next_at {
            return None;
        }
        let to = match self.selected {
            Some(to) => to,
            None => *self.candidates.get(self.sent % self.candidates.len().max(1))?,
        };
        self.next_at = now + if self.selected.is_some() { CONSENT_INTERVAL } else { PACE };
        self.sent += 1;
        let transaction_id = rand::random();
        let check = CheckRequest {
            transaction_id,
            remote_ufrag: &self.remote.ufrag,
            local_ufrag: &self.local_ufrag,
            priority: PRIORITY,
            tie_breaker: self.tie_breaker,
            use_candidate: true,
        };
        let mut bytes = Vec::with_capacity(128);
        check.write(&self.remote.pwd, &mut bytes);
        if self.pending.len() == PENDING_MAX {
            self.pending.remove(0);
        }
        self.pending.push((transaction_id, to));
        Some((to, bytes))
    }

    /// Takes a STUN message that is no request. Returns the path, when it is the authentic answer to one of our checks
    /// on it and the path is the one in use (from now on).
    pub fn handle_response(&mut self, now: Instant, datagram: &[u8]) -> Option<SocketAddr> {
        let answer = BindingAnswer::parse(datagram).ok()?;
        let at = self.pending.iter().position(|(id, _)| *id == answer.transaction_id)?;
        if answer.error_code.is_some() || !answer.verify(&self.remote.pwd) {
            return None;
        }
        let (_, path) = self.pending.remove(at);
        if *self.selected.get_or_insert(path) != path {
            return None;
        }
        self.last_answer = now;
        self.next_at = now + CONSENT_INTERVAL;
        Some(path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{media::testing::epoch, transport::stun::BindingRequest};

    const PWD: &str = "a-password-of-22-bytes";

    fn checks(candidates: &[&str]) -> Checks {
        let remote = IceCredentials { ufrag: "server".into(), pwd: PWD.into() };
        let candidates = candidates.iter().map(|text| text.parse().unwrap()).collect();
        Checks::new(epoch(), "client", remote, candidates, 9)
    }

    fn answer(check: &[u8], pwd: &str) -> Vec<u8> {
        let mut out = Vec::new();
        BindingRequest::parse(check).unwrap().answer("127.0.0.1:9".parse().unwrap(), pwd, &mut out);
        out
    }

    #[test]
    fn candidates_are_tried_in_turn_and_the_first_to_answer_is_used() {
        let mut checks = checks(&["10.0.0.1:1", "10.0.0.2:2"]);
        let (first, _) = checks.poll_check(epoch()).unwrap();
        assert!(checks.poll_check(epoch()).is_none(), "paced");
        let (second, request) = checks.poll_check(epoch() + PACE).unwrap();
        assert_ne!(first, second);
        let parsed = BindingRequest::parse(&request).unwrap();
        assert!(parsed.use_candidate && parsed.verify(PWD));
        assert_eq!((parsed.local_ufrag, parsed.remote_ufrag), ("server", "client"));

        let now = epoch() + PACE * 2;
        assert_eq!(checks.handle_response(now, &answer(&request, "not the password at all")), None);
        let authentic = answer(&request, PWD);
        assert_eq!(checks.handle_response(now, &authentic), Some(second));
        assert_eq!(checks.handle_response(now, &authentic), None, "an answer counts once");
        assert_eq!(checks.poll_check(now + PACE), None);
        assert_eq!(checks.poll_check(now + CONSENT_INTERVAL).unwrap().0, second);
        assert!(!checks.expired(now + CONSENT_INTERVAL) && checks.expired(now + CONSENT_EXPIRES));
    }
}
