//! Opening the TCP doors, with words for what goes wrong.

use std::{io, net::SocketAddr};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that the system holds until we accept them.
const BACKLOG: i32 = 1_024;

/// A door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(
        "{setting}: {address} is in use: stop the program that has it (another sluice?), or set another address or port"
    )]
    InUse { setting: &'static str, address: SocketAddr },
    #[error("{setting}: {address} is no address of this machine; set one that it has, or [::] for all")]
    NotOurs { setting: &'static str, address: SocketAddr },
    #[error("{setting}: port {} needs rights that this user lacks; set one of 1024 or more", address.port())]
    NotAllowed { setting: &'static str, address: SocketAddr },
    #[error("{setting}: cannot listen on {address}: {source}")]
    Other { setting: &'static str, address: SocketAddr, source: io::Error },
}

impl ListenError {
    /// Names the setting that is to be changed.
    pub fn new(setting: &'static str, address: SocketAddr, source: io::Error) -> Self {
        match source.kind() {
            io::ErrorKind::AddrInUse => Self::InUse { setting, address },
            io::ErrorKind::AddrNotAvailable => Self::NotOurs { setting, address },
            io::ErrorKind::PermissionDenied => Self::NotAllowed { setting, address },
            _ => Self::Other { setting, address, source },
        }
    }
}

/// Listens at once. A port that a stopped server has just left can be had; an unspecified IPv6 address takes IPv4, too.
///
/// # Errors
/// Which setting cannot be fulfilled, and why.
pub fn tcp(setting: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    open(address).map_err(|source| ListenError::new(setting, address, source))
}

fn open(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_names_the_setting() {
        let first = tcp("http.listen", SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = first.local_addr().unwrap();
        let error = tcp("rtmp.listen", address).unwrap_err().to_string();
        assert!(error.starts_with(&format!("rtmp.listen: {address} is in use")), "{error}");
    }

    #[tokio::test]
    async fn an_address_of_another_machine_names_the_setting() {
        let error = tcp("http.listen", SocketAddr::from(([192, 0, 2, 1], 0))).unwrap_err().to_string();
        assert!(error.starts_with("http.listen: 192.0.2.1:0 is no address of this machine"), "{error}");
    }
}
