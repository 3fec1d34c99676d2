//! The frame lane: who reads it, and what is told to whom.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::tests::{Asked, info, packets, video};
use crate::{
    config::OnConflict,
    media::{AccessUnit, testing::epoch},
    track::{
        Delivery, FrameDelivery, FrameInterest, FrameSink, LayerUnit, Original, OriginalFormat, Originals, Protocol,
        Publication, PublisherInfo, Streams,
    },
};

/// A reader's queue with room for so many deliveries.
pub(super) struct Queue {
    room: usize,
    deliveries: Mutex<Vec<FrameDelivery>>,
}

impl Queue {
    pub(super) fn new(room: usize) -> Arc<Self> {
        Arc::new(Self { room, deliveries: Mutex::default() })
    }

    /// What it was told, in short: `S` and the units of a snapshot, or those of a delivery.
    pub(super) fn take(&self) -> Vec<String> {
        let numbers = |units: &[Original]| format!("{:?}", units.iter().map(|unit| unit.number).collect::<Vec<_>>());
        let told = |delivery: FrameDelivery| match delivery {
            FrameDelivery::Originals(Originals::Snapshot(snapshot)) => {
                let stopped = snapshot.layers_stopped.iter().map(|layer| format!(", {} has stopped", layer.0));
                format!("S{}{}", numbers(&snapshot.units), stopped.collect::<String>())
            }
            FrameDelivery::Originals(Originals::Units(units)) => numbers(&units),
            FrameDelivery::Originals(Originals::Layers(units)) => {
                let told = |LayerUnit { layer, rid, unit }: &LayerUnit| format!("{rid}={}[{}]", layer.0, unit.number);
                units.iter().map(told).collect::<Vec<_>>().join(" ")
            }
            FrameDelivery::Originals(Originals::LayersStopped(layers)) => format!("stopped {layers:?}"),
            FrameDelivery::Rtp(Delivery::Snapshot(snapshot)) => {
                let layers = snapshot.tracks.iter().flat_map(|track| &track.layers);
                let packets = layers.flat_map(|layer| layer.packets.iter().flatten());
                format!("S{:?}", packets.map(|packet| packet.seq.0).collect::<Vec<_>>())
            }
            FrameDelivery::Rtp(Delivery::Packets(batches)) => {
                let packets = batches.iter().flat_map(|batch| &batch.packets);
                format!("{:?}", packets.map(|packet| packet.seq.0).collect::<Vec<_>>())
            }
            FrameDelivery::Rtp(other) => format!("{other:?}"),
        };
        std::mem::take(&mut *self.deliveries.lock()).into_iter().map(told).collect()
    }
}

impl FrameSink for Queue {
    fn deliver(&self, delivery: FrameDelivery) -> bool {
        let mut deliveries = self.deliveries.lock();
        let fits = deliveries.len() < self.room;
        if fits {
            deliveries.push(delivery);
        }
        fits
    }
}

pub(super) fn publish(streams: &Streams, protocol: Protocol) -> Publication {
    let info = PublisherInfo { protocol, ..info() };
    let control = Arc::<Asked>::default();
    let name = "cam".parse().unwrap();
    streams.publish(&name, info, control, OnConflict::Takeover, SystemTime::UNIX_EPOCH).unwrap()
}

pub(super) fn original(ms: u64, keyframe: bool) -> Original {
    let unit = AccessUnit { decode_time_ticks: ms, composition_offset_ticks: 0, keyframe, data: Bytes::new() };
    Original { number: 0, format: Arc::new(OriginalFormat::Avc(Bytes::new())), arrival: epoch(), unit }
}

fn sound(ms: u64) -> Original {
    Original { format: Arc::new(OriginalFormat::Aac(Bytes::new())), ..original(ms, true) }
}

#[test]
fn a_reader_of_rtp_gets_what_is_kept_and_then_what_comes() {
    let streams = Streams::default();
    let mut publication = publish(&streams, Protocol::Whip);
    publication.add_track(video()).unwrap();
    publication.push(epoch(), packets(1, true)).unwrap();
    let queue = Queue::new(9);
    let subscription = publication.stream().subscribe_frames(FrameInterest::Publisher, queue.clone());
    publication.push(epoch(), packets(2, false)).unwrap();
    assert_eq!(queue.take(), ["S[1]", "[2]"]);
    drop(subscription);
    publication.push(epoch(), packets(3, false)).unwrap();
    assert_eq!(queue.take(), [""; 0]);
}

#[test]
fn a_reader_of_originals_gets_these_and_no_packets() {
    let streams = Streams::default();
    let mut publication = publish(&streams, Protocol::Rtmp);
    for (ms, keyframe) in [(0, true), (40, false), (80, true)] {
        publication.push_original(original(ms, keyframe)).unwrap();
    }
    let queue = Queue::new(9);
    let _subscription = publication.stream().subscribe_frames(FrameInterest::Publisher, queue.clone());
    publication.add_track(video()).unwrap();
    queue.take();
    publication.push(epoch(), packets(1, true)).unwrap();
    publication.push_original(original(120, false)).unwrap();
    assert_eq!(queue.take(), ["[4]"]);
    let _second = publication.stream().subscribe_frames(FrameInterest::Publisher, queue.clone());
    assert_eq!(queue.take(), ["S[1, 2, 3, 4]"], "from a keyframe two seconds before the last one, or the first one");
}

#[test]
fn a_reader_that_lags_is_brought_back_at_the_next_keyframe() {
    let streams = Streams::default();
    let mut publication = publish(&streams, Protocol::Rtmp);
    publication.push_original(original(0, true)).unwrap();
    let queue = Queue::new(2);
    let _subscription = publication.stream().subscribe_frames(FrameInterest::Publisher, queue.clone());
    for ms in [40, 80] {
        publication.push_original(original(ms, false)).unwrap();
    }
    assert_eq!(queue.take(), ["S[1]", "[2]"]);
    publication.push_original(original(120, false)).unwrap();
    assert_eq!(queue.take(), [""; 0], "of no use without what was lost");
    publication.push_original(original(160, true)).unwrap();
    publication.push_original(original(200, false)).unwrap();
    assert_eq!(queue.take(), ["S[1, 2, 3, 4, 5]", "[6]"], "with what was lost");

    let mut publication = publish(&streams, Protocol::Whip);
    publication.add_track(video()).unwrap();
    queue.take();
    for seq in 1..=3 {
        publication.push(epoch(), packets(seq, seq == 1)).unwrap();
    }
    assert_eq!(queue.take(), ["[1]", "[2]"]);
    publication.push(epoch(), packets(4, false)).unwrap();
    publication.push(epoch() + Duration::from_secs(1), packets(5, true)).unwrap();
    assert_eq!(queue.take(), ["S[1, 2, 3, 4, 5]"], "with the history, so that nothing need be lost");
}

#[test]
fn sound_brings_a_reader_back_where_there_are_no_pictures_only() {
    let streams = Streams::default();
    let mut publication = publish(&streams, Protocol::Rtmp);
    let queue = Queue::new(1);
    let _subscription = publication.stream().subscribe_frames(FrameInterest::Publisher, queue.clone());
    publication.push_original(sound(0)).unwrap();
    assert_eq!(queue.take(), ["S[]"], "there is no place for more");
    publication.push_original(sound(20)).unwrap();
    assert_eq!(queue.take(), ["S[1, 2]"]);
    publication.push_original(original(40, true)).unwrap();
    publication.push_original(original(80, false)).unwrap();
    assert_eq!(queue.take(), ["[3]"]);
    publication.push_original(sound(90)).unwrap();
    assert_eq!(queue.take(), [""; 0]);
    publication.push_original(original(120, true)).unwrap();
    assert_eq!(queue.take(), ["S[1, 2, 3, 4, 5, 6]"]);
    for ms in [160, 200] {
        publication.push_original(original(ms, false)).unwrap();
    }
    assert_eq!(queue.take(), ["[7]"]);
    let later = |ms| Original { arrival: epoch() + Duration::from_millis(ms), ..sound(ms) };
    publication.push_original(later(1_900)).unwrap();
    assert_eq!(queue.take(), [""; 0]);
    publication.push_original(later(2_300)).unwrap();
    assert_eq!(queue.take(), ["S[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"], "pictures pause");
}

#[test]
fn a_reader_hears_of_publishers_that_come_and_go() {
    let streams = Streams::default();
    let name = "cam".parse().unwrap();
    let stream = streams.get_or_create(&name);
    let queue = Queue::new(9);
    let subscription = stream.subscribe_frames(FrameInterest::Publisher, queue.clone());
    drop(stream);
    streams.prune();
    assert_eq!(streams.all().len(), 1, "somebody reads it");
    assert_eq!(queue.take(), ["S[]"]);
    let mut publication = publish(&streams, Protocol::Rtmp);
    publication.announce_original(Arc::new(OriginalFormat::Avc(Bytes::new()))).unwrap();
    publication.push_original(original(0, true)).unwrap();
    assert_eq!(queue.take(), ["S[]", "[1]"]);
    let second = publish(&streams, Protocol::Whip);
    assert!(publication.push_original(original(40, false)).is_err());
    assert_eq!(queue.take(), ["S[]"]);
    drop(second);
    assert_eq!(queue.take(), ["S[]"]);
    drop(subscription);
    drop(publication);
    streams.prune();
    assert!(streams.all().is_empty());
}
