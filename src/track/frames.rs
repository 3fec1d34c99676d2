//! The frame lane: what readers of whole frames (HLS) are told of a stream. A publisher that sends RTP is read as its packets,
//! all layers of them; one that hands over access units (RTMP) as these, untouched: with the B-frames that WebRTC viewers cannot be
//! shown, and sound in its own codec. Nothing of it costs anything on the packet path while nobody reads, but that the access
//! units of the last groups of pictures are kept, so that a reader can begin at once.

mod cache;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    media::{AccessUnit, MediaKind},
    track::{Delivery, LayerIndex, LayerSet, Stream},
};

pub(super) use cache::OriginalsCache;

/// Ticks per second of the media clock that originals' times are on, which is RTMP's.
pub const ORIGINALS_CLOCK_HZ: u32 = 1_000;

/// A frame reader's bounded queue, as the tree sees it. Calls come from any thread, under the stream's lock: never block, and never
/// call the stream back.
pub trait FrameSink: Send + Sync {
    /// False when the queue is full: the delivery is lost. The reader gets no more until the next keyframe, where it is
    /// brought back with a snapshot.
    fn deliver(&self, delivery: FrameDelivery) -> bool;
}

impl<F: Fn(FrameDelivery) -> bool + Send + Sync> FrameSink for F {
    fn deliver(&self, delivery: FrameDelivery) -> bool {
        self(delivery)
    }
}

/// What a frame reader reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameInterest {
    /// What the publisher sends; what else it is told of is not for it.
    Publisher,
    /// That, its other layers, and the smaller ones that are made here of it: a reader is reason to make them.
    AllLayers,
}

/// Deliveries that a reader's queue is to hold: 4 s of 60 pictures and 50 frames of sound a second, and some; with the pictures of further
/// layers, less. A reader that is further
/// behind begins anew at the next keyframe.
pub const FRAME_QUEUE_MAX_DELIVERIES: usize = 4 * (60 + 50) + 72;

/// What a frame reader is told, in order. Snapshots of either kind say which publication is on; one without tracks or formats, that
/// nobody publishes, or nothing has come yet.
#[derive(Debug, Clone)]
pub enum FrameDelivery {
    /// What a worker is told that wants all layers; also where nobody publishes.
    Rtp(Delivery),
    Originals(Originals),
}

/// Access units as their publisher sent them.
#[derive(Debug, Clone)]
pub enum Originals {
    /// Everything known: on subscription, when the publisher comes or goes, after lost deliveries. What it repeats is known by
    /// [`Original::number`].
    Snapshot(Arc<OriginalsSnapshot>),
    /// New ones, in order of arrival.
    Units(Arc<[Original]>),
    /// Pictures of layers beside the first, since a keyframe or new ones: smaller ones that are made here, or the publisher's other tracks.
    /// [`FrameInterest::AllLayers`] only. Snapshots know of them what has stopped.
    Layers(Arc<[LayerUnit]>),
    /// Of these layers nothing more comes for now.
    LayersStopped(LayerSet),
}

/// A picture of a layer beside the first.
#[derive(Debug, Clone)]
pub struct LayerUnit {
    pub layer: LayerIndex,
    /// The layer's name.
    pub rid: Arc<str>,
    /// Numbers count those of one encoder, or track, from 1. Times are on the publisher's media clock.
    pub unit: Original,
}

#[derive(Debug, Clone, Default)]
pub struct OriginalsSnapshot {
    /// As [`Snapshot::publication`](super::Snapshot::publication).
    pub publication: u64,
    /// Of pictures and of sound, as far as known.
    pub formats: Vec<Arc<OriginalFormat>>,
    /// Since a keyframe two seconds before the last one or more, as far as kept, with some sound from before; oldest first.
    pub units: Vec<Original>,
    /// Layers beside the first of which nothing comes: who lost deliveries may have missed that.
    pub layers_stopped: LayerSet,
}

/// How access units are coded, and what a decoder is to be told before them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OriginalFormat {
    /// H.264 behind lengths: an `AVCDecoderConfigurationRecord`.
    Avc(Bytes),
    /// H.265 behind lengths: an `HEVCDecoderConfigurationRecord`.
    Hevc(Bytes),
    /// Temporal units of AV1, of OBUs with lengths: those of an `AV1CodecConfigurationRecord`, which may be none.
    Av1(Bytes),
    Vp8,
    /// Frames, or superframes.
    Vp9,
    /// Raw frames of AAC: an `AudioSpecificConfig`.
    Aac(Bytes),
    /// Packets of Opus.
    Opus {
        channels: u8,
    },
}

impl OriginalFormat {
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::Avc(_) | Self::Hevc(_) | Self::Av1(_) | Self::Vp8 | Self::Vp9 => MediaKind::Video,
            Self::Aac(_) | Self::Opus { .. } => MediaKind::Audio,
        }
    }
}

/// One access unit; its bytes are shared with the message that it came in.
#[derive(Debug, Clone)]
pub struct Original {
    /// Counts those of its publication, from 1.
    pub number: u64,
    pub format: Arc<OriginalFormat>,
    pub arrival: Instant,
    /// Times are milliseconds of the publisher's media clock, which pictures and sound share, rounded as RTMP has them. Data as the
    /// format says: lengths of NAL units have as many bytes as it says.
    pub unit: AccessUnit,
}

/// A reader's place; dropping it ends the deliveries.
pub struct FrameSubscription {
    pub(super) stream: Arc<Stream>,
    pub(super) id: u64,
}

impl FrameSubscription {
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }
}
