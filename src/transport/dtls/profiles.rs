//! Which SRTP profile a client of ours gets: the server's choice (RFC 5764 section 4.1.2), so ours.
//!
//! `rtc-dtls` (0.21.1) takes the first of the client's list that the server has, and Chromium (156) lists
//! AES_CM_128_HMAC_SHA1_80 first, which costs five times as much per packet as AES-GCM, which it lists too. So the stack is
//! told of one profile at a time, the best first, and is shown the hello again with the next one while it finds none in common.

use std::{
    slice,
    sync::{Arc, atomic::AtomicBool},
};

use bytes::BytesMut;
use rtc_dtls::{config::HandshakeConfig, endpoint::Endpoint};
use rtc_shared::TransportProtocol;
use sluice_signaling::sdp::Fingerprint;

use super::{PEER, handshake_config};
use crate::transport::{DtlsRole, TransportError, certificate::Certificate, srtp::SrtpProfile};

/// Chromium's hello, with a key share for after quantum computers, comes in 2.
const HELLO_MAX_DATAGRAMS: usize = 8;

/// The profiles that a client was not tried with yet, and what of its hello has come.
pub(super) struct Profiles {
    certificate: Arc<Certificate>,
    fingerprints: Vec<Fingerprint>,
    mismatch: Arc<AtomicBool>,
    untried: slice::Iter<'static, SrtpProfile>,
    hello: Vec<BytesMut>,
}

impl Profiles {
    pub(super) fn new(
        certificate: Arc<Certificate>,
        fingerprints: Vec<Fingerprint>,
        mismatch: Arc<AtomicBool>,
    ) -> Self {
        const PREFERRED: &[SrtpProfile] = &SrtpProfile::PREFERRED;
        Self { certificate, fingerprints, mismatch, untried: PREFERRED.iter(), hello: Vec::new() }
    }

    /// A server that knows the next best profile only; `None` when all were tried.
    pub(super) fn next_server(&mut self) -> Option<Result<Endpoint, TransportError>> {
        let profile = self.untried.next()?;
        Some(self.config(*profile).map(|config| Endpoint::new(PEER, TransportProtocol::UDP, Some(config))))
    }

    /// Keeps a datagram of the hello. Of one that is too long nothing matches until the client says it again.
    pub(super) fn keep(&mut self, datagram: &BytesMut) {
        if self.hello.len() < HELLO_MAX_DATAGRAMS {
            self.hello.push(datagram.clone());
        }
    }

    pub(super) fn hello(&self) -> impl Iterator<Item = BytesMut> {
        self.hello.iter().cloned()
    }

    fn config(&self, profile: SrtpProfile) -> Result<Arc<HandshakeConfig>, TransportError> {
        let (fingerprints, mismatch) = (self.fingerprints.clone(), self.mismatch.clone());
        handshake_config(DtlsRole::Server, &self.certificate, fingerprints, mismatch, &[profile]).map(Arc::new)
    }
}
