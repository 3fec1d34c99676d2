//! [`Transport`]: paths, DTLS and SRTP of one session put together.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    Check, DatagramKind, DtlsRole, Path, Received, SrtpSealer, Transmit, TransportConfig, TransportError,
    TransportEvent,
    certificate::{any_usable, provider},
    classify,
    dtls::{Dtls, Outcome},
    paths::Paths,
    srtp::{MasterKeys, SrtcpSealer, SrtpOpener},
};

/// From the first sign that the peer has chosen a path (a nomination, a DTLS datagram, our own hello) to the end of the handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// From the first check to the end of the handshake: a peer may try paths for some time before it nominates one.
const SETUP_TIMEOUT: Duration = Duration::from_secs(30);
/// Two flights of 8 datagrams and an alert, twice: a driver drains after every call, so even one batch is much.
const TRANSMITS_MAX_DATAGRAMS: usize = 2 * (2 * 8 + 1);

/// One session's transport. The contract is in the [module's documentation](super).
pub struct Transport {
    role: DtlsRole,
    consent_timeout: Duration,
    consent_expires: Instant,
    /// When the handshake must be done; runs from the first check until connected.
    handshake_expires: Option<(Instant, Duration)>,
    handshake_begun: bool,
    paths: Paths,
    dtls: Dtls,
    keys: Option<Box<SessionKeys>>,
    /// See [`TRANSMITS_MAX_DATAGRAMS`].
    transmits: VecDeque<Transmit>,
    /// Two at most: connected, and the end.
    events: VecDeque<TransportEvent>,
    ended: bool,
}

/// A session is made by one thread and driven by another.
const _: () = {
    const fn is_send<T: Send>() {}
    is_send::<Transport>();
};

struct SessionKeys {
    rtp: SrtpSealer,
    rtcp: SrtcpSealer,
    opener: SrtpOpener,
}

impl Transport {
    /// # Errors
    /// [`TransportError::NoUsableFingerprint`] when the peer could never be verified, [`TransportError::Setup`] when DTLS
    /// cannot be set up.
    pub fn new(config: TransportConfig, now: Instant) -> Result<Self, TransportError> {
        let TransportConfig { role, remote_fingerprints, certificate, consent_timeout } = config;
        if !any_usable(&remote_fingerprints) {
            let offered: Vec<&str> = remote_fingerprints.iter().map(|stated| stated.algorithm.as_str()).collect();
            let offered = if offered.is_empty() { "none at all".to_owned() } else { offered.join(", ") };
            return Err(TransportError::NoUsableFingerprint { offered });
        }
        Ok(Self {
            role,
            consent_timeout,
            consent_expires: now + consent_timeout,
            handshake_expires: None,
            handshake_begun: false,
            paths: Paths::default(),
            dtls: Dtls::new(role, certificate, remote_fingerprints)?,
            keys: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            ended: false,
        })
    }

    /// An authenticated check was answered on `path`: consent is refreshed (RFC 7675; we are lite and send no checks of our own),
    /// the path's datagrams are taken from now on. The first path and every nominated one is selected; on the
    /// first, as DTLS client, the handshake starts. Once an ICE restart has nominated a path, checks of before it count no more.
    pub fn handle_check(&mut self, now: Instant, path: Path, check: Check) {
        if self.is_over(now) || !self.paths.validate(now, path, check) {
            return;
        }
        self.refresh_consent(now);
        if self.keys.is_none() && self.handshake_expires.is_none() {
            self.handshake_expires = Some((now + SETUP_TIMEOUT, SETUP_TIMEOUT));
        }
        if check.nominated || self.role == DtlsRole::Client {
            self.begin_handshake(now);
        }
        let outcome = self.dtls.start(now);
        self.settle(now, path, outcome);
    }

    /// Takes a DTLS, SRTP or SRTCP datagram. STUN is none of its business (see [`stun`](super::stun)); neither is anything that
    /// comes on a path without a check.
    pub fn handle_datagram(&mut self, now: Instant, path: Path, datagram: BytesMut) -> Received {
        if self.is_over(now) || !self.paths.admits(now, path, self.consent_timeout) {
            return Received::Nothing;
        }
        let received = match (classify(&datagram), &mut self.keys) {
            (DatagramKind::Dtls, _) => {
                self.begin_handshake(now);
                let outcome = self.dtls.handle_datagram(now, &datagram);
                self.settle(now, path, outcome);
                return Received::Nothing;
            }
            (DatagramKind::Rtp, Some(keys)) => keys.opener.open_rtp(&datagram).map(Received::Rtp),
            (DatagramKind::Rtcp, Some(keys)) => keys.opener.open_rtcp(&datagram).map(Received::Rtcp),
            _ => None,
        };
        let Some(received) = received else { return Received::Nothing };
        self.refresh_consent(now);
        self.dtls.peer_is_connected();
        received
    }

    /// Time has come to what [`Self::poll_timeout`] said.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.is_over(now) {
            return;
        }
        let outcome = self.dtls.handle_timeout(now);
        if let Some(path) = self.paths.selected() {
            self.settle(now, path, outcome);
        }
    }

    /// When [`Self::handle_timeout`] is due; `None` once the transport is over.
    pub fn poll_timeout(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let handshake = self.handshake_expires.map(|(at, _)| at);
        [Some(self.consent_expires), handshake, self.dtls.poll_timeout()].into_iter().flatten().min()
    }

    /// The next datagram to send.
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.transmits.pop_front()
    }

    /// What has happened.
    pub fn poll_event(&mut self) -> Option<TransportEvent> {
        self.events.pop_front()
    }

    /// The path to send media on: selected, and most likely nominated.
    pub fn path(&self) -> Option<Path> {
        self.paths.selected()
    }

    /// Between `Connected` and the end.
    pub fn is_connected(&self) -> bool {
        self.keys.is_some() && !self.ended
    }

    /// Seals outgoing RTP, once connected.
    pub fn sealer(&self) -> Option<&SrtpSealer> {
        self.keys.as_ref().map(|keys| &keys.rtp)
    }

    /// Seals a compound RTCP packet (with its header and sender SSRC, so of 8 bytes at least); `None` when not connected.
    pub fn seal_rtcp(&mut self, compound: &[u8]) -> Option<BytesMut> {
        if self.ended {
            return None;
        }
        self.keys.as_mut()?.rtcp.seal(compound)
    }

    /// Ends the transport from our side: queues close_notify for the selected path if DTLS is up. No event follows.
    pub fn close(&mut self, now: Instant) {
        if self.ended {
            return;
        }
        self.dtls.close(now);
        self.queue_transmits(self.paths.selected());
        self.ended = true;
    }

    #[cfg(test)]
    pub(super) fn is_settled(&self) -> bool {
        self.dtls.settled_bytes().is_some()
    }

    /// What of a session's memory is in sight of this crate: the cipher contexts, behind pointers of C, add about 3 KB.
    #[cfg(test)]
    pub(super) fn settled_bytes(&self) -> usize {
        size_of::<Self>() + size_of::<SessionKeys>() + self.dtls.settled_bytes().unwrap_or(usize::MAX / 2)
    }

    /// Whether the transport is over, with what time alone may have ended.
    fn is_over(&mut self, now: Instant) -> bool {
        if self.ended {
            return true;
        }
        if now >= self.consent_expires {
            self.end(TransportEvent::ConsentExpired);
        } else if let Some((at, after)) = self.handshake_expires
            && now >= at
        {
            self.end(TransportEvent::Failed(TransportError::HandshakeTimeout { after }));
        }
        self.ended
    }

    fn refresh_consent(&mut self, now: Instant) {
        self.consent_expires = now + self.consent_timeout;
    }

    fn begin_handshake(&mut self, now: Instant) {
        if self.keys.is_some() || std::mem::replace(&mut self.handshake_begun, true) {
            return;
        }
        let at = now + HANDSHAKE_TIMEOUT;
        if self.handshake_expires.is_none_or(|(expires, _)| at < expires) {
            self.handshake_expires = Some((at, HANDSHAKE_TIMEOUT));
        }
    }

    /// Sends what DTLS wants sent, on the path it happened on, and acts on what it says.
    fn settle(&mut self, now: Instant, path: Path, outcome: Outcome) {
        self.queue_transmits(Some(path));
        match outcome {
            Outcome::Nothing => {}
            Outcome::Connected(keys, profile) => {
                self.handshake_expires = None;
                self.paths.prove(path);
                match SessionKeys::derive(self.role, &keys) {
                    Ok(keys) => {
                        self.keys = Some(Box::new(keys));
                        self.refresh_consent(now);
                        self.events.push_back(TransportEvent::Connected { profile });
                    }
                    Err(error) => self.end(TransportEvent::Failed(error)),
                }
            }
            Outcome::Failed(error) => self.end(TransportEvent::Failed(error)),
            Outcome::PeerClosed => self.end(TransportEvent::PeerClosed),
        }
    }

    fn queue_transmits(&mut self, path: Option<Path>) {
        while let Some(datagram) = self.dtls.poll_transmit() {
            if let Some(path) = path
                && self.transmits.len() < TRANSMITS_MAX_DATAGRAMS
            {
                self.transmits.push_back(Transmit { path, datagram });
            }
        }
    }

    fn end(&mut self, event: TransportEvent) {
        self.ended = true;
        self.events.push_back(event);
    }
}

impl SessionKeys {
    fn derive(role: DtlsRole, keys: &MasterKeys) -> Result<Self, TransportError> {
        let (ours, theirs) = match role {
            DtlsRole::Server => (&keys.server_writes, &keys.client_writes),
            DtlsRole::Client => (&keys.client_writes, &keys.server_writes),
        };
        let failed = |cause: &dyn std::fmt::Display| TransportError::Keys { cause: cause.to_string() };
        Ok(Self {
            rtp: SrtpSealer::new(ours).map_err(|error| failed(&error))?,
            rtcp: SrtcpSealer::new(ours).map_err(|error| failed(&error))?,
            opener: SrtpOpener::new(theirs.clone(), provider().as_ref()).map_err(|error| failed(&error))?,
        })
    }
}
