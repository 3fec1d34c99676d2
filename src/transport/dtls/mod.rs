//! One DTLS 1.2 association (RFC 6347, RFC 5764): `rtc-dtls` as server or client, with its edges guarded.
//!
//! In: datagrams of paths that ICE has validated, and the time. Out: datagrams, and [`Outcome`]s. After the handshake the
//! association lingers until the peer is known to be connected, then it is put away as a few hundred bytes, from which it is
//! brought back to say or to understand a close_notify. No application data, no renegotiation, no resumption.

mod guard;
mod profiles;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    net::{Ipv4Addr, SocketAddr, SocketAddrV4},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rtc_dtls::{
    cipher_suite::CipherSuiteId,
    config::{ClientAuthType, ConfigBuilder, HandshakeConfig},
    endpoint::{Endpoint, EndpointEvent},
    state::State,
};
use rtc_shared::{TransportProtocol, error::Error};
use rtc_srtp::config::LABEL_EXTRACTOR_DTLS_SRTP;
use sluice_signaling::sdp::Fingerprint;

pub use self::guard::DtlsGuard;
use self::{
    guard::{Budget, Stage},
    profiles::Profiles,
};
use super::{
    DtlsRole, TransportError,
    certificate::{Certificate, matches_any, provider},
    srtp::{MasterKeys, SrtpProfile},
};

/// The stack tells peers apart by address; ours has one peer, whatever path it takes.
const PEER: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 1));
/// `rtc-dtls` gives up after 7 repetitions, so with this the handshake's own deadline is what ends it.
const FLIGHT_INTERVAL: Duration = Duration::from_millis(1250);
/// When our last flight is sent again for the first time; doubled each time. A WebRTC client begins with 50 ms.
const FIRST_REPEAT: Duration = Duration::from_millis(200);
/// The least time between two repetitions of our flight that the peer provokes by repeating its own.
const ECHO_INTERVAL: Duration = Duration::from_millis(40);
/// How long the peer's final flight may come again, while it does not prove by SRTP that it is connected. Clients double their
/// timer from 50 ms or 1 s and give up after at most 60 s.
const LINGER: Duration = Duration::from_secs(60);
/// Our longest flight is hello, certificate, key, request, done: 2 datagrams; with a cookie exchange under it, still few.
const FLIGHT_MAX_DATAGRAMS: usize = 8;
/// As many as two flights, and a close_notify.
const TRANSMITS_MAX_DATAGRAMS: usize = 2 * FLIGHT_MAX_DATAGRAMS + 1;
/// Alerts of a settled association that are worth waking it for; each costs some 20 us. A real peer sends one.
const WAKES_MAX: u8 = 32;

/// What became of a datagram or a timeout.
pub(super) enum Outcome {
    Nothing,
    /// The handshake is done, the peer's certificate verified.
    Connected(Box<MasterKeys>, SrtpProfile),
    Failed(TransportError),
    /// The peer said close_notify, or another alert that ends the association.
    PeerClosed,
}

pub(super) struct Dtls {
    role: DtlsRole,
    phase: Phase,
    transmits: VecDeque<BytesMut>,
}

enum Phase {
    Handshake(Box<Handshake>),
    Linger { endpoint: Box<Endpoint>, budget: Budget, until: Instant },
    Settled { state: Box<[u8]>, wakes: u8 },
    Closed,
}

struct Handshake {
    endpoint: Endpoint,
    /// The client's, until it begins.
    client_config: Option<Arc<HandshakeConfig>>,
    /// The server's, until it has found one in common.
    profiles: Option<Profiles>,
    budget: Budget,
    mismatch: Arc<AtomicBool>,
    /// Our last flight as it was sent, to be sent again.
    flight: Vec<BytesMut>,
    flight_sent: Option<Instant>,
    repeat_after: Duration,
    repeat_at: Option<Instant>,
}

impl Dtls {
    pub fn new(
        role: DtlsRole,
        certificate: Arc<Certificate>,
        fingerprints: Vec<Fingerprint>,
    ) -> Result<Self, TransportError> {
        match role {
            DtlsRole::Server => {
                let mismatch = Arc::new(AtomicBool::new(false));
                let mut profiles = Profiles::new(certificate, fingerprints, Arc::clone(&mismatch));
                let endpoint = profiles.next_server().ok_or(TransportError::NoSrtpProfile)??;
                Ok(Self::begin(role, endpoint, None, Some(profiles), mismatch))
            }
            DtlsRole::Client => Self::client(&certificate, fingerprints, &SrtpProfile::PREFERRED),
        }
    }

    /// A client that offers these profiles, in this order.
    fn client(
        certificate: &Certificate,
        fingerprints: Vec<Fingerprint>,
        profiles: &[SrtpProfile],
    ) -> Result<Self, TransportError> {
        let mismatch = Arc::new(AtomicBool::new(false));
        let config = handshake_config(DtlsRole::Client, certificate, fingerprints, Arc::clone(&mismatch), profiles)?;
        let endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
        Ok(Self::begin(DtlsRole::Client, endpoint, Some(Arc::new(config)), None, mismatch))
    }

    fn begin(
        role: DtlsRole,
        endpoint: Endpoint,
        client_config: Option<Arc<HandshakeConfig>>,
        profiles: Option<Profiles>,
        mismatch: Arc<AtomicBool>,
    ) -> Self {
        let handshake = Handshake {
            endpoint,
            client_config,
            profiles,
            budget: Budget::HANDSHAKE,
            mismatch,
            flight: Vec::new(),
            flight_sent: None,
            repeat_after: FIRST_REPEAT,
            repeat_at: None,
        };
        Self { role, phase: Phase::Handshake(Box::new(handshake)), transmits: VecDeque::new() }
    }

    /// Sends the client's hello, if we are the client and have not; does nothing otherwise.
    pub fn start(&mut self, now: Instant) -> Outcome {
        let Phase::Handshake(handshake) = &mut self.phase else { return Outcome::Nothing };
        let Some(config) = handshake.client_config.take() else { return Outcome::Nothing };
        let result = contained(|| handshake.endpoint.connect(now, PEER, config, None));
        self.settle_handshake(now, result.map(|()| Vec::new()))
    }

    pub fn handle_datagram(&mut self, now: Instant, datagram: &[u8]) -> Outcome {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                // A client that has not begun has no association to feed.
                if handshake.client_config.is_some() {
                    return Outcome::Nothing;
                }
                let Some(admitted) = guard::admit(datagram, Stage::Handshake, &mut handshake.budget) else {
                    return Outcome::Nothing;
                };
                let result = handshake.read(now, admitted);
                self.settle_handshake(now, result)
            }
            Phase::Linger { endpoint, budget, .. } => {
                let Some(admitted) = guard::admit(datagram, Stage::Linger, budget) else { return Outcome::Nothing };
                let result = contained(|| endpoint.read(now, PEER, None, admitted));
                drain(endpoint, &mut self.transmits);
                self.end_if_closed(result)
            }
            Phase::Settled { wakes, .. } => {
                let Some(admitted) = guard::admit(datagram, Stage::Settled, &mut Budget::REPEATS.clone()) else {
                    return Outcome::Nothing;
                };
                let Some(left) = wakes.checked_sub(1) else { return Outcome::Nothing };
                *wakes = left;
                let Some(mut endpoint) = self.wake(now) else { return Outcome::Nothing };
                let result = contained(|| endpoint.read(now, PEER, None, admitted));
                drain(&mut endpoint, &mut self.transmits);
                self.end_if_closed(result)
            }
            Phase::Closed => Outcome::Nothing,
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) -> Outcome {
        match &mut self.phase {
            Phase::Handshake(handshake) => {
                if handshake.endpoint.poll_timeout(&PEER).is_some_and(|at| at <= now) {
                    let result = contained(|| handshake.endpoint.handle_timeout(PEER, now));
                    return self.settle_handshake(now, result.map(|()| Vec::new()));
                }
                if handshake.repeat_at.is_some_and(|at| at <= now) {
                    handshake.repeat_after *= 2;
                    handshake.repeat(now, &mut self.transmits);
                }
                Outcome::Nothing
            }
            Phase::Linger { until, .. } if *until <= now => {
                self.put_away();
                Outcome::Nothing
            }
            Phase::Linger { .. } | Phase::Settled { .. } | Phase::Closed => Outcome::Nothing,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Handshake(handshake) => {
                handshake.endpoint.poll_timeout(&PEER).into_iter().chain(handshake.repeat_at).min()
            }
            Phase::Linger { until, .. } => Some(*until),
            Phase::Settled { .. } | Phase::Closed => None,
        }
    }

    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.transmits.pop_front()
    }

    /// The peer has sent authentic SRTP: it is connected and will not repeat its flight. The handshake's memory is let go.
    pub fn peer_is_connected(&mut self) {
        if matches!(self.phase, Phase::Linger { .. }) {
            self.put_away();
        }
    }

    /// The size of the association that is put away.
    #[cfg(test)]
    pub fn settled_bytes(&self) -> Option<usize> {
        match &self.phase {
            Phase::Settled { state, .. } => Some(state.len()),
            _ => None,
        }
    }

    /// Queues close_notify if there is an association to close.
    pub fn close(&mut self, now: Instant) {
        let endpoint = match std::mem::replace(&mut self.phase, Phase::Closed) {
            Phase::Linger { endpoint, .. } => Some(endpoint),
            settled @ Phase::Settled { .. } => {
                self.phase = settled;
                let endpoint = self.wake(now);
                self.phase = Phase::Closed;
                endpoint
            }
            Phase::Handshake(_) | Phase::Closed => None,
        };
        let Some(mut endpoint) = endpoint else { return };
        // A failure means that there is nothing to send; the association is gone either way.
        let _ = contained(|| endpoint.close(now));
        drain(&mut endpoint, &mut self.transmits);
    }

    /// Looks at what a step of the handshake has brought about.
    fn settle_handshake(&mut self, now: Instant, result: Result<Vec<EndpointEvent>, Error>) -> Outcome {
        let Phase::Handshake(handshake) = &mut self.phase else { return Outcome::Nothing };
        let mut flight = VecDeque::new();
        drain(&mut handshake.endpoint, &mut flight);
        let is_new_flight = !flight.is_empty();
        self.transmits.extend(flight.iter().cloned());
        self.transmits.truncate(TRANSMITS_MAX_DATAGRAMS);
        let events = match result {
            Ok(events) => events,
            Err(error) => {
                let error = if handshake.mismatch.load(Ordering::Relaxed) {
                    TransportError::FingerprintMismatch
                } else {
                    handshake_error(&error)
                };
                self.phase = Phase::Closed;
                return Outcome::Failed(error);
            }
        };
        for event in events {
            match event {
                EndpointEvent::HandshakeComplete => return self.complete(now),
                EndpointEvent::PeerClosed => {
                    self.phase = Phase::Closed;
                    return Outcome::PeerClosed;
                }
                // Never admitted, so never delivered.
                _ => {}
            }
        }
        if is_new_flight {
            // The hello was understood, or there would be no answer.
            handshake.profiles = None;
            handshake.flight = flight.into_iter().take(FLIGHT_MAX_DATAGRAMS).collect();
            handshake.flight_sent = Some(now);
            handshake.repeat_after = FIRST_REPEAT;
            handshake.repeat_at = Some(now + FIRST_REPEAT);
        } else {
            handshake.echo(now, &mut self.transmits);
        }
        Outcome::Nothing
    }

    /// The stack has verified the certificate by its callback; that it has one, and the keys, are checked here.
    fn complete(&mut self, now: Instant) -> Outcome {
        let Phase::Handshake(handshake) = std::mem::replace(&mut self.phase, Phase::Closed) else {
            return Outcome::Nothing;
        };
        let endpoint = handshake.endpoint;
        let Some(state) = endpoint.get_connection_state(PEER) else { return Outcome::PeerClosed };
        if state.peer_certificates.is_empty() || handshake.mismatch.load(Ordering::Relaxed) {
            return Outcome::Failed(TransportError::FingerprintMismatch);
        }
        let Some(profile) = SrtpProfile::from_dtls(state.srtp_protection_profile()) else {
            return Outcome::Failed(TransportError::NoSrtpProfile);
        };
        let material = state.export_keying_material(LABEL_EXTRACTOR_DTLS_SRTP, &[], profile.material_bytes());
        let keys = match material {
            Ok(material) => MasterKeys::from_material(profile, material.as_ref()),
            Err(error) => return Outcome::Failed(TransportError::Keys { cause: error.to_string() }),
        };
        let Some(keys) = keys else {
            return Outcome::Failed(TransportError::Keys { cause: "DTLS exported too little".to_owned() });
        };
        self.phase = Phase::Linger { endpoint: Box::new(endpoint), budget: Budget::REPEATS, until: now + LINGER };
        Outcome::Connected(Box::new(keys), profile)
    }

    /// An error of an established association is an authenticated alert: the guard and the stack drop plaintext.
    fn end_if_closed(&mut self, result: Result<Vec<EndpointEvent>, Error>) -> Outcome {
        let closed = match result {
            Ok(events) => events.iter().any(|event| matches!(event, EndpointEvent::PeerClosed)),
            Err(error) => matches!(error, Error::ErrAlertFatalOrClose),
        };
        if closed {
            self.phase = Phase::Closed;
            return Outcome::PeerClosed;
        }
        Outcome::Nothing
    }

    /// From lingering to settled. If the state cannot be put away, close_notify will not be said: the peer's consent
    /// timeout does its work instead.
    fn put_away(&mut self) {
        let Phase::Linger { endpoint, .. } = &self.phase else { return };
        let state = contained(|| {
            let saved = endpoint.get_connection_state(PEER).ok_or(Error::ErrConnClosed)?.marshal_binary()?;
            // Saved twice, to leave out the peer's certificates: they have done their work, and may be 16 KB.
            let mut state = self.restore(&saved)?;
            state.peer_certificates = Vec::new();
            state.marshal_binary()
        });
        self.phase = match state {
            Ok(state) => Phase::Settled { state: state.into_boxed_slice(), wakes: WAKES_MAX },
            Err(_) => Phase::Closed,
        };
    }

    /// The settled association as an endpoint that can read and write records.
    fn wake(&self, now: Instant) -> Option<Box<Endpoint>> {
        let Phase::Settled { state: saved, .. } = &self.phase else { return None };
        contained(|| {
            let state = self.restore(saved)?;
            let mut endpoint = Endpoint::new(PEER, TransportProtocol::UDP, None);
            endpoint.connect(now, PEER, Arc::clone(settled_config()?), Some(state))?;
            Ok(Box::new(endpoint))
        })
        .ok()
    }

    fn restore(&self, saved: &[u8]) -> Result<State, Error> {
        let mut state = State::new(Arc::clone(provider()), self.role == DtlsRole::Client);
        state.unmarshal_binary(saved)?;
        Ok(state)
    }
}

impl Handshake {
    fn read(&mut self, now: Instant, admitted: BytesMut) -> Result<Vec<EndpointEvent>, Error> {
        if let Some(profiles) = &mut self.profiles {
            profiles.keep(&admitted);
        }
        let mut result = contained(|| self.endpoint.read(now, PEER, None, admitted));
        while matches!(result, Err(Error::ErrServerNoMatchingSrtpProfile))
            && let Some(Ok(server)) = self.profiles.as_mut().and_then(Profiles::next_server)
        {
            // With the old one goes its alert.
            self.endpoint = server;
            for datagram in self.profiles.iter().flat_map(Profiles::hello) {
                result = contained(|| self.endpoint.read(now, PEER, None, datagram));
            }
        }
        result
    }

    /// The peer repeated itself or sent a part: if it has waited long enough, it may have missed our flight.
    ///
    /// `rtc-dtls` (0.21.1) stops its own timer at any handshake message, also at a repeated one that it does not answer; then
    /// neither side's repetitions lead anywhere. Hence the flight is kept and sent again from here. The copies carry the
    /// same record numbers: a peer that has them already drops them as replays, one that lost them takes them.
    fn echo(&mut self, now: Instant, transmits: &mut VecDeque<BytesMut>) {
        if self.flight_sent.is_some_and(|sent| now >= sent + ECHO_INTERVAL) {
            self.repeat(now, transmits);
        }
    }

    fn repeat(&mut self, now: Instant, transmits: &mut VecDeque<BytesMut>) {
        transmits.extend(self.flight.iter().cloned());
        transmits.truncate(TRANSMITS_MAX_DATAGRAMS);
        self.flight_sent = Some(now);
        self.repeat_at = Some(now + self.repeat_after);
    }
}

fn drain(endpoint: &mut Endpoint, transmits: &mut VecDeque<BytesMut>) {
    while let Some(transmit) = endpoint.poll_transmit() {
        if transmits.len() < TRANSMITS_MAX_DATAGRAMS {
            transmits.push_back(transmit.message);
        }
    }
}

/// Runs a step of the stack. It parses what anybody may send; should it panic after all, that ends this session and no other.
fn contained<T>(step: impl FnOnce() -> Result<T, Error>) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(step)).unwrap_or_else(|_| Err(Error::Other("the DTLS stack panicked".to_owned())))
}

fn handshake_error(error: &Error) -> TransportError {
    match error {
        Error::ErrServerNoMatchingSrtpProfile | Error::ErrClientNoMatchingSrtpProfile => TransportError::NoSrtpProfile,
        Error::ErrAlertFatalOrClose => {
            TransportError::Handshake { cause: "the peer refused it with an alert".to_owned() }
        }
        other => TransportError::Handshake { cause: other.to_string() },
    }
}

/// Every WebRTC endpoint has the first (RFC 8827 section 6.5); RSA is for servers that we are the client of.
const SERVER_SUITES: [CipherSuiteId; 2] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
];
const CLIENT_SUITES: [CipherSuiteId; 4] = [
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_Aes_128_Gcm_Sha256,
    CipherSuiteId::Tls_Ecdhe_Ecdsa_With_ChaCha20_Poly1305_Sha256,
    CipherSuiteId::Tls_Ecdhe_Rsa_With_ChaCha20_Poly1305_Sha256,
];

fn handshake_config(
    role: DtlsRole,
    certificate: &Certificate,
    fingerprints: Vec<Fingerprint>,
    mismatch: Arc<AtomicBool>,
    profiles: &[SrtpProfile],
) -> Result<HandshakeConfig, TransportError> {
    let suites = match role {
        DtlsRole::Server => SERVER_SUITES.to_vec(),
        DtlsRole::Client => CLIENT_SUITES.to_vec(),
    };
    base_config()
        .with_certificates(vec![certificate.dtls.clone()])
        .with_cipher_suites(suites)
        .with_srtp_protection_profiles(profiles.iter().map(|profile| profile.to_dtls()).collect())
        .with_client_auth(ClientAuthType::RequireAnyClientCert)
        .with_flight_interval(FLIGHT_INTERVAL)
        .with_verify_peer_certificate(Some(Arc::new(move |chain: &[Vec<u8>], _: &[_]| {
            // The first certificate is the one whose key was proved.
            if chain.first().is_some_and(|certificate| matches_any(certificate, &fingerprints)) {
                return Ok(());
            }
            mismatch.store(true, Ordering::Relaxed);
            Err(Error::ErrInvalidCertificate)
        })))
        .build(role == DtlsRole::Client, None)
        .map_err(|error| TransportError::Setup { cause: error.to_string() })
}

/// Skipping the chain's verification is WebRTC's way: self-signed certificates, verified by fingerprint.
fn base_config() -> ConfigBuilder {
    ConfigBuilder::default()
        .with_crypto_provider(Arc::clone(provider()))
        .with_insecure_skip_verify(true)
        .with_server_name("webrtc".to_owned())
}

/// What an association needs when it only reads and writes alerts; the same for all.
fn settled_config() -> Result<&'static Arc<HandshakeConfig>, Error> {
    use std::sync::OnceLock;
    static CONFIG: OnceLock<Arc<HandshakeConfig>> = OnceLock::new();
    if let Some(config) = CONFIG.get() {
        return Ok(config);
    }
    let config = base_config().with_cipher_suites(CLIENT_SUITES.to_vec()).build(true, None)?;
    Ok(CONFIG.get_or_init(|| Arc::new(config)))
}
