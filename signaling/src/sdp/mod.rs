//! SDP (RFC 8866, RFC 8829): an offer's text becomes a typed [`MediaOffer`]; [`TransportParams`] become the answer's text.
//!
//! [`TransportParams`]: crate::media_plane::TransportParams

//!
//! Own parser rather than a library's: it keeps only what decides something, is bounded in lines, sections and lists, names the line
//! it objects to, and lets pass what real clients send (attributes at session or media level, any order, unknown lines).
//! It reads an answer as well as an offer; what only an offer must fulfil is checked in `negotiate`.

mod answer;
mod attribute;
mod counter_offer;
mod formats;
#[cfg(test)]
pub(crate) mod fuzz;
mod h264;
mod negotiate;
mod offer;
use std::{fmt, net::IpAddr};

pub(crate) use self::{
    answer::{ICE_LINES, candidate_lines},
    attribute::candidate as parse_candidate,
};
pub use self::{
    answer::{answer, cname},
    counter_offer::{counter_offer, offered},
    h264::H264Profile,
    negotiate::{negotiate_answer, negotiate_egress, negotiate_ingest},
    offer::{MediaFlow, MediaOffer, MediaSection, OfferedCodec, OfferedLayer},
};
use crate::{
    codec::{Codec, MediaKind, TrackFormat},
    error::Problem,
};

/// Lines of a description or fragment; Chromium's fullest offer has about 400.
pub const SDP_LINES_MAX: usize = 4_096;
/// Media sections of a description: one audio, one video, and room for what is refused with words rather than by a bound.
pub const SECTIONS_MAX: usize = 16;
/// Simulcast layers that are received of one section: OBS sends up to four, browsers three. The answer leaves out what an offer has
/// beyond.
pub const LAYERS_MAX: usize = 4;

/// A line that is no SDP. Its `Display` is fit for a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MalformedSdp {
    /// From 1; 0 when it is about the whole.
    pub line: usize,
    pub reason: String,
}

impl MalformedSdp {
    pub(crate) fn new(line: usize, reason: impl Into<String>) -> Self {
        Self { line, reason: reason.into() }
    }
}

impl fmt::Display for MalformedSdp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.reason),
            line => write!(f, "line {line}: {}", self.reason),
        }
    }
}

/// Why an offer was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OfferError {
    /// It is no SDP: 400.
    #[error("{0}")]
    Malformed(MalformedSdp),
    /// It is, but lacks what a session needs: 422.
    #[error("{0}")]
    Impossible(String),
}

impl OfferError {
    pub fn problem(&self) -> Problem {
        match self {
            Self::Malformed(_) => Problem::new(400, "malformed-sdp", "The body is not valid SDP", self.to_string()),
            Self::Impossible(_) => {
                Problem::new(422, "unusable-offer", "The offer cannot become a session", self.to_string())
            }
        }
    }
}

impl From<MalformedSdp> for OfferError {
    fn from(malformed: MalformedSdp) -> Self {
        Self::Malformed(malformed)
    }
}

/// A certificate's fingerprint (RFC 8122 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Hash function, in lower case: `sha-256`.
    pub algorithm: String,
    pub digest: Vec<u8>,
}

/// As `a=fingerprint` has it: `sha-256 AB:CD:...`.
impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.algorithm)?;
        for (index, byte) in self.digest.iter().enumerate() {
            if index > 0 {
                f.write_str(":")?;
            }
            write!(f, "{byte:02X}")?;
        }
        Ok(())
    }
}

/// `a=setup` (RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    ActPass,
    Active,
    Passive,
}

impl Setup {
    /// What the answer says to an offer of this: passive wherever the offer leaves the choice, for browsers connect faster so.
    pub fn answer(self) -> Self {
        match self {
            Self::ActPass | Self::Active => Self::Passive,
            Self::Passive => Self::Active,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::ActPass => "actpass",
            Self::Active => "active",
            Self::Passive => "passive",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandidateTransport {
    Udp,
    /// ICE-TCP, we listen (RFC 6544).
    TcpPassive,
    TcpActive,
}

/// A host candidate as Sluice writes it, or what it needs of a remote one (RFC 8839 section 5.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCandidate {
    pub transport: CandidateTransport,
    pub ip: IpAddr,
    pub port: u16,
    pub priority: u32,
}

/// The ids that the offer gave to the header extensions Sluice uses (RFC 8285); `None` where it has none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ExtensionIds {
    pub mid: Option<u8>,
    pub rid: Option<u8>,
    pub repaired_rid: Option<u8>,
    pub abs_send_time: Option<u8>,
    pub transport_cc: Option<u8>,
    pub playout_delay: Option<u8>,
    pub abs_capture_time: Option<u8>,
}

/// A codec that both sides have, with the offer's payload types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcceptedCodec {
    pub codec: Codec,
    pub payload_type: u8,
    /// The answer's format parameters for it, as SDP writes them; empty for none.
    pub fmtp: String,
    pub channels: u8,
    /// Payload type of its retransmissions (RFC 4588), when offered.
    pub rtx_payload_type: Option<u8>,
    /// Feedback agreed on (RFC 4585, RFC 5104).
    pub feedback: Feedback,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    pub nack: bool,
    pub pli: bool,
    pub fir: bool,
    pub transport_cc: bool,
    /// `goog-remb`: the receiver's estimate of what its path carries (draft-alvestrand-rmcat-remb-03 section 2).
    pub remb: bool,
}

/// One media section, as agreed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NegotiatedMedia {
    pub mid: String,
    pub kind: MediaKind,
    /// Best first: for a viewer the live stream's codec, then whatever else both have (a later publisher may need it).
    /// Empty: the section is answered with port 0.
    pub codecs: Vec<AcceptedCodec>,
    pub extensions: ExtensionIds,
    /// SSRCs the offer announces for this section (`a=ssrc`), primary first; often empty in a publisher's simulcast offer.
    pub remote_ssrcs: Vec<u32>,
    /// Simulcast layers (RFC 8853) that are received, in the offer's order, at most [`LAYERS_MAX`]; empty without simulcast.
    pub rids: Vec<String>,
}

impl NegotiatedMedia {
    /// Whether anything flows; otherwise the section is answered with port 0.
    pub fn is_accepted(&self) -> bool {
        !self.codecs.is_empty()
    }

    /// The payload type to send a track of this format under, should another publisher have come with another format.
    pub fn best_for(&self, format: &TrackFormat) -> Option<&AcceptedCodec> {
        let fit = |codec: &AcceptedCodec| formats::fit(format, codec.codec, &codec.fmtp);
        self.codecs
            .iter()
            .filter_map(|codec| Some((fit(codec)?, codec)))
            .min_by_key(|(fit, _)| *fit)
            .map(|(_, codec)| codec)
    }
}

/// What both sides agreed on; one entry per media section of the offer, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Negotiated {
    pub media: Vec<NegotiatedMedia>,
}
