//! The track tree: streams hold tracks, tracks hold layers, a layer holds its packets once for all who watch. Sans-I/O.
//!
//! Ingest pushes through a [`Publication`]; egress takes [`Delivery`]s through a [`PacketSink`] and keeps a replica.
//! The tree knows neither side.

mod keyframe;
mod packet;
mod packet_ring;
mod stream;
mod streams;

pub use keyframe::KeyframeGate;
pub use packet::{ClockReference, TrackPacket};
pub use packet_ring::{Insertion, PacketRing, RingLimits};
pub use stream::{
    Delivery, EndReason, LayerIndex, Notice, PacketSink, Protocol, Publication, PublisherControl, PublisherInfo,
    Snapshot, Stream, StreamState, Superseded, TrackIndex, TrackSnapshot, TrackState, ViewerCount, WorkerIndex,
};
pub use streams::{StreamBusy, Streams};
