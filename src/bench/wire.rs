//! One UDP socket, and the reader that all sockets of a thread share. The floor (`benches/floor.rs`) reads with it too, so
//! that its figure and the server's are taken against the same reader.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use mio::{Interest, Registry, Token};
use quinn_udp::{RecvMeta, UdpSockRef, UdpSocketState};

/// What a socket may hold unread: 2 Mb/s for 2 s, about what a join burst brings. The kernel may grant less.
const RECEIVE_BUFFER_BYTES: usize = 512 * 1024;

/// A socket of its own source port: a server that spreads sockets by the kernel's hash of addresses spreads viewers too.
#[derive(Debug)]
pub struct Wire {
    socket: mio::net::UdpSocket,
    state: UdpSocketState,
}

impl Wire {
    /// A socket on any free port, on the loopback or the wildcard address of the remote's family.
    ///
    /// # Errors
    /// Those of the system: no free port or descriptor, no such address family.
    pub fn towards(remote: SocketAddr) -> io::Result<Self> {
        let local: IpAddr = match remote {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = std::net::UdpSocket::bind((local, 0))?;
        // Best effort: what the kernel grants is enough, or the report shows drops.
        let _ = socket2::SockRef::from(&socket).set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        Ok(Self { socket: mio::net::UdpSocket::from_std(socket), state })
    }

    /// # Errors
    /// Those of the system's event queue.
    pub fn register(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        registry.register(&mut self.socket, token, Interest::READABLE)
    }

    /// # Errors
    /// Those of the system; `WouldBlock` when the socket's send buffer is full.
    pub fn send(&self, datagram: &[u8], to: SocketAddr) -> io::Result<()> {
        self.socket.send_to(datagram, to).map(drop)
    }

    /// # Errors
    /// Those of the system.
    pub fn local_port(&self) -> io::Result<u16> {
        self.socket.local_addr().map(|addr| addr.port())
    }
}

/// Datagrams of one size from one peer, received together.
#[derive(Debug)]
pub struct Batch<'a> {
    pub from: SocketAddr,
    /// When the kernel queued it, since 1970; `None` where the kernel does not say.
    pub kernel_time: Option<Duration>,
    bytes: &'a [u8],
    stride: usize,
}

impl<'a> Batch<'a> {
    pub fn datagrams(&self) -> impl Iterator<Item = &'a [u8]> {
        self.bytes.chunks(self.stride.max(1))
    }
}

/// Batches asked for in one system call. One frame is one batch, and a viewer rarely has more waiting.
const BATCHES: usize = 4;
/// The largest batch that generic receive offload makes.
const BATCH_BYTES: usize = 65_536;

/// Receive buffers, shared by any number of sockets: what is received is looked at before the next call.
#[derive(Debug)]
pub struct Reader {
    buffers: [Box<[u8]>; BATCHES],
}

impl Default for Reader {
    fn default() -> Self {
        Self { buffers: std::array::from_fn(|_| vec![0; BATCH_BYTES].into_boxed_slice()) }
    }
}

impl Reader {
    /// Reads until the socket is empty, as edge-triggered events demand. Fewer batches than asked for mean that the
    /// kernel had no more, so that a socket with one frame waiting costs one system call.
    pub fn drain(&mut self, wire: &Wire, mut each: impl FnMut(&Batch<'_>)) {
        loop {
            let mut slices = self.buffers.each_mut().map(|buffer| IoSliceMut::new(buffer));
            let mut metas = [RecvMeta::default(); BATCHES];
            let received = match wire.state.recv(UdpSockRef::from(&wire.socket), &mut slices, &mut metas) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // Empty, or an ICMP error of something sent earlier, which timeouts will find.
                Err(_) => return,
            };
            for (buffer, meta) in self.buffers.iter().zip(&metas).take(received) {
                let Some(bytes) = buffer.get(..meta.len) else { continue };
                each(&Batch { from: canonical(meta.addr), kernel_time: meta.timestamp, bytes, stride: meta.stride });
            }
            if received < BATCHES {
                return;
            }
        }
    }
}

/// An IPv4 peer of an IPv6 socket, by its own name.
fn canonical(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_read_empty_in_one_drain() {
        let wire = Wire::towards("127.0.0.1:1".parse().unwrap()).unwrap();
        let to = SocketAddr::from(([127, 0, 0, 1], wire.local_port().unwrap()));
        let sender = Wire::towards(to).unwrap();
        for n in 0..20u8 {
            sender.send(&[n; 7], to).unwrap();
        }
        let mut seen = Vec::new();
        Reader::default().drain(&wire, |batch| {
            assert_eq!(batch.from.port(), sender.local_port().unwrap());
            assert!(batch.kernel_time.is_some());
            seen.extend(batch.datagrams().map(|datagram| datagram[0]));
        });
        assert_eq!(seen, (0..20).collect::<Vec<_>>());
    }
}
