//! Sources that cannot be reached, and who is told.

use sluice_signaling::sdp::{MediaOffer, negotiate_egress};
use tokio::net::TcpListener;

use super::*;
use crate::media::{Codec, MediaKind, TrackFormat};

fn pulls(sources: &[String]) -> (Arc<Pulls>, CancellationToken) {
    let stop = CancellationToken::new();
    let sources = sources.iter().map(|source| source.parse().unwrap()).collect();
    let clients = (Connector::new(false).unwrap(), Endpoints::new(true).unwrap());
    (Pulls::new(sources, clients, Arc::default(), Metrics::new(), false, stop.clone()), stop)
}

fn name(name: &str) -> StreamName {
    name.parse().unwrap()
}

/// A port that nobody listens at.
async fn closed_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn whoever_wants_a_stream_is_told_at_once_that_its_source_has_failed() {
    let port = closed_port().await;
    for url in
        [format!("rtmp://127.0.0.1:{port}/live/secret"), format!("http://127.0.0.1:{port}/whep/secret-and-long-enough")]
    {
        let (pulls, stop) = pulls(&[format!("cam1 {url} on-demand")]);
        let (_changed, changes) = watch::channel(());
        let running = tokio::spawn(pulls.clone().run(changes));
        let cam1 = name("cam1");
        assert!(pulls.is_on_demand(&cam1) && !pulls.is_on_demand(&name("cam2")));
        let report = pulls.report(&cam1).unwrap();
        assert_eq!((report.state, report.attempts), (PullState::Idle, 0));
        let asked = Instant::now();
        pulls.want(&cam1).await;
        assert!(asked.elapsed() < HELD_MAX, "{:?}", asked.elapsed());
        let report = pulls.report(&cam1).unwrap();
        assert_eq!((report.state, report.attempts), (PullState::Retrying, 1));
        let why = pulls.why_not_live(&cam1).unwrap();
        assert!(why.starts_with("the source ") && why.contains("refused") && !why.contains("secret"), "{why}");
        // Once it is known, nobody is held.
        let asked = Instant::now();
        pulls.want(&cam1).await;
        assert!(asked.elapsed() < Duration::from_millis(400), "{:?}", asked.elapsed());
        stop.cancel();
        running.await.unwrap();
    }
}

#[tokio::test]
async fn streams_that_are_fetched_are_known_and_others_are_nobody_s_business() {
    let (pulls, _stop) =
        pulls(&["cam1 rtmp://h.example.net/live/key".into(), "cam2 https://h.example.net/whep/2".into()]);
    let known: Vec<_> = pulls.streams.all().iter().map(|stream| stream.name().to_string()).collect();
    pulls.streams.prune();
    assert_eq!((known.len(), pulls.streams.all().len()), (2, 2), "also while nobody publishes them");
    assert_eq!(pulls.report(&name("cam1")).unwrap().state, PullState::Connecting);
    assert!(pulls.report(&name("cam3")).is_none() && pulls.why_not_live(&name("cam3")).is_none());
    // Those that are fetched all the time are not waited for.
    pulls.want(&name("cam1")).await;
    pulls.want(&name("cam3")).await;
}

#[tokio::test]
async fn an_offer_has_all_that_can_be_taken_and_nothing_is_sent() {
    let offer = whep::testing::offer().await;
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
