//! A source that is played, and hostile ones, on a virtual clock.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    messages::UserControlEventType,
    rml_amf0::Amf0Value,
};

use super::*;
use crate::{
    ingest::rtmp::testing::{self, ms},
    media::{Codec, testing::epoch},
    rtmp::{ChunkReader, MessageWriter, amf, kind},
    track::{LayerIndex, Stream, TrackIndex},
};

const URL: &str = "rtmp://far.example.net/live/camera?token=secret";

#[derive(Default)]
struct Control(Mutex<Vec<EndReason>>);

impl PublisherControl for Control {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}

    fn end(&self, reason: EndReason) {
        self.0.lock().push(reason);
    }
}

fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.to_owned())
}

fn object<const N: usize>(properties: [(&str, &str); N]) -> Amf0Value {
    Amf0Value::Object(properties.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect())
}

/// The other server, which says what a test wants.
struct Source {
    handshake: Option<Handshake>,
    reader: ChunkReader,
    writer: MessageWriter,
    /// Commands that came.
    commands: Vec<Vec<Amf0Value>>,
    acknowledgements: usize,
    pongs: usize,
}

/// A fetched stream and its source.
struct Pair {
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
    control: Arc<Control>,
    session: PullSession,
    source: Source,
}

impl Pair {
    fn new() -> Self {
        let open = testing::open();
        Self::at(open.streams.clone(), open.metrics.clone())
    }

    fn at(streams: Arc<Streams>, metrics: Arc<Metrics>) -> Self {
        let stream = "cam1".parse().unwrap();
        let context = PullContext { streams: streams.clone(), metrics: metrics.clone(), stream, reencodes: false };
        let control = Arc::new(Control::default());
        let session = PullSession::new(
            context,
            URL.parse().unwrap(),
            SessionId::random(),
            "192.0.2.9:1935".parse().unwrap(),
            control.clone(),
            epoch(),
            SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
        );
        let source = Source {
            handshake: Some(Handshake::new(PeerType::Server)),
            reader: ChunkReader::default(),
            writer: MessageWriter::default(),
            commands: Vec::new(),
            acknowledgements: 0,
            pongs: 0,
        };
        Self { streams, metrics, control, session, source }
    }

    /// Up to what the source says to `play`.
    fn playing() -> Self {
        let mut pair = Self::new();
        pair.play(epoch());
        pair
    }

    fn play(&mut self, now: Instant) {
        self.exchange(now);
        self.status("status", "NetStream.Play.Start", "");
        self.exchange(now);
    }

    fn status(&mut self, level: &str, code: &str, description: &str) {
        let information = object([("level", level), ("code", code), ("description", description)]);
        self.source.writer.command("onStatus", 0.0, Amf0Value::Null, vec![information], 1);
    }

    /// In pieces, for neither may care where reads end.
    fn exchange(&mut self, now: Instant) {
        loop {
            let (asked, said) = (self.session.take_output(), self.source.writer.take());
            if asked.is_empty() && said.is_empty() {
                return;
            }
            self.source.hear(&asked);
            said.chunks(777).for_each(|piece| self.session.handle_bytes(now, piece));
        }
    }

    fn media(&mut self, now: Instant, kind: u8, time_ms: u32, body: Vec<u8>) {
        self.source.writer.media(kind, time_ms, 1, body.into());
        self.exchange(now);
    }

    fn stream(&self) -> Arc<Stream> {
        self.streams.get(&"cam1".parse().unwrap()).unwrap()
    }

    fn failed(&self) -> &str {
        let Some(PullEnding::Failed(reason)) = self.session.ending() else { panic!("{:?}", self.session.ending()) };
        reason
    }

    fn publishers(&self) -> i64 {
        self.metrics.publishers.get_or_create(&ProtocolLabel { protocol: "rtmp-pull" }).get()
    }
}

impl Source {
    fn hear(&mut self, bytes: &[u8]) {
        let mut rest = bytes.to_vec();
        if let Some(handshake) = &mut self.handshake {
            match handshake.process_bytes(bytes).unwrap() {
                HandshakeProcessResult::InProgress { response_bytes } => return self.writer.raw(&response_bytes),
                HandshakeProcessResult::Completed { response_bytes, remaining_bytes } => {
                    self.writer.raw(&response_bytes);
                    self.writer.set_chunk_bytes(60_000);
                    (self.handshake, rest) = (None, remaining_bytes);
                }
            }
        }
        let mut input = &rest[..];
        while let Some(message) = self.reader.read(&mut input).unwrap() {
            match message.kind {
                kind::SET_CHUNK_SIZE => self.reader.set_chunk_bytes(60_000).unwrap(),
                kind::COMMAND_AMF0 => self.answer(amf::read_all(&message.payload).unwrap()),
                kind::ACKNOWLEDGEMENT => self.acknowledgements += 1,
                kind::USER_CONTROL if message.payload[..2] == [0, 7] => self.pongs += 1,
                _ => {}
            }
        }
    }

    fn answer(&mut self, command: Vec<Amf0Value>) {
        let (Amf0Value::Utf8String(name), Amf0Value::Number(transaction)) = (&command[0], &command[1]) else {
            panic!()
        };
        match name.as_str() {
            "connect" => {
                let server = object([("fmsVer", "FMS/4,5,0,297")]);
                let status = object([("level", "status"), ("code", "NetConnection.Connect.Success")]);
                self.writer.command("_result", *transaction, server, vec![status], 0);
            }
            "createStream" => {
                self.writer.command("_result", *transaction, Amf0Value::Null, vec![Amf0Value::Number(1.0)], 0);
            }
            _ => {}
        }
        self.commands.push(command);
    }

    fn command(&self, name: &str) -> &[Amf0Value] {
        self.commands.iter().find(|command| command[0] == text(name)).unwrap()
    }
}

/// H.264 and AAC.
fn configurations() -> (Vec<u8>, Vec<Vec<u8>>) {
    testing::avc(include_bytes!("../../../tests/fixtures/h264/in-order.264"))
}

#[test]
fn what_a_source_plays_is_published_as_what_a_publisher_sends() {
    let mut pair = Pair::playing();
    assert!(pair.streams.all().is_empty(), "nobody is told of a stream that nothing came of");
    let play = pair.source.command("play");
    assert_eq!(play[3], text("camera?token=secret"));
    let Amf0Value::Object(connect) = &pair.source.command("connect")[2] else { panic!() };
    let app = (connect["app"].clone(), connect["tcUrl"].clone());
    assert_eq!(app, (text("live"), text("rtmp://far.example.net:1935/live")));
    let Amf0Value::StrictArray(codecs) = &connect["fourCcList"] else { panic!() };
    assert!(["hvc1", "av01", "Opus"].iter().all(|codec| codecs.contains(&text(codec))), "{codecs:?}");

    let meta = Amf0Value::Object(HashMap::from([("width".to_owned(), Amf0Value::Number(640.0))]));
    pair.source.writer.command("onMetaData", 0.0, meta, vec![], 1);
    let (configuration, pictures) = configurations();
    pair.media(ms(0), kind::VIDEO, 5_000, configuration);
    pair.media(ms(0), kind::AUDIO, 5_000, vec![0xaf, 0, 0x11, 0x90]);
    for (at, picture) in pictures.into_iter().enumerate() {
        pair.media(ms(33 * at as u64), kind::VIDEO, 5_000 + 33 * at as u32, picture);
        pair.media(ms(33 * at as u64), kind::AUDIO, 5_000 + 33 * at as u32, vec![0xaf, 1, 0x21, 0x10]);
    }
    let mut inputs = 0;
    while pair.session.poll_sound().is_some() {
        inputs += 1;
    }
    assert!(pair.session.is_live() && inputs > 10, "the sound is for the thread: {inputs}");
    let stream = pair.stream();
    let codecs: Vec<_> = stream.formats().unwrap().iter().map(|format| format.codec).collect();
    assert_eq!(codecs, [Codec::H264, Codec::Opus]);
    let publisher = stream.state().publisher.unwrap();
    assert_eq!((publisher.protocol, publisher.user_agent.as_str()), (Protocol::RtmpPull, "FMS/4,5,0,297"));
    assert_eq!((publisher.remote.to_string().as_str(), pair.publishers()), ("192.0.2.9:1935", 1));
    assert!(stream.state().tracks[0].packets > 10 && pair.metrics.rtp_packets.received.get() > 10);

    pair.status("status", "NetStream.Play.UnpublishNotify", "camera?token=secret is unpublished");
    pair.exchange(ms(1_000));
    assert_eq!(pair.session.ending(), Some(&PullEnding::Over("its publisher has left".into())));
    assert_eq!((stream.is_live(), pair.publishers()), (false, 0));
    pair.session.say_goodbye();
    pair.exchange(ms(1_000));
    assert_eq!(pair.source.command("deleteStream")[3], Amf0Value::Number(1.0));
}

#[test]
fn what_only_enhanced_rtmp_has_is_taken_too() {
    let mut pair = Pair::playing();
    let head = b"OpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0";
    pair.media(ms(0), kind::AUDIO, 0, [&[0x90][..], b"Opus", head].concat());
    for at in 0..3 {
        pair.media(ms(20 * at), kind::AUDIO, 20 * at as u32, [&[0x91][..], b"Opus", &[0xfc, 0xff, 0xfe]].concat());
    }
    let state = pair.stream().state();
    assert_eq!((state.tracks[0].format.codec, state.tracks[0].packets), (Codec::Opus, 3));
    assert_eq!(pair.session.poll_sound().map(|_| ()), None, "nothing is to be made of it");
}

#[test]
fn windows_are_acknowledged_and_pings_answered() {
    let mut pair = Pair::playing();
    let window = rml_rtmp::messages::RtmpMessage::WindowAcknowledgement { size: 1 };
    pair.source.writer.message(window, 0);
    let ping = UserControlEventType::PingRequest;
    pair.source.writer.user_control(ping, None, Some(rml_rtmp::time::RtmpTimestamp::new(7)));
    for at in 0..40 {
        pair.media(ms(at), kind::AUDIO, at as u32, vec![0xaf; 2_000]);
    }
    let acknowledgements = pair.source.acknowledgements;
    assert!((8..=12).contains(&acknowledgements), "a window of a byte is one of 16 KiB: {acknowledgements}");
    assert_eq!(pair.source.pongs, 1);
}

#[test]
fn messages_in_an_aggregate_are_messages() {
    let mut pair = Pair::playing();
    let (configuration, pictures) = configurations();
    let messages = [configuration].into_iter().chain(pictures.into_iter().take(3));
    let mut aggregate = Vec::new();
    for (at, body) in messages.enumerate() {
        let (length, time) = ((body.len() as u32).to_be_bytes(), (1_000 + 40 * at as u32).to_be_bytes());
        aggregate.extend([kind::VIDEO, length[1], length[2], length[3], time[1], time[2], time[3], time[0], 0, 0, 0]);
        aggregate.extend(&body);
        aggregate.extend((body.len() as u32 + 11).to_be_bytes());
    }
    pair.media(ms(0), kind::AGGREGATE, 77, aggregate.clone());
    assert_eq!(pair.stream().state().tracks[0].keyframes, 1);
    let packets = pair.stream().state().tracks[0].packets;
    assert!(packets >= 3, "{packets}");
    aggregate.truncate(aggregate.len() / 2);
    pair.media(ms(40), kind::AGGREGATE, 117, aggregate);
    assert_eq!(pair.failed(), "an aggregate message is cut short");

    let mut pair = Pair::playing();
    let tag = [kind::AUDIO, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12];
    pair.media(ms(0), kind::AGGREGATE, 0, tag.repeat(5_000));
    assert_eq!(pair.failed(), "an aggregate message of more than 4096 messages");
}

#[test]
fn what_a_source_refuses_is_told_without_the_key() {
    let mut pair = Pair::new();
    pair.exchange(epoch());
    pair.status("status", "NetStream.Play.Reset", "");
    pair.status("error", "NetStream.Play.StreamNotFound", "no camera?token=secret here");
    pair.exchange(epoch());
    assert_eq!(pair.failed(), "it refuses: NetStream.Play.StreamNotFound: no … here");
    assert!(pair.streams.all().is_empty());

    let mut pair = Pair::new();
    pair.source.commands.clear();
    pair.exchange(epoch());
    let rejected = object([("level", "error"), ("code", "NetConnection.Connect.Rejected"), ("description", "secret")]);
    pair.source.writer.command("_error", 1.0, Amf0Value::Null, vec![rejected], 0);
    pair.exchange(epoch());
    assert_eq!(pair.failed(), "it refuses: NetConnection.Connect.Rejected: …");
}

#[test]
fn silence_ends_it_whenever_it_begins() {
    let silent = |pair: &Pair| match pair.session.ending() {
        Some(PullEnding::Silent(what)) => what.clone(),
        other => panic!("{other:?}"),
    };
    let mut deaf = Pair::new();
    let due = deaf.session.poll_timeout();
    assert_eq!(due, ms(10_000));
    deaf.session.handle_timeout(due);
    assert_eq!(silent(&deaf), "it did not answer within 10 s");

    let mut empty = Pair::playing();
    // Words keep nothing alive, and neither do messages without content.
    for at in 1..10 {
        empty.status("status", "NetStream.Play.Reset", "");
        empty.media(ms(at * 1_000), kind::VIDEO, 0, Vec::new());
    }
    empty.session.handle_timeout(ms(10_000));
    assert!(silent(&empty).contains("perhaps nobody publishes it there"));

    let mut stopped = Pair::playing();
    stopped.media(ms(4_000), kind::VIDEO, 0, configurations().0);
    stopped.session.handle_timeout(ms(13_999));
    assert_eq!(stopped.session.ending(), None);
    stopped.session.handle_timeout(ms(14_000));
    assert_eq!(silent(&stopped), "neither picture nor sound came for 10 s");
    assert_eq!((stopped.stream().is_live(), stopped.session.ending().unwrap().outcome()), (false, "timeout"));
}

#[test]
fn whoever_publishes_is_not_taken_over_and_takes_over() {
    let open = testing::open();
    let mut publisher = testing::live(&open, "cam1");
    let (configuration, pictures) = configurations();
    publisher.video(ms(0), 0, configuration.clone());
    let mut pair = Pair::at(open.streams.clone(), open.metrics.clone());
    pair.play(epoch());
    pair.media(ms(0), kind::VIDEO, 0, configuration.clone());
    assert_eq!(pair.session.ending(), Some(&PullEnding::Busy));
    publisher.video(ms(33), 33, pictures[0].clone());
    assert_eq!(pair.stream().state().publisher.unwrap().protocol, Protocol::Rtmp);

    drop(publisher);
    let mut pair = Pair::at(open.streams.clone(), open.metrics.clone());
    pair.play(epoch());
    pair.media(ms(100), kind::VIDEO, 0, configuration);
    assert!(pair.session.is_live());
    let _publisher = testing::live(&open, "cam1");
    assert_eq!(*pair.control.0.lock(), [EndReason::Superseded]);
    pair.media(ms(140), kind::VIDEO, 40, pictures[0].clone());
    assert_eq!(pair.session.ending(), Some(&PullEnding::Ended(EndReason::Superseded)));
    assert_eq!(pair.stream().state().publisher.unwrap().protocol, Protocol::Rtmp);
}

#[test]
fn what_cannot_be_taken_is_told() {
    let mut pair = Pair::playing();
    // Sorenson H.263.
    pair.media(ms(0), kind::VIDEO, 0, vec![0x12, 0, 0, 0]);
    assert!(pair.failed().contains("H.264"), "{}", pair.failed());
    assert!(!pair.stream().is_live());
}

#[test]
fn garbage_and_endless_messages_end_it_within_bounds() {
    let mut rng = StdRng::seed_from_u64(7);
    for round in 0..200 {
        let mut pair = if round % 2 == 0 { Pair::playing() } else { Pair::new() };
        for _ in 0..64 {
            let garbage: Vec<u8> = (0..rng.random_range(1..2_000)).map(|_| rng.random()).collect();
            pair.session.handle_bytes(epoch(), &garbage);
            pair.session.take_output();
        }
        pair.session.handle_timeout(ms(10_000));
        assert!(pair.session.ending().is_some(), "round {round}");
        assert!(!pair.session.is_live());
    }
    // Pictures that are begun and never finished, on one chunk stream after the other.
    let mut pair = Pair::playing();
    for id in 3..64 {
        let mut bytes = vec![id, 0, 0, 0, 0x20, 0, 0, kind::VIDEO, 1, 0, 0, 0];
        bytes.extend(vec![0; 60_000]);
        pair.session.handle_bytes(epoch(), &bytes);
    }
    assert!(pair.failed().contains("chunk streams") || pair.failed().contains("unfinished"), "{}", pair.failed());
    // Words without end: nothing is kept of them.
    let mut pair = Pair::playing();
    let mut nested = vec![0x02, 0, 8];
    nested.extend(b"onStatus");
    nested.extend([0; 9]);
    nested.extend([0x03, 0, 1, b'a'].repeat(1_000));
    pair.source.writer.media(kind::COMMAND_AMF0, 0, 1, Bytes::from(nested));
    pair.exchange(epoch());
    assert!(pair.failed().contains("nested"), "{}", pair.failed());
}
