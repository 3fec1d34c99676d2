//! Offers that are refused: with which status, and with what word on what to change.

mod support;

use sluice_signaling::{
    codec::{Codec, TrackFormat},
    sdp::{MediaOffer, OfferError, negotiate_egress, negotiate_ingest},
};
use support::{h264, offer};

#[test]
fn an_offer_without_the_live_codec_is_406() {
    let read = MediaOffer::parse(offer("safari-watch")).unwrap();
    let av1 = TrackFormat { codec: Codec::Av1, fmtp: String::new(), channels: 1 };
    let problem = negotiate_egress(&read, &[av1]).unwrap_err();
    assert_eq!(problem.status, 406);
    assert!(problem.detail.contains("AV1") && problem.detail.contains("H265"), "{}", problem.detail);
    let ten_bit = TrackFormat { codec: Codec::Vp9, fmtp: "profile-id=2".into(), channels: 1 };
    assert_eq!(negotiate_egress(&read, &[ten_bit]).unwrap_err().status, 406, "another decoder");
    let audio_only = offer("webrtc-rs-watch").replace("m=video 9", "m=video 0");
    let audio_only = MediaOffer::parse(&audio_only).unwrap();
    assert_eq!(
        negotiate_egress(&audio_only, &[h264("profile-level-id=42e01f;packetization-mode=1")]).unwrap_err().status,
        406
    );
}

/// Refused as a whole with 422 (RFC 9725 section 4.4.3), with a word on what to change.
#[track_caller]
fn assert_unusable(text: &str, word: &str) {
    let (status, detail) = match MediaOffer::parse(text) {
        Err(error) => (error.problem().status, error.to_string()),
        Ok(offer) => {
            let problem = negotiate_ingest(&offer, None).unwrap_err();
            (problem.status, problem.detail)
        }
    };
    assert_eq!(status, 422, "{detail}");
    assert!(detail.contains(word), "{detail}");
}

#[test]
fn well_formed_but_impossible_offers_are_422() {
    let good = offer("ffmpeg-8-1");
    assert_unusable(&good.replace("opus", "PCMU"), "opus/48000/2");
    assert_unusable(&good.replace("H264", "H263-1998"), "H265");
    assert_unusable(&good.replace("a=sendonly", "a=recvonly"), "sendonly");
    assert_unusable(&good.replace("a=sendonly", "a=inactive"), "sendonly");
    assert_unusable(&good.replace("a=group:BUNDLE 0 1", "a=x"), "BUNDLE");
    assert_unusable(&good.replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0"), "BUNDLE");
    assert_unusable(&good.replace("a=rtcp-mux\r\n", ""), "rtcp-mux");
    assert_unusable(&good.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"), "UDP/TLS/RTP/SAVPF");
    assert_unusable(&good.replace("a=ice-pwd", "a=x"), "ice-pwd");
    assert_unusable(&good.replace("a=fingerprint:sha-256", "a=fingerprint:md5"), "fingerprint");
    assert_unusable(&good.replace("a=extmap-allow-mixed", "a=ice-lite"), "ICE-lite");
    assert_unusable(&good.replace("m=video 9", "m=video 0").replace("m=audio 9", "m=audio 0"), "no audio");
    let (head, video) = good.split_at(good.find("m=video").unwrap());
    let second = video.replace("a=mid:1", "a=mid:2");
    assert_unusable(&format!("{head}{video}{second}").replace("BUNDLE 0 1", "BUNDLE 0 1 2"), "more than one video");
}

#[test]
fn malformed_descriptions_are_400_and_name_the_line() {
    for (text, line) in [
        ("", 0),
        ("\r\n", 1),
        ("hello", 1),
        ("v=1\r\n", 1),
        ("v=0\r\nnonsense\r\n", 2),
        ("v=0\r\nm=video\r\n", 2),
        ("v=0\r\nm=video x UDP/TLS/RTP/SAVPF 96\r\n", 2),
        ("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 400\r\n", 2),
        ("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96 96\r\n", 2),
        ("v=0\r\na=setup:sideways\r\n", 2),
        ("v=0\r\na=fingerprint:sha-256 zz\r\n", 2),
        ("v=0\r\na=candidate:1 1 udp\r\n", 2),
        ("v=0\r\ns=\u{7}\r\n", 2),
        ("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=rtpmap:96 H264\r\n", 3),
    ] {
        let error = MediaOffer::parse(text).unwrap_err();
        match (&error, text) {
            (OfferError::Malformed(malformed), _) => assert_eq!(malformed.line, line, "{text:?}"),
            // Nothing at all is missing everything.
            (OfferError::Impossible(_), "") => {}
            _ => panic!("{text:?}: {error}"),
        }
    }
}

#[test]
fn descriptions_are_bounded() {
    let many_lines = format!("v=0\r\n{}", "a=x\r\n".repeat(5_000));
    assert!(matches!(MediaOffer::parse(&many_lines), Err(OfferError::Malformed(_))));
    let many_sections = format!("v=0\r\n{}", "m=audio 9 UDP/TLS/RTP/SAVPF 0\r\n".repeat(17));
    assert!(matches!(MediaOffer::parse(&many_sections), Err(OfferError::Malformed(_))));
    let large = format!("v=0\r\ns={}\r\n", "x".repeat(70_000));
    assert!(matches!(MediaOffer::parse(&large), Err(OfferError::Malformed(_))));
    let many_ssrcs: String = (0..1_000).map(|ssrc| format!("a=ssrc:{ssrc} cname:x\r\n")).collect();
    let read = MediaOffer::parse(&format!("{}{many_ssrcs}", offer("obs-30"))).unwrap();
    assert!(read.sections.iter().all(|section| section.ssrcs.len() <= 32));
}
