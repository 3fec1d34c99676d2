//! The I/O shell of RTMP ingest: accepts connections and runs one task for each.

#![allow(clippy::disallowed_methods, reason = "the listener owns its sockets, its tasks and their clock")]

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    task::JoinSet,
    time::{sleep, sleep_until, timeout},
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field, info, info_span, warn};

use super::{
    Ending, RtmpContext,
    places::{LEAVING_MAX, Place, Places},
    session::{HANDSHAKE_DEADLINE, Session},
    tls::{Tls, begins_tls},
};
use crate::{
    media::SessionId,
    metrics::OutcomeLabels,
    track::{EndReason, LayerIndex, NOTICES_MAX, Notice, PublisherControl, TrackIndex},
    transcode::LazySoundThread,
};

/// Bytes read at a time of a publisher: several of a 10 Mb/s stream's pictures, or a part of a large keyframe.
const READ_BUFFER_BYTES: usize = 64 * 1024;
/// The same of whoever does not publish yet: what encoders say before that are a few hundred bytes at a time.
const WAITING_READ_BUFFER_BYTES: usize = 2 * 1024;
/// Why a connection is ended that has not begun to publish.
const PLACE_NEEDED: &str = "it published nothing, and its place was needed (rtmp.connections_max)";
/// How long a peer may take to read what we say before it is cut off.
const WRITE_DEADLINE: Duration = Duration::from_secs(5);
/// How long a connection stays after its session ended, so that the last status arrives: a socket that is closed with
/// unread bytes in it resets the connection, and the peer may lose what it had not read.
const LINGER: Duration = Duration::from_secs(1);
/// Pause after a failed `accept`: out of file descriptors is not over in a microsecond.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Where publishers come in.
pub struct Door {
    pub listener: TcpListener,
    /// RTMPS is taken, on the same port.
    pub tls: Option<Arc<Tls>>,
    /// RTMP without TLS is.
    pub plain: bool,
}

/// Runs RTMP ingest until `shutdown`; returns when every session has been told and has ended.
pub async fn serve(door: Door, context: Arc<RtmpContext>, shutdown: CancellationToken) {
    let Door { listener, tls, plain } = door;
    let mut tasks = JoinSet::new();
    let places = Arc::new(Places::default());
    let connections_max = context.connections_max;
    loop {
        // Those that were sent away need a moment to go; newcomers wait in the system's queue meanwhile.
        let has_room = tasks.len() < connections_max + LEAVING_MAX;
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept(), if has_room => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((_, peer)) if tasks.len() >= connections_max && !places.make_room() => {
                context.metrics.count_session("rtmp", "refused");
                warn!(%peer, "an RTMP connection was turned away: {connections_max} are open (rtmp.connections_max)");
            }
            Ok((stream, peer)) => {
                let id = SessionId::random();
                let span = info_span!("rtmp", session = %id, %peer, stream = field::Empty);
                let newcomer = Newcomer { peer, id, place: places.take(), context: context.clone() };
                let entered = newcomer.enter(stream, (tls.clone(), plain), shutdown.clone());
                tasks.spawn(entered.instrument(span));
            }
            Err(error) => {
                warn!(%error, "an RTMP connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    while tasks.join_next().await.is_some() {}
}

/// Posts the tree's wishes to the task; an RTMP publisher cannot be asked for a keyframe.
struct Control {
    end: watch::Sender<Option<EndReason>>,
    notices: mpsc::Sender<Notice>,
}

impl PublisherControl for Control {
    fn request_keyframe(&self, _track: TrackIndex, _layer: LayerIndex) {}

    fn end(&self, reason: EndReason) {
        self.end.send_replace(Some(reason));
    }

    fn notice(&self, notice: &Notice) {
        // There are fewer, and they are in the log and in the API, too.
        let _ = self.notices.try_send(notice.clone());
    }
}

/// A connection that was accepted.
struct Newcomer {
    peer: SocketAddr,
    id: SessionId,
    place: Place,
    context: Arc<RtmpContext>,
}

impl Newcomer {
    /// Through TLS, where the peer begins with that.
    async fn enter(self, stream: TcpStream, (tls, plain): (Option<Arc<Tls>>, bool), shutdown: CancellationToken) {
        // Acknowledgements and statuses are small and should not wait. It fails on a socket that is gone already only.
        let _ = stream.set_nodelay(true);
        let Some(tls) = tls else { return self.run(stream, shutdown).await };
        let entered = tokio::select! {
            entered = handshake(stream, &tls, plain) => entered,
            () = self.place.needed() => Err(PLACE_NEEDED.to_owned()),
        };
        match entered {
            Ok(Entered::Encrypted(stream)) => self.run(stream, shutdown).await,
            Ok(Entered::Plain(stream)) => self.run(stream, shutdown).await,
            Err(cause) => {
                self.context.metrics.count_session("rtmp", "failed");
                warn!("an RTMP connection was turned away: {cause}");
            }
        }
    }

    async fn run(self, mut stream: impl AsyncRead + AsyncWrite + Unpin, shutdown: CancellationToken) {
        let Self { peer, id, place, context } = self;
        let (end, ends) = watch::channel(None);
        let (notices, told) = mpsc::channel(NOTICES_MAX);
        let metrics = context.metrics.clone();
        let control = Arc::new(Control { end, notices });
        let session = Session::new(context, id, peer, control, Instant::now(), SystemTime::now());
        let connection = Connection { session, sound: LazySoundThread::default(), ends, told, place: Some(place) };
        let ending = connection.drive(&mut stream, &shutdown).await;
        let outcome = ending.outcome();
        metrics.sessions.get_or_create(&OutcomeLabels { protocol: "rtmp", outcome }).inc();
        match ending {
            Ending::PeerLeft | Ending::Ended(_) => info!(outcome, "{ending}"),
            _ => warn!(outcome, "{ending}"),
        }
        // Whose place is needed has said nothing that it could lose.
        if !matches!(ending, Ending::Stalled(PLACE_NEEDED)) {
            linger(stream).await;
        }
    }
}

enum Entered {
    Encrypted(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// The stream to go on with; why not, in words.
async fn handshake(stream: TcpStream, tls: &Tls, plain: bool) -> Result<Entered, String> {
    match timeout(HANDSHAKE_DEADLINE, begins_tls(&stream)).await {
        Ok(Ok(true)) => match timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
            Ok(Ok(stream)) => Ok(Entered::Encrypted(Box::new(stream))),
            Ok(Err(error)) => Err(format!("no TLS handshake: {error}")),
            Err(_) => Err("the TLS handshake was not finished within 5 s".into()),
        },
        Ok(Ok(false)) if plain => Ok(Entered::Plain(stream)),
        Ok(Ok(false)) => Err("it comes without TLS, which is not taken here (rtmp.plain): use rtmps://".into()),
        Ok(Err(error)) => Err(format!("it said nothing: {error}")),
        Err(_) => Err("it said nothing for 5 s".into()),
    }
}

struct Connection {
    session: Session,
    sound: LazySoundThread,
    ends: watch::Receiver<Option<EndReason>>,
    told: mpsc::Receiver<Notice>,
    /// None once it publishes.
    place: Option<Place>,
}

impl Connection {
    async fn drive(
        mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        shutdown: &CancellationToken,
    ) -> Ending {
        let mut buffer = vec![0; WAITING_READ_BUFFER_BYTES];
        let mut draining = false;
        loop {
            let due = self.session.poll_timeout().into();
            let needed = async {
                match &self.place {
                    Some(place) => place.needed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => self.session.handle_closed(),
                    Ok(count) => self.session.handle_bytes(Instant::now(), buffer.get(..count).unwrap_or_default()),
                },
                event = self.sound.next() => self.session.handle_sound(Instant::now(), event),
                Ok(()) = self.ends.changed() => {
                    if let Some(reason) = *self.ends.borrow_and_update() {
                        self.session.handle_end(reason);
                    }
                }
                Some(notice) = self.told.recv() => self.session.handle_notice(&notice),
                () = shutdown.cancelled(), if !draining => {
                    draining = true;
                    self.session.handle_drain(Instant::now());
                }
                () = sleep_until(due) => self.session.handle_timeout(Instant::now()),
                () = needed => self.session.end(Ending::Stalled(PLACE_NEEDED)),
            }
            if self.place.is_some() && self.session.is_publishing() {
                self.place = None;
                buffer.resize(READ_BUFFER_BYTES, 0);
            }
            self.forward_sound();
            let output = self.session.take_output();
            if !output.is_empty() && !matches!(timeout(WRITE_DEADLINE, stream.write_all(&output)).await, Ok(Ok(()))) {
                self.session.handle_closed();
            }
            if let Some(ending) = self.session.ending() {
                return ending.clone();
            }
        }
    }

    fn forward_sound(&mut self) {
        while let Some(input) = self.session.poll_sound() {
            self.sound.send(|| self.session.short_name(), input);
        }
        let dropped = self.sound.take_dropped();
        if dropped > 0 {
            self.session.handle_sound_dropped(dropped);
        }
    }
}

/// Says that nothing more comes, and reads on until the peer has closed too.
async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let mut scratch = [0; 4_096];
    let _ = timeout(LINGER, async {
        stream.shutdown().await?;
        while stream.read(&mut scratch).await? > 0 {}
        std::io::Result::Ok(())
    })
    .await;
}
