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
    /// The kernel has cut-up sends (GSO), and has not shown that it refuses them where our peers are.
    offloads: bool,
    /// It has shown so since the last look.
    lost_offload: bool,
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
        let offloads = state.max_gso_segments() > 1;
        Ok(Self { socket, state, batch, refused: 0, offloads, lost_offload: false })
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
    /// link; retransmission mends it. Where it refuses to cut a call up, the datagrams go one by one, and all later ones too.
    pub fn send(&mut self, remote: SocketAddr, local_ip: Option<IpAddr>, contents: &[u8], segment_bytes: usize) {
        if contents.len() <= segment_bytes || !self.offloads {
            self.send_one_by_one(remote, local_ip, contents, segment_bytes);
        } else if self.send_call(remote, local_ip, contents, Some(segment_bytes)).is_err() {
            if self.state.max_gso_segments() > 1 {
                self.refused += 1;
            } else if self.send_one_by_one(remote, local_ip, contents, segment_bytes) {
                // One by one they pass: it is the cutting up that was refused.
                self.offloads = false;
                self.lost_offload = true;
            }
        }
    }

    /// How many sends the kernel refused since the last call.
    pub fn take_refused(&mut self) -> u64 {
        std::mem::take(&mut self.refused)
    }

    /// Whether since the last call the kernel began to refuse sends that it is to cut up.
    pub fn take_lost_offload(&mut self) -> bool {
        std::mem::take(&mut self.lost_offload)
    }

    /// Whether the kernel took them all.
    fn send_one_by_one(
        &mut self,
        remote: SocketAddr,
        local_ip: Option<IpAddr>,
        contents: &[u8],
        segment_bytes: usize,
    ) -> bool {
        let mut taken = true;
        for datagram in contents.chunks(segment_bytes.max(1)) {
            taken &= self.send_call(remote, local_ip, datagram, None).is_ok();
        }
        if !taken {
            self.refused += 1;
            self.keep_offload();
        }
        taken
    }

    /// The crate gives offload up for good at any EINVAL or EIO. When a single datagram brings one, the address is at fault (an
    /// interface that has gone), and one peer's address must not cost all others a call per packet: begin anew.
    #[cold]
    fn keep_offload(&mut self) {
        if self.offloads
            && self.state.max_gso_segments() == 1
            && let Ok(state) = UdpSocketState::new(UdpSockRef::from(&self.socket))
        {
            self.state = state;
        }
    }

    fn send_call(
        &self,
        destination: SocketAddr,
        src_ip: Option<IpAddr>,
        contents: &[u8],
        segment_size: Option<usize>,
    ) -> io::Result<()> {
        let transmit = Transmit { destination, ecn: None, contents, segment_size, src_ip };
        self.state.try_send(UdpSockRef::from(&self.socket), &transmit)
    }
}

impl Batch {
    /// Hands over each datagram of the last read.
    pub fn each(&self, mut handle: impl FnMut(Path, &[u8])) {
        // Nothing can be answered to port 0.
        let read = self.meta.iter().zip(&self.buffers).take(self.count).filter(|(meta, _)| meta.addr.port() != 0);
        for (meta, buffer) in read {
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

/// IPv4 written as IPv4, whichever socket it came by. A link-local IPv6 address keeps its zone: nothing reaches it without.
pub fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => SocketAddr::from((ip, address.port())),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use std::{net::UdpSocket as StdUdpSocket, os::fd::AsRawFd, time::Duration};

    use nix::libc;

    use super::*;

    /// The kernel (`udp_send_skb`) cuts nothing up for a socket that sends without checksum.
    fn refuse_offload(udp: &Udp) {
        let (fd, on) = (udp.socket.as_raw_fd(), 1);
        // SAFETY: the descriptor is open, and the value is an int of the size given.
        let status = unsafe {
            libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, (&raw const on).cast(), size_of_val(&on) as u32)
        };
        assert_eq!(status, 0);
    }

    /// A socket of ours, and a peer that waits long enough for what has been sent.
    fn pair() -> (Udp, StdUdpSocket) {
        let localhost = SocketAddr::from(([127, 0, 0, 1], 0));
        let udp = Udp::new(bind(localhost).unwrap()).unwrap();
        let peer = StdUdpSocket::bind(localhost).unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        (udp, peer)
    }

    fn received(peer: &StdUdpSocket, count: usize) -> Vec<Vec<u8>> {
        let mut buffer = [0; 2_000];
        (0..count).map(|_| peer.recv(&mut buffer).map(|bytes| buffer[..bytes].to_vec()).unwrap()).collect()
    }

    /// Three datagrams, the last one shorter.
    fn contents() -> (Vec<u8>, Vec<Vec<u8>>) {
        let datagrams = vec![vec![1; 1_000], vec![2; 1_000], vec![3; 400]];
        (datagrams.concat(), datagrams)
    }

    #[test]
    fn what_the_kernel_will_not_cut_up_goes_out_one_by_one_and_none_of_it_is_lost() {
        let (mut udp, peer) = pair();
        let to = peer.local_addr().unwrap();
        let (contents, datagrams) = contents();
        udp.send(to, None, &contents, 1_000);
        assert_eq!(received(&peer, 3), datagrams);
        assert!(!udp.take_lost_offload());

        refuse_offload(&udp);
        for _ in 0..2 {
            udp.send(to, None, &contents, 1_000);
            assert_eq!(received(&peer, 3), datagrams);
        }
        assert!(udp.take_lost_offload());
        assert!(!udp.take_lost_offload(), "told once");
        assert_eq!(udp.take_refused(), 0);
    }

    #[test]
    fn an_address_that_takes_nothing_does_not_end_offload_for_the_others() {
        let (mut udp, peer) = pair();
        let (contents, datagrams) = contents();
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        udp.send(nowhere, None, &contents, 1_000);
        udp.send(nowhere, None, &contents[..1_000], 1_000);
        assert_eq!(udp.take_refused(), 2);
        assert!(!udp.take_lost_offload());
        assert!(udp.state.max_gso_segments() > 1);
        udp.send(peer.local_addr().unwrap(), None, &contents, 1_000);
        assert_eq!(received(&peer, 3), datagrams);
    }

    #[test]
    fn addresses_are_written_in_one_way() {
        let canonical = |text: &str| canonical(text.parse().unwrap()).to_string();
        assert_eq!(canonical("[::ffff:192.0.2.1]:7"), "192.0.2.1:7");
        assert_eq!(canonical("[2001:db8::1]:7"), "[2001:db8::1]:7");
        assert_eq!(canonical("[fe80::1%3]:7"), "[fe80::1%3]:7");
    }
}
