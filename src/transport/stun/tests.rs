//! RFC 5769's messages, our own round trip, and every way to break a check.

use std::net::SocketAddr;

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

const PWD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769 section 2.1.
const SAMPLE_REQUEST: [u8; 108] = [
    0x00, 0x01, 0x00, 0x58, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf,
    0xae, 0x80, 0x22, 0x00, 0x10, 0x53, 0x54, 0x55, 0x4e, 0x20, 0x74, 0x65, 0x73, 0x74, 0x20, 0x63, 0x6c, 0x69, 0x65,
    0x6e, 0x74, 0x00, 0x24, 0x00, 0x04, 0x6e, 0x00, 0x01, 0xff, 0x80, 0x29, 0x00, 0x08, 0x93, 0x2f, 0xf9, 0xb1, 0x51,
    0x26, 0x3b, 0x36, 0x00, 0x06, 0x00, 0x09, 0x65, 0x76, 0x74, 0x6a, 0x3a, 0x68, 0x36, 0x76, 0x59, 0x20, 0x20, 0x20,
    0x00, 0x08, 0x00, 0x14, 0x9a, 0xea, 0xa7, 0x0c, 0xbf, 0xd8, 0xcb, 0x56, 0x78, 0x1e, 0xf2, 0xb5, 0xb2, 0xd3, 0xf2,
    0x49, 0xc1, 0xb5, 0x71, 0xa2, 0x80, 0x28, 0x00, 0x04, 0xe5, 0x7a, 0x3b, 0xcf,
];

/// RFC 5769 section 2.2.
const SAMPLE_IPV4_RESPONSE: [u8; 80] = [
    0x01, 0x01, 0x00, 0x3c, 0x21, 0x12, 0xa4, 0x42, 0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf,
    0xae, 0x80, 0x22, 0x00, 0x0b, 0x74, 0x65, 0x73, 0x74, 0x20, 0x76, 0x65, 0x63, 0x74, 0x6f, 0x72, 0x20, 0x00, 0x20,
    0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43, 0x00, 0x08, 0x00, 0x14, 0x2b, 0x91, 0xf5, 0x99, 0xfd,
    0x9e, 0x90, 0xc3, 0x8c, 0x74, 0x89, 0xf9, 0x2a, 0xf9, 0xba, 0x53, 0xf0, 0x6b, 0xe7, 0xd7, 0x80, 0x28, 0x00, 0x04,
    0xc0, 0x7d, 0x4c, 0x96,
];

fn check(use_candidate: bool) -> Vec<u8> {
    let mut out = Vec::new();
    let request = CheckRequest {
        transaction_id: *b"transaction!",
        remote_ufrag: "server",
        local_ufrag: "client",
        priority: 1_234_567,
        tie_breaker: 99,
        use_candidate,
    };
    request.write(PWD, &mut out);
    out
}

#[test]
fn rfc_5769_request_is_read_and_verified() {
    let request = BindingRequest::parse(&SAMPLE_REQUEST).unwrap();
    assert_eq!((request.local_ufrag, request.remote_ufrag), ("evtj", "h6vY"));
    assert_eq!(request.priority, Some(0x6e00_01ff));
    assert!(!request.use_candidate);
    assert!(request.role_conflict, "its sender is controlled");
    assert!(request.verify(PWD));
    assert!(!request.verify("VOkJxbRl1RmTxUk/WvJxBT"));
}

#[test]
fn rfc_5769_response_is_read_and_verified() {
    let answer = BindingAnswer::parse(&SAMPLE_IPV4_RESPONSE).unwrap();
    assert_eq!(answer.mapped, Some("192.0.2.1:32853".parse().unwrap()));
    assert!(answer.verify(PWD));
}

#[test]
fn an_answer_tells_the_sender_where_it_is_and_is_signed() {
    for from in ["192.0.2.7:4321", "[2001:db8::1234]:65535"] {
        let from: SocketAddr = from.parse().unwrap();
        let datagram = check(true);
        let request = BindingRequest::parse(&datagram).unwrap();
        assert!(request.use_candidate && request.verify(PWD));
        assert_eq!((request.local_ufrag, request.remote_ufrag), ("server", "client"));
        let mut out = vec![1, 2, 3];
        request.answer(from, PWD, &mut out);
        let answer = BindingAnswer::parse(&out).unwrap();
        assert_eq!(answer.transaction_id, *b"transaction!");
        assert_eq!((answer.mapped, answer.error_code), (Some(from), None));
        assert!(answer.verify(PWD) && !answer.verify("another password"));
    }
}

#[test]
fn a_controlled_peer_is_told_to_take_control_and_nominates_nothing() {
    let request = BindingRequest::parse(&SAMPLE_REQUEST).unwrap();
    let mut out = Vec::new();
    request.answer("192.0.2.7:4321".parse().unwrap(), PWD, &mut out);
    let answer = BindingAnswer::parse(&out).unwrap();
    assert_eq!((answer.mapped, answer.error_code), (None, Some(487)));
    assert!(answer.verify(PWD));
}

/// A check with other attributes, correctly signed.
fn check_with(attributes: &[(u16, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut writer = MessageWriter::begin(&mut out, Class::Request, b"transaction!");
    for (kind, value) in attributes {
        writer.attribute(*kind, value);
    }
    writer.finish(PWD);
    out
}

#[test]
fn what_is_no_check_is_refused_with_its_reason() {
    let refused = |datagram: &[u8]| BindingRequest::parse(datagram).unwrap_err();
    assert_eq!(refused(&[]), StunError::NotStun);
    assert_eq!(refused(&check(true)[..95]), StunError::NotStun);
    assert_eq!(refused(&SAMPLE_IPV4_RESPONSE), StunError::NotExpected);
    assert_eq!(refused(&check_with(&[(0x0006, b"nocolon")])), StunError::UserName);
    assert_eq!(refused(&check_with(&[(0x0006, b"a:client")])), StunError::UserName);
    assert_eq!(refused(&check_with(&[(0x0006, b"\xff\xff\xff\xff:client")])), StunError::UserName);
    assert_eq!(refused(&check_with(&[(0x0024, &[1, 2])])), StunError::MalformedAttribute);
    assert_eq!(refused(&check_with(&[(0x0006, b"server:client"), (0x7777, &[])])), StunError::UnknownAttribute(0x7777));
    assert_eq!(refused(&check_with(&[(0x0006, &[b'a'; 1300])])), StunError::NotStun);
    let mut broken = check(true);
    *broken.last_mut().unwrap() ^= 1;
    assert_eq!(refused(&broken), StunError::Fingerprint);
    // Without its last attribute, FINGERPRINT.
    let mut bare = check(true);
    bare.truncate(bare.len() - 8);
    let length = (bare.len() - 20) as u16;
    bare[2..4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(refused(&bare), StunError::Fingerprint);
}

#[test]
fn attributes_behind_the_signature_are_ignored() {
    let mut out = Vec::new();
    let mut writer = MessageWriter::begin(&mut out, Class::Request, b"transaction!");
    writer.attribute(0x0006, b"server:client");
    writer.finish(PWD);
    // Put USE-CANDIDATE between MESSAGE-INTEGRITY and a FINGERPRINT made anew.
    out.truncate(out.len() - 8);
    out.extend([0x00, 0x25, 0, 0]);
    let forged = refingerprint(out);
    let request = BindingRequest::parse(&forged).unwrap();
    assert!(request.verify(PWD) && !request.use_candidate);
}

fn refingerprint(mut message: Vec<u8>) -> Vec<u8> {
    let length = (message.len() + 8 - 20) as u16;
    message[2..4].copy_from_slice(&length.to_be_bytes());
    let crc = message.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 })
    });
    message.extend([0x80, 0x28, 0, 4]);
    message.extend((!crc ^ 0x5354_554e).to_be_bytes());
    message
}

#[test]
fn a_mutated_check_never_verifies_and_nothing_panics() {
    let mut random = StdRng::seed_from_u64(5769);
    let original = check(true);
    for _ in 0..200_000 {
        let mut datagram = original.clone();
        for _ in 0..random.random_range(1..6) {
            let at = random.random_range(0..datagram.len());
            match random.random_range(0..4) {
                0 => datagram[at] = random.random(),
                1 => datagram[at] ^= 1 << random.random_range(0..8),
                2 => datagram.truncate(at.max(1)),
                _ => datagram.insert(at, random.random()),
            }
        }
        // With a right length and CRC, so that most get past those.
        if random.random() && datagram.len() > 28 {
            datagram.truncate((datagram.len() - 8) / 4 * 4);
            datagram = refingerprint(datagram);
        }
        let _ = BindingAnswer::parse(&datagram);
        if let Ok(request) = BindingRequest::parse(&datagram)
            && request.verify(PWD)
        {
            let until_integrity = original.len() - 8;
            assert_eq!(datagram[4..until_integrity], original[4..until_integrity]);
        }
    }
}
