//! What the publisher's side of a stream sends out, and to whom.

use std::{sync::Arc, time::Instant};

use super::{Inner, Live, Stream, Subscriber, TRACKS_MAX, Track, TrackIndex};
use crate::{
    media::MediaKind,
    track::{Batch, Delivery, LayerIndex, LayerSet, Originals, Snapshot, TrackSnapshot},
};

/// What packets brought to a publication.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// Tracks whose layers have changed: one bit per track, for words of more are rare.
    pub changed: u8,
    /// A keyframe of pictures began.
    pub keyframe: bool,
}

impl Live {
    /// Keeps what arrived together.
    pub(super) fn take(&mut self, now: Instant, batches: &[Batch]) -> Taken {
        let mut taken = Taken::default();
        for Batch { track, layer, packets } in batches {
            let Some(of) = self.tracks.get_mut(usize::from(track.0)) else { continue };
            let Some(kept) = of.layers.get_mut(usize::from(layer.0)) else { continue };
            // What is made here may come late, and says nothing of its publisher.
            let is_made = kept.state.role.is_made_here();
            if !is_made {
                self.pulse.beat(now);
            }
            let brought = kept.take(now, of.format.codec, packets);
            if brought.keyframe {
                kept.gate.keyframe_arrived();
            } else if kept.gate.poll(now) {
                self.control.request_keyframe(*track, kept.source(*layer));
            }
            let mut states_changed = brought.changed;
            for (at, other) in of.layers.iter_mut().enumerate() {
                let counts = at != usize::from(layer.0) && (!is_made || other.state.role.is_made_here());
                states_changed |= counts && other.miss(now, brought.pictures);
            }
            states_changed |= of.settle_replaced(*layer, brought.keyframe);
            taken.changed |= u8::from(states_changed) << track.0;
            taken.keyframe |= brought.keyframe && of.format.codec.kind() == MediaKind::Video;
        }
        taken
    }

    /// Somebody needs a keyframe of what it sends; requests are coalesced. True when one went out.
    pub(super) fn request_keyframe(&mut self, now: Instant, track: TrackIndex, layer: LayerIndex) -> bool {
        let of = self.tracks.get_mut(usize::from(track.0));
        let Some(kept) = of.and_then(|track| track.layers.get_mut(usize::from(layer.0))) else { return false };
        let due = kept.gate.request(now);
        if due {
            self.control.request_keyframe(track, kept.source(layer));
        }
        due
    }
}

impl Inner {
    pub(super) fn usually_wanted(&self) -> [LayerSet; TRACKS_MAX] {
        let mut wanted = [LayerSet::default(); TRACKS_MAX];
        let tracks = self.live.iter().flat_map(|live| &live.tracks);
        wanted.iter_mut().zip(tracks).for_each(|(wanted, track)| *wanted = track.usually_wanted());
        wanted
    }

    pub(super) fn snapshot(&self, wanted: &[LayerSet; TRACKS_MAX]) -> Snapshot {
        let tracks = self.live.iter().flat_map(|live| &live.tracks);
        let of_track = |(track, wanted): (&Track, &LayerSet)| TrackSnapshot {
            epoch: track.epoch,
            format: track.format.clone(),
            layers: track
                .layers
                .iter()
                .enumerate()
                .map(|(at, layer)| layer.snapshot(wanted.contains(LayerIndex(at as u8))))
                .collect(),
        };
        let sound_lags = self.live.as_ref().is_some_and(|live| live.info.protocol.sound_lags());
        Snapshot { publication: self.publication, sound_lags, tracks: tracks.zip(wanted).map(of_track).collect() }
    }

    /// Publication, tracks or formats changed: everybody gets a snapshot.
    pub(super) fn announce(&mut self, stream: &Arc<Stream>) {
        for at in 0..self.subscribers.len() {
            let snapshot = Arc::new(self.snapshot(&self.subscribers[at].wanted));
            let subscriber = &mut self.subscribers[at];
            subscriber.lagging = !subscriber.sink.deliver(stream, Delivery::Snapshot(snapshot));
        }
        self.announce_frames();
        stream.changed();
    }

    /// Sends word that is no packets to all who keep up.
    pub(super) fn tell(&mut self, stream: &Arc<Stream>, delivery: &Delivery) {
        for subscriber in self.subscribers.iter_mut().filter(|subscriber| !subscriber.lagging) {
            subscriber.lagging = !subscriber.sink.deliver(stream, delivery.clone());
        }
        self.tell_frames(delivery);
    }

    /// Layers of a track came, stopped or changed their size. Where there is no choice, no worker needs to know.
    pub(super) fn tell_states(&mut self, stream: &Arc<Stream>, track: TrackIndex) {
        stream.changed();
        let Some(of) = self.live.as_ref().and_then(|live| live.tracks.get(usize::from(track.0))) else { return };
        if of.layers.len() > 1 {
            let states = of.layers.iter().map(|layer| layer.state.clone()).collect();
            let stopped = of.stopped_layers();
            self.tell(stream, &Delivery::Layers { track, states });
            if !stopped.is_empty() {
                self.tell_of_layers(|| Originals::LayersStopped(stopped));
            }
        }
    }

    /// Takes in what arrived together, and sends it to all who want it.
    pub(super) fn take(&mut self, stream: &Arc<Stream>, now: Instant, batches: Vec<Batch>) {
        let Some(live) = &mut self.live else { return };
        let Taken { changed, .. } = live.take(now, &batches);
        let lost = self.deliver(stream, batches);
        if let Some(pictures) = self.pictures() {
            for layer in lost.iter() {
                self.request_keyframe(now, pictures, layer);
            }
        }
        (0..TRACKS_MAX as u8)
            .filter(|at| changed & 1 << at != 0)
            .for_each(|at| self.tell_states(stream, TrackIndex(at)));
    }

    /// Sends packets to all who want some of them and keep up; the others are brought back with a snapshot where one is of use:
    /// at a keyframe of what they watch, or, without pictures, anywhere. Gives the layers of pictures that somebody lost something of.
    pub(super) fn deliver(&mut self, stream: &Arc<Stream>, batches: Vec<Batch>) -> LayerSet {
        let batches: Arc<[Batch]> = batches.into();
        let pictures = self.pictures();
        let mut lost = LayerSet::default();
        for at in 0..self.subscribers.len() {
            let Subscriber { sink, wanted, lagging, .. } = &self.subscribers[at];
            let wants = |batch: &&Batch| wanted[usize::from(batch.track.0)].contains(batch.layer);
            let mut of_interest = batches.iter().filter(wants).peekable();
            if of_interest.peek().is_none() {
                continue;
            }
            let begins = |batch: &Batch| batch.packets.iter().any(|packet| packet.keyframe_start);
            let delivered = if !*lagging {
                sink.deliver(stream, Delivery::Packets(batches.clone()))
            } else if pictures.is_none() || of_interest.any(begins) {
                sink.deliver(stream, Delivery::Snapshot(Arc::new(self.snapshot(wanted))))
            } else {
                false
            };
            if let Some(TrackIndex(pictures)) = pictures.filter(|_| !delivered) {
                lost = lost.union(wanted[usize::from(pictures)]);
            }
            self.subscribers[at].lagging = !delivered;
        }
        self.tell_frames(&Delivery::Packets(batches));
        lost
    }

    /// The track of pictures.
    pub(super) fn pictures(&self) -> Option<TrackIndex> {
        let tracks = &self.live.as_ref()?.tracks;
        let at = tracks.iter().position(|track| track.format.codec.kind() == MediaKind::Video)?;
        Some(TrackIndex(at as u8))
    }

    /// Whether a layer that is broken should be made whole: somebody gets it, or nobody is there and the next one will.
    pub(super) fn is_watched(&self, track: TrackIndex, layer: LayerIndex) -> bool {
        let at = usize::from(track.0);
        let gets = |wanted: &[LayerSet; TRACKS_MAX]| wanted.get(at).is_some_and(|layers| layers.contains(layer));
        match self.subscribers.as_slice() {
            // Readers of frames get every layer.
            _ if !self.frames.is_empty() => true,
            [] => gets(&self.usually_wanted()),
            subscribers => subscribers.iter().any(|subscriber| gets(&subscriber.wanted)),
        }
    }

    pub(super) fn request_keyframe(&mut self, now: Instant, track: TrackIndex, layer: LayerIndex) -> bool {
        self.live.as_mut().is_some_and(|live| live.request_keyframe(now, track, layer))
    }
}
