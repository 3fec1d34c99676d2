//! What a worker does with its sessions: claim, drive, connect, end.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Instant, SystemTime},
};

use bytes::BytesMut;
use sluice_signaling::{
    media_plane::{Direction, SenderIds},
    sdp::{Negotiated, cname},
};

use super::{
    event_loop::Worker,
    links::route_key,
    routes::{Admitted, Checked},
    session::{PublisherHandle, Role, Session, Viewer},
    timers::Slot,
};
use crate::{
    egress::whep::{Output, StreamNumbers, Undecodable, WhepSender},
    ingest::whip::WhipReceiver,
    metrics::{CodecLabel, OutcomeLabels, ProtocolLabel},
    rtp::rtcp::NtpTime,
    track::{EndReason, Protocol, PublisherInfo},
    transport::{Check, Path, Received, Transport, TransportEvent},
};

/// How a session ended, as `sluice_sessions_total` counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// The peer said goodbye, or its session's URL was deleted.
    Ended,
    /// It never connected, or DTLS failed.
    Failed,
    /// It fell silent.
    Timeout,
    /// A viewer's: its publisher now sends what it cannot decode.
    Undecodable,
    /// A viewer's: nobody published what it waited for (`whep.wait_max_s`).
    Unserved,
    /// We ended it.
    ByUs(EndReason),
}

impl Outcome {
    /// Of a session that nobody claimed.
    pub fn of_pending(end: Option<EndReason>) -> Self {
        end.map_or(Self::Failed, Self::ByUs)
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Ended | Self::ByUs(EndReason::Deleted) => "ended",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Undecodable => "undecodable",
            Self::Unserved => "unserved",
            Self::ByUs(EndReason::Superseded) => "superseded",
            Self::ByUs(EndReason::Kicked) => "kicked",
            Self::ByUs(EndReason::TokenExpired) => "expired",
            Self::ByUs(EndReason::Draining) => "draining",
        }
    }
}

/// Whether a client understands DTLS's close_notify. ffmpeg's `whip` muxer (seen with 9.0.2) sends it back as data and then waits for
/// a datagram from us for ever, deaf to a signal. Left alone it misses the answers to its checks and ends with an error after 30 s
/// (RFC 7675 section 5.1).
fn takes_goodbye(user_agent: &str) -> bool {
    !user_agent.starts_with("Lavf/")
}

impl Worker {
    /// Takes the session that the route from `path` leads to, for life; its slot, or `None` when it is somebody else's.
    pub(super) fn claim(&mut self, now: Instant, path: Path) -> Option<usize> {
        let route = self.routes.get(&route_key(&path))?;
        let (entry, check) = (route.entry.clone(), route.check);
        let pending = entry.claim(self.index)?;
        let transport = match Transport::new(pending.transport.clone(), now) {
            Ok(transport) => transport,
            Err(error) => {
                tracing::error!(session = %entry.info.id, %error, "the transport could not be made");
                self.shared.table.remove(&entry);
                return None;
            }
        };
        self.next_tenant += 1;
        let id = entry.info.id;
        let slot = self.sessions.insert(Session {
            entry,
            transport,
            role: Role::Connecting(pending),
            tenant: self.next_tenant,
            routes: Vec::new(),
            timer: None,
            is_paced: false,
            is_unflushed: false,
        });
        self.slots.insert(id, slot);
        self.check_answered(now, slot, path, check, None);
        Some(slot)
    }

    /// A check for this session was answered on `path`, here (then it was `admitted`) or elsewhere.
    pub(super) fn check_answered(
        &mut self,
        now: Instant,
        slot: usize,
        path: Path,
        check: Check,
        admitted: Option<Admitted>,
    ) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let key = route_key(&path);
        if !session.routes.contains(&key) {
            session.routes.push(key);
        }
        self.routes.learn(now, key, Checked { entry: session.entry.clone(), slot: Some(slot), check, admitted });
        session.transport.handle_check(now, path, check);
        self.service(now, slot);
    }

    pub(super) fn handle_session_datagram(&mut self, now: Instant, slot: usize, path: Path, datagram: BytesMut) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let bytes = datagram.len();
        match session.transport.handle_datagram(now, path, datagram) {
            Received::Rtp(packet) => {
                if let Role::Publisher(receiver) = &mut session.role {
                    receiver.handle_rtp(now, packet);
                    session.entry.count(1, bytes as u32);
                    self.totals.received_packets += 1;
                    self.totals.received_bytes += bytes as u64;
                    if !session.is_unflushed {
                        session.is_unflushed = true;
                        self.unflushed.push(slot);
                    }
                }
            }
            Received::Rtcp(compound) => {
                match &mut session.role {
                    Role::Publisher(receiver) => receiver.handle_rtcp(now, compound),
                    Role::Viewer(_) => self.handle_viewer_rtcp(now, slot, &compound),
                    Role::Connecting(_) => {}
                }
                self.service(now, slot);
            }
            Received::Nothing => self.service(now, slot),
        }
    }

    fn handle_viewer_rtcp(&mut self, now: Instant, slot: usize, compound: &[u8]) {
        let session = &mut self.sessions[slot];
        let Role::Viewer(viewer) = &mut session.role else { return };
        let (Some(sealer), Some(path)) = (session.transport.sealer(), session.transport.path()) else { return };
        let Some(local) = self.local.get(viewer.stream) else { return };
        let mut output = Output { sealer, scratch: &mut self.scratch, out: &mut self.links.to(path) };
        let ntp = NtpTime::from_system(SystemTime::now());
        let feedback = viewer.sender.handle_rtcp(now, ntp, compound, &local.replica, &mut output);
        session.entry.set_path(viewer.sender.path());
        session.entry.count(feedback.resent.packets, feedback.resent.bytes);
        self.totals.sent(feedback.resent);
        self.totals.rtx_packets += u64::from(feedback.resent.packets);
        self.totals.nacks_received += u64::from(feedback.nacked_packets);
        self.totals.plis_received += u64::from(feedback.keyframe_requests);
        if let Some((track, layer)) = feedback.wants_keyframe {
            local.stream.request_keyframe(now, track, layer);
        }
        if feedback.mended {
            self.send_to_viewer(now, slot, None);
        }
    }

    /// After anything happened to a session's transport or role: sends what it has to say, follows its events, and sets
    /// the next look.
    pub(super) fn service(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Role::Publisher(receiver) = &mut session.role {
            while let Some(compound) = receiver.poll_rtcp(now) {
                if let (Some(sealed), Some(path)) = (session.transport.seal_rtcp(&compound), session.transport.path()) {
                    self.links.send(&path, &sealed, sealed.len());
                }
            }
            let counters = receiver.counters();
            self.totals.nacks_sent += counters.nacks_sent;
            self.totals.plis_sent += counters.plis_sent;
        }
        while let Some(transmit) = session.transport.poll_transmit() {
            self.links.send(&transmit.path, &transmit.datagram, transmit.datagram.len());
        }
        while let Some(event) = self.sessions.get_mut(slot).and_then(|session| session.transport.poll_event()) {
            match event {
                TransportEvent::Connected { profile } => {
                    let entry = &self.sessions[slot].entry;
                    tracing::debug!(session = %entry.info.id, ?profile, "DTLS connected");
                    self.connected(now, slot);
                }
                TransportEvent::PeerClosed => self.end(now, slot, Outcome::Ended),
                TransportEvent::ConsentExpired => self.end(now, slot, Outcome::Timeout),
                TransportEvent::Failed(error) => {
                    if let Some(session) = self.sessions.get(slot) {
                        tracing::warn!(session = %session.entry.info.id, stream = %session.entry.info.stream, %error,
                            "the session's transport failed");
                    }
                    self.end(now, slot, Outcome::Failed);
                }
            }
        }
        self.set_timer(slot);
    }

    fn set_timer(&mut self, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        if let Some(at) = session.next_timeout()
            && session.timer.is_none_or(|set| at < set)
        {
            session.timer = Some(at);
            self.timers.set(at, Slot { index: slot, tenant: session.tenant });
        }
    }

    /// A session's time has come, or seems to.
    pub(super) fn look_at(&mut self, now: Instant, slot: Slot) {
        let Some(session) = self.sessions.get_mut(slot.index).filter(|session| session.tenant == slot.tenant) else {
            return;
        };
        if session.timer.is_some_and(|set| set > now) {
            // An entry from before the session's time moved closer; a later one stands.
            return;
        }
        session.timer = None;
        session.transport.handle_timeout(now);
        match &mut session.role {
            Role::Publisher(receiver) => receiver.handle_timeout(now),
            Role::Viewer(_) => self.report_to_viewer(now, slot.index),
            Role::Connecting(_) => {}
        }
        self.service(now, slot.index);
        self.flush_publishers(now);
    }

    fn report_to_viewer(&mut self, now: Instant, slot: usize) {
        let session = &mut self.sessions[slot];
        let Role::Viewer(viewer) = &mut session.role else { return };
        let Some(local) = self.local.get(viewer.stream) else { return };
        let ntp = NtpTime::from_system(SystemTime::now());
        let mut compound = Vec::with_capacity(128);
        if viewer.sender.poll_report(now, ntp, &local.replica, &mut compound)
            && let (Some(sealed), Some(path)) = (session.transport.seal_rtcp(&compound), session.transport.path())
        {
            self.links.send(&path, &sealed, sealed.len());
        }
    }

    fn connected(&mut self, now: Instant, slot: usize) {
        let session = &mut self.sessions[slot];
        let info = &session.entry.info;
        let protocol = Protocol::of(info.direction).as_str();
        session.entry.set_connected();
        tracing::info!(session = %info.id, stream = %info.stream, protocol, from = %info.from, "connected");
        let Role::Connecting(pending) = &mut session.role else { return };
        let (media, senders) = (std::mem::take(&mut pending.media), std::mem::take(&mut pending.senders));
        match info.direction {
            Direction::Ingest => self.begin_publishing(now, slot, &media),
            Direction::Egress => self.begin_viewing(now, slot, &media, &senders),
        }
    }

    fn begin_publishing(&mut self, now: Instant, slot: usize, media: &Negotiated) {
        let inbox = self.inbox().clone();
        let session = &mut self.sessions[slot];
        let info = &session.entry.info;
        let publisher = PublisherInfo {
            session: info.id,
            protocol: Protocol::Whip,
            priority: info.priority,
            remote: info.from,
            user_agent: info.user_agent.clone(),
            subject: info.subject.clone(),
        };
        let control = Arc::new(PublisherHandle { inbox, session: info.id, entry: session.entry.clone() });
        let time_of_day = SystemTime::now();
        let published =
            self.shared.streams.publish(&info.stream, publisher, control, self.shared.on_conflict, time_of_day);
        let receiver = published.map_err(|busy| busy.to_string()).and_then(|publication| {
            WhipReceiver::new(now, time_of_day, media, publication).map_err(|error| error.to_string())
        });
        match receiver {
            Ok(receiver) => {
                session.role = Role::Publisher(Box::new(receiver));
                let label = ProtocolLabel { protocol: Protocol::Whip.as_str() };
                self.shared.metrics.publishers.get_or_create(&label).inc();
            }
            Err(reason) => {
                tracing::warn!(session = %info.id, stream = %info.stream, reason, "the publisher is refused");
                self.end(now, slot, Outcome::ByUs(EndReason::Superseded));
            }
        }
    }

    fn begin_viewing(&mut self, now: Instant, slot: usize, media: &Negotiated, senders: &[SenderIds]) {
        let inbox = self.inbox().clone();
        let session = &mut self.sessions[slot];
        let info = &session.entry.info;
        let stream = self.shared.streams.get_or_create(&info.stream);
        let numbers = || StreamNumbers {
            first_seq: rand::random(),
            first_rtx_seq: rand::random(),
            time_offset_ticks: rand::random(),
        };
        let mut sender =
            WhepSender::new(now, info.offered_at, media, senders, numbers, cname(info.id), self.shared.sender);
        sender.select_layer(session.entry.layer_choice());
        let place = self.local.add_viewer(&stream, slot, self.index, &inbox);
        session.role = Role::Viewer(Box::new(Viewer { sender, stream: place, _counted: stream.count_viewer() }));
        let label = ProtocolLabel { protocol: Protocol::Whep.as_str() };
        self.shared.metrics.viewers.get_or_create(&label).inc();
        self.follow_and_send(now, slot);
    }

    /// A viewer's answer lacks the codec of the present publisher. Without what it came for its session ends, so that its
    /// client comes back with an offer for what there is, and is told by the answer to that.
    pub(super) fn cannot_decode(&mut self, now: Instant, slot: usize, undecodable: &[Undecodable]) {
        let Some(session) = self.sessions.get(slot) else { return };
        let Role::Viewer(viewer) = &session.role else { return };
        let Some(local) = self.local.get(viewer.stream) else { return };
        let info = &session.entry.info;
        let mut ends = false;
        for what in undecodable {
            let codec = what.format.codec;
            let essential = viewer.sender.came_for(codec.kind());
            ends |= essential;
            tracing::warn!(session = %info.id, stream = %info.stream, codec = codec.sdp_name(), ends = essential,
                "the viewer cannot decode what the publisher sends: {what}");
            let label = CodecLabel { codec: codec.sdp_name() };
            self.shared.metrics.undecodable_tracks.get_or_create(&label).inc();
            local.stream.notice_of_viewers(Some(local.replica.publication()), what.notice());
        }
        if ends {
            self.end(now, slot, Outcome::Undecodable);
        }
    }

    /// Ends a session whose end was asked for, or whose token's time is over.
    pub(super) fn end_if_due(&mut self, now: Instant, slot: usize, wall: SystemTime) {
        let due = self.sessions.get(slot).and_then(|session| session.entry.end_due(wall));
        if let Some(reason) = due {
            self.end(now, slot, Outcome::ByUs(reason));
        }
    }

    /// Ends a session at once: the peer is told by DTLS if it can be, its routes are forgotten.
    pub(super) fn end(&mut self, now: Instant, slot: usize, outcome: Outcome) {
        let Some(mut session) = self.sessions.try_remove(slot) else { return };
        if takes_goodbye(&session.entry.info.user_agent) {
            session.transport.close(now);
        }
        while let Some(transmit) = session.transport.poll_transmit() {
            self.links.send(&transmit.path, &transmit.datagram, transmit.datagram.len());
        }
        for key in &session.routes {
            self.routes.remove(key, &session.entry);
        }
        if matches!(outcome, Outcome::Undecodable | Outcome::Unserved | Outcome::ByUs(EndReason::Draining)) {
            session.entry.set_come_again();
        }
        let info = &session.entry.info;
        self.slots.remove(&info.id);
        self.shared.table.remove(&session.entry);
        let protocol = Protocol::of(info.direction).as_str();
        let metrics = &self.shared.metrics;
        match &session.role {
            Role::Connecting(_) => {}
            Role::Publisher(_) => drop(metrics.publishers.get_or_create(&ProtocolLabel { protocol }).dec()),
            Role::Viewer(viewer) => {
                metrics.viewers.get_or_create(&ProtocolLabel { protocol }).dec();
                self.local.remove_viewer(viewer.stream, slot, self.index);
            }
        }
        let outcome = outcome.label();
        metrics.sessions.get_or_create(&OutcomeLabels { protocol, outcome }).inc();
        let (packets, bytes) = session.entry.counts();
        tracing::info!(session = %info.id, stream = %info.stream, protocol, outcome, packets, bytes, "session over");
    }

    /// Hands on what publishers sent in this round.
    pub(super) fn flush_publishers(&mut self, now: Instant) {
        while let Some(slot) = self.unflushed.pop() {
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            session.is_unflushed = false;
            let Role::Publisher(receiver) = &mut session.role else { continue };
            if receiver.flush(now).is_err() {
                self.end(now, slot, Outcome::ByUs(EndReason::Superseded));
            } else {
                self.service(now, slot);
            }
        }
    }

    /// Everything that is looked for now and then rather than waited for.
    pub(super) fn sweep(&mut self, now: Instant, wall: SystemTime) {
        self.forget_layers(now);
        let due: Vec<_> =
            self.sessions.iter().filter_map(|(slot, session)| Some((slot, session.entry.end_due(wall)?))).collect();
        for (slot, reason) in due {
            self.end(now, slot, Outcome::ByUs(reason));
        }
        let wait_max = self.shared.wait_max;
        let unserved: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.waits_since(now) >= wait_max)
            .map(|(slot, _)| slot)
            .collect();
        for slot in unserved {
            self.end(now, slot, Outcome::Unserved);
        }
        let sessions = &self.sessions;
        let forgotten = self.routes.forget_silent(now, |key, slot| {
            sessions.get(slot).and_then(|session| session.transport.path()).is_some_and(|path| route_key(&path) == *key)
        });
        for (key, slot) in forgotten {
            if let Some(session) = slot.and_then(|slot| self.sessions.get_mut(slot)) {
                session.routes.retain(|known| *known != key);
            }
        }
        let silent: Vec<_> = self
            .links
            .connections
            .iter()
            .filter(|(_, connection)| {
                !connection.checked && now.saturating_duration_since(connection.since) >= super::tcp::SILENT_MAX
            })
            .map(|(index, _)| index)
            .collect();
        for index in silent {
            drop(self.links.release(self.poll.registry(), index));
        }
        if self.links.udp.take_lost_offload() && !self.shared.lost_offload.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "the kernel refuses to cut up UDP sends (GSO) on the way to some viewer: from now on packets are sent one by one, \
                 at a multiple of the cost"
            );
        }
        let refused = self.links.udp.take_refused();
        if refused > 0 {
            tracing::warn!(
                worker = self.index.0,
                refused,
                "the kernel refused to send: raise net.core.wmem_max, or lower the load"
            );
        }
    }

    /// The server stops: every peer is told.
    pub(super) fn close_all(&mut self, now: Instant) {
        let slots: Vec<_> = self.sessions.iter().map(|(slot, _)| slot).collect();
        for slot in slots {
            self.end(now, slot, Outcome::ByUs(EndReason::Draining));
        }
        self.totals.hand_in(&self.shared.metrics);
    }
}
