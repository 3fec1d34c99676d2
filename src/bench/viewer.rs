//! One viewer: joins, counts what comes, reports on it. Sans-I/O.
//!
//! Video is decrypted until the first keyframe is recognised; after that headers are enough (they are in clear), unless the
//! viewer is a sampled one, whose payloads tell delays.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sluice_signaling::{
    codec::{Codec, MediaKind},
    ice::IceCredentials,
    sdp::ExtensionIds,
};

use super::{
    answer::{Answer, Payload, Payloads},
    audience::Sample,
    peer::Peer,
    reception::{Counts, Reception},
};
use crate::{
    codec::{av1, h264, hevc, vp8, vp9},
    media::{RTP_HEADER_BYTES, RtpHeader, RtpPacket},
    rtp::rtcp::{Rtcp, RtcpReader, write_cname, write_nack, write_pli, write_receiver_report},
    transport::{Certificate, DatagramKind, Received, classify},
};

/// Receiver reports (RFC 3550 asks for 5 s on average; browsers send one a second).
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// A viewer of this server has one video and one audio stream; each publisher's restart may bring others.
const STREAMS_MAX: usize = 8;

/// When each step of joining was reached.
#[derive(Debug, Clone, Copy, Default)]
pub struct Times {
    pub asked: Option<Instant>,
    pub answered: Option<Instant>,
    pub connected: Option<Instant>,
    pub first_packet: Option<Instant>,
    pub first_keyframe: Option<Instant>,
}

impl Times {
    /// From the POST to a step.
    pub fn until(&self, step: Option<Instant>) -> Option<Duration> {
        Some(step?.saturating_duration_since(self.asked?))
    }
}

pub struct Viewer {
    local: IceCredentials,
    /// Their payloads are looked into.
    sampled: bool,
    nack: bool,
    ssrc: u32,
    session: Option<Session>,
    times: Times,
    failure: Option<String>,
}

/// What there is once the answer has come.
struct Session {
    peer: Peer,
    payloads: Payloads,
    streams: Vec<(MediaKind, Reception)>,
    /// Retransmission packets received.
    repairs: u64,
    next_report: Option<Instant>,
}

impl Viewer {
    pub fn new(local: IceCredentials, sampled: bool, nack: bool) -> Self {
        Self { local, sampled, nack, ssrc: rand::random(), session: None, times: Times::default(), failure: None }
    }

    pub fn times(&self) -> &Times {
        &self.times
    }

    /// Why this viewer does not watch (any more).
    pub fn failure(&self) -> Option<&str> {
        self.failure.as_deref().or_else(|| self.session.as_ref()?.peer.ended())
    }

    pub fn fail(&mut self, asked: Option<Instant>, reason: String) {
        self.times.asked = asked.or(self.times.asked);
        self.failure.get_or_insert(reason);
    }

    /// Media comes, and of video a keyframe.
    pub fn is_playing(&self) -> bool {
        match &self.session {
            Some(session) if session.payloads.has(MediaKind::Video) => self.times.first_keyframe.is_some(),
            Some(_) => self.times.first_packet.is_some(),
            None => false,
        }
    }

    /// How far a viewer came that does not play in time.
    pub fn stuck_at(&self) -> &'static str {
        match &self.times {
            Times { answered: None, .. } => "the endpoint did not answer in time",
            Times { connected: None, .. } if !self.has_path() => {
                "no connectivity check was answered; are the answer's candidates reachable from here (UDP)?"
            }
            Times { connected: None, .. } => "the DTLS handshake did not finish",
            Times { first_packet: None, .. } => "connected, but no media came; is anybody publishing?",
            _ => "media came, but no keyframe",
        }
    }

    fn has_path(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.peer.remote().is_some())
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        self.session.iter().flat_map(|session| &session.streams).for_each(|(_, stream)| counts.add(&stream.counts()));
        counts
    }

    pub fn repairs(&self) -> u64 {
        self.session.as_ref().map_or(0, |session| session.repairs)
    }

    /// The server answered: from now on the viewer has a session.
    ///
    /// # Errors
    /// When it cannot be made; for people.
    pub fn start(
        &mut self,
        asked: Instant,
        answered: Instant,
        answer: &Answer,
        certificate: &Arc<Certificate>,
    ) -> Result<(), String> {
        self.times.asked = Some(asked);
        self.times.answered = Some(answered);
        let peer = Peer::new(answered, self.local.clone(), answer, certificate)?;
        let payloads = answer.payloads.clone();
        self.session = Some(Session { peer, payloads, streams: Vec::new(), repairs: 0, next_report: None });
        Ok(())
    }

    /// Takes a datagram that reached the socket at `arrived`.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        arrived: Instant,
        from: SocketAddr,
        datagram: &[u8],
        sample: &mut Sample,
    ) {
        let Some(session) = &mut self.session else { return };
        if classify(datagram) == DatagramKind::Rtp {
            if session.peer.is_connected() {
                self.rtp(now, arrived, from, datagram, sample);
            }
            return;
        }
        if let Received::Rtcp(compound) = session.peer.handle_datagram(now, from, datagram) {
            session.rtcp(now, &compound);
        }
        if session.peer.is_connected() && self.times.connected.is_none() {
            self.times.connected = Some(now);
            session.next_report = Some(now + REPORT_INTERVAL / 2);
        }
    }

    fn rtp(&mut self, now: Instant, arrived: Instant, from: SocketAddr, datagram: &[u8], sample: &mut Sample) {
        let Some(session) = &mut self.session else { return };
        let Some(header) = peek(datagram) else { return };
        let codec = match session.payloads.get(header.payload_type) {
            Some(Payload::Media(codec)) => codec,
            Some(Payload::Repair) => {
                session.repairs += 1;
                if self.nack {
                    session.repair(now, from, datagram);
                }
                return;
            }
            None => return,
        };
        let first_packet = *self.times.first_packet.get_or_insert(arrived);
        let kind = codec.kind();
        let Some(stream) = session.stream(kind, header.ssrc, codec.clock_rate_hz()) else { return };
        // The jitter's clock starts with the first packet; one that the kernel stamped earlier counts as its equal.
        stream.note(&header, datagram.len(), now, arrived.saturating_duration_since(first_packet), self.nack);
        if self.sampled {
            sample.note_shape(self.ssrc, kind, &header, datagram.len());
        }
        let wants_keyframe = kind == MediaKind::Video && self.times.first_keyframe.is_none();
        let wants_payload = wants_keyframe || self.sampled && sample.is_open();
        if !wants_payload {
            return;
        }
        let Some(payload) = session.open(now, from, datagram) else { return };
        if wants_keyframe && starts_keyframe(codec, &payload) {
            self.times.first_keyframe = Some(arrived);
        }
        if self.sampled && kind == MediaKind::Video {
            sample.note_payload(&payload, arrived);
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let no_keyframe = self.times.first_keyframe.is_none();
        let (ssrc, nack) = (self.ssrc, self.nack);
        let Some(session) = &mut self.session else { return };
        session.peer.handle_timeout(now);
        if session.next_report.is_some_and(|due| due <= now) {
            session.next_report = Some(now + REPORT_INTERVAL);
            session.report(now, ssrc, no_keyframe);
        }
        if nack {
            session.ask_again(now, ssrc);
        }
    }

    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        self.session.as_mut()?.peer.poll_transmit()
    }

    pub fn close(&mut self, now: Instant) {
        if let Some(session) = &mut self.session {
            session.peer.close(now);
        }
    }
}

impl Session {
    /// The stream's reception; `None` for more streams than any server sends.
    fn stream(&mut self, kind: MediaKind, ssrc: u32, clock_rate_hz: u32) -> Option<&mut Reception> {
        let at = match self.streams.iter().position(|(_, stream)| stream.ssrc() == ssrc) {
            Some(at) => at,
            None if self.streams.len() < STREAMS_MAX => {
                self.streams.push((kind, Reception::new(ssrc, clock_rate_hz)));
                self.streams.len() - 1
            }
            None => return None,
        };
        self.streams.get_mut(at).map(|(_, stream)| stream)
    }

    /// The decrypted payload.
    fn open(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Bytes> {
        match self.peer.handle_datagram(now, from, datagram) {
            Received::Rtp(packet) => {
                RtpPacket::parse(packet, &ExtensionIds::default()).ok().map(|packet| packet.payload)
            }
            _ => None,
        }
    }

    /// A retransmission begins with the number it had first (RFC 4588 section 4); only video has them here.
    fn repair(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        let Some(payload) = self.open(now, from, datagram) else { return };
        let video = self.streams.iter_mut().rev().find(|(kind, _)| *kind == MediaKind::Video);
        if let (Some(number), Some((_, stream))) = (payload.first_chunk(), video) {
            stream.note_sequence(u16::from_be_bytes(*number), now, true);
        }
    }

    fn rtcp(&mut self, now: Instant, compound: &[u8]) {
        for part in RtcpReader::new(compound) {
            if let Rtcp::SenderReport(report) = part
                && let Some((_, stream)) = self.streams.iter_mut().find(|(_, stream)| stream.ssrc() == report.ssrc)
            {
                stream.note_sender_report(report.ntp, now);
            }
        }
    }

    fn report(&mut self, now: Instant, ssrc: u32, no_keyframe: bool) {
        let blocks: Vec<_> = self.streams.iter_mut().map(|(_, stream)| stream.report(now)).collect();
        let mut compound = Vec::with_capacity(128);
        write_receiver_report(&mut compound, ssrc, &blocks);
        write_cname(&mut compound, ssrc, "bench");
        if let Some((_, video)) = self.streams.iter().rfind(|(kind, _)| no_keyframe && *kind == MediaKind::Video) {
            write_pli(&mut compound, ssrc, video.ssrc());
        }
        self.peer.send_rtcp(&compound);
    }

    fn ask_again(&mut self, now: Instant, ssrc: u32) {
        for (kind, stream) in &mut self.streams {
            let missing = if *kind == MediaKind::Video { stream.missing(now) } else { Vec::new() };
            if !missing.is_empty() {
                let mut nack = Vec::with_capacity(64);
                write_nack(&mut nack, ssrc, stream.ssrc(), &missing);
                self.peer.send_rtcp(&nack);
            }
        }
    }
}

/// The fixed header, which SRTP leaves in clear.
fn peek(datagram: &[u8]) -> Option<RtpHeader> {
    let header: &[u8; RTP_HEADER_BYTES] = datagram.first_chunk()?;
    let [_, marked, s0, s1, t0, t1, t2, t3, ssrc @ ..] = *header;
    Some(RtpHeader {
        marker: marked & 0x80 != 0,
        payload_type: marked & 0x7f,
        sequence: u16::from_be_bytes([s0, s1]),
        timestamp: u32::from_be_bytes([t0, t1, t2, t3]),
        ssrc: u32::from_be_bytes(ssrc),
    })
}

fn starts_keyframe(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264::depacketize::inspect(payload).idr,
        Codec::Hevc => hevc::inspect(payload).random_access,
        Codec::Vp8 => vp8::starts_keyframe(payload),
        Codec::Vp9 => vp9::starts_keyframe(payload),
        Codec::Av1 => av1::starts_keyframe(payload),
        Codec::Opus => false,
    }
}
