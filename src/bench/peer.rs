//! One WebRTC session seen from the client: connectivity checks, DTLS, SRTP. Sans-I/O; viewers and the publisher are built on it.
//!
//! The driver's contract is the transport's: after every call that takes `now`, drain [`Peer::poll_transmit`], and call
//! [`Peer::handle_timeout`] every few milliseconds (all sessions share one tick, a timer each would cost more).

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use sluice_signaling::{ice::IceCredentials, sdp::Setup};

use super::{answer::Answer, checks::Checks};
use crate::transport::{
    Certificate, Check, DatagramKind, DtlsRole, Link, Path, Received, SrtpSealer, Transport, TransportConfig,
    TransportEvent, classify, stun::BindingRequest,
};

/// The transport hears of each answered check, every 5 s, and of nothing else while packets are not decrypted.
const CONSENT_TIMEOUT: Duration = Duration::from_secs(60);
pub struct Peer {
    local: IceCredentials,
    checks: Checks,
    transport: Transport,
    /// Checks and their answers, until the driver drains them.
    outbox: VecDeque<(SocketAddr, Vec<u8>)>,
    connected: bool,
    ended: Option<String>,
}

impl Peer {
    /// # Errors
    /// When the DTLS endpoint cannot be made; for people.
    pub fn new(
        now: Instant,
        local: IceCredentials,
        answer: &Answer,
        certificate: &Arc<Certificate>,
    ) -> Result<Self, String> {
        let role = if answer.setup == Setup::Active { DtlsRole::Server } else { DtlsRole::Client };
        let config = TransportConfig {
            role,
            remote_fingerprints: answer.fingerprints.clone(),
            certificate: certificate.clone(),
            consent_timeout: CONSENT_TIMEOUT,
        };
        let transport = Transport::new(config, now).map_err(|error| error.to_string())?;
        let checks = Checks::new(now, &local.ufrag, answer.ice.clone(), answer.candidates.clone(), rand::random());
        Ok(Self { local, checks, transport, outbox: VecDeque::new(), connected: false, ended: None })
    }

    pub fn is_connected(&self) -> bool {
        self.connected
    }

    /// Why the session is over.
    pub fn ended(&self) -> Option<&str> {
        self.ended.as_deref()
    }

    pub fn sealer(&self) -> Option<&SrtpSealer> {
        self.transport.sealer()
    }

    /// Where media goes.
    pub fn remote(&self) -> Option<SocketAddr> {
        self.transport.path().map(|path| path.remote)
    }

    /// Seals and queues a compound packet; before the session is connected it is dropped.
    pub fn send_rtcp(&mut self, compound: &[u8]) {
        let remote = self.remote();
        if let (Some(sealed), Some(remote)) = (self.transport.seal_rtcp(compound), remote) {
            self.outbox.push_back((remote, sealed.to_vec()));
        }
    }

    pub fn handle_datagram(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Received {
        let received = match classify(datagram) {
            DatagramKind::Stun => {
                self.stun(now, from, datagram);
                Received::Nothing
            }
            DatagramKind::Unknown => Received::Nothing,
            _ => self.transport.handle_datagram(now, path(from), BytesMut::from(datagram)),
        };
        self.note_events();
        received
    }

    fn stun(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if let Some(remote) = self.checks.handle_response(now, datagram) {
            self.transport.handle_check(now, path(remote), Check::of_first(true));
            return;
        }
        // A full agent checks us too, and waits for our answer before it sends.
        let Ok(request) = BindingRequest::parse(datagram) else { return };
        if request.local_ufrag == self.local.ufrag && request.verify(&self.local.pwd) {
            let mut response = Vec::new();
            request.answer_as_controlling(from, &self.local.pwd, &mut response);
            self.outbox.push_back((from, response));
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        if self.ended.is_some() {
            return;
        }
        if now >= self.checks.poll_timeout() {
            self.outbox.extend(self.checks.poll_check(now));
        }
        if self.checks.expired(now) {
            self.ended.get_or_insert_with(|| "the server stopped answering connectivity checks".to_owned());
        }
        if self.transport.poll_timeout().is_some_and(|due| due <= now) {
            self.transport.handle_timeout(now);
            self.note_events();
        }
    }

    pub fn poll_transmit(&mut self) -> Option<(SocketAddr, Vec<u8>)> {
        if let Some(transmit) = self.outbox.pop_front() {
            return Some(transmit);
        }
        self.transport.poll_transmit().map(|transmit| (transmit.path.remote, transmit.datagram.to_vec()))
    }

    /// Says goodbye by DTLS.
    pub fn close(&mut self, now: Instant) {
        self.transport.close(now);
    }

    fn note_events(&mut self) {
        while let Some(event) = self.transport.poll_event() {
            let reason = match event {
                TransportEvent::Connected { .. } => {
                    self.connected = true;
                    continue;
                }
                TransportEvent::Failed(error) => error.to_string(),
                TransportEvent::PeerClosed => "the server closed the session".to_owned(),
                TransportEvent::ConsentExpired => "nothing came from the server any more".to_owned(),
            };
            self.ended.get_or_insert(reason);
        }
    }
}

fn path(remote: SocketAddr) -> Path {
    Path { remote, local_ip: None, link: Link::Udp }
}
