//! What a publisher, and whoever runs the server, is told of its media: each warning once per publication.

use tracing::warn;

use super::{Media, Superseded};
use crate::{
    media::{Codec, MediaKind},
    track::{LAYERS_MAX, Notice},
};

/// What in OBS and ffmpeg keeps B-frames out of a stream.
const B_FRAME_SETTING: &str = "In OBS: Settings > Output > Output Mode: Advanced > Streaming; x264: \"bframes=0\" in x264 Options, or Tune: \
                               zerolatency; NVENC, QuickSync, AMF: Max B-frames 0. ffmpeg: -bf 0";

/// What was said already.
#[derive(Default)]
pub(super) struct Told {
    pub b_frames: bool,
    pub b_references: bool,
    undecodable: bool,
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
