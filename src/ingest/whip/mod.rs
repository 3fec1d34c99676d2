//! The receiving side of a WebRTC publisher: decrypted RTP and RTCP in, packets for the track tree and RTCP for the
//! publisher out. Sans-I/O.
//!
//! Packets are handed on at once, in order of arrival; gaps are asked for by NACK (RFC 4585) and filled when the answer
//! comes, as RTX (RFC 4588) or as it was. There is no jitter buffer: viewers have one. Simulcast layers (RFC 8853) are
//! received each for itself. Transport-wide feedback and receiver reports (RFC 3550) tell the publisher how it is received.
//!
//! The driver's contract, for [`WhipReceiver`]:
//! 1. for each decrypted packet of a drained socket: [`WhipReceiver::handle_rtp`] or [`WhipReceiver::handle_rtcp`];
//! 2. then [`WhipReceiver::flush`]; its error ends the session;
//! 3. when [`WhipReceiver::poll_timeout`]'s time has come: [`WhipReceiver::handle_timeout`];
//! 4. after 2 and 3: [`WhipReceiver::poll_rtcp`] until it returns `None`, sealing and sending each; then
//!    [`WhipReceiver::poll_timeout`] again.
//!
//! Keyframes that ingest needs itself are wished for through the stream's gate, like those of viewers; the worker brings
//! them back as [`WhipReceiver::request_keyframe`].

mod clock;
mod feedback;
mod format;
mod keyframe_wish;
mod keyframes;
mod layer;
mod route;
mod source;
#[cfg(test)]
mod tests;
mod timeline;
mod track;

use std::time::{Instant, SystemTime};

use bytes::{Buf, Bytes};
use sluice_signaling::sdp::{ExtensionIds, Negotiated, NegotiatedMedia};

use self::{
    clock::SenderClock,
    feedback::Feedback,
    layer::IngestLayer,
    route::{Content, Route, Router},
    source::Source,
    track::{Incoming, IngestTrack, Outcome},
};
use crate::{
    media::RtpPacket,
    rtp::rtcp::{Rtcp, RtcpReader, SenderReport},
    track::{LayerIndex, PAYLOAD_BYTES_MAX, Publication, Superseded, TrackIndex},
};

/// What happened since the last call of [`WhipReceiver::counters`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ReceiverCounters {
    /// RTP packets received, of any kind, and their bytes, decrypted.
    pub packets: u64,
    pub bytes: u64,
    /// Of those: no RTP, or of no section that was agreed on.
    pub unusable: u64,
    /// Of those: doubles, strays, and what says of no layer in simulcast.
    pub useless: u64,
    /// Of those: retransmissions (RTX) that filled a gap.
    pub recovered: u64,
    /// Packets asked for again.
    pub nacks_sent: u64,
    /// Keyframe requests, PLI or FIR.
    pub plis_sent: u64,
    /// Packets given up for lost.
    pub lost: u64,
}

/// One publishing session's receiver.
pub struct WhipReceiver {
    publication: Publication,
    tracks: Vec<IngestTrack>,
    router: Router,
    /// All sections': bundled sections agree on what an id means (RFC 9143 section 9.1).
    extensions: ExtensionIds,
    clock: SenderClock,
    feedback: Feedback,
    counters: ReceiverCounters,
    /// Another publisher has the stream: nothing is of use any more.
    superseded: bool,
}

impl WhipReceiver {
    /// Adds a track per accepted section to the publication. `time_of_day` is what it is `now`.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream already.
    pub fn new(
        now: Instant,
        time_of_day: SystemTime,
        media: &Negotiated,
        mut publication: Publication,
    ) -> Result<Self, Superseded> {
        let mut tracks = Vec::new();
        let mut sections = Vec::new();
        for (at, section) in media.media.iter().enumerate() {
            // Negotiation leaves one of a kind; a second one would have no place.
            if sections.iter().any(|taken: &NegotiatedMedia| taken.kind == section.kind) {
                tracing::debug!(section = at, kind = section.kind.as_str(), "a second section of its kind is ignored");
                continue;
            }
            if let Some(track) = IngestTrack::new(section, &mut publication)? {
                tracks.push(track);
                sections.push(section.clone());
            }
        }
        let feedback = Feedback::new(now, &sections);
        let extensions = sections.iter().fold(ExtensionIds::default(), |all, section| merge(all, section.extensions));
        Ok(Self {
            publication,
            tracks,
            router: Router::new(sections),
            extensions,
            clock: SenderClock::new(now, time_of_day),
            feedback,
            counters: ReceiverCounters::default(),
            superseded: false,
        })
    }

    /// A decrypted RTP packet. What is no RTP packet, or of no section, is counted and dropped.
    pub fn handle_rtp(&mut self, now: Instant, packet: Bytes) {
        self.counters.packets += 1;
        self.counters.bytes += packet.len() as u64;
        let packet = RtpPacket::parse(packet, &self.extensions).ok();
        let Some(packet) = packet.filter(|packet| packet.payload.len() <= PAYLOAD_BYTES_MAX) else {
            self.counters.unusable += 1;
            return;
        };
        if let Some(transport_sequence) = packet.extensions.transport_sequence {
            self.feedback.arrived(now, packet.header.ssrc, transport_sequence);
        }
        let Some(route) = self.router.route(now, &packet) else {
            self.counters.unusable += 1;
            return;
        };
        match self.deliver(now, route, packet) {
            Ok(Outcome::Taken) => self.feedback.begin(now),
            Ok(Outcome::Useless) => self.counters.useless += 1,
            Err(Superseded) => self.superseded = true,
        }
    }

    fn deliver(&mut self, now: Instant, route: Route, packet: RtpPacket) -> Result<Outcome, Superseded> {
        let track = &mut self.tracks[route.track];
        let header = packet.header;
        let mut incoming = Incoming {
            sequence: header.sequence,
            timestamp: header.timestamp,
            marker: header.marker,
            codec: None,
            capture: packet.extensions.abs_capture_time,
            payload: packet.payload,
            repaired: false,
        };
        let rid = route.rid.as_ref();
        match route.content {
            Content::Media { codec } => {
                incoming.codec = Some(codec);
                track.receive(now, header.ssrc, rid, incoming, &mut self.publication)
            }
            Content::Unknown => track.receive(now, header.ssrc, rid, incoming, &mut self.publication),
            Content::Repair { codec } => {
                // The original sequence number comes before the original payload (RFC 4588 section 4); without it, the
                // packet is a probe on the retransmission stream, which nobody else sees.
                let Ok(sequence) = incoming.payload.try_get_u16() else { return Ok(Outcome::Useless) };
                (incoming.sequence, incoming.codec, incoming.repaired) = (sequence, Some(codec), true);
                let outcome = track.repair(now, rid, incoming, &mut self.publication)?;
                self.counters.recovered += u64::from(outcome == Outcome::Taken);
                Ok(outcome)
            }
        }
    }

    /// A decrypted RTCP compound: sender reports become clock references, a goodbye frees its layer for another SSRC.
    pub fn handle_rtcp(&mut self, now: Instant, compound: Bytes) {
        for meaning in RtcpReader::new(&compound) {
            match meaning {
                Rtcp::SenderReport(report) => self.sender_report(now, &report),
                Rtcp::Bye { ssrc } => self.goodbye(ssrc),
                _ => {}
            }
        }
    }

    fn goodbye(&mut self, ssrc: u32) {
        for track in &mut self.tracks {
            let (index, is_simulcast) = (track.index, track.is_simulcast());
            let Some((layer, source)) = of_source(track, ssrc) else { continue };
            source.goodbye();
            if is_simulcast && self.publication.stop_layer(index, layer).is_err() {
                self.superseded = true;
            }
        }
    }

    fn sender_report(&mut self, now: Instant, report: &SenderReport) {
        let is_of = |layer: &&mut IngestLayer| layer.source.as_ref().is_some_and(|source| source.ssrc == report.ssrc);
        let Some(layer) = self.tracks.iter_mut().flat_map(|track| &mut track.layers).find(is_of) else { return };
        if !layer.sender_report(now, report.ntp, report.rtp_time) {
            return;
        }
        if self.clock.observe(now, report.ntp) {
            for layer in self.tracks.iter_mut().flat_map(|track| &mut track.layers) {
                layer.refer_to(&self.clock);
            }
        } else {
            layer.refer_to(&self.clock);
        }
    }

    /// The socket is drained: what was collected goes to the tree.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream; the session is to be ended.
    pub fn flush(&mut self, now: Instant) -> Result<(), Superseded> {
        if self.superseded {
            return Err(Superseded);
        }
        let mut batches = Vec::with_capacity(self.tracks.iter().map(|track| track.layers.len()).sum());
        for track in &mut self.tracks {
            track.take_batches(&mut self.publication, &mut batches)?;
        }
        self.publication.push(now, batches)?;
        self.wish_for_keyframes(now);
        Ok(())
    }

    /// Somebody needs a keyframe of this layer, and it is time to ask (the stream's gate decides that).
    pub fn request_keyframe(&mut self, now: Instant, track: TrackIndex, layer: LayerIndex) {
        let of_track = self.tracks.iter_mut().find(|candidate| candidate.index == track);
        if let Some(layer) = of_track.and_then(|track| track.layers.get_mut(usize::from(layer.0))) {
            layer.keyframe_wanted.get_or_insert(now);
        }
    }

    /// RTCP to seal and send, a full compound of at most [`RTCP_BYTES_MAX`] bytes.
    pub fn poll_rtcp(&mut self, now: Instant) -> Option<Bytes> {
        self.feedback.poll(now, &mut self.tracks, &mut self.counters)
    }

    /// When [`Self::handle_timeout`] is to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let layers = self.tracks.iter().flat_map(|track| &track.layers);
        let wishes = layers.filter_map(|layer| layer.wish.next_due());
        wishes.chain(self.feedback.next_due(&self.tracks)).min()
    }

    /// Time has passed. [`Self::poll_rtcp`] has what comes of it.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.wish_for_keyframes(now);
    }

    /// A layer that is broken and that nobody watches stays so: its keyframe would cost the publisher's link and help nobody. Whoever comes
    /// to watch it asks at once. The first keyframe is always asked for, since it tells a layer's size.
    fn wish_for_keyframes(&mut self, now: Instant) {
        for track in &mut self.tracks {
            for layer in track.layers.iter_mut().filter_map(|layer| layer.wish.poll(now).then_some(layer)) {
                let always = !layer.wish.was_ever_granted();
                self.publication.wish_for_keyframe(now, track.index, layer.index, always);
            }
        }
    }

    /// What happened since the last call.
    pub fn counters(&mut self) -> ReceiverCounters {
        for layer in self.tracks.iter_mut().flat_map(|track| &mut track.layers) {
            self.counters.lost += std::mem::take(&mut layer.lost);
        }
        std::mem::take(&mut self.counters)
    }
}

pub use feedback::RTCP_BYTES_MAX;

/// The layer that comes from an SSRC.
fn of_source(track: &mut IngestTrack, ssrc: u32) -> Option<(LayerIndex, &mut Source)> {
    let layers = track.layers.iter_mut();
    let mut sources = layers.filter_map(|layer| Some((layer.index, layer.source.as_mut()?)));
    sources.find(|(_, source)| source.ssrc == ssrc)
}

fn merge(a: ExtensionIds, b: ExtensionIds) -> ExtensionIds {
    ExtensionIds {
        mid: a.mid.or(b.mid),
        rid: a.rid.or(b.rid),
        repaired_rid: a.repaired_rid.or(b.repaired_rid),
        abs_send_time: a.abs_send_time.or(b.abs_send_time),
        transport_cc: a.transport_cc.or(b.transport_cc),
        playout_delay: a.playout_delay.or(b.playout_delay),
        abs_capture_time: a.abs_capture_time.or(b.abs_capture_time),
    }
}
