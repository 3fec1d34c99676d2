//! A worker's round: read the socket, hand publishers' packets to the tree, send what the tree delivered, look at what is
//! due. All state of its sessions is its own; nothing here locks on the packet path.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use mio::{Events, Interest, Poll, Token, net::TcpListener};
use slab::Slab;

use super::{
    inbox::{Inbox, Message, Outbox},
    links::{FIRST_CONNECTION, Links, route_key},
    local_streams::LocalStreams,
    routes::{Checked, Routes},
    session::{Role, Session},
    session_entry::SessionEntry,
    session_table::SessionTable,
    timers::{Slot, Timers},
    totals::Totals,
    udp::Udp,
};
use crate::{
    config::OnConflict,
    egress::whep::{Scratch, SenderSettings},
    media::SessionId,
    metrics::Metrics,
    track::{Streams, WorkerIndex},
    transport::{Check, DatagramKind, DtlsRole, Path, classify, stun::BindingRequest},
};

pub const UDP: Token = Token(0);
pub const LISTENER: Token = Token(1);
pub const WAKER: Token = Token(2);

/// Viewers that pacing holds back are served this often; at 40 Mb/s that is four packets a time.
const PACING_INTERVAL: Duration = Duration::from_millis(1);
/// Ends, expiries and forgotten routes are looked for this often.
const SWEEP_INTERVAL: Duration = Duration::from_millis(250);
/// Socket reads per round, so that a flood does not starve the timers: 64 reads are up to 2,048 datagrams.
const READS_PER_ROUND: usize = 64;
/// Deliveries per round, likewise.
const DELIVERIES_PER_ROUND: usize = 1_024;
/// New ICE-TCP connections per round.
const ACCEPTS_PER_ROUND: usize = 64;

/// What all workers share.
pub struct Shared {
    pub table: SessionTable,
    pub streams: Arc<Streams>,
    pub metrics: Arc<Metrics>,
    pub inboxes: Vec<Arc<Inbox>>,
    pub sender: SenderSettings,
    /// How long a viewer waits for its first picture or sound.
    pub wait_max: Duration,
    pub on_conflict: OnConflict,
    pub stopping: AtomicBool,
    /// It was said that the kernel refuses segmentation offload.
    pub lost_offload: AtomicBool,
}

pub struct Worker {
    pub(super) index: WorkerIndex,
    pub(super) poll: Poll,
    pub(super) links: Links,
    pub(super) listener: Option<TcpListener>,
    pub(super) outbox: Outbox,
    pub(super) shared: Arc<Shared>,
    pub(super) sessions: Slab<Session>,
    pub(super) slots: HashMap<SessionId, usize>,
    pub(super) routes: Routes,
    pub(super) local: LocalStreams,
    pub(super) timers: Timers,
    /// Viewers with more to send than pacing allows.
    pub(super) paced: Vec<Slot>,
    /// Room for the round's share of `paced`, and for the list of viewers being served.
    pub(super) held_back: Vec<Slot>,
    pub(super) viewers: Vec<usize>,
    /// Streams with news for their viewers: places in `local`.
    pub(super) touched: Vec<usize>,
    /// Publishers with packets that arrived in this round.
    pub(super) unflushed: Vec<usize>,
    pub(super) scratch: Scratch,
    pub(super) totals: Totals,
    pub(super) next_tenant: u64,
    next_sweep: Instant,
    /// ICE-TCP connections that had more to read than one round takes.
    unread: Vec<usize>,
    /// The socket had more to read than one round takes.
    more_to_read: bool,
}

impl Worker {
    pub fn new(
        index: WorkerIndex,
        poll: Poll,
        udp: Udp,
        listener: Option<TcpListener>,
        outbox: Outbox,
        shared: Arc<Shared>,
    ) -> io::Result<Self> {
        let mut links = Links { udp, connections: Slab::new() };
        poll.registry().register(&mut links.udp.socket, UDP, Interest::READABLE)?;
        let mut listener = listener;
        if let Some(listener) = &mut listener {
            poll.registry().register(listener, LISTENER, Interest::READABLE)?;
        }
        Ok(Self {
            index,
            poll,
            links,
            listener,
            outbox,
            shared,
            sessions: Slab::new(),
            slots: HashMap::new(),
            routes: Routes::default(),
            local: LocalStreams::default(),
            timers: Timers::default(),
            paced: Vec::new(),
            held_back: Vec::new(),
            viewers: Vec::new(),
            touched: Vec::new(),
            unflushed: Vec::new(),
            scratch: Scratch::default(),
            totals: Totals::default(),
            next_tenant: 0,
            next_sweep: Instant::now(),
            unread: Vec::new(),
            more_to_read: false,
        })
    }

    /// Runs until the server stops.
    pub fn run(mut self) {
        let mut events = Events::with_capacity(256);
        while !self.shared.stopping.load(Ordering::Acquire) {
            let timeout = self.idle_for(Instant::now());
            match self.poll.poll(&mut events, Some(timeout)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    tracing::error!(worker = self.index.0, %error, "polling failed; the worker stops");
                    break;
                }
            }
            self.inbox().about_to_look();
            let mut now = Instant::now();
            let mut udp_ready = std::mem::take(&mut self.more_to_read);
            let mut connections = std::mem::take(&mut self.unread);
            for event in &events {
                match event.token() {
                    UDP => udp_ready = true,
                    LISTENER => self.accept(now),
                    WAKER => {}
                    Token(connection) => connections.push(connection - FIRST_CONNECTION),
                }
            }
            if udp_ready {
                self.read_udp(now);
            }
            for connection in connections {
                self.read_connection(now, connection);
            }
            self.take_messages(now);
            self.flush_publishers(now);
            self.take_deliveries();
            self.serve_touched(now);
            now = Instant::now();
            while let Some(slot) = self.timers.due(now) {
                self.look_at(now, slot);
            }
            self.serve_paced(now);
            if now >= self.next_sweep {
                self.next_sweep = now + SWEEP_INTERVAL;
                self.sweep(now, SystemTime::now());
            }
            self.totals.hand_in(&self.shared.metrics);
        }
        self.close_all(Instant::now());
    }

    pub(super) fn inbox(&self) -> &Arc<Inbox> {
        &self.shared.inboxes[usize::from(self.index.0)]
    }

    fn idle_for(&self, now: Instant) -> Duration {
        if self.more_to_read
            || !self.unread.is_empty()
            || !self.outbox.deliveries.is_empty()
            || !self.outbox.messages.is_empty()
        {
            return Duration::ZERO;
        }
        let until_sweep = self.next_sweep.saturating_duration_since(now);
        let longest = if self.paced.is_empty() { until_sweep } else { until_sweep.min(PACING_INTERVAL) };
        self.timers.idle_for(now, longest)
    }

    fn read_udp(&mut self, now: Instant) {
        // The buffers are lent out while datagrams are handled, since handling sends by the same socket.
        let mut batch = std::mem::take(&mut self.links.udp.batch);
        for _ in 0..READS_PER_ROUND {
            if !self.links.udp.receive(&mut batch) {
                self.links.udp.batch = batch;
                return;
            }
            batch.each(|path, datagram| self.handle_datagram(now, path, datagram));
        }
        self.links.udp.batch = batch;
        self.more_to_read = true;
    }

    fn accept(&mut self, now: Instant) {
        for _ in 0..ACCEPTS_PER_ROUND {
            let Some(Ok((stream, _))) = self.listener.as_ref().map(TcpListener::accept) else { return };
            self.links.adopt(self.poll.registry(), stream, BytesMut::new(), now);
        }
        // More may wait, and the poll tells of a new one only.
        self.inbox().wake();
    }

    fn read_connection(&mut self, now: Instant, index: usize) {
        let Some(connection) = self.links.connections.get_mut(index) else { return };
        let read = connection.flush().and_then(|()| connection.read());
        self.drain_connection(now, index);
        match read {
            Ok(true) => self.unread.push(index),
            Ok(false) => {}
            Err(_) => drop(self.links.release(self.poll.registry(), index)),
        }
    }

    /// Handles the whole datagrams that a connection has received.
    fn drain_connection(&mut self, now: Instant, index: usize) {
        while let Some(path) = self.links.path_of(index) {
            match self.links.connections[index].next_datagram() {
                Ok(Some(datagram)) => self.handle_datagram(now, path, &datagram),
                Ok(None) => return,
                Err(_) => {
                    drop(self.links.release(self.poll.registry(), index));
                    return;
                }
            }
        }
    }

    fn take_messages(&mut self, now: Instant) {
        for _ in 0..self.outbox.messages.len() {
            let Ok(message) = self.outbox.messages.try_recv() else { return };
            match message {
                Message::EndRequested(id) => {
                    if let Some(slot) = self.slots.get(&id).copied() {
                        self.end_if_due(now, slot, SystemTime::now());
                    }
                }
                Message::LayerSelected(id) => {
                    if let Some(slot) = self.slots.get(&id).copied() {
                        self.select_layer(now, slot);
                    }
                }
                Message::KeyframeRequested { session, track, layer } => {
                    let Some(slot) = self.slots.get(&session).copied() else { continue };
                    if let Role::Publisher(receiver) = &mut self.sessions[slot].role {
                        receiver.request_keyframe(now, track, layer);
                    }
                    self.service(now, slot);
                }
                Message::CheckAnswered { session, path, check } => {
                    if let Some(slot) = self.slots.get(&session).copied() {
                        self.check_answered(now, slot, path, check, None);
                    }
                }
                Message::Datagram { session, path, datagram } => {
                    if let Some(slot) = self.slots.get(&session).copied() {
                        self.handle_session_datagram(now, slot, path, datagram);
                    }
                }
                Message::Connection { stream, received } => {
                    if let Some(index) = self.links.adopt(self.poll.registry(), stream, received, now) {
                        self.drain_connection(now, index);
                    }
                }
            }
        }
    }

    fn take_deliveries(&mut self) {
        for _ in 0..DELIVERIES_PER_ROUND {
            let Ok((stream, delivery)) = self.outbox.deliveries.try_recv() else { return };
            self.deliver(&stream, delivery);
        }
    }

    fn handle_datagram(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        match classify(datagram) {
            DatagramKind::Stun => self.handle_check(now, path, datagram),
            DatagramKind::Unknown => {}
            kind => self.route(now, path, kind, datagram),
        }
    }

    /// Answers a connectivity check, whoever has the session: the table knows the password (RFC 8445 section 7.3).
    fn handle_check(&mut self, now: Instant, path: Path, datagram: &[u8]) {
        let Ok(request) = BindingRequest::parse(datagram) else { return };
        let Some((entry, ice)) = self.shared.table.by_ufrag(request.local_ufrag) else { return };
        let pwd = &ice.local.pwd;
        if entry.is_gone() || !request.verify(pwd) {
            return;
        }
        let key = route_key(&path);
        let Some(admitted) = self.routes.admit(&key, &entry) else { return };
        if let crate::transport::Link::Tcp(index) = path.link {
            if let Some(owner) = entry.owner().filter(|owner| *owner != self.index) {
                self.give_connection(owner, index as usize, datagram);
                return;
            }
            if let Some(connection) = self.links.connections.get_mut(index as usize) {
                connection.checked = true;
            }
        }
        let mut answer = Vec::with_capacity(128);
        request.answer(path.remote, pwd, &mut answer);
        self.links.send(&path, &answer, answer.len());
        if request.role_conflict {
            // The answer told the client to take the other role: its next check counts (RFC 8445 section 7.3.1.1).
            return;
        }
        let check = Check { nominated: request.use_candidate, ice_session: ice.number };
        if check.nominated {
            self.shared.table.nominated(&entry, &ice);
        }
        match entry.owner() {
            Some(owner) if owner == self.index => {
                let Some(slot) = self.slots.get(&entry.info.id).copied() else { return };
                self.check_answered(now, slot, path, check, Some(admitted));
            }
            Some(owner) => {
                let message = Message::CheckAnswered { session: entry.info.id, path, check };
                self.shared.inboxes[usize::from(owner.0)].post(message);
                self.routes.learn(now, key, Checked { entry, slot: None, check, admitted: Some(admitted) });
            }
            None => {
                let claim_now = check.nominated && self.wants_client_role(&entry);
                self.routes.learn(now, key, Checked { entry, slot: None, check, admitted: Some(admitted) });
                if claim_now {
                    self.claim(now, path);
                }
            }
        }
    }

    /// The session lives elsewhere, so its connection moves there, with the check that told.
    fn give_connection(&mut self, owner: WorkerIndex, index: usize, check: &[u8]) {
        if let Some(mut connection) = self.links.release(self.poll.registry(), index) {
            connection.unread(check);
            let (stream, received) = connection.into_parts();
            self.shared.inboxes[usize::from(owner.0)].post(Message::Connection { stream, received });
        }
    }

    /// DTLS, RTP and RTCP: to the session that a check from this address named.
    fn route(&mut self, now: Instant, path: Path, kind: DatagramKind, datagram: &[u8]) {
        let key = route_key(&path);
        let Some(route) = self.routes.get(&key) else { return };
        let slot = match (route.slot, route.entry.owner()) {
            (Some(slot), _) => Some(slot),
            (None, Some(owner)) if owner != self.index => {
                let session = route.entry.info.id;
                let message = Message::Datagram { session, path, datagram: BytesMut::from(datagram) };
                self.shared.inboxes[usize::from(owner.0)].post(message);
                self.routes.heard(now, &key);
                return;
            }
            (None, Some(_)) => self.slots.get(&route.entry.info.id).copied(),
            // The first DTLS record comes on the pair that ICE chose: whoever gets it takes the session.
            (None, None) if kind == DatagramKind::Dtls => self.claim(now, path),
            (None, None) => None,
        };
        if let Some(slot) = slot {
            self.handle_session_datagram(now, slot, path, BytesMut::from(datagram));
        }
    }

    fn wants_client_role(&self, entry: &SessionEntry) -> bool {
        entry.dtls_role() == Some(DtlsRole::Client)
    }
}
