//! How far apart the viewers' copies of one packet arrive. Copies are recognised by their payload, which a server must not
//! change, so only decrypted (sampled) viewers take part.
//!
//! What the figure says: a copy's delay behind the earliest copy of the same packet among the sampled viewers. It is a
//! lower bound of the forwarding delay: what all copies waited for together (reading, queueing, the first send) is not in it.

use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

use super::figures::Delays;

/// Packets held while their copies come in: 2 s at 2,000 packets/s.
const PACKETS_MAX: usize = 4_096;
/// After so long no copy is waited for. A copy that comes later counts as a packet of its own, and so not at all.
const WAIT: Duration = Duration::from_secs(2);
/// Payloads shorter than this are too alike (silence, empty pictures) to be told apart.
pub const PAYLOAD_MIN_BYTES: usize = 100;
/// So much of a payload makes its name, with its length.
const NAMED_BY_BYTES: usize = 256;

#[derive(Debug, Default)]
pub struct Spread {
    copies: HashMap<u64, Vec<Instant>>,
    /// In order of the first copy seen.
    order: VecDeque<(Instant, u64)>,
    delays: Delays,
}

impl Spread {
    pub fn note(&mut self, payload: &[u8], arrived: Instant) {
        if payload.len() < PAYLOAD_MIN_BYTES {
            return;
        }
        let mut hasher = DefaultHasher::new();
        payload.len().hash(&mut hasher);
        payload.get(..payload.len().min(NAMED_BY_BYTES)).hash(&mut hasher);
        let name = hasher.finish();
        self.expire(arrived);
        let copies = self.copies.entry(name).or_default();
        if copies.is_empty() {
            self.order.push_back((arrived, name));
        }
        copies.push(arrived);
    }

    fn expire(&mut self, now: Instant) {
        while let Some(&(first, name)) = self.order.front() {
            if self.order.len() < PACKETS_MAX && now.saturating_duration_since(first) < WAIT {
                return;
            }
            self.order.pop_front();
            self.count(name);
        }
    }

    fn count(&mut self, name: u64) {
        let Some(copies) = self.copies.remove(&name) else { return };
        // One copy has nothing to be compared with.
        if let Some(earliest) = copies.iter().min().filter(|_| copies.len() > 1) {
            copies.iter().for_each(|copy| self.delays.note(copy.saturating_duration_since(*earliest)));
        }
    }

    /// Ends the measurement.
    pub fn finish(mut self) -> Delays {
        while let Some((_, name)) = self.order.pop_front() {
            self.count(name);
        }
        self.delays
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn copies_are_measured_from_the_earliest_in_whatever_order_they_are_seen() {
        let mut spread = Spread::default();
        let at = |ms| epoch() + Duration::from_millis(ms);
        spread.note(&[1; 200], at(13));
        spread.note(&[1; 200], at(10));
        spread.note(&[1; 200], at(19));
        spread.note(&[2; 200], at(11));
        spread.note(&[3; 20], at(11));
        let delays = spread.finish();
        assert_eq!(delays.count(), 3, "a packet with one copy does not count");
        assert_eq!(delays.at(1.0).unwrap().as_millis(), 9);
        assert_eq!(delays.at(0.5).unwrap().as_millis(), 3);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut spread = Spread::default();
        for n in 0..3 * PACKETS_MAX as u32 {
            let mut payload = [0; 200];
            payload[..4].copy_from_slice(&n.to_be_bytes());
            spread.note(&payload, epoch());
        }
        assert!(spread.copies.len() <= PACKETS_MAX && spread.order.len() <= PACKETS_MAX);
    }
}
