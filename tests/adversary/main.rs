//! Malformed RTMP, STUN, DTLS, RTP, SDP and HTTP at every port of a real server, while real viewers watch.
//!
//! Everything thrown comes from one seed, so a failure can be thrown again: `SLUICE_ADVERSARY_SEED`. For how long:
//! `SLUICE_ADVERSARY_SECONDS` (`scripts/test` says 60, or 30 in CI), in two equal halves. What must hold: the server lives, does not panic, and the
//! viewers lose nothing; after each half it lets go of every session, connection and thread; and what the first half did not
//! take in memory the second does not take either.
#![allow(clippy::disallowed_methods, reason = "a client over real sockets, on threads of its own")]

mod attack;
mod datagrams;
mod http;
mod log;
mod rtmp;
mod sdp;
mod target;

use std::{env, thread, time::Duration};

use attack::{Attack, Chance};
use target::{Audience, Target};

const SEED: u64 = 20_260_101;
const SECONDS: u64 = 6;

/// In the storm the server may hold what its bounds allow: some hundred half-made sessions of tens of KB, tables that grew,
/// and what the allocator holds back.
const STORM_BYTES_MAX: u64 = 64 << 20;

/// What the second half may add to what was left by the first, which grew tables and the allocator's stock to the size that an
/// equal storm needs.
const LEFT_BYTES_MAX: u64 = 4 << 20;

/// A line per refused request or ended session is fine, at some hundred a second; a line per datagram is not.
const LOG_BYTES_MAX: usize = 8 << 20;

const ATTACKS: [(&str, Attack); 6] = [
    ("http", http::requests),
    ("sdp", sdp::offers),
    ("rtmp", rtmp::connections),
    ("datagrams", datagrams::strangers),
    ("sessions", datagrams::insiders),
    ("ice-tcp", datagrams::framed),
];

fn from_environment(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn adversary_cannot_hurt_the_server_or_its_viewers() {
    let seed = from_environment("SLUICE_ADVERSARY_SEED", SEED);
    let lasting = Duration::from_secs(from_environment("SLUICE_ADVERSARY_SECONDS", SECONDS)) / 2;
    let target = Target::start();
    let rest = target.holdings();
    eprintln!("at rest: {rest:?}");
    let left = ["first", "second"].map(|half| {
        let audience = Audience::seat(&target, lasting);
        let calm = target.holdings();
        let thrown = storm(&target, seed, lasting);
        eprintln!("{half} half, seed {seed}, thrown in {lasting:?}: {thrown:?}");
        let stormy = target.holdings();
        assert!(target.is_alive(), "the server ended:\n{}", target.log.tail());
        assert!(target.answers(), "the server no longer answers:\n{}", target.log.tail());
        let grown_bytes = stormy.resident_bytes.saturating_sub(calm.resident_bytes);
        assert!(grown_bytes < STORM_BYTES_MAX, "{half} half: grew by {grown_bytes} bytes: {stormy:?}");
        assert_played_well(audience);
        let left = target.settle(&rest);
        eprintln!("{half} half: {stormy:?}, {left:?} when all had gone");
        assert!(
            left.sessions <= rest.sessions && left.descriptors <= rest.descriptors && left.threads <= rest.threads,
            "{half} half: something stays: {left:?}, before the storm {rest:?}\n{}",
            target.log.tail()
        );
        left
    });
    let leaked_bytes = left[1].resident_bytes.saturating_sub(left[0].resident_bytes);
    let log_bytes = target.log.text().len();
    eprintln!("the second half left {} KB more than the first; {} KB of log", leaked_bytes >> 10, log_bytes >> 10);
    assert!(!target.log.text().contains("panicked at"), "a panic:\n{}", target.log.tail());
    assert!(log_bytes < LOG_BYTES_MAX, "every bad packet writes a line:\n{}", target.log.tail());
    assert!(leaked_bytes < LEFT_BYTES_MAX, "{leaked_bytes} bytes more are left after the second half");
    target.stop();
}

/// All attacks at once; how many things each threw.
fn storm(target: &Target, seed: u64, lasting: Duration) -> Vec<(&'static str, u64)> {
    let addresses = target.addresses;
    let thrown: Vec<_> = thread::scope(|scope| {
        let threads: Vec<_> = ATTACKS
            .iter()
            .zip(seed..)
            .map(|(&(name, attack), seed)| {
                scope.spawn(move || (name, attack::repeat(attack, &addresses, Chance::new(seed), lasting)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an attack does not panic itself")).collect()
    });
    for (name, count) in &thrown {
        assert!(*count > 0, "nothing of {name} was thrown");
    }
    thrown
}

fn assert_played_well(audience: Audience) {
    let verdict = audience.verdict();
    let [viewers, playing, packets, lost] = ["viewers", "playing", "packets", "lost"].map(|name| verdict[name].clone());
    let seen = format!("{playing} of {viewers} viewers play, {lost} packets lost, {packets} received");
    eprintln!("{seen}");
    assert_eq!(playing, viewers, "{seen}: {}", verdict["failures"]);
    assert_eq!(lost, 0, "{seen}");
}
