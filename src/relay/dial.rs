//! Connections to other servers, by TCP or through TLS.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    time::{sleep, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{self, ClientConfig, crypto::aws_lc_rs, pki_types::ServerName},
};

use crate::config::RtmpUrl;

/// Until a connection stands, TLS included.
const CONNECT_DEADLINE: Duration = Duration::from_secs(10);

/// The next address of a name is tried beside those that have not answered for so long (RFC 8305 section 8): one that swallows what it is sent
/// would use up [`CONNECT_DEADLINE`] alone.
const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);
/// Of a name: the last one is begun after 7 * 250 ms, and has eight seconds to answer.
const ADDRESSES_MAX: usize = 8;

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
        let addresses = lookup_host((url.host.as_str(), url.port)).await.map_err(|error| error.to_string())?;
        let stream = first_of(by_turns(addresses), TcpStream::connect).await.map_err(|error| error.to_string())?;
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

/// A name's addresses in their order, but the families by turns (RFC 8305 section 4): one of the two may lead nowhere from here.
fn by_turns(addresses: impl Iterator<Item = SocketAddr>) -> Vec<SocketAddr> {
    let mut addresses = addresses.peekable();
    let begins_with_ipv6 = addresses.peek().is_some_and(SocketAddr::is_ipv6);
    let (ones, others): (Vec<_>, Vec<_>) = addresses.partition(|address| address.is_ipv6() == begins_with_ipv6);
    let (mut ones, mut others) = (ones.into_iter(), others.into_iter());
    let pairs = std::iter::from_fn(|| match (ones.next(), others.next()) {
        (None, None) => None,
        (one, other) => Some([one, other]),
    });
    pairs.flatten().flatten().take(ADDRESSES_MAX).collect()
}

/// The connection that stands first: each address is tried when the one before has failed, or has not answered for [`NEXT_ADDRESS_AFTER`].
async fn first_of<T, F>(addresses: Vec<SocketAddr>, connect: impl Fn(SocketAddr) -> F) -> io::Result<T>
where
    F: Future<Output = io::Result<T>>,
{
    let mut addresses = addresses.into_iter();
    let mut tries = FuturesUnordered::new();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    loop {
        tries.extend(addresses.next().map(&connect));
        tokio::select! {
            tried = tries.next() => match tried {
                Some(Ok(connection)) => return Ok(connection),
                Some(Err(error)) => failure = error,
                None => return Err(failure),
            },
            () = sleep(NEXT_ADDRESS_AFTER), if addresses.len() > 0 => {}
        }
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
    use std::future::pending;

    use tokio::time::Instant;

    use super::*;

    fn addresses(texts: &[&str]) -> Vec<SocketAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn families_take_turns_and_there_is_a_bound() {
        let name = ["[2001:db8::1]:1", "[2001:db8::2]:1", "[2001:db8::3]:1", "192.0.2.1:1", "192.0.2.2:1"];
        let turns = ["[2001:db8::1]:1", "192.0.2.1:1", "[2001:db8::2]:1", "192.0.2.2:1", "[2001:db8::3]:1"];
        assert_eq!(by_turns(addresses(&name).into_iter()), addresses(&turns));
        let turns = ["192.0.2.2:1", "[2001:db8::3]:1", "192.0.2.1:1", "[2001:db8::2]:1", "[2001:db8::1]:1"];
        assert_eq!(by_turns(addresses(&name).into_iter().rev()), addresses(&turns));
        let many = (1..=20).map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        assert_eq!(by_turns(many.clone()), many.take(8).collect::<Vec<_>>());
        assert!(by_turns(std::iter::empty()).is_empty());
    }

    /// By port: 1 swallows everything, 2 refuses at once, others answer after so many ms.
    async fn answer(address: SocketAddr) -> io::Result<SocketAddr> {
        match address.port() {
            1 => pending().await,
            2 => Err(io::ErrorKind::ConnectionRefused.into()),
            ms => {
                sleep(Duration::from_millis(ms.into())).await;
                Ok(address)
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_that_swallows_everything_holds_the_next_one_up_for_a_quarter_of_a_second() {
        for (ports, expected, after_ms) in [
            (vec![40], 40, 40),
            (vec![1, 40], 40, 290),
            (vec![1, 1, 1, 40], 40, 790),
            // Tries go on beside each other.
            (vec![300, 200], 300, 300),
            (vec![300, 30], 30, 280),
            // One that fails is not waited for.
            (vec![2, 2, 40], 40, 40),
            (vec![1, 2, 40], 40, 290),
            (vec![300, 2], 300, 300),
        ] {
            let began = Instant::now();
            let name = ports.iter().map(|port| SocketAddr::from(([192, 0, 2, 1], *port))).collect();
            let first = timeout(CONNECT_DEADLINE, first_of(name, answer)).await.expect("in time").unwrap();
            assert_eq!((first.port(), began.elapsed()), (expected, Duration::from_millis(after_ms)), "{ports:?}");
        }
        let refused = first_of(addresses(&["192.0.2.1:2", "192.0.2.1:2"]), answer).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        assert!(first_of(Vec::new(), answer).await.unwrap_err().to_string().contains("no address"));
    }

    #[tokio::test]
    async fn a_real_connection_comes_of_it() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("rtmp://localhost:{}/live/key", listener.local_addr().unwrap().port()).parse().unwrap();
        let (_connection, peer) =
            Connector::new(false).unwrap().connect_to(&url).await.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!(peer, listener.local_addr().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn the_kernel_watches_who_acknowledges_nothing() {
        use nix::sys::socket::{getsockopt, sockopt};

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        watch(&stream);
        assert_eq!(getsockopt(&stream, sockopt::TcpUserTimeout), Ok(15_000));
        assert_eq!(getsockopt(&stream, sockopt::KeepAlive), Ok(true));
        assert_eq!(getsockopt(&stream, sockopt::TcpKeepIdle), Ok(5));
    }
}
