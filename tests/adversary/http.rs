//! Requests that break HTTP, or the paths and headers of ours.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use crate::attack::{Addresses, Chance};

/// The server may answer or close; nobody waits longer than this for either.
pub const PATIENCE: Duration = Duration::from_millis(300);

const METHODS: &[&str] =
    &["GET", "POST", "PATCH", "DELETE", "OPTIONS", "HEAD", "PUT", "TRACE", "", "get", "BREW", "PRI"];
const PATHS: &[&str] = &[
    "/",
    "/whip/junk",
    "/whep/live",
    "/whep/live/not-a-session",
    "/whip/junk/00000000-0000-4000-8000-000000000000",
    "/whep/live/00000000-0000-4000-8000-000000000000/layer",
    "/whip/%00",
    "/whip/%zz",
    "/whip/..%2f..%2fetc",
    "/whip/../../metrics",
    "/whep/a/b/c/d/e",
    "/hls/live/index.m3u8",
    "/api/v1/streams",
    "/api/v1/streams/%ff",
    "/watch/%3Cscript%3E",
    "//",
    "*",
    "http://elsewhere/whip/junk",
    "/metrics?token=%00",
];
const HEADERS: &[&str] = &[
    "content-type: application/sdp",
    "content-type: application/trickle-ice-sdpfrag",
    "content-type: \u{7f}",
    "content-length: 18446744073709551616",
    "content-length: -1",
    "content-length: 4",
    "transfer-encoding: chunked",
    "transfer-encoding: gzip, chunked",
    "authorization: Bearer",
    "authorization: Bearer a.b.c",
    "authorization: Bearer eyJhbGciOiJub25lIn0.e30.",
    "if-match: *",
    "if-match: \"\"",
    "if-none-match: W/\"",
    "origin: null",
    "host: ",
    "host: a\tb",
    "expect: 100-continue",
    "connection: upgrade",
    "upgrade: h2c",
    "range: bytes=9-0",
    "accept-encoding: ;q=9",
    "x: ",
    ": empty",
    " folded",
];

pub fn requests(addresses: &Addresses, chance: &mut Chance) -> u64 {
    let mut request = Vec::new();
    let version = chance.pick(&["HTTP/1.1", "HTTP/1.1", "HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/9", ""]);
    request.extend(format!("{} {} {version}\r\nhost: localhost\r\n", chance.pick(METHODS), chance.pick(PATHS)).bytes());
    for _ in 0..chance.below(6) {
        request.extend(format!("{}\r\n", chance.pick(HEADERS)).bytes());
    }
    if chance.one_in(20) {
        let long = "a".repeat(chance.below(200_000));
        request.extend(format!("x-long: {long}\r\n").bytes());
    }
    if chance.one_in(20) {
        for n in 0..chance.below(500) {
            request.extend(format!("x-{n}: {n}\r\n").bytes());
        }
    }
    request.extend(b"\r\n");
    let body_max = if chance.one_in(10) { 100_000 } else { 300 };
    request.extend(chance.bytes(body_max));
    if chance.one_in(2) {
        chance.damage(&mut request);
    }
    throw(addresses.http, &request);
    1
}

/// Sends it and reads what comes until the other side is silent or gone.
pub fn throw(to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
    let mut answer = Vec::new();
    let Ok(mut stream) = TcpStream::connect_timeout(&to, PATIENCE) else { return answer };
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    if stream.write_all(bytes).is_ok() {
        let mut chunk = [0; 4096];
        while let Ok(count @ 1..) = stream.read(&mut chunk) {
            answer.extend_from_slice(&chunk[..count]);
            if count < chunk.len() {
                break;
            }
        }
    }
    answer
}
