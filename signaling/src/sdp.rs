//! SDP (RFC 8866, RFC 8829): an offer's text becomes a typed [`MediaOffer`]; [`TransportParams`] become the answer's text.
//!
//! [`TransportParams`]: crate::media_plane::TransportParams

use std::net::IpAddr;

use crate::codec::{Codec, MediaKind};

/// A certificate's fingerprint (RFC 8122 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// Hash function, in lower case: `sha-256`.
    pub algorithm: String,
    pub digest: Vec<u8>,
}

/// `a=setup` (RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Setup {
    ActPass,
    Active,
    Passive,
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
    /// Simulcast layers (RFC 8853), in the offer's order; empty without simulcast.
    pub rids: Vec<String>,
}

/// What both sides agreed on; one entry per media section of the offer, in its order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Negotiated {
    pub media: Vec<NegotiatedMedia>,
}
