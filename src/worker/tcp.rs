//! ICE-TCP, passive (RFC 6544): each connection carries datagrams with two bytes of length in front (RFC 4571).

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Buf, BytesMut};
use mio::net::TcpStream;

/// A connection that has not shown a valid check by then is closed.
pub const SILENT_MAX: Duration = Duration::from_secs(10);
/// Connections of one worker. Each costs a descriptor and up to the two buffers below.
pub const CONNECTIONS_MAX: usize = 1_024;
/// One frame: the largest datagram that anyone sends us, with room.
const FRAME_BYTES_MAX: usize = 8 * 1024;
/// Read per call and connection, so that one cannot hold up the others.
const READ_BYTES: usize = 16 * 1024;
/// Waiting to be written: half a second at 8 Mb/s. Beyond it frames are dropped whole, as a link would drop packets.
const WRITE_BUFFER_BYTES_MAX: usize = 512 * 1024;
const LENGTH_BYTES: usize = 2;

/// One ICE-TCP connection.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    pub remote: SocketAddr,
    pub local_ip: Option<IpAddr>,
    pub since: Instant,
    /// A valid check came over it.
    pub checked: bool,
    received: BytesMut,
    unsent: VecDeque<u8>,
}

/// The connection is at its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Closed;

impl Connection {
    pub fn new(stream: TcpStream, received: BytesMut, now: Instant) -> io::Result<Self> {
        let remote = super::udp::canonical(stream.peer_addr()?);
        let local_ip = stream.local_addr().ok().map(|address| address.ip().to_canonical());
        stream.set_nodelay(true)?;
        Ok(Self { stream, remote, local_ip, since: now, checked: false, received, unsent: VecDeque::new() })
    }

    pub fn stream_mut(&mut self) -> &mut TcpStream {
        &mut self.stream
    }

    /// Gives the connection away, with what it has received and not yet been understood.
    pub fn into_parts(self) -> (TcpStream, BytesMut) {
        (self.stream, self.received)
    }

    /// Reads what is there, up to a bound; true when there may be more.
    ///
    /// # Errors
    /// [`Closed`] at the end of the stream and on any fault.
    pub fn read(&mut self) -> Result<bool, Closed> {
        let mut buffer = [0; READ_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(Closed),
            Ok(n) => {
                self.received.extend_from_slice(&buffer[..n]);
                Ok(n == READ_BYTES)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => Ok(false),
            Err(_) => Err(Closed),
        }
    }

    /// The next whole datagram.
    ///
    /// # Errors
    /// [`Closed`] when the peer announces one that is larger than any of ours.
    pub fn next_datagram(&mut self) -> Result<Option<BytesMut>, Closed> {
        let Some(length) = self.received.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > FRAME_BYTES_MAX {
            return Err(Closed);
        }
        if self.received.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.received.advance(LENGTH_BYTES);
        Ok(Some(self.received.split_to(length)))
    }

    /// Puts a datagram back in front, for whoever gets the connection.
    pub fn unread(&mut self, datagram: &[u8]) {
        let mut received = BytesMut::with_capacity(LENGTH_BYTES + datagram.len() + self.received.len());
        received.extend_from_slice(&(datagram.len() as u16).to_be_bytes());
        received.extend_from_slice(datagram);
        received.extend_from_slice(&self.received);
        self.received = received;
    }

    /// Sends datagrams of `segment_bytes` each (the last may be shorter); those without room are dropped whole.
    pub fn send(&mut self, contents: &[u8], segment_bytes: usize) {
        for datagram in contents.chunks(segment_bytes.max(1)) {
            if self.unsent.len() + LENGTH_BYTES + datagram.len() > WRITE_BUFFER_BYTES_MAX {
                break;
            }
            self.unsent.extend((datagram.len() as u16).to_be_bytes());
            self.unsent.extend(datagram);
        }
        // A fault shows when the connection is read.
        let _ = self.flush();
    }

    /// Writes what waits, as far as the peer takes it.
    ///
    /// # Errors
    /// [`Closed`] when the connection is broken.
    pub fn flush(&mut self) -> Result<(), Closed> {
        while !self.unsent.is_empty() {
            let (front, _) = self.unsent.as_slices();
            match self.stream.write(front) {
                Ok(0) => return Err(Closed),
                Ok(n) => drop(self.unsent.drain(..n)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return Err(Closed),
            }
        }
        if self.unsent.is_empty() && self.unsent.capacity() > READ_BYTES {
            self.unsent = VecDeque::new();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream as StdTcpStream};

    use super::*;
    use crate::media::testing::epoch;

    /// A connection and its peer's end.
    fn pair() -> (Connection, StdTcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let peer = StdTcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        stream.set_nonblocking(true).unwrap();
        (Connection::new(TcpStream::from_std(stream), BytesMut::new(), epoch()).unwrap(), peer)
    }

    /// Reads until `count` datagrams have come.
    fn receive(connection: &mut Connection, count: usize) -> Vec<BytesMut> {
        let mut datagrams = Vec::new();
        while datagrams.len() < count {
            connection.read().unwrap();
            while let Some(datagram) = connection.next_datagram().unwrap() {
                datagrams.push(datagram);
            }
        }
        datagrams
    }

    #[test]
    fn frames_are_taken_apart_wherever_the_stream_is_cut() {
        let (mut connection, mut peer) = pair();
        peer.write_all(&[0, 3, b'a', b'b']).unwrap();
        connection.read().unwrap();
        assert_eq!(connection.next_datagram(), Ok(None), "half a frame is none");
        peer.write_all(&[b'c', 0, 0, 0, 1, b'd']).unwrap();
        let datagrams = receive(&mut connection, 3);
        assert_eq!(datagrams.iter().map(|datagram| &datagram[..]).collect::<Vec<_>>(), [&b"abc"[..], b"", b"d"]);
    }

    #[test]
    fn a_frame_larger_than_any_datagram_closes_the_connection() {
        let (mut connection, mut peer) = pair();
        peer.write_all(&[0xff, 0xff]).unwrap();
        while connection.received.len() < 2 {
            connection.read().unwrap();
        }
        assert_eq!(connection.next_datagram(), Err(Closed));
    }

    #[test]
    fn the_end_of_the_stream_is_told() {
        let (mut connection, peer) = pair();
        drop(peer);
        while connection.read() == Ok(false) {}
        assert_eq!(connection.read(), Err(Closed));
    }

    #[test]
    fn a_datagram_put_back_comes_first_again() {
        let (mut connection, mut peer) = pair();
        peer.write_all(&[0, 1, b'a', 0, 1, b'b']).unwrap();
        let datagrams = receive(&mut connection, 2);
        connection.unread(&datagrams[1]);
        connection.unread(&datagrams[0]);
        let (stream, received) = connection.into_parts();
        let mut again = Connection::new(stream, received, epoch()).unwrap();
        assert_eq!(again.next_datagram().unwrap().unwrap(), &b"a"[..]);
        assert_eq!(again.next_datagram().unwrap().unwrap(), &b"b"[..]);
    }

    #[test]
    fn what_a_slow_peer_does_not_take_is_bounded_and_dropped_whole() {
        let (mut connection, mut peer) = pair();
        let datagrams = [7u8; 1_200 * 40];
        (0..1_000).for_each(|_| connection.send(&datagrams, 1_200));
        assert!(connection.unsent.len() <= WRITE_BUFFER_BYTES_MAX);
        drop(connection);
        let mut received = Vec::new();
        peer.read_to_end(&mut received).unwrap();
        assert!(received.chunks_exact(1_202).all(|frame| frame[..2] == [0x04, 0xb0] && frame[2..] == [7; 1_200]));
    }
}
