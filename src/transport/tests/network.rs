//! The pair under test and what lies between.

use std::{
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::super::*;
use crate::media::testing::epoch;

pub const CONSENT_TIMEOUT: Duration = Duration::from_secs(30);
const DELAY: Duration = Duration::from_millis(10);

pub fn certificates() -> &'static [Arc<Certificate>; 2] {
    static CERTIFICATES: OnceLock<[Arc<Certificate>; 2]> = OnceLock::new();
    CERTIFICATES.get_or_init(|| [Certificate::generate().unwrap(), Certificate::generate().unwrap()])
}

pub fn path(port: u16) -> Path {
    Path { remote: SocketAddr::from(([192, 0, 2, 1], port)), local_ip: None, link: Link::Udp }
}

pub fn transport(role: DtlsRole) -> Transport {
    let [server, client] = certificates();
    let (own, other) = if role == DtlsRole::Server { (server, client) } else { (client, server) };
    transport_expecting(role, own, vec![other.fingerprint()])
}

pub fn transport_expecting(role: DtlsRole, own: &Arc<Certificate>, remote_fingerprints: Vec<Fingerprint>) -> Transport {
    let config =
        TransportConfig { role, remote_fingerprints, certificate: Arc::clone(own), consent_timeout: CONSENT_TIMEOUT };
    Transport::new(config, epoch()).unwrap()
}

pub fn rtp(ssrc: u32, sequence: u16, payload: &[u8]) -> Vec<u8> {
    let mut packet = vec![0x80, 96];
    packet.extend(sequence.to_be_bytes());
    packet.extend([0, 0, 0, 1]);
    packet.extend(ssrc.to_be_bytes());
    packet.extend(payload);
    packet
}

pub fn seal(transport: &Transport, plain: &[u8], ssrc: u32, index: u64) -> BytesMut {
    let sealer = transport.sealer().unwrap();
    let mut packet = BytesMut::from(plain);
    packet.resize(plain.len() + sealer.overhead_bytes(), 0);
    sealer.seal(&mut packet, 12, ssrc, index);
    packet
}

/// Server (0) and client (1).
pub struct Network {
    pub now: Instant,
    pub ends: [Transport; 2],
    pub events: [Vec<TransportEvent>; 2],
    pub sent: [usize; 2],
    in_flight: Vec<(Instant, usize, BytesMut)>,
    random: StdRng,
    loss: f64,
}

impl Network {
    pub fn new(ends: [Transport; 2], seed: u64, loss: f64) -> Self {
        Self {
            now: epoch(),
            ends,
            events: Default::default(),
            sent: [0; 2],
            in_flight: Vec::new(),
            random: StdRng::seed_from_u64(seed),
            loss,
        }
    }

    pub fn connected(seed: u64) -> Self {
        let mut network = Self::new([transport(DtlsRole::Server), transport(DtlsRole::Client)], seed, 0.0);
        network.check();
        network.run_for(Duration::from_secs(1));
        assert!(network.ends.iter().all(Transport::is_connected));
        network.events = Default::default();
        network
    }

    /// Both ends have a nominated path.
    pub fn check(&mut self) {
        let now = self.now;
        for end in &mut self.ends {
            end.handle_check(now, path(1), Check::of_first(true));
        }
        self.collect();
    }

    /// Each end proves by SRTP that it is connected, so that the other puts its handshake away.
    pub fn settle(&mut self) {
        for (from, to) in [(0, 1), (1, 0)] {
            let report = self.ends[from].seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 1]).unwrap();
            self.ends[to].handle_datagram(self.now, path(1), report);
            assert!(self.ends[to].is_settled());
        }
    }

    pub fn lose_everything_in_flight(&mut self) {
        self.collect();
        self.in_flight.clear();
    }

    fn collect(&mut self) {
        for (index, end) in self.ends.iter_mut().enumerate() {
            while let Some(transmit) = end.poll_transmit() {
                assert_eq!(transmit.path.link, Link::Udp);
                self.sent[index] += 1;
                if self.random.random_bool(1.0 - self.loss) {
                    self.in_flight.push((self.now + DELAY, 1 - index, transmit.datagram));
                }
            }
            while let Some(event) = end.poll_event() {
                self.events[index].push(event);
            }
        }
    }

    /// Runs timers and deliveries in order of time until nothing is due before the end.
    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..100_000 {
            self.collect();
            let delivery = self.in_flight.iter().map(|(at, _, _)| *at).min();
            let timer = self.ends.iter().filter_map(Transport::poll_timeout).min();
            let Some(next) = delivery.into_iter().chain(timer).min().filter(|next| *next <= end) else {
                self.now = end;
                return;
            };
            self.now = self.now.max(next);
            if let Some(index) = self.in_flight.iter().position(|(at, _, _)| *at <= self.now) {
                let (_, to, datagram) = self.in_flight.remove(index);
                self.ends[to].handle_datagram(self.now, path(1), datagram);
            } else {
                for transport in &mut self.ends {
                    if transport.poll_timeout().is_some_and(|at| at <= self.now) {
                        transport.handle_timeout(self.now);
                    }
                }
            }
        }
        panic!("the network never comes to rest");
    }
}
