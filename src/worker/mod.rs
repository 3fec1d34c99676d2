//! The I/O shell of WebRTC: one thread per core, each with its socket of one SO_REUSEPORT group, its sessions, timers and
//! replicas. Sessions are made pending in the shared table and claimed by the worker that ICE and the kernel's hash choose.
#![allow(clippy::disallowed_methods, reason = "this room is the shell that reads the clock and opens the sockets")]

mod candidates;
mod event_loop;
mod forward;
mod ice_sessions;
mod inbox;
mod links;
mod local_streams;
mod routes;
mod session;
mod session_entry;
mod session_table;
mod sessions;
mod tcp;
mod timers;
mod totals;
mod udp;

use std::{
    io,
    net::{SocketAddr, TcpListener as StdTcpListener},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime},
};

use mio::{Poll, Waker, net::TcpListener};
use parking_lot::Mutex;
use sluice_signaling::{
    ice::IceCredentials,
    media_plane::{Direction, LayerChoice},
    sdp::IceCandidate,
};

use self::{
    event_loop::{Shared, WAKER, Worker},
    inbox::{Inbox, Message},
    session_table::SessionTable,
};
use crate::{
    config::{Advertise, OnConflict},
    egress::whep::{SenderSettings, ViewerPath},
    media::{Codec, SessionId, StreamName},
    metrics::{Metrics, OutcomeLabels},
    track::{EndReason, Protocol, Streams, WorkerIndex},
};

pub use ice_sessions::{IceSession, Overtaken};
pub use session_entry::{Pending, SessionEntry, SessionInfo};
pub use session_table::TableFull;

/// How the workers are run.
#[derive(Debug, Clone)]
pub struct WorkerSettings {
    /// One port for all media, UDP and ICE-TCP. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// What candidates name instead of this machine's addresses.
    pub advertise: Vec<Advertise>,
    /// Threads; 0: one per core.
    pub workers: u16,
    pub sender: SenderSettings,
    pub sessions_max: usize,
    /// How long a viewer waits for its first picture or sound.
    pub wait_max: Duration,
    pub on_conflict: OnConflict,
}

/// A viewer as the API shows it.
#[derive(Debug, Clone)]
pub struct ViewerState {
    pub session: SessionId,
    pub from: SocketAddr,
    pub user_agent: String,
    pub subject: Option<String>,
    pub since: SystemTime,
    /// DTLS is up.
    pub connected: bool,
    pub packets_sent: u64,
    pub bytes_sent: u64,
    pub path: ViewerPath,
}

/// The running workers.
pub struct Workers {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    local_addr: SocketAddr,
    candidates: Vec<IceCandidate>,
}

impl Workers {
    /// Binds the sockets and starts the threads.
    ///
    /// # Errors
    /// When the address cannot be bound. That TCP cannot listen on the same number is logged, and no error: UDP serves.
    pub fn start(settings: &WorkerSettings, streams: Arc<Streams>, metrics: Arc<Metrics>) -> io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, |cores| cores.get() as u16);
        let count = if settings.workers == 0 { cores } else { settings.workers };
        let sockets = udp::bind_group(settings.listen, count)?;
        let local_addr = sockets[0].local_addr()?;
        let listener = listen_tcp(local_addr)
            .inspect_err(|error| tracing::warn!(%local_addr, %error, "no ICE-TCP: the port cannot be listened on"))
            .ok();
        let candidates =
            candidates::candidates(local_addr, &settings.advertise, &candidates::interfaces(), listener.is_some());

        let polls = (0..count).map(|_| Poll::new()).collect::<io::Result<Vec<_>>>()?;
        let mut inboxes = Vec::new();
        let mut outboxes = Vec::new();
        for poll in &polls {
            let (inbox, outbox) = Inbox::new(Waker::new(poll.registry(), WAKER)?);
            inboxes.push(inbox);
            outboxes.push(outbox);
        }
        let shared = Arc::new(Shared {
            table: SessionTable::new(settings.sessions_max),
            streams,
            metrics,
            inboxes,
            sender: settings.sender,
            wait_max: settings.wait_max,
            on_conflict: settings.on_conflict,
            stopping: AtomicBool::new(false),
            lost_offload: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for (index, ((poll, outbox), socket)) in polls.into_iter().zip(outboxes).zip(sockets).enumerate() {
            let listener = listener.as_ref().map(StdTcpListener::try_clone).transpose()?.map(TcpListener::from_std);
            let udp = udp::Udp::new(socket)?;
            let worker = Worker::new(WorkerIndex(index as u16), poll, udp, listener, outbox, shared.clone())?;
            threads.push(thread::Builder::new().name(format!("worker-{index}")).spawn(move || worker.run())?);
        }
        Ok(Self { shared, threads: Mutex::new(threads), local_addr, candidates })
    }

    /// Where media is served, with the real port.
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What answers name.
    pub fn candidates(&self) -> &[IceCandidate] {
        &self.candidates
    }

    /// Makes a session pending: from now on its checks are answered, and its first DTLS record is waited for.
    ///
    /// # Errors
    /// [`TableFull`] when there are as many sessions as are allowed.
    pub fn open(&self, info: SessionInfo, pending: Pending) -> Result<(), TableFull> {
        self.shared.table.insert(Arc::new(SessionEntry::new(info, pending)))
    }

    /// Whether one more session could be made now.
    ///
    /// # Errors
    /// [`TableFull`] when not.
    pub fn check_room(&self) -> Result<(), TableFull> {
        self.shared.table.check_room()
    }

    pub fn session(&self, id: SessionId) -> Option<Arc<SessionEntry>> {
        self.shared.table.by_id(id)
    }

    /// Begins an ICE restart (RFC 8445 section 9); `Ok(None)` when the session is gone.
    ///
    /// # Errors
    /// [`Overtaken`] when the client's credentials are not new.
    pub fn restart_ice(
        &self,
        entry: &Arc<SessionEntry>,
        remote: IceCredentials,
    ) -> Result<Option<Arc<IceSession>>, Overtaken> {
        self.shared.table.restart_ice(entry, IceCredentials::random(), remote)
    }

    /// Ends a session at once; false when there is none.
    pub fn end_session(&self, id: SessionId, reason: EndReason) -> bool {
        let Some(entry) = self.session(id) else { return false };
        entry.request_end(reason);
        match entry.owner() {
            Some(owner) => {
                // From now on the URL is gone, whatever the worker still has to do.
                self.shared.table.remove(&entry);
                self.shared.inboxes[usize::from(owner.0)].post(Message::EndRequested(id));
            }
            None => self.sweep(),
        }
        true
    }

    /// A viewer chose among the layers of its stream's picture; for one that is not connected yet it holds from then on.
    /// False when there is no such session, or its worker is too busy to be told: then it may be tried again.
    pub fn select_layer(&self, id: SessionId, choice: LayerChoice) -> bool {
        let Some(entry) = self.session(id) else { return false };
        entry.choose_layer(choice);
        entry.owner().is_none_or(|owner| self.shared.inboxes[usize::from(owner.0)].post(Message::LayerSelected(id)))
    }

    /// The viewers of a stream, connected and not yet, oldest first.
    pub fn viewers(&self, stream: &StreamName) -> Vec<ViewerState> {
        let mut entries = self.shared.table.all();
        entries.retain(|entry| entry.info.direction == Direction::Egress && entry.info.stream == *stream);
        entries.sort_by_key(|entry| entry.info.offered_at);
        entries.iter().map(|entry| ViewerState::of(entry)).collect()
    }

    /// The video codecs that all viewers of a stream have agreed to; `None` when nobody watches its pictures.
    pub fn viewer_codecs(&self, stream: &StreamName) -> Option<Vec<Codec>> {
        let entries = self.shared.table.all();
        let watches = |info: &&SessionInfo| {
            info.direction == Direction::Egress && info.stream == *stream && !info.video_codecs.is_empty()
        };
        let mut codecs = entries.iter().map(|entry| &entry.info).filter(watches).map(|info| &info.video_codecs);
        let mut common = codecs.next()?.clone();
        codecs.for_each(|theirs| common.retain(|codec| theirs.contains(codec)));
        Some(common)
    }

    /// Sessions, pending and connected.
    pub fn session_count(&self) -> usize {
        self.shared.table.count()
    }

    /// Drops sessions whose client never came; to be called every second or so.
    pub fn sweep(&self) {
        for entry in self.shared.table.sweep_pending(Instant::now(), SystemTime::now()) {
            let info = &entry.info;
            let protocol = Protocol::of(info.direction).as_str();
            let outcome = sessions::Outcome::of_pending(entry.end_due(SystemTime::now())).label();
            self.shared.metrics.sessions.get_or_create(&OutcomeLabels { protocol, outcome }).inc();
            tracing::info!(session = %info.id, stream = %info.stream, protocol, outcome, from = %info.from,
                "session over before it connected");
        }
    }

    /// Ends every session, with DTLS close, and joins the threads.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.shared.inboxes.iter().for_each(|inbox| inbox.wake());
        for thread in self.threads.lock().drain(..) {
            if thread.join().is_err() {
                tracing::error!("a worker had panicked");
            }
        }
    }
}

impl ViewerState {
    fn of(entry: &SessionEntry) -> Self {
        let (packets_sent, bytes_sent) = entry.counts();
        Self {
            session: entry.info.id,
            from: entry.info.from,
            user_agent: entry.info.user_agent.clone(),
            subject: entry.info.subject.clone(),
            since: entry.info.since,
            connected: entry.is_connected(),
            packets_sent,
            bytes_sent,
            path: entry.path(),
        }
    }
}

fn listen_tcp(address: SocketAddr) -> io::Result<StdTcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        socket.set_only_v6(!address.ip().is_unspecified())?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1_024)?;
    Ok(socket.into())
}
