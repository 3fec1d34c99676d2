//! What a configuration must fulfil as a whole: values in range, and no door open to strangers by accident.

use std::{collections::HashSet, net::SocketAddr, ops::RangeInclusive};

use tracing_subscriber::EnvFilter;

use super::{AuthMode, Config};

/// The shortest secret for HS256: as long as its hash (RFC 7518 section 3.2).
pub const HS256_SECRET_MIN_BYTES: usize = 32;

/// STUN and TURN servers: browsers warn of more than four, and every answer names them all.
const ICE_SERVERS_MAX: usize = 8;

/// Sizes of a ladder: layers of a track are few.
pub const LADDER_MAX_RUNGS: usize = 3;
/// Sources of streams.
const PULL_SOURCES_MAX: usize = 256;
/// Targets of `relay.push`: each is looked at whenever a stream changes, and a glob stands for any number of streams.
const PUSH_TARGETS_MAX: usize = 256;

/// What is wrong with a setting, fit for the user.
pub(super) struct Fault {
    pub key: &'static str,
    pub message: String,
}

/// Everything that is wrong; empty when nothing is.
pub(super) fn faults(config: &Config) -> Vec<Fault> {
    let mut faults = Vec::new();
    ranges(config, &mut faults);
    ports(config, &mut faults);
    ice(config, &mut faults);
    auth(config, &mut faults);
    output(config, &mut faults);
    rtmp(config, &mut faults);
    ladder(config, &mut faults);
    relay(config, &mut faults);
    pull(config, &mut faults);
    doors(config, &mut faults);
    if let Err(error) = EnvFilter::try_new(&config.log.level) {
        faults.push(Fault { key: "log.level", message: format!("{:?} is no filter: {error}", config.log.level) });
    }
    faults
}

fn ranges(config: &Config, faults: &mut Vec<Fault>) {
    let mut within = |key, value: u32, range: RangeInclusive<u32>| {
        if !range.contains(&value) {
            let message = format!("{value} is out of range; expected {} to {}", range.start(), range.end());
            faults.push(Fault { key, message });
        }
    };
    within("http.connections_max", config.http.connections_max, 1..=65_536);
    within("http.client_requests_per_s", config.http.client_requests_per_s, 0..=100_000);
    within("http.client_requests_burst", config.http.client_requests_burst, 1..=100_000);
    within("webrtc.workers", config.webrtc.workers.into(), 0..=256);
    within("webrtc.join_burst_mbps", config.webrtc.join_burst_mbps, 0..=1_000);
    within("webrtc.playout_delay_max_ms", u32::from(config.webrtc.playout_delay_max_ms), 10..=10_000);
    within("rtmp.connections_max", config.rtmp.connections_max, 1..=65_536);
    within("publish.hand_back_s", config.publish.hand_back_s, 0..=3_600);
    within("whep.wait_max_s", config.whep.wait_max_s, 10..=86_400);
    within("webrtc.sessions_max", config.webrtc.sessions_max, 1..=1_000_000);
    within("hls.part_ms", config.hls.part_ms, 100..=2_000);
    within("hls.segment_s", config.hls.segment_s, 1..=10);
    within("hls.window_segments", config.hls.window_segments, 3..=100);
    within("hls.dvr_s", config.hls.dvr_s, 0..=86_400);
    within("hls.window_max_mb", config.hls.window_max_mb, 8..=1_000_000);
    within("hls.idle_s", config.hls.idle_s, 5..=86_400);
    within("hls.away_s", config.hls.away_s, 1..=86_400);
    within("hls.streams_max", config.hls.streams_max, 1..=100_000);
    within("hls.waiting_max", config.hls.waiting_max, 1..=1_000_000);
    within("hls.client_waiting_max", config.hls.client_waiting_max, 1..=1_000_000);
    within("transcode.streams_max", config.transcode.streams_max, 1..=1_000);
    within("ice.turn_ttl_s", config.ice.turn_ttl_s, 60..=2_592_000);
}

/// A door that takes nothing.
fn rtmp(config: &Config, faults: &mut Vec<Fault>) {
    if !config.rtmp.plain && config.rtmp.tls.is_empty() {
        let message =
            "without rtmp.tls nothing would be taken; name certificate and key there, or leave it true".to_owned();
        faults.push(Fault { key: "rtmp.plain", message });
    }
    if let Some(url) = &config.rtmp.reconnect_to {
        let rest = url.strip_prefix("rtmp://").or_else(|| url.strip_prefix("rtmps://"));
        let has_host = rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(['/', ':', '?']));
        if !has_host || url.contains(['@', '?']) {
            let message = format!("{url:?} is no URL such as rtmp://b.example.net/live, without user and query");
            faults.push(Fault { key: "rtmp.reconnect_to", message });
        }
    }
}

/// Each size once, and not more than there are layers for.
fn ladder(config: &Config, faults: &mut Vec<Fault>) {
    let ladder = &config.transcode.ladder;
    let mut fault = |message| faults.push(Fault { key: "transcode.ladder", message });
    if ladder.len() > LADDER_MAX_RUNGS {
        fault(format!("{} sizes are too many; name {LADDER_MAX_RUNGS} at the most", ladder.len()));
    }
    for (at, rung) in ladder.iter().enumerate() {
        if ladder[..at].iter().any(|other| other.short_side == rung.short_side) {
            fault(format!("{} is there twice", rung.name()));
        }
    }
}

/// A stream has one source, and sources are few: each has a task, and may have a connection, all the time.
fn pull(config: &Config, faults: &mut Vec<Fault>) {
    let sources = &config.relay.pull;
    let mut fault = |message| faults.push(Fault { key: "relay.pull", message });
    if sources.len() > PULL_SOURCES_MAX {
        fault(format!("{} sources are listed; expected {PULL_SOURCES_MAX} at most", sources.len()));
    }
    let mut names = HashSet::new();
    if let Some(source) = sources.iter().find(|source| !names.insert(&source.stream)) {
        fault(format!("{} is there twice; a stream has one source", source.stream));
    }
}

fn relay(config: &Config, faults: &mut Vec<Fault>) {
    let targets = config.relay.push.len();
    if targets > PUSH_TARGETS_MAX {
        let message = format!(
            "{targets} targets are listed; expected {PUSH_TARGETS_MAX} at most. A glob stands for all streams that are called so"
        );
        faults.push(Fault { key: "relay.push", message });
    }
}

/// What is put somewhere is made first.
fn output(config: &Config, faults: &mut Vec<Fault>) {
    if config.hls.output.is_some() && !config.hls.enabled {
        let message = "there is nothing to put there while hls.enabled is false; unset one of the two".to_owned();
        faults.push(Fault { key: "hls.output", message });
    }
}

/// Two doors on one TCP port: the second could not be opened.
fn ports(config: &Config, faults: &mut Vec<Fault>) {
    let mut doors = vec![("http.listen", config.http.listen), ("webrtc.listen", config.webrtc.listen)];
    if config.rtmp.enabled {
        doors.push(("rtmp.listen", config.rtmp.listen));
    }
    for (at, (key, address)) in doors.iter().enumerate() {
        if let Some((other, _)) = doors[..at].iter().find(|(_, other)| collide(*other, *address)) {
            let message = format!("TCP port {} is also that of {other}; give each its own", address.port());
            faults.push(Fault { key, message });
        }
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let (a_ip, b_ip) = (a.ip().to_canonical(), b.ip().to_canonical());
    let same_ip = a_ip == b_ip || a_ip.is_unspecified() || b_ip.is_unspecified();
    a.port() != 0 && a.port() == b.port() && same_ip
}

/// Servers that clients can use: browsers take no TURN server without a user name and a password.
fn ice(config: &Config, faults: &mut Vec<Fault>) {
    let ice = &config.ice;
    let mut fault = |key, message: String| faults.push(Fault { key, message });
    if ice.servers.len() > ICE_SERVERS_MAX {
        let message = format!("{} servers are listed; expected {ICE_SERVERS_MAX} at most", ice.servers.len());
        fault("ice.servers", message);
    }
    match (&ice.turn_secret, &ice.turn_username, &ice.turn_credential) {
        (Some(_), Some(_), _) | (Some(_), _, Some(_)) => fault(
            "ice.turn_secret",
            "credentials are made of the secret, so ice.turn_username and ice.turn_credential have no meaning; set one or the other"
                .to_owned(),
        ),
        (None, Some(_), None) => fault("ice.turn_username", "it takes a password: set ice.turn_credential too".to_owned()),
        (None, None, Some(_)) => fault("ice.turn_credential", "it takes a user name: set ice.turn_username too".to_owned()),
        (None, None, None) => {
            if let Some(turn) = ice.servers.iter().find(|server| server.is_turn()) {
                let message = format!(
                    "browsers take no TURN server without credentials, and {turn} has none; set ice.turn_secret, or ice.turn_username \
                     and ice.turn_credential"
                );
                fault("ice.servers", message);
            }
        }
        _ => {}
    }
    for (key, text) in [
        ("ice.turn_secret", &ice.turn_secret),
        ("ice.turn_username", &ice.turn_username),
        ("ice.turn_credential", &ice.turn_credential),
    ] {
        // They go into a header, quoted (RFC 9110 section 5.6.4).
        let is_sendable = |text: &String| !text.is_empty() && text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if text.as_ref().is_some_and(|text| !is_sendable(text)) {
            fault(
                key,
                "expected a text of at least one letter, all of them visible ASCII letters or spaces".to_owned(),
            );
        }
    }
}

fn auth(config: &Config, faults: &mut Vec<Fault>) {
    let key = "auth.hs256_secret";
    match &config.auth.hs256_secret {
        Some(secret) if secret.len() < HS256_SECRET_MIN_BYTES => {
            let bytes = secret.len();
            let message = format!(
                "the secret has {bytes} bytes; expected at least {HS256_SECRET_MIN_BYTES}, such as `openssl rand -hex 32` prints"
            );
            faults.push(Fault { key, message });
        }
        None if config.auth.mode == AuthMode::Jwt => {
            let message =
                "auth.mode is \"jwt\", but there is no secret to check tokens with; expected a text of at least \
                           32 bytes, such as `openssl rand -hex 32` prints"
                    .to_owned();
            faults.push(Fault { key, message });
        }
        _ => {}
    }
}

/// The auth rule: without tokens the doors are loopback, unless the user says that it is meant.
fn doors(config: &Config, faults: &mut Vec<Fault>) {
    if config.auth.mode != AuthMode::Open || config.auth.allow_open {
        return;
    }
    let mut must_be_loopback = |key, listen: SocketAddr| {
        if !listen.ip().to_canonical().is_loopback() {
            let message = format!(
                "{listen} can be reached from other machines, and auth.mode is \"open\": anybody could publish and watch. \
                 Set auth.mode = \"jwt\" (with auth.hs256_secret), or auth.allow_open = true if that is meant"
            );
            faults.push(Fault { key, message });
        }
    };
    must_be_loopback("http.listen", config.http.listen);
    if config.rtmp.enabled {
        must_be_loopback("rtmp.listen", config.rtmp.listen);
    }
}
