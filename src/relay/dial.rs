//! Connections to other servers, by TCP or through TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, crypto::aws_lc_rs, pki_types::ServerName},
};

use crate::config::RtmpUrl;

/// Until a connection stands, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// A target that acknowledges nothing for so long has gone, whatever the kernel still takes for it.
#[cfg(target_os = "linux")]
const SILENCE_MAX: Duration = Duration::from_secs(15);
/// Between looks at one that there is nothing to send to.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);

/// Both ways of a connection.
pub(super) trait Connection: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Connection for T {}

/// Opens connections. Certificates are checked against those that the system trusts.
#[derive(Clone)]
pub struct Connector {
    tls: Option<TlsConnector>,
}

impl Connector {
    /// `with_tls`: there are targets that want it.
    ///
    /// # Errors
    /// When TLS is wanted, and the system has no certificates to trust.
    pub fn new(with_tls: bool) -> Result<Self, rustls::Error> {
        use rustls_platform_verifier::BuilderVerifierExt;
        if !with_tls {
            return Ok(Self { tls: None });
        }
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_platform_verifier()?
            .with_no_client_auth();
        Ok(Self { tls: Some(TlsConnector::from(Arc::new(config))) })
    }

    /// # Errors
    /// Why there is no connection, in words.
    pub(super) async fn connect(&self, url: &RtmpUrl) -> Result<Box<dyn Connection>, String> {
        Ok(self.connect_to(url).await?.0)
    }

    /// With the address that it leads to.
    ///
    /// # Errors
    /// As [`Self::connect`].
    pub(super) async fn connect_to(&self, url: &RtmpUrl) -> Result<(Box<dyn Connection>, SocketAddr), String> {
        match timeout(CONNECT_DEADLINE, self.open(url)).await {
            Ok(connection) => connection,
            Err(_) => Err("no connection within 10 s".into()),
        }
    }

    async fn open(&self, url: &RtmpUrl) -> Result<(Box<dyn Connection>, SocketAddr), String> {
        let stream = TcpStream::connect((url.host.as_str(), url.port)).await.map_err(|error| error.to_string())?;
        let _ = stream.set_nodelay(true);
        let peer = stream.peer_addr().map_err(|error| error.to_string())?;
        watch(&stream);
        if !url.tls {
            return Ok((Box::new(stream), peer));
        }
        let tls = self.tls.as_ref().ok_or("there is no TLS")?;
        let name = ServerName::try_from(url.host.clone()).map_err(|error| error.to_string())?;
        let encrypted = tls.connect(name, stream).await.map_err(|error| format!("TLS: {error}"))?;
        Ok((Box::new(encrypted), peer))
    }
}

/// Lets the kernel notice that the other side has gone. Where it cannot, writing does, later.
fn watch(stream: &TcpStream) {
    let keep_alive = TcpKeepalive::new().with_time(KEEP_ALIVE_INTERVAL).with_interval(KEEP_ALIVE_INTERVAL);
    let _ = SockRef::from(stream).set_tcp_keepalive(&keep_alive);
    #[cfg(target_os = "linux")]
    {
        use nix::sys::socket::{setsockopt, sockopt::TcpUserTimeout};
        let _ = setsockopt(stream, TcpUserTimeout, &(SILENCE_MAX.as_millis() as u32));
    }
}

#[cfg(test)]
mod tests {
    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_watches_who_acknowledges_nothing() {
        use nix::sys::socket::{getsockopt, sockopt};

        use super::{TcpStream, watch};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch(&stream);
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout), Ok(15_000));
        assert_eq!(getsockopt(&stream, sockopt::KeepAlive), Ok(true));
        assert_eq!(getsockopt(&stream, sockopt::TcpKeepIdle), Ok(5));
    }
}
