//! Pictures encoded anew (`transcode.*`).

use std::fmt;

use serde::Deserialize;

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
    /// Streams encoded anew at one time; of further ones B-frames are left out. Default: 4.
    pub streams_max: u32,
}

impl Default for TranscodeConfig {
    fn default() -> Self {
        Self { b_frames: true, ffmpeg: "ffmpeg".into(), encoder: Encoder::Auto, streams_max: 4 }
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
