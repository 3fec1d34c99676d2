//! H.264.

use std::time::Instant;

use bytes::Bytes;

use super::{Dropped, FIRST_SEQ, Handled, Times};
use crate::{
    codec::h264::{DisplayOrder, Verdict, X264Settings},
    ingest::rtmp::flv::PictureTag,
    media::{CaptureTime, TrackFormat},
    track::{AvcPackets, BadAvc, has_idr},
};

#[derive(Debug)]
pub struct AvcTrack {
    packets: AvcPackets,
    order: DisplayOrder,
    encoder: Option<X264Settings>,
}

impl AvcTrack {
    pub fn new(record: &Bytes) -> Result<Self, BadAvc> {
        Ok(Self { packets: AvcPackets::new(record, FIRST_SEQ)?, order: DisplayOrder::default(), encoder: None })
    }

    pub fn configure(&mut self, record: &Bytes) -> Result<(), BadAvc> {
        self.packets.configure(record)
    }

    pub fn format(&self) -> Option<TrackFormat> {
        self.packets.format()
    }

    /// What the encoder holds back, in pictures, and how many of them are a second, as far as it says.
    pub fn held_back(&self) -> Option<(X264Settings, Option<f64>)> {
        let rate = self.packets.sets().first_sps().and_then(|sps| sps.usability.frame_rate);
        Some((self.encoder?, rate.map(|(pictures, seconds)| f64::from(pictures) / f64::from(seconds))))
    }

    pub fn handle_picture(
        &mut self,
        now: Instant,
        times: Times,
        tag: &PictureTag,
        capture: impl FnOnce() -> Option<CaptureTime>,
        dropped: &mut Dropped,
    ) -> Result<Handled, BadAvc> {
        let nals = self.packets.split(&tag.data)?;
        let keyframe = has_idr(&nals);
        if keyframe && self.encoder.is_none() {
            self.encoder = nals.iter().find_map(|nal| X264Settings::parse(nal));
        }
        let counter = match self.order.judge(&nals, self.packets.sets(), times.shown_ms) {
            Verdict::Send => {
                let packets = self.packets.packets(now, times.shown_ticks, nals, capture);
                return Ok(Handled { packets, keyframe });
            }
            Verdict::Reordered => &mut dropped.reordered,
            Verdict::ReorderedReference => &mut dropped.reordered_references,
            Verdict::MissingReference => &mut dropped.missing_references,
            Verdict::Undecodable => &mut dropped.undecodable,
        };
        *counter += 1;
        Ok(Handled { packets: Vec::new(), keyframe })
    }
}
