//! Pictures encoded anew (`transcode.*`).

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};

/// When pictures are encoded anew, and by what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TranscodeConfig {
    /// RTMP streams with B-frames, as OBS sends them by default, are encoded without them while somebody watches by WebRTC, which cannot
    /// show them. Default: true. It takes about a core for 1080p at 30 pictures a second, and viewers see it a tenth of a second later.
    /// Without it, or without ffmpeg, B-frames are left out, and motion is less smooth. HLS always gets the publisher's own pictures.
    pub b_frames: bool,
    /// The ffmpeg program, 5.1 or newer: its path, or its name in `PATH`. Default: `ffmpeg`. Pictures that publishers send are decoded
    /// by it, in a process of its own.
    pub ffmpeg: String,
    /// `auto`, `x264`, `nvenc`, `qsv` or `vaapi`. Default: `auto`, the first of the hardware's that works, else x264.
    pub encoder: Encoder,
    /// Encoders at one time: one for each stream with B-frames that is watched by WebRTC, and one for each stream that the ladder is
    /// made of. Of further streams B-frames are left out, and no ladder is made. Default: 4.
    pub streams_max: u32,
    /// Smaller pictures that are made of every stream whose publisher sends one encoding of H.264, while somebody watches: as layers that
    /// WebRTC viewers choose among, and as variants of HLS. Up to three, each by the length of the shorter side, with a bitrate if that is
    /// to be another than usual: `["720p", "480p 900k", "240p"]`. Those that are not smaller than the stream are not made. Default: none.
    pub ladder: Vec<Rung>,
}

impl Default for TranscodeConfig {
    fn default() -> Self {
        Self { b_frames: true, ffmpeg: "ffmpeg".into(), encoder: Encoder::Auto, streams_max: 4, ladder: Vec::new() }
    }
}

/// One of the smaller sizes that pictures are made in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rung {
    /// Samples of the shorter side; even.
    pub short_side: u32,
    /// At the most; `None`: what such pictures usually take.
    pub bitrate_kbps: Option<u32>,
}

/// Why a text names no rung.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidRung {
    #[error("a size such as \"480p\", with a bitrate if it is to be another than usual: \"480p 900k\"")]
    Form,
    #[error(
        "the shorter side has an even number of samples, from {} to {}",
        Rung::SHORT_SIDE_MIN,
        Rung::SHORT_SIDE_MAX
    )]
    Size,
    #[error("the bitrate is {}k to {}k", Rung::BITRATE_MIN_KBPS, Rung::BITRATE_MAX_KBPS)]
    Bitrate,
}

impl Rung {
    const SHORT_SIDE_MIN: u32 = 90;
    const SHORT_SIDE_MAX: u32 = 2_160;
    const BITRATE_MIN_KBPS: u32 = 50;
    const BITRATE_MAX_KBPS: u32 = 50_000;

    /// `480p`.
    pub fn name(&self) -> String {
        format!("{}p", self.short_side)
    }
}

impl FromStr for Rung {
    type Err = InvalidRung;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let (Some(size), bitrate, None) = (words.next(), words.next(), words.next()) else {
            return Err(InvalidRung::Form);
        };
        let number = |text: &str, unit| text.strip_suffix(unit)?.parse::<u32>().ok();
        let short_side = number(size, 'p').ok_or(InvalidRung::Form)?;
        if !(Self::SHORT_SIDE_MIN..=Self::SHORT_SIDE_MAX).contains(&short_side) || !short_side.is_multiple_of(2) {
            return Err(InvalidRung::Size);
        }
        let bitrate_kbps = bitrate.map(|text| number(text, 'k').ok_or(InvalidRung::Form)).transpose()?;
        if bitrate_kbps.is_some_and(|kbps| !(Self::BITRATE_MIN_KBPS..=Self::BITRATE_MAX_KBPS).contains(&kbps)) {
            return Err(InvalidRung::Bitrate);
        }
        Ok(Self { short_side, bitrate_kbps })
    }
}

impl<'de> Deserialize<'de> for Rung {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// What encodes (`transcode.encoder`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Encoder {
    /// What there is.
    #[default]
    Auto,
    X264,
    /// NVIDIA's.
    Nvenc,
    /// Intel's Quick Sync.
    Qsv,
    /// What Linux has a VA-API driver for: Intel's, AMD's.
    Vaapi,
}

impl fmt::Display for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::X264 => "x264",
            Self::Nvenc => "nvenc",
            Self::Qsv => "qsv",
            Self::Vaapi => "vaapi",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rungs_are_a_size_and_perhaps_a_bitrate() {
        let rung: Rung = "480p".parse().unwrap();
        assert_eq!((rung.short_side, rung.bitrate_kbps, rung.name().as_str()), (480, None, "480p"));
        assert_eq!(" 720p  2500k ".parse(), Ok(Rung { short_side: 720, bitrate_kbps: Some(2_500) }));
        for (text, why) in [
            ("", InvalidRung::Form),
            ("480", InvalidRung::Form),
            ("p480", InvalidRung::Form),
            ("480p 900", InvalidRung::Form),
            ("480p 900k x", InvalidRung::Form),
            ("481p", InvalidRung::Size),
            ("80p", InvalidRung::Size),
            ("4320p", InvalidRung::Size),
            ("480p 10k", InvalidRung::Bitrate),
        ] {
            assert_eq!(text.parse::<Rung>(), Err(why), "{text}");
        }
    }
}
