//! A stream that is fetched by RTMP, behind the handshake: chunks, commands, statuses, media. What a source sends must end its connection at the worst.
//!
//! The first byte says how the rest arrives: in reads of so many bytes. Corpus: what a server played.
#![no_main]

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use libfuzzer_sys::fuzz_target;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use sluice::{
    config::RtmpUrl,
    ingest::rtmp::{PullContext, PullSession},
    media::SessionId,
    metrics::Metrics,
    track::{EndReason, LayerIndex, PublisherControl, Streams, TrackIndex},
};

struct Nobody;

impl PublisherControl for Nobody {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}
    fn end(&self, _: EndReason) {}
}

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);
static URL: LazyLock<Option<RtmpUrl>> = LazyLock::new(|| "rtmp://a.example.net/live/cam1".parse().ok());

fuzz_target!(|input: &[u8]| {
    let Some((&pace, conversation)) = input.split_first() else { return };
    let (Ok(stream), Some(url)) = ("cam1".parse(), URL.clone()) else { return };
    let context =
        PullContext { streams: Arc::new(Streams::default()), metrics: Metrics::new(), stream, reencodes: true };
    let peer = SocketAddr::from(([192, 0, 2, 7], 1_935));
    let mut now = *BEGIN;
    let mut session =
        PullSession::new(context, url, SessionId::random(), peer, Arc::new(Nobody), now, SystemTime::UNIX_EPOCH);
    shake_hands(&mut session, now);
    for read in conversation.chunks(1 + usize::from(pace) * 16) {
        now += Duration::from_millis(10);
        session.handle_bytes(now, read);
        session.handle_timeout(now);
        while session.poll_sound().is_some() {}
        if session.ending().is_some() {
            break;
        }
        // Peers are answered, not flooded.
        assert!(session.take_output().len() < 256 * 1024);
    }
    session.say_goodbye();
});

fn shake_hands(session: &mut PullSession, now: Instant) {
    let mut server = Handshake::new(PeerType::Server);
    if let Ok(HandshakeProcessResult::InProgress { response_bytes }) = server.process_bytes(&session.take_output()) {
        session.handle_bytes(now, &response_bytes);
    }
}
