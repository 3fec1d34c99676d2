//! RTMP connections that start well, or not even that, and go on badly.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use crate::{
    attack::{Addresses, Chance},
    http::PATIENCE,
};

const HANDSHAKE_BYTES: usize = 1536;

pub fn connections(addresses: &Addresses, chance: &mut Chance) -> u64 {
    let Ok(mut stream) = TcpStream::connect_timeout(&addresses.rtmp, PATIENCE) else { return 0 };
    let _ = stream.set_read_timeout(Some(PATIENCE));
    let _ = stream.set_write_timeout(Some(PATIENCE));
    let mut hello = vec![if chance.one_in(8) { chance.byte() } else { 3 }];
    hello.extend((0..HANDSHAKE_BYTES).map(|_| chance.byte()));
    if chance.one_in(8) {
        chance.damage(&mut hello);
    }
    if stream.write_all(&hello).is_err() {
        return 1;
    }
    let mut answer = vec![0; 1 + 2 * HANDSHAKE_BYTES];
    if stream.read_exact(&mut answer).is_err() {
        return 1;
    }
    let mut bytes = answer[1..=HANDSHAKE_BYTES].to_vec();
    // Commands that get somewhere, so that what follows is looked at.
    if !chance.one_in(5) {
        bytes.extend(chunk(3, 0, 20, 0, &command("connect", 1.0, &[object(&[("app", "live")])])));
    }
    if !chance.one_in(5) {
        bytes.extend(chunk(3, 0, 20, 0, &command("createStream", 2.0, &[vec![5]])));
        bytes.extend(chunk(3, 0, 20, 1, &command("publish", 3.0, &[vec![5], string("junk"), string("live")])));
    }
    for _ in 0..chance.below(40) {
        let mut message = random_message(chance);
        if chance.one_in(4) {
            chance.damage(&mut message);
        }
        bytes.extend(message);
    }
    let _ = stream.write_all(&bytes);
    // Answers are taken, or the server would rightly wait for us.
    let mut sink = [0; 4096];
    while let Ok(1..) = stream.read(&mut sink) {}
    1
}

fn random_message(chance: &mut Chance) -> Vec<u8> {
    let timestamp = if chance.one_in(3) { chance.number() as u32 } else { chance.below(100_000) as u32 };
    match chance.below(10) {
        // Set chunk size, abort, acknowledgement, window, peer bandwidth: with any number.
        0 => chunk(2, timestamp, [1, 2, 3, 5, 6][chance.below(5)], 0, &(chance.number() as u32).to_be_bytes()),
        1 => chunk(2, timestamp, 4, 0, &chance.bytes(16)),
        2 => chunk(3, timestamp, 20, 1, &nested(chance)),
        3 => chunk(3, timestamp, chance.pick(&[&17u8, &18, &19, &15, &16, &20, &22]).to_owned(), 1, &chance.bytes(300)),
        // An aggregate or a header that promises more than comes.
        4 => header(5, timestamp, chance.number() as u32 & 0xff_ffff, chance.pick(&[&8u8, &9, &20, &22]).to_owned(), 1),
        5 => chunk(4, timestamp, 8, 1, &audio(chance)),
        6 => chance.bytes(64),
        _ => chunk(6, timestamp, 9, 1, &video(chance)),
    }
}

fn video(chance: &mut Chance) -> Vec<u8> {
    // Good parameter sets of a 16x16 picture, most of the time.
    let configuration: &[u8] = &[
        0x17, 0, 0, 0, 0, 1, 0x42, 0xc0, 0x1e, 0xff, 0xe1, 0, 9, 0x67, 0x42, 0xc0, 0x1e, 0xda, 0x7b, 0x01, 0x10, 0x80,
        1, 0, 4, 0x68, 0xce, 0x3c, 0x80,
    ];
    let mut bytes = match chance.below(4) {
        0 => configuration.to_vec(),
        1 => [&[0x17, 1, 0, 0, 0][..], &(chance.number() as u32).to_be_bytes(), &chance.bytes(200)].concat(),
        2 => {
            let nal = chance.bytes(3000);
            [&[0x27, 1, 0xff, 0xff, 0xff][..], &(nal.len() as u32).to_be_bytes(), &nal].concat()
        }
        // Enhanced RTMP: any packet type, any codec.
        _ => [
            &[0x80 | chance.byte()][..],
            chance.pick(&["hvc1", "av01", "avc1", "vp09", "\0\0\0\0"]).as_bytes(),
            &chance.bytes(200),
        ]
        .concat(),
    };
    if chance.one_in(2) {
        chance.damage(&mut bytes);
    }
    bytes
}

fn audio(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = match chance.below(3) {
        0 => vec![0xaf, 0, 0x11, 0x90],
        1 => [&[0xaf, 1][..], &chance.bytes(500)].concat(),
        _ => [&[chance.byte()][..], &chance.bytes(500)].concat(),
    };
    if chance.one_in(3) {
        chance.damage(&mut bytes);
    }
    bytes
}

/// AMF0 that opens objects and arrays again and again, with lengths that are lies.
fn nested(chance: &mut Chance) -> Vec<u8> {
    let mut bytes =
        string(chance.pick(&["connect", "publish", "releaseStream", "@setDataFrame", "play", "deleteStream"]));
    for _ in 0..chance.below(3000) {
        match chance.below(3) {
            0 => bytes.extend([3, 0, 1, b'a']),
            1 => bytes.extend([&[10][..], &(chance.number() as u32).to_be_bytes()].concat()),
            _ => bytes.extend([&[8][..], &(chance.number() as u32).to_be_bytes(), &[0, 1, b'b']].concat()),
        }
    }
    bytes
}

fn string(text: &str) -> Vec<u8> {
    [&[2][..], &(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

fn object(properties: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = vec![3];
    for (name, value) in properties {
        bytes.extend(&string(name)[1..]);
        bytes.extend(string(value));
    }
    bytes.extend([0, 0, 9]);
    bytes
}

fn command(name: &str, transaction: f64, arguments: &[Vec<u8>]) -> Vec<u8> {
    [string(name), [&[0][..], &transaction.to_be_bytes()].concat(), arguments.concat()].concat()
}

/// A message in chunks of 128 bytes.
fn chunk(stream: u8, timestamp: u32, kind: u8, message_stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = header(stream, timestamp, payload.len() as u32, kind, message_stream);
    for (n, part) in payload.chunks(128).enumerate() {
        if n > 0 {
            bytes.push(0xc0 | stream);
            if timestamp >= 0xff_ffff {
                bytes.extend(timestamp.to_be_bytes());
            }
        }
        bytes.extend(part);
    }
    bytes
}

fn header(stream: u8, timestamp: u32, length: u32, kind: u8, message_stream: u32) -> Vec<u8> {
    let mut bytes = vec![stream];
    bytes.extend(&timestamp.min(0xff_ffff).to_be_bytes()[1..]);
    bytes.extend(&length.to_be_bytes()[1..]);
    bytes.push(kind);
    bytes.extend(message_stream.to_le_bytes());
    if timestamp >= 0xff_ffff {
        bytes.extend(timestamp.to_be_bytes());
    }
    bytes
}
