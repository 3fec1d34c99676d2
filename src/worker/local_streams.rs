//! The streams that this worker's viewers watch: one replica each, and who reads it.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

use super::inbox::Inbox;
use crate::{
    media::MediaKind,
    track::{Delivery, LayerSet, News, Replica, Stream, TrackIndex, WorkerIndex},
};

/// A stream with viewers on this worker.
#[derive(Debug)]
pub struct LocalStream {
    pub stream: Arc<Stream>,
    pub replica: Replica,
    /// What the replica has that its viewers were not served yet.
    pub news: News,
    /// Slab indices of the sessions that watch.
    pub viewers: Vec<usize>,
    /// Layers of the picture that were asked for and have not come yet.
    awaited: LayerSet,
    /// Those of the picture that the stream was last told are wanted, and of which publication.
    told: Option<(u64, TrackIndex, LayerSet)>,
}

impl LocalStream {
    /// Takes a delivery into the replica.
    pub fn take(&mut self, delivery: Delivery) {
        let is_snapshot = matches!(delivery, Delivery::Snapshot(_));
        self.replica.apply(delivery, &mut self.news);
        if is_snapshot {
            self.awaited = LayerSet::default();
            // It may be from before the stream was told: what is not wanted any more does not go on.
            if let Some((_, track, wanted)) = self.told.filter(|told| told.0 == self.replica.publication()) {
                self.replica.keep_only(track, wanted);
            }
        }
    }

    /// A viewer needs these layers of the picture; those that the replica has not got are asked for.
    pub fn need_layers(&mut self, worker: WorkerIndex, needed: LayerSet) {
        let Some(track) = self.replica.track(MediaKind::Video) else { return };
        let here = track.kept().union(self.awaited);
        if !needed.without(here).is_empty() {
            let index = track.index();
            self.awaited = self.awaited.union(needed);
            self.want(worker, index, here.union(needed));
        }
    }

    /// No viewer needs others than these: what the replica has of others is let go of.
    pub fn need_only(&mut self, worker: WorkerIndex, needed: LayerSet) {
        let Some(track) = self.replica.track(MediaKind::Video) else { return };
        let index = track.index();
        if track.layers().count() > 1 && !track.kept().without(needed).is_empty() {
            self.want(worker, index, needed);
            self.replica.keep_only(index, needed);
        }
    }

    fn want(&mut self, worker: WorkerIndex, track: TrackIndex, layers: LayerSet) {
        let publication = self.replica.publication();
        self.told = Some((publication, track, layers));
        self.stream.want_layers(worker, publication, track, layers);
    }
}

#[derive(Debug, Default)]
pub struct LocalStreams {
    slab: Slab<LocalStream>,
    /// By the stream's address, which its deliveries carry.
    by_address: HashMap<usize, usize>,
}

fn address(stream: &Arc<Stream>) -> usize {
    Arc::as_ptr(stream).addr()
}

impl LocalStreams {
    /// Adds a viewer; the first one subscribes the worker.
    pub fn add_viewer(
        &mut self,
        stream: &Arc<Stream>,
        viewer: usize,
        worker: WorkerIndex,
        inbox: &Arc<Inbox>,
    ) -> usize {
        let index = *self.by_address.entry(address(stream)).or_insert_with(|| {
            let local = LocalStream {
                stream: stream.clone(),
                replica: Replica::default(),
                news: News::default(),
                viewers: Vec::new(),
                awaited: LayerSet::default(),
                told: None,
            };
            let index = self.slab.insert(local);
            stream.subscribe(worker, inbox.clone());
            index
        });
        self.slab[index].viewers.push(viewer);
        index
    }

    /// Takes a viewer out; after the last one the worker unsubscribes.
    pub fn remove_viewer(&mut self, index: usize, viewer: usize, worker: WorkerIndex) {
        let Some(local) = self.slab.get_mut(index) else { return };
        local.viewers.retain(|watching| *watching != viewer);
        if local.viewers.is_empty() {
            local.stream.unsubscribe(worker);
            self.by_address.remove(&address(&local.stream));
            self.slab.remove(index);
        }
    }

    pub fn find(&self, stream: &Arc<Stream>) -> Option<usize> {
        self.by_address.get(&address(stream)).copied()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut LocalStream> {
        self.slab.iter_mut().map(|(_, local)| local)
    }

    pub fn get(&self, index: usize) -> Option<&LocalStream> {
        self.slab.get(index)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut LocalStream> {
        self.slab.get_mut(index)
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use bytes::Bytes;
    use mio::{Poll, Token, Waker};
    use sluice_signaling::priority::Priority;

    use super::*;
    use crate::{
        config::OnConflict,
        media::{Codec, ExtendedSeq, SessionId, TrackFormat, testing::epoch},
        track::{
            Batch, EndReason, LayerIndex, Protocol, Publication, PublisherControl, PublisherInfo, Streams, TrackPacket,
        },
        worker::inbox::Outbox,
    };

    const WORKER: WorkerIndex = WorkerIndex(0);
    const LOW: LayerIndex = LayerIndex(0);
    const HIGH: LayerIndex = LayerIndex(1);

    struct Nobody;

    impl PublisherControl for Nobody {
        fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}

        fn end(&self, _: EndReason) {}
    }

    fn format(codec: Codec) -> TrackFormat {
        TrackFormat { codec, fmtp: String::new(), channels: 1 }
    }

    /// A publisher with two layers.
    fn publish(streams: &Streams) -> Publication {
        let info = PublisherInfo {
            session: SessionId::random(),
            protocol: Protocol::Whip,
            priority: Priority::default(),
            remote: ([127, 0, 0, 1], 9).into(),
            user_agent: String::new(),
            subject: None,
        };
        let (name, since) = ("cam".parse().unwrap(), SystemTime::UNIX_EPOCH);
        let mut publication = streams.publish(&name, info, Arc::new(Nobody), OnConflict::Takeover, since).unwrap();
        publication.add_layered_track(format(Codec::Vp8), &["low".into(), "high".into()]).unwrap();
        publication
    }

    fn push(publication: &mut Publication, layer: LayerIndex, seq: u64) {
        let packet = TrackPacket {
            seq: ExtendedSeq(seq),
            time_ticks: seq * 3_000,
            arrival: epoch(),
            marker: true,
            keyframe_start: true,
            capture: None,
            payload: Bytes::from_static(&[0; 10]),
        };
        let batch = Batch { track: TrackIndex(0), layer, packets: vec![Arc::new(packet)] };
        publication.push(epoch(), vec![batch]).unwrap();
    }

    fn listen(local: &mut LocalStream, outbox: &Outbox) {
        outbox.deliveries.try_iter().for_each(|(_, delivery)| local.take(delivery));
    }

    #[test]
    fn a_layer_that_was_let_go_of_while_a_snapshot_of_it_was_under_way_is_asked_for_again() {
        let streams = Streams::default();
        let mut publication = publish(&streams);
        push(&mut publication, LOW, 1);
        push(&mut publication, HIGH, 1);
        let poll = Poll::new().unwrap();
        let (inbox, outbox) = Inbox::new(Waker::new(poll.registry(), Token(0)).unwrap());
        let mut all = LocalStreams::default();
        let at = all.add_viewer(publication.stream(), 0, WORKER, &inbox);
        let local = all.get_mut(at).unwrap();
        listen(local, &outbox);
        let both = LayerSet::of(LOW).union(LayerSet::of(HIGH));
        local.need_layers(WORKER, both);
        listen(local, &outbox);
        assert_eq!(local.replica.track(MediaKind::Video).unwrap().kept(), both);
        // A snapshot, with both, waits in the inbox while the last viewer of one goes.
        publication.add_track(format(Codec::Opus)).unwrap();
        local.need_only(WORKER, LayerSet::of(LOW));
        listen(local, &outbox);
        local.need_layers(WORKER, both);
        push(&mut publication, HIGH, 2);
        listen(local, &outbox);
        let high = local.replica.track(MediaKind::Video).unwrap().layer(HIGH).unwrap();
        assert_eq!(high.ring().newest().map(|packet| packet.seq.0), Some(2));
    }
}
