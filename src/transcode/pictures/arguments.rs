//! How ffmpeg is told to encode a stream anew: once without B-frames, or in smaller sizes, each to a pipe of its own.

use crate::{codec::PictureSize, config::Encoder};

/// What is known of a stream's pictures.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Pictures {
    pub size: PictureSize,
    /// Per second.
    pub rate: f64,
    /// `profile_idc` (ITU-T H.264 annex A).
    pub profile_idc: u8,
    /// What the publisher sends.
    pub bitrate_bps: u64,
    /// Pictures before this time, in milliseconds, are decoded only: they have been shown.
    pub from_ms: u32,
}

/// What is to be made of them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Target {
    /// As they are, but without B-frames.
    Same,
    /// Smaller ones, with a bitrate that is not to be exceeded.
    Smaller { size: PictureSize, bitrate_bps: Option<u64> },
}

/// Encoders of H.264 as ffmpeg calls them, in order of preference: hardware first, since it leaves the cores to the viewers.
pub(super) const BY_PREFERENCE: [Encoder; 4] = [Encoder::Nvenc, Encoder::Qsv, Encoder::Vaapi, Encoder::X264];
/// Samples of a picture at the most: level 5.1's. A decoder holds some tens of them.
pub(super) const SAMPLES_MAX: u32 = 36_864 * 256;
/// What is made is written to this descriptor, and those after it, one per target.
pub(super) const OUTPUT_FD: i32 = 3;

/// A keyframe at least so often, in seconds, so that what is kept for joins is short; and wherever the publisher has one.
const KEYFRAME_EVERY_S: f64 = 2.0;
/// Bits per sample that pictures with much motion take, by the fastest presets, before anybody sees it.
const BITS_PER_SAMPLE: f64 = 0.08;
/// Smaller pictures hold more detail for their size.
const BITS_PER_SAMPLE_SMALLER: f64 = 0.1;
/// An encoder that must not look ahead takes more bits for the same picture.
const BITRATE_ABOVE: f64 = 1.25;
const BITRATE_MIN_BPS: f64 = 500_000.0;
const BITRATE_SMALLER_MIN_BPS: f64 = 150_000.0;

/// All arguments: from FLV on its input to FLV on descriptors from [`OUTPUT_FD`] on.
pub(super) fn encode(encoder: Encoder, pictures: &Pictures, targets: &[Target]) -> Vec<String> {
    let mut arguments = words("-hide_banner -nostdin -loglevel error -protocol_whitelist pipe");
    // Nothing is probed: the first picture would wait for it. One thread, since more of them decode as many pictures behind.
    arguments.extend(words("-probesize 32 -analyzeduration 0 -fpsprobesize 0 -threads 1"));
    // A publisher may announce another size in the middle of its stream.
    arguments.extend(["-max_pixels".into(), SAMPLES_MAX.to_string()]);
    arguments.extend(device(encoder));
    arguments.extend(words("-f flv -i pipe:0 -copyts"));
    let of_all = [trim(pictures), upload(encoder).map(str::to_owned)].into_iter().flatten();
    if let [target] = targets {
        let filters: Vec<_> = of_all.chain(scale(encoder, target)).collect();
        if !filters.is_empty() {
            arguments.extend(["-vf".into(), filters.join(",")]);
        }
    } else {
        let split = format!("split={}", targets.len());
        let chain: Vec<_> = of_all.chain([split]).collect();
        let mut graph = format!("[0:v:0]{}", chain.join(","));
        (0..targets.len()).for_each(|at| graph.push_str(&format!("[s{at}]")));
        for (at, target) in targets.iter().enumerate() {
            let filter = scale(encoder, target).unwrap_or_else(|| "null".into());
            graph.push_str(&format!(";[s{at}]{filter}[o{at}]"));
        }
        arguments.extend(["-filter_complex".into(), graph]);
    }
    for (at, target) in targets.iter().enumerate() {
        let from = if targets.len() == 1 { "0:v:0".into() } else { format!("[o{at}]") };
        arguments.extend(["-map".into(), from]);
        arguments.extend(words("-fps_mode passthrough -enc_time_base 1:1000"));
        arguments.extend(encoding(encoder, pictures, target));
        arguments.extend(words("-f flv -flvflags no_duration_filesize -flush_packets 1"));
        arguments.push(format!("pipe:{}", OUTPUT_FD + at as i32));
    }
    arguments
}

/// Arguments that try an encoder on nothing: which are compiled in says little about the hardware.
pub(super) fn trial(encoder: Encoder) -> Vec<String> {
    let size = PictureSize { width: 640, height: 360 };
    let pictures = Pictures { size, rate: 30.0, profile_idc: 100, bitrate_bps: 1_000_000, from_ms: 0 };
    let mut arguments = words("-hide_banner -nostdin -loglevel error");
    arguments.extend(device(encoder));
    arguments.extend(words("-f lavfi -i color=size=640x360:rate=30 -frames:v 2"));
    arguments.extend(upload(encoder).into_iter().flat_map(|filter| ["-vf".into(), filter.into()]));
    arguments.extend(encoding(encoder, &pictures, &Target::Same));
    arguments.extend(words("-f null -"));
    arguments
}

fn device(encoder: Encoder) -> Vec<String> {
    if encoder == Encoder::Vaapi { words("-vaapi_device /dev/dri/renderD128") } else { Vec::new() }
}

fn trim(pictures: &Pictures) -> Option<String> {
    (pictures.from_ms > 0).then(|| format!("trim=start={:.3}", f64::from(pictures.from_ms) / 1_000.0))
}

fn upload(encoder: Encoder) -> Option<&'static str> {
    (encoder == Encoder::Vaapi).then_some("format=nv12,hwupload")
}

fn scale(encoder: Encoder, target: &Target) -> Option<String> {
    let Target::Smaller { size: PictureSize { width, height }, .. } = target else { return None };
    let filter = if encoder == Encoder::Vaapi { "scale_vaapi" } else { "scale" };
    Some(format!("{filter}=w={width}:h={height}"))
}

fn encoding(encoder: Encoder, pictures: &Pictures, target: &Target) -> Vec<String> {
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
    let bitrate = bitrate_max_bps(pictures, target);
    if matches!(encoder, Encoder::Qsv | Encoder::Vaapi) {
        arguments.extend(["-b:v".into(), format!("{:.0}", bitrate / BITRATE_ABOVE)]);
    }
    let gop = (pictures.rate * KEYFRAME_EVERY_S).round().max(1.0);
    arguments.extend(["-profile:v".into(), profile.into()]);
    // Half a second of the bitrate may come at once: what a keyframe takes.
    arguments.extend(["-maxrate".into(), format!("{bitrate:.0}"), "-bufsize".into(), format!("{:.0}", bitrate / 2.0)]);
    arguments.extend(["-g".into(), format!("{gop:.0}")]);
    arguments.extend(words("-force_key_frames source -bf 0"));
    if matches!(target, Target::Smaller { .. }) {
        // A keyframe where the others of the ladder have one, and nowhere else.
        arguments.extend(words("-sc_threshold 0"));
    }
    arguments
}

fn bitrate_max_bps(pictures: &Pictures, target: &Target) -> f64 {
    let sent = pictures.bitrate_bps as f64;
    let samples_per_s = |size: PictureSize| f64::from(size.width) * f64::from(size.height) * pictures.rate;
    match *target {
        Target::Same => (sent * BITRATE_ABOVE).max(samples_per_s(pictures.size) * BITS_PER_SAMPLE).max(BITRATE_MIN_BPS),
        Target::Smaller { bitrate_bps: Some(wished), .. } => wished as f64,
        Target::Smaller { size, bitrate_bps: None } => {
            (samples_per_s(size) * BITS_PER_SAMPLE_SMALLER).max(BITRATE_SMALLER_MIN_BPS)
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PICTURES: Pictures = Pictures {
        size: PictureSize { width: 1_280, height: 720 },
        rate: 30.0,
        profile_idc: 100,
        bitrate_bps: 2_500_000,
        from_ms: 0,
    };

    fn same(encoder: Encoder, pictures: &Pictures) -> Vec<String> {
        encode(encoder, pictures, &[Target::Same])
    }

    fn values<'a>(arguments: &'a [String], name: &str) -> Vec<&'a str> {
        let named = arguments.windows(2).filter(|pair| pair[0] == name);
        named.map(|pair| pair[1].as_str()).collect()
    }

    #[test]
    fn size_profile_and_bitrate_are_kept() {
        let arguments = same(Encoder::X264, &PICTURES);
        assert_eq!(values(&arguments, "-maxrate"), ["3125000"]);
        assert_eq!(values(&arguments, "-bufsize"), ["1562500"]);
        assert_eq!(values(&arguments, "-g"), ["60"]);
        assert_eq!(values(&arguments, "-profile:v"), ["high"]);
        assert!(values(&arguments, "-vf").is_empty());
        assert!(!arguments.iter().any(|argument| argument == "-s"));
        assert_eq!(arguments.last().map(String::as_str), Some("pipe:3"));
        let main = same(Encoder::X264, &Pictures { profile_idc: 77, ..PICTURES });
        assert_eq!(values(&main, "-profile:v"), ["main"]);
        // A still picture takes next to nothing, until it moves.
        let still = same(Encoder::X264, &Pictures { bitrate_bps: 9_000, ..PICTURES });
        assert_eq!(values(&still, "-maxrate"), ["2211840"]);
    }

    #[test]
    fn what_was_shown_is_decoded_only() {
        let trimmed = Pictures { from_ms: 12_345, ..PICTURES };
        assert_eq!(values(&same(Encoder::X264, &trimmed), "-vf"), ["trim=start=12.345"]);
        assert_eq!(values(&same(Encoder::Vaapi, &trimmed), "-vf"), ["trim=start=12.345,format=nv12,hwupload"]);
    }

    #[test]
    fn smaller_pictures_are_made_of_one_decoding_each_on_a_pipe_of_its_own() {
        let half = Target::Smaller { size: PictureSize { width: 640, height: 360 }, bitrate_bps: None };
        let third = Target::Smaller { size: PictureSize { width: 426, height: 240 }, bitrate_bps: Some(250_000) };
        let pictures = Pictures { from_ms: 12_345, ..PICTURES };
        let arguments = encode(Encoder::X264, &pictures, &[half, third]);
        assert_eq!(
            values(&arguments, "-filter_complex"),
            ["[0:v:0]trim=start=12.345,split=2[s0][s1];[s0]scale=w=640:h=360[o0];[s1]scale=w=426:h=240[o1]"]
        );
        assert_eq!(values(&arguments, "-map"), ["[o0]", "[o1]"]);
        assert_eq!(values(&arguments, "-maxrate"), ["691200", "250000"]);
        assert_eq!(values(&arguments, "-sc_threshold"), ["0", "0"]);
        let pipes: Vec<_> = arguments.iter().filter(|argument| argument.starts_with("pipe:")).collect();
        assert_eq!(pipes, ["pipe:0", "pipe:3", "pipe:4"]);
        let alone = encode(Encoder::Vaapi, &PICTURES, &[half]);
        assert_eq!(values(&alone, "-vf"), ["format=nv12,hwupload,scale_vaapi=w=640:h=360"]);
    }
}
