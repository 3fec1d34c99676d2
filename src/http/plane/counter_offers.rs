//! Sessions that begin with an offer of ours, until their clients answer it. They are no sessions of the workers' yet: nothing answers a
//! connectivity check for them. Sans-I/O.

use std::{
    collections::HashMap,
    time::{Instant, SystemTime},
};

use sluice_signaling::{
    ice::IceCredentials,
    media_plane::{COUNTER_OFFER_VALID, CounterOfferRequest, CounterOffered, SenderIds, SessionOwner},
    name::SessionId,
};

/// Offers that wait at one time. Each keeps some 3 KB, which makes 3 MB; a viewer that can answer does so within a second.
const WAITING_MAX: usize = 1_024;
/// Of them, from one address: a household, or an office behind one.
const WAITING_PER_ADDRESS_MAX: usize = 32;

/// Too many offers wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("as many offers as this server keeps wait for their clients' answers")]
pub struct TooManyOffers;

/// An offer, until it is answered or void.
#[derive(Debug)]
pub struct CounterOffer {
    pub request: CounterOfferRequest,
    pub local_ice: IceCredentials,
    /// One entry per offered section.
    pub senders: Vec<SenderIds>,
    pub made_at: Instant,
}

impl CounterOffer {
    fn is_void(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.made_at) >= COUNTER_OFFER_VALID
    }
}

/// The offers that wait.
#[derive(Debug, Default)]
pub struct CounterOffers {
    waiting: HashMap<SessionId, CounterOffer>,
}

impl CounterOffers {
    /// Keeps an offer.
    ///
    /// # Errors
    /// [`TooManyOffers`] at the bounds above.
    pub fn insert(&mut self, session: SessionId, offer: CounterOffer) -> Result<(), TooManyOffers> {
        let address = offer.request.from.ip();
        let same_address = self.waiting.values().filter(|other| other.request.from.ip() == address).count();
        if self.waiting.len() >= WAITING_MAX || same_address >= WAITING_PER_ADDRESS_MAX {
            return Err(TooManyOffers);
        }
        self.waiting.insert(session, offer);
        Ok(())
    }

    /// Forgets what is void, and says how much that was.
    pub fn sweep(&mut self, now: Instant) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|_, offer| !offer.is_void(now));
        before - self.waiting.len()
    }

    pub fn get(&self, now: Instant, session: SessionId) -> Option<&CounterOffer> {
        self.waiting.get(&session).filter(|offer| !offer.is_void(now))
    }

    /// Takes an offer out, to be completed or dropped.
    pub fn take(&mut self, now: Instant, session: SessionId) -> Option<CounterOffer> {
        self.waiting.remove(&session).filter(|offer| !offer.is_void(now))
    }

    /// Moves the end of the session that the offer may become; false when there is no such offer.
    pub fn renew(&mut self, session: SessionId, expires: Option<SystemTime>) -> bool {
        self.waiting.get_mut(&session).map(|offer| offer.request.grant.expires = expires).is_some()
    }
}

impl CounterOffer {
    pub fn offered(&self) -> CounterOffered {
        let kinds = self.request.media.media.iter().map(|media| media.kind).collect();
        CounterOffered { kinds, live: self.request.live.clone() }
    }

    pub fn owner(&self) -> SessionOwner {
        SessionOwner {
            stream: self.request.stream.clone(),
            subject: self.request.grant.subject.clone(),
            from: self.request.from.ip(),
            expires: self.request.grant.expires,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::IpAddr, time::Duration};

    use sluice_signaling::{sdp::Negotiated, token::Grant};

    use super::*;
    use crate::media::testing::epoch;

    fn offer(address: [u8; 4]) -> CounterOffer {
        let request = CounterOfferRequest {
            stream: "cam".parse().expect("a good name"),
            grant: Grant::default(),
            from: (IpAddr::from(address), 9).into(),
            user_agent: String::new(),
            media: Negotiated::default(),
            live: Vec::new(),
            refused: Negotiated::default(),
        };
        CounterOffer { request, local_ice: IceCredentials::random(), senders: Vec::new(), made_at: epoch() }
    }

    #[test]
    fn an_offer_is_void_after_its_time_and_is_swept() {
        let mut offers = CounterOffers::default();
        let session = SessionId::random();
        offers.insert(session, offer([1, 1, 1, 1])).unwrap();
        let last = epoch() + COUNTER_OFFER_VALID - Duration::from_millis(1);
        assert!(offers.get(last, session).is_some());
        assert_eq!(offers.sweep(last), 0);
        assert!(offers.get(epoch() + COUNTER_OFFER_VALID, session).is_none(), "also before the sweep");
        assert_eq!(offers.sweep(epoch() + COUNTER_OFFER_VALID), 1);
        assert!(offers.take(last, session).is_none());
    }

    #[test]
    fn an_offer_is_completed_once() {
        let mut offers = CounterOffers::default();
        let session = SessionId::random();
        offers.insert(session, offer([1, 1, 1, 1])).unwrap();
        assert!(offers.take(epoch(), session).is_some());
        assert!(offers.take(epoch(), session).is_none());
    }

    #[test]
    fn offers_are_bounded_by_address_and_in_all() {
        let mut offers = CounterOffers::default();
        let mut kept = 0;
        for address in 0..=(WAITING_MAX / WAITING_PER_ADDRESS_MAX) as u8 {
            for _ in 0..=WAITING_PER_ADDRESS_MAX {
                kept += usize::from(offers.insert(SessionId::random(), offer([10, 0, 0, address])).is_ok());
            }
            if address == 0 {
                assert_eq!(kept, WAITING_PER_ADDRESS_MAX, "one address has its share only");
            }
        }
        assert_eq!(kept, WAITING_MAX);
        offers.sweep(epoch() + COUNTER_OFFER_VALID);
        assert!(offers.insert(SessionId::random(), offer([10, 0, 0, 0])).is_ok());
    }
}
