//! One media section of a publisher as it becomes a track: which SSRC is its layer, in which format, numbered and timed
//! as the tree wants it, collected into batches.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sluice_signaling::sdp::{AcceptedCodec, NegotiatedMedia};

use crate::{
    codec::h264::depacketize::ProfileLevelId,
    ingest::whip::{
        clock::{Reported, SenderClock},
        format::{format_of, with_profile},
        keyframe_wish::KeyframeWish,
        keyframes::KeyframeMarker,
        source::{Accepted, Source},
        timeline::Timeline,
    },
    media::{Codec, ExtendedSeq, MediaKind, TrackFormat},
    rtp::{GivenUp, Renumber, rtcp::NtpTime},
    track::{Batch, ClockReference, LayerIndex, Publication, Superseded, TrackIndex, TrackPacket},
};

/// The only layer for now.
pub(super) const LAYER: LayerIndex = LayerIndex(0);
/// A batch is handed on when it gets this long, even if the socket has more: a keyframe of 300 kB.
const BATCH_PACKETS_MAX: usize = 256;
/// How long the preferred simulcast layer is waited for before another will do.
const PREFERRED_LAYER_PATIENCE: Duration = Duration::from_secs(1);
/// Formats change by hand or by encoder, not by packet: each change empties caches and reaches every worker.
const FORMAT_CHANGE_INTERVAL: Duration = Duration::from_millis(500);
/// Between two sender reports that are taken in; senders make one a second or fewer.
const REPORT_INTERVAL_MIN: Duration = Duration::from_millis(200);

/// A media packet, unwrapped if it came as a retransmission.
#[derive(Debug)]
pub(super) struct Incoming {
    /// The original stream's, also for a retransmission.
    pub sequence: u16,
    pub timestamp: u32,
    pub marker: bool,
    /// Index among the section's codecs; `None` for a payload type that was not agreed on.
    pub codec: Option<usize>,
    pub payload: Bytes,
    pub repaired: bool,
}

/// What became of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Taken,
    /// A double, a stray, or what has no place in the layer any more.
    Useless,
}

#[derive(Debug)]
pub(super) struct IngestTrack {
    pub index: TrackIndex,
    pub source: Option<Source>,
    pub wish: KeyframeWish,
    /// Packets given up for lost.
    pub lost: u64,
    codecs: Vec<AcceptedCodec>,
    /// Of simulcast layers, the one to take; `None` without simulcast.
    preferred_rid: Option<String>,
    waiting_since: Option<Instant>,
    /// Index of the codec in use.
    codec: usize,
    format: TrackFormat,
    format_changed: Option<Instant>,
    numbers: Renumber,
    time: Timeline,
    marker: KeyframeMarker,
    /// First packet of the newest keyframe, in the source's numbers.
    last_keyframe: Option<ExtendedSeq>,
    batch: Vec<Arc<TrackPacket>>,
    reported: Option<(Reported, Instant)>,
    clock: Option<ClockReference>,
    clock_known: bool,
}

impl IngestTrack {
    /// Adds the section's track to the publication. `None` for a section without codecs: it was refused.
    pub(super) fn new(media: &NegotiatedMedia, publication: &mut Publication) -> Result<Option<Self>, Superseded> {
        let Some(first) = media.codecs.first() else { return Ok(None) };
        let format = format_of(first);
        let index = publication.add_track(format.clone())?;
        Ok(Some(Self {
            index,
            source: None,
            wish: KeyframeWish::default(),
            lost: 0,
            time: Timeline::new(first.codec.clock_rate_hz()),
            codecs: media.codecs.clone(),
            preferred_rid: media.rids.first().cloned(),
            waiting_since: None,
            codec: 0,
            format,
            format_changed: None,
            numbers: Renumber::default(),
            marker: KeyframeMarker::default(),
            last_keyframe: None,
            batch: Vec::new(),
            reported: None,
            clock: None,
            clock_known: false,
        }))
    }

    /// The codec in use, with what was agreed for it.
    pub(super) fn accepted(&self) -> &AcceptedCodec {
        &self.codecs[self.codec]
    }

    fn is_video(&self) -> bool {
        self.accepted().codec.kind() == MediaKind::Video
    }

    /// A packet of the SSRC itself.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        ssrc: u32,
        rid: Option<&Bytes>,
        packet: Incoming,
        publication: &mut Publication,
    ) -> Result<Outcome, Superseded> {
        if !self.adopt(now, ssrc, rid, packet.codec) {
            return Ok(Outcome::Useless);
        }
        self.take(now, packet, publication)
    }

    /// A retransmission for whatever SSRC the layer is received from.
    pub(super) fn repair(
        &mut self,
        now: Instant,
        rid: Option<&Bytes>,
        packet: Incoming,
        publication: &mut Publication,
    ) -> Result<Outcome, Superseded> {
        let same_layer = match &self.source {
            // In simulcast a repair must say which layer it repairs: numbers of two layers are unrelated.
            Some(source) => source.rid.as_ref() == rid && (rid.is_some() || self.preferred_rid.is_none()),
            None => false,
        };
        if !same_layer {
            return Ok(Outcome::Useless);
        }
        self.take(now, packet, publication)
    }

    /// True when the SSRC is the layer's source, or becomes it.
    fn adopt(&mut self, now: Instant, ssrc: u32, rid: Option<&Bytes>, codec: Option<usize>) -> bool {
        if let Some(source) = &mut self.source {
            if source.ssrc == ssrc {
                return true;
            }
            if !source.is_replaceable(now) {
                return false;
            }
        }
        let Some(codec) = codec else { return false };
        if let Some(preferred) = &self.preferred_rid {
            let waiting_since = *self.waiting_since.get_or_insert(now);
            let is_preferred = rid.is_some_and(|rid| rid == preferred.as_bytes());
            if !is_preferred && now < waiting_since + PREFERRED_LAYER_PATIENCE {
                return false;
            }
        }
        let accepted = &self.codecs[codec];
        let source = Source::new(now, ssrc, rid.cloned(), accepted.feedback.nack, accepted.codec.clock_rate_hz());
        if self.source.replace(source).is_some() {
            self.begin_anew(now);
        }
        true
    }

    /// Numbers and times from here on have no relation to those before.
    fn begin_anew(&mut self, now: Instant) {
        self.numbers.restart();
        self.time.restart();
        self.reported = None;
        self.last_keyframe = None;
        if self.is_video() {
            self.wish.want(now);
        }
    }

    fn take(&mut self, now: Instant, packet: Incoming, publication: &mut Publication) -> Result<Outcome, Superseded> {
        let Some(source) = &mut self.source else { return Ok(Outcome::Useless) };
        let Some(accepted) = source.accept(now, packet.sequence, packet.timestamp, packet.repaired) else {
            return Ok(Outcome::Useless);
        };
        let newest = (accepted.lost > 0).then_some(accepted.seq);
        self.given_up(now, GivenUp { packets: accepted.lost, newest });
        if accepted.restarted {
            self.begin_anew(now);
        }
        let codec = packet.codec.filter(|_| !packet.payload.is_empty());
        match codec {
            Some(codec) => self.take_media(now, accepted, codec, packet, publication),
            // Nothing but padding, or nothing that was agreed on: its number is closed over where that is possible.
            None => {
                if let Some(number) = self.numbers.probe(accepted.seq) {
                    let time_ticks = self.time.extend(now, packet.timestamp);
                    self.collect(now, number, time_ticks, false, false, Bytes::new(), publication)?;
                }
                Ok(Outcome::Taken)
            }
        }
    }

    fn take_media(
        &mut self,
        now: Instant,
        accepted: Accepted,
        codec: usize,
        packet: Incoming,
        publication: &mut Publication,
    ) -> Result<Outcome, Superseded> {
        if codec != self.codec && !self.change_codec(now, accepted.newest, codec, publication)? {
            // From before a change, or a change too soon after another: the number stays a gap.
            return Ok(Outcome::Useless);
        }
        let Some(number) = self.numbers.media(accepted.seq) else { return Ok(Outcome::Useless) };
        let time_ticks = self.time.extend(now, packet.timestamp);
        let mark = self.marker.inspect(self.accepted().codec, number, time_ticks, &packet.payload);
        if let Some(profile) = mark.profile.filter(|_| accepted.newest) {
            self.change_profile(now, profile, publication)?;
        }
        if self.is_video() {
            if mark.keyframe_start {
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
        if !self.clock_known {
            self.clock_known = true;
            self.clock = Some(ClockReference { at: now, time_ticks });
        }
        // A copy: packets are kept for seconds, and must not keep the receive buffer they came in.
        let payload = Bytes::copy_from_slice(&packet.payload);
        self.collect(now, number, time_ticks, packet.marker, mark.keyframe_start, payload, publication)?;
        Ok(Outcome::Taken)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of a track packet, and where it goes")]
    fn collect(
        &mut self,
        now: Instant,
        seq: ExtendedSeq,
        time_ticks: u64,
        marker: bool,
        keyframe_start: bool,
        payload: Bytes,
        publication: &mut Publication,
    ) -> Result<(), Superseded> {
        self.batch.push(Arc::new(TrackPacket { seq, time_ticks, arrival: now, marker, keyframe_start, payload }));
        if self.batch.len() >= BATCH_PACKETS_MAX { self.flush(now, publication) } else { Ok(()) }
    }

    /// Hands the batch to the tree at once.
    fn flush(&mut self, now: Instant, publication: &mut Publication) -> Result<(), Superseded> {
        let batch = self.take_batch(publication)?;
        publication.push(now, batch.into_iter().collect())
    }

    /// What was collected, for the tree; it is told the clock before it, if that was measured anew.
    pub(super) fn take_batch(&mut self, publication: &mut Publication) -> Result<Option<Batch>, Superseded> {
        if let Some(clock) = self.clock.take() {
            publication.set_clock(self.index, clock)?;
        }
        let packets = std::mem::take(&mut self.batch);
        Ok((!packets.is_empty()).then_some(Batch { track: self.index, layer: LAYER, packets }))
    }

    /// The newest packet has another codec. False when that is not believed.
    fn change_codec(
        &mut self,
        now: Instant,
        newest: bool,
        codec: usize,
        publication: &mut Publication,
    ) -> Result<bool, Superseded> {
        let Some(accepted) = self.codecs.get(codec).filter(|_| newest) else { return Ok(false) };
        let format = format_of(accepted);
        if !self.change_format(now, format, publication)? {
            return Ok(false);
        }
        self.codec = codec;
        self.marker = KeyframeMarker::default();
        if self.is_video() {
            self.wish = KeyframeWish::default();
        }
        Ok(true)
    }

    /// A parameter set names a profile that the format does not cover.
    fn change_profile(
        &mut self,
        now: Instant,
        profile: ProfileLevelId,
        publication: &mut Publication,
    ) -> Result<(), Superseded> {
        debug_assert_eq!(self.format.codec, Codec::H264);
        if let Some(fmtp) = with_profile(&self.format.fmtp, profile) {
            let format = TrackFormat { fmtp, ..self.format.clone() };
            self.change_format(now, format, publication)?;
        }
        Ok(())
    }

    fn change_format(
        &mut self,
        now: Instant,
        format: TrackFormat,
        publication: &mut Publication,
    ) -> Result<bool, Superseded> {
        if self.format_changed.is_some_and(|changed| now < changed + FORMAT_CHANGE_INTERVAL) {
            return Ok(false);
        }
        if format != self.format {
            // What was collected belongs to the format before.
            self.flush(now, publication)?;
            publication.set_format(self.index, format.clone())?;
            self.format = format;
            self.format_changed = Some(now);
        }
        Ok(true)
    }

    /// The source's sender report came. Returns the report's moment if it is one to go by.
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
}
