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
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, field, info, info_span, warn};

use super::{
    Ending, RtmpContext,
    session::{HANDSHAKE_DEADLINE, Session},
    tls::{Tls, begins_tls},
};
use crate::{
    media::SessionId,
    metrics::OutcomeLabels,
    track::{EndReason, LayerIndex, NOTICES_MAX, Notice, PublisherControl, TrackIndex},
    transcode::{SoundEvent, SoundThread},
};

/// Connections at a time. Each may hold a message in progress (`chunk::PARTIAL_MAX_BYTES`, 3 MiB, once it may publish;
/// below 1 MiB before), a read buffer, and a thread for its sound.
pub const CONNECTIONS_MAX: usize = 512;
/// Bytes read at a time: several of a 10 Mb/s stream's pictures, or a part of a large keyframe.
const READ_BUFFER_BYTES: usize = 64 * 1024;
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
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = listener.accept() => accepted,
            Some(_) = tasks.join_next() => continue,
        };
        match accepted {
            Ok((_, peer)) if tasks.len() >= CONNECTIONS_MAX => {
                warn!(%peer, "an RTMP connection was turned away: {CONNECTIONS_MAX} are open");
            }
            Ok((stream, peer)) => {
                let id = SessionId::random();
                let span = info_span!("rtmp", session = %id, %peer, stream = field::Empty);
                let entered = enter(stream, peer, id, (tls.clone(), plain), context.clone(), shutdown.clone());
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

/// Through TLS, where the peer begins with that.
async fn enter(
    stream: TcpStream,
    peer: SocketAddr,
    id: SessionId,
    (tls, plain): (Option<Arc<Tls>>, bool),
    context: Arc<RtmpContext>,
    shutdown: CancellationToken,
) {
    // Acknowledgements and statuses are small and should not wait. It fails on a socket that is gone already only.
    let _ = stream.set_nodelay(true);
    let Some(tls) = tls else { return run(stream, peer, id, context, shutdown).await };
    let cause = match timeout(HANDSHAKE_DEADLINE, begins_tls(&stream)).await {
        Ok(Ok(true)) => match timeout(HANDSHAKE_DEADLINE, tls.accept(stream)).await {
            Ok(Ok(stream)) => return run(stream, peer, id, context, shutdown).await,
            Ok(Err(error)) => format!("no TLS handshake: {error}"),
            Err(_) => "the TLS handshake was not finished within 5 s".to_owned(),
        },
        Ok(Ok(false)) if plain => return run(stream, peer, id, context, shutdown).await,
        Ok(Ok(false)) => "it comes without TLS, which is not taken here (rtmp.plain): use rtmps://".to_owned(),
        Ok(Err(error)) => format!("it said nothing: {error}"),
        Err(_) => "it said nothing for 5 s".to_owned(),
    };
    context.metrics.count_session("rtmp", "failed");
    warn!("an RTMP connection was turned away: {cause}");
}

async fn run(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    id: SessionId,
    context: Arc<RtmpContext>,
    shutdown: CancellationToken,
) {
    let (end, ends) = watch::channel(None);
    let (notices, told) = mpsc::channel(NOTICES_MAX);
    let metrics = context.metrics.clone();
    let session =
        Session::new(context, id, peer, Arc::new(Control { end, notices }), Instant::now(), SystemTime::now());
    let ending = Connection { session, sound: None, ends, told }.drive(&mut stream, &shutdown).await;
    let outcome = ending.outcome();
    metrics.sessions.get_or_create(&OutcomeLabels { protocol: "rtmp", outcome }).inc();
    match ending {
        Ending::PeerLeft | Ending::Ended(_) => info!(outcome, "{ending}"),
        _ => warn!(outcome, "{ending}"),
    }
    linger(stream).await;
}

struct Connection {
    session: Session,
    sound: Option<(SoundThread, mpsc::Receiver<SoundEvent>)>,
    ends: watch::Receiver<Option<EndReason>>,
    told: mpsc::Receiver<Notice>,
}

impl Connection {
    async fn drive(
        mut self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        shutdown: &CancellationToken,
    ) -> Ending {
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        loop {
            let due = self.session.poll_timeout().into();
            let sound = async {
                match &mut self.sound {
                    Some((_, events)) => events.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                read = stream.read(&mut buffer) => match read {
                    Ok(0) | Err(_) => self.session.handle_closed(),
                    Ok(count) => self.session.handle_bytes(Instant::now(), buffer.get(..count).unwrap_or_default()),
                },
                event = sound => match event {
                    Some(event) => self.session.handle_sound(Instant::now(), event),
                    None => self.sound = None,
                },
                Ok(()) = self.ends.changed() => {
                    if let Some(reason) = *self.ends.borrow_and_update() {
                        self.session.handle_end(reason);
                    }
                }
                Some(notice) = self.told.recv() => self.session.handle_notice(&notice),
                () = shutdown.cancelled() => self.session.handle_end(EndReason::Draining),
                () = sleep_until(due) => self.session.handle_timeout(Instant::now()),
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
            if self.sound.is_none() {
                match SoundThread::start(&self.session.short_name()) {
                    Ok(started) => self.sound = Some(started),
                    Err(error) => warn!(%error, "no thread for the sound"),
                }
            }
            if let Some((thread, _)) = &mut self.sound {
                thread.send(input);
            }
        }
        let dropped = self.sound.as_mut().map_or(0, |(thread, _)| thread.take_dropped());
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
