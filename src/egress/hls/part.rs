//! What the packager makes of a stream and the window keeps: fragments of media, and what initializes a decoder for them.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use crate::{codec::PictureSize, media::MediaKind};

/// Renditions of one stream at the most: as many layers of pictures as a track has, and one of sound.
pub const RENDITIONS_MAX: usize = crate::track::LAYERS_MAX + 1;

/// A rendition's place among those of its stream: one playlist, one run of media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RenditionIndex(pub u8);

/// What a multivariant playlist says of a rendition (RFC 8216bis section 4.4.6).
#[derive(Debug, Clone, PartialEq)]
pub struct RenditionDescription {
    pub kind: MediaKind,
    /// RFC 6381: `avc1.64001f`, `mp4a.40.2`, `Opus`.
    pub codecs: String,
    /// Of pictures.
    pub size: Option<PictureSize>,
    /// Pictures per second, where they come regularly.
    pub frame_rate: Option<f64>,
    /// Of sound.
    pub channels: Option<u8>,
    /// The publisher's name for the layer (RFC 8852).
    pub rid: Option<String>,
}

/// A partial segment: one CMAF chunk (`moof` and `mdat`), which decodes after its rendition's latest initialization and the parts
/// before it in its segment.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub bytes: Bytes,
    pub duration: Duration,
    /// Its first picture can be decoded without another; always so of sound.
    pub independent: bool,
    /// It is the first of a new segment.
    pub begins_segment: bool,
    /// When the first of it was captured, as far as the publisher's clock tells; of all renditions by the same clock.
    pub captured: SystemTime,
}

/// What packaging gives, in this order: a rendition's initialization, then its parts.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// A rendition begins, or goes on with another codec, size, publisher or timeline: what follows is discontinuous with what was
    /// before it, and begins a segment. Where one rendition of a stream is discontinuous, each that goes on is given an initialization
    /// again (it may be the same) before its next part: players match renditions by the count of their discontinuities (RFC 8216bis
    /// section 6.2.4). One that comes late begins within the run that the others are in, and takes nothing of theirs.
    Initialization {
        rendition: RenditionIndex,
        /// Number of the boundary that what follows begins at, or is behind. All renditions have a segment from one boundary to the next, so
        /// this says which of the others' segments its first one belongs to.
        boundary: u64,
        /// It comes into the run that others are in, and what it had before is of no use any more; nobody else is discontinuous because of it.
        joins: bool,
        description: RenditionDescription,
        /// `ftyp` and `moov`.
        bytes: Bytes,
        /// No part of this run is longer.
        part_target: Duration,
    },
    Part {
        rendition: RenditionIndex,
        part: Part,
    },
    /// The rendition has no more media: its publisher left, or stopped the layer.
    Ended {
        rendition: RenditionIndex,
    },
}
