//! Smaller layers that are made here, beside the publisher's only one.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;

use super::{
    frame_tests::{Queue, original, publish},
    tests::{Asked, Inbox, info, packets, video},
    *,
};
use crate::{
    config::OnConflict,
    media::{ExtendedSeq, testing::epoch},
    track::{
        Batch, ClockReference, FrameInterest, LAYERS_MAX, LayerRole, Original, Protocol, RUNGS_MAX, Streams,
        TrackPacket,
    },
};

/// 640x360.
const SPS: &[u8] = &[
    0x67, 0x42, 0xc0, 0x1e, 0xd9, 0, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0, 0, 3, 0, 1, 0, 0, 3, 0, 0x3c, 0x0f, 0x16, 0x2e,
    0x48,
];

/// A publisher of pictures whose size is known.
fn live(streams: &Streams, protocol: Protocol) -> Publication {
    let mut publication = publish(streams, protocol);
    publication.add_track(video()).unwrap();
    publication.push(epoch(), pictures(10, true)).unwrap();
    publication
}

fn pictures(seq: u64, keyframe: bool) -> Vec<Batch> {
    let mut batches = packets(seq, keyframe);
    let packet = TrackPacket { payload: Bytes::from_static(SPS), ..(*batches[0].packets[0]).clone() };
    batches[0].packets = vec![Arc::new(packet)];
    batches
}

fn rung(stream: &Arc<Stream>, name: &str) -> Result<Rendition, RenditionRefused> {
    stream.begin_rendition(1, RenditionKind::Rung(name.into()))
}

fn push(rendition: &mut Rendition, number: u64, keyframe: bool) {
    let seq = ExtendedSeq(rendition.first_seq.0 + number);
    let packet = TrackPacket { seq, ..(*packets(number, keyframe)[0].packets[0]).clone() };
    let unit = || Original { number, ..original(number * 40, keyframe) };
    rendition.push(epoch(), vec![Arc::new(packet)], unit).unwrap();
}

#[test]
fn a_rung_stands_beside_the_publishers_layer_and_is_read_by_who_wants_rungs() {
    let streams = Streams::default();
    let publication = live(&streams, Protocol::Rtmp);
    let stream = publication.stream();
    let (packager, encoder) = (Queue::new(99), Queue::new(99));
    let _packager = stream.subscribe_frames(FrameInterest::AllLayers, packager.clone());
    let _encoder = stream.subscribe_frames(FrameInterest::Publisher, encoder.clone());
    let mut rendition = rung(stream, "360p").unwrap();
    let _ = (packager.take(), encoder.take());
    let layers = |stream: &Stream| {
        let layers = stream.state().tracks.remove(0).layers.into_iter();
        layers.map(|layer| (layer.state.role, layer.state.active)).collect::<Vec<_>>()
    };
    assert_eq!(layers(stream), [(LayerRole::Sent, true), (LayerRole::Rung, false)]);
    push(&mut rendition, 1, true);
    push(&mut rendition, 2, false);
    assert_eq!(layers(stream), [(LayerRole::Sent, true), (LayerRole::Rung, true)]);
    assert_eq!(packager.take(), ["360p=1[1]", "360p=1[2]"]);
    let late = Queue::new(99);
    let _late = stream.subscribe_frames(FrameInterest::AllLayers, late.clone());
    assert_eq!(late.take(), ["S[]", "360p=1[1] 360p=1[2]"], "what is kept since the keyframe");
    push(&mut rendition, 3, true);
    drop(_late);
    let _late = stream.subscribe_frames(FrameInterest::AllLayers, late.clone());
    assert_eq!(late.take(), ["360p=1[3]", "S[]", "360p=1[3]"]);
    assert_eq!(packager.take(), ["360p=1[3]"]);
    drop(rendition);
    assert_eq!(layers(stream), [(LayerRole::Sent, true), (LayerRole::Rung, false)]);
    assert_eq!(packager.take(), ["stopped LayerSet(2)"]);
    assert_eq!(encoder.take(), [""; 0], "its own pictures");
}

#[test]
fn rungs_of_a_webrtc_publisher_are_read_as_packets_and_keep_its_clock() {
    let streams = Streams::default();
    let mut publication = live(&streams, Protocol::Whip);
    let stream = publication.stream().clone();
    let mut rendition = rung(&stream, "360p").unwrap();
    let packager = Queue::new(99);
    let _packager = stream.subscribe_frames(FrameInterest::AllLayers, packager.clone());
    let inbox = Inbox::new(99);
    stream.subscribe(WorkerIndex(0), inbox.clone());
    let _ = (packager.take(), inbox.take());
    push(&mut rendition, 1, true);
    assert_eq!(packager.take()[0], format!("[{}]", rendition.first_seq.0 + 1));
    inbox.take();
    let reference = ClockReference { at: epoch(), time_ticks: 7, by_report: true };
    publication.set_clock(TrackIndex(0), LayerIndex(0), reference).unwrap();
    let told: Vec<_> = inbox
        .take()
        .into_iter()
        .filter_map(|delivery| match delivery {
            Delivery::Clock { layer, reference, .. } => Some((layer.0, reference.time_ticks)),
            _ => None,
        })
        .collect();
    assert_eq!(told, [(0, 7), (1, 7)], "one clock");
}

#[test]
fn rungs_are_wanted_while_somebody_watches_or_reads_them() {
    let changes = Arc::new(AtomicUsize::new(0));
    let count = changes.clone();
    let streams = Streams::with_listener(HandOver::default(), move || _ = count.fetch_add(1, Ordering::Relaxed));
    streams.tell_of_audiences();
    let publication = live(&streams, Protocol::Rtmp);
    let stream = publication.stream();
    let is_told = |act: &dyn Fn()| {
        let before = changes.load(Ordering::Relaxed);
        act();
        changes.load(Ordering::Relaxed) > before
    };
    assert_eq!(stream.wants_rungs(), None, "nobody is there");
    let encoder = stream.subscribe_frames(FrameInterest::Publisher, Queue::new(9));
    assert_eq!(stream.wants_rungs(), None, "who makes them is no reason to make them");
    drop(encoder);
    let reader = Mutex::new(None);
    let read = || *reader.lock() = Some(stream.subscribe_frames(FrameInterest::AllLayers, Queue::new(9)));
    assert!(is_told(&read));
    let PictureSize { width, height } = stream.wants_rungs().unwrap().size;
    assert_eq!((width, height), (640, 360));
    assert!(is_told(&|| _ = reader.lock().take()));
    assert_eq!(stream.wants_rungs(), None);
    stream.subscribe(WorkerIndex(WorkerIndex::FIRST_RELAY), Inbox::new(9));
    assert_eq!(stream.wants_rungs(), None, "other servers get the publisher's own");
    assert!(is_told(&|| stream.subscribe(WorkerIndex(0), Inbox::new(9))));
    assert!(stream.wants_rungs().is_some());
    assert!(is_told(&|| stream.unsubscribe(WorkerIndex(0))));
    assert_eq!(stream.wants_rungs(), None);
}

#[test]
fn there_is_one_place_for_each_name_and_not_more_than_there_are_layers_for() {
    let streams = Streams::default();
    let publication = live(&streams, Protocol::Rtmp);
    let stream = publication.stream();
    let replacement = stream.begin_rendition(1, RenditionKind::Replacement).unwrap();
    let rungs: Vec<_> = (0..RUNGS_MAX).map(|at| rung(stream, &format!("{at}p")).unwrap()).collect();
    assert_eq!(stream.state().tracks[0].layers.len(), LAYERS_MAX);
    assert_eq!(rung(stream, "one-too-many").err(), Some(RenditionRefused::TooMany));
    drop(rungs);
    assert!(rung(stream, "0p").is_ok(), "its place is kept");
    drop(replacement);
    let last = stream.begin_rendition(1, RenditionKind::Rung("1p".into())).unwrap();
    assert!(last.first_seq.0 > 0);
}

#[test]
fn a_rung_that_falls_silent_is_told_of_as_stopped() {
    let streams = Streams::default();
    let mut publication = live(&streams, Protocol::Rtmp);
    let stream = publication.stream().clone();
    let packager = Queue::new(99);
    let _packager = stream.subscribe_frames(FrameInterest::AllLayers, packager.clone());
    let mut rendition = rung(&stream, "360p").unwrap();
    push(&mut rendition, 1, true);
    packager.take();
    for at in 0..20 {
        publication.push(epoch() + Duration::from_millis(at * 40), pictures(20 + at, false)).unwrap();
    }
    assert_eq!(packager.take(), ["stopped LayerSet(2)"]);
    push(&mut rendition, 2, true);
    assert_eq!(packager.take(), ["360p=1[2]"], "it goes on");
}

#[test]
fn a_reader_that_is_behind_when_a_rung_stops_hears_of_it_when_it_is_brought_back() {
    let streams = Streams::default();
    let mut publication = live(&streams, Protocol::Rtmp);
    publication.push_original(original(0, true)).unwrap();
    let packager = Queue::new(1);
    let _packager = publication.stream().subscribe_frames(FrameInterest::AllLayers, packager.clone());
    packager.take();
    let mut rendition = rung(publication.stream(), "360p").unwrap();
    packager.take();
    push(&mut rendition, 1, true);
    publication.push_original(original(40, false)).unwrap();
    drop(rendition);
    assert_eq!(packager.take(), ["360p=1[1]"], "there is no place for more");
    publication.push_original(original(80, true)).unwrap();
    assert_eq!(packager.take(), ["S[1, 2, 3], 1 has stopped"]);
}

fn to(layer: u8, mut batches: Vec<Batch>) -> Vec<Batch> {
    batches[0].layer = LayerIndex(layer);
    batches
}

#[test]
fn a_publishers_own_layer_takes_the_place_of_a_rung_where_there_is_none_left() {
    let streams = Streams::default();
    let mut publication = live(&streams, Protocol::Rtmp);
    let stream = publication.stream().clone();
    let _replacement = stream.begin_rendition(1, RenditionKind::Replacement).unwrap();
    let mut rungs: Vec<_> = (0..RUNGS_MAX).map(|at| rung(&stream, &format!("{at}p")).unwrap()).collect();
    let layer = publication.add_layer(TrackIndex(0), "track-1").unwrap().unwrap();
    assert_eq!(publication.add_layer(TrackIndex(0), "track-1").unwrap(), Some(layer), "it is there");
    publication.push(epoch(), to(layer.0, pictures(10, true))).unwrap();
    let state = stream.state().tracks.remove(0).layers.remove(usize::from(layer.0)).state;
    assert_eq!((state.rid.as_deref(), state.role, state.active), (Some("track-1"), LayerRole::Sent, true));
    // Whoever made what was there is told, and takes nothing with it.
    let mut gone = rungs.pop().unwrap();
    let packets = packets(1, true).remove(0).packets;
    assert_eq!(gone.push(epoch(), packets, || original(0, true)), Err(RenditionRefused::Gone));
    drop(gone);
    assert!(stream.state().tracks[0].layers[usize::from(layer.0)].state.active);
    assert_eq!(stream.wants_rungs(), None, "it has sizes of its own");
}

#[test]
fn layers_keep_their_places_when_their_publisher_stands_by() {
    let streams = Streams::default();
    let mut primary = live(&streams, Protocol::Rtmp);
    let stream = primary.stream().clone();
    let rendition = rung(&stream, "360p").unwrap();
    let side = primary.add_layer(TrackIndex(0), "track-1").unwrap().unwrap();
    primary.push(epoch(), to(side.0, pictures(10, true))).unwrap();
    let info = PublisherInfo { protocol: Protocol::Rtmp, priority: Priority::Backup, ..info() };
    let control = Arc::<Asked>::default();
    let name = "cam".parse().unwrap();
    let mut backup = streams.publish(&name, info, control, OnConflict::Takeover, SystemTime::UNIX_EPOCH).unwrap();
    backup.add_track(video()).unwrap();
    // The primary falls silent, and the backup is on air.
    for at in 0..60 {
        backup.push(epoch() + Duration::from_millis(at * 40), pictures(10 + at, at % 30 == 0)).unwrap();
    }
    assert_eq!(stream.state().publisher.map(|publisher| publisher.priority), Some(Priority::Backup));
    drop(rendition);
    primary.push(epoch() + Duration::from_secs(3), to(side.0, pictures(11, true))).unwrap();
    drop(backup);
    let layers = stream.state().tracks.remove(0).layers;
    let told: Vec<_> = layers.iter().map(|layer| (layer.state.rid.as_deref(), layer.state.active)).collect();
    assert_eq!(told, [(None, true), (Some("360p"), false), (Some("track-1"), true)]);
}

#[test]
fn what_is_made_of_another_format_goes_nowhere() {
    let streams = Streams::default();
    let mut publication = live(&streams, Protocol::Rtmp);
    let mut rendition = rung(publication.stream(), "360p").unwrap();
    let other = TrackFormat { fmtp: "profile-level-id=640c1f".into(), ..video() };
    publication.set_format(TrackIndex(0), other).unwrap();
    let packets = packets(1, true).remove(0).packets;
    assert_eq!(rendition.push(epoch(), packets, || original(0, true)), Err(RenditionRefused::Gone));
}
