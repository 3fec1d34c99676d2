//! RTP payloads become whole pictures, as MP4 keeps them, with what a decoder is to be told before them.
//!
//! In: all payloads of one picture, in order and without a gap. Out: one sample. What it deliberately does not do: wait, reorder, or
//! judge whether the pictures that this one refers to are there.

mod av1;
mod hevc;
mod nal_units;
mod vp9;

use std::sync::Arc;

use bytes::Bytes;

use crate::{codec::PictureSize, media::Codec};

pub use av1::Av1Pictures;
pub use hevc::HevcPictures;
pub use nal_units::AvcPictures;
pub use vp9::Vp9Pictures;

/// What decoders are told before a codec's pictures: a sample entry of MP4 (ISO/IEC 14496-12 section 12.1.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderSetup {
    /// The sample entry: `avc1`.
    pub entry: [u8; 4],
    /// The box inside of it that configures the decoder: `avcC`.
    pub configuration_box: [u8; 4],
    /// What that box holds.
    pub configuration: Bytes,
    pub size: PictureSize,
    /// As playlists name it (RFC 6381): `avc1.64001f`.
    pub codecs: String,
    /// Pictures per second as the encoder says, a fraction. Not all do (only H.264's are asked), and some say what is not so.
    pub frame_rate: Option<(u32, u32)>,
}

/// One picture (of all its spatial layers), as an MP4 sample.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Picture {
    /// A decoder can begin with it.
    pub keyframe: bool,
    pub data: Bytes,
    /// Of a keyframe: what decoders are to be told from here on.
    pub setup: Option<Arc<DecoderSetup>>,
}

/// The payloads are no picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadPicture {
    #[error("a payload ends too early")]
    Truncated,
    #[error("a fragment without the one before it or after it")]
    LoneFragment,
    #[error("a payload structure that was not agreed on")]
    Structure,
    #[error("nothing of a picture")]
    Empty,
    #[error("a keyframe without the parameters that decoders need")]
    NoSetup,
}

/// Of one layer of one codec.
#[derive(Debug)]
pub enum Depacketizer {
    H264(AvcPictures),
    Hevc(HevcPictures),
    Vp9(Vp9Pictures),
    Av1(Av1Pictures),
}

impl Depacketizer {
    /// `None` for sound, and for VP8, which MP4 players do not take.
    pub fn new(codec: Codec) -> Option<Self> {
        match codec {
            Codec::H264 => Some(Self::H264(AvcPictures::default())),
            Codec::Hevc => Some(Self::Hevc(HevcPictures::default())),
            Codec::Vp9 => Some(Self::Vp9(Vp9Pictures::default())),
            Codec::Av1 => Some(Self::Av1(Av1Pictures::default())),
            Codec::Vp8 | Codec::Opus => None,
        }
    }

    /// # Errors
    /// When the payloads are no picture.
    pub fn picture(&mut self, payloads: &[Bytes]) -> Result<Picture, BadPicture> {
        match self {
            Self::H264(pictures) => pictures.of_payloads(payloads),
            Self::Hevc(pictures) => pictures.of_payloads(payloads),
            Self::Vp9(pictures) => pictures.of_payloads(payloads),
            Self::Av1(pictures) => pictures.of_payloads(payloads),
        }
    }
}

#[cfg(test)]
mod tests;
