//! A stream that is fetched from another server by RTMP: what a source plays goes into the track tree as what a publisher sends does. Sans-I/O.
//!
//! # The driver's contract
//! That of [`Session`](super::Session): hand over bytes, sound and time; after each call send what [`PullSession::take_output`] gives and
//! forward what [`PullSession::poll_sound`] gives; when [`PullSession::ending`] is no longer `None`, [`PullSession::say_goodbye`], send the
//! rest of the output and close the connection.
//!
//! The stream is published with the source's first picture or sound, never before: so a source that has nothing to say is nobody's publisher,
//! and nobody who publishes is ever taken over.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Instant, SystemTime},
};

use sluice_signaling::priority::Priority;
use tracing::info;

use super::{
    media::{Media, MediaError},
    play::{PlayClient, PlayEnd, Played},
};
use crate::{
    config::{OnConflict, RtmpUrl},
    ingest::PullEnding,
    media::{SessionId, StreamName},
    metrics::{Metrics, ProtocolLabel},
    track::{EndReason, Protocol, PublisherControl, PublisherInfo, Streams},
    transcode::{SoundEvent, SoundInput},
};

const PROTOCOL: Protocol = Protocol::RtmpPull;

impl From<PlayEnd> for PullEnding {
    fn from(end: PlayEnd) -> Self {
        match end {
            PlayEnd::Over(reason) => Self::Over(reason),
            PlayEnd::Failed(reason) => Self::Failed(reason),
            PlayEnd::Silent(reason) => Self::Silent(reason.to_owned()),
        }
    }
}

/// What a fetched stream needs of the server, and under which name it is published.
#[derive(Clone)]
pub struct PullContext {
    pub streams: Arc<Streams>,
    pub metrics: Arc<Metrics>,
    pub stream: StreamName,
    /// Streams with B-frames are encoded anew for WebRTC viewers.
    pub reencodes: bool,
}

/// See the module.
pub struct PullSession {
    context: PullContext,
    id: SessionId,
    /// The source's address.
    peer: SocketAddr,
    control: Arc<dyn PublisherControl>,
    /// Our clocks at the beginning: what later times of day are counted from.
    begin: (Instant, SystemTime),
    client: PlayClient,
    media: Option<Media>,
    sound: VecDeque<SoundInput>,
    ending: Option<PullEnding>,
}

impl PullSession {
    pub fn new(
        context: PullContext,
        url: RtmpUrl,
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
            client: PlayClient::new(url, now),
            media: None,
            sound: VecDeque::new(),
            ending: None,
        }
    }

    /// Why it is over, once it is.
    pub fn ending(&self) -> Option<&PullEnding> {
        self.ending.as_ref()
    }

    /// The stream is published.
    pub fn is_live(&self) -> bool {
        self.media.is_some()
    }

    /// Bytes to be sent, possibly none.
    pub fn take_output(&mut self) -> Vec<u8> {
        self.client.take_output()
    }

    /// The next input for the sound thread. Bounded by what one call of [`PullSession::handle_bytes`] was given.
    pub fn poll_sound(&mut self) -> Option<SoundInput> {
        self.sound.pop_front()
    }

    /// When [`PullSession::handle_timeout`] is due.
    pub fn poll_timeout(&self) -> Instant {
        let flush = self.media.as_ref().and_then(Media::flush_due);
        flush.map_or(self.client.poll_timeout(), |flush| flush.min(self.client.poll_timeout()))
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.client.handle_timeout(now);
        self.flush(now);
        self.follow_client();
    }

    /// The tree or the server ends it.
    pub fn handle_end(&mut self, reason: EndReason) {
        self.end(PullEnding::Ended(reason));
    }

    /// The source closed the connection, or it broke.
    pub fn handle_closed(&mut self, how: &str) {
        self.end(PullEnding::Over(how.to_owned()));
    }

    /// The sound thread says something.
    pub fn handle_sound(&mut self, now: Instant, event: SoundEvent) {
        if let Some(media) = &mut self.media {
            media.handle_sound(now, event);
        }
        self.flush(now);
    }

    /// The sound thread could not take these many frames.
    pub fn handle_sound_dropped(&mut self, frames: u64) {
        if let Some(media) = &mut self.media {
            media.sound_lags(frames);
        }
    }

    /// Bytes came in.
    pub fn handle_bytes(&mut self, now: Instant, bytes: &[u8]) {
        let mut input = bytes;
        // Between two messages nothing is kept: what one read brought goes on at once.
        let mut played = Vec::new();
        self.client.read(now, &mut input, |message| played.push(message));
        for message in played {
            if self.ending.is_none() {
                self.handle_media(now, &message);
            }
        }
        self.flush(now);
        self.follow_client();
    }

    /// Before the connection is closed from this side.
    pub fn say_goodbye(&mut self) {
        self.client.say_goodbye();
    }

    fn handle_media(&mut self, now: Instant, message: &Played) {
        if self.media.is_none() {
            self.publish(now);
        }
        let Some(media) = &mut self.media else { return };
        let done = if message.is_video {
            media.handle_video(now, message.time_ms, &message.body)
        } else {
            media.handle_audio(now, message.time_ms, &message.body).map(|input| self.sound.extend(input))
        };
        self.end_on_error(done);
    }

    fn publish(&mut self, now: Instant) {
        let info = PublisherInfo {
            session: self.id,
            protocol: PROTOCOL,
            priority: Priority::default(),
            remote: self.peer,
            user_agent: self.client.server_name().to_owned(),
            subject: None,
        };
        let since = self.begin.1 + now.saturating_duration_since(self.begin.0);
        let PullContext { streams, stream, metrics, reencodes } = &self.context;
        match streams.publish(stream, info, self.control.clone(), OnConflict::Reject, since) {
            Ok(publication) => {
                info!(from = %self.peer, server = self.client.server_name(), "publishing what the source plays");
                self.media = Some(Media::new(publication, self.begin, *reencodes));
                metrics.publishers.get_or_create(&ProtocolLabel { protocol: PROTOCOL.as_str() }).inc();
            }
            Err(_) => self.end(PullEnding::Busy),
        }
    }

    /// What the media has ready goes to the tree.
    fn flush(&mut self, now: Instant) {
        let Some(media) = &mut self.media else { return };
        let done = media.flush(now);
        let made = media.take_made();
        self.context.metrics.rtp_packets.received.inc_by(made.packets);
        self.context.metrics.rtp_bytes.received.inc_by(made.bytes);
        self.end_on_error(done);
    }

    fn end_on_error(&mut self, done: Result<(), MediaError>) {
        match done {
            Ok(()) => {}
            Err(MediaError::Superseded) => self.end(PullEnding::Ended(EndReason::Superseded)),
            Err(error) => self.end(PullEnding::Failed(error.to_string())),
        }
    }

    fn follow_client(&mut self) {
        if let Some(end) = self.client.end() {
            self.end(end.clone().into());
        }
    }

    /// Takes the stream off; the first reason counts.
    fn end(&mut self, ending: PullEnding) {
        if self.ending.is_none() {
            self.drop_publication();
            self.sound.clear();
            self.ending = Some(ending);
        }
    }

    fn drop_publication(&mut self) {
        if let Some(media) = self.media.take() {
            media.log_dropped();
            let metrics = &self.context.metrics;
            metrics.publishers.get_or_create(&ProtocolLabel { protocol: PROTOCOL.as_str() }).dec();
        }
    }
}

impl Drop for PullSession {
    fn drop(&mut self) {
        self.drop_publication();
    }
}

#[cfg(test)]
#[path = "pull_tests.rs"]
mod tests;
