//! The RFCs' own vectors, and `rtc-srtp` at the other end.

use rtc_srtp::{context::Context, option::srtp_replay_protection};

use super::{
    cipher::{SessionCipher, gcm_nonce, seal_gcm},
    sealer::SrtpSealer,
    *,
};
use crate::transport::certificate::provider;

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.chars().filter_map(|c| c.to_digit(16)).map(|digit| digit as u8).collect();
    digits.chunks(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

fn master(profile: SrtpProfile) -> MasterKey {
    let key: Vec<u8> = (0..profile.key_bytes() as u8).collect();
    let salt: Vec<u8> = (100..100 + profile.salt_bytes() as u8).collect();
    MasterKey::new(profile, &key, &salt).unwrap()
}

fn rtc_context(profile: SrtpProfile) -> Context {
    let master = master(profile);
    let replay = Some(srtp_replay_protection(64));
    Context::new(master.key(), master.salt(), profile.to_srtp(), replay, None, provider().crypto()).unwrap()
}

fn opener(profile: SrtpProfile) -> SrtpOpener {
    SrtpOpener::new(master(profile), provider().as_ref()).unwrap()
}

fn rtp(sequence: u16, ssrc: u32, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([1, 2, 3, 4]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

fn seal(sealer: &SrtpSealer, plain: &[u8], header_bytes: usize, ssrc: u32, index: u64) -> Vec<u8> {
    let mut packet = plain.to_vec();
    packet.resize(plain.len() + sealer.overhead_bytes(), 0);
    sealer.seal(&mut packet, header_bytes, ssrc, index);
    packet
}

/// RFC 7714 sections 16.1.1 and 16.2.1.
#[test]
fn gcm_seals_rtp_as_rfc_7714_prints_it() {
    let salt: [u8; 12] = hex("51756964 2070726f 2071756f").try_into().unwrap();
    let plain = hex(
        "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573",
    );
    let cases = [
        (
            SrtpProfile::AeadAes128Gcm,
            16,
            "f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
        ),
        (
            SrtpProfile::AeadAes256Gcm,
            32,
            "32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
        ),
    ];
    for (profile, key_bytes, expected) in cases {
        let key: Vec<u8> = (0..key_bytes).collect();
        let SessionCipher::Gcm { key, salt } = SessionCipher::new(profile, &key, &salt, &[]).unwrap() else {
            panic!("{profile:?} is GCM")
        };
        let (header, text) = plain.split_at(12);
        let (mut text, mut tag) = (text.to_vec(), [0; 16]);
        seal_gcm(&key, gcm_nonce(&salt, 0x5501_a0b2, 0xf17b), header, &mut text, &mut tag).unwrap();
        text.extend(tag);
        assert_eq!(text, hex(expected), "{profile:?}");
    }
}

/// RFC 3711 appendix B.3.
#[test]
fn session_keys_are_derived_as_rfc_3711_prints_it() {
    let key = hex("E1F97A0D3E018BE0D64FA32C06DE4139");
    let salt = hex("0EC675AD498AFEEBB6960B3AABE6");
    let master = MasterKey::new(SrtpProfile::Aes128CmHmacSha1_80, &key, &salt).unwrap();
    for (label, expected) in [
        (Label::RtpKey, "C61E7A93744F39EE10734AFE3FF7A087"),
        (Label::RtpSalt, "30CBBC08863D8C85D49DB34A9AE1"),
        (Label::RtpAuthentication, "CEBE321F6FF7716B6FD4AB49AF256A156D38BAA4"),
    ] {
        let expected = hex(expected);
        let mut derived = vec![0xff; expected.len()];
        master.derive(label, &mut derived).unwrap();
        assert_eq!(derived, expected, "{label:?}");
    }
}

#[test]
fn rtc_srtp_opens_what_we_seal_in_every_profile_across_a_rollover() {
    for profile in SrtpProfile::PREFERRED {
        let sealer = SrtpSealer::new(&master(profile)).unwrap();
        assert_eq!(sealer.overhead_bytes(), profile.tag_bytes());
        let mut context = rtc_context(profile);
        // Three wraps of the 16-bit sequence number, in steps that a receiver can follow.
        for index in (60_000..3 * 65_536 + 10_000u64).step_by(997) {
            let plain = rtp(index as u16, 0xdead_beef, &index.to_be_bytes());
            let opened = context.decrypt_rtp(&seal(&sealer, &plain, 12, 0xdead_beef, index));
            assert_eq!(opened.unwrap(), plain, "{profile:?} at {index}");
        }
    }
}

#[test]
fn a_header_with_csrcs_and_extensions_stays_in_the_clear_and_is_authenticated() {
    for profile in SrtpProfile::PREFERRED {
        let sealer = SrtpSealer::new(&master(profile)).unwrap();
        let mut plain = rtp(5, 7, &[]);
        plain[0] |= 0x11;
        plain.extend([0, 0, 0, 9]);
        plain.extend([0xbe, 0xde, 0, 1, 0x10, 0x55, 0, 0]);
        let header_bytes = plain.len();
        plain.extend(b"payload");
        let sealed = seal(&sealer, &plain, header_bytes, 7, 5);
        assert_eq!(sealed[..header_bytes], plain[..header_bytes]);
        assert_eq!(opener(profile).open_rtp(&sealed).as_deref(), Some(&plain[..]), "{profile:?}");
        let mut tampered = sealed;
        tampered[header_bytes - 3] ^= 1;
        assert_eq!(opener(profile).open_rtp(&tampered), None, "{profile:?}");
    }
}

#[test]
fn rtc_srtp_opens_our_rtcp_in_every_profile() {
    for profile in SrtpProfile::PREFERRED {
        let mut sealer = SrtcpSealer::new(&master(profile)).unwrap();
        let mut context = rtc_context(profile);
        for ssrc in [9u8, 9, 10, 9] {
            let plain = [[0x80, 201, 0, 1, 0, 0, 0, ssrc], [0x81, 206, 0, 1, 1, 2, 3, 4]].concat();
            let sealed = sealer.seal(&plain).unwrap();
            assert_eq!(sealed.len(), plain.len() + profile.tag_bytes() + RTCP_INDEX_BYTES);
            assert_eq!(context.decrypt_rtcp(&sealed).unwrap(), plain, "{profile:?}");
        }
        assert!(sealer.seal(&[0x80, 201, 0, 0]).is_none(), "no SSRC");
    }
}

#[test]
fn a_used_up_srtcp_key_seals_no_more() {
    let mut sealer = SrtcpSealer::new(&master(SrtpProfile::AeadAes128Gcm)).unwrap();
    sealer.skip_to(u32::MAX >> 1);
    assert!(sealer.seal(&[0x80, 201, 0, 1, 0, 0, 0, 9]).is_some());
    assert!(sealer.seal(&[0x80, 201, 0, 1, 0, 0, 0, 9]).is_none());
}

#[test]
fn replays_and_forgeries_are_refused() {
    for profile in SrtpProfile::PREFERRED {
        let sealer = SrtpSealer::new(&master(profile)).unwrap();
        let mut rtcp_sealer = SrtcpSealer::new(&master(profile)).unwrap();
        let mut opener = opener(profile);
        let sealed = seal(&sealer, &rtp(1, 7, b"x"), 12, 7, 1);
        assert!(opener.open_rtp(&sealed).is_some());
        assert!(opener.open_rtp(&sealed).is_none(), "{profile:?}");
        let report = rtcp_sealer.seal(&[0x80, 201, 0, 1, 0, 0, 0, 9]).unwrap();
        assert!(opener.open_rtcp(&report).is_some());
        assert!(opener.open_rtcp(&report).is_none(), "{profile:?}");
        let mut next = seal(&sealer, &rtp(2, 7, b"x"), 12, 7, 2);
        next[13] ^= 1;
        assert!(opener.open_rtp(&next).is_none());
        next[13] ^= 1;
        assert!(opener.open_rtp(&next).is_some(), "a forgery takes nothing from the real packet");
    }
}

#[test]
fn a_forged_first_packet_does_not_deafen_us_to_a_stream() {
    let sealer = SrtpSealer::new(&master(SrtpProfile::AeadAes128Gcm)).unwrap();
    let mut opener = opener(SrtpProfile::AeadAes128Gcm);
    // Far ahead, so that the real ones would be behind any replay window it opened.
    assert!(opener.open_rtp(&rtp(20_000, 7, &[0; 40])).is_none());
    for sequence in 1..100 {
        let sealed = seal(&sealer, &rtp(sequence, 7, b"x"), 12, 7, u64::from(sequence));
        assert!(opener.open_rtp(&sealed).is_some(), "packet {sequence}");
    }
}

#[test]
fn forged_and_excess_ssrcs_leave_no_state() {
    let sealer = SrtpSealer::new(&master(SrtpProfile::AeadAes128Gcm)).unwrap();
    let mut opener = opener(SrtpProfile::AeadAes128Gcm);
    for ssrc in 0..10_000 {
        assert!(opener.open_rtp(&rtp(1, ssrc, &[0; 40])).is_none());
        let report = [vec![0x80, 201, 0, 1], ssrc.to_be_bytes().to_vec(), vec![0; 20]].concat();
        assert!(opener.open_rtcp(&report).is_none());
    }
    assert_eq!(opener.known_ssrcs(), (0, 0));
    for ssrc in 0..1000 {
        opener.open_rtp(&seal(&sealer, &rtp(1, ssrc, b"x"), 12, ssrc, 1));
    }
    assert_eq!(opener.known_ssrcs(), (64, 0));
    assert!(opener.open_rtp(&seal(&sealer, &rtp(2, 0, b"x"), 12, 0, 2)).is_some(), "known ones go on");
}

#[test]
fn keying_material_is_split_as_rfc_5764_says() {
    let profile = SrtpProfile::AeadAes128Gcm;
    let material: Vec<u8> = (0..profile.material_bytes() as u8).collect();
    let keys = MasterKeys::from_material(profile, &material).unwrap();
    assert_eq!(keys.client_writes.key(), &material[..16]);
    assert_eq!(keys.server_writes.key(), &material[16..32]);
    assert_eq!(keys.client_writes.salt(), &material[32..44]);
    assert_eq!(keys.server_writes.salt(), &material[44..]);
    assert!(MasterKeys::from_material(profile, &material[1..]).is_none());
}

#[test]
#[should_panic(expected = "no room for the tag")]
fn sealing_without_room_for_the_tag_is_the_callers_mistake() {
    let sealer = SrtpSealer::new(&master(SrtpProfile::AeadAes128Gcm)).unwrap();
    sealer.seal(&mut [0x80; 27], 12, 7, 1);
}

#[test]
fn header_extensions_of_every_shape_are_opened() {
    let sealer = SrtpSealer::new(&master(SrtpProfile::AeadAes128Gcm)).unwrap();
    let shapes: [(&str, &[u8]); 9] = [
        ("no elements", &[0xbe, 0xde, 0, 0]),
        ("padding behind", &[0xbe, 0xde, 0, 1, 0x10, 0x55, 0, 0]),
        ("a word of padding", &[0xbe, 0xde, 0, 2, 0x10, 0x55, 0, 0, 0, 0, 0, 0]),
        ("padding before", &[0xbe, 0xde, 0, 1, 0, 0, 0x10, 0x55]),
        ("padding between", &[0xbe, 0xde, 0, 2, 0x10, 0x55, 0, 0x20, 0x66, 0, 0, 0]),
        ("the reserved id 15", &[0xbe, 0xde, 0, 1, 0x10, 0x55, 0xf0, 0]),
        ("two-byte headers", &[0x10, 0x00, 0, 1, 1, 1, 0x55, 0]),
        ("unknown profile", &[0x12, 0x34, 0, 1, 1, 2, 3, 4]),
        ("an id twice", &[0xbe, 0xde, 0, 1, 0x10, 0x55, 0x10, 0x56]),
    ];
    for (name, extension) in shapes {
        let mut plain = rtp(5, 7, &[]);
        plain[0] |= 0x10;
        plain.extend(extension);
        let header_bytes = plain.len();
        plain.extend(b"payload");
        let sealed = seal(&sealer, &plain, header_bytes, 7, 5);
        assert_eq!(opener(SrtpProfile::AeadAes128Gcm).open_rtp(&sealed).as_deref(), Some(&plain[..]), "{name}");
    }
}
