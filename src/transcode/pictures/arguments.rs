//! How ffmpeg is told to encode a stream anew without B-frames.

use crate::config::Encoder;

/// What is known of a stream's pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pictures {
    pub width: u32,
    pub height: u32,
    /// Per second.
    pub rate: f64,
    /// `profile_idc` (ITU-T H.264 annex A).
    pub profile_idc: u8,
    /// What the publisher sends.
    pub bitrate_bps: u64,
    /// Pictures before this time, in milliseconds, are decoded only: they have been shown.
    pub from_ms: u32,
}

/// Encoders of H.264 as ffmpeg calls them, in order of preference: hardware first, since it leaves the cores to the viewers.
pub(super) const BY_PREFERENCE: [Encoder; 4] = [Encoder::Nvenc, Encoder::Qsv, Encoder::Vaapi, Encoder::X264];

/// A keyframe at least so often, in seconds, so that what is kept for joins is short; and wherever the publisher has one.
const KEYFRAME_EVERY_S: f64 = 2.0;
/// Bits per sample that pictures with much motion take, by the fastest presets, before anybody sees it.
const BITS_PER_SAMPLE: f64 = 0.08;
/// An encoder that must not look ahead takes more bits for the same picture.
const BITRATE_ABOVE: f64 = 1.25;
const BITRATE_MIN_BPS: f64 = 500_000.0;

/// All arguments: from FLV on its input to FLV on its output.
pub(super) fn encode(encoder: Encoder, pictures: &Pictures) -> Vec<String> {
    let mut arguments = words("-hide_banner -nostdin -loglevel error -protocol_whitelist pipe");
    // Nothing is probed: the first picture would wait for it. One thread, since more of them decode as many pictures behind.
    arguments.extend(words("-probesize 32 -analyzeduration 0 -fpsprobesize 0 -threads 1"));
    // A publisher may announce another size in the middle of its stream.
    arguments.extend(["-max_pixels".into(), SAMPLES_MAX.to_string()]);
    arguments.extend(device(encoder));
    arguments.extend(words("-f flv -i pipe:0 -map 0:v:0 -copyts -fps_mode passthrough -enc_time_base 1:1000"));
    let trim = (pictures.from_ms > 0).then(|| format!("trim=start={:.3}", f64::from(pictures.from_ms) / 1_000.0));
    let filters: Vec<_> = trim.into_iter().chain(upload(encoder).map(str::to_owned)).collect();
    if !filters.is_empty() {
        arguments.extend(["-vf".into(), filters.join(",")]);
    }
    arguments.extend(encoding(encoder, pictures));
    arguments.extend(words("-f flv -flvflags no_duration_filesize -flush_packets 1 pipe:1"));
    arguments
}

/// Samples of a picture at the most: level 5.1's. A decoder holds some tens of them.
pub(super) const SAMPLES_MAX: u32 = 36_864 * 256;

/// Arguments that try an encoder on nothing: which are compiled in says little about the hardware.
pub(super) fn trial(encoder: Encoder) -> Vec<String> {
    let pictures =
        Pictures { width: 640, height: 360, rate: 30.0, profile_idc: 100, bitrate_bps: 1_000_000, from_ms: 0 };
    let mut arguments = words("-hide_banner -nostdin -loglevel error");
    arguments.extend(device(encoder));
    arguments.extend(words("-f lavfi -i color=size=640x360:rate=30 -frames:v 2"));
    arguments.extend(upload(encoder).into_iter().flat_map(|filter| ["-vf".into(), filter.into()]));
    arguments.extend(encoding(encoder, &pictures));
    arguments.extend(words("-f null -"));
    arguments
}

fn device(encoder: Encoder) -> Vec<String> {
    if encoder == Encoder::Vaapi { words("-vaapi_device /dev/dri/renderD128") } else { Vec::new() }
}

fn upload(encoder: Encoder) -> Option<&'static str> {
    (encoder == Encoder::Vaapi).then_some("format=nv12,hwupload")
}

fn encoding(encoder: Encoder, pictures: &Pictures) -> Vec<String> {
    let mut arguments = words(match encoder {
        Encoder::Auto | Encoder::X264 => "-c:v libx264 -preset superfast -tune zerolatency -crf 20 -pix_fmt yuv420p",
        Encoder::Nvenc => {
            "-c:v h264_nvenc -preset p3 -tune ull -zerolatency 1 -forced-idr 1 -rc vbr -cq 23 -pix_fmt yuv420p"
        }
        Encoder::Qsv => "-c:v h264_qsv -preset veryfast -async_depth 1 -look_ahead 0 -forced_idr 1 -pix_fmt nv12",
        Encoder::Vaapi => "-c:v h264_vaapi -async_depth 1 -rc_mode VBR",
    });
    let profile = match (encoder, pictures.profile_idc) {
        (Encoder::Vaapi, 66) => "constrained_baseline",
        (_, 66) => "baseline",
        (_, 77) => "main",
        _ => "high",
    };
    let samples_per_s = f64::from(pictures.width) * f64::from(pictures.height) * pictures.rate;
    let bitrate =
        (pictures.bitrate_bps as f64 * BITRATE_ABOVE).max(samples_per_s * BITS_PER_SAMPLE).max(BITRATE_MIN_BPS);
    if matches!(encoder, Encoder::Qsv | Encoder::Vaapi) {
        arguments.extend(["-b:v".into(), format!("{:.0}", bitrate / BITRATE_ABOVE)]);
    }
    let gop = (pictures.rate * KEYFRAME_EVERY_S).round().max(1.0);
    arguments.extend(["-profile:v".into(), profile.into()]);
    // Half a second of the bitrate may come at once: what a keyframe takes.
    arguments.extend(["-maxrate".into(), format!("{bitrate:.0}"), "-bufsize".into(), format!("{:.0}", bitrate / 2.0)]);
    arguments.extend(["-g".into(), format!("{gop:.0}")]);
    arguments.extend(words("-force_key_frames source -bf 0"));
    arguments
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURES: Pictures =
        Pictures { width: 1_280, height: 720, rate: 30.0, profile_idc: 100, bitrate_bps: 2_500_000, from_ms: 0 };

    fn value(arguments: &[String], name: &str) -> Option<String> {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    }

    #[test]
    fn size_profile_and_bitrate_are_kept() {
        let arguments = encode(Encoder::X264, &PICTURES);
        assert_eq!(value(&arguments, "-maxrate").as_deref(), Some("3125000"));
        assert_eq!(value(&arguments, "-bufsize").as_deref(), Some("1562500"));
        assert_eq!(value(&arguments, "-g").as_deref(), Some("60"));
        assert_eq!(value(&arguments, "-profile:v").as_deref(), Some("high"));
        assert_eq!(value(&arguments, "-vf"), None);
        assert!(!arguments.iter().any(|argument| argument == "-s"));
        let main = encode(Encoder::X264, &Pictures { profile_idc: 77, ..PICTURES });
        assert_eq!(value(&main, "-profile:v").as_deref(), Some("main"));
        // A still picture takes next to nothing, until it moves.
        let still = encode(Encoder::X264, &Pictures { bitrate_bps: 9_000, ..PICTURES });
        assert_eq!(value(&still, "-maxrate").as_deref(), Some("2211840"));
    }

    #[test]
    fn what_was_shown_is_decoded_only() {
        let trimmed = Pictures { from_ms: 12_345, ..PICTURES };
        assert_eq!(value(&encode(Encoder::X264, &trimmed), "-vf").as_deref(), Some("trim=start=12.345"));
        let uploaded = value(&encode(Encoder::Vaapi, &trimmed), "-vf");
        assert_eq!(uploaded.as_deref(), Some("trim=start=12.345,format=nv12,hwupload"));
    }
}
