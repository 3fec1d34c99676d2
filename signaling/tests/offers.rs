//! Offers of real clients: what is read of them, agreed on, and answered.

mod support;

use sluice_signaling::{
    codec::{Codec, MediaKind, TrackFormat},
    ice::IceCredentials,
    media_plane::{Direction, OpenRequest},
    sdp::{
        CandidateTransport, MediaOffer, Negotiated, NegotiatedMedia, Setup, answer, negotiate_egress, negotiate_ingest,
    },
    token::Grant,
};
use support::{OFFERS, h264, offer, opus, params, watches};

fn read(name: &str) -> MediaOffer {
    MediaOffer::parse(offer(name)).unwrap()
}

fn agree(name: &str, live: &[TrackFormat]) -> Negotiated {
    if watches(name) { negotiate_egress(&read(name), live) } else { negotiate_ingest(&read(name), None) }.unwrap()
}

fn answered(name: &str, live: &[TrackFormat]) -> String {
    let (offer, media) = (read(name), agree(name, live));
    let direction = if watches(name) { Direction::Egress } else { Direction::Ingest };
    answer(&offer, direction, &media, &params(&request_of(&offer, direction, &media)))
}

fn request_of(offer: &MediaOffer, direction: Direction, media: &Negotiated) -> OpenRequest {
    OpenRequest {
        direction,
        stream: "cam1".parse().unwrap(),
        grant: Grant::default(),
        priority: Default::default(),
        from: support::from(),
        user_agent: String::new(),
        remote_ice: offer.ice.clone(),
        remote_fingerprints: offer.fingerprints.clone(),
        remote_setup: offer.setup,
        remote_candidates: offer.candidates.clone(),
        media: media.clone(),
        video_line: None,
    }
}

fn of_kind(negotiated: &Negotiated, kind: MediaKind) -> &NegotiatedMedia {
    negotiated.media.iter().find(|media| media.kind == kind).unwrap()
}

/// The lines of the answer's section of this medium.
fn section<'a>(answer: &'a str, media: &str) -> Vec<&'a str> {
    let start = answer.find(&format!("m={media} ")).unwrap();
    let rest = &answer[start..];
    let end = rest[2..].find("m=").map_or(rest.len(), |end| end + 2);
    rest[..end].lines().collect()
}

const LIVE: &str = "profile-level-id=42e01f;packetization-mode=1";

#[test]
fn every_client_gets_an_answer_that_parses() {
    for (name, text) in OFFERS {
        let answer = answered(name, &[h264(LIVE), opus()]);
        let back = MediaOffer::parse(&answer).unwrap_or_else(|error| panic!("{name}: {error}\n{answer}"));
        let read = MediaOffer::parse(text).unwrap();
        assert!(back.ice_lite, "{name}");
        assert_eq!(
            back.sections.len(),
            read.sections.len(),
            "{name}: RFC 3264 section 6, as many sections as the offer"
        );
        assert_eq!(back.setup, read.setup.answer(), "{name}");
        assert_eq!(back.bundle, read.bundle, "{name}");
        let udp_first: Vec<_> = back.candidates.iter().map(|candidate| candidate.transport).collect();
        assert_eq!(udp_first, [CandidateTransport::Udp, CandidateTransport::TcpPassive], "{name}");
        for (ours, theirs) in back.sections.iter().zip(&read.sections) {
            assert_eq!(ours.mid, theirs.mid, "{name}");
            assert!(!ours.rejected && ours.rtcp_mux, "{name}");
            for format in &ours.formats {
                assert!(theirs.formats.contains(format), "{name}: an answer has no payload type of its own");
            }
        }
        assert!(answer.ends_with("\r\n") && !answer.contains("\r\n\r\n"), "{name}");
    }
}

#[test]
fn setup_is_passive_unless_the_offer_is() {
    for (name, setup, answer) in [
        ("chromium-publish", Setup::ActPass, Setup::Passive),
        ("obs-30", Setup::ActPass, Setup::Passive),
        ("ffmpeg-8-1-dtls-active-video-only", Setup::Active, Setup::Passive),
        ("ffmpeg-8-1", Setup::Passive, Setup::Active),
    ] {
        assert_eq!(read(name).setup, setup, "{name}");
        assert_eq!(setup.answer(), answer, "{name}");
    }
}

#[test]
fn session_level_transport_is_read() {
    let obs = read("obs-30");
    assert_eq!(obs.ice, IceCredentials { ufrag: "E2Fr".into(), pwd: "OpQzg1PAwUdeOB244chlgd".into() });
    assert_eq!(obs.fingerprints.len(), 1);
    assert_eq!(obs.candidates.len(), 2);
    let firefox = read("firefox-watch");
    assert_eq!((firefox.ice.ufrag.as_str(), firefox.fingerprints.len()), ("7c1e90d4", 1));
}

#[test]
fn a_fingerprint_of_the_session_and_credentials_of_the_section_go_together() {
    // libdatachannel's later versions write setup and credentials per section, and the fingerprint once.
    let offer = read("libdatachannel-publish");
    assert_eq!(offer.ice, IceCredentials { ufrag: "PPNP".into(), pwd: "M9tloUB+dP6J7SldLUEso0".into() });
    assert_eq!((offer.fingerprints.len(), offer.candidates.len(), offer.setup), (1, 1, Setup::ActPass));
    let answer = answered("libdatachannel-publish", &[]);
    assert!(
        answer.contains("a=rtpmap:96 H264/90000\r\n") && answer.contains("a=rtpmap:111 opus/48000/2\r\n"),
        "{answer}"
    );
}

#[test]
fn an_offer_of_obs_without_candidates_is_answered_with_what_it_sends() {
    // From 30.2 on OBS offers before it has gathered, and never tells its candidates.
    assert_eq!(offer("obs-30-2").len(), 1090, "as many bytes as were sent");
    let offer = read("obs-30-2");
    assert_eq!(offer.ice, IceCredentials { ufrag: "riAt".into(), pwd: "liagNiLAe0isiLRg66/jA5".into() });
    assert!(offer.candidates.is_empty());
    assert_eq!((offer.setup, offer.bundle.as_slice()), (Setup::ActPass, ["0".to_owned(), "1".to_owned()].as_slice()));
    let text = answered("obs-30-2", &[]);
    for (kind, lines) in [
        ("audio", ["a=mid:0", "a=recvonly", "a=rtcp-mux", "a=rtpmap:111 opus/48000/2"]),
        ("video", ["a=mid:1", "a=recvonly", "a=rtcp-mux", "a=rtpmap:96 H264/90000"]),
    ] {
        for line in lines {
            assert!(section(&text, kind).contains(&line), "{line} in {text}");
        }
    }
    assert!(section(&text, "video").contains(&"a=rtcp-fb:96 nack") && !text.contains("a=group:LS"), "{text}");
}

#[test]
fn all_layers_of_obs_are_received() {
    // It names its rids, and no SSRC of its pictures beside them. It ends the session unless the answer has as many layers.
    let agreed = agree("libdatachannel-simulcast", &[]);
    assert_eq!(of_kind(&agreed, MediaKind::Video).rids, ["0", "1", "2"]);
    let text = answered("libdatachannel-simulcast", &[]);
    for line in [
        "a=simulcast:recv 0;1;2",
        "a=extmap:1 urn:ietf:params:rtp-hdrext:sdes:mid",
        "a=extmap:2 urn:ietf:params:rtp-hdrext:sdes:rtp-stream-id",
    ] {
        assert!(section(&text, "video").contains(&line), "{line} in {text}");
    }
}

#[test]
fn the_tagged_section_has_the_transport() {
    // aiortc has other credentials in each section; those of the first of the group count (RFC 9143 section 7.2.1).
    let aiortc = read("aiortc-publish");
    assert_eq!(aiortc.ice.ufrag, "Xk2P");
    assert_eq!(aiortc.candidates.first().unwrap().port, 47_100);
    assert_eq!(aiortc.fingerprints.len(), 2);
}

#[test]
fn a_bundle_only_section_is_not_declined() {
    for name in ["firefox-watch", "gstreamer-publish"] {
        let answer = answered(name, &[h264(LIVE), opus()]);
        assert!(!answer.contains(" 0 UDP/TLS"), "{name}\n{answer}");
    }
}

#[test]
fn a_group_may_name_sections_that_are_missing() {
    let video_only = read("ffmpeg-8-1-dtls-active-video-only");
    assert_eq!(video_only.bundle, ["1"]);
    assert_eq!(agree("ffmpeg-8-1-dtls-active-video-only", &[]).media.len(), 1);
}

#[test]
fn a_publisher_is_asked_first_for_what_the_viewers_can_play() {
    let offer = read("chromium-publish");
    let first = |viewers: Option<&[Codec]>| {
        let agreed = negotiate_ingest(&offer, viewers).unwrap();
        of_kind(&agreed, MediaKind::Video).codecs.iter().map(|accepted| accepted.codec).collect::<Vec<_>>()
    };
    assert_eq!(first(None)[0], Codec::Vp8, "the offer's first");
    assert_eq!(first(Some(&[]))[0], Codec::Vp8, "the viewers have nothing in common");
    let asked = first(Some(&[Codec::H264, Codec::Av1]));
    assert_eq!(asked[0], Codec::H264);
    assert!(asked.contains(&Codec::Vp8), "a publisher without the others is better than none");
}

#[test]
fn ingest_takes_every_codec_in_the_offers_order() {
    let chromium = agree("chromium-publish", &[]);
    let video: Vec<Codec> = of_kind(&chromium, MediaKind::Video).codecs.iter().map(|codec| codec.codec).collect();
    assert_eq!(video.first(), Some(&Codec::Vp8));
    for codec in [Codec::H264, Codec::Vp9, Codec::Av1] {
        assert!(video.contains(&codec), "{codec}");
    }
    let first = &of_kind(&chromium, MediaKind::Video).codecs[0];
    assert_eq!((first.payload_type, first.rtx_payload_type), (96, Some(97)));
    assert!(first.feedback.nack && first.feedback.pli && first.feedback.fir && first.feedback.transport_cc);
    let extensions = of_kind(&chromium, MediaKind::Video).extensions;
    assert_eq!((extensions.mid, extensions.transport_cc, extensions.rid), (Some(4), Some(3), Some(10)));
    assert_eq!(extensions.playout_delay, None, "nothing is played here");
}

#[test]
fn ffmpeg_8_0_writes_a_bad_profile_level_id_and_is_taken() {
    let ffmpeg = agree("ffmpeg-8-0", &[]);
    let video = of_kind(&ffmpeg, MediaKind::Video);
    assert_eq!(video.codecs[0].fmtp, "level-asymmetry-allowed=1;packetization-mode=1");
    assert_eq!(video.remote_ssrcs, [611_290_347]);
    assert!(!video.codecs[0].feedback.nack, "what was not offered is not answered");
}

#[test]
fn h264_is_answered_symmetrically() {
    // RFC 6184 section 8.2.2.
    let obs = agree("obs-30", &[]);
    let fmtp = &of_kind(&obs, MediaKind::Video).codecs[0].fmtp;
    assert_eq!(fmtp, "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f");
}

#[test]
fn encoding_names_have_no_case() {
    let gstreamer = answered("gstreamer-publish", &[]);
    assert!(section(&gstreamer, "audio").contains(&"a=rtpmap:98 OPUS/48000/2"), "{gstreamer}");
}

#[test]
fn opus_stays_stereo_both_ways() {
    for (name, _) in OFFERS {
        let answer = answered(name, &[h264(LIVE), opus()]);
        if answer.contains("m=audio") {
            assert!(answer.contains("minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1"), "{name}");
        }
    }
}

#[test]
fn announced_ssrcs_come_primary_first() {
    let gstreamer = agree("gstreamer-publish", &[]);
    assert_eq!(of_kind(&gstreamer, MediaKind::Video).remote_ssrcs, [3_102_940_856, 2_290_147_711]);
    let swapped = offer("gstreamer-publish").replace("FID 3102940856 2290147711", "FID 2290147711 3102940856");
    let swapped = negotiate_ingest(&MediaOffer::parse(&swapped).unwrap(), None).unwrap();
    assert_eq!(of_kind(&swapped, MediaKind::Video).remote_ssrcs, [2_290_147_711, 3_102_940_856]);
}

#[test]
fn all_simulcast_layers_are_received() {
    // RFC 8853 section 5.3.2: the answer's layers are among the offer's, the other way round.
    let simulcast = agree("chromium-simulcast", &[]);
    assert_eq!(of_kind(&simulcast, MediaKind::Video).rids, ["h", "m", "l"]);
    let text = answered("chromium-simulcast", &[]);
    let video = section(&text, "video");
    for line in ["a=rid:h recv", "a=rid:m recv", "a=rid:l recv", "a=simulcast:recv h;m;l"] {
        assert_eq!(video.iter().filter(|other| **other == line).count(), 1, "{line} in {text}");
    }
    for extension in ["rtp-stream-id", "repaired-rtp-stream-id"] {
        assert!(video.iter().any(|line| line.ends_with(&format!("sdes:{extension}"))), "{extension} in {text}");
    }
    assert!(of_kind(&agree("chromium-publish", &[]), MediaKind::Video).rids.is_empty());
}

/// What is answered to Chromium's simulcast offer with other lines for its layers.
fn layers_answered(lines: &str) -> Vec<String> {
    let own = "a=rid:h send\r\na=rid:m send\r\na=rid:l send\r\na=simulcast:send h;m;l\r\n";
    let text = offer("chromium-simulcast").replace("\r\n", "\n").replace('\n', "\r\n");
    assert!(text.contains(own));
    let offer = MediaOffer::parse(&text.replace(own, lines)).unwrap();
    let media = negotiate_ingest(&offer, None).unwrap();
    let request = request_of(&offer, Direction::Ingest, &media);
    let text = answer(&offer, Direction::Ingest, &media, &params(&request));
    let of_layers = |line: &&str| line.starts_with("a=rid:") || line.starts_with("a=simulcast:");
    section(&text, "video").into_iter().filter(of_layers).map(str::to_owned).collect()
}

#[test]
fn paused_layers_are_asked_for_and_of_alternatives_the_best() {
    let lines = "a=rid:1 send\r\na=rid:2 send\r\na=rid:3 send\r\na=simulcast:send 1,2;~3\r\n";
    assert_eq!(layers_answered(lines), ["a=rid:1 recv", "a=rid:3 recv", "a=simulcast:recv 1;3"]);
    let undescribed = "a=rid:2 send\r\na=rid:3 send\r\na=simulcast:send 1,2;~3;3;4\r\n";
    assert_eq!(layers_answered(undescribed), ["a=rid:2 recv", "a=rid:3 recv", "a=simulcast:recv 2;3"]);
}

#[test]
fn four_layers_are_received_and_no_more() {
    // OBS 32 offers up to four; it ends the session when it gets fewer than it offered.
    let rids = |count: usize| (0..count).map(|rid| rid.to_string()).collect::<Vec<_>>();
    for offered in [1, 4, 5, 30] {
        let mut lines: String = rids(offered).iter().map(|rid| format!("a=rid:{rid} send\r\n")).collect();
        lines.push_str(&format!("a=simulcast:send {}\r\n", rids(offered).join(";")));
        let answered = layers_answered(&lines);
        assert_eq!(answered.last().unwrap(), &format!("a=simulcast:recv {}", rids(offered.min(4)).join(";")));
    }
    assert!(layers_answered("").is_empty());
}

#[test]
fn restrictions_of_layers_are_kept_and_layers_in_codecs_we_lack_are_left_out() {
    // In that offer 96 is VP8, 102 is H.264, 120 is FEC, which is not taken.
    let lines = "a=rid:h send pt=96,120;max-width=1280;max-fps=30\r\na=rid:m send pt=120\r\na=rid:l send pt=102\r\n\
                 a=simulcast:send h;m;l\r\n";
    assert_eq!(
        layers_answered(lines),
        ["a=rid:h recv pt=96;max-width=1280;max-fps=30", "a=rid:l recv pt=102", "a=simulcast:recv h;l"]
    );
}

#[test]
fn egress_puts_the_live_codec_first_and_keeps_the_others() {
    let live = TrackFormat { codec: Codec::Vp9, fmtp: "profile-id=0".into(), channels: 1 };
    let chromium = agree("chromium-watch", &[live, opus()]);
    let video = &of_kind(&chromium, MediaKind::Video).codecs;
    assert_eq!((video[0].codec, video[0].fmtp.as_str()), (Codec::Vp9, "profile-id=0"));
    for codec in [Codec::H264, Codec::Vp8, Codec::Av1] {
        assert!(video.iter().any(|other| other.codec == codec), "{codec}");
    }
}

#[test]
fn egress_chooses_the_payload_type_by_profile_and_mode() {
    let chosen = |name: &str, live: &str| {
        let negotiated = agree(name, &[h264(live)]);
        of_kind(&negotiated, MediaKind::Video).codecs[0].fmtp.clone()
    };
    let asymmetric = |id: &str| format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={id}");
    assert_eq!(chosen("chromium-watch", "profile-level-id=42c02a"), asymmetric("42e01f"));
    assert_eq!(chosen("chromium-watch", "profile-level-id=4d0028"), asymmetric("4d001f"));
    // This Chromium has no High to offer: the nearest it has, and it plays it all the same.
    assert_eq!(chosen("chromium-watch", "profile-level-id=640028"), asymmetric("4d001f"));
    assert_eq!(chosen("safari-watch", "profile-level-id=640028"), asymmetric("640c1f"));
    assert_eq!(chosen("safari-watch", "profile-level-id=42e01f"), asymmetric("42e01f"));
    assert_eq!(chosen("firefox-watch", "profile-level-id=640028;packetization-mode=0"), asymmetric("42e01f"));
    assert_eq!(chosen("webrtc-rs-watch", ""), asymmetric("42001f"), "a profile not known yet: the offer's order");
}

#[test]
fn another_publishers_format_finds_its_payload_type() {
    let negotiated = agree("chromium-watch", &[h264(LIVE)]);
    let video = of_kind(&negotiated, MediaKind::Video);
    let vp8 = TrackFormat { codec: Codec::Vp8, fmtp: String::new(), channels: 1 };
    assert_eq!(video.best_for(&vp8).unwrap().payload_type, 96);
    assert!(video.best_for(&h264("profile-level-id=4d001f")).unwrap().fmtp.contains("4d001f"));
    assert!(video.best_for(&opus()).is_none());
}

#[test]
fn egress_lists_no_feedback_and_extensions_it_does_not_use() {
    let text = answered("chromium-watch", &[h264(LIVE), opus()]);
    for unused in ["transport-cc", "transport-wide-cc", "abs-capture-time", "rtp-stream-id"] {
        assert!(!text.contains(unused), "{unused}");
    }
    assert!(text.contains("a=extmap:4 urn:ietf:params:rtp-hdrext:sdes:mid"));
    assert!(text.contains("a=extmap:5 http://www.webrtc.org/experiments/rtp-hdrext/playout-delay"));
    assert!(text.contains("a=rtcp-rsize"));
}

#[test]
fn a_viewer_estimates_its_path_where_what_is_sent_again_has_a_stream_of_its_own() {
    const SEND_TIME: &str = "a=extmap:2 http://www.webrtc.org/experiments/rtp-hdrext/abs-send-time";
    let text = answered("chromium-watch", &[h264(LIVE), opus()]);
    let video = section(&text, "video");
    assert!(video.contains(&SEND_TIME) && video.contains(&"a=rtcp-fb:102 goog-remb"), "{text}");
    let audio = section(&text, "audio");
    assert!(!audio.iter().any(|line| line.contains("abs-send-time") || line.contains("goog-remb")), "{text}");
    for (offered, other) in [(" rtx/90000", " rtxx/90000"), (" goog-remb", " goog-rembx"), ("abs-send-time", "x")] {
        let lacking = MediaOffer::parse(&offer("chromium-watch").replace(offered, other)).unwrap();
        let media = negotiate_egress(&lacking, &[h264(LIVE), opus()]).unwrap();
        let request = request_of(&lacking, Direction::Egress, &media);
        let text = answer(&lacking, Direction::Egress, &media, &params(&request));
        assert!(!text.contains("abs-send-time") && !text.contains("goog-remb"), "without {offered}: {text}");
    }
    assert!(!answered("chromium-publish", &[]).contains("goog-remb"), "a publisher is told what it needs for its own");
}

#[test]
fn egress_names_one_media_stream_and_groups_retransmissions() {
    let text = answered("chromium-watch", &[h264(LIVE), opus()]);
    let msids: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("a=msid:")).collect();
    assert_eq!(msids.len(), 2);
    assert_eq!(msids[0], msids[1], "draft-ietf-wish-whep, Single MediaStream");
    let video = section(&text, "video");
    assert!(video.contains(&"a=ssrc-group:FID 1001 2001"));
    for ssrc in ["a=ssrc:1001 cname:", "a=ssrc:2001 cname:", "a=ssrc:1001 msid:", "a=ssrc:2001 msid:"] {
        assert!(video.iter().any(|line| line.starts_with(ssrc)), "{ssrc}");
    }
    assert!(!answered("chromium-publish", &[]).contains("a=ssrc"));
}

#[test]
fn a_kind_that_is_not_live_is_accepted_and_silent() {
    let negotiated = agree("chromium-watch", &[h264(LIVE)]);
    assert!(negotiated.media.iter().all(NegotiatedMedia::is_accepted));
    assert!(agree("chromium-watch", &[]).media.iter().all(NegotiatedMedia::is_accepted), "tracks not known yet");
}

#[test]
fn sendrecv_is_as_good_as_sendonly() {
    let text = offer("obs-30").replace("a=sendonly\r\n", "");
    assert!(negotiate_ingest(&MediaOffer::parse(&text).unwrap(), None).is_ok());
}

#[test]
fn one_section_needs_no_bundle() {
    let text = offer("ffmpeg-8-1-dtls-active-video-only").replace("a=group:BUNDLE 0 1\r\n", "");
    let read = MediaOffer::parse(&text).unwrap();
    assert!(negotiate_ingest(&read, None).is_ok());
}

#[test]
fn other_media_are_declined_in_their_place() {
    let data =
        "m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\nc=IN IP4 0.0.0.0\r\na=mid:2\r\na=sctp-port:5000\r\n";
    let text = format!("{}{data}", offer("obs-30")).replace("a=group:BUNDLE 0 1", "a=group:BUNDLE 0 1 2");
    let read = MediaOffer::parse(&text).unwrap();
    let negotiated = negotiate_ingest(&read, None).unwrap();
    assert_eq!(negotiated.media.len(), 2);
    let request_params = support::params(&OpenRequest {
        direction: Direction::Ingest,
        stream: "cam1".parse().unwrap(),
        grant: Grant::default(),
        priority: Default::default(),
        from: support::from(),
        user_agent: String::new(),
        remote_ice: read.ice.clone(),
        remote_fingerprints: Vec::new(),
        remote_setup: read.setup,
        remote_candidates: Vec::new(),
        media: negotiated.clone(),
        video_line: None,
    });
    let text = answer(&read, Direction::Ingest, &negotiated, &request_params);
    assert!(text.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"), "{text}");
    assert!(text.contains("a=group:BUNDLE 0 1\r\n"), "{text}");
}
