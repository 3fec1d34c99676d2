//! The sockets of WebRTC connections to other servers, and what of a datagram may reach the `webrtc` crate.
//!
//! Inside the crate is the DTLS stack that [`crate::transport`] does not trust either (`transport/dtls/guard.rs`: reassembly by recursion, queues
//! without limit), and an SRTP that keeps state for each SSRC before it has authenticated one. So records of DTLS pass the same guard; DTLS and SRTP are
//! taken of addresses only that the crate has sent to, which are the other side's candidates; and SSRCs are counted.

use std::{
    future::Future,
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use arrayvec::ArrayVec;
use parking_lot::Mutex;
use tokio::{io::ReadBuf, net::UdpSocket, task::AbortHandle};
use webrtc::runtime::{
    AsyncInterval, AsyncTcpListener, AsyncTcpStream, AsyncUdpSocket, JoinHandle, RecvMeta, Runtime, TokioRuntime,
    Transmit,
};

use crate::transport::{DatagramKind, DtlsGuard, classify};

/// Candidates of the other side: its addresses, and those that its network shows.
const ADDRESSES_MAX: usize = 32;
/// Of one connection: two tracks, their retransmissions, and what a server that was started anew sends instead.
const SSRCS_MAX: usize = 32;

/// A runtime for one connection: tokio's, with sockets that are guarded, and tasks that end with the connection.
#[derive(Debug, Default)]
pub(super) struct Guarded {
    door: Arc<Mutex<Door>>,
    tasks: Arc<Tasks>,
}

impl Guarded {
    pub(super) fn door(&self) -> Arc<Mutex<Door>> {
        self.door.clone()
    }

    /// Ends what this runtime is given to do, once it is dropped.
    pub(super) fn end(&self) -> End {
        End(self.tasks.clone())
    }
}

/// What the crate has begun for a connection. It leaves its task and sockets behind (0.21) when a connection is dropped without being closed,
/// as one is that was never answered.
#[derive(Debug)]
pub(super) struct End(Arc<Tasks>);

type Tasks = Mutex<Vec<AbortHandle>>;

impl Drop for End {
    fn drop(&mut self) {
        self.0.lock().drain(..).for_each(|task| task.abort());
    }
}

#[derive(Debug)]
struct Task(AbortHandle);

impl JoinHandle for Task {
    fn detach(&self) {}

    fn abort(&self) {
        self.0.abort();
    }

    fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

/// What may come in.
#[derive(Debug, Default)]
pub(super) struct Door {
    /// Addresses that were sent to.
    known: ArrayVec<SocketAddr, ADDRESSES_MAX>,
    dtls: DtlsGuard,
    ssrcs: ArrayVec<u32, SSRCS_MAX>,
}

impl Door {
    /// The handshake is over.
    pub(super) fn connected(&mut self) {
        self.dtls.connected();
    }

    /// Whether it may be sent there: an answer can name any number of addresses, and of anybody.
    fn sends_to(&mut self, to: SocketAddr) -> bool {
        self.known.contains(&to) || self.known.try_push(to).is_ok()
    }

    /// How much of a datagram may pass, after it was rewritten where some may not; none: nothing.
    fn admit(&mut self, datagram: &mut [u8], from: SocketAddr) -> Option<usize> {
        let kind = classify(datagram);
        if kind != DatagramKind::Stun && !self.known.contains(&from) {
            return None;
        }
        match kind {
            DatagramKind::Stun => Some(datagram.len()),
            DatagramKind::Dtls => {
                let admitted = self.dtls.admit(datagram)?;
                datagram.get_mut(..admitted.len())?.copy_from_slice(&admitted);
                Some(admitted.len())
            }
            DatagramKind::Rtp => self.is_of_few(datagram, 8),
            DatagramKind::Rtcp => self.is_of_few(datagram, 4),
            DatagramKind::Unknown => None,
        }
    }

    fn is_of_few(&mut self, datagram: &[u8], at: usize) -> Option<usize> {
        let ssrc = u32::from_be_bytes(*datagram.get(at..)?.first_chunk()?);
        if !self.ssrcs.contains(&ssrc) {
            self.ssrcs.try_push(ssrc).ok()?;
        }
        Some(datagram.len())
    }
}

#[derive(Debug)]
struct GuardedSocket {
    socket: UdpSocket,
    door: Arc<Mutex<Door>>,
}

impl AsyncUdpSocket for GuardedSocket {
    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn poll_send(&self, cx: &mut Context<'_>, transmit: &Transmit<'_>) -> Poll<io::Result<usize>> {
        if !self.door.lock().sends_to(transmit.destination) {
            return Poll::Ready(Ok(transmit.contents.len()));
        }
        // One address that cannot be reached says nothing about the others: what is not sent is lost, as it may be on the way.
        let _ = ready!(self.socket.poll_send_to(cx, transmit.contents, transmit.destination));
        Poll::Ready(Ok(transmit.contents.len()))
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let (Some(buffer), Some(meta)) = (bufs.first_mut(), meta.first_mut()) else { return Poll::Ready(Ok(0)) };
        loop {
            let mut received = ReadBuf::new(buffer);
            let from = match ready!(self.socket.poll_recv_from(cx, &mut received)) {
                Ok(from) => from,
                // Word of a datagram that did not arrive.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => continue,
                Err(error) => return Poll::Ready(Err(error)),
            };
            if let Some(bytes) = self.door.lock().admit(received.filled_mut(), from) {
                *meta = RecvMeta::default();
                (meta.addr, meta.len, meta.stride) = (from, bytes, bytes.max(1));
                return Poll::Ready(Ok(1));
            }
        }
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl Runtime for Guarded {
    fn spawn(&self, future: Boxed<'static, ()>) -> Box<dyn JoinHandle> {
        let task = tokio::spawn(future).abort_handle();
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(task.clone());
        Box::new(Task(task))
    }

    fn wrap_udp_socket(&self, socket: std::net::UdpSocket) -> io::Result<Arc<dyn AsyncUdpSocket>> {
        socket.set_nonblocking(true)?;
        Ok(Arc::new(GuardedSocket { socket: UdpSocket::from_std(socket)?, door: self.door.clone() }))
    }

    fn wrap_tcp_listener(&self, listener: std::net::TcpListener) -> io::Result<Arc<dyn AsyncTcpListener>> {
        TokioRuntime.wrap_tcp_listener(listener)
    }

    /// ICE-TCP is not spoken: nothing would guard it.
    fn connect_tcp<'a>(&'a self, _: SocketAddr) -> Boxed<'a, io::Result<Arc<dyn AsyncTcpStream>>> {
        Box::pin(async { Err(io::ErrorKind::Unsupported.into()) })
    }

    fn resolve_host<'a>(&'a self, host: &'a str) -> Boxed<'a, io::Result<Vec<SocketAddr>>> {
        TokioRuntime.resolve_host(host)
    }

    fn sleep(&self, duration: Duration) -> Boxed<'static, ()> {
        TokioRuntime.sleep(duration)
    }

    fn interval(&self, period: Duration) -> Box<dyn AsyncInterval> {
        TokioRuntime.interval(period)
    }

    fn block_on(&self, future: Pin<Box<dyn Future<Output = ()> + '_>>) {
        TokioRuntime.block_on(future);
    }

    fn name(&self) -> &'static str {
        "guarded tokio"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    /// A record of DTLS 1.2, of epoch 0.
    fn record(content: u8, body: &[u8]) -> Vec<u8> {
        let mut record = vec![content, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, body.len() as u8];
        record.extend(body);
        record
    }

    #[test]
    fn only_who_was_sent_to_may_send_more_than_stun() {
        let mut door = Door::default();
        let mut stun = vec![0, 1, 0, 0];
        stun.extend([0x21, 0x12, 0xa4, 0x42]);
        stun.extend([0; 12]);
        let mut media = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1];
        assert_eq!(door.admit(&mut stun, address(1)), Some(20));
        assert_eq!(door.admit(&mut media, address(1)), None);
        assert!(door.sends_to(address(1)));
        assert_eq!(door.admit(&mut media, address(1)), Some(13));
        assert_eq!(door.admit(&mut media, address(2)), None);
        assert_eq!((0..1_000).filter(|port| door.sends_to(address(*port))).count(), ADDRESSES_MAX);
        assert!(door.sends_to(address(1)) && !door.sends_to(address(999)));
    }

    #[test]
    fn records_that_hurt_are_cut_out() {
        let mut door = Door::default();
        assert!(door.sends_to(address(1)));
        // A hello of no bytes, whole; and a part of none, of which there may be any number.
        let sound = record(22, &[1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let unsound = record(22, &[1, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0]);
        let mut datagram = [unsound, sound.clone()].concat();
        let bytes = door.admit(&mut datagram, address(1)).unwrap();
        assert_eq!(datagram[..bytes], sound);
        door.connected();
        assert_eq!(door.admit(&mut record(23, b"SCTP"), address(1)), None, "there are no data channels");
    }

    #[test]
    fn ssrcs_are_bounded() {
        let mut door = Door::default();
        assert!(door.sends_to(address(1)));
        let passed = (0..1_000u32).filter(|ssrc| {
            let mut media = [&[0x80, 96, 0, 1, 0, 0, 0, 0][..], &ssrc.to_be_bytes(), &[1]].concat();
            door.admit(&mut media, address(1)).is_some()
        });
        assert_eq!(passed.count(), SSRCS_MAX);
        let mut known = [0x80, 96, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7, 1];
        assert!(door.admit(&mut known, address(1)).is_some());
    }

    #[tokio::test]
    async fn a_socket_gives_what_may_pass_and_counts_nothing_against_the_rest() {
        let guarded = Guarded::default();
        let ours = guarded.wrap_udp_socket(std::net::UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        let theirs = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (to_us, to_them) = (ours.local_addr().unwrap(), theirs.local_addr().unwrap());
        let media = [0x80, 96, 0, 1, 0, 0, 0, 0, 0, 0, 0, 7, 1];
        theirs.send_to(&media, to_us).await.unwrap();
        ours.send_to(b"a check", to_them).await.unwrap();
        theirs.send_to(b"no protocol of ours", to_us).await.unwrap();
        theirs.send_to(&[], to_us).await.unwrap();
        theirs.send_to(&media[..12], to_us).await.unwrap();
        let mut buffer = [0; 2_000];
        let (bytes, from) = ours.recv_from(&mut buffer).await.unwrap();
        // It came before the other side was sent to, and is looked at now.
        assert_eq!((bytes, from), (media.len(), to_them));
        // Nobody listens there, which is said by the network, and is of no matter to the others.
        drop(theirs);
        for _ in 0..3 {
            ours.send_to(b"a check", to_them).await.unwrap();
        }
    }

    #[test]
    fn mutants_of_every_kind_harm_nobody() {
        let mut door = Door::default();
        assert!(door.sends_to(address(1)));
        let mut state = 7u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as u8
        };
        for round in 0..50_000u32 {
            let first = [0, 22, 0x80, 0x81, next()][round as usize % 5];
            let mut datagram: Vec<u8> = (0..usize::from(next())).map(|_| next()).collect();
            if let [at_0, at_1, at_2, ..] = datagram.as_mut_slice() {
                (*at_0, *at_1, *at_2) = (first, 0xfe, 0xfd);
            }
            let bytes = datagram.len();
            assert!(door.admit(&mut datagram, address(1)).is_none_or(|admitted| admitted <= bytes));
        }
        assert!(door.ssrcs.len() <= SSRCS_MAX);
    }
}
