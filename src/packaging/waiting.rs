//! How many requests wait, of all clients and of each: a place is taken before a request begins to wait, and given back after.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    sync::Arc,
};

use parking_lot::Mutex;

/// No place is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooManyWaiting {
    #[error("as many requests wait as may (hls.waiting_max)")]
    OfAll,
    #[error("as many requests of your address wait as may (hls.client_waiting_max)")]
    OfClient,
}

/// The places of one server.
#[derive(Debug)]
pub struct Waiting {
    all_max: usize,
    client_max: usize,
    /// Only addresses that wait: as many as places at the most.
    by_client: Mutex<(usize, HashMap<IpAddr, usize>)>,
}

impl Waiting {
    pub fn new(all_max: usize, client_max: usize) -> Self {
        Self { all_max, client_max, by_client: Mutex::default() }
    }

    /// Takes a place. This machine's own addresses share only those of all, as reverse proxies are among them.
    ///
    /// # Errors
    /// When there is none.
    pub fn enter(self: &Arc<Self>, ip: IpAddr) -> Result<Place, TooManyWaiting> {
        let client = client(ip);
        let mut places = self.by_client.lock();
        let (all, by_client) = &mut *places;
        if *all >= self.all_max {
            return Err(TooManyWaiting::OfAll);
        }
        let of_client = by_client.get(&client).copied().unwrap_or(0);
        if of_client >= self.client_max && !client.is_loopback() {
            return Err(TooManyWaiting::OfClient);
        }
        *all += 1;
        by_client.insert(client, of_client + 1);
        Ok(Place { waiting: self.clone(), client })
    }

    /// How many wait.
    pub fn count(&self) -> usize {
        self.by_client.lock().0
    }
}

/// An IPv6 client has a /64 of addresses to choose from.
fn client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        other => other,
    }
}

/// One request's place; dropping it gives it back.
#[derive(Debug)]
pub struct Place {
    waiting: Arc<Waiting>,
    client: IpAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut places = self.waiting.by_client.lock();
        let (all, by_client) = &mut *places;
        *all = all.saturating_sub(1);
        match by_client.get_mut(&self.client) {
            Some(of_client) if *of_client > 1 => *of_client -= 1,
            _ => {
                by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_bounded_for_each_client_and_for_all_and_come_back() {
        let waiting = Arc::new(Waiting::new(5, 2));
        let enter = |text: &str| waiting.enter(text.parse().unwrap());
        let first = [enter("2001:db8::1").unwrap(), enter("2001:db8::2").unwrap()];
        assert_eq!(enter("2001:db8::3").unwrap_err(), TooManyWaiting::OfClient, "one network of 64 bits is one client");
        let local = [(); 3].map(|()| enter("127.0.0.1").unwrap());
        assert_eq!(enter("192.0.2.1").unwrap_err(), TooManyWaiting::OfAll);
        drop(first);
        assert_eq!(waiting.count(), 3);
        let again = [enter("2001:db8::3").unwrap(), enter("2001:db8::3").unwrap()];
        drop((local, again));
        assert_eq!(*waiting.by_client.lock(), (0, HashMap::new()), "nothing is left of them");
    }
}
