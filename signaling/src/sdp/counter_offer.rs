//! Our own offer to a viewer whose offer cannot carry the stream (draft-ietf-wish-whep, "Server Sends Counter-Offer"; RFC 9429
//! section 5.2.1): the stream's codecs first, then whatever else a later publisher may bring.

use super::{
    AcceptedCodec, ExtensionIds, Feedback, MediaFlow, MediaSection, Negotiated, NegotiatedMedia, OfferedCodec,
    answer::Sdp, attribute::parameter,
};
use crate::{
    codec::{Codec, MediaKind, TrackFormat},
    media_plane::{Direction, TransportParams},
};

/// The first payload type of video; each codec takes two, one for its retransmissions. Six codecs stay below Opus's.
const VIDEO_PAYLOAD_TYPE_FIRST: u8 = 96;
/// What browsers call Opus.
const OPUS_PAYLOAD_TYPE: u8 = 111;
/// Constrained Baseline, level 3.1: what every H.264 decoder in a browser plays.
const BASELINE: &str = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";

/// One section per live track, in the order of `live`, with every codec that Sluice forwards; the live one first.
pub fn offered(live: &[TrackFormat]) -> Negotiated {
    let section = |(index, format): (usize, &TrackFormat)| {
        let kind = format.codec.kind();
        NegotiatedMedia {
            mid: index.to_string(),
            kind,
            codecs: match kind {
                MediaKind::Audio => vec![opus()],
                MediaKind::Video => video(format),
            },
            extensions: ExtensionIds {
                mid: Some(1),
                playout_delay: (kind == MediaKind::Video).then_some(2),
                abs_capture_time: Some(3),
                ..ExtensionIds::default()
            },
            remote_ssrcs: Vec::new(),
            rids: Vec::new(),
        }
    };
    Negotiated { media: live.iter().enumerate().map(section).collect() }
}

/// The offer's text. `why` goes into its `i=` line (RFC 8866 section 5.4), where people who read the response find it: a client that knows
/// no counter-offers shows the body at best.
pub fn counter_offer(offered: &Negotiated, params: &TransportParams, why: &str) -> String {
    let mut out = Sdp::default();
    out.line("v=0");
    out.origin(params.session);
    out.line("s=-");
    out.line(format_args!("i={}", why.replace(char::is_control, " ")));
    out.line("t=0 0");
    let mids: Vec<&str> = offered.media.iter().map(|media| media.mid.as_str()).collect();
    out.line(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    out.line("a=ice-lite");
    out.line("a=ice-options:trickle ice2");
    for (index, (media, ids)) in offered.media.iter().zip(&params.senders).enumerate() {
        let section = described(media);
        out.head(&section, media, Direction::Egress);
        out.transport(params, index == 0);
        out.codecs(media, &section);
        out.sender(params.session, media.kind, *ids);
    }
    out.into_text()
}

/// The section as if a client had offered it, which is what the answer's writer goes by.
fn described(media: &NegotiatedMedia) -> MediaSection {
    let codec = |codec: &AcceptedCodec| OfferedCodec {
        payload_type: codec.payload_type,
        name: codec.codec.sdp_name().into(),
        clock_rate_hz: codec.codec.clock_rate_hz(),
        channels: codec.channels,
        fmtp: codec.fmtp.clone(),
        feedback: codec.feedback,
        rtx_payload_type: codec.rtx_payload_type,
    };
    MediaSection {
        media: media.kind.as_str().into(),
        kind: Some(media.kind),
        mid: media.mid.clone(),
        protocol: "UDP/TLS/RTP/SAVPF".into(),
        rejected: false,
        flow: MediaFlow::SendOnly,
        formats: Vec::new(),
        codecs: media.codecs.iter().map(codec).collect(),
        extensions: media.extensions,
        rtcp_mux: true,
        rtcp_rsize: true,
        ssrcs: Vec::new(),
        send_layers: Vec::new(),
    }
}

fn opus() -> AcceptedCodec {
    AcceptedCodec {
        codec: Codec::Opus,
        payload_type: OPUS_PAYLOAD_TYPE,
        fmtp: "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1".into(),
        channels: 2,
        rtx_payload_type: None,
        feedback: Feedback::default(),
    }
}

fn video(live: &TrackFormat) -> Vec<AcceptedCodec> {
    let mut formats = vec![(live.codec, fmtp(live))];
    for (codec, fmtp) in [
        (Codec::H264, BASELINE),
        (Codec::Vp8, ""),
        (Codec::Vp9, "profile-id=0"),
        (Codec::Av1, "profile=0"),
        (Codec::Hevc, "profile-id=1;tier-flag=0;level-id=93;tx-mode=SRST"),
    ] {
        let other = (codec, fmtp.to_owned());
        // A second profile of H.264 finds more decoders; of the others one each is what there is.
        if !formats.contains(&other) && (codec == Codec::H264 || codec != live.codec) {
            formats.push(other);
        }
    }
    let codec = |((codec, fmtp), payload_type)| AcceptedCodec {
        codec,
        payload_type,
        fmtp,
        channels: 1,
        rtx_payload_type: Some(payload_type + 1),
        feedback: Feedback { nack: true, pli: true, fir: true, ..Feedback::default() },
    };
    formats.into_iter().zip((VIDEO_PAYLOAD_TYPE_FIRST..).step_by(2)).map(codec).collect()
}

/// A live track's parameters as an offer to send it has them.
fn fmtp(live: &TrackFormat) -> String {
    let own = |name: &str, default: &str| parameter(&live.fmtp, name).unwrap_or(default).to_owned();
    match live.codec {
        Codec::H264 => {
            let profile = own("profile-level-id", "42e01f");
            format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}")
        }
        Codec::Hevc => {
            let (profile, tier, level) = (own("profile-id", "1"), own("tier-flag", "0"), own("level-id", "93"));
            format!("profile-id={profile};tier-flag={tier};level-id={level};tx-mode=SRST")
        }
        Codec::Vp9 => format!("profile-id={}", own("profile-id", "0")),
        Codec::Av1 => format!("profile={}", own("profile", "0")),
        Codec::Vp8 | Codec::Opus => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        ice::IceCredentials,
        media_plane::SenderIds,
        name::SessionId,
        sdp::{Fingerprint, MediaOffer, Setup, negotiate_egress},
    };

    fn format(codec: Codec, fmtp: &str) -> TrackFormat {
        TrackFormat { codec, fmtp: fmtp.into(), channels: if codec == Codec::Opus { 2 } else { 1 } }
    }

    #[test]
    fn the_live_codec_comes_first_and_none_twice() {
        for (live, first, count) in [
            (format(Codec::Av1, ""), "profile=0", 5),
            (format(Codec::Vp9, "profile-id=2"), "profile-id=2", 5),
            (format(Codec::H264, "profile-level-id=42e01f;packetization-mode=1"), BASELINE, 5),
            (
                format(Codec::H264, "profile-level-id=640c1f"),
                "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=640c1f",
                6,
            ),
        ] {
            let offered = offered(&[live.clone(), format(Codec::Opus, "")]);
            let [video, audio] = offered.media.as_slice() else { panic!("two sections") };
            assert_eq!((video.codecs[0].codec, video.codecs[0].fmtp.as_str()), (live.codec, first));
            assert_eq!(video.codecs.len(), count, "{live:?}");
            let mut numbers: Vec<_> = [video, audio]
                .into_iter()
                .flat_map(|media| &media.codecs)
                .flat_map(|codec| std::iter::once(codec.payload_type).chain(codec.rtx_payload_type))
                .collect();
            let all = numbers.len();
            numbers.sort_unstable();
            numbers.dedup();
            assert_eq!(numbers.len(), all, "payload types differ in one BUNDLE group (RFC 9143 section 9.1)");
            assert!(numbers.iter().all(|number| (96..128).contains(number)));
        }
    }

    #[test]
    fn an_answer_to_it_is_read_as_a_viewers_offer_is() {
        let live = [format(Codec::Av1, ""), format(Codec::Opus, "")];
        let params = TransportParams {
            session: SessionId::random(),
            ice: IceCredentials::random(),
            fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![1; 32] },
            setup: Setup::ActPass,
            candidates: Vec::new(),
            senders: vec![SenderIds { ssrc: 1, rtx_ssrc: Some(2) }, SenderIds { ssrc: 3, rtx_ssrc: None }],
        };
        let text = counter_offer(&offered(&live), &params, "the stream is AV1\r\na=evil");
        assert!(text.contains("\r\ni=the stream is AV1  a=evil\r\n"), "{text}");
        assert!(text.contains("a=setup:actpass") && text.contains("a=sendonly"), "{text}");
        let answer =
            text.replace("a=sendonly", "a=recvonly").replace("actpass", "active").replace("a=ice-lite\r\n", "");
        let agreed = negotiate_egress(&MediaOffer::parse(&answer).unwrap(), &live).unwrap();
        assert_eq!(agreed.media[0].codecs[0].codec, Codec::Av1);
        assert_eq!(agreed.media[0].codecs[0].payload_type, VIDEO_PAYLOAD_TYPE_FIRST);
        assert_eq!(agreed.media[1].codecs[0].payload_type, OPUS_PAYLOAD_TYPE);
    }
}
