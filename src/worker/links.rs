//! The worker's ways to its peers: the UDP socket and its ICE-TCP connections, behind one `send`.

use std::net::SocketAddr;

use bytes::BytesMut;
use mio::{Interest, Registry, Token, net::TcpStream};
use slab::Slab;

use super::{
    tcp::{CONNECTIONS_MAX, Connection},
    udp::Udp,
};
use crate::{
    egress::whep::DatagramOut,
    transport::{Link, Path},
};

/// Tokens below this are the worker's own (socket, listener, waker); connections come after.
pub const FIRST_CONNECTION: usize = 3;

pub struct Links {
    pub udp: Udp,
    pub connections: Slab<Connection>,
}

/// One path to send on.
pub struct Way<'a> {
    links: &'a mut Links,
    path: Path,
}

impl DatagramOut for Way<'_> {
    fn send(&mut self, contents: &[u8], segment_bytes: usize) {
        self.links.send(&self.path, contents, segment_bytes);
    }
}

impl Links {
    pub fn to(&mut self, path: Path) -> Way<'_> {
        Way { links: self, path }
    }

    /// Sends datagrams of `segment_bytes` each, of which the last may be shorter.
    pub fn send(&mut self, path: &Path, contents: &[u8], segment_bytes: usize) {
        match path.link {
            Link::Udp => self.udp.send(path.remote, path.local_ip, contents, segment_bytes),
            Link::Tcp(id) => {
                if let Some(connection) = self.connections.get_mut(id as usize) {
                    // A slot may have a new tenant: a session's path names the address it was checked from.
                    if connection.remote == path.remote {
                        connection.send(contents, segment_bytes);
                    }
                }
            }
        }
    }

    /// Takes a connection in; `None` when there are too many, or it is already broken.
    pub fn adopt(
        &mut self,
        registry: &Registry,
        stream: TcpStream,
        received: BytesMut,
        now: std::time::Instant,
    ) -> Option<usize> {
        if self.connections.len() >= CONNECTIONS_MAX {
            return None;
        }
        let connection = Connection::new(stream, received, now).ok()?;
        let index = self.connections.insert(connection);
        let token = Token(FIRST_CONNECTION + index);
        let stream = self.connections[index].stream_mut();
        if registry.register(stream, token, Interest::READABLE | Interest::WRITABLE).is_err() {
            self.connections.remove(index);
            return None;
        }
        Some(index)
    }

    /// Lets a connection go: closed, unless the caller keeps what it gets.
    pub fn release(&mut self, registry: &Registry, index: usize) -> Option<Connection> {
        let mut connection = self.connections.try_remove(index)?;
        // The descriptor may be gone already; then there is nothing to deregister.
        let _ = registry.deregister(connection.stream_mut());
        Some(connection)
    }

    pub fn path_of(&self, index: usize) -> Option<Path> {
        let connection = self.connections.get(index)?;
        Some(Path { remote: connection.remote, local_ip: connection.local_ip, link: Link::Tcp(index as u32) })
    }
}

/// What a datagram is routed by.
pub type RouteKey = (SocketAddr, Link);

pub fn route_key(path: &Path) -> RouteKey {
    (path.remote, path.link)
}
