//! A primary and its backup, on a virtual clock.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    frame_tests::original,
    standby::HandOver,
    tests::{Asked, Inbox, info, packets, video},
    *,
};
use crate::{
    config::OnConflict,
    media::testing::epoch,
    track::{LayerIndex, LayerSet, Original, Snapshot, StreamBusy, Streams},
};

const FRAME: Duration = Duration::from_millis(40);
/// Pictures from one keyframe to the next.
const GOP: u64 = 25;

struct Encoder {
    publication: Publication,
    asked: Arc<Asked>,
    /// Told apart in snapshots by what their numbers begin with.
    first: u64,
    sent: u64,
    /// As browsers do it: after the first keyframe one for each time that it was asked, so often up to now.
    when_asked: Option<usize>,
}

impl Encoder {
    fn new(streams: &Streams, priority: Priority, first: u64) -> Self {
        let mut encoder = Self::connect(streams, priority, first, OnConflict::Takeover).unwrap();
        encoder.publication.add_track(video()).unwrap();
        encoder
    }

    fn connect(streams: &Streams, priority: Priority, first: u64, conflict: OnConflict) -> Result<Self, StreamBusy> {
        let (name, asked) = ("cam".parse().unwrap(), Arc::<Asked>::default());
        let info = PublisherInfo { priority, ..info() };
        let publication = streams.publish(&name, info, asked.clone(), conflict, SystemTime::UNIX_EPOCH)?;
        Ok(Self { publication, asked, first, sent: 0, when_asked: None })
    }

    fn send(&mut self, now: Instant) {
        let asked = self.asked.keyframes();
        let keyframe = match &mut self.when_asked {
            Some(before) => std::mem::replace(before, asked) < asked || self.sent == 0,
            None => self.sent.is_multiple_of(GOP),
        };
        self.publication.push(now, packets(self.first + self.sent, keyframe)).unwrap();
        self.sent += 1;
    }
}

fn hand_over() -> HandOver {
    HandOver { back_after: Duration::from_secs(2), ..HandOver::default() }
}

/// A stream of both, that one worker is subscribed to; what was delivered so far is read.
struct Scene {
    stream: Arc<Stream>,
    viewer: Arc<Inbox>,
    hand_over: HandOver,
    now: Instant,
    primary: Encoder,
    backup: Encoder,
}

impl Scene {
    fn new() -> Self {
        let hand_over = hand_over();
        let streams = Streams::with_listener(hand_over.clone(), || {});
        let primary = Encoder::new(&streams, Priority::Primary, 1_000);
        let backup = Encoder::new(&streams, Priority::Backup, 5_000);
        let (stream, viewer) = (streams.get(&"cam".parse().unwrap()).unwrap(), Inbox::new(10_000));
        stream.subscribe(WorkerIndex(0), viewer.clone());
        viewer.take();
        Self { stream, viewer, hand_over, now: epoch(), primary, backup }
    }

    /// A picture's time goes by, in which these send one.
    fn step(&mut self, primary: bool, backup: bool) {
        self.now += FRAME;
        if primary {
            self.primary.send(self.now);
        }
        if backup {
            self.backup.send(self.now);
        }
    }

    fn on_air(&self) -> Priority {
        self.stream.state().publisher.unwrap().priority
    }

    /// What the worker was told: numbers of packets, and of the first and last ones in snapshots.
    fn delivered(&self) -> Vec<Told> {
        let told = |delivery| match delivery {
            Delivery::Packets(batches) => {
                let seqs = batches.iter().flat_map(|batch| &batch.packets).map(|packet| packet.seq.0);
                Some(Told::Packets(seqs.collect()))
            }
            Delivery::Snapshot(snapshot) => Some(Told::Snapshot(snapshot.publication, ends(&snapshot))),
            _ => None,
        };
        self.viewer.take().into_iter().filter_map(told).collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Told {
    Packets(Vec<u64>),
    /// Which stretch, first and last.
    Snapshot(u64, Option<(u64, u64)>),
}

fn ends(snapshot: &Snapshot) -> Option<(u64, u64)> {
    let packets = snapshot.tracks.first()?.layers.first()?.packets.as_ref()?;
    Some((packets.first()?.seq.0, packets.last()?.seq.0))
}

#[test]
fn nobody_is_sent_what_stands_by_until_the_primary_leaves() {
    let mut scene = Scene::new();
    (0..30).for_each(|_| scene.step(true, true));
    assert!(scene.delivered().iter().all(|told| matches!(told, Told::Packets(seqs) if seqs[0] < 5_000)));
    let state = scene.stream.state();
    assert_eq!(state.publisher.unwrap().priority, Priority::Primary);
    assert!(state.standby.is_some_and(|standby| standby.ready && standby.publisher.priority == Priority::Backup));
    let Scene { primary, mut backup, viewer, stream, hand_over, now, .. } = scene;
    drop(primary);
    // All that it sent: at once, whenever its next picture comes.
    let told: Vec<_> = viewer.take();
    let [Delivery::Snapshot(snapshot)] = told.as_slice() else { panic!("{} deliveries", told.len()) };
    assert_eq!(ends(snapshot), Some((5_000, 5_029)));
    assert_eq!(hand_over.to_backup.get(), 1);
    backup.send(now + FRAME);
    assert!(matches!(viewer.take().as_slice(), [Delivery::Packets(_)]));
    drop(backup);
    assert!(!stream.is_live());
}

#[test]
fn a_primary_that_falls_silent_is_replaced_within_a_second_and_gets_the_stream_back_when_it_is_steady() {
    let mut scene = Scene::new();
    (0..30).for_each(|_| scene.step(true, true));
    scene.delivered();
    let lost = scene.now;
    while scene.on_air() == Priority::Primary {
        scene.step(false, true);
    }
    let took = scene.now - lost;
    assert!(took >= Duration::from_millis(700) && took <= Duration::from_millis(800), "{took:?}");
    let told = scene.delivered();
    let newest = scene.backup.first + scene.backup.sent - 1;
    assert_eq!(told, [Told::Snapshot(2, Some((5_000, newest)))]);
    assert_eq!(scene.stream.state().standby.unwrap().publisher.priority, Priority::Primary);
    // It comes back in the middle of a group of pictures, and breaks off once more.
    (0..20).for_each(|_| scene.step(true, true));
    (0..25).for_each(|_| scene.step(false, true));
    let back = scene.now;
    while scene.on_air() == Priority::Backup {
        scene.step(true, true);
    }
    let took = scene.now - back;
    assert!(took >= Duration::from_secs(2) && took <= Duration::from_secs(3) + 2 * FRAME, "{took:?}");
    assert!(scene.primary.sent % GOP == 1, "at its keyframe");
    let told = scene.delivered();
    // The stretch is a new one, although the publisher is not: what a viewer kept of the first is of no use any more.
    let newest = scene.primary.first + scene.primary.sent - 1;
    assert!(matches!(told.last(), Some(Told::Snapshot(3, Some((_, last)))) if *last == newest), "{told:?}");
    assert_eq!((scene.hand_over.to_backup.get(), scene.hand_over.to_primary.get()), (1, 1));
}

#[test]
fn when_all_was_silent_the_primary_stays() {
    let mut scene = Scene::new();
    (0..30).for_each(|_| scene.step(true, true));
    // The machine slept; the backup's word happens to be read first.
    scene.now += Duration::from_secs(3);
    (0..5).for_each(|_| scene.step(false, true));
    (0..50).for_each(|_| scene.step(true, true));
    assert_eq!(scene.on_air(), Priority::Primary);
    assert_eq!(scene.hand_over.to_backup.get(), 0);
}

#[test]
fn a_primary_that_sends_seldom_is_not_taken_for_lost() {
    let mut scene = Scene::new();
    (0..5).for_each(|_| scene.step(true, false));
    // One picture in 600 ms, then in 1.2 s.
    for frames in [15, 30] {
        (0..20 * frames).for_each(|at| scene.step(at % frames == 0, true));
        assert_eq!(scene.on_air(), Priority::Primary, "one picture in {frames}");
    }
}

#[test]
fn a_backup_without_a_keyframe_does_not_take_over() {
    let mut scene = Scene::new();
    scene.backup.sent = 1;
    (0..3).for_each(|_| scene.step(true, true));
    (0..21).for_each(|_| scene.step(false, true));
    assert_eq!(scene.on_air(), Priority::Primary, "840 ms of silence");
    scene.step(false, true);
    assert_eq!((scene.on_air(), scene.backup.sent), (Priority::Backup, GOP + 1));
}

#[test]
fn each_place_is_taken_over_by_its_own_kind() {
    let streams = Streams::with_listener(hand_over(), || {});
    let backup = Encoder::new(&streams, Priority::Backup, 0);
    let stream = streams.get(&"cam".parse().unwrap()).unwrap();
    assert_eq!(stream.state().publisher.unwrap().priority, Priority::Backup, "while there is no other");
    let connect = |priority, conflict| Encoder::connect(&streams, priority, 0, conflict);
    let mut primary = connect(Priority::Primary, OnConflict::Reject).unwrap();
    assert_eq!(stream.state().publisher.unwrap().priority, Priority::Backup, "it has shown nothing yet");
    assert_eq!(connect(Priority::Primary, OnConflict::Reject).err(), Some(StreamBusy::Primary));
    assert_eq!(connect(Priority::Backup, OnConflict::Reject).err(), Some(StreamBusy::Backup));
    let again = connect(Priority::Primary, OnConflict::Takeover).unwrap();
    assert_eq!(primary.publication.add_track(video()), Err(Superseded));
    assert_eq!(primary.asked.ends(), [EndReason::Superseded]);
    assert!(backup.asked.ends().is_empty());
    let next = connect(Priority::Backup, OnConflict::Takeover).unwrap();
    assert_eq!(backup.asked.ends(), [EndReason::Superseded]);
    drop((backup, primary));
    assert!(stream.has_publisher(Priority::Primary) && stream.has_publisher(Priority::Backup));
    drop(next);
    assert_eq!(stream.state().publisher.unwrap().priority, Priority::Primary);
    assert!(stream.end_publication(EndReason::Kicked) && !stream.end_standby(EndReason::Kicked));
    assert_eq!(again.asked.ends(), [EndReason::Kicked]);
}

#[test]
fn a_backup_that_sends_keyframes_when_asked_only_stays_ready_and_takes_over() {
    let mut scene = Scene::new();
    scene.backup.when_asked = Some(0);
    // Longer than a group of pictures is kept.
    (0..20 * 25).for_each(|_| scene.step(true, true));
    assert!(scene.stream.state().standby.unwrap().ready);
    assert!((1..=2).contains(&scene.backup.asked.keyframes()), "asked {} times", scene.backup.asked.keyframes());
    let lost = scene.now;
    while scene.on_air() == Priority::Primary && scene.now < lost + Duration::from_secs(9) {
        scene.step(false, true);
    }
    assert!(scene.now - lost <= Duration::from_millis(800), "{:?}", scene.now - lost);
}

#[test]
fn a_primary_that_sends_keyframes_when_asked_only_gets_the_stream_back() {
    let mut scene = Scene::new();
    (0..30).for_each(|_| scene.step(true, true));
    (0..30).for_each(|_| scene.step(false, true));
    assert_eq!(scene.on_air(), Priority::Backup);
    scene.primary.when_asked = Some(scene.primary.asked.keyframes());
    let back = scene.now;
    while scene.on_air() == Priority::Backup && scene.now < back + Duration::from_secs(9) {
        scene.step(true, true);
    }
    let took = scene.now - back;
    assert!(took >= Duration::from_secs(2) && took <= Duration::from_secs(2) + 3 * FRAME, "{took:?}");
}

#[test]
fn a_publisher_that_stands_by_is_asked_itself_for_the_keyframe_that_it_lacks() {
    let mut scene = Scene::new();
    (0..3).for_each(|_| scene.step(true, true));
    let asked = |scene: &Scene| (scene.primary.asked.keyframes(), scene.backup.asked.keyframes());
    assert_eq!(asked(&scene), (0, 0));
    let (track, layer) = (TrackIndex(0), LayerIndex(0));
    scene.backup.publication.wish_for_keyframe(scene.now, track, layer, false);
    assert_eq!(asked(&scene), (0, 1));
    scene.primary.publication.wish_for_keyframe(scene.now, track, layer, false);
    assert_eq!(asked(&scene), (1, 1));
    // Nobody gets the layer.
    scene.stream.want_layers(WorkerIndex(0), 1, track, LayerSet::default());
    scene.now += Duration::from_secs(1);
    scene.primary.publication.wish_for_keyframe(scene.now, track, layer, false);
    scene.backup.publication.wish_for_keyframe(scene.now, track, layer, false);
    assert_eq!(asked(&scene), (1, 2));
    scene.primary.publication.wish_for_keyframe(scene.now, track, layer, true);
    assert_eq!(asked(&scene), (2, 2));
}

#[test]
fn a_primary_of_which_little_becomes_packets_is_not_taken_for_lost() {
    let mut scene = Scene::new();
    for at in 0..300 {
        scene.now += FRAME;
        // Pictures that refer to others which WebRTC viewers are not sent.
        if at % GOP == 0 {
            scene.primary.send(scene.now);
        }
        let unit = Original { arrival: scene.now, ..original(at * 40, at % GOP == 0) };
        scene.primary.publication.push_original(unit).unwrap();
        scene.backup.send(scene.now);
        assert_eq!(scene.on_air(), Priority::Primary, "after {at} pictures");
    }
    assert_eq!(scene.hand_over.to_backup.get(), 0);
}
