//! Sample entries: what a decoder is to know before the first sample, and how playlists name it (RFC 6381).

use std::sync::Arc;

use bytes::Bytes;

use super::boxes::BoxWriter;
use crate::{
    codec::{PictureSize, depacketize::DecoderSetup},
    media::MediaKind,
};

/// A codec's configuration, as its box has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SampleFormat {
    Video(Arc<DecoderSetup>),
    /// An `AudioSpecificConfig`.
    Aac {
        configuration: Bytes,
        sample_rate_hz: u32,
        channels: u8,
        object_type: u8,
    },
    /// Opus at 48 kHz (the "Encapsulation of Opus in ISO Base Media File Format").
    Opus {
        channels: u8,
        pre_skip_samples: u16,
    },
}

impl SampleFormat {
    pub fn kind(&self) -> MediaKind {
        match self {
            Self::Video(_) => MediaKind::Video,
            Self::Aac { .. } | Self::Opus { .. } => MediaKind::Audio,
        }
    }

    pub fn size(&self) -> Option<PictureSize> {
        match self {
            Self::Video(setup) => Some(setup.size),
            Self::Aac { .. } | Self::Opus { .. } => None,
        }
    }

    pub fn channels(&self) -> Option<u8> {
        match self {
            Self::Video(_) => None,
            Self::Aac { channels, .. } | Self::Opus { channels, .. } => Some(*channels),
        }
    }

    /// As a playlist's `CODECS` names it.
    pub fn codecs(&self) -> String {
        match self {
            Self::Video(setup) => setup.codecs.clone(),
            Self::Aac { object_type, .. } => format!("mp4a.40.{object_type}"),
            Self::Opus { .. } => "Opus".into(),
        }
    }

    pub(super) fn write(&self, w: &mut BoxWriter) {
        match self {
            Self::Video(setup) => {
                let DecoderSetup { entry, configuration_box, configuration, size, .. } = &**setup;
                w.within(entry, |w| {
                    head(w);
                    w.zeros(16);
                    w.u16(u16::try_from(size.width).unwrap_or(u16::MAX));
                    w.u16(u16::try_from(size.height).unwrap_or(u16::MAX));
                    const DPI_72: u32 = 0x0048_0000;
                    w.u32(DPI_72);
                    w.u32(DPI_72);
                    w.u32(0);
                    w.u16(1);
                    w.zeros(32);
                    w.u16(0x0018);
                    w.u16(0xffff);
                    w.within(configuration_box, |w| w.raw(configuration));
                });
            }
            Self::Aac { configuration, sample_rate_hz, channels, .. } => {
                w.within(b"mp4a", |w| {
                    sound_head(w, *channels, *sample_rate_hz);
                    w.within_full(b"esds", 0, 0, |w| write_es_descriptor(w, configuration));
                });
            }
            Self::Opus { channels, pre_skip_samples } => {
                const RATE_HZ: u32 = 48_000;
                w.within(b"Opus", |w| {
                    sound_head(w, *channels, RATE_HZ);
                    w.within(b"dOps", |w| {
                        w.u8(0);
                        w.u8(*channels);
                        w.u16(*pre_skip_samples);
                        w.u32(RATE_HZ);
                        w.u16(0); // gain
                        w.u8(0); // mapping family: one stream, mono or stereo
                    });
                });
            }
        }
    }
}

/// What all sample entries begin with: reserved bytes, and the index of the data reference.
fn head(w: &mut BoxWriter) {
    w.zeros(6);
    w.u16(1);
}

fn sound_head(w: &mut BoxWriter, channels: u8, rate_hz: u32) {
    head(w);
    w.zeros(8);
    w.u16(u16::from(channels));
    w.u16(16);
    w.u32(0);
    // 16.16 fixed point; rates beyond it are told by the configuration (ISO/IEC 14496-14 section 5.6).
    w.u32(u16::try_from(rate_hz).map_or(0, |rate| u32::from(rate) << 16));
}

/// `ES_Descriptor` (ISO/IEC 14496-1 section 7.2.6.5) around an `AudioSpecificConfig`.
fn write_es_descriptor(w: &mut BoxWriter, configuration: &[u8]) {
    const DECODER_CONFIG_BYTES: usize = 13;
    const HEADER_BYTES: usize = 5;
    let decoder_config = DECODER_CONFIG_BYTES + HEADER_BYTES + configuration.len();
    descriptor(w, 0x03, 3 + HEADER_BYTES + decoder_config + HEADER_BYTES + 1);
    w.u16(0); // ES_ID: told by the track
    w.u8(0);
    descriptor(w, 0x04, decoder_config);
    w.u8(0x40); // MPEG-4 audio
    w.u8(0x15); // audio stream
    w.zeros(3 + 4 + 4); // buffer size and bit rates: unknown
    descriptor(w, 0x05, configuration.len());
    w.raw(configuration);
    descriptor(w, 0x06, 1);
    w.u8(0x02);
}

/// A descriptor's tag and its length, in four bytes of seven bits.
fn descriptor(w: &mut BoxWriter, tag: u8, length: usize) {
    w.u8(tag);
    for shift in [21, 14, 7] {
        w.u8(0x80 | (length >> shift & 0x7f) as u8);
    }
    w.u8((length & 0x7f) as u8);
}
