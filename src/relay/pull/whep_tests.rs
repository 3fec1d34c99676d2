//! What is offered to a source, and what its answer comes to.

use sluice_signaling::sdp::negotiate_egress;

use super::*;
use crate::media::TrackFormat;

fn answer(sections: &[&str]) -> String {
    let session = "v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\n";
    let transport = format!(
        "a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\na=fingerprint:sha-256 {}\r\na=setup:passive\r\na=rtcp-mux\r\n",
        ["AB"; 32].join(":")
    );
    let section = |(mid, text): (usize, &&str)| {
        let (line, rest) = text.split_once('|').unwrap_or((text, ""));
        let rest = rest.split('|').map(|line| format!("a={line}\r\n")).collect::<String>();
        format!("m={line}\r\nc=IN IP4 0.0.0.0\r\na=mid:{mid}\r\n{transport}{rest}")
    };
    session.to_owned() + &sections.iter().enumerate().map(section).collect::<String>()
}

const VIDEO: &str = "video 9 UDP/TLS/RTP/SAVPF 104 105|rtpmap:104 VP8/90000|rtpmap:105 rtx/90000|fmtp:105 apt=104|\
                     ssrc-group:FID 5 6|ssrc:5 cname:a|ssrc:6 cname:a|sendonly";

#[test]
fn of_an_answer_what_is_sent_is_taken() {
    let both = answer(&[VIDEO, "audio 9 UDP/TLS/RTP/SAVPF 127|rtpmap:127 opus/48000/2|sendonly"]);
    let media = agreed(&both).unwrap().media;
    assert_eq!((media[0].codecs[0].codec, media[0].codecs[0].rtx_payload_type), (Codec::Vp8, Some(105)));
    assert!(media[0].remote_ssrcs.contains(&5) && media[1].codecs[0].codec == Codec::Opus);
    for silent in
        ["audio 0 UDP/TLS/RTP/SAVPF 127|sendonly", "audio 9 UDP/TLS/RTP/SAVPF 127|rtpmap:127 opus/48000/2|inactive"]
    {
        let media = agreed(&answer(&[VIDEO, silent])).unwrap().media;
        assert!(media[0].is_accepted() && !media[1].is_accepted(), "{silent}");
    }
    let other = answer(&["video 9 UDP/TLS/RTP/SAVPF 99|rtpmap:99 theora/90000|sendonly"]);
    assert!(agreed(&other).unwrap_err().contains("neither pictures nor sound"));
    assert!(agreed("v=1").unwrap_err().contains("cannot be read"));
}

#[test]
fn what_came_from_here_may_be_an_echo_until_silence_has_ended_all_echoes() {
    let (here, there, third) = (NodeId::random(), NodeId::random(), NodeId::random());
    let echo = Path::default().through(here).through(there);
    let seconds = Duration::from_secs;
    for (published_ago, expected) in [
        (Some(seconds(0)), true),
        (Some(SILENCE_MAX + seconds(1)), true),
        (Some(SILENCE_MAX + seconds(2)), false),
        // This node is another than the one that it was before it was started again: it has nothing to come back.
        (None, false),
    ] {
        assert_eq!(is_echo(&echo, here, published_ago), expected, "{published_ago:?}");
        assert_eq!(is_echo(&echo.clone().through(third), here, published_ago), expected, "by a third node");
    }
    let now = Some(seconds(0));
    for other in [Path::default(), Path::default().through(there), Path::default().through(third).through(there)] {
        assert!(!is_echo(&other, here, now), "{other}: its publisher is there");
    }
}

#[tokio::test]
async fn an_offer_has_all_that_can_be_taken_and_nothing_is_sent() {
    let media = offered();
    let mut peer = Peer::receiver(&media, true).await.unwrap();
    for section in &media {
        peer.receive(section.kind).await.unwrap();
    }
    let offer = peer.offer().await.unwrap();
    peer.close().await;
    assert_eq!(offer.matches("a=recvonly").count(), 2, "{offer}");
    for line in ["a=rtpmap:127 opus/48000/2", "packetization-mode=0", "a=fmtp:97 apt=96", "a=rtcp-fb:96 nack pli"] {
        assert!(offer.contains(line), "no {line} in\n{offer}");
    }
    assert!(offer.contains("abs-capture-time") && !offer.contains("m=application"), "{offer}");
    let offer = MediaOffer::parse(&offer).unwrap();
    for (codec, fmtp) in [
        (Codec::H264, "packetization-mode=1;profile-level-id=640c1f"),
        (Codec::H264, "packetization-mode=1;profile-level-id=4d0028"),
        (Codec::Vp8, ""),
        (Codec::Vp9, "profile-id=0"),
        (Codec::Vp9, "profile-id=2"),
        (Codec::Av1, "profile=0"),
        (Codec::Hevc, "profile-id=1;tier-flag=0;level-id=120;tx-mode=SRST"),
    ] {
        let live = [TrackFormat { codec, fmtp: fmtp.into(), channels: 1 }];
        let media = negotiate_egress(&offer, &live).unwrap().media;
        let pictures = media.iter().find(|section| section.kind == MediaKind::Video).unwrap();
        assert_eq!(pictures.codecs[0].codec, codec);
        assert!(pictures.codecs[0].rtx_payload_type.is_some());
    }
}

#[test]
fn what_was_told_of_a_stream_s_way_is_old_when_others_have_come_on_air() {
    let way = |was_free| Way { was_free, was_on_air: false };
    let backup = Some(Protocol::Rtmp);
    // It stands by beside a backup, has the stream, and loses it.
    let mut beside = way(false);
    assert_eq!([backup, Some(PROTOCOL), None].map(|on_air| beside.is_outdated(on_air)), [false; 3]);
    assert!(beside.is_outdated(backup));
    // A backup came while the source had nothing to send yet.
    let mut waiting = way(true);
    assert!(!waiting.is_outdated(None));
    assert!(waiting.is_outdated(backup));
}
