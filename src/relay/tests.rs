//! What one server is sent by RTMP reaches another as it was: the client's side against our own door, on a virtual clock.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{Connector, Endpoints, RelayState, Relays, TASKS_MAX, report::Shown};
use crate::{
    config::RtmpUrl,
    egress::rtmp::{Feed, PublishClient, PublishState},
    ingest::rtmp::{RtmpContext, Session, testing},
    media::{MediaKind, SessionId, testing::epoch},
    metrics::Metrics,
    track::{
        EndReason, FrameDelivery, FrameInterest, FrameSubscription, LayerIndex, Original, Originals, PublisherControl,
        Stream, TrackIndex,
    },
};

struct Nobody;

impl PublisherControl for Nobody {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}
    fn end(&self, _: EndReason) {}
}

type Lane = Arc<Mutex<Vec<FrameDelivery>>>;

fn read(stream: &Arc<Stream>) -> (FrameSubscription, Lane) {
    let lane = Lane::default();
    let deliveries = lane.clone();
    let sink = move |delivery| {
        deliveries.lock().push(delivery);
        true
    };
    (stream.subscribe_frames(FrameInterest::Publisher, Arc::new(sink)), lane)
}

fn units(lane: &Lane) -> Vec<Original> {
    let mut all: Vec<Original> = Vec::new();
    for delivery in lane.lock().iter() {
        let units = match delivery {
            FrameDelivery::Originals(Originals::Units(units)) => units.to_vec(),
            FrameDelivery::Originals(Originals::Snapshot(snapshot)) => snapshot.units.clone(),
            _ => continue,
        };
        let known = all.last().map_or(0, |last| last.number);
        all.extend(units.into_iter().filter(|unit| unit.number > known));
    }
    all
}

/// A client and the door that it publishes at.
struct Far {
    client: PublishClient,
    session: Session,
    context: Arc<RtmpContext>,
}

impl Far {
    fn connect(context: Arc<RtmpContext>, url: &str) -> Self {
        let url: RtmpUrl = url.parse().unwrap();
        let client = PublishClient::new(url, epoch());
        let peer = "192.0.2.7:4000".parse().unwrap();
        let id = SessionId::random();
        let time_of_day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let session = Session::new(context.clone(), id, peer, Arc::new(Nobody), epoch(), time_of_day);
        let mut far = Self { client, session, context };
        far.exchange(epoch());
        far
    }

    /// In pieces, for neither may care where reads end.
    fn exchange(&mut self, now: Instant) {
        loop {
            let (sent, said) = (self.client.take_output(), self.session.take_output());
            if sent.is_empty() && said.is_empty() {
                return;
            }
            sent.chunks(777).for_each(|piece| self.session.handle_bytes(now, piece));
            said.chunks(13).for_each(|piece| self.client.handle_bytes(piece));
        }
    }
}

#[test]
fn b_frames_and_sound_arrive_as_they_were_with_times_that_begin_at_0() {
    let near = testing::open();
    let mut publisher = testing::live(&near, "cam1");
    let stream = near.streams.get(&"cam1".parse().unwrap()).unwrap();
    let ms = |ms: u64| epoch() + Duration::from_millis(ms);
    let (configuration, pictures) = testing::avc(include_bytes!("../../tests/fixtures/h264/b-frames.264"));
    publisher.video(ms(0), 90_000, configuration);
    publisher.audio(ms(0), 90_000, vec![0xaf, 0, 0x11, 0x90]);
    for (at, mut picture) in pictures.into_iter().enumerate() {
        let at = at as u32;
        // Composition times: those of B-frames are the lesser ones.
        picture[4] = 40 * (at % 3) as u8;
        publisher.video(ms(u64::from(40 * at)), 90_000 + 40 * at, picture);
        publisher.audio(ms(u64::from(40 * at)), 90_000 + 40 * at, vec![0xaf, 1, 0x21, at as u8]);
    }
    let (_near_lane, sent) = read(&stream);

    let mut far = Far::connect(testing::open(), "rtmp://far.example.net/live/copy?x=1");
    assert_eq!(far.client.state(), &PublishState::Live);
    let copy = far.context.streams.get(&"copy".parse().unwrap()).unwrap();
    let (_far_lane, arrived) = read(&copy);
    let mut feed = Feed::default();
    for delivery in sent.lock().clone() {
        feed.take(epoch(), delivery);
    }
    while let Some(outgoing) = feed.poll() {
        far.client.send(outgoing);
        far.exchange(epoch());
    }
    assert_eq!((feed.refusal(), far.session.ending()), (None, None));
    let (sent, arrived) = (units(&sent), units(&arrived));
    // What is there already is sent from the last keyframe on.
    let live = sent.iter().rposition(|unit| unit.unit.keyframe && unit.format.kind() == MediaKind::Video);
    let sent = sent.get(live.unwrap()..).unwrap();
    assert!(sent.len() > 10 && sent.iter().any(|unit| unit.unit.composition_offset_ticks > 0));
    let first_ms = sent[0].unit.decode_time_ticks;
    let begins_ms = arrived[0].unit.decode_time_ticks;
    let shown = |units: &[Original], from_ms: u64, kind: MediaKind| -> Vec<(u64, i32, bool, Bytes)> {
        let of_kind = units.iter().filter(|unit| unit.format.kind() == kind);
        of_kind
            .map(|unit| {
                let of = &unit.unit;
                (of.decode_time_ticks - from_ms, of.composition_offset_ticks, of.keyframe, of.data.clone())
            })
            .collect()
    };
    for kind in [MediaKind::Video, MediaKind::Audio] {
        assert!(shown(&arrived, begins_ms, kind) == shown(sent, first_ms, kind), "{kind:?}");
    }
    assert!(arrived.iter().all(|unit| sent.iter().any(|sent| sent.format == unit.format)));

    far.client.say_goodbye();
    far.exchange(epoch());
    assert!(!copy.is_live());
}

#[test]
fn what_the_far_side_refuses_is_told_without_the_key() {
    let mut context = testing::open();
    let authenticator = sluice_signaling::token::Authenticator::hs256(&[7; 32]).unwrap();
    Arc::get_mut(&mut context).unwrap().authenticator = Arc::new(authenticator);
    let far = Far::connect(context, "rtmp://far.example.net/live/copy?token=secret");
    let PublishState::Failed(reason) = far.client.state() else { panic!("{:?}", far.client.state()) };
    assert!(reason.contains("NetStream.Publish.Denied") && !reason.contains("secret"), "{reason}");
}

#[test]
fn a_far_side_that_says_nothing_is_given_up() {
    let mut client = PublishClient::new("rtmp://far.example.net/live/copy".parse().unwrap(), epoch());
    let due = client.poll_timeout().unwrap();
    client.handle_timeout(due);
    assert_eq!(client.state(), &PublishState::Failed("it did not answer within 10 s".into()));
    let mut deaf = PublishClient::new("rtmp://far.example.net/live/copy".parse().unwrap(), epoch());
    deaf.handle_bytes(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    let PublishState::Failed(reason) = deaf.state() else { panic!("{:?}", deaf.state()) };
    assert!(reason.starts_with("what answers speaks no RTMP"), "{reason}");
}

#[tokio::test]
async fn a_stream_that_finds_no_room_waits_which_is_said_once_and_shown() {
    let near = testing::open();
    let _publisher = testing::live(&near, "cam1");
    let stream = near.streams.get(&"cam1".parse().unwrap()).unwrap();
    let targets = vec!["cam* rtmp://far.example.net/live/copy".parse().unwrap()];
    let metrics = Metrics::new();
    let (connector, endpoints) = (Connector::new(false).unwrap(), Endpoints::new(false).unwrap());
    let relays =
        Relays::new(targets, connector, endpoints, near.streams.clone(), metrics.clone(), CancellationToken::new());
    let others = (0..TASKS_MAX)
        .map(|at| ((format!("other{at}").parse().unwrap(), 0), Shown::new("far".into(), metrics.clone())));
    relays.pushes.lock().extend(others);
    relays.begin(&stream);
    let since = relays.waiting.lock().values().copied().collect::<Vec<_>>();
    relays.begin(&stream);
    let report = relays.reports(stream.name()).remove(0);
    assert_eq!((report.state, report.attempts, vec![report.since]), (RelayState::Waiting, 0, since));
    assert_eq!(report.problem.unwrap(), "1024 others are sent on already, which is the most");
    assert_eq!(report.target, "rtmp://far.example.net:1935/live");

    relays.pushes.lock().remove(&("other7".parse().unwrap(), 0));
    relays.begin(&stream);
    assert_eq!(relays.reports(stream.name()).remove(0).state, RelayState::Connecting);
    assert!(relays.waiting.lock().is_empty());
}

#[test]
fn what_went_wrong_is_remembered_after_it_was_mended() {
    let shown = Shown::new("far".into(), Metrics::new());
    shown.connecting();
    shown.retrying("it closed the connection".into());
    let failed = shown.report();
    assert_eq!(failed.problem.as_deref(), Some("it closed the connection"));
    shown.connecting();
    let live = shown.live();
    let report = shown.report();
    assert_eq!((report.state, report.attempts, report.problem), (RelayState::Live, 2, None));
    assert_eq!(report.last_failure, failed.last_failure);
    assert_eq!(report.last_failure.unwrap().0, "it closed the connection");
    drop(live);
}
