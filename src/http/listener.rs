//! The HTTP listener: accepts, bounds, and times out connections; hands requests to the router.
//!
//! HTTP/1.1, and HTTP/2 with prior knowledge (RFC 9113 section 3.3), as reverse proxies speak it; without TLS. A client that sends slowly, reads slowly or does nothing is closed; more connections than
//! allowed wait in the system's backlog. Requests carry their peer's address as [`ConnectInfo`].
#![allow(clippy::disallowed_methods, reason = "an I/O room: connections are tasks, and timeouts need the clock")]

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body, extract::ConnectInfo};
use bytes::{Buf, Bytes};
use hyper::{
    Request,
    body::Incoming,
    server::conn::{http1, http2},
};
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{Instant, Sleep},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tower::ServiceExt as _;
use tracing::{debug, warn};

/// A request's head must be there within this time; a connection without requests is closed after it, too.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// A peer that takes none of our bytes for this long is gone.
const WRITE_STALL_TIMEOUT: Duration = Duration::from_secs(20);
/// A request's head: a long token is 4 KB, cookies of other services on the same host as much again.
const HEAD_MAX_BYTES: usize = 32 * 1024;
const HEADERS_MAX: usize = 64;
/// What hyper keeps of a connection's input: a head, or a part of the body.
const BUFFER_MAX_BYTES: usize = 64 * 1024;
/// What an HTTP/2 client begins with (RFC 9113 section 3.4).
const HTTP2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Requests of one HTTP/2 connection at one time: a proxy opens another one for more.
const HTTP2_STREAMS_MAX: u32 = 128;
/// A silent HTTP/2 peer is asked for a sign of life this often, and given so long.
const HTTP2_PING_INTERVAL: Duration = Duration::from_secs(15);
const HTTP2_PING_TIMEOUT: Duration = Duration::from_secs(10);
/// After a failed accept (no file descriptors left): long enough for some connections to end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// Serves until `stop`, then lets requests in flight finish; returns when the last connection is closed.
pub async fn serve(listener: TcpListener, router: Router, connections_max: u32, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(connections_max as usize));
    let connections = TaskTracker::new();
    loop {
        let accepted = async {
            // Fails only when the semaphore is closed, which it never is.
            let place = places.clone().acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = stop.cancelled() => break,
            accepted = accepted => accepted,
        };
        match accepted {
            Ok((stream, from)) => {
                let connection = serve_connection(stream, canonical(from), router.clone(), stop.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            // The connection was gone before we took it.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) => {
            }
            Err(error) => {
                warn!(%error, "cannot accept HTTP connections; trying again");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    connections.close();
    connections.wait().await;
}

async fn serve_connection(stream: TcpStream, from: SocketAddr, router: Router, stop: CancellationToken) {
    // Answers are small and wanted now.
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%from, %error, "TCP_NODELAY");
    }
    let mut stream = StallGuard::new(stream);
    let is_http2 = match tokio::time::timeout(HEAD_TIMEOUT, stream.read_preface()).await {
        Ok(Ok(is_http2)) => is_http2,
        Ok(Err(error)) => return debug!(%from, %error, "HTTP connection closed"),
        Err(_) => return debug!(%from, "HTTP connection closed: nothing was asked"),
    };
    let requests = Arc::new(Requests::default());
    let counted = requests.clone();
    let service = TowerToHyperService::new(
        router
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(ConnectInfo(from));
                request.map(Body::new)
            })
            .map_future(move |answer| counted.clone().count(answer)),
    );
    let ended = if is_http2 {
        let connection = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING_INTERVAL)
            .keep_alive_timeout(HTTP2_PING_TIMEOUT)
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(HEAD_MAX_BYTES as u32)
            .max_send_buf_size(BUFFER_MAX_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = async {
                tokio::select! {
                    () = stop.cancelled() => {}
                    // Pings are answered by peers that want nothing any more, too.
                    () = requests.none_for(HEAD_TIMEOUT) => {}
                }
            } => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    } else {
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIMEOUT)
            .max_headers(HEADERS_MAX)
            .max_header_size(HEAD_MAX_BYTES)
            .max_buf_size(BUFFER_MAX_BYTES)
            .serve_connection(TokioIo::new(stream), service);
        let mut connection = std::pin::pin!(connection);
        tokio::select! {
            ended = connection.as_mut() => ended,
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        }
    };
    if let Err(error) = ended {
        debug!(%from, %error, "HTTP connection closed");
    }
}

/// The requests of one connection: how many there were, and how many have no answer yet.
#[derive(Debug, Default)]
struct Requests {
    begun: AtomicUsize,
    open: AtomicUsize,
}

impl Requests {
    async fn count<T>(self: Arc<Self>, answer: impl Future<Output = T>) -> T {
        /// Counts out, also where the client has gone and nobody waits for the answer.
        struct Open(Arc<Requests>);
        impl Drop for Open {
            fn drop(&mut self) {
                self.0.open.fetch_sub(1, Ordering::Relaxed);
            }
        }
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.open.fetch_add(1, Ordering::Relaxed);
        let _open = Open(self);
        answer.await
    }

    /// Returns when for so long there was none.
    async fn none_for(&self, quiet: Duration) {
        loop {
            let before = self.begun.load(Ordering::Relaxed);
            tokio::time::sleep(quiet).await;
            if self.begun.load(Ordering::Relaxed) == before && self.open.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// IPv4 stays IPv4 on a socket for both versions, so that logs and tokens' `ip` claims see one form.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A stream on which a write that makes no progress for [`WRITE_STALL_TIMEOUT`] fails.
struct StallGuard<S> {
    inner: S,
    /// Read already, to tell the protocol.
    opening: Bytes,
    /// Runs while a write waits.
    deadline: Option<Pin<Box<Sleep>>>,
}

impl<S: AsyncWrite + Unpin> StallGuard<S> {
    fn new(inner: S) -> Self {
        Self { inner, opening: Bytes::new(), deadline: None }
    }

    fn guard<T>(
        &mut self,
        context: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.inner), context);
        if written.is_ready() {
            self.deadline = None;
            return written;
        }
        let until = || Box::pin(tokio::time::sleep_until(Instant::now() + WRITE_STALL_TIMEOUT));
        let deadline = self.deadline.get_or_insert_with(until);
        if deadline.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer takes no bytes")));
        }
        Poll::Pending
    }
}

impl<S: AsyncRead + Unpin> StallGuard<S> {
    /// Whether the peer begins as HTTP/2 does: as soon as that is certain.
    async fn read_preface(&mut self) -> io::Result<bool> {
        let mut read = Vec::with_capacity(HTTP2_PREFACE.len());
        let is_http2 = loop {
            if read.len() == HTTP2_PREFACE.len() {
                break true;
            }
            let mut rest = (&mut self.inner).take((HTTP2_PREFACE.len() - read.len()) as u64);
            if rest.read_buf(&mut read).await? == 0 || !HTTP2_PREFACE.starts_with(&read) {
                break false;
            }
        };
        self.opening = read.into();
        Ok(is_http2)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for StallGuard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if !self.opening.is_empty() {
            let len = self.opening.len().min(buffer.remaining());
            buffer.put_slice(self.opening.get(..len).unwrap_or_default());
            self.opening.advance(len);
            return Poll::Ready(Ok(()));
        }
        Pin::new(&mut self.inner).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for StallGuard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.guard(cx, |inner, cx| inner.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.guard(cx, |inner, cx| inner.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.guard(cx, AsyncWrite::poll_flush)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.guard(cx, AsyncWrite::poll_shutdown)
    }
}

#[cfg(test)]
mod tests {
    use axum::routing::get;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    async fn start(connections_max: u32) -> (SocketAddr, CancellationToken, tokio::task::JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let who = |ConnectInfo(from): ConnectInfo<SocketAddr>| async move { from.ip().to_string() };
        let router = Router::new().route("/who", get(who));
        let stop = CancellationToken::new();
        (address, stop.clone(), tokio::spawn(serve(listener, router, connections_max, stop)))
    }

    #[tokio::test]
    async fn requests_know_their_peer_and_stopping_ends_idle_connections() {
        let (address, stop, served) = start(8).await;
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
        let mut answer = vec![0; 1024];
        let mut len = 0;
        while !answer[..len].ends_with(b"127.0.0.1") {
            len += client.read(&mut answer[len..]).await.unwrap();
        }
        stop.cancel();
        assert_eq!(client.read(&mut answer).await.unwrap(), 0, "the kept-alive connection is closed");
        served.await.unwrap();
    }

    #[tokio::test]
    async fn connections_beyond_the_bound_wait_for_a_place() {
        let (address, stop, served) = start(1).await;
        let first = TcpStream::connect(address).await.unwrap();
        let mut second = TcpStream::connect(address).await.unwrap();
        second.write_all(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        let waited = tokio::time::timeout(Duration::from_millis(100), second.read_to_string(&mut answer)).await;
        assert!(waited.is_err(), "the first connection has the only place");
        drop(first);
        second.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test]
    async fn http2_is_known_by_its_preface_however_it_is_cut() {
        let (address, stop, served) = start(8).await;
        for cut in [0, 1, 10, 23, 24] {
            let mut client = TcpStream::connect(address).await.unwrap();
            client.set_nodelay(true).unwrap();
            let (head, tail) = HTTP2_PREFACE.split_at(cut);
            client.write_all(head).await.unwrap();
            tokio::task::yield_now().await;
            // Behind the preface: empty SETTINGS.
            client.write_all(&[tail, &[0, 0, 0, 4, 0, 0, 0, 0, 0]].concat()).await.unwrap();
            let mut frame = [0; 9];
            client.read_exact(&mut frame).await.unwrap();
            assert_eq!(frame[3], 4, "SETTINGS is what a server begins with: {frame:?}");
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(b"PRI /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 405"), "a method of that name is HTTP/1.1: {answer}");
        stop.cancel();
        served.await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_never_ends_its_preface_is_given_up() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        theirs.write_all(&HTTP2_PREFACE[..5]).await.unwrap();
        let mut guarded = StallGuard::new(ours);
        let read = tokio::time::timeout(HEAD_TIMEOUT, guarded.read_preface()).await;
        assert!(read.is_err(), "nothing is decided, and the time is up");
        drop(theirs);
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_without_requests_is_quiet_and_one_that_waits_is_not() {
        let requests = Arc::new(Requests::default());
        let began = Instant::now();
        let waits = requests.clone().count(tokio::time::sleep(Duration::from_secs(40)));
        let ((), ()) = tokio::join!(waits, requests.none_for(Duration::from_secs(15)));
        assert!((Duration::from_secs(40)..Duration::from_secs(61)).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up() {
        let (ours, theirs) = tokio::io::duplex(16);
        let mut guarded = StallGuard::new(ours);
        let error = guarded.write_all(&[0; 64]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(theirs);
    }
}
