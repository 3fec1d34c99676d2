//! The codecs that Sluice carries, by their SDP names, and what SDP says of each.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum MediaKind {
    Audio,
    Video,
}

impl MediaKind {
    /// The SDP media name (RFC 8866 section 5.14).
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Audio => "audio",
            Self::Video => "video",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Codec {
    H264,
    Hevc,
    Vp8,
    Vp9,
    Av1,
    Opus,
}

impl Codec {
    /// The encoding name of `a=rtpmap`; compared without regard to case.
    pub fn sdp_name(self) -> &'static str {
        match self {
            Self::H264 => "H264",
            Self::Hevc => "H265",
            Self::Vp8 => "VP8",
            Self::Vp9 => "VP9",
            Self::Av1 => "AV1",
            Self::Opus => "opus",
        }
    }

    pub fn from_sdp_name(name: &str) -> Option<Self> {
        [Self::H264, Self::Hevc, Self::Vp8, Self::Vp9, Self::Av1, Self::Opus]
            .into_iter()
            .find(|codec| codec.sdp_name().eq_ignore_ascii_case(name))
    }

    pub fn kind(self) -> MediaKind {
        match self {
            Self::Opus => MediaKind::Audio,
            _ => MediaKind::Video,
        }
    }

    /// RTP clock rate in Hz.
    pub fn clock_rate_hz(self) -> u32 {
        match self.kind() {
            MediaKind::Audio => 48_000,
            MediaKind::Video => 90_000,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.sdp_name())
    }
}

/// What a live track carries, as far as negotiation needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFormat {
    pub codec: Codec,
    /// Format parameters as SDP writes them (`profile-level-id=42e01f;packetization-mode=1`); empty when none are known.
    pub fmtp: String,
    /// Audio channels; 1 for video.
    pub channels: u8,
}
