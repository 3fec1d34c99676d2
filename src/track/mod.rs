//! The track tree: streams hold tracks, tracks hold layers, a layer holds its packets once for all who watch. Sans-I/O.
//!
//! Ingest pushes through a [`Publication`]; egress takes [`Delivery`]s through a [`PacketSink`] and keeps a replica.
//! The tree knows neither side.

mod keyframe;
mod packet;
mod packet_ring;
mod replica;
mod stream;
mod streams;
mod subscription;

pub use keyframe::KeyframeGate;
pub use packet::{ClockReference, PAYLOAD_BYTES_MAX, TrackPacket};
pub use packet_ring::{Insertion, PacketRing, RingLimits};
pub use replica::{News, Replica, ReplicaTrack, Run};
pub use stream::{
    Batch, Delivery, EndReason, LayerIndex, Notice, PacketSink, Protocol, Publication, PublisherControl, PublisherInfo,
    Snapshot, Stream, StreamState, Superseded, TRACKS_MAX, TrackIndex, TrackSnapshot, TrackState, ViewerCount,
    WorkerIndex,
};
pub use streams::{StreamBusy, Streams};
pub use subscription::{Outgoing, Phase, Playout, Subscription};
