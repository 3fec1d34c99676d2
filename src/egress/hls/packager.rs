//! A stream's frames become CMAF parts: what the frame lane delivers goes in, initializations and parts come out. Sans-I/O.
//!
//! The driver's contract, for [`Packager`], one per stream that somebody plays:
//! 1. subscribe to the stream's frame lane; for each delivery: [`Packager::handle`];
//! 2. when [`Packager::poll_due`]'s time has come: [`Packager::poll`];
//! 3. after 1 and 2: take all outputs; hand what [`Packager::poll_keyframe`] gives to
//!    [`Stream::request_keyframe`](crate::track::Stream::request_keyframe) until it gives nothing; then `poll_due` again.
//!
//! It may encode sound, which takes up to a millisecond per delivery: it is to run on no worker.

use std::time::{Duration, Instant, SystemTime};

use super::part::Output;
use crate::track::{FrameDelivery, LayerIndex, TrackIndex};

/// How a stream is cut, and its sound kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagerSettings {
    /// Parts are to be as long at the most, unless frames are longer.
    pub part: Duration,
    /// A segment ends at the first keyframe after so long.
    pub segment_min: Duration,
    /// Publishers that send keyframes when asked (WebRTC) are asked for one after so long.
    pub segment_wanted: Duration,
    /// A segment ends after so long although no keyframe came: the next one is not independent.
    pub segment_max: Duration,
    /// Opus stays Opus, instead of becoming AAC.
    pub opus: bool,
}

impl Default for PackagerSettings {
    fn default() -> Self {
        Self {
            part: Duration::from_millis(200),
            segment_min: Duration::from_secs(1),
            segment_wanted: Duration::from_secs(2),
            segment_max: Duration::from_secs(12),
            opus: false,
        }
    }
}

/// See the module.
#[derive(Debug)]
pub struct Packager {
    settings: PackagerSettings,
}

impl Packager {
    pub fn new(settings: PackagerSettings) -> Self {
        Self { settings }
    }

    /// The lane delivered something.
    pub fn handle(&mut self, now: Instant, wall: SystemTime, delivery: FrameDelivery, out: &mut Vec<Output>) {
        let _ = (&self.settings, now, wall, delivery, out);
    }

    /// Time has passed.
    pub fn poll(&mut self, now: Instant, wall: SystemTime, out: &mut Vec<Output>) {
        let _ = (now, wall, out);
    }

    /// When [`Self::poll`] is to be called.
    pub fn poll_due(&self) -> Option<Instant> {
        None
    }

    /// A layer of which a keyframe is needed.
    pub fn poll_keyframe(&mut self) -> Option<(TrackIndex, LayerIndex)> {
        None
    }

    /// Why the stream, as it is published now, gives no media, or not all of it, in words for who asks for it.
    pub fn refusal(&self) -> Option<&str> {
        None
    }
}
