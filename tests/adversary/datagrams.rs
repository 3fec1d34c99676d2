//! STUN, DTLS, RTP and RTCP at the WebRTC port: from strangers, from owners of half-made sessions, and framed over TCP.

use std::{io::Write, net::TcpStream, net::UdpSocket};

use aws_lc_rs::hmac;

use crate::{
    attack::{Addresses, Chance},
    http::{PATIENCE, throw},
    sdp::{offer, post},
};

const MAGIC_COOKIE: u32 = 0x2112_a442;
const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const ICE_CONTROLLING: u16 = 0x802a;
const FINGERPRINT: u16 = 0x8028;
const FINGERPRINT_XOR: u32 = 0x5354_554e;

/// From an address that the server has never heard of.
pub fn strangers(addresses: &Addresses, chance: &mut Chance) -> u64 {
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return 0 };
    let count = 1 + chance.below(12);
    for _ in 0..count {
        let datagram = datagram(chance, "nobody:EsAw", "nobody's password of 24 c");
        let _ = socket.send_to(&datagram, addresses.webrtc);
    }
    count as u64
}

/// Makes a session, proves itself by a good check, and goes on with nonsense on the path that is now trusted.
pub fn insiders(addresses: &Addresses, chance: &mut Chance) -> u64 {
    let (path, direction) = if chance.one_in(3) { ("/whip/junk", "sendonly") } else { ("/whep/live", "recvonly") };
    let answer = throw(addresses.http, &post(path, offer(direction, "EsAw").as_bytes()));
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let field =
        |name: &str| answer.lines().find_map(|line| line.strip_prefix(name)).map(|value| value.trim().to_owned());
    let (Some(ufrag), Some(pwd)) = (field("a=ice-ufrag:"), field("a=ice-pwd:")) else { return 0 };
    let Ok(socket) = UdpSocket::bind("127.0.0.1:0") else { return 0 };
    let username = format!("{ufrag}:EsAw");
    let _ = socket.send_to(&check(&username, &pwd, chance), addresses.webrtc);
    let count = 10 + chance.below(60);
    for _ in 0..count {
        let datagram = datagram(chance, &username, &pwd);
        let _ = socket.send_to(&datagram, addresses.webrtc);
    }
    // Answers are taken until the server is silent: that makes less than ten sessions a second, and they end by themselves.
    let _ = socket.set_read_timeout(Some(PATIENCE / 3));
    let mut sink = [0; 2048];
    while socket.recv(&mut sink).is_ok() {}
    count as u64
}

/// The same over TCP, in frames (RFC 4571) whose lengths are not always true.
pub fn framed(addresses: &Addresses, chance: &mut Chance) -> u64 {
    let Ok(mut stream) = TcpStream::connect_timeout(&addresses.webrtc, PATIENCE) else { return 0 };
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let count = 1 + chance.below(20);
    for _ in 0..count {
        let datagram = datagram(chance, "nobody:EsAw", "nobody's password of 24 c");
        let length = if chance.one_in(4) { chance.number() as u16 } else { datagram.len() as u16 };
        if stream.write_all(&[&length.to_be_bytes()[..], &datagram].concat()).is_err() {
            break;
        }
    }
    count as u64
}

fn datagram(chance: &mut Chance, username: &str, pwd: &str) -> Vec<u8> {
    let mut bytes = match chance.below(8) {
        0 => chance.bytes(1500),
        1 => check(username, pwd, chance),
        2 => lying_stun(chance),
        3 | 4 => dtls(chance),
        5 => rtcp(chance),
        _ => rtp(chance),
    };
    if chance.one_in(2) {
        chance.damage(&mut bytes);
    }
    bytes
}

/// A binding request that the owner of this password accepts (RFC 8489, RFC 8445 section 7.1).
fn check(username: &str, pwd: &str, chance: &mut Chance) -> Vec<u8> {
    let mut bytes = vec![0, 1, 0, 0];
    bytes.extend(MAGIC_COOKIE.to_be_bytes());
    bytes.extend((0..12).map(|_| chance.byte()));
    attribute(&mut bytes, USERNAME, username.as_bytes());
    attribute(&mut bytes, PRIORITY, &1u32.to_be_bytes());
    attribute(&mut bytes, ICE_CONTROLLING, &[7; 8]);
    attribute(&mut bytes, USE_CANDIDATE, &[]);
    set_length(&mut bytes, 24);
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
    let tag = hmac::sign(&key, &bytes);
    attribute(&mut bytes, MESSAGE_INTEGRITY, tag.as_ref());
    set_length(&mut bytes, 8);
    let sum = crc32(&bytes) ^ FINGERPRINT_XOR;
    attribute(&mut bytes, FINGERPRINT, &sum.to_be_bytes());
    bytes
}

fn lying_stun(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = (chance.number() as u16 & 0x3fff).to_be_bytes().to_vec();
    bytes.extend((chance.number() as u16).to_be_bytes());
    bytes.extend(MAGIC_COOKIE.to_be_bytes());
    bytes.extend((0..12).map(|_| chance.byte()));
    for _ in 0..chance.below(30) {
        bytes.extend((chance.number() as u16).to_be_bytes());
        bytes.extend((chance.number() as u16).to_be_bytes());
        bytes.extend(chance.bytes(40));
    }
    if chance.one_in(2) {
        set_length(&mut bytes, 0);
    }
    bytes
}

fn attribute(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    bytes.extend(kind.to_be_bytes());
    bytes.extend((value.len() as u16).to_be_bytes());
    bytes.extend(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The header's length field, as if `more_bytes` followed.
fn set_length(bytes: &mut [u8], more_bytes: usize) {
    let length = (bytes.len() - 20 + more_bytes) as u16;
    bytes[2..4].copy_from_slice(&length.to_be_bytes());
}

/// ISO 3309, as STUN's FINGERPRINT has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0xedb8_8320 } else { 0 })
    })
}

/// Records with handshake headers inside: fragments that overlap, lengths that lie, any epoch, any type.
fn dtls(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=chance.below(3) {
        let mut message = vec![chance.pick(&[&1u8, &2, &11, &12, &14, &16, &20, &4, &99]).to_owned()];
        message.extend(&(chance.number() as u32).to_be_bytes()[1..]);
        message.extend((chance.below(4) as u16).to_be_bytes());
        message.extend(&(chance.number() as u32).to_be_bytes()[1..]);
        message.extend(&(chance.number() as u32).to_be_bytes()[1..]);
        message.extend([0xfe, 0xfd]);
        message.extend(chance.bytes(300));
        bytes.push(chance.pick(&[&20u8, &21, &22, &22, &22, &23, &24, &63]).to_owned());
        bytes.extend([0xfe, 0xfd]);
        bytes.extend((chance.below(3) as u16).to_be_bytes());
        bytes.extend(&(chance.number()).to_be_bytes()[2..]);
        let length = if chance.one_in(3) { chance.number() as u16 } else { message.len() as u16 };
        bytes.extend(length.to_be_bytes());
        bytes.extend(message);
    }
    bytes
}

fn rtp(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = vec![0x80 | (chance.byte() & 0x3f), chance.pick(&[&96u8, &97, &98, &111, &224, &225]).to_owned()];
    bytes.extend((chance.number() as u16).to_be_bytes());
    bytes.extend((chance.number() as u32).to_be_bytes());
    bytes.extend((chance.number() as u32).to_be_bytes());
    bytes.extend(chance.bytes(1300));
    bytes
}

fn rtcp(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = Vec::new();
    for _ in 0..=chance.below(4) {
        bytes.push(0x80 | (chance.byte() & 0x3f));
        bytes.push(200 + chance.below(9) as u8);
        bytes.extend((chance.number() as u16).to_be_bytes());
        bytes.extend(chance.bytes(200));
    }
    bytes
}

#[test]
fn the_checksum_is_that_of_iso_3309() {
    assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
}
