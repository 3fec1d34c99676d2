//! What the publisher is told: receiver reports, NACKs, keyframe requests, transport-wide feedback, in compounds.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_signaling::sdp::{self, NegotiatedMedia};

use crate::{
    ingest::whip::{ReceiverCounters, layer::IngestLayer, track::IngestTrack},
    rtp::{ArrivalFeedback, rtcp},
    track::LAYERS_MAX,
};

/// Senders take round trip and loss from them; one a second is what browsers send each other.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const CNAME: &str = "sluice";
/// What is received: the layers of a picture, and a sound.
const SOURCES_MAX: usize = LAYERS_MAX + 1;
/// NACK and FIR of one source.
const REQUESTS_BYTES_MAX: usize = 12 + 4 * rtcp::NACK_PAIRS_MAX + 20;
const ARRIVALS_BYTES_MAX: usize = 350;
/// Report (8 + 24 per source), CNAME (20), requests of two sources (further ones have the next compound), transport-wide
/// feedback: below the 1200 bytes that fit every path.
pub const RTCP_BYTES_MAX: usize = 8 + 24 * SOURCES_MAX + 20 + 2 * REQUESTS_BYTES_MAX + ARRIVALS_BYTES_MAX;
const _: () = assert!(RTCP_BYTES_MAX <= 1_100, "room for SRTCP's index and tag");

#[derive(Debug)]
pub(super) struct Feedback {
    /// Our SSRC: a receiver sends no media, so any number that the publisher has not announced will do.
    ssrc: u32,
    /// `None`: no section agreed on it.
    arrivals: Option<ArrivalFeedback>,
    /// `None` until the first packet.
    report_due: Option<Instant>,
    sequences: Vec<u16>,
}

impl Feedback {
    pub(super) fn new(now: Instant, sections: &[NegotiatedMedia]) -> Self {
        let announced = |ssrc: &u32| sections.iter().any(|section| section.remote_ssrcs.contains(ssrc));
        let transport_cc = sections.iter().flat_map(|section| &section.codecs).any(|codec| codec.feedback.transport_cc);
        Self {
            ssrc: (1..u32::MAX).find(|ssrc| !announced(ssrc)).unwrap_or(1),
            arrivals: transport_cc.then(|| ArrivalFeedback::new(now)),
            report_due: None,
            sequences: Vec::new(),
        }
    }

    /// Media comes: from now on there is something to report.
    pub(super) fn begin(&mut self, now: Instant) {
        self.report_due.get_or_insert(now + REPORT_INTERVAL);
    }

    pub(super) fn arrived(&mut self, now: Instant, ssrc: u32, transport_sequence: u16) {
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.arrived(now, ssrc, transport_sequence);
        }
    }

    pub(super) fn next_due(&self, tracks: &[IngestTrack]) -> Option<Instant> {
        let layers = || tracks.iter().flat_map(|track| &track.layers);
        let missing = layers().filter_map(|layer| layer.source.as_ref()?.missing.next_due());
        let keyframes = layers().filter_map(|layer| layer.keyframe_wanted);
        let arrivals = self.arrivals.as_ref().and_then(ArrivalFeedback::next_due);
        missing.chain(arrivals).chain(self.report_due).chain(keyframes).min()
    }

    /// One compound of what is due; `None` when nothing is.
    pub(super) fn poll(
        &mut self,
        now: Instant,
        tracks: &mut [IngestTrack],
        counters: &mut ReceiverCounters,
    ) -> Option<Bytes> {
        if self.next_due(tracks).is_none_or(|due| now < due) {
            return None;
        }
        let mut out = Vec::with_capacity(RTCP_BYTES_MAX);
        let reported = self.write_report(now, tracks, &mut out);
        let only_report_bytes = out.len();
        for track in tracks.iter_mut() {
            let agreed = track.accepted().feedback;
            for layer in &mut track.layers {
                if out.len() + REQUESTS_BYTES_MAX + ARRIVALS_BYTES_MAX <= RTCP_BYTES_MAX {
                    self.write_nack(now, layer, counters, &mut out);
                    self.write_keyframe_request(agreed, layer, counters, &mut out);
                }
            }
        }
        // The last, because it may end with padding (RFC 3550 section 6.4.1).
        if let Some(arrivals) = &mut self.arrivals {
            arrivals.write_due(now, self.ssrc, &mut out);
        }
        (reported || out.len() > only_report_bytes).then(|| out.into())
    }

    /// Every compound begins with a report and has the CNAME (RFC 3550 section 6.1); it has blocks when they are due.
    fn write_report(&mut self, now: Instant, tracks: &mut [IngestTrack], out: &mut Vec<u8>) -> bool {
        let due = self.report_due.is_some_and(|due| now >= due);
        let mut blocks = Vec::with_capacity(SOURCES_MAX);
        if due {
            self.report_due = Some(now + REPORT_INTERVAL);
            let layers = tracks.iter_mut().flat_map(|track| &mut track.layers);
            for source in layers.filter_map(|layer| layer.source.as_mut()) {
                blocks.extend(source.reception.as_mut().map(|reception| reception.report(now, source.ssrc)));
            }
        }
        rtcp::write_receiver_report(out, self.ssrc, &blocks);
        rtcp::write_cname(out, self.ssrc, CNAME);
        due
    }

    fn write_nack(
        &mut self,
        now: Instant,
        layer: &mut IngestLayer,
        counters: &mut ReceiverCounters,
        out: &mut Vec<u8>,
    ) {
        let Some(source) = &mut layer.source else { return };
        self.sequences.clear();
        let given_up = source.missing.poll(now, &mut self.sequences);
        rtcp::write_nack(out, self.ssrc, source.ssrc, &self.sequences);
        counters.nacks_sent += self.sequences.len() as u64;
        layer.given_up(now, given_up);
    }

    fn write_keyframe_request(
        &mut self,
        agreed: sdp::Feedback,
        layer: &mut IngestLayer,
        counters: &mut ReceiverCounters,
        out: &mut Vec<u8>,
    ) {
        if layer.keyframe_wanted.take().is_none() {
            return;
        }
        // Before the first packet there is nobody to ask; ingest asks for itself when one comes.
        let Some(source) = &layer.source else { return };
        if agreed.pli {
            rtcp::write_pli(out, self.ssrc, source.ssrc);
        } else if agreed.fir {
            layer.fir_command = layer.fir_command.wrapping_add(1);
            rtcp::write_fir(out, self.ssrc, source.ssrc, layer.fir_command);
        } else {
            return;
        }
        counters.plis_sent += 1;
    }
}
