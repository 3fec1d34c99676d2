//! One layer of a publisher's track: which SSRC it comes from, numbered and timed as the tree wants it, collected into a batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sluice_signaling::sdp::AcceptedCodec;

use crate::{
    ingest::whip::{
        clock::{Reported, SenderClock},
        keyframe_wish::KeyframeWish,
        keyframes::KeyframeMarker,
        source::{Accepted, Source},
        timeline::Timeline,
    },
    media::{CaptureStamps, CaptureTime, ExtendedSeq, MediaKind},
    rtp::{GivenUp, Renumber, rtcp::NtpTime},
    track::{Batch, ClockReference, LayerIndex, Publication, Superseded, TrackIndex, TrackPacket},
};

/// Between two sender reports that are taken in; senders make one a second or fewer.
const REPORT_INTERVAL_MIN: Duration = Duration::from_millis(200);

#[derive(Debug)]
pub(super) struct IngestLayer {
    pub index: LayerIndex,
    /// Its name among simulcast layers.
    pub rid: Option<String>,
    pub source: Option<Source>,
    pub wish: KeyframeWish,
    /// Packets given up for lost.
    pub lost: u64,
    /// Since when a keyframe request is to be sent.
    pub keyframe_wanted: Option<Instant>,
    /// FIR's command number.
    pub fir_command: u8,
    pub batch: Vec<Arc<TrackPacket>>,
    kind: MediaKind,
    numbers: Renumber,
    time: Timeline,
    marker: KeyframeMarker,
    /// First packet of the newest keyframe, in the source's numbers.
    last_keyframe: Option<ExtendedSeq>,
    reported: Option<(Reported, Instant)>,
    clock: Option<ClockReference>,
    clock_known: bool,
    clock_rate_hz: u32,
    stamps: CaptureStamps,
    /// What a packet of the publisher's last said of capture, and its time.
    capture_said: Option<(CaptureTime, u64)>,
    /// What the publisher's clock is ahead of ours, in 1/2^32 s, once a report has told.
    clock_ahead: Option<i64>,
}

impl IngestLayer {
    pub(super) fn new(index: LayerIndex, rid: Option<String>, first: &AcceptedCodec) -> Self {
        Self {
            index,
            rid,
            source: None,
            wish: KeyframeWish::default(),
            lost: 0,
            keyframe_wanted: None,
            fir_command: 0,
            batch: Vec::new(),
            kind: first.codec.kind(),
            numbers: Renumber::default(),
            time: Timeline::new(first.codec.clock_rate_hz()),
            marker: KeyframeMarker::default(),
            last_keyframe: None,
            reported: None,
            clock: None,
            clock_known: false,
            clock_rate_hz: first.codec.clock_rate_hz(),
            stamps: CaptureStamps::default(),
            capture_said: None,
            clock_ahead: None,
        }
    }

    /// True when the SSRC is the layer's source, or becomes it with its first packet of a codec agreed on.
    pub(super) fn adopt(
        &mut self,
        now: Instant,
        ssrc: u32,
        rid: Option<&Bytes>,
        codec: Option<&AcceptedCodec>,
    ) -> bool {
        if let Some(source) = &mut self.source {
            if source.ssrc == ssrc {
                return true;
            }
            if !source.is_replaceable(now) {
                return false;
            }
        }
        let Some(accepted) = codec else { return false };
        let source = Source::new(now, ssrc, rid.cloned(), accepted.feedback.nack, accepted.codec.clock_rate_hz());
        if self.source.replace(source).is_some() {
            self.begin_anew(now);
        }
        true
    }

    /// Notes a packet's arrival; `None` for doubles and strays.
    pub(super) fn accept(&mut self, now: Instant, sequence: u16, timestamp: u32, repaired: bool) -> Option<Accepted> {
        let accepted = self.source.as_mut()?.accept(now, sequence, timestamp, repaired)?;
        let newest = (accepted.lost > 0).then_some(accepted.seq);
        self.given_up(now, GivenUp { packets: accepted.lost, newest });
        if accepted.restarted {
            self.begin_anew(now);
        }
        Some(accepted)
    }

    /// Numbers and times from here on have no relation to those before.
    fn begin_anew(&mut self, now: Instant) {
        self.numbers.restart();
        self.time.restart();
        self.reported = None;
        self.capture_said = None;
        self.last_keyframe = None;
        if self.is_video() {
            self.wish.want(now);
        }
    }

    /// The track has another codec.
    pub(super) fn codec_changed(&mut self) {
        self.marker = KeyframeMarker::default();
        if self.is_video() {
            self.wish = KeyframeWish::default();
        }
    }

    /// The track's format is another, and what was cached of it was dropped: but for the layer that brought the news, which begins
    /// with a keyframe just now, a keyframe is missed.
    pub(super) fn cache_dropped(&mut self, now: Instant) {
        if self.is_video() && self.source.is_some() {
            self.wish.want(now);
        }
    }

    /// Nothing but padding, or nothing that was agreed on: its number is closed over where that is possible.
    pub(super) fn probe(&mut self, now: Instant, seq: ExtendedSeq, timestamp: u32) {
        if let Some(number) = self.numbers.probe(seq) {
            let time_ticks = self.time.extend(now, timestamp);
            self.collect(now, number, time_ticks, false, false, Bytes::new());
        }
    }

    /// The layer's number and time of a packet; `None` when it has no place in the layer any more.
    pub(super) fn place(&mut self, now: Instant, seq: ExtendedSeq, timestamp: u32) -> Option<(ExtendedSeq, u64)> {
        Some((self.numbers.media(seq)?, self.time.extend(now, timestamp)))
    }

    pub(super) fn marker(&mut self) -> &mut KeyframeMarker {
        &mut self.marker
    }

    /// A picture's packet was looked into: whether it begins a keyframe decides what is still wished for.
    pub(super) fn inspected(&mut self, now: Instant, accepted: Accepted, keyframe_start: bool) {
        if !self.is_video() {
            return;
        }
        if keyframe_start {
            self.last_keyframe = self.last_keyframe.max(Some(accepted.seq));
            let was_wanted = self.wish.granted();
            if let Some(source) = self.source.as_mut().filter(|_| was_wanted && accepted.newest) {
                // Asked for because of losses: those are made good by it.
                source.missing.forget_before(accepted.seq);
            }
        } else if !self.wish.was_ever_granted() {
            self.wish.want(now);
        }
    }

    pub(super) fn collect(
        &mut self,
        now: Instant,
        seq: ExtendedSeq,
        time_ticks: u64,
        marker: bool,
        keyframe_start: bool,
        payload: Bytes,
    ) {
        if !self.clock_known && !payload.is_empty() {
            self.clock_known = true;
            self.clock = Some(ClockReference { at: now, time_ticks, by_report: false });
        }
        let capture = if payload.is_empty() { None } else { self.stamp(now, time_ticks) };
        self.batch.push(Arc::new(TrackPacket {
            seq,
            time_ticks,
            arrival: now,
            marker,
            keyframe_start,
            capture,
            payload,
        }));
    }

    /// A packet of this time says when it was captured.
    pub(super) fn capture_said(&mut self, capture: CaptureTime, time_ticks: u64) {
        self.capture_said = Some((capture, time_ticks));
    }

    /// The publisher's own word goes on, unless it has none: then its reports say the same. What changes is whose clock receivers compare
    /// it with: ours.
    fn stamp(&mut self, now: Instant, time_ticks: u64) -> Option<CaptureTime> {
        let Self { capture_said, reported, clock_ahead, clock_rate_hz, .. } = self;
        self.stamps.stamp(now, time_ticks, || {
            let reported = || {
                let (Reported { ntp, time_ticks }, _) = (*reported)?;
                Some((CaptureTime { ntp: ntp.0, clock_offset: 0 }, time_ticks))
            };
            let (capture, at_ticks) = capture_said.or_else(reported)?;
            let clock_offset = capture.clock_offset.wrapping_add((*clock_ahead)?);
            let ticks = time_ticks.wrapping_sub(at_ticks) as i64;
            Some(CaptureTime { clock_offset, ..capture.after(ticks, *clock_rate_hz) })
        })
    }

    /// What was collected, for the tree; it is told the clock before it, if that was measured anew.
    pub(super) fn take_batch(
        &mut self,
        track: TrackIndex,
        publication: &mut Publication,
    ) -> Result<Option<Batch>, Superseded> {
        if let Some(clock) = self.clock.take() {
            publication.set_clock(track, self.index, clock)?;
        }
        let packets = std::mem::take(&mut self.batch);
        Ok((!packets.is_empty()).then_some(Batch { track, layer: self.index, packets }))
    }

    /// The source's sender report came. Returns whether it is one to go by.
    pub(super) fn sender_report(&mut self, now: Instant, ntp: NtpTime, rtp_time: u32) -> bool {
        if self.reported.is_some_and(|(_, at)| now < at + REPORT_INTERVAL_MIN) {
            return false;
        }
        if let Some(reception) = self.source.as_mut().and_then(|source| source.reception.as_mut()) {
            reception.sender_report(now, ntp);
        }
        let Some(time_ticks) = self.time.of_report(now, rtp_time) else { return false };
        self.reported = Some((Reported { ntp, time_ticks }, now));
        true
    }

    /// Makes the clock's reference anew from the last report.
    pub(super) fn refer_to(&mut self, clock: &SenderClock) {
        self.clock_ahead = clock.ahead();
        if let Some(reference) = self.reported.and_then(|(reported, _)| clock.reference(reported)) {
            self.clock = Some(reference);
        }
    }

    /// Packets are lost for good: a video decoder needs a keyframe.
    pub(super) fn given_up(&mut self, now: Instant, lost: GivenUp) {
        self.lost += lost.packets;
        // A keyframe that came since has made it good.
        let matters = lost.newest.is_some_and(|newest| self.last_keyframe.is_none_or(|keyframe| newest > keyframe));
        if matters && self.is_video() {
            self.wish.want(now);
        }
    }

    fn is_video(&self) -> bool {
        self.kind == MediaKind::Video
    }
}
