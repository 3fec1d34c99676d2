//! The offers of the load generator (RFC 8866, RFC 8829): what a browser would ask for, without what costs a viewer
//! nothing to leave out (TWCC, simulcast). Times of sending are asked for, and no estimate is made of them.

use std::fmt::Write;

use sluice_signaling::{ice::IceCredentials, sdp::Fingerprint};

/// Payload type, its retransmissions' payload type, encoding, format parameters.
const VIDEO: [(u8, u8, &str, &str); 5] = [
    (96, 97, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f"),
    (98, 99, "H264", "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=64001f"),
    (100, 101, "VP8", ""),
    (102, 103, "VP9", "profile-id=0"),
    (104, 105, "AV1", ""),
];
/// Opus with stereo, as players that care for music ask for it.
const OPUS: (u8, &str) = (111, "minptime=10;stereo=1;useinbandfec=1");
/// The publisher's codecs: payload types of constrained baseline H.264, its retransmissions, and Opus.
pub const PUBLISHED_VIDEO: u8 = VIDEO[0].0;
pub const PUBLISHED_AUDIO: u8 = OPUS.0;

/// Which way the media goes, seen from us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Watch,
    /// With the SSRCs of video and audio.
    Publish {
        video: u32,
        audio: u32,
    },
}

/// An offer without candidates: the server learns our address from the first connectivity check.
pub fn write(purpose: Purpose, ice: &IceCredentials, fingerprint: &Fingerprint, id: u64) -> String {
    let mut sdp = format!("v=0\r\no=- {id} 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n");
    sdp.push_str("a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\n");
    let codecs = match purpose {
        Purpose::Watch => &VIDEO[..],
        Purpose::Publish { .. } => &VIDEO[..1],
    };
    let payloads: Vec<String> = codecs.iter().map(|(payload, rtx, ..)| format!("{payload} {rtx}")).collect();
    section(&mut sdp, "video", &payloads.join(" "), 0, purpose, ice, fingerprint);
    for (payload, rtx, encoding, fmtp) in codecs {
        line(&mut sdp, format_args!("a=rtpmap:{payload} {encoding}/90000"));
        for feedback in ["goog-remb", "ccm fir", "nack", "nack pli"] {
            line(&mut sdp, format_args!("a=rtcp-fb:{payload} {feedback}"));
        }
        if !fmtp.is_empty() {
            line(&mut sdp, format_args!("a=fmtp:{payload} {fmtp}"));
        }
        line(&mut sdp, format_args!("a=rtpmap:{rtx} rtx/90000\r\na=fmtp:{rtx} apt={payload}"));
    }
    if let Purpose::Publish { video, .. } = purpose {
        line(&mut sdp, format_args!("a=ssrc:{video} cname:bench"));
    }
    let (payload, fmtp) = OPUS;
    section(&mut sdp, "audio", &payload.to_string(), 1, purpose, ice, fingerprint);
    line(&mut sdp, format_args!("a=rtpmap:{payload} opus/48000/2\r\na=fmtp:{payload} {fmtp}"));
    if let Purpose::Publish { audio, .. } = purpose {
        line(&mut sdp, format_args!("a=ssrc:{audio} cname:bench"));
    }
    sdp
}

fn section(
    sdp: &mut String,
    kind: &str,
    payloads: &str,
    mid: u8,
    purpose: Purpose,
    ice: &IceCredentials,
    fingerprint: &Fingerprint,
) {
    let digest: Vec<String> = fingerprint.digest.iter().map(|byte| format!("{byte:02X}")).collect();
    let direction = if purpose == Purpose::Watch { "recvonly" } else { "sendonly" };
    line(sdp, format_args!("m={kind} 9 UDP/TLS/RTP/SAVPF {payloads}"));
    line(sdp, format_args!("c=IN IP4 0.0.0.0\r\na=rtcp:9 IN IP4 0.0.0.0"));
    line(sdp, format_args!("a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=ice-options:trickle", ice.ufrag, ice.pwd));
    line(sdp, format_args!("a=fingerprint:{} {}\r\na=setup:actpass", fingerprint.algorithm, digest.join(":")));
    line(sdp, format_args!("a=mid:{mid}\r\na=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid"));
    line(sdp, format_args!("a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time"));
    line(sdp, format_args!("a={direction}\r\na=rtcp-mux\r\na=rtcp-rsize"));
    if purpose != Purpose::Watch {
        line(sdp, format_args!("a=msid:bench {kind}"));
    }
}

fn line(sdp: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a `String` cannot fail.
    let _ = write!(sdp, "{text}\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ice() -> IceCredentials {
        IceCredentials { ufrag: "abcd".into(), pwd: "0123456789012345678901".into() }
    }

    #[test]
    fn a_viewer_asks_for_every_codec_and_its_retransmissions() {
        let print = Fingerprint { algorithm: "sha-256".into(), digest: vec![0xab, 1] };
        let sdp = write(Purpose::Watch, &ice(), &print, 7);
        assert!(sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 96 97 98 99 100 101 102 103 104 105\r\n"));
        assert!(sdp.contains("a=fmtp:99 apt=98\r\n"));
        assert!(sdp.contains("a=fingerprint:sha-256 AB:01\r\na=setup:actpass\r\n"));
        assert_eq!(sdp.matches("a=recvonly\r\n").count(), 2);
        assert!(!sdp.contains("ssrc"));
    }

    #[test]
    fn a_publisher_names_its_sources() {
        let print = Fingerprint { algorithm: "sha-256".into(), digest: vec![1] };
        let sdp = write(Purpose::Publish { video: 11, audio: 12 }, &ice(), &print, 7);
        assert!(sdp.contains("m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n"));
        assert!(sdp.contains("a=ssrc:11 ") && sdp.contains("a=ssrc:12 "));
        assert_eq!(sdp.matches("a=sendonly\r\n").count(), 2);
    }
}
