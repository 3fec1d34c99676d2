//! What the load generator needs of an answer, of any WHEP or WHIP server's: signalling's reader, and what is missing named.

use std::net::SocketAddr;

use sluice_signaling::{
    codec::{Codec, MediaKind},
    ice::IceCredentials,
    sdp::{CandidateTransport, Fingerprint, MediaOffer, Setup},
};

/// Candidates tried at the most; a machine has fewer addresses.
const CANDIDATES_MAX: usize = 16;

#[derive(Debug, Clone)]
pub struct Answer {
    pub ice: IceCredentials,
    pub fingerprints: Vec<Fingerprint>,
    /// The server's DTLS role: passive makes us the client.
    pub setup: Setup,
    /// UDP candidates, best first.
    pub candidates: Vec<SocketAddr>,
    pub payloads: Payloads,
}

/// What a payload type carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Payload {
    Media(Codec),
    /// Retransmissions (RFC 4588).
    Repair,
}

/// By payload type, 0 to 127.
#[derive(Debug, Clone)]
pub struct Payloads([Option<Payload>; 128]);

impl Payloads {
    pub fn get(&self, payload_type: u8) -> Option<Payload> {
        self.0.get(usize::from(payload_type)).copied().flatten()
    }

    pub fn has(&self, kind: MediaKind) -> bool {
        self.0.iter().flatten().any(|payload| matches!(payload, Payload::Media(codec) if codec.kind() == kind))
    }
}

/// The answer lacks what a session cannot be made without.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    #[error("{0}")]
    Sdp(String),
    #[error(
        "it has no UDP candidate with an IP address (a server that sends them later, by trickle, is not supported)"
    )]
    Candidates,
    #[error("it rejects every media section")]
    Media,
}

impl Answer {
    /// # Errors
    /// When something is missing without which nothing can be received.
    pub fn parse(text: &str) -> Result<Self, AnswerError> {
        let sdp = MediaOffer::parse(text).map_err(|error| AnswerError::Sdp(error.to_string()))?;
        let mut payloads = [None; 128];
        for codec in sdp.sections.iter().filter(|section| !section.rejected).flat_map(|section| &section.codecs) {
            let media = Codec::from_sdp_name(&codec.name).map(Payload::Media);
            let repair = codec.name.eq_ignore_ascii_case("rtx").then_some(Payload::Repair);
            if let Some(slot) = payloads.get_mut(usize::from(codec.payload_type)) {
                *slot = media.or(repair);
            }
        }
        let mut hosts = sdp.candidates;
        hosts.retain(|candidate| candidate.transport == CandidateTransport::Udp);
        hosts.sort_by_key(|candidate| std::cmp::Reverse(candidate.priority));
        let mut candidates: Vec<_> = hosts.iter().map(|host| SocketAddr::new(host.ip, host.port)).collect();
        candidates.dedup();
        candidates.truncate(CANDIDATES_MAX);
        if payloads.iter().all(Option::is_none) {
            return Err(AnswerError::Media);
        }
        if candidates.is_empty() {
            return Err(AnswerError::Candidates);
        }
        Ok(Self {
            ice: sdp.ice,
            fingerprints: sdp.fingerprints,
            setup: sdp.setup,
            candidates,
            payloads: Payloads(payloads),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\na=ice-lite\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=ice-ufrag:ufra\r\na=ice-pwd:0123456789012345678901\r\n\
        a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:\
        10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
        a=setup:passive\r\na=candidate:1 1 udp 100 10.0.0.1 8189 typ host\r\n\
        a=candidate:2 1 UDP 200 ::1 8189 typ host\r\na=candidate:3 1 tcp 900 10.0.0.1 8189 typ host tcptype passive\r\n\
        a=candidate:4 1 udp 900 x.local 8189 typ host\r\na=rtpmap:96 H264/90000\r\na=rtpmap:97 rtx/90000\r\n\
        m=audio 0 UDP/TLS/RTP/SAVPF 111\r\na=rtpmap:111 opus/48000/2\r\n";

    #[test]
    fn the_transport_and_the_payload_types_are_found() {
        let answer = Answer::parse(ANSWER).unwrap();
        assert_eq!(&*answer.ice.ufrag, "ufra");
        assert_eq!(answer.fingerprints, [Fingerprint { algorithm: "sha-256".into(), digest: (0..32).collect() }]);
        assert_eq!(answer.setup, Setup::Passive);
        let candidates: Vec<String> = answer.candidates.iter().map(ToString::to_string).collect();
        assert_eq!(candidates, ["[::1]:8189", "10.0.0.1:8189"]);
        assert_eq!(answer.payloads.get(96), Some(Payload::Media(Codec::H264)));
        assert_eq!(answer.payloads.get(97), Some(Payload::Repair));
        assert_eq!(answer.payloads.get(111), None, "a rejected section carries nothing");
        assert!(answer.payloads.has(MediaKind::Video) && !answer.payloads.has(MediaKind::Audio));
    }

    #[test]
    fn what_is_missing_is_named() {
        let without = |needle: &str| Answer::parse(&ANSWER.replace(needle, "a=x:")).unwrap_err();
        assert!(matches!(without("a=fingerprint:"), AnswerError::Sdp(text) if text.contains("fingerprint")));
        assert_eq!(without("a=candidate:"), AnswerError::Candidates);
        assert_eq!(without("a=rtpmap:"), AnswerError::Media);
    }
}
