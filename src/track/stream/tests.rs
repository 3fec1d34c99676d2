use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::*;
use crate::{
    config::OnConflict,
    media::{Codec, ExtendedSeq, MediaKind, SessionId, testing::epoch},
    track::{Batch, News, Replica, ReplicaLayer, StreamBusy, Streams, TrackPacket},
};

/// A publisher's end that notes what is asked of it.
#[derive(Default)]
pub(super) struct Asked {
    keyframes: AtomicUsize,
    ends: Mutex<Vec<EndReason>>,
}

impl Asked {
    pub(super) fn keyframes(&self) -> usize {
        self.keyframes.load(Ordering::Relaxed)
    }

    pub(super) fn ends(&self) -> Vec<EndReason> {
        self.ends.lock().clone()
    }
}

impl PublisherControl for Asked {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {
        self.keyframes.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self, reason: EndReason) {
        self.ends.lock().push(reason);
    }
}

/// A worker's inbox with room for so many deliveries.
pub(super) struct Inbox {
    room: usize,
    deliveries: Mutex<Vec<Delivery>>,
}

impl Inbox {
    pub(super) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room, deliveries: Mutex::default() })
    }

    pub(super) fn take(&self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries.lock())
    }
}

impl PacketSink for Inbox {
    fn deliver(&self, _: &Arc<Stream>, delivery: Delivery) -> bool {
        let mut deliveries = self.deliveries.lock();
        let fits = deliveries.len() < self.room;
        if fits {
            deliveries.push(delivery);
        }
        fits
    }
}

pub(super) fn info() -> PublisherInfo {
    PublisherInfo {
        session: SessionId::random(),
        protocol: Protocol::Whip,
        priority: Default::default(),
        remote: SocketAddr::from(([127, 0, 0, 1], 9)),
        user_agent: String::new(),
        subject: None,
    }
}

pub(super) fn video() -> TrackFormat {
    TrackFormat { codec: Codec::H264, fmtp: String::new(), channels: 1 }
}

fn publish(streams: &Streams, control: &Arc<Asked>) -> Result<Publication, StreamBusy> {
    let name = "cam".parse().unwrap();
    streams.publish(&name, info(), control.clone(), OnConflict::Takeover, SystemTime::UNIX_EPOCH)
}

pub(super) fn packets(seq: u64, keyframe_start: bool) -> Vec<Batch> {
    let packet = TrackPacket {
        seq: ExtendedSeq(seq),
        time_ticks: seq * 3_000,
        arrival: epoch(),
        marker: true,
        keyframe_start,
        capture: None,
        payload: Bytes::from_static(&[0; 10]),
    };
    vec![Batch { track: VIDEO, layer: ONLY, packets: vec![Arc::new(packet)] }]
}

const VIDEO: TrackIndex = TrackIndex(0);
const ONLY: LayerIndex = LayerIndex(0);

/// The one layer of the pictures.
fn only(replica: &Replica) -> &ReplicaLayer {
    replica.track(MediaKind::Video).unwrap().layer(ONLY).unwrap()
}

#[test]
fn a_subscriber_gets_all_there_is_and_then_what_comes() {
    let streams = Streams::default();
    let mut publication = publish(&streams, &Arc::default()).unwrap();
    publication.add_track(video()).unwrap();
    publication.push(epoch(), packets(10, true)).unwrap();
    publication.push(epoch(), packets(11, false)).unwrap();
    let inbox = Inbox::new(100);
    publication.stream().subscribe(WorkerIndex(0), inbox.clone());
    publication.push(epoch(), packets(12, false)).unwrap();
    let mut replica = Replica::default();
    let mut told = inbox.take().into_iter().map(|delivery| {
        let mut news = News::default();
        replica.apply(delivery, &mut news);
        (news.tracks, !news.video.is_empty(), news.audio, news.only())
    });
    assert_eq!(told.next(), Some((true, false, false, None)));
    assert_eq!(told.next(), Some((false, true, false, Some(MediaKind::Video))));
    assert_eq!(told.next(), None);
    drop(told);
    let kept: Vec<_> = only(&replica).ring().iter().map(|packet| packet.seq.0).collect();
    assert_eq!(kept, [10, 11, 12]);
}

#[test]
fn a_newcomer_takes_the_stream_over_and_the_old_publisher_is_told() {
    let streams = Streams::default();
    let (first, second) = (Arc::<Asked>::default(), Arc::<Asked>::default());
    let mut old = publish(&streams, &first).unwrap();
    old.add_track(video()).unwrap();
    let mut new = publish(&streams, &second).unwrap();
    assert_eq!(*first.ends.lock(), [EndReason::Superseded]);
    assert_eq!(old.push(epoch(), packets(1, true)), Err(Superseded));
    new.add_track(video()).unwrap();
    drop(old);
    assert!(new.stream().is_live(), "the old one's end does not take the new one off");
    assert!(second.ends.lock().is_empty());
}

#[test]
fn a_newcomer_is_refused_where_conflicts_are() {
    let streams = Streams::default();
    let control = Arc::<Asked>::default();
    let on = publish(&streams, &control).unwrap();
    let name = "cam".parse().unwrap();
    let again = || streams.publish(&name, info(), control.clone(), OnConflict::Reject, SystemTime::UNIX_EPOCH);
    assert_eq!(again().err(), Some(StreamBusy::Primary));
    assert!(control.ends.lock().is_empty());
    drop(on);
    assert!(again().is_ok());
}

#[test]
fn a_worker_that_fell_behind_is_brought_back_at_a_keyframe() {
    let streams = Streams::default();
    let control = Arc::<Asked>::default();
    let mut publication = publish(&streams, &control).unwrap();
    publication.add_track(video()).unwrap();
    let inbox = Inbox::new(3);
    publication.stream().subscribe(WorkerIndex(0), inbox.clone());
    let mut replica = Replica::default();
    for seq in 0..6 {
        publication.push(epoch(), packets(1_000 + seq, seq == 0)).unwrap();
    }
    assert_eq!(control.keyframes(), 1, "it cannot go on without a keyframe");
    for delivery in inbox.take() {
        replica.apply(delivery, &mut News::default());
    }
    let run = only(&replica).run();
    publication.push(epoch(), packets(1_006, false)).unwrap();
    assert!(inbox.take().is_empty(), "nothing is sent that cannot be shown");
    for (keyframe, same_run) in [(1_010, true), (2_000, false)] {
        publication.stream().inner.lock().subscribers[0].lagging = true;
        publication.push(epoch(), packets(keyframe, true)).unwrap();
        publication.push(epoch(), packets(keyframe + 1, false)).unwrap();
        for delivery in inbox.take() {
            replica.apply(delivery, &mut News::default());
        }
        let track = only(&replica);
        assert_eq!(track.ring().newest().unwrap().seq.0, keyframe + 1);
        assert_eq!(track.ring().join_point(), Some(ExtendedSeq(keyframe)));
        assert_eq!(track.run() == run, same_run, "what overlaps with what is there goes on, else a new run begins");
    }
}

#[test]
fn sound_alone_is_gone_on_with_at_once() {
    let streams = Streams::default();
    let mut publication = publish(&streams, &Arc::default()).unwrap();
    publication.add_track(TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 }).unwrap();
    let inbox = Inbox::new(1);
    publication.stream().subscribe(WorkerIndex(0), inbox.clone());
    publication.push(epoch(), packets(1, false)).unwrap();
    inbox.take();
    publication.push(epoch(), packets(2, false)).unwrap();
    assert!(matches!(inbox.take()[..], [Delivery::Snapshot(_)]));
}

#[test]
fn keyframe_requests_of_all_viewers_are_one() {
    let streams = Streams::default();
    let control = Arc::<Asked>::default();
    let mut publication = publish(&streams, &control).unwrap();
    publication.add_track(video()).unwrap();
    let stream = publication.stream().clone();
    let now = epoch();
    assert!(stream.request_keyframe(now, VIDEO, ONLY));
    assert!(!stream.request_keyframe(now + Duration::from_millis(1), VIDEO, ONLY));
    assert!(!stream.request_keyframe(now, TrackIndex(7), LayerIndex(3)), "no such layer");
    publication.push(now + Duration::from_secs(1), packets(1, false)).unwrap();
    assert_eq!(control.keyframes(), 2, "the one that waited is sent when its time has come");
}

#[test]
fn a_stream_that_nobody_uses_is_forgotten() {
    let streams = Streams::default();
    let publication = publish(&streams, &Arc::default()).unwrap();
    let viewed = streams.get_or_create(&"other".parse().unwrap());
    let viewer = viewed.count_viewer();
    drop(viewed);
    streams.prune();
    assert_eq!(streams.all().len(), 2);
    drop((publication, viewer));
    streams.prune();
    assert!(streams.all().is_empty());
}

#[test]
fn notices_are_told_once_per_code_and_end_with_the_publication() {
    let streams = Streams::default();
    let mut publication = publish(&streams, &Arc::default()).unwrap();
    let stream = publication.stream().clone();
    for text in ["first", "again"] {
        publication.notice(Notice { code: "b-frames-dropped", text: text.into() });
    }
    assert_eq!(stream.state().notices.iter().map(|notice| &*notice.text).collect::<Vec<_>>(), ["first"]);
    drop(publication);
    assert!(stream.state().notices.is_empty());
}

#[test]
fn what_viewers_cannot_decode_is_told_once_per_text_and_leaves_room_for_the_rest() {
    let streams = Streams::default();
    let mut publication = publish(&streams, &Arc::default()).unwrap();
    let stream = publication.stream().clone();
    let notice = |text: &str| Notice { code: "undecodable", text: text.into() };
    let texts = || stream.state().notices.into_iter().map(|notice| notice.text).collect::<Vec<_>>();
    for text in ["AV1 is sent, H264", "AV1 is sent, VP8", "AV1 is sent, H264"] {
        stream.notice_of_viewers(None, notice(text));
    }
    stream.notice_of_viewers(Some(77), notice("of another publication"));
    assert_eq!(texts(), ["AV1 is sent, H264", "AV1 is sent, VP8"]);
    (0..100).for_each(|number| stream.notice_of_viewers(Some(1), notice(&number.to_string())));
    assert_eq!(texts()[2..], ["0", "1"]);
    publication.notice(Notice { code: "b-frames-dropped", text: "told".into() });
    assert_eq!(texts()[4..], ["told"]);
    drop(publication);
    stream.notice_of_viewers(None, notice("nobody publishes"));
    assert!(texts().is_empty());
}

#[test]
fn formats_are_listed_video_first() {
    let streams = Streams::default();
    let mut publication = publish(&streams, &Arc::default()).unwrap();
    let stream = publication.stream().clone();
    assert_eq!(stream.formats(), None, "no track is known yet");
    publication.add_track(TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 }).unwrap();
    publication.add_track(video()).unwrap();
    let codecs: Vec<_> = stream.formats().unwrap().iter().map(|format| format.codec).collect();
    assert_eq!(codecs, [Codec::H264, Codec::Opus]);
}

/// A picture of one packet in this layer.
fn picture(layer: u8, seq: u64, keyframe_start: bool) -> Batch {
    let batch = packets(seq, keyframe_start).remove(0);
    Batch { layer: LayerIndex(layer), ..batch }
}

fn layers_of(replica: &Replica, layer: u8) -> Vec<u64> {
    let track = replica.track(MediaKind::Video).unwrap();
    track.layer(LayerIndex(layer)).unwrap().ring().iter().map(|packet| packet.seq.0).collect()
}

fn set(layers: &[u8]) -> LayerSet {
    layers.iter().copied().map(LayerIndex).collect()
}

#[test]
fn a_worker_gets_the_layers_it_wants_and_hears_of_the_others() {
    let streams = Streams::default();
    let mut publication = publish(&streams, &Arc::default()).unwrap();
    let rids = ["h", "m", "l"].map(str::to_owned);
    let track = publication.add_layered_track(video(), &rids).unwrap();
    let stream = publication.stream().clone();
    let inbox = Inbox::new(100);
    stream.subscribe(WorkerIndex(0), inbox.clone());
    let mut replica = Replica::default();
    let mut read = |inbox: &Inbox| {
        let deliveries = inbox.take();
        let packets = deliveries.iter().filter(|delivery| matches!(delivery, Delivery::Packets(_))).count();
        let mut news = News::default();
        deliveries.into_iter().for_each(|delivery| replica.apply(delivery, &mut news));
        (packets, replica.track(MediaKind::Video).unwrap().kept(), [0, 1, 2].map(|at| layers_of(&replica, at)))
    };
    let now = epoch();
    // Nothing is sent yet, so nothing is wanted; that a layer begins is told.
    publication.push(now, vec![picture(2, 10, true)]).unwrap();
    assert_eq!(read(&inbox).0, 0);
    stream.want_layers(WorkerIndex(0), 1, track, set(&[2]));
    publication.push(now, vec![picture(2, 11, false), picture(0, 50, true)]).unwrap();
    let (deliveries, kept, rings) = read(&inbox);
    assert_eq!((deliveries, kept), (1, set(&[2])));
    assert_eq!(
        rings,
        [vec![], vec![], vec![10, 11]],
        "what came before is in the snapshot, and of others nothing is kept"
    );
    // What nobody here wants costs no delivery.
    publication.push(now, vec![picture(0, 51, false), picture(1, 70, true)]).unwrap();
    assert_eq!(read(&inbox).0, 0);
    stream.want_layers(WorkerIndex(0), 1, track, set(&[0, 2]));
    let (_, kept, rings) = read(&inbox);
    assert_eq!((kept, &rings[0][..]), (set(&[0, 2]), &[50, 51][..]));
    // Wanting less takes effect with the next batch.
    stream.want_layers(WorkerIndex(0), 1, track, set(&[0]));
    publication.push(now, vec![picture(2, 12, false)]).unwrap();
    assert_eq!(read(&inbox).0, 0);
    // Word that belongs to another publication is no word.
    stream.want_layers(WorkerIndex(0), 7, track, set(&[1]));
    publication.push(now, vec![picture(1, 71, false)]).unwrap();
    assert_eq!(read(&inbox).0, 0);
}

#[test]
fn a_newcomer_gets_the_highest_layer_that_is_sent() {
    let streams = Streams::default();
    let mut publication = publish(&streams, &Arc::default()).unwrap();
    publication.add_layered_track(video(), &["a".into(), "b".into()]).unwrap();
    publication.push(epoch(), vec![picture(1, 10, true)]).unwrap();
    let inbox = Inbox::new(100);
    publication.stream().subscribe(WorkerIndex(0), inbox.clone());
    let mut replica = Replica::default();
    inbox.take().into_iter().for_each(|delivery| replica.apply(delivery, &mut News::default()));
    assert_eq!([layers_of(&replica, 0), layers_of(&replica, 1)], [vec![], vec![10]]);
    let states: Vec<_> =
        replica.track(MediaKind::Video).unwrap().layers().map(|(_, layer)| layer.state().clone()).collect();
    assert_eq!(
        states.iter().map(|state| (state.rid.as_deref(), state.active)).collect::<Vec<_>>(),
        [(Some("a"), false), (Some("b"), true)]
    );
}

#[test]
fn a_worker_that_fell_behind_is_brought_back_at_a_keyframe_of_what_it_watches() {
    let streams = Streams::default();
    let control = Arc::<Asked>::default();
    let mut publication = publish(&streams, &control).unwrap();
    let track = publication.add_layered_track(video(), &["a".into(), "b".into()]).unwrap();
    let stream = publication.stream().clone();
    let inbox = Inbox::new(100);
    stream.subscribe(WorkerIndex(0), inbox.clone());
    publication.push(epoch(), vec![picture(0, 10, true), picture(1, 90, true)]).unwrap();
    stream.want_layers(WorkerIndex(0), 1, track, set(&[0]));
    inbox.take();
    stream.inner.lock().subscribers[0].lagging = true;
    publication.push(epoch(), vec![picture(0, 11, false), picture(1, 91, true)]).unwrap();
    assert!(inbox.take().is_empty(), "the other layer's keyframe is of no use");
    assert_eq!(control.keyframes(), 1);
    publication.push(epoch(), vec![picture(0, 12, true)]).unwrap();
    assert!(matches!(inbox.take()[..], [Delivery::Snapshot(_)]));
}

#[test]
fn each_layer_has_its_own_requests_and_figures() {
    let streams = Streams::default();
    let control = Arc::<Asked>::default();
    let mut publication = publish(&streams, &control).unwrap();
    let track = publication.add_layered_track(video(), &["a".into(), "b".into()]).unwrap();
    let stream = publication.stream().clone();
    let now = epoch();
    assert!(stream.request_keyframe(now, track, LayerIndex(0)));
    assert!(stream.request_keyframe(now, track, LayerIndex(1)), "another layer's request is another");
    assert!(!stream.request_keyframe(now, track, LayerIndex(1)));
    for at in 0..30 {
        let now = now + Duration::from_millis(at * 100);
        publication
            .push(now, vec![picture(0, at, at == 0), picture(1, at, at == 0), picture(1, 100 + at, false)])
            .unwrap();
    }
    let state = stream.state();
    let rates: Vec<_> = state.tracks[0].layers.iter().map(|layer| layer.bitrate_bps).collect();
    assert_eq!(rates, [800, 1_600], "ten pictures of ten bytes a second");
    assert_eq!((state.tracks[0].packets, state.tracks[0].keyframes), (90, 2));
}
