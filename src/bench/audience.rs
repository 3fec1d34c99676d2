//! All viewers together: what is measured of the sampled ones, and sums over everybody.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;
use sluice_signaling::codec::MediaKind;

use super::{
    figures::{Delays, Summary},
    reception::Counts,
    spread::Spread,
    stamp,
    viewer::{Times, Viewer},
};
use crate::media::RtpHeader;

/// Frames of the stream whose sizes are kept: 10 s at 30 frames/s, so every picture of a usual GOP.
const SHAPE_FRAMES_MAX: usize = 300;

/// What sampled viewers' packets tell, while the measurement is open.
#[derive(Debug)]
pub struct Sample {
    /// Stamps count from here.
    epoch: Instant,
    open: bool,
    delays: Delays,
    spread: Spread,
    shape: Shape,
}

impl Sample {
    pub fn new(epoch: Instant) -> Self {
        Self { epoch, open: false, delays: Delays::default(), spread: Spread::default(), shape: Shape::default() }
    }

    pub fn is_open(&self) -> bool {
        self.open
    }

    pub fn open(&mut self) {
        self.open = true;
    }

    pub fn close(&mut self) {
        self.open = false;
    }

    pub fn note_payload(&mut self, payload: &[u8], arrived: Instant) {
        if !self.open {
            return;
        }
        if let Some(sent) = stamp::read(payload) {
            let since = arrived.saturating_duration_since(self.epoch);
            self.delays.note(since.saturating_sub(sent));
        }
        self.spread.note(payload, arrived);
    }

    /// `viewer` is any number of the viewer's own: the first to come is the model.
    pub fn note_shape(&mut self, viewer: u32, kind: MediaKind, header: &RtpHeader, datagram_bytes: usize) {
        if self.open && *self.shape.model.get_or_insert(viewer) == viewer {
            self.shape.note(kind, header, datagram_bytes);
        }
    }

    /// One-way delays by stamps, delays behind the earliest copy, and the stream's shape.
    pub fn finish(self) -> (Option<Summary>, Option<Summary>, Shape) {
        (self.delays.summary(), self.spread.finish().summary(), self.shape)
    }
}

/// The sizes of a stream's frames on the wire, as one viewer gets them: what the floor is measured with.
#[derive(Debug, Default)]
pub struct Shape {
    model: Option<u32>,
    /// The streams looked at: the first of each kind that came.
    video_ssrc: Option<u32>,
    audio_ssrc: Option<u32>,
    /// Timestamp, packets, bytes of the largest.
    current: Option<(u32, u32, usize)>,
    /// Packets and bytes of the largest, per frame.
    frames: Vec<(u32, usize)>,
    audio_packets: u64,
    audio_bytes: u64,
}

impl Shape {
    fn note(&mut self, kind: MediaKind, header: &RtpHeader, bytes: usize) {
        let ssrc = match kind {
            MediaKind::Video => &mut self.video_ssrc,
            MediaKind::Audio => &mut self.audio_ssrc,
        };
        if *ssrc.get_or_insert(header.ssrc) != header.ssrc {
            return;
        }
        if kind == MediaKind::Audio {
            self.audio_packets += 1;
            self.audio_bytes += bytes as u64;
            return;
        }
        match &mut self.current {
            Some((timestamp, packets, largest)) if *timestamp == header.timestamp => {
                *packets += 1;
                *largest = (*largest).max(bytes);
            }
            current => {
                if let Some((_, packets, largest)) = current.replace((header.timestamp, 1, bytes))
                    && self.frames.len() < SHAPE_FRAMES_MAX
                {
                    self.frames.push((packets, largest));
                }
            }
        }
    }

    /// `8x1172,7x1180,...`: packets and bytes (of a whole datagram) of each frame.
    pub fn frames(&self) -> String {
        // The first frame may have been under way when the measurement began.
        let frames = self.frames.iter().skip(1).map(|(packets, bytes)| format!("{packets}x{bytes}"));
        frames.collect::<Vec<_>>().join(",")
    }

    pub fn audio_bytes(&self) -> Option<u64> {
        self.audio_bytes.checked_div(self.audio_packets)
    }

    pub fn audio_packets(&self) -> u64 {
        self.audio_packets
    }
}

/// Every viewer's times from the POST to each step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct JoinFigures {
    pub answer: Option<Summary>,
    pub connected: Option<Summary>,
    pub first_packet: Option<Summary>,
    pub first_keyframe: Option<Summary>,
}

impl JoinFigures {
    pub fn of<'a>(viewers: impl Iterator<Item = &'a Viewer> + Clone) -> Self {
        let step = |step: fn(&Times) -> Option<Instant>| {
            let delays = viewers.clone().filter_map(|viewer| viewer.times().until(step(viewer.times())));
            delays.collect::<Delays>().summary()
        };
        Self {
            answer: step(|times| times.answered),
            connected: step(|times| times.connected),
            first_packet: step(|times| times.first_packet),
            first_keyframe: step(|times| times.first_keyframe),
        }
    }
}

pub fn total<'a>(viewers: impl Iterator<Item = &'a Viewer>) -> Counts {
    let mut counts = Counts::default();
    viewers.for_each(|viewer| counts.add(&viewer.counts()));
    counts
}

/// How many viewers failed, by reason.
pub fn failures<'a>(viewers: impl Iterator<Item = &'a Viewer>) -> BTreeMap<String, u32> {
    let mut failures = BTreeMap::new();
    for viewer in viewers {
        let reason = match (viewer.failure(), viewer.is_playing()) {
            (Some(reason), _) => reason,
            (None, false) => viewer.stuck_at(),
            (None, true) => continue,
        };
        *failures.entry(reason.to_owned()).or_default() += 1;
    }
    failures
}

/// A share of `whole` per second.
pub fn per_second(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64().max(f64::EPSILON)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn a_streams_shape_is_that_of_its_frames() {
        let mut sample = Sample::new(epoch());
        sample.open();
        let header = |ssrc, timestamp| RtpHeader { marker: false, payload_type: 96, sequence: 0, timestamp, ssrc };
        for (timestamp, bytes) in [(0, 500), (1, 900), (1, 901), (1, 400), (2, 700), (3, 1)] {
            sample.note_shape(7, MediaKind::Video, &header(1, timestamp), bytes);
            sample.note_shape(7, MediaKind::Video, &header(2, timestamp), 9);
            sample.note_shape(8, MediaKind::Video, &header(1, timestamp), 1_300);
        }
        sample.note_shape(7, MediaKind::Audio, &header(3, 0), 100);
        sample.note_shape(7, MediaKind::Audio, &header(3, 0), 120);
        let (_, _, shape) = sample.finish();
        assert_eq!(shape.frames(), "3x901,1x700");
        assert_eq!(shape.audio_bytes(), Some(110));
    }
}
