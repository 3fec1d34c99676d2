//! Layers that are made here, of a publisher's pictures.
//!
//! Such a layer takes the place of the one that it is made of: from its first keyframe on viewers get it instead, and the other one again
//! as soon as nothing comes of it any more. Meanwhile the other one is kept as ever, so that viewers can go back to it at once.

use std::{sync::Arc, time::Instant};

use super::{Inner, Layer, Stream, Track, TrackIndex, layer::SOURCE};
use crate::{
    media::ExtendedSeq,
    track::{Batch, ClockReference, LAYERS_MAX, LayerIndex, LayerRole, LayerState, TrackPacket},
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
}

/// The right to make a layer of a publication. Dropping it gives viewers the publisher's own again.
#[derive(Debug)]
pub struct Rendition {
    stream: Arc<Stream>,
    publication: u64,
    track: TrackIndex,
    layer: LayerIndex,
    /// The first packet is to have this number.
    pub first_seq: ExtendedSeq,
    /// Of the publisher's layer, whose clock this one's is.
    pub clock: Option<ClockReference>,
}

impl Stream {
    /// The publication that WebRTC viewers need encoded anew: pictures of it come in another order than that in which they are shown,
    /// and somebody watches.
    pub fn wants_reencoding(&self) -> Option<u64> {
        let inner = self.inner.lock();
        let reordered = inner.live.as_ref().is_some_and(|live| live.reordered);
        (reordered && !inner.subscribers.is_empty()).then_some(inner.publication)
    }

    /// Begins a layer that takes the place of the publisher's only one.
    ///
    /// # Errors
    /// [`RenditionRefused`].
    pub fn begin_rendition(self: &Arc<Self>, publication: u64) -> Result<Rendition, RenditionRefused> {
        let mut inner = self.inner.lock();
        if inner.publication != publication {
            return Err(RenditionRefused::Gone);
        }
        let track = inner.pictures().ok_or(RenditionRefused::NotOneLayer)?;
        let live = inner.live.as_mut().ok_or(RenditionRefused::Gone)?;
        let of = &mut live.tracks[usize::from(track.0)];
        let sent = of.layers.iter().filter(|layer| layer.state.role != LayerRole::Made).count();
        if sent != 1 || of.layers.len() == LAYERS_MAX {
            return Err(RenditionRefused::NotOneLayer);
        }
        let clock = of.layers[usize::from(SOURCE.0)].clock;
        let codec = of.format.codec;
        let at = match of.layers.iter().position(|layer| layer.state.role == LayerRole::Made) {
            Some(at) => at,
            None => {
                of.layers.push(Layer::new(codec, LayerState::made()));
                of.layers.len() - 1
            }
        };
        let layer = &mut of.layers[at];
        layer.clock = clock;
        layer.empty(codec);
        live.renditions += 1;
        let first_seq = ExtendedSeq(live.renditions * SEQ_LEAP);
        inner.announce(self);
        Ok(Rendition { stream: self.clone(), publication, track, layer: LayerIndex(at as u8), first_seq, clock })
    }
}

impl Rendition {
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    pub fn publication(&self) -> u64 {
        self.publication
    }

    /// Hands on a picture's packets.
    ///
    /// # Errors
    /// [`RenditionRefused::Gone`].
    pub fn push(&mut self, now: Instant, packets: Vec<Arc<TrackPacket>>) -> Result<(), RenditionRefused> {
        let mut inner = self.stream.inner.lock();
        if inner.publication != self.publication || inner.live.is_none() {
            return Err(RenditionRefused::Gone);
        }
        if !packets.is_empty() {
            inner.take(&self.stream, now, vec![Batch { track: self.track, layer: self.layer, packets }]);
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
        let Some(live) = &mut inner.live else { return };
        let of = &mut live.tracks[usize::from(self.track.0)];
        of.layers[usize::from(self.layer.0)].stop();
        of.settle_replaced(self.layer, false);
        inner.tell_states(&self.stream, self.track);
    }
}

impl Track {
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
    /// Who makes layers wants to know that the first viewer came, or the last one went.
    pub(super) fn tell_of_audience(&self, stream: &Stream) {
        if self.live.as_ref().is_some_and(|live| live.reordered) && self.subscribers.len() < 2 {
            stream.changed();
        }
    }
}
