//! Layers that are made here, of a publisher's pictures.
//!
//! Such a layer takes the place of the one that it is made of: from its first keyframe on viewers get it instead, and the other one again
//! as soon as nothing comes of it any more. Meanwhile the other one is kept as ever, so that viewers can go back to it at once.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use super::{Inner, Layer, Live, Stream, Track, TrackIndex, layer::SOURCE};
use crate::{
    codec::PictureSize,
    media::{Codec, ExtendedSeq},
    track::{
        Batch, ClockReference, LAYERS_MAX, LayerIndex, LayerRole, LayerSet, LayerState, LayerUnit, Original, Originals,
        TrackPacket,
    },
};

/// Between the numbers of what is made now and what was made before: more than is made in a month.
const SEQ_LEAP: u64 = 1 << 32;

/// Why a layer is not made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RenditionRefused {
    #[error("its publisher has gone")]
    Gone,
    #[error("the publisher sends no picture, or several layers of it")]
    NotOneLayer,
    #[error("more layers are made of it than can be")]
    TooMany,
}

/// What is made of a publisher's only layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RenditionKind {
    /// It takes that one's place: from its first keyframe on viewers get it instead.
    Replacement,
    /// It is smaller, and has this name; viewers can choose it.
    Rung(Arc<str>),
}

impl RenditionKind {
    fn is_of(&self, layer: &Layer) -> bool {
        match self {
            Self::Replacement => layer.state.role == LayerRole::Made,
            Self::Rung(rid) => layer.state.role == LayerRole::Rung && layer.state.rid.as_deref() == Some(rid),
        }
    }
}

/// A publication that somebody watches or reads, of which smaller layers can be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RungsWanted {
    pub publication: u64,
    pub codec: Codec,
    pub size: PictureSize,
}

/// The right to make a layer of a publication. Dropping it ends the layer; where it took the place of the publisher's, viewers are given that
/// one again.
#[derive(Debug)]
pub struct Rendition {
    stream: Arc<Stream>,
    publication: u64,
    track: TrackIndex,
    layer: LayerIndex,
    kind: RenditionKind,
    /// The track's, at the beginning: what is made of another format is of no use.
    epoch: u32,
    /// The first packet is to have this number.
    pub first_seq: ExtendedSeq,
    /// Of the publisher's layer, whose clock this one's is.
    pub clock: Option<ClockReference>,
}

impl Stream {
    /// The publication that WebRTC viewers need encoded anew: pictures of it come in another order than that in which they are shown,
    /// there is one layer of them, and somebody watches.
    pub fn wants_reencoding(&self) -> Option<u64> {
        let inner = self.inner.lock();
        let reordered = inner.live.as_ref().is_some_and(|live| live.reordered);
        let pictures = inner.pictures().and_then(|at| inner.live.as_ref()?.tracks.get(usize::from(at.0)));
        let reordered = reordered && pictures.is_some_and(|track| track.sent_layers() == 1);
        (reordered && !inner.subscribers.is_empty()).then_some(inner.publication)
    }

    /// The publication that smaller layers are of use for: it has one of its own, of a known size, and somebody watches or reads it.
    pub fn wants_rungs(&self) -> Option<RungsWanted> {
        let inner = self.inner.lock();
        if inner.watching_workers() == 0 && !inner.frames.want_all_layers() {
            return None;
        }
        let track = inner.live.as_ref()?.tracks.get(usize::from(inner.pictures()?.0))?;
        let size = track.layers.get(usize::from(SOURCE.0))?.state.size?;
        (track.sent_layers() == 1).then_some(RungsWanted {
            publication: inner.publication,
            codec: track.format.codec,
            size,
        })
    }

    /// Begins a layer that is made of the publisher's only one.
    ///
    /// # Errors
    /// [`RenditionRefused`].
    pub fn begin_rendition(
        self: &Arc<Self>,
        publication: u64,
        kind: RenditionKind,
    ) -> Result<Rendition, RenditionRefused> {
        let mut inner = self.inner.lock();
        if inner.publication != publication {
            return Err(RenditionRefused::Gone);
        }
        let track = inner.pictures().ok_or(RenditionRefused::NotOneLayer)?;
        let live = inner.live.as_mut().ok_or(RenditionRefused::Gone)?;
        let of = &mut live.tracks[usize::from(track.0)];
        if of.sent_layers() != 1 {
            return Err(RenditionRefused::NotOneLayer);
        }
        let clock = of.layers[usize::from(SOURCE.0)].clock;
        let (codec, epoch) = (of.format.codec, of.epoch);
        let at = match of.layers.iter().position(|layer| kind.is_of(layer)) {
            Some(at) => at,
            None if of.layers.len() == LAYERS_MAX => return Err(RenditionRefused::TooMany),
            None => {
                let state = match &kind {
                    RenditionKind::Replacement => LayerState::made(),
                    RenditionKind::Rung(rid) => LayerState::rung(rid),
                };
                of.layers.push(Layer::new(codec, state));
                of.layers.len() - 1
            }
        };
        let layer = &mut of.layers[at];
        layer.clock = clock;
        layer.empty(codec);
        live.renditions += 1;
        let first_seq = ExtendedSeq(live.renditions * SEQ_LEAP);
        inner.announce(self);
        let layer = LayerIndex(at as u8);
        Ok(Rendition { stream: self.clone(), publication, track, layer, kind, epoch, first_seq, clock })
    }
}

impl Rendition {
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub fn publication(&self) -> u64 {
        self.publication
    }

    /// Its publication is on, in the format that it began with, and its layer has not made room for one of the publisher's.
    fn is_there(&self, inner: &Inner) -> bool {
        let track = inner.live.as_ref().and_then(|live| live.tracks.get(usize::from(self.track.0)));
        let track = track.filter(|track| inner.publication == self.publication && track.epoch == self.epoch);
        let layer = track.and_then(|track| track.layers.get(usize::from(self.layer.0)));
        layer.is_some_and(|layer| self.kind.is_of(layer))
    }

    /// Hands on a picture: its packets, and what frame readers get of a smaller one in their place.
    ///
    /// # Errors
    /// [`RenditionRefused::Gone`].
    pub fn push(
        &mut self,
        now: Instant,
        packets: Vec<Arc<TrackPacket>>,
        original: impl FnOnce() -> Original,
    ) -> Result<(), RenditionRefused> {
        let mut inner = self.stream.inner.lock();
        if !self.is_there(&inner) {
            return Err(RenditionRefused::Gone);
        }
        if !packets.is_empty() {
            inner.take(&self.stream, now, vec![Batch { track: self.track, layer: self.layer, packets }]);
        }
        if let RenditionKind::Rung(rid) = &self.kind
            && let Some(live) = inner.live.as_mut().filter(|live| live.originals.is_some())
        {
            let unit = LayerUnit { layer: self.layer, rid: rid.clone(), unit: original() };
            if let Some(layer) = live.layer_mut(self.track, self.layer) {
                layer.keep_unit(&unit);
            }
            inner.tell_of_layers(|| Originals::Layers(Arc::new([unit])));
        }
        Ok(())
    }
}

impl Drop for Rendition {
    fn drop(&mut self) {
        let mut inner = self.stream.inner.lock();
        if inner.publication != self.publication {
            return;
        }
        let of = inner.live.as_mut().and_then(|live| live.tracks.get_mut(usize::from(self.track.0)));
        let Some(of) = of else { return };
        let layer = of.layers.get_mut(usize::from(self.layer.0));
        let Some(layer) = layer.filter(|layer| self.kind.is_of(layer)) else { return };
        layer.stop();
        of.settle_replaced(self.layer, false);
        inner.tell_states(&self.stream, self.track);
    }
}

impl Live {
    pub(super) fn layer_mut(&mut self, track: TrackIndex, layer: LayerIndex) -> Option<&mut Layer> {
        self.tracks.get_mut(usize::from(track.0))?.layers.get_mut(usize::from(layer.0))
    }

    /// What is kept of the smaller layers, for a reader to begin with.
    pub(super) fn layer_units(&self) -> Option<Arc<[LayerUnit]>> {
        let kept = self.tracks.iter().flat_map(|track| &track.layers).flat_map(|layer| &layer.units);
        let units: Arc<[LayerUnit]> = kept.cloned().collect();
        (!units.is_empty()).then_some(units)
    }
}

impl Track {
    /// Layers of the publisher's own.
    fn sent_layers(&self) -> usize {
        self.layers.iter().filter(|layer| !layer.state.role.is_made_here()).count()
    }

    /// Layers beside the first, but what takes its place, of which nothing comes.
    pub(super) fn stopped_layers(&self) -> LayerSet {
        let layers = (0..).map(LayerIndex).zip(&self.layers).skip(1);
        let stopped = layers.filter(|(_, layer)| layer.state.role != LayerRole::Made && !layer.state.active);
        stopped.map(|(at, _)| at).collect()
    }

    /// The publisher's layer is replaced from the first keyframe on of a layer that is made of it, until that one has stopped. True when
    /// that has changed; `layer` brought something, a keyframe perhaps.
    pub(super) fn settle_replaced(&mut self, layer: LayerIndex, keyframe: bool) -> bool {
        let Some(made) = self.layers.iter().position(|layer| layer.state.role == LayerRole::Made) else { return false };
        let begins = keyframe && usize::from(layer.0) == made;
        let goes_on = self.layers[made].state.active;
        let source = &mut self.layers[usize::from(SOURCE.0)];
        let is_replaced = goes_on && (begins || source.state.role == LayerRole::Replaced);
        source.replace(is_replaced)
    }
}

impl Inner {
    /// Workers that have viewers of it.
    fn watching_workers(&self) -> usize {
        self.subscribers.iter().filter(|subscriber| !subscriber.worker.is_relay()).count()
    }

    /// Who makes layers wants to know that the first one came to watch or read, or the last one went.
    pub(super) fn tell_of_audience(&self, stream: &Stream) {
        let is_small = self.watching_workers() < 2;
        let matters = |live: &Live| live.reordered || stream.shared.tells_of_audiences.load(Ordering::Relaxed);
        if is_small && self.live.as_ref().is_some_and(matters) {
            stream.changed();
        }
    }
}
