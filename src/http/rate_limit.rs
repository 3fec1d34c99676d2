//! How often one client may ask for sessions, change them and end them: a token bucket per address and method.
//!
//! Sans-I/O but for the middleware at its end: [`RateLimiter::admit`] takes the time. An IPv6 client has a /64 of addresses to
//! choose from, so that counts as one; this machine's own addresses are not counted, for who is here can have its processors
//! directly, and a reverse proxy that `http.trusted_proxies` does not name would have all clients share one bucket.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::Method,
    middleware::Next,
    response::Response,
};
use parking_lot::Mutex;

use super::{AppState, problem};

/// Buckets that are kept: of 16,384 clients with all three methods, at 48 bytes each about 2.5 MB.
const BUCKETS_MAX: usize = 3 * 16_384;

/// How much one client may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Requests of one method per second, in the long run; 0: as many as it likes.
    pub per_s: u32,
    /// Requests that may come at once after a quiet time, 1 at least.
    pub burst: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Limited {
    Post,
    Patch,
    Delete,
}

impl Limited {
    fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::POST => Some(Self::Post),
            Method::PATCH => Some(Self::Patch),
            Method::DELETE => Some(Self::Delete),
            _ => None,
        }
    }
}

/// Who shares a bucket.
fn client(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

/// The buckets of all clients.
#[derive(Debug)]
pub struct RateLimiter {
    /// Between two requests at the long-run rate; `None`: nothing is limited.
    interval: Option<Duration>,
    /// How far a client may be ahead of that.
    ahead_max: Duration,
    /// When a client's bucket is full again, which is all that there is to know of it; in the past: full.
    full_at: Mutex<HashMap<(IpAddr, Limited), Instant>>,
}

impl RateLimiter {
    pub fn new(rate: Rate) -> Self {
        let interval = (rate.per_s > 0).then(|| Duration::from_secs(1) / rate.per_s);
        let ahead_max = interval.unwrap_or_default() * rate.burst.saturating_sub(1);
        Self { interval, ahead_max, full_at: Mutex::default() }
    }

    /// Counts a request in.
    ///
    /// # Errors
    /// How long the client has to wait until one more is admitted; this one was not counted.
    fn admit(&self, now: Instant, ip: IpAddr, method: &Method) -> Result<(), Duration> {
        let (Some(interval), Some(limited)) = (self.interval, Limited::of(method)) else { return Ok(()) };
        if ip.to_canonical().is_loopback() {
            return Ok(());
        }
        let mut full_at = self.full_at.lock();
        let key = (client(ip), limited);
        if full_at.len() >= BUCKETS_MAX && !full_at.contains_key(&key) {
            make_room(&mut full_at, now);
        }
        let full = full_at.entry(key).or_insert(now);
        let ahead = full.saturating_duration_since(now);
        if ahead > self.ahead_max {
            return Err(ahead - self.ahead_max);
        }
        *full = (*full).max(now) + interval;
        Ok(())
    }
}

/// Forgets the full buckets, and where that is not enough the fuller half: those who asked the most stay limited. Done once per
/// half a table of newcomers.
fn make_room(full_at: &mut HashMap<(IpAddr, Limited), Instant>, now: Instant) {
    full_at.retain(|_, full| *full > now);
    if full_at.len() <= BUCKETS_MAX / 2 {
        return;
    }
    let mut times: Vec<Instant> = full_at.values().copied().collect();
    let (_, middle, _) = times.select_nth_unstable(BUCKETS_MAX / 2);
    let middle = *middle;
    full_at.retain(|_, full| *full > middle);
}

/// Middleware of the paths that make, change and end sessions: 429 for who asks too often (RFC 6585 section 4).
pub async fn limit(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(from)| from.ip());
    let admitted = from.map_or(Ok(()), |ip| state.rate_limiter.admit(Instant::now(), ip, request.method()));
    match admitted {
        Ok(()) => next.run(request).await,
        Err(wait) => {
            state.metrics.rate_limited.inc();
            problem::respond(&problem::too_many_requests(request.method(), wait))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    const RATE: Rate = Rate { per_s: 10, burst: 5 };

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Requests of `from` that are admitted at once.
    fn admitted(limiter: &RateLimiter, now: Instant, from: &str) -> usize {
        (0..100).take_while(|_| limiter.admit(now, ip(from), &Method::POST).is_ok()).count()
    }

    #[test]
    fn a_burst_is_admitted_then_the_rate_and_the_client_is_told_how_long_to_wait() {
        let limiter = RateLimiter::new(RATE);
        let now = epoch();
        assert_eq!(admitted(&limiter, now, "192.0.2.1"), 5);
        let interval = Duration::from_millis(100);
        assert_eq!(limiter.admit(now, ip("192.0.2.1"), &Method::POST), Err(interval));
        assert_eq!(admitted(&limiter, now + interval - Duration::from_nanos(1), "192.0.2.1"), 0);
        assert_eq!(admitted(&limiter, now + interval, "192.0.2.1"), 1);
        assert_eq!(admitted(&limiter, now + 3 * interval, "192.0.2.1"), 2);
        assert_eq!(
            admitted(&limiter, now + Duration::from_secs(60), "192.0.2.1"),
            5,
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn each_address_and_each_method_has_a_bucket_of_its_own() {
        let limiter = RateLimiter::new(RATE);
        for from in ["192.0.2.1", "192.0.2.2", "2001:db8::1"] {
            assert_eq!(admitted(&limiter, epoch(), from), 5, "{from}");
        }
        for method in [Method::PATCH, Method::DELETE] {
            assert!(limiter.admit(epoch(), ip("192.0.2.1"), &method).is_ok(), "{method}");
        }
        for method in [Method::GET, Method::HEAD, Method::OPTIONS] {
            assert!((0..100).all(|_| limiter.admit(epoch(), ip("192.0.2.1"), &method).is_ok()), "{method}");
        }
    }

    #[test]
    fn an_ipv6_network_of_64_bits_is_one_client_and_a_mapped_address_is_the_ipv4_one() {
        let limiter = RateLimiter::new(RATE);
        assert_eq!(admitted(&limiter, epoch(), "2001:db8:1:2::1"), 5);
        assert_eq!(admitted(&limiter, epoch(), "2001:db8:1:2:ffff::9"), 0);
        assert_eq!(admitted(&limiter, epoch(), "2001:db8:1:3::1"), 5);
        assert_eq!(admitted(&limiter, epoch(), "192.0.2.1"), 5);
        assert_eq!(admitted(&limiter, epoch(), "::ffff:192.0.2.1"), 0);
    }

    #[test]
    fn this_machine_is_not_limited_and_rate_0_limits_nobody() {
        let limiter = RateLimiter::new(RATE);
        for from in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(admitted(&limiter, epoch(), from), 100);
        }
        assert_eq!(admitted(&RateLimiter::new(Rate { per_s: 0, burst: 1 }), epoch(), "192.0.2.1"), 100);
    }

    #[test]
    fn the_table_is_bounded_and_keeps_those_who_ask_most() {
        let limiter = RateLimiter::new(RATE);
        assert_eq!(admitted(&limiter, epoch(), "203.0.113.9"), 5);
        // All within 50 ms, so that no bucket has filled up again.
        for number in 0..4 * BUCKETS_MAX as u32 {
            let from = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            let now = epoch() + Duration::from_nanos(u64::from(number) * 200);
            assert!(limiter.admit(now, from, &Method::POST).is_ok());
            assert!(limiter.full_at.lock().len() <= BUCKETS_MAX);
        }
        assert_eq!(admitted(&limiter, epoch() + Duration::from_millis(50), "203.0.113.9"), 0, "still limited");
    }
}
