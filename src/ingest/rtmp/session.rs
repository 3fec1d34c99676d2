//! One RTMP connection, sans-I/O (RTMP 1.0, Enhanced RTMP v2).
//!
//! # The driver's contract
//! Hand every byte that arrives to [`Session::handle_bytes`], every event of the sound thread to
//! [`Session::handle_sound`], and call [`Session::handle_timeout`] no later than [`Session::poll_timeout`]. After each
//! call send what [`Session::take_output`] gives and forward what [`Session::poll_sound`] gives. When
//! [`Session::ending`] is no longer `None`, send the rest of the output and close the connection.
//!
//! The token is checked when the peer asks to publish; until then no message of media is taken.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rml_rtmp::handshake::{Handshake, HandshakeProcessResult, PeerType};
use tracing::{debug, info};

use super::{
    RtmpContext,
    ending::Ending,
    enhanced::{self, RECONNECT_REQUEST},
    key::Application,
    media::{Media, MediaError},
    reply::{Level, Replies, WINDOW_BYTES},
};
use crate::{
    media::{SessionId, StreamName},
    metrics::ProtocolLabel,
    rtmp::{ChunkReader, Message, kind, messages_of},
    track::{EndReason, Notice, PublisherControl},
    transcode::{SoundEvent, SoundInput},
};

/// From the connection to the end of the handshake: three round trips and then some.
pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(5);
/// From the handshake to `publish`, and between two messages of media: a peer that stalls is closed in 10 s.
pub const STALL_DEADLINE: Duration = Duration::from_secs(10);
/// For how long a publisher that was asked to connect again is served here. The server's own drain takes longer.
const RECONNECT_PATIENCE: Duration = Duration::from_secs(2);
/// Label of this protocol's metrics.
const PROTOCOL: ProtocolLabel = ProtocolLabel { protocol: "rtmp" };

/// See the module.
pub struct Session {
    pub(super) context: Arc<RtmpContext>,
    pub(super) id: SessionId,
    pub(super) peer: SocketAddr,
    pub(super) control: Arc<dyn PublisherControl>,
    /// Our clocks at the beginning: what later times of day are counted from.
    pub(super) begin: (Instant, SystemTime),
    handshake: Option<Box<Handshake>>,
    pub(super) reader: ChunkReader,
    pub(super) replies: Replies,
    pub(super) application: Option<Application>,
    pub(super) enhanced: enhanced::Peer,
    pub(super) user_agent: String,
    pub(super) streams_created: u32,
    publishing: Option<Publishing>,
    sound: VecDeque<SoundInput>,
    deadline: Instant,
    /// When the session ends because the server does, once that has begun.
    drained: Option<Instant>,
    received_bytes: u64,
    acknowledged_bytes: u64,
    window_bytes: u32,
    ending: Option<Ending>,
}

struct Publishing {
    stream_id: u32,
    name: StreamName,
    media: Media,
    expires: Option<Instant>,
}

impl Session {
    pub fn new(
        context: Arc<RtmpContext>,
        id: SessionId,
        peer: SocketAddr,
        control: Arc<dyn PublisherControl>,
        now: Instant,
        time_of_day: SystemTime,
    ) -> Self {
        Self {
            context,
            id,
            peer,
            control,
            begin: (now, time_of_day),
            handshake: Some(Box::new(Handshake::new(PeerType::Server))),
            reader: ChunkReader::default(),
            replies: Replies::default(),
            application: None,
            enhanced: enhanced::Peer::default(),
            user_agent: String::new(),
            streams_created: 0,
            publishing: None,
            sound: VecDeque::new(),
            deadline: now + HANDSHAKE_DEADLINE,
            drained: None,
            received_bytes: 0,
            acknowledged_bytes: 0,
            window_bytes: WINDOW_BYTES,
            ending: None,
        }
    }

    /// Eight letters of the session's id, for the names of its threads.
    pub fn short_name(&self) -> String {
        self.id.to_string().chars().take(8).collect()
    }

    /// Why the session is over, once it is.
    pub fn ending(&self) -> Option<&Ending> {
        self.ending.as_ref()
    }

    /// Bytes to be sent, possibly none.
    pub fn take_output(&mut self) -> Vec<u8> {
        let output = self.replies.take();
        self.context.metrics.rtmp_bytes.sent.inc_by(output.len() as u64);
        output
    }

    /// The next input for the sound thread. Bounded by what one call of [`Session::handle_bytes`] was given.
    pub fn poll_sound(&mut self) -> Option<SoundInput> {
        self.sound.pop_front()
    }

    /// When [`Session::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        let publishing = self.publishing.as_ref();
        let expires = publishing.and_then(|publishing| publishing.expires);
        let flush = publishing.and_then(|publishing| publishing.media.flush_due());
        [expires, flush, self.drained].into_iter().flatten().fold(self.deadline, Instant::min)
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        let expired = self.publishing.as_ref().and_then(|publishing| publishing.expires).is_some_and(|at| now >= at);
        if expired {
            self.handle_end(EndReason::TokenExpired);
        } else if self.drained.is_some_and(|at| now >= at) {
            self.handle_end(EndReason::Draining);
        } else if now >= self.deadline {
            let what = match (&self.handshake, &self.publishing) {
                (Some(_), _) => "the handshake was not finished within 5 s",
                (_, Some(_)) => "neither picture nor sound came for 10 s",
                _ => "nothing was published within 10 s",
            };
            self.end(Ending::Stalled(what));
        }
        self.flush(now);
    }

    /// The server is about to stop. A publisher that can is asked to connect again, here or elsewhere, and served meanwhile; it ends when the
    /// other connection is there.
    pub fn handle_drain(&mut self, now: Instant) {
        if !self.enhanced.reconnects || self.publishing.is_none() {
            return self.handle_end(EndReason::Draining);
        }
        self.drained = Some(now + RECONNECT_PATIENCE);
        self.replies.reconnect_request(RECONNECT_REQUEST, self.context.reconnect_to.as_deref());
        info!("asked to connect again: the server is stopping");
    }

    /// The tree or the server ends the session.
    pub fn handle_end(&mut self, reason: EndReason) {
        self.end(Ending::Ended(reason));
    }

    /// The publisher is to know something; encoders show or log what they are told so, and go on.
    pub fn handle_notice(&mut self, notice: &Notice) {
        if let Some(publishing) = &self.publishing {
            let code = "NetStream.Publish.Notice";
            self.replies.status(publishing.stream_id, Level::Warning, code, &notice.text);
        }
    }

    /// The peer closed the connection, or it broke.
    pub fn handle_closed(&mut self) {
        self.end(Ending::PeerLeft);
    }

    /// The sound thread says something.
    pub fn handle_sound(&mut self, now: Instant, event: SoundEvent) {
        if let Some(publishing) = &mut self.publishing {
            publishing.media.handle_sound(now, event);
        }
        self.flush(now);
    }

    /// The sound thread could not take these many frames.
    pub fn handle_sound_dropped(&mut self, frames: u64) {
        if let Some(publishing) = &mut self.publishing {
            publishing.media.sound_lags(frames);
        }
    }

    /// Bytes came in.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        self.received_bytes += bytes.len() as u64;
        self.context.metrics.rtmp_bytes.received.inc_by(bytes.len() as u64);
        let mut input = bytes;
        let rest;
        if let Some(handshake) = &mut self.handshake {
            match handshake.process_bytes(bytes) {
                Ok(HandshakeProcessResult::InProgress { response_bytes }) => {
                    self.replies.raw(&response_bytes);
                    return;
                }
                Ok(HandshakeProcessResult::Completed { response_bytes, remaining_bytes }) => {
                    self.replies.raw(&response_bytes);
                    self.handshake = None;
                    self.deadline = now + STALL_DEADLINE;
                    rest = remaining_bytes;
                    input = &rest;
                }
                Err(error) => return self.end(Ending::Failed(format!("this is no RTMP handshake: {error}"))),
            }
        }
        while self.ending.is_none() {
            match self.reader.read(&mut input) {
                Ok(Some(message)) => self.handle_message(now, &message),
                Ok(None) => break,
                Err(error) => self.end(Ending::Failed(error.to_string())),
            }
        }
        self.flush(now);
        self.acknowledge();
    }

    /// What the media has ready goes to the tree.
    fn flush(&mut self, now: Instant) {
        let Some(publishing) = &mut self.publishing else { return };
        let done = publishing.media.flush(now);
        let made = publishing.media.take_made();
        self.context.metrics.rtp_packets.received.inc_by(made.packets);
        self.context.metrics.rtp_bytes.received.inc_by(made.bytes);
        self.end_on_error(done);
    }

    /// Acknowledgements go out twice per window, so that a peer that waits for them never does (section 5.4.3).
    fn acknowledge(&mut self) {
        let half_bytes = u64::from(self.window_bytes / 2);
        if self.handshake.is_none() && self.received_bytes - self.acknowledged_bytes >= half_bytes {
            self.acknowledged_bytes = self.received_bytes;
            self.replies.acknowledge(self.received_bytes as u32);
        }
    }

    fn handle_message(&mut self, now: Instant, message: &Message) {
        let number = || message.payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes));
        match message.kind {
            kind::SET_CHUNK_SIZE => {
                if let Err(error) = self.reader.set_chunk_bytes(number().unwrap_or(0)) {
                    self.end(Ending::Failed(error.to_string()));
                }
            }
            kind::ABORT => self.reader.abort(number().unwrap_or(0)),
            kind::WINDOW_ACKNOWLEDGEMENT_SIZE => {
                // A window of a few bytes would make us answer every chunk.
                self.window_bytes = number().unwrap_or(WINDOW_BYTES).clamp(16 * 1024, i32::MAX as u32);
            }
            kind::USER_CONTROL => self.handle_user_control(&message.payload),
            kind::AUDIO | kind::VIDEO => self.handle_media(now, message),
            kind::AGGREGATE => self.handle_aggregate(now, message),
            kind::COMMAND_AMF0 => self.handle_command(now, message.stream_id, &message.payload),
            // In AMF3 command messages the values are AMF0 behind a zero byte.
            kind::COMMAND_AMF3 => {
                let body = message.payload.strip_prefix(&[0]).unwrap_or(&message.payload);
                self.handle_command(now, message.stream_id, body);
            }
            // `@setDataFrame onMetaData`: what it says is in the bitstream too, and there it is true.
            kind::DATA_AMF0 | kind::DATA_AMF3 => debug!(bytes = message.payload.len(), "metadata"),
            kind::ACKNOWLEDGEMENT | kind::SET_PEER_BANDWIDTH => {}
            other => debug!(kind = other, "message of an unknown type"),
        }
    }

    fn handle_user_control(&mut self, payload: &[u8]) {
        const PING_REQUEST: u16 = 6;
        if let Some(&[k0, k1, t0, t1, t2, t3]) = payload.first_chunk()
            && u16::from_be_bytes([k0, k1]) == PING_REQUEST
        {
            self.replies.pong(u32::from_be_bytes([t0, t1, t2, t3]));
        }
    }

    fn handle_aggregate(&mut self, now: Instant, aggregate: &Message) {
        for message in messages_of(aggregate) {
            match message {
                Ok(message) => self.handle_media(now, &message),
                Err(error) => self.end(Ending::Failed(error.to_string())),
            }
        }
    }

    fn handle_media(&mut self, now: Instant, message: &Message) {
        // Media before `publish` was answered is the peer's haste, and nobody's.
        let Some(publishing) = &mut self.publishing else { return };
        self.deadline = now + STALL_DEADLINE;
        let done = if message.kind == kind::VIDEO {
            publishing.media.handle_video(now, message.timestamp_ms, &message.payload)
        } else {
            publishing
                .media
                .handle_audio(now, message.timestamp_ms, &message.payload)
                .map(|input| self.sound.extend(input))
        };
        self.end_on_error(done);
    }

    fn end_on_error(&mut self, done: Result<(), MediaError>) {
        match done {
            Ok(()) => {}
            Err(MediaError::Superseded) => self.end(Ending::Ended(EndReason::Superseded)),
            Err(error @ MediaError::VideoCodec(_)) => self.end(Ending::Refused(error.to_string())),
            Err(error) => self.end(Ending::Failed(error.to_string())),
        }
    }

    /// The time of day, counted from the session's beginning.
    pub(super) fn time_of_day(&self, now: Instant) -> SystemTime {
        self.begin.1 + now.saturating_duration_since(self.begin.0)
    }

    pub(super) fn is_publishing(&self) -> bool {
        self.publishing.is_some()
    }

    /// Messages with this stream's number are about what is published: those with none at all, too.
    pub(super) fn publishes_on(&self, stream_id: u32) -> bool {
        let of = |publishing: &Publishing| stream_id == 0 || [0, stream_id].contains(&publishing.stream_id);
        self.publishing.as_ref().is_some_and(of)
    }

    pub(super) fn publishing_name(&self) -> Option<&StreamName> {
        self.publishing.as_ref().map(|publishing| &publishing.name)
    }

    pub(super) fn start_publishing(
        &mut self,
        now: Instant,
        (stream_id, name): (u32, StreamName),
        media: Media,
        expires: Option<SystemTime>,
    ) {
        let time_of_day = self.time_of_day(now);
        // A token that ends beyond what an instant can hold never ends for us.
        let expires = expires.and_then(|at| now.checked_add(at.duration_since(time_of_day).unwrap_or_default()));
        self.publishing = Some(Publishing { stream_id, name, media, expires });
        self.reader.media_allowed = true;
        self.deadline = now + STALL_DEADLINE;
        self.context.metrics.publishers.get_or_create(&PROTOCOL).inc();
    }

    /// Takes the stream off; the connection stays.
    pub(super) fn stop_publishing(&mut self, now: Instant) {
        self.drop_publication();
        self.deadline = now + STALL_DEADLINE;
    }

    fn drop_publication(&mut self) -> Option<u32> {
        let publishing = self.publishing.take()?;
        publishing.media.log_dropped();
        self.reader.media_allowed = false;
        self.context.metrics.publishers.get_or_create(&PROTOCOL).dec();
        Some(publishing.stream_id)
    }

    /// Ends the session and tells the peer why; the first reason counts.
    pub(super) fn end(&mut self, ending: Ending) {
        if self.ending.is_some() {
            return;
        }
        let stream_id = self.drop_publication();
        if self.handshake.is_none()
            && let Some((code, description)) = ending.status()
        {
            self.replies.status(stream_id.unwrap_or(self.streams_created), Level::Error, code, &description);
        }
        self.sound.clear();
        self.ending = Some(ending);
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.drop_publication();
    }
}

#[cfg(test)]
#[path = "session_tests.rs"]
pub(crate) mod tests;
