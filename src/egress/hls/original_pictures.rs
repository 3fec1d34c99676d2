//! Access units as their publisher handed them over become pictures, codec by codec.

use crate::{
    codec::{
        depacketize::{Av1Pictures, AvcPictures, BadPicture, HevcPictures, Picture, Vp9Pictures},
        packetize::Av1Payloads,
    },
    media::AccessUnit,
    track::OriginalFormat,
};

/// See the module.
#[derive(Debug)]
pub(super) enum OriginalPictures {
    Avc { pictures: AvcPictures, length_bytes: usize },
    Hevc { pictures: HevcPictures, length_bytes: usize },
    Av1 { pictures: Av1Pictures, units: Av1Payloads },
    Vp9(Vp9Pictures),
}

impl Default for OriginalPictures {
    fn default() -> Self {
        Self::Avc { pictures: AvcPictures::default(), length_bytes: 4 }
    }
}

impl OriginalPictures {
    /// Another format. One that makes no sense was refused where it came in.
    pub(super) fn configure(&mut self, format: &OriginalFormat) {
        match (&mut *self, format) {
            (Self::Avc { pictures, length_bytes }, OriginalFormat::Avc(record)) => {
                *length_bytes = pictures.configure(record).unwrap_or(*length_bytes);
            }
            (Self::Hevc { pictures, length_bytes }, OriginalFormat::Hevc(record)) => {
                *length_bytes = pictures.configure(record).unwrap_or(*length_bytes);
            }
            (Self::Av1 { units, .. }, OriginalFormat::Av1(obus)) => _ = units.configure(obus),
            (Self::Vp9(_), OriginalFormat::Vp9) => {}
            // Another codec.
            (_, OriginalFormat::Avc(_)) => {
                *self = Self::default();
                self.configure(format);
            }
            (_, OriginalFormat::Hevc(_)) => {
                *self = Self::Hevc { pictures: HevcPictures::default(), length_bytes: 4 };
                self.configure(format);
            }
            (_, OriginalFormat::Av1(_)) => {
                *self = Self::Av1 { pictures: Av1Pictures::default(), units: Av1Payloads::default() };
                self.configure(format);
            }
            (_, OriginalFormat::Vp9) => *self = Self::Vp9(Vp9Pictures::default()),
            // What HLS has not, and sound.
            (_, OriginalFormat::Vp8 | OriginalFormat::Aac(_) | OriginalFormat::Opus { .. }) => {}
        }
    }

    /// # Errors
    /// When it is no picture.
    pub(super) fn picture(&mut self, unit: &AccessUnit) -> Result<Picture, BadPicture> {
        match self {
            Self::Avc { pictures, length_bytes } => pictures.of_lengths(&unit.data, *length_bytes),
            Self::Hevc { pictures, length_bytes } => pictures.of_lengths(&unit.data, *length_bytes),
            Self::Av1 { pictures, units } => {
                let (obus, keyframe) = units.obus(&unit.data, unit.keyframe).map_err(|_| BadPicture::Structure)?;
                pictures.of_obus(&obus, keyframe)
            }
            Self::Vp9(pictures) => pictures.of_frame(&unit.data),
        }
    }
}
