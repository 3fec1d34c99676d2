//! What the publisher is told: receiver reports, NACKs, keyframe requests, transport-wide feedback, in compounds.

use std::time::{Duration, Instant};

use bytes::Bytes;
use sluice_signaling::sdp::NegotiatedMedia;

use crate::{
    ingest::whip::{ReceiverCounters, track::IngestTrack},
    rtp::{ArrivalFeedback, rtcp},
    track::TRACKS_MAX,
};

/// Senders take round trip and loss from them; one a second is what browsers send each other.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
const CNAME: &str = "sluice";
/// Report (8 + 24 per track), CNAME (20), NACK (12 + 4 x 64) and FIR (20) per track, transport-wide feedback (350): below
/// the 1200 bytes that fit every path.
pub const RTCP_BYTES_MAX: usize = 8 + 20 + TRACKS_MAX * (24 + 12 + 4 * rtcp::NACK_PAIRS_MAX + 20) + 350;
const _: () = assert!(RTCP_BYTES_MAX <= 1_100, "room for SRTCP's index and tag");

#[derive(Debug)]
pub(super) struct Feedback {
    /// Our SSRC: a receiver sends no media, so any number that the publisher has not announced will do.
    ssrc: u32,
    /// `None`: no section agreed on it.
    arrivals: Option<ArrivalFeedback>,
    /// `None` until the first packet.
    report_due: Option<Instant>,
    /// Per track, when a keyframe request was made that is still to be sent.
    keyframes: [Option<Instant>; TRACKS_MAX],
    /// FIR's command numbers, per track.
    commands: [u8; TRACKS_MAX],
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
            keyframes: [None; TRACKS_MAX],
            commands: [0; TRACKS_MAX],
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

    pub(super) fn want_keyframe(&mut self, now: Instant, track: usize) {
        if let Some(wanted) = self.keyframes.get_mut(track) {
            wanted.get_or_insert(now);
        }
    }

    pub(super) fn next_due(&self, tracks: &[IngestTrack]) -> Option<Instant> {
        let missing = tracks.iter().filter_map(|track| track.source.as_ref()?.missing.next_due());
        let arrivals = self.arrivals.as_ref().and_then(ArrivalFeedback::next_due);
        let keyframes = self.keyframes.iter().flatten().copied();
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
        for (at, track) in tracks.iter_mut().enumerate() {
            self.write_nack(now, track, counters, &mut out);
            self.write_keyframe_request(at, track, counters, &mut out);
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
        let mut blocks = Vec::with_capacity(TRACKS_MAX);
        if due {
            self.report_due = Some(now + REPORT_INTERVAL);
            for source in tracks.iter_mut().filter_map(|track| track.source.as_mut()) {
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
        track: &mut IngestTrack,
        counters: &mut ReceiverCounters,
        out: &mut Vec<u8>,
    ) {
        let Some(source) = &mut track.source else { return };
        self.sequences.clear();
        let given_up = source.missing.poll(now, &mut self.sequences);
        rtcp::write_nack(out, self.ssrc, source.ssrc, &self.sequences);
        counters.nacks_sent += self.sequences.len() as u64;
        track.given_up(now, given_up);
    }

    fn write_keyframe_request(
        &mut self,
        at: usize,
        track: &IngestTrack,
        counters: &mut ReceiverCounters,
        out: &mut Vec<u8>,
    ) {
        if self.keyframes.get_mut(at).and_then(Option::take).is_none() {
            return;
        }
        // Before the first packet there is nobody to ask; ingest asks for itself when one comes.
        let Some(source) = &track.source else { return };
        let agreed = track.accepted().feedback;
        if agreed.pli {
            rtcp::write_pli(out, self.ssrc, source.ssrc);
        } else if agreed.fir {
            self.commands[at] = self.commands[at].wrapping_add(1);
            rtcp::write_fir(out, self.ssrc, source.ssrc, self.commands[at]);
        } else {
            return;
        }
        counters.plis_sent += 1;
    }
}
