//! The answer's text (RFC 9429 section 5.3.1), for an ICE-lite agent with all media on one transport.

use std::fmt::Write;

use super::{
    AcceptedCodec, CandidateTransport, IceCandidate, MediaOffer, MediaSection, Negotiated, NegotiatedMedia,
    attribute as attr,
};
use crate::{
    codec::MediaKind,
    media_plane::{Direction, SenderIds, TransportParams},
    name::SessionId,
};

/// The canonical name of all that a session sends, in SDP and in RTCP (RFC 3550 section 6.5.1): players sync what shares it.
pub fn cname(session: SessionId) -> String {
    session.0.simple().to_string()
}

/// Writes the answer. `negotiated` has one entry per audio or video section of the offer; sections of other media, and entries
/// without codecs, are declined with port 0.
pub fn answer(offer: &MediaOffer, direction: Direction, negotiated: &Negotiated, params: &TransportParams) -> String {
    let mut out = Sdp::default();
    out.line("v=0");
    out.origin(params.session);
    out.line("s=-");
    out.line("t=0 0");
    let accepted: Vec<&NegotiatedMedia> = negotiated.media.iter().filter(|media| media.is_accepted()).collect();
    // In the offer's order of the group: its first accepted one is the tagged section (RFC 9143 section 7.3.1).
    let grouped = || offer.bundle.iter().filter(|mid| accepted.iter().any(|media| media.mid == **mid));
    if grouped().next().is_some() {
        let mids: Vec<&str> = grouped().map(String::as_str).collect();
        out.line(format_args!("a=group:BUNDLE {}", mids.join(" ")));
    }
    ICE_LINES.iter().for_each(|line| out.line(line));
    let tagged = grouped().next().or(accepted.first().map(|media| &media.mid));
    let mut media = negotiated.media.iter();
    let mut senders = params.senders.iter();
    for section in &offer.sections {
        let agreed = section.kind.and_then(|_| media.next()).filter(|media| media.is_accepted());
        match agreed {
            None => out.declined(section),
            Some(agreed) => {
                out.head(section, agreed, direction);
                out.transport(params, tagged == Some(&agreed.mid));
                out.codecs(agreed, section);
                if let (Direction::Egress, Some(ids)) = (direction, senders.next()) {
                    out.sender(params.session, agreed.kind, *ids);
                }
            }
        }
    }
    out.0
}

/// Our candidates as `a=candidate` lines without their ends (RFC 8839 section 5.1).
pub(crate) fn candidate_lines(candidates: &[IceCandidate]) -> impl Iterator<Item = String> {
    // UDP first: ffmpeg's whip muxer tries nothing but the first one it can use.
    let mut candidates = candidates.to_vec();
    candidates.sort_by_key(|candidate| candidate.transport != CandidateTransport::Udp);
    candidates.into_iter().enumerate().map(|(index, candidate)| {
        let (transport, tcptype) = match candidate.transport {
            CandidateTransport::Udp => ("udp", ""),
            CandidateTransport::TcpPassive => ("tcp", " tcptype passive"),
            CandidateTransport::TcpActive => ("tcp", " tcptype active"),
        };
        // One foundation each: a lite agent has no checks that foundations could order.
        let foundation = index + 1;
        let IceCandidate { priority, ip, port, .. } = candidate;
        format!("a=candidate:{foundation} 1 {transport} {priority} {ip} {port} typ host{tcptype}")
    })
}

/// What ours is: lite, and with the options of RFC 8840 and RFC 8445, in the answer and after every restart alike.
pub(crate) const ICE_LINES: [&str; 2] = ["a=ice-lite", "a=ice-options:trickle ice2"];

/// The text so far.
#[derive(Default)]
pub(super) struct Sdp(String);

impl Sdp {
    pub(super) fn into_text(self) -> String {
        self.0
    }

    pub(super) fn line(&mut self, line: impl std::fmt::Display) {
        // Writing to a string cannot fail.
        let _ = write!(self.0, "{line}\r\n");
    }

    /// A session id of 63 bits (RFC 9429 section 5.2.1), out of the random ones of ours.
    pub(super) fn origin(&mut self, session: SessionId) {
        self.line(format_args!("o=- {} 1 IN IP4 127.0.0.1", session.0.as_u128() >> 65));
    }

    /// Port 0, and the least that a section must have (RFC 3264 section 6).
    fn declined(&mut self, section: &MediaSection) {
        let format = section.formats.first().map_or("0", String::as_str);
        self.line(format_args!("m={} 0 {} {format}", section.media, section.protocol));
        self.line("c=IN IP4 0.0.0.0");
        if !section.mid.is_empty() {
            self.line(format_args!("a=mid:{}", section.mid));
        }
        self.line("a=inactive");
    }

    pub(super) fn head(&mut self, section: &MediaSection, agreed: &NegotiatedMedia, direction: Direction) {
        let mut formats = String::new();
        for codec in &agreed.codecs {
            for payload_type in std::iter::once(codec.payload_type).chain(codec.rtx_payload_type) {
                let _ = write!(formats, " {payload_type}");
            }
        }
        self.line(format_args!("m={} 9 {}{formats}", section.media, section.protocol));
        self.line("c=IN IP4 0.0.0.0");
        if !agreed.mid.is_empty() {
            self.line(format_args!("a=mid:{}", agreed.mid));
        }
        self.line(match direction {
            Direction::Ingest => "a=recvonly",
            Direction::Egress => "a=sendonly",
        });
        self.line("a=rtcp-mux");
        // RFC 9725 section 4.4.1.
        self.line("a=rtcp-mux-only");
        if section.rtcp_rsize {
            self.line("a=rtcp-rsize");
        }
    }

    /// ICE and DTLS, in every section for clients that look only at one; candidates where the transport is.
    pub(super) fn transport(&mut self, params: &TransportParams, tagged: bool) {
        self.line(format_args!("a=ice-ufrag:{}", params.ice.ufrag));
        self.line(format_args!("a=ice-pwd:{}", params.ice.pwd));
        self.line(format_args!("a=fingerprint:{}", params.fingerprint));
        self.line(format_args!("a=setup:{}", params.setup.as_str()));
        if !tagged {
            return;
        }
        for line in candidate_lines(&params.candidates) {
            self.line(line);
        }
        self.line("a=end-of-candidates");
    }

    pub(super) fn codecs(&mut self, agreed: &NegotiatedMedia, section: &MediaSection) {
        let ids = &agreed.extensions;
        for (id, uri) in [
            (ids.mid, attr::MID_URI),
            (ids.rid, attr::RID_URI),
            (ids.repaired_rid, attr::REPAIRED_RID_URI),
            (ids.abs_send_time, attr::ABS_SEND_TIME_URI),
            (ids.transport_cc, attr::TRANSPORT_CC_URI),
            (ids.playout_delay, attr::PLAYOUT_DELAY_URI),
            (ids.abs_capture_time, attr::ABS_CAPTURE_TIME_URI),
        ] {
            if let Some(id) = id {
                self.line(format_args!("a=extmap:{id} {uri}"));
            }
        }
        for codec in &agreed.codecs {
            let rate = codec.codec.clock_rate_hz();
            // The name as the offer writes it: some peers compare with regard to case.
            let offered = section.codecs.iter().find(|offered| offered.payload_type == codec.payload_type);
            let name = offered.map_or(codec.codec.sdp_name(), |offered| offered.name.as_str());
            match codec.channels {
                0 | 1 => self.line(format_args!("a=rtpmap:{} {name}/{rate}", codec.payload_type)),
                channels => self.line(format_args!("a=rtpmap:{} {name}/{rate}/{channels}", codec.payload_type)),
            }
            self.codec_details(codec, rate);
        }
        self.layers(agreed, section);
    }

    /// The layers we receive (RFC 8853 section 5.3.2), with the restrictions they were offered with: an answer may not loosen them
    /// (RFC 8851 section 6.3).
    fn layers(&mut self, agreed: &NegotiatedMedia, section: &MediaSection) {
        for rid in &agreed.rids {
            let offered = section.send_layers.iter().find(|layer| layer.rid == *rid);
            let mut restrictions = Vec::new();
            if let Some(layer) = offered {
                let agreed = |number: &&u8| agreed.codecs.iter().any(|codec| codec.payload_type == **number);
                let numbers: Vec<_> = layer.payload_types.iter().filter(agreed).map(u8::to_string).collect();
                restrictions.extend((!numbers.is_empty()).then(|| format!("pt={}", numbers.join(","))));
                restrictions.extend((!layer.restrictions.is_empty()).then(|| layer.restrictions.clone()));
            }
            let separator = if restrictions.is_empty() { "" } else { " " };
            self.line(format_args!("a=rid:{rid} recv{separator}{}", restrictions.join(";")));
        }
        if !agreed.rids.is_empty() {
            self.line(format_args!("a=simulcast:recv {}", agreed.rids.join(";")));
        }
    }

    fn codec_details(&mut self, codec: &AcceptedCodec, rate: u32) {
        let payload_type = codec.payload_type;
        if !codec.fmtp.is_empty() {
            self.line(format_args!("a=fmtp:{payload_type} {}", codec.fmtp));
        }
        let feedback = codec.feedback;
        for (agreed, name) in [
            (feedback.transport_cc, "transport-cc"),
            (feedback.remb, "goog-remb"),
            (feedback.nack, "nack"),
            (feedback.pli, "nack pli"),
            (feedback.fir, "ccm fir"),
        ] {
            if agreed {
                self.line(format_args!("a=rtcp-fb:{payload_type} {name}"));
            }
        }
        if let Some(rtx) = codec.rtx_payload_type {
            self.line(format_args!("a=rtpmap:{rtx} rtx/{rate}"));
            self.line(format_args!("a=fmtp:{rtx} apt={payload_type}"));
        }
    }

    /// What we send: one media stream, the same `msid` in all sections (draft-ietf-wish-whep, "Single MediaStream"; without `appdata`, as
    /// RFC 9429 section 5.2.1 has it), its SSRCs, retransmissions grouped with what they repeat (RFC 5576).
    pub(super) fn sender(&mut self, session: SessionId, kind: MediaKind, ids: SenderIds) {
        let cname = cname(session);
        self.line(format_args!("a=msid:{cname}"));
        if let Some(rtx) = ids.rtx_ssrc {
            self.line(format_args!("a=ssrc-group:FID {} {rtx}", ids.ssrc));
        }
        for ssrc in std::iter::once(ids.ssrc).chain(ids.rtx_ssrc) {
            self.line(format_args!("a=ssrc:{ssrc} cname:{cname}"));
            // The `webrtc` crate (0.21) takes no track that has no id, which it finds here or behind the stream's.
            self.line(format_args!("a=ssrc:{ssrc} msid:{cname} {}", kind.as_str()));
        }
    }
}
