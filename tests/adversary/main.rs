//! Malformed RTMP, STUN, DTLS, RTP, SDP and HTTP at every port of a real server, while real viewers watch.
//!
//! Everything thrown comes from one seed, so a failure can be thrown again: `SLUICE_ADVERSARY_SEED`. For how long:
//! `SLUICE_ADVERSARY_SECONDS` (`scripts/test` says 60). What must hold: the server lives, does not panic, does not grow,
//! and the viewers lose nothing.
#![allow(clippy::disallowed_methods, reason = "a client over real sockets, on threads of its own")]

mod attack;
mod datagrams;
mod http;
mod rtmp;
mod sdp;
mod target;

use std::{env, thread, time::Duration};

use attack::{Attack, Chance};
use target::{Audience, Target};

const SEED: u64 = 20_260_101;
const SECONDS: u64 = 5;

/// The server may keep what its bounds allow: some hundred half-made sessions of tens of KB, tables that grew, and what
/// the allocator holds back. A leak per request or datagram would be many times this in a minute.
const GROWTH_BYTES_MAX: u64 = 64 << 20;

/// A line per refused request or ended session is fine, at some hundred a second; a line per datagram is not.
const LOG_BYTES_MAX: usize = 8 << 20;

fn from_environment(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn adversary_cannot_hurt_the_server_or_its_viewers() {
    let seed = from_environment("SLUICE_ADVERSARY_SEED", SEED);
    let lasting = Duration::from_secs(from_environment("SLUICE_ADVERSARY_SECONDS", SECONDS));
    let target = Target::start();
    let audience = Audience::seat(&target, lasting);

    // What the server takes for its ordinary life is taken before the storm.
    let calm_bytes = target.resident_bytes();
    let attacks: [(&str, Attack); 6] = [
        ("http", http::requests),
        ("sdp", sdp::offers),
        ("rtmp", rtmp::connections),
        ("datagrams", datagrams::strangers),
        ("sessions", datagrams::insiders),
        ("ice-tcp", datagrams::framed),
    ];
    let thrown: Vec<(&str, u64)> = thread::scope(|scope| {
        let threads: Vec<_> = attacks
            .iter()
            .zip(seed..)
            .map(|((name, attack), seed)| {
                let (addresses, name, attack) = (target.addresses, *name, *attack);
                scope.spawn(move || (name, attack::repeat(attack, &addresses, Chance::new(seed), lasting)))
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("an attack does not panic itself")).collect()
    });
    eprintln!("seed {seed}, thrown in {lasting:?}: {thrown:?}");
    for (name, count) in &thrown {
        assert!(*count > 0, "nothing of {name} was thrown");
    }

    let verdict = audience.verdict();
    let grown_bytes = target.resident_bytes().saturating_sub(calm_bytes);
    let log = target.log();
    let [viewers, playing, packets, lost] = ["viewers", "playing", "packets", "lost"].map(|name| verdict[name].clone());
    let seen = format!("{playing} of {viewers} viewers play, {lost} packets lost, {packets} received");
    eprintln!("{seen}; grown by {} KB; {} KB of log", grown_bytes >> 10, log.len() >> 10);
    assert!(target.is_alive(), "the server ended:\n{}", target.log_tail());
    assert!(target.answers(), "the server no longer answers:\n{}", target.log_tail());
    assert!(!log.contains("panicked at"), "a panic:\n{}", target.log_tail());
    assert!(grown_bytes < GROWTH_BYTES_MAX, "grew by {grown_bytes} bytes");
    assert!(log.len() < LOG_BYTES_MAX, "every bad packet writes a line:\n{}", target.log_tail());
    assert_eq!(playing, viewers, "{seen}: {}", verdict["failures"]);
    assert_eq!(lost, 0, "{seen}");
    target.stop();
}
