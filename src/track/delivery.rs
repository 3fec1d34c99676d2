//! What the tree tells a worker that subscribed to a stream.

use std::sync::Arc;

use super::{LayerIndex, LayerState, Stream, TrackIndex, TrackPacket};
use crate::{media::TrackFormat, track::ClockReference};

/// A worker's bounded inbox, as the tree sees it. Calls come from any thread, under the stream's lock: never block, and
/// never call the stream back.
pub trait PacketSink: Send + Sync {
    /// False when the inbox is full: the delivery is lost, and the worker is brought back with a [`Delivery::Snapshot`].
    fn deliver(&self, stream: &Arc<Stream>, delivery: Delivery) -> bool;
}

/// What a subscribed worker is told, in order.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// Everything known: on subscription, when a publisher comes or goes, when its formats change, after lost deliveries, and
    /// when the worker wants a further layer.
    Snapshot(Arc<Snapshot>),
    /// New packets: what arrived together, of whichever layers; not all of them need be wanted.
    Packets(Arc<[Batch]>),
    /// A layer's clock was measured anew.
    Clock { track: TrackIndex, layer: LayerIndex, reference: ClockReference },
    /// Layers of a track came, stopped or changed their size.
    Layers { track: TrackIndex, states: Arc<[LayerState]> },
}

/// Packets of one layer, in order of arrival.
#[derive(Debug, Clone)]
pub struct Batch {
    pub track: TrackIndex,
    pub layer: LayerIndex,
    pub packets: Vec<Arc<TrackPacket>>,
}

/// A stream's state at one moment. No tracks: nobody publishes.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts publications; numbering and clocks of two publications are unrelated.
    pub publication: u64,
    /// See [`Protocol::sound_lags`](super::Protocol::sound_lags).
    pub sound_lags: bool,
    pub tracks: Vec<TrackSnapshot>,
}

#[derive(Debug, Clone)]
pub struct TrackSnapshot {
    /// Counts the changes of the track's format within its publication; packets of two epochs need a keyframe between them.
    pub epoch: u32,
    pub format: TrackFormat,
    pub layers: Vec<LayerSnapshot>,
}

impl TrackSnapshot {
    /// A track of one layer with these packets in its cache.
    pub fn single(format: TrackFormat, packets: Vec<Arc<TrackPacket>>) -> Self {
        let layer = LayerSnapshot { state: LayerState::only(), clock: None, packets: Some(packets) };
        Self { epoch: 0, format, layers: vec![layer] }
    }
}

#[derive(Debug, Clone)]
pub struct LayerSnapshot {
    pub state: LayerState,
    pub clock: Option<ClockReference>,
    /// The cached packets, oldest first; `None` for a layer that the worker does not want.
    pub packets: Option<Vec<Arc<TrackPacket>>>,
}
