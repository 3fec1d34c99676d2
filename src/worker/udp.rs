//! The worker's UDP socket: one of a SO_REUSEPORT group, with segmentation offload both ways where the kernel has it.

use std::{
    io::{self, IoSliceMut},
    net::{IpAddr, SocketAddr},
};

use mio::net::UdpSocket;
use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSockRef, UdpSocketState};
use socket2::{Domain, Protocol, Socket, Type};

use crate::transport::{Link, Path};

/// A keyframe for a thousand viewers fits; the kernel caps it at `net.core.wmem_max`.
const SEND_BUFFER_BYTES: usize = 8 << 20;
/// A tenth of a second of a thousand publishers at 8 Mb/s is 100 MB; the kernel's `net.core.rmem_max` is the real bound.
const RECEIVE_BUFFER_BYTES: usize = 8 << 20;
/// What the kernel joins into one read (GRO).
const READ_BYTES_MAX: usize = 65_535;

/// A datagram socket of the group.
pub struct Udp {
    pub socket: UdpSocket,
    state: UdpSocketState,
    /// Room to read into; taken out while its datagrams are handled.
    pub batch: Batch,
    /// Sends that the kernel refused since the last look.
    refused: u64,
}

/// What one read brought.
#[derive(Default)]
pub struct Batch {
    buffers: Vec<Vec<u8>>,
    meta: Vec<RecvMeta>,
    count: usize,
}

/// Binds the group's sockets.
///
/// # Errors
/// When the address is in use or is not this machine's.
pub fn bind_group(listen: SocketAddr, count: u16) -> io::Result<Vec<UdpSocket>> {
    // Another server's group would take us in as a member and share its datagrams, so the port must be free first.
    drop(std::net::UdpSocket::bind(listen)?);
    let first = bind(listen)?;
    let address = first.local_addr()?;
    let mut group = vec![first];
    for _ in 1..count {
        group.push(bind(address)?);
    }
    Ok(group)
}

fn bind(listen: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
    if listen.is_ipv6() {
        // A wildcard address serves both IP versions.
        socket.set_only_v6(!listen.ip().is_unspecified())?;
    }
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    // As much as the kernel allows is right; less is no error.
    let _ = socket.set_send_buffer_size(SEND_BUFFER_BYTES);
    let _ = socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES);
    socket.bind(&listen.into())?;
    Ok(UdpSocket::from_std(socket.into()))
}

impl Udp {
    pub fn new(socket: UdpSocket) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let batch = Batch {
            buffers: vec![vec![0; READ_BYTES_MAX]; BATCH_SIZE],
            meta: vec![RecvMeta::default(); BATCH_SIZE],
            count: 0,
        };
        Ok(Self { socket, state, batch, refused: 0 })
    }

    /// Reads once; false when there was nothing to read.
    pub fn receive(&self, batch: &mut Batch) -> bool {
        let mut buffers = batch.buffers.iter_mut();
        let mut slices: [IoSliceMut<'_>; BATCH_SIZE] =
            std::array::from_fn(|_| IoSliceMut::new(buffers.next().map_or(&mut [], |buffer| buffer.as_mut_slice())));
        // An error other than "nothing there" is an earlier datagram's ICMP answer: the next read goes on.
        batch.count = match self.state.recv(UdpSockRef::from(&self.socket), &mut slices, &mut batch.meta) {
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
            Err(_) => 0,
        };
        true
    }

    /// Sends one datagram, or several of `segment_bytes` each in one call. What the kernel has no room for is lost, as on any
    /// link; retransmission mends it.
    pub fn send(&mut self, remote: SocketAddr, local_ip: Option<IpAddr>, contents: &[u8], segment_bytes: usize) {
        let several = contents.len() > segment_bytes;
        if several && self.state.max_gso_segments() == 1 {
            for datagram in contents.chunks(segment_bytes) {
                self.send_call(remote, local_ip, datagram, None);
            }
            return;
        }
        self.send_call(remote, local_ip, contents, several.then_some(segment_bytes));
    }

    /// How many sends the kernel refused since the last call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    fn send_call(
        &mut self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        contents: &[u8],
        segment_size: Option<usize>,
    ) {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
        if self.state.try_send(UdpSockRef::from(&self.socket), &transmit).is_err() {
            self.refused += 1;
        }
    }
}

impl Batch {
    /// Hands over each datagram of the last read.
    pub fn each(&self, mut handle: impl FnMut(Path, &[u8])) {
        for (meta, buffer) in self.meta.iter().zip(&self.buffers).take(self.count) {
            let path = Path {
                remote: canonical(meta.addr),
                local_ip: meta.dst_ip.map(|ip| ip.to_canonical()),
                link: Link::Udp,
            };
            let stride = meta.stride.max(1);
            buffer[..meta.len.min(buffer.len())].chunks(stride).for_each(|datagram| handle(path, datagram));
        }
    }
}

/// IPv4 written as IPv4, whichever socket it came by.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
