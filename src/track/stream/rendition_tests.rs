//! Layers that are made here, in place of the publisher's.

use std::time::Duration;

use super::{
    tests::{Asked, Inbox, info, packets, video},
    *,
};
use crate::{
    config::OnConflict,
    media::{ExtendedSeq, MediaKind, testing::epoch},
    track::{LayerRole, News, Original, Replica, Streams, TrackPacket},
};

struct House {
    publication: Publication,
    inbox: Arc<Inbox>,
    replica: Replica,
}

const MADE: LayerIndex = LayerIndex(1);

impl House {
    /// A publisher with B-frames, of whom a keyframe has come, and a worker.
    fn new(streams: &Streams) -> Self {
        let control = Arc::<Asked>::default();
        let name = "cam".parse().unwrap();
        let mut publication =
            streams.publish(&name, info(), control, OnConflict::Takeover, SystemTime::UNIX_EPOCH).unwrap();
        publication.add_track(video()).unwrap();
        publication.set_reordered(true).unwrap();
        publication.push(epoch(), packets(10, true)).unwrap();
        let inbox = Inbox::new(1_000);
        publication.stream().subscribe(WorkerIndex(0), inbox.clone());
        let mut house = Self { publication, inbox, replica: Replica::default() };
        house.listen();
        house
    }

    fn stream(&self) -> &Arc<Stream> {
        self.publication.stream()
    }

    fn listen(&mut self) {
        for delivery in self.inbox.take() {
            self.replica.apply(delivery, &mut News::default());
        }
    }

    /// Roles, and which layers viewers can have.
    fn layers(&mut self) -> Vec<(LayerRole, bool)> {
        self.listen();
        let track = self.replica.track(MediaKind::Video).unwrap();
        let known = track.layers().map(|(_, layer)| (layer.state().role, layer.state().active)).collect();
        let state = self.stream().state();
        let told: Vec<_> = state.tracks[0].layers.iter().map(|layer| (layer.state.role, layer.state.active)).collect();
        assert_eq!(told, known, "the API and the workers know the same");
        known
    }
}

fn made(rendition: &Rendition, number: u64, keyframe_start: bool) -> Vec<Arc<TrackPacket>> {
    let packet = TrackPacket {
        seq: ExtendedSeq(rendition.first_seq.0 + number),
        ..(*packets(number, keyframe_start)[0].packets[0]).clone()
    };
    vec![Arc::new(packet)]
}

fn no_original() -> Original {
    panic!("nobody reads smaller layers")
}

#[test]
fn viewers_get_what_is_made_from_its_first_keyframe_on_and_the_publishers_own_again_after() {
    let streams = Streams::default();
    let mut house = House::new(&streams);
    let publication = house.stream().wants_reencoding().unwrap();
    let mut rendition = house.stream().begin_rendition(publication, RenditionKind::Replacement).unwrap();
    assert_eq!(house.layers(), [(LayerRole::Sent, true), (LayerRole::Made, false)]);
    rendition.push(epoch(), made(&rendition, 0, false), no_original).unwrap();
    assert_eq!(house.layers()[0], (LayerRole::Sent, true), "nothing that a decoder can begin with");
    rendition.push(epoch(), made(&rendition, 1, true), no_original).unwrap();
    assert_eq!(house.layers(), [(LayerRole::Replaced, false), (LayerRole::Made, true)]);
    // What the publisher sends is kept, but the worker gets what it wants only: the other layer.
    house.stream().want_layers(WorkerIndex(0), publication, TrackIndex(0), LayerSet::of(MADE));
    house.publication.push(epoch(), packets(11, true)).unwrap();
    rendition.push(epoch(), made(&rendition, 2, false), no_original).unwrap();
    assert_eq!(house.layers(), [(LayerRole::Replaced, false), (LayerRole::Made, true)]);
    let ring = |house: &House, layer| {
        let track = house.replica.track(MediaKind::Video).unwrap();
        track.layer(layer).unwrap().ring().iter().map(|packet| packet.seq.0).collect::<Vec<_>>()
    };
    let first = rendition.first_seq.0;
    assert_eq!(ring(&house, MADE), [first, first + 1, first + 2]);
    drop(rendition);
    assert_eq!(house.layers(), [(LayerRole::Sent, true), (LayerRole::Made, false)]);
    house.stream().want_layers(WorkerIndex(0), publication, TrackIndex(0), LayerSet::of(LayerIndex(0)));
    house.listen();
    assert_eq!(ring(&house, LayerIndex(0)).last(), Some(&11), "the keyframe that came meanwhile");
}

#[test]
fn a_layer_that_is_made_no_longer_gives_the_publishers_back() {
    let streams = Streams::default();
    let mut house = House::new(&streams);
    let publication = house.stream().wants_reencoding().unwrap();
    let mut rendition = house.stream().begin_rendition(publication, RenditionKind::Replacement).unwrap();
    rendition.push(epoch(), made(&rendition, 0, true), no_original).unwrap();
    for at in 0..20 {
        house.publication.push(epoch() + Duration::from_millis(at * 33), packets(11 + at, false)).unwrap();
    }
    assert_eq!(house.layers(), [(LayerRole::Sent, true), (LayerRole::Made, false)]);
    // It goes on, but that alone is nothing to begin with.
    let later = epoch() + Duration::from_millis(700);
    rendition.push(later, made(&rendition, 1, false), no_original).unwrap();
    assert_eq!(house.layers()[0].0, LayerRole::Sent);
    rendition.push(later, made(&rendition, 2, true), no_original).unwrap();
    assert_eq!(house.layers(), [(LayerRole::Replaced, false), (LayerRole::Made, true)]);
}

#[test]
fn numbers_never_go_back_however_often_it_begins() {
    let streams = Streams::default();
    let house = House::new(&streams);
    let publication = house.stream().wants_reencoding().unwrap();
    let mut last = ExtendedSeq(0);
    for _ in 0..3 {
        let rendition = house.stream().begin_rendition(publication, RenditionKind::Replacement).unwrap();
        assert!(rendition.first_seq > last);
        last = rendition.first_seq;
    }
    assert_eq!(house.stream().state().tracks[0].layers.len(), 2, "there is one place for it");
}

#[test]
fn it_is_wanted_while_somebody_watches_and_by_nobody_elses_publication() {
    let changes = Arc::new(AtomicUsize::new(0));
    let count = changes.clone();
    let streams = Streams::with_listener(HandOver::default(), move || _ = count.fetch_add(1, Ordering::Relaxed));
    let house = House::new(&streams);
    let publication = house.stream().wants_reencoding().unwrap();
    let rendition = house.stream().begin_rendition(publication, RenditionKind::Replacement).unwrap();
    let before = changes.load(Ordering::Relaxed);
    house.stream().unsubscribe(WorkerIndex(0));
    assert_eq!(house.stream().wants_reencoding(), None);
    house.stream().subscribe(WorkerIndex(0), house.inbox.clone());
    assert!(changes.load(Ordering::Relaxed) >= before + 2, "whoever encodes is told of both");
    // Another publisher comes, without B-frames.
    let control = Arc::<Asked>::default();
    let name = "cam".parse().unwrap();
    let mut next = streams.publish(&name, info(), control, OnConflict::Takeover, SystemTime::UNIX_EPOCH).unwrap();
    next.add_track(video()).unwrap();
    assert_eq!(next.stream().wants_reencoding(), None);
    let mut rendition = rendition;
    let packets = made(&rendition, 0, true);
    assert_eq!(rendition.push(epoch(), packets, no_original), Err(RenditionRefused::Gone));
    assert_eq!(
        next.stream().begin_rendition(publication, RenditionKind::Replacement).err(),
        Some(RenditionRefused::Gone)
    );
    drop(rendition);
    assert_eq!(next.stream().state().tracks[0].layers.len(), 1);
}

#[test]
fn several_layers_of_the_publishers_are_left_as_they_are() {
    let streams = Streams::default();
    let control = Arc::<Asked>::default();
    let name = "cam".parse().unwrap();
    let mut publication =
        streams.publish(&name, info(), control, OnConflict::Takeover, SystemTime::UNIX_EPOCH).unwrap();
    publication.add_layered_track(video(), &["h".into(), "l".into()]).unwrap();
    let refused = publication.stream().begin_rendition(1, RenditionKind::Replacement).err();
    assert_eq!(refused, Some(RenditionRefused::NotOneLayer));
}
