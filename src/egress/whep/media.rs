//! One outgoing RTP stream of a viewer, with its retransmissions.

use std::time::{Duration, Instant};

use arrayvec::ArrayVec;
use sluice_signaling::{
    media_plane::{LayerChoice, SenderIds},
    sdp::NegotiatedMedia,
};

use super::{
    Output, SenderSettings,
    choice::choose,
    extensions::{Extensions, SaysMid},
    pace::Pace,
    resend::ResendBudget,
    undecodable::Undecodable,
    wire::{DatagramOut, SEGMENTS_MAX, Sent, Wire},
};
use crate::{
    media::{ExtendedSeq, MediaKind},
    rtp::rtcp::{NtpTime, SenderReport, write_cname, write_sender_report},
    track::{LayerIndex, LayerSet, Outgoing, Phase, Replica, ReplicaTrack, Run, Subscription, SwitchWait, TrackPacket},
    transport::SrtpSealer,
};

/// One mending from the cache is given this long to reach the viewer before a further request goes to the publisher.
const MEND_INTERVAL: Duration = Duration::from_secs(2);
/// A keyframe to switch layers at is asked for again after this: the request may have been lost, or the keyframe.
const SWITCH_ASK_INTERVAL: Duration = Duration::from_secs(1);
/// Squeezed pictures can be asked for again this long after the live edge was reached.
const SQUEEZED_KEPT: Duration = Duration::from_secs(3);

/// Random beginnings of an RTP stream (RFC 3550 section 5.1).
#[derive(Debug, Clone, Copy)]
pub struct StreamNumbers {
    pub first_seq: u16,
    pub first_rtx_seq: u16,
    pub time_offset_ticks: u32,
}

/// The viewer's payload types for what the track carries.
#[derive(Debug, Clone, Copy)]
struct PayloadTypes {
    media: u8,
    rtx: Option<u8>,
}

/// What one round of one stream did.
#[derive(Debug, Clone, Copy, Default)]
pub struct Part {
    pub sent: Sent,
    pub backlog: bool,
    /// A keyframe's first packet went out.
    pub keyframe: bool,
    /// The layer that the publisher is to be asked for a keyframe of.
    pub wants_keyframe: Option<LayerIndex>,
}

#[derive(Debug)]
pub struct SenderMedia {
    ids: SenderIds,
    section: NegotiatedMedia,
    /// The run that `payload_types` was chosen for.
    chosen_for: Option<Run>,
    /// None: the viewer cannot decode what the track carries.
    payload_types: Option<PayloadTypes>,
    extensions: Extensions,
    says_mid: SaysMid,
    /// Of the current publication.
    sound_lags: bool,
    choice: LayerChoice,
    subscription: Subscription,
    /// When a keyframe was last asked for to switch at.
    switch_asked: Option<(LayerIndex, Instant)>,
    /// Numbers of the retransmission stream, widened for its seal.
    next_rtx: ExtendedSeq,
    rtx_says_mid: SaysMid,
    budget: ResendBudget,
    last_mended: Option<Instant>,
    live_since: Option<Instant>,
    packets: u32,
    payload_bytes: u32,
}

impl SenderMedia {
    pub fn new(
        now: Instant,
        section: &NegotiatedMedia,
        ids: SenderIds,
        numbers: StreamNumbers,
        settings: SenderSettings,
    ) -> Self {
        let subscription = Subscription::new(section.kind, numbers.first_seq, numbers.time_offset_ticks);
        let next_rtx = ExtendedSeq(u64::from(numbers.first_rtx_seq & 0x7fff));
        Self {
            ids,
            section: section.clone(),
            chosen_for: None,
            payload_types: None,
            extensions: Extensions::new(now, &section.extensions, &section.mid, settings.playout_delay_max_ms),
            says_mid: SaysMid::from(subscription.next_out()),
            sound_lags: false,
            choice: LayerChoice::Automatic,
            switch_asked: None,
            subscription,
            rtx_says_mid: SaysMid::from(next_rtx),
            next_rtx,
            budget: ResendBudget::default(),
            last_mended: None,
            live_since: None,
            packets: 0,
            payload_bytes: 0,
        }
    }

    pub fn kind(&self) -> MediaKind {
        self.subscription.kind()
    }

    pub fn ssrc(&self) -> u32 {
        self.ids.ssrc
    }

    pub fn is_started(&self) -> bool {
        self.subscription.phase() != Phase::Waiting
    }

    pub fn is_catching_up(&self) -> bool {
        self.subscription.phase() == Phase::CatchingUp
    }

    /// Takes effect with the next [`Self::follow`].
    pub fn choose(&mut self, choice: LayerChoice) {
        self.choice = choice;
        self.switch_asked = None;
    }

    pub fn layer(&self) -> LayerIndex {
        self.subscription.layer()
    }

    /// See [`Subscription::layers_needed`].
    pub fn layers_needed(&self, now: Instant) -> LayerSet {
        self.subscription.layers_needed(now)
    }

    /// The viewer reports on this SSRC, if it is one of the stream's: it knows by now where packets of it belong.
    pub fn acknowledged(&mut self, ssrc: u32) {
        if ssrc == self.ids.ssrc {
            self.says_mid.acknowledged(self.subscription.next_out());
        } else if Some(ssrc) == self.ids.rtx_ssrc {
            self.rtx_says_mid.acknowledged(self.next_rtx);
        }
    }

    pub fn measured_rtt(&mut self, rtt: Duration) {
        self.budget.measured_rtt(rtt);
    }

    /// The formats that the viewer cannot decode are given once each: what the track carries, and what it could have.
    pub fn follow(&mut self, now: Instant, replica: &Replica, instant_join: bool) -> Option<Undecodable> {
        self.sound_lags = replica.sound_lags();
        let track = replica.track(self.kind())?;
        let run = track.any_run()?;
        let is_news = !self.chosen_for.is_some_and(|chosen_for| chosen_for.has_format_of(run));
        if is_news {
            self.choose_payload_types(run, track);
        }
        if self.payload_types.is_some() {
            self.subscription.follow(now, track, choose(&self.choice, track), instant_join);
            return None;
        }
        is_news.then(|| Undecodable::new(track.format(), Some(&self.section)))
    }

    fn choose_payload_types(&mut self, run: Run, track: &ReplicaTrack) {
        self.chosen_for = Some(run);
        self.payload_types = self.section.best_for(track.format()).map(|accepted| PayloadTypes {
            media: accepted.payload_type,
            rtx: accepted.rtx_payload_type.filter(|_| self.ids.rtx_ssrc.is_some()),
        });
    }

    /// The most that the next packet takes on the wire; `None` when there is none.
    pub fn next_bytes_max(&self, now: Instant, track: &ReplicaTrack, sealer: &SrtpSealer) -> Option<usize> {
        Some(self.wire(now, sealer)?.packet_bytes_max(self.subscription.peek(track)?, self.subscription.next_out()))
    }

    /// Sends what is due. `follows`: a datagram of so many bytes at most will be sent right after.
    pub fn send(
        &mut self,
        now: Instant,
        track: &ReplicaTrack,
        follows: Option<usize>,
        pace: &mut Pace,
        output: &mut Output<'_, impl DatagramOut>,
    ) -> Part {
        let mut part = Part::default();
        let Some(wire) = self.wire(now, output.sealer) else { return part };
        loop {
            let mut run = ArrayVec::<(&TrackPacket, Outgoing), SEGMENTS_MAX>::new();
            while !run.is_full() {
                let wait = self.subscription.switch(now, track);
                if self.subscription.peek(track).is_none() {
                    part.wants_keyframe = part.wants_keyframe.or_else(|| self.asks_to_switch(now, wait));
                    break;
                }
                // Sound is small and its delay is heard: it is never held back.
                if !pace.allows() && self.kind() == MediaKind::Video {
                    part.backlog = true;
                    break;
                }
                let Some((packet, outgoing)) = self.subscription.take(now, track) else { break };
                pace.spend(wire.packet_bytes(packet, &outgoing));
                part.keyframe |= packet.keyframe_start;
                run.push((packet, outgoing));
            }
            if run.is_empty() {
                break;
            }
            let follows = follows.filter(|_| !run.is_full());
            part.sent.add(wire.send(&run, follows, output.scratch, output.out));
            if part.backlog {
                break;
            }
        }
        self.count(part.sent);
        self.forget_squeezed(now);
        part
    }

    pub fn send_late(
        &mut self,
        now: Instant,
        track: &ReplicaTrack,
        layer: LayerIndex,
        late: ExtendedSeq,
        output: &mut Output<'_, impl DatagramOut>,
    ) -> Sent {
        let Some(wire) = self.wire(now, output.sealer) else { return Sent::default() };
        let Some((packet, outgoing)) = self.subscription.late(layer, late, track) else { return Sent::default() };
        let sent = wire.send(&[(packet, outgoing)], None, output.scratch, output.out);
        self.count(sent);
        sent
    }

    /// Whether so many pictures are missing, after an outage, that sending them again would take longer than beginning anew, and
    /// that has not just been done.
    pub fn is_broken(
        &self,
        now: Instant,
        missing: impl Iterator<Item = u16>,
        track: &ReplicaTrack,
        sealer: &SrtpSealer,
    ) -> bool {
        if self.kind() == MediaKind::Audio || self.is_catching_up() || self.was_mended(now) {
            return false;
        }
        let Some(wire) = self.wire(now, sealer) else { return false };
        let bytes = |wire_seq| {
            let (packet, outgoing) = self.subscription.sent(wire_seq, track)?;
            Some(wire.packet_bytes(packet, &outgoing) as u64)
        };
        !ResendBudget::could_grant(missing.filter_map(bytes).sum())
    }

    /// Sends a packet again that the viewer misses, if it is still there and the budget has room.
    pub fn resend(
        &mut self,
        now: Instant,
        wire_seq: u16,
        track: &ReplicaTrack,
        output: &mut Output<'_, impl DatagramOut>,
    ) -> Sent {
        let Some((packet, outgoing)) = self.subscription.sent(wire_seq, track) else { return Sent::default() };
        let Some(wire) = self.wire(now, output.sealer) else { return Sent::default() };
        if !self.budget.grant(now, wire_seq, wire.packet_bytes(packet, &outgoing)) {
            return Sent::default();
        }
        let rtx = self.payload_types.and_then(|types| types.rtx).zip(self.ids.rtx_ssrc);
        let Some((payload_type, ssrc)) = rtx else {
            return wire.send(&[(packet, outgoing)], None, output.scratch, output.out);
        };
        let index = self.next_rtx;
        self.next_rtx = self.next_rtx.next();
        let wire = Wire { ssrc, payload_type, says_mid: self.rtx_says_mid, ..wire };
        wire.send_rtx(packet, &outgoing, index, output.scratch, output.out)
    }

    /// Mends a broken picture from the cache; false when that was just tried, or cannot be done.
    pub fn mend(&mut self, now: Instant, track: &ReplicaTrack) -> bool {
        if self.is_catching_up() {
            return true;
        }
        if self.was_mended(now) {
            return false;
        }
        let mended = self.subscription.rejoin(now, track);
        if mended {
            self.last_mended = Some(now);
        }
        mended
    }

    fn was_mended(&self, now: Instant) -> bool {
        self.last_mended.is_some_and(|at| now.saturating_duration_since(at) < MEND_INTERVAL)
    }

    pub fn report(&mut self, now: Instant, ntp: NtpTime, track: &ReplicaTrack, cname: &str, compound: &mut Vec<u8>) {
        if self.packets == 0 {
            return;
        }
        let Some(ticks) = self.subscription.live_time_ticks(now, track) else { return };
        let report = SenderReport {
            ssrc: self.ids.ssrc,
            ntp,
            rtp_time: ticks as u32,
            packets: self.packets,
            bytes: self.payload_bytes,
        };
        write_sender_report(compound, &report, &[]);
        write_cname(compound, self.ids.ssrc, cname);
    }

    /// The layer to ask the publisher about, when a switch waits for its keyframe: once, and again when that was of no use.
    fn asks_to_switch(&mut self, now: Instant, wait: Option<SwitchWait>) -> Option<LayerIndex> {
        let Some(SwitchWait::Keyframe(layer)) = wait else { return None };
        let asked =
            |(of, at): (LayerIndex, Instant)| of == layer && now.saturating_duration_since(at) < SWITCH_ASK_INTERVAL;
        if self.switch_asked.is_some_and(asked) {
            return None;
        }
        self.switch_asked = Some((layer, now));
        Some(layer)
    }

    /// `None` when the viewer cannot decode what the track now carries.
    fn wire<'s>(&self, now: Instant, sealer: &'s SrtpSealer) -> Option<Wire<'s>> {
        let types = self.payload_types?;
        // Without a retransmission stream a packet may be sent again under its own number.
        let is_repeated = types.rtx.is_none();
        Some(Wire {
            now,
            sealer,
            ssrc: self.ids.ssrc,
            payload_type: types.media,
            extensions: if is_repeated { self.extensions.without_send_time() } else { self.extensions },
            says_mid: self.says_mid,
            sound_lags: self.sound_lags,
            pad: !is_repeated,
        })
    }

    fn count(&mut self, sent: Sent) {
        self.packets = self.packets.wrapping_add(sent.packets);
        self.payload_bytes = self.payload_bytes.wrapping_add(sent.payload_bytes);
        self.budget.sent(sent.bytes);
    }

    fn forget_squeezed(&mut self, now: Instant) {
        if !self.subscription.remembers_squeezed() {
            return;
        }
        if self.is_catching_up() {
            self.live_since = None;
            return;
        }
        let since = *self.live_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= SQUEEZED_KEPT {
            self.subscription.forget_squeezed();
            self.live_since = None;
        }
    }
}
