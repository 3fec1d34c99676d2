//! The track tree: streams hold tracks, tracks hold layers, a layer holds its packets once for all who watch. Sans-I/O.
//!
//! Ingest pushes through a [`Publication`]; egress takes [`Delivery`]s through a [`PacketSink`] and keeps a replica.
//! The tree knows neither side.

mod assemble;
mod avc_packets;
mod delivery;
mod frames;
mod keyframe;
mod layer;
mod packet;
mod packet_ring;
mod picture_packets;
mod replica;
mod stream;
mod streams;
mod subscription;

pub use assemble::{AssembledFrame, Assembler, GAP_WAIT};
pub use avc_packets::{AvcPackets, BadAvc, has_idr};
pub use delivery::{Batch, Delivery, LayerSnapshot, PacketSink, Snapshot, TrackSnapshot};
pub use frames::{
    FRAME_QUEUE_MAX_DELIVERIES, FrameDelivery, FrameInterest, FrameSink, FrameSubscription, LayerUnit,
    ORIGINALS_CLOCK_HZ, Original, OriginalFormat, Originals, OriginalsSnapshot,
};
pub use keyframe::KeyframeGate;
pub use layer::{LAYERS_MAX, LayerIndex, LayerRole, LayerSet, LayerState, RUNGS_MAX, best_active};
pub use packet::{ClockReference, PAYLOAD_BYTES_MAX, TrackPacket};
pub use packet_ring::{Insertion, PacketRing, RingLimits};
pub use picture_packets::PicturePackets;
pub use replica::{News, Replica, ReplicaLayer, ReplicaTrack, Run};
pub use stream::{
    EndReason, HandOver, LayerReport, NOTICES_MAX, Notice, Protocol, Publication, PublisherControl, PublisherInfo,
    Rendition, RenditionKind, RenditionRefused, RungsWanted, StandbyState, Stream, StreamState, Superseded, TRACKS_MAX,
    TrackIndex, TrackState, ViewerCount, WorkerIndex,
};
pub use streams::{StreamBusy, Streams};
pub use subscription::{Outgoing, Phase, Playout, Subscription, SwitchWait};
