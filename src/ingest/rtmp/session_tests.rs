//! A session against a real client (`rml_rtmp`'s) and against hostile ones, on a virtual clock.

use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use parking_lot::Mutex;
use rml_rtmp::{
    sessions::{ClientSession, ClientSessionConfig, ClientSessionEvent, ClientSessionResult, PublishRequestType},
    time::RtmpTimestamp,
};
use sluice_signaling::token::Authenticator;

use super::*;

#[path = "../../../tests/fixtures/h264/annex_b.rs"]
mod annex_b;
#[path = "encoder_session_tests.rs"]
mod encoder_session_tests;
#[path = "enhanced_session_tests.rs"]
mod enhanced_session_tests;

use crate::{
    config::OnConflict,
    media::{StreamName, testing::epoch},
    metrics::Metrics,
    track::{Delivery, LayerIndex, Notice, PacketSink, Stream, Streams, TrackIndex, WorkerIndex},
    transcode::OpusPacket,
};

const SECRET: &[u8; 32] = b"0123456789abcdef0123456789abcdef";

#[derive(Default)]
struct Control(AtomicBool, Mutex<Vec<Notice>>);

impl PublisherControl for Control {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}

    fn end(&self, _: EndReason) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn notice(&self, notice: &Notice) {
        self.1.lock().push(notice.clone());
    }
}

/// Counts what reaches the tree's subscribers: deliveries, and packets.
#[derive(Default)]
struct Counter(Mutex<(usize, usize)>);

impl PacketSink for Counter {
    fn deliver(&self, _: &Arc<Stream>, delivery: Delivery) -> bool {
        if let Delivery::Packets(batches) = delivery {
            let mut counted = self.0.lock();
            counted.0 += 1;
            counted.1 += batches.iter().map(|batch| batch.packets.len()).sum::<usize>();
        }
        true
    }
}

fn context(authenticator: Authenticator, on_conflict: OnConflict) -> Arc<RtmpContext> {
    Arc::new(RtmpContext {
        streams: Arc::new(Streams::default()),
        authenticator: Arc::new(authenticator),
        metrics: Metrics::new(),
        on_conflict,
        connections_max: 8,
        reconnect_to: None,
        reencodes: false,
    })
}

pub(crate) fn open() -> Arc<RtmpContext> {
    context(Authenticator::open(), OnConflict::Takeover)
}

fn time_of_day() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A client and the session it talks to.
pub(crate) struct Pair {
    session: Session,
    client: ClientSession,
    events: Vec<ClientSessionEvent>,
    /// `onStatus` codes with descriptions, as the client would show them.
    said: String,
    control: Arc<Control>,
}

fn session(context: &Arc<RtmpContext>) -> (Session, Arc<Control>) {
    let control = Arc::new(Control::default());
    let peer = "192.0.2.7:4000".parse().unwrap();
    let id = SessionId::random();
    (Session::new(context.clone(), id, peer, control.clone(), epoch(), time_of_day()), control)
}

fn shake_hands(session: &mut Session) {
    let mut handshake = Handshake::new(PeerType::Client);
    session.handle_bytes(epoch(), &handshake.generate_outbound_p0_and_p1().unwrap());
    let HandshakeProcessResult::Completed { response_bytes, .. } =
        handshake.process_bytes(&session.take_output()).unwrap()
    else {
        panic!("one answer finishes the client's handshake");
    };
    session.handle_bytes(epoch(), &response_bytes);
}

impl Pair {
    fn new(context: &Arc<RtmpContext>) -> Self {
        let (mut session, control) = session(context);
        shake_hands(&mut session);
        let (client, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
        let mut pair = Self { session, client, events: Vec::new(), said: String::new(), control };
        pair.exchange(epoch(), results);
        pair
    }

    /// Carries what both say until neither says more.
    fn exchange(&mut self, now: Instant, mut results: Vec<ClientSessionResult>) {
        loop {
            for result in results.drain(..) {
                match result {
                    // Byte by byte now and then: a session must not care where reads end.
                    ClientSessionResult::OutboundResponse(packet) if packet.bytes.len() < 200 => {
                        packet.bytes.iter().for_each(|byte| self.session.handle_bytes(now, &[*byte]));
                    }
                    ClientSessionResult::OutboundResponse(packet) => self.session.handle_bytes(now, &packet.bytes),
                    ClientSessionResult::RaisedEvent(event) => self.events.push(event),
                    ClientSessionResult::UnhandleableMessageReceived(_) => {}
                }
            }
            let output = self.session.take_output();
            if output.is_empty() {
                return;
            }
            self.said.push_str(&String::from_utf8_lossy(&output));
            // The client knows few statuses; one that it cannot read is a refusal, which the tests look for in `said`.
            results = self.client.handle_input(&output).unwrap_or_default();
        }
    }

    fn connect(&mut self, app: &str) {
        let results = self.client.request_connection(app.to_owned()).unwrap();
        self.exchange(epoch(), vec![results]);
    }

    fn publish(&mut self, key: &str) {
        let results = self.client.request_publishing(key.to_owned(), PublishRequestType::Live).unwrap();
        self.exchange(epoch(), vec![results]);
    }

    fn accepted(&self) -> bool {
        self.events.contains(&ClientSessionEvent::PublishRequestAccepted)
    }

    pub(crate) fn audio(&mut self, now: Instant, ms: u32, body: Vec<u8>) {
        let result = self.client.publish_audio_data(Bytes::from(body), RtmpTimestamp::new(ms), false).unwrap();
        self.exchange(now, vec![result]);
    }

    pub(crate) fn video(&mut self, now: Instant, ms: u32, body: Vec<u8>) {
        let result = self.client.publish_video_data(Bytes::from(body), RtmpTimestamp::new(ms), false).unwrap();
        self.exchange(now, vec![result]);
    }
}

pub(crate) fn live(context: &Arc<RtmpContext>, key: &str) -> Pair {
    let mut pair = Pair::new(context);
    pair.connect("live");
    pair.publish(key);
    pair
}

fn token(can: &str, stream: &str, expires_in_s: u64) -> String {
    let exp = 1_800_000_000 + expires_in_s;
    let claims = serde_json::json!({ "exp": exp, "stream": stream, "can": [can], "sub": "alice" });
    let claims = serde_json::from_value(claims).unwrap();
    Authenticator::hs256(SECRET).unwrap().sign(&claims).unwrap()
}

/// A fixture's parameter sets as an AVC configuration message, and its pictures as messages.
pub(crate) fn avc(stream: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let picture = |nal: &[u8]| {
        let head = [if nal[0] & 0x1f == 5 { 0x17 } else { 0x27 }, 1, 0, 0, 0];
        [&head, &(nal.len() as u32).to_be_bytes()[..], nal].concat()
    };
    let (configuration, slices) = annex_b::read(stream);
    (configuration, slices.into_iter().map(picture).collect())
}

pub(crate) fn ms(ms: u64) -> Instant {
    epoch() + Duration::from_millis(ms)
}

#[test]
fn a_picture_reaches_subscribers_when_its_message_is_whole() {
    let context = open();
    let mut pair = live(&context, "cam1");
    assert!(pair.accepted());
    let name: StreamName = "cam1".parse().unwrap();
    let stream = context.streams.get(&name).unwrap();
    let counter = Arc::new(Counter::default());
    stream.subscribe(WorkerIndex(0), counter.clone());
    let (configuration, pictures) = avc(include_bytes!("../../../tests/fixtures/h264/in-order.264"));
    pair.video(ms(0), 0, configuration);
    for (at, picture) in pictures.into_iter().enumerate() {
        pair.video(ms(33 * at as u64), 33 * at as u32, picture);
        assert_eq!(counter.0.lock().0, at + 1, "one batch per picture, at once");
    }
    let formats = stream.formats().unwrap();
    assert!(formats[0].fmtp.contains("packetization-mode=1;profile-level-id=64"), "{}", formats[0].fmtp);
    assert!(stream.state().notices.is_empty());
    assert_eq!(pair.session.ending(), None);
    let state = stream.state();
    let metrics = &context.metrics;
    assert_eq!(metrics.rtp_packets.received.get(), state.tracks[0].packets);
    assert_eq!(metrics.rtp_bytes.received.get(), state.tracks[0].bytes + 12 * state.tracks[0].packets);
    assert!(metrics.rtmp_bytes.received.get() > 3_000 && metrics.rtmp_bytes.sent.get() > 3_000, "the handshake alone");
    drop(pair);
    assert!(!stream.is_live(), "the stream goes with its session");
}

#[test]
fn pictures_wait_for_the_sound_that_came_with_them() {
    let context = open();
    let mut pair = live(&context, "cam1");
    let counter = Arc::new(Counter::default());
    let (configuration, pictures) = avc(include_bytes!("../../../tests/fixtures/h264/in-order.264"));
    pair.video(ms(0), 0, configuration);
    // AAC-LC, 48 kHz, stereo.
    pair.audio(ms(0), 0, vec![0xaf, 0, 0x11, 0x90]);
    let made =
        |ticks| SoundEvent::Made(vec![OpusPacket { time_ticks: ticks, after_gap: false, payload: Bytes::new() }]);
    pair.session.handle_sound(ms(1), SoundEvent::Made(Vec::new()));
    context.streams.get(&"cam1".parse().unwrap()).unwrap().subscribe(WorkerIndex(0), counter.clone());
    let mut pictures = pictures.into_iter();
    pair.audio(ms(20), 20, vec![0xaf, 1, 0x21, 0x10]);
    pair.video(ms(20), 20, pictures.next().unwrap());
    assert_eq!(counter.0.lock().0, 0, "the sound is being made");
    assert_eq!(pair.session.poll_timeout(), ms(22));
    pair.session.handle_sound(ms(21), made(960));
    assert_eq!(counter.0.lock().0, 1, "one delivery has both");
    pair.audio(ms(40), 40, vec![0xaf, 1, 0x21, 0x10]);
    pair.video(ms(40), 40, pictures.next().unwrap());
    pair.session.handle_timeout(ms(42));
    assert_eq!(counter.0.lock().0, 2, "no picture waits for long");
    pair.session.handle_sound(ms(50), made(1_920));
    assert_eq!(counter.0.lock().0, 3, "sound alone waits for nothing");
    pair.audio(ms(60), 60, vec![0xaf, 1, 0x21, 0x10]);
    let mut large = pictures.next().unwrap();
    large.resize(1 << 21, 0x9a);
    let nal_bytes = large.len() as u32 - 9;
    large[5..9].copy_from_slice(&nal_bytes.to_be_bytes());
    pair.video(ms(60), 60, large);
    assert_eq!(counter.0.lock().0, 4, "more than a megabyte does not wait either");
}

#[test]
fn a_token_is_wanted_where_tokens_are() {
    let context = context(Authenticator::hs256(SECRET).unwrap(), OnConflict::Takeover);
    let good = token("publish", "cam*", 60);
    for (key, reason) in [
        ("cam1".to_owned(), "wants a token"),
        ("cam1?token=abc".to_owned(), "is no JWT"),
        (format!("cam1?token={}", token("subscribe", "cam1", 60)), "does not allow this"),
        (format!("other?token={good}"), "for other streams"),
        (format!("cam1?token={}", token("publish", "cam1", 0)), "has expired"),
    ] {
        let pair = live(&context, &key);
        assert!(!pair.accepted());
        assert!(pair.said.contains("NetStream.Publish.Denied") && pair.said.contains(reason), "{key}: {}", pair.said);
        assert_eq!(pair.session.ending().unwrap().outcome(), "refused");
    }
    assert!(context.streams.all().is_empty());
    assert!(live(&context, &format!("cam1?token={good}")).accepted());
    let mut in_app = Pair::new(&context);
    in_app.connect(&format!("live/?token={good}"));
    in_app.publish("cam1/");
    assert!(in_app.accepted());
}

#[test]
fn the_session_ends_with_its_token() {
    let context = context(Authenticator::hs256(SECRET).unwrap(), OnConflict::Takeover);
    let mut pair = live(&context, &format!("cam1?token={}", token("publish", "cam1", 5)));
    assert!(pair.accepted());
    let due = pair.session.poll_timeout();
    assert_eq!(due, ms(5_000));
    pair.session.handle_timeout(due);
    assert_eq!(pair.session.ending(), Some(&Ending::Ended(EndReason::TokenExpired)));
    assert!(String::from_utf8_lossy(&pair.session.take_output()).contains("the token has expired"));
    assert!(!context.streams.get(&"cam1".parse().unwrap()).unwrap().is_live());
}

#[test]
fn a_second_publisher_takes_over_or_is_refused() {
    let context_takeover = open();
    let first = live(&context_takeover, "cam1");
    let second = live(&context_takeover, "cam1");
    assert!(second.accepted() && first.control.0.load(Ordering::Relaxed));
    let mut first = first;
    first.session.handle_end(EndReason::Superseded);
    assert!(String::from_utf8_lossy(&first.session.take_output()).contains("took the stream over"));
    drop(first);
    assert!(context_takeover.streams.get(&"cam1".parse().unwrap()).unwrap().is_live(), "the second one goes on");

    let context_reject = context(Authenticator::open(), OnConflict::Reject);
    let _first = live(&context_reject, "cam1");
    let second = live(&context_reject, "cam1");
    assert!(!second.accepted() && second.said.contains("NetStream.Publish.BadName"));
}

#[test]
fn other_codecs_are_refused_by_name_and_other_sound_is_not_fatal() {
    let context = open();
    let mut pair = live(&context, "cam1");
    let sound = pair.client.publish_audio_data(Bytes::from_static(b"\x2fmp3"), RtmpTimestamp::new(0), false).unwrap();
    pair.exchange(ms(0), vec![sound]);
    assert_eq!(pair.session.ending(), None);
    let notices = context.streams.get(&"cam1".parse().unwrap()).unwrap().state().notices;
    assert!(notices[0].code == "audio-unsupported" && notices[0].text.contains("MP3"));
    pair.video(ms(0), 0, b"\x90vvc1....".to_vec());
    assert!(matches!(pair.session.ending(), Some(Ending::Refused(reason)) if reason.contains("vvc1")));
    assert!(pair.said.contains("vvc1"));
}

#[test]
fn playing_is_refused_with_a_way_out() {
    let mut pair = Pair::new(&open());
    pair.connect("live");
    let result = pair.client.request_playback("cam1".into()).unwrap();
    pair.exchange(epoch(), vec![result]);
    assert!(pair.said.contains("NetStream.Play.Failed") && pair.said.contains("/watch/"));
}

#[test]
fn a_peer_that_stalls_is_closed() {
    let (mut silent, _) = session(&open());
    assert_eq!(silent.poll_timeout(), epoch() + HANDSHAKE_DEADLINE);
    silent.handle_timeout(epoch() + HANDSHAKE_DEADLINE);
    assert_eq!(silent.ending().unwrap().outcome(), "timeout");
    let mut pair = live(&open(), "cam1");
    // Bytes that are no media do not keep a session alive.
    let ping = [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0, 1];
    pair.session.handle_bytes(ms(9_000), &ping);
    pair.session.handle_timeout(ms(10_000));
    assert_eq!(pair.session.ending(), Some(&Ending::Stalled("neither picture nor sound came for 10 s")));
}

#[test]
fn declared_lengths_and_chunk_streams_cost_nothing() {
    let (mut session_a, _) = session(&open());
    shake_hands(&mut session_a);
    session_a.handle_bytes(epoch(), &[3, 0, 0, 0, 0xff, 0xff, 0xff, 20, 0, 0, 0, 0, 1, 2, 3]);
    assert!(matches!(session_a.ending(), Some(Ending::Failed(reason)) if reason.contains("16777215 bytes")));

    let (mut session_b, _) = session(&open());
    shake_hands(&mut session_b);
    for id in 0..60_000u32 {
        let [_, _, high, low] = id.to_be_bytes();
        session_b.handle_bytes(epoch(), &[1, low, high, 0, 0, 0, 0, 0x40, 0, 20, 0, 0, 0, 0]);
        session_b.handle_bytes(epoch(), &[0; 128]);
        if session_b.ending().is_some() {
            break;
        }
    }
    assert!(matches!(session_b.ending(), Some(Ending::Failed(reason)) if reason.contains("chunk streams")));
    assert!(session_b.reader.kept_bytes() < 64 * 1024);
}

#[test]
fn mutated_conversations_never_panic_nor_hoard() {
    let context = open();
    let mut recorded = Vec::new();
    let (mut client, results) = ClientSession::new(ClientSessionConfig::new()).unwrap();
    let mut record = |result| {
        if let ClientSessionResult::OutboundResponse(packet) = result {
            recorded.extend(packet.bytes);
        }
    };
    results.into_iter().for_each(&mut record);
    record(client.request_connection("live".into()).unwrap());
    // createStream, publish and media as a client would send them after answers; written by hand, on chunk stream 3.
    let mut body = rml_rtmp::rml_amf0::serialize(&vec![
        rml_rtmp::rml_amf0::Amf0Value::Utf8String("publish".into()),
        rml_rtmp::rml_amf0::Amf0Value::Number(3.0),
        rml_rtmp::rml_amf0::Amf0Value::Null,
        rml_rtmp::rml_amf0::Amf0Value::Utf8String("cam1".into()),
    ])
    .unwrap();
    recorded.extend([4, 0, 0, 0, 0, 0, body.len() as u8, 20, 1, 0, 0, 0]);
    recorded.append(&mut body);
    recorded.extend([2, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0, 0, 1, 0, 0]); // chunks of 64 KB
    let (configuration, pictures) = avc(include_bytes!("../../../tests/fixtures/h264/b-frames.264"));
    for body in [configuration].into_iter().chain(pictures.into_iter().take(12)) {
        let [_, l0, l1, l2] = (body.len() as u32).to_be_bytes();
        recorded.extend([6, 0, 0, 40, l0, l1, l2, 9, 1, 0, 0, 0]);
        recorded.extend(body);
    }
    let mut seed = 11u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as usize
    };
    // More of them for who has the time.
    let conversations = std::env::var("SLUICE_MUTATIONS").ok().and_then(|count| count.parse().ok()).unwrap_or(400);
    let mut untouched = true;
    for _ in 0..conversations {
        let (mut session, _) = session(&context);
        shake_hands(&mut session);
        let mut bytes = recorded.clone();
        for _ in 0..if untouched { 0 } else { 1 + random() % 20 } {
            let at = random() % bytes.len();
            match random() % 3 {
                0 => bytes[at] = random() as u8,
                1 => drop(bytes.drain(at..(at + random() % 30).min(bytes.len()))),
                _ => bytes.insert(at, random() as u8),
            }
        }
        let mut rest = &bytes[..];
        while !rest.is_empty() && session.ending().is_none() {
            let (now, later) = rest.split_at(rest.len().min(1 + random() % 1_500));
            session.handle_bytes(epoch(), now);
            rest = later;
        }
        assert!(session.reader.kept_bytes() < 128 * 1024);
        assert!(session.take_output().len() < 64 * 1024);
        if std::mem::take(&mut untouched) {
            assert!(session.is_publishing() && session.ending().is_none(), "{:?}", session.ending());
        }
    }
}

#[test]
fn acknowledgements_follow_the_peers_window() {
    let mut pair = live(&open(), "cam1");
    pair.said.clear();
    // A window of 20,000 bytes, then 12,000 bytes that say nothing.
    pair.session.handle_bytes(epoch(), &[2, 0, 0, 0, 0, 0, 4, 5, 0, 0, 0, 0, 0, 0, 0x4e, 0x20]);
    pair.session.take_output();
    for _ in 0..120 {
        let mut message = vec![2, 0, 0, 0, 0, 0, 100, 99, 0, 0, 0, 0];
        message.extend([0; 100]);
        pair.session.handle_bytes(epoch(), &message);
    }
    let said = pair.session.take_output();
    assert_eq!(said.get(..8), Some(&[2, 0, 0, 0, 0, 0, 4, 3][..]), "an acknowledgement");
}
