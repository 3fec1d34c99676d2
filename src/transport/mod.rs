//! One WebRTC transport per session, either direction: ICE-lite, DTLS, SRTP, and the demultiplexing of their datagrams
//! (RFC 7983). Sans-I/O: datagrams and the time go in; datagrams, events and decrypted packets come out.
//!
//! # The driver's contract
//! A [`Transport`] belongs to one worker. After every call that takes `now`, drain [`Transport::poll_transmit`] and
//! [`Transport::poll_event`], then read [`Transport::poll_timeout`] and call [`Transport::handle_timeout`] no later.
//! Connectivity checks are answered without a transport (see [`stun`]), by whichever worker they reach; the owner is told
//! of each by [`Transport::handle_check`].
//!
//! What it does not do: gather candidates, send checks (we are lite, RFC 8445 section 2.5), carry data channels, estimate bandwidth.

mod certificate;
mod classify;
mod dtls;
mod error;
mod paths;
mod session;
mod srtp;
pub mod stun;
#[cfg(test)]
mod tests;

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use sluice_signaling::sdp::Fingerprint;

pub use self::{
    certificate::Certificate,
    classify::{DatagramKind, classify},
    dtls::DtlsGuard,
    error::TransportError,
    session::Transport,
    srtp::{SrtpProfile, SrtpSealer},
};

/// What carries datagrams between us and a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Link {
    Udp,
    /// A framed TCP connection (RFC 4571, RFC 6544), by the id its worker knows it by.
    Tcp(u32),
}

/// One way between us and a peer: where its datagrams come from and where ours leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Path {
    /// Canonical: an IPv4 address is never written as IPv6.
    pub remote: SocketAddr,
    /// The address of ours that the datagram was sent to, so that the answer leaves from it; `None` if unknown.
    pub local_ip: Option<IpAddr>,
    pub link: Link,
}

/// A connectivity check that was authenticated and answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Check {
    /// The peer chose this path by it.
    pub nominated: bool,
    /// Which of the session's ICE sessions it belongs to, by whose credentials it was signed with: 0 is the first one, every ICE
    /// restart (RFC 8445 section 9) begins the next.
    pub ice_session: u32,
}

impl Check {
    /// Of a session that was never restarted.
    pub const fn of_first(nominated: bool) -> Self {
        Self { nominated, ice_session: 0 }
    }
}

/// Our side of the DTLS handshake; the answer's `a=setup` decides (RFC 8842).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DtlsRole {
    /// `setup:passive`: the peer begins.
    Server,
    /// `setup:active`: we begin, on the first path that is validated.
    Client,
}

/// What a [`Transport`] is made of.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    pub role: DtlsRole,
    /// The peer's `a=fingerprint` lines; its certificate must have one of them.
    pub remote_fingerprints: Vec<Fingerprint>,
    pub certificate: Arc<Certificate>,
    /// The session ends when nothing authentic has come for this long (RFC 7675 section 5.1 says 30 s). Default to use: 30 s.
    pub consent_timeout: Duration,
}

/// A datagram to send.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    pub path: Path,
    pub datagram: BytesMut,
}

/// What a datagram held, decrypted and authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// Nothing for the caller: DTLS, or not authentic, or not on a validated path.
    Nothing,
    /// One RTP packet.
    Rtp(Bytes),
    /// One compound RTCP packet.
    Rtcp(Bytes),
}

/// What the session's owner must know. After any but `Connected` the transport is over: it takes nothing in any more, and only
/// [`Transport::poll_transmit`] still has something to give (an alert).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TransportEvent {
    /// DTLS is done and the peer is who its SDP says; packets can be sealed.
    Connected { profile: SrtpProfile },
    /// DTLS failed, or did not finish in time.
    Failed(TransportError),
    /// The peer closed the association in good order.
    PeerClosed,
    /// Nothing authentic came for the consent timeout.
    ConsentExpired,
}
