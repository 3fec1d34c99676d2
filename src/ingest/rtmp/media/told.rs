//! What a publisher, and whoever runs the server, is told of its media: each warning once per publication.

use tracing::{info, warn};

use super::{Media, Superseded, video::VideoTrack};
use crate::{
    media::{Codec, MediaKind},
    track::{LAYERS_MAX, Notice},
};

/// What in OBS and ffmpeg keeps B-frames out of a stream.
const B_FRAME_SETTING: &str = "In OBS: Settings > Output > Output Mode: Advanced > Streaming; x264: \"bframes=0\" in x264 Options, or Tune: \
                               zerolatency; NVENC, QuickSync, AMF: Max B-frames 0. ffmpeg: -bf 0";

/// What makes x264 send a picture as soon as it has it.
const DELAY_SETTING: &str = "In OBS: Settings > Output > Output Mode: Advanced > Streaming, Tune: zerolatency, or where there are custom encoder \
                             settings: tune=zerolatency. ffmpeg: -tune zerolatency";
/// Pictures that an encoder may hold back before it is told of, in seconds of them.
const HELD_BACK_S: f64 = 0.15;
/// Where a stream does not say, and where what it says is not to be believed.
const USUAL_RATE: f64 = 30.0;
const RATE_MAX: f64 = 300.0;

/// What was said already.
#[derive(Default)]
pub(super) struct Told {
    pub b_frames: bool,
    pub b_references: bool,
    undecodable: bool,
    encoder: bool,
    sound: bool,
    pub sound_lags: bool,
    jumps: u32,
    other_tracks: [bool; 2],
}

impl Media {
    pub(super) fn tell_dropped(&mut self) -> Result<(), Superseded> {
        let Some(video) = &self.video else { return Ok(()) };
        let (dropped, can_be_reencoded) = (video.dropped, video.codec() == Codec::H264);
        let reencodes = self.reencodes && can_be_reencoded && self.side.is_empty();
        if dropped.reordered + dropped.reordered_references > 0 && !self.told.b_frames {
            self.told.b_frames = true;
            self.publication.set_reordered(can_be_reencoded)?;
            let done = if reencodes {
                "while somebody watches by WebRTC, the picture is encoded anew without them, which takes CPU time of this server and comes a \
                 little later"
            } else {
                "they are left out, motion is less smooth"
            };
            let code = if reencodes { "b-frames-reencoded" } else { "b-frames-dropped" };
            let text =
                format!("The stream has B-frames, which WebRTC viewers cannot be shown: {done}. {B_FRAME_SETTING}");
            self.warn(code, text);
        }
        if dropped.missing_references > 0 && !reencodes && !self.told.b_references {
            self.told.b_references = true;
            let text = format!(
                "Pictures of the stream refer to B-frames, which WebRTC viewers cannot be shown: without them the picture stands still \
                 until the next keyframe. {B_FRAME_SETTING}"
            );
            self.warn("b-frames-referenced", text);
        }
        if dropped.undecodable > 0 && !self.told.undecodable {
            self.told.undecodable = true;
            let text = "Pictures were left out because they cannot be decoded: they came before the first keyframe (IDR), \
                        or are damaged";
            self.warn("pictures-undecodable", text.into());
        }
        Ok(())
    }

    /// Latency that arises before anything is sent looks like the server's to whoever watches.
    pub(super) fn tell_encoder(&mut self) {
        let Some((x264, rate)) = self.video.as_ref().and_then(VideoTrack::held_back) else { return };
        if std::mem::replace(&mut self.told.encoder, true) {
            return;
        }
        let rate = rate.filter(|rate| (1.0..=RATE_MAX).contains(rate)).unwrap_or(USUAL_RATE);
        let held_back_s = f64::from(x264.held_back()) / rate;
        if held_back_s < HELD_BACK_S {
            return;
        }
        let text = format!(
            "The encoder (x264) holds back {} pictures before it sends one, {held_back_s:.2} s at {rate:.0} a second: it looks {} ahead and \
             encodes {} at a time. {DELAY_SETTING}",
            x264.held_back(),
            x264.lookahead.max(x264.b_frames),
            x264.at_a_time,
        );
        info!(code = "encoder-delay", "{text}");
        self.notice("encoder-delay", text);
    }

    pub(super) fn tell_sound(&mut self, cause: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.told.sound, true) {
            self.warn("audio-unsupported", format!("The stream has no sound: {cause}"));
        }
    }

    pub(super) fn tell_other_tracks(&mut self, kind: MediaKind, has_other_tracks: bool) {
        if has_other_tracks && !std::mem::replace(&mut self.told.other_tracks[kind as usize], true) {
            let (code, text) = match kind {
                MediaKind::Video => (
                    "video-tracks-ignored",
                    format!(
                        "The publisher sends tracks of pictures that are not taken (multitrack): {LAYERS_MAX} are at the most, the first one \
                         and others in its codec"
                    ),
                ),
                MediaKind::Audio => (
                    "audio-tracks-ignored",
                    "The publisher sends several tracks of sound (multitrack): the first one is taken, the others are not".into(),
                ),
            };
            self.warn(code, text);
        }
    }

    pub(super) fn tell_jumps(&mut self) {
        let jumps = self.clock.jumps();
        if jumps == self.told.jumps {
            return;
        }
        if self.told.jumps == 0 {
            let text = "The publisher's timestamps jump; playing goes on where it was";
            self.warn("timestamps-jump", text.into());
        }
        self.told.jumps = jumps;
    }

    pub(super) fn warn(&mut self, code: &'static str, text: String) {
        warn!(code, "{text}");
        self.notice(code, text);
    }

    pub(super) fn notice(&mut self, code: &'static str, text: String) {
        self.publication.notice(Notice { code, text });
    }
}
