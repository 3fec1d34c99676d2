//! A whole RTMP connection behind its handshake: chunks, commands, media. What a publisher sends must end its session at the worst.
//!
//! The first byte says how the rest reaches the server: in reads of so many bytes. Corpus: what encoders sent.
#![no_main]

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant, SystemTime},
};

use libfuzzer_sys::fuzz_target;
use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use sluice::{
    config::OnConflict,
    ingest::rtmp::{RtmpContext, Session},
    media::SessionId,
    metrics::Metrics,
    track::{EndReason, LayerIndex, PublisherControl, Streams, TrackIndex},
};
use sluice_signaling::token::Authenticator;

struct Nobody;

impl PublisherControl for Nobody {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}
    fn end(&self, _: EndReason) {}
}

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

fuzz_target!(|input: &[u8]| {
    let Some((&pace, conversation)) = input.split_first() else { return };
    let context = Arc::new(RtmpContext {
        streams: Arc::new(Streams::default()),
        authenticator: Arc::new(Authenticator::open()),
        metrics: Metrics::new(),
        on_conflict: OnConflict::Takeover,
        connections_max: 1,
        reconnect_to: None,
        reencodes: true,
    });
    let peer = SocketAddr::from(([192, 0, 2, 7], 4_000));
    let mut now = *BEGIN;
    let mut session =
        Session::new(context, SessionId::random(), peer, Arc::new(Nobody), now, SystemTime::UNIX_EPOCH);
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
});

fn shake_hands(session: &mut Session, now: Instant) {
    let mut client = Handshake::new(PeerType::Client);
    let Ok(hello) = client.generate_outbound_p0_and_p1() else { return };
    session.handle_bytes(now, &hello);
    if let Ok(HandshakeProcessResult::Completed { response_bytes, .. }) = client.process_bytes(&session.take_output()) {
        session.handle_bytes(now, &response_bytes);
    }
}
