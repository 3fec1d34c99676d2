//! A source by WHEP: an offer to receive, and what comes of it into the tree as a WHIP publisher's packets.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use futures_util::FutureExt;
use rtc::{rtcp, shared::marshal::Marshal};
use sluice_signaling::{
    priority::Priority,
    sdp::{AcceptedCodec, ExtensionIds, Feedback, MediaOffer, Negotiated, NegotiatedMedia, negotiate_answer},
};
use tokio::{
    sync::{mpsc, watch},
    time::sleep_until,
};
use tracing::info;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};

use super::source::{Ended, LOOK_INTERVAL, Standing};
use crate::{
    config::{EndpointUrl, OnConflict},
    ingest::{
        PullEnding,
        whip::{ReceiverCounters, WhipReceiver},
    },
    media::{Codec, MediaKind, SessionId},
    metrics::{Metrics, ProtocolLabel},
    relay::{
        path::{NodeId, Path},
        peer::Peer,
    },
    track::{EndReason, LayerIndex, Protocol, PublisherControl, PublisherInfo, TrackIndex},
};

const PROTOCOL: Protocol = Protocol::WhepPull;
/// Between two packets, and before the first.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// After its publisher has left, a stream that other nodes have from here goes on being theirs for [`SILENCE_MAX`] at the most, and a little for
/// what is on its way. What comes from here until then may be the echo of what was published here.
const ECHO_MAX: Duration = SILENCE_MAX.saturating_add(Duration::from_secs(2));
/// Packets that are handed on together, at the most: what the connection's queue holds of a track.
const BATCH_PACKETS_MAX: usize = 256;
/// Requests for keyframes that wait: the stream's gate lets one through every few hundred milliseconds.
const KEYFRAME_REQUESTS_MAX: usize = 8;

/// What is offered of H.264: constrained baseline, main, high and constrained high, level 3.1 as everybody writes it, for levels are not kept to
/// (`level-asymmetry-allowed`). Mode 0 is for servers that have no other.
const H264: [(&str, u8); 6] =
    [("42e01f", 1), ("42001f", 1), ("4d001f", 1), ("64001f", 1), ("640c1f", 1), ("42e01f", 0)];
/// The first payload type of pictures; each codec takes two, one for its retransmissions.
const VIDEO_PAYLOAD_TYPE_FIRST: u8 = 96;
/// Those of sound, above that: eleven codecs of pictures take 22.
const OPUS_PAYLOAD_TYPE: u8 = 127;

/// Posts the tree's words to the task.
struct Control {
    end: watch::Sender<Option<EndReason>>,
    keyframes: mpsc::Sender<(TrackIndex, LayerIndex)>,
}

impl PublisherControl for Control {
    fn request_keyframe(&self, track: TrackIndex, layer: LayerIndex) {
        // When so many wait, one of them is this one's, too.
        let _ = self.keyframes.try_send((track, layer));
    }

    fn end(&self, reason: EndReason) {
        self.end.send_replace(Some(reason));
    }
}

/// One session, from its offer to its goodbye.
pub(super) async fn fetch(endpoint: &EndpointUrl, standing: &mut Standing<'_>) -> Ended {
    let stop = standing.pulls().stop.clone();
    let failed = |reason: String| Ended::Lost(PullEnding::Failed(reason));
    let media = offered();
    let mut peer = match Peer::receiver(&media, endpoint.is_loopback()).await {
        Ok(peer) => peer,
        Err(reason) => return failed(reason),
    };
    let opened = async {
        for section in &media {
            peer.receive(section.kind).await?;
        }
        let offer = peer.offer().await?;
        Ok(standing.pulls().endpoints.ask(endpoint, offer).await)
    };
    let asked = tokio::select! {
        asked = opened => asked,
        () = stop.cancelled() => Err("the server is stopping".to_owned()),
    };
    let accepted = match asked {
        Ok(Ok(accepted)) => accepted,
        Ok(Err(refusal)) => {
            standing.retry_after(refusal.retry_after);
            peer.close().await;
            return failed(refusal.reason);
        }
        Err(reason) => {
            peer.close().await;
            return if stop.is_cancelled() { Ended::Unwanted } else { failed(reason) };
        }
    };
    let agreed = match is_echo(&accepted.path, standing.pulls().node, standing.source().published_ago()) {
        true => Err("what it has of the stream came from here".to_owned()),
        false => agreed(&accepted.answer),
    };
    let way = Way { was_free: standing.source().stream.on_air().is_none(), was_on_air: false };
    let ended = match agreed {
        Ok(agreed) => {
            *standing.source().path.lock() = accepted.path;
            let connected = tokio::select! {
                connected = peer.connect(accepted.answer) => connected.map_err(failed),
                () = stop.cancelled() => Err(Ended::Unwanted),
            };
            match connected {
                Ok(()) => {
                    let (control, words) = Words::new();
                    let mut fetching = Fetching {
                        id: SessionId::random(),
                        // The session's media may come from elsewhere; who answered is what people know it by.
                        remote: accepted.remote.unwrap_or(SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0))),
                        server_name: accepted.server_name,
                        agreed,
                        way,
                        control,
                        tracks: Vec::new(),
                        receiver: None,
                        heard: Instant::now(),
                        lost: 0,
                    };
                    fetching.drive(&mut peer, words, standing).await
                }
                Err(ended) => ended,
            }
        }
        Err(reason) => failed(reason),
    };
    // Whoever is told goodbye by HTTP need not wait for silence; both at once, for the server may be about to stop.
    tokio::join!(standing.pulls().endpoints.close(&accepted.session), peer.close());
    ended
}

/// Whether a source that has the stream by this path may have nothing but what this node has sent it.
fn is_echo(path: &Path, here: NodeId, published_ago: Option<Duration>) -> bool {
    path.has(here) && published_ago.is_some_and(|ago| ago < ECHO_MAX)
}

/// Whether what a session's answer told of the stream's way still holds.
#[derive(Debug)]
struct Way {
    /// Nobody published the stream here when it was told.
    was_free: bool,
    /// Since then it was on air here, so that others may have it from here.
    was_on_air: bool,
}

impl Way {
    /// `on_air`: who is now. True when that is somebody else who was not when the way was told: what the source sends now may be theirs.
    fn is_outdated(&mut self, on_air: Option<Protocol>) -> bool {
        self.was_on_air |= on_air == Some(PROTOCOL);
        on_air.is_some_and(|protocol| protocol != PROTOCOL) && (self.was_free || self.was_on_air)
    }
}

/// What an answer comes to.
fn agreed(answer: &str) -> Result<Negotiated, String> {
    let answer = MediaOffer::parse(answer).map_err(|error| format!("its answer cannot be read: {error}"))?;
    let agreed = negotiate_answer(&answer);
    if agreed.media.iter().all(|section| section.codecs.is_empty()) {
        return Err("its answer has neither pictures nor sound that can be taken".into());
    }
    Ok(agreed)
}

/// Everything that is taken, pictures first.
fn offered() -> Vec<NegotiatedMedia> {
    let h264 = H264.map(|(profile, mode)| {
        let fmtp = format!("level-asymmetry-allowed=1;packetization-mode={mode};profile-level-id={profile}");
        (Codec::H264, fmtp)
    });
    let others = [
        (Codec::Vp8, ""),
        (Codec::Vp9, "profile-id=0"),
        (Codec::Vp9, "profile-id=2"),
        (Codec::Av1, "profile=0"),
        (Codec::Hevc, "profile-id=1;tier-flag=0;level-id=153;tx-mode=SRST"),
    ];
    let pictures = h264.into_iter().chain(others.map(|(codec, fmtp)| (codec, fmtp.to_owned())));
    let accepted = |(at, (codec, fmtp)): (usize, (Codec, String))| {
        let payload_type = VIDEO_PAYLOAD_TYPE_FIRST + 2 * at as u8;
        let rtx_payload_type = Some(payload_type + 1);
        AcceptedCodec { codec, payload_type, fmtp, channels: 1, rtx_payload_type, feedback: Feedback::default() }
    };
    let opus = AcceptedCodec {
        codec: Codec::Opus,
        payload_type: OPUS_PAYLOAD_TYPE,
        fmtp: "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1".into(),
        channels: 2,
        rtx_payload_type: None,
        feedback: Feedback::default(),
    };
    let section = |mid: &str, kind, codecs| NegotiatedMedia {
        mid: mid.to_owned(),
        kind,
        codecs,
        extensions: ExtensionIds::default(),
        remote_ssrcs: Vec::new(),
        rids: Vec::new(),
    };
    vec![
        section("0", MediaKind::Video, pictures.enumerate().map(accepted).collect()),
        section("1", MediaKind::Audio, vec![opus]),
    ]
}

/// What the tree says to the session.
struct Words {
    ends: watch::Receiver<Option<EndReason>>,
    keyframes: mpsc::Receiver<(TrackIndex, LayerIndex)>,
}

impl Words {
    fn new() -> (Arc<Control>, Self) {
        let (end, ends) = watch::channel(None);
        let (keyframe, keyframes) = mpsc::channel(KEYFRAME_REQUESTS_MAX);
        (Arc::new(Control { end, keyframes: keyframe }), Self { ends, keyframes })
    }
}

struct Fetching {
    id: SessionId,
    remote: SocketAddr,
    server_name: String,
    agreed: Negotiated,
    way: Way,
    control: Arc<Control>,
    /// Those that the source sends: one of pictures and one of sound.
    tracks: Vec<Arc<dyn TrackRemote>>,
    /// From the first packet on.
    receiver: Option<WhipReceiver>,
    heard: Instant,
    /// Packets given up.
    lost: u64,
}

impl Fetching {
    async fn drive(&mut self, peer: &mut Peer, mut words: Words, standing: &mut Standing<'_>) -> Ended {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut tracks = std::mem::replace(&mut peer.tracks, mpsc::channel(1).1);
        let mut has_tracks = true;
        let ended = loop {
            let timeout = self.receiver.as_ref().and_then(WhipReceiver::poll_timeout);
            let due = [timeout, standing.due()].into_iter().flatten().fold(self.heard + SILENCE_MAX, Instant::min);
            let (first, second) = (self.tracks.first().cloned(), self.tracks.get(1).cloned());
            let came = tokio::select! {
                track = tracks.recv(), if has_tracks => {
                    has_tracks = track.is_some();
                    self.tracks.extend(track);
                    self.tracks.truncate(2);
                    Ok(None)
                }
                event = poll(first.as_ref()) => Ok(Some(event)),
                event = poll(second.as_ref()) => Ok(Some(event)),
                Some((track, layer)) = words.keyframes.recv() => {
                    if let Some(receiver) = &mut self.receiver {
                        receiver.request_keyframe(Instant::now(), track, layer);
                    }
                    Ok(None)
                }
                Ok(()) = words.ends.changed() => {
                    let reason = *words.ends.borrow_and_update();
                    reason.map_or(Ok(None), |reason| Err(PullEnding::Ended(reason)))
                }
                reason = peer.lost() => Err(PullEnding::Over(reason)),
                () = sleep_until(due.into()) => Ok(None),
                _ = look.tick() => if standing.is_wanted() { Ok(None) } else { break Ended::Unwanted },
                () = standing.pulls().stop.cancelled() => break Ended::Unwanted,
            };
            let now = Instant::now();
            let done = came.and_then(|event| self.take(now, event, standing));
            if let Err(ending) = done {
                break Ended::Lost(ending);
            }
            if now >= self.heard + SILENCE_MAX {
                let what = match self.receiver {
                    Some(_) => "nothing came for 10 s",
                    None => "it took the offer, but nothing came for 10 s: perhaps nobody publishes the stream there",
                };
                break Ended::Lost(PullEnding::Silent(what.to_owned()));
            }
            self.answer(now, &standing.pulls().metrics).await;
            if self.receiver.is_some() {
                standing.live();
            }
        };
        self.end(&ended, standing);
        ended
    }

    /// What came, with whatever came beside it; and what time has made due.
    fn take(
        &mut self,
        now: Instant,
        event: Option<Option<TrackRemoteEvent>>,
        standing: &mut Standing<'_>,
    ) -> Result<(), PullEnding> {
        if self.way.is_outdated(standing.source().stream.on_air()) {
            return Err(PullEnding::Over("somebody else is on air here now: it is asked anew what it has".into()));
        }
        match event {
            Some(Some(event)) => self.take_event(now, event, standing)?,
            Some(None) => return Err(PullEnding::Over("it ended a track".into())),
            None => {}
        }
        for at in 0..self.tracks.len() {
            let Some(track) = self.tracks.get(at).cloned() else { break };
            for _ in 0..BATCH_PACKETS_MAX {
                let Some(Some(event)) = track.poll().now_or_never() else { break };
                self.take_event(now, event, standing)?;
            }
        }
        let Some(receiver) = &mut self.receiver else { return Ok(()) };
        receiver.handle_timeout(now);
        receiver.flush(now).map_err(|_| PullEnding::Ended(EndReason::Superseded))
    }

    fn take_event(
        &mut self,
        now: Instant,
        event: TrackRemoteEvent,
        standing: &mut Standing<'_>,
    ) -> Result<(), PullEnding> {
        match event {
            TrackRemoteEvent::OnRtpPacket(mut packet) => {
                self.heard = now;
                // The payload comes without.
                packet.header.padding = false;
                // It was read from bytes, so it can be written.
                let Ok(bytes) = packet.marshal() else { return Ok(()) };
                standing.received(bytes.len());
                if self.receiver.is_none() {
                    self.receiver = Some(self.publish(now, standing)?);
                }
                if let Some(receiver) = &mut self.receiver {
                    receiver.handle_rtp(now, bytes.freeze());
                }
            }
            TrackRemoteEvent::OnRtcpPacket(packets) => {
                if let (Some(receiver), Ok(bytes)) = (&mut self.receiver, rtcp::packet::marshal(&packets)) {
                    receiver.handle_rtcp(now, bytes.freeze());
                }
            }
            TrackRemoteEvent::OnEnded => return Err(PullEnding::Over("it ended a track".into())),
            _ => {}
        }
        Ok(())
    }

    fn publish(&self, now: Instant, standing: &Standing<'_>) -> Result<WhipReceiver, PullEnding> {
        let pulls = standing.pulls();
        let stream = &standing.source().settings.stream;
        let time_of_day = SystemTime::now();
        let info = PublisherInfo {
            session: self.id,
            protocol: PROTOCOL,
            priority: Priority::default(),
            remote: self.remote,
            user_agent: self.server_name.clone(),
            subject: None,
        };
        let control = self.control.clone();
        let published = pulls.streams.publish(stream, info, control, OnConflict::Reject, time_of_day);
        let publication = published.map_err(|_| PullEnding::Busy)?;
        let receiver = WhipReceiver::new(now, time_of_day, &self.agreed, publication)
            .map_err(|_| PullEnding::Ended(EndReason::Superseded))?;
        info!(session = %self.id, from = %self.remote, "publishing what the source sends");
        pulls.metrics.publishers.get_or_create(&ProtocolLabel { protocol: PROTOCOL.as_str() }).inc();
        Ok(receiver)
    }

    /// Reports, and what is missing; they go by any of the tracks, for the connection is one.
    async fn answer(&mut self, now: Instant, metrics: &Metrics) {
        let (Some(receiver), Some(track)) = (&mut self.receiver, self.tracks.first()) else { return };
        while let Some(compound) = receiver.poll_rtcp(now) {
            send(track, compound).await;
        }
        let ReceiverCounters { packets, bytes, nacks_sent, plis_sent, lost, .. } = receiver.counters();
        metrics.rtp_packets.received.inc_by(packets);
        metrics.rtp_bytes.received.inc_by(bytes);
        metrics.nack.sent.inc_by(nacks_sent);
        metrics.pli.sent.inc_by(plis_sent);
        self.lost += lost;
    }

    /// The session is over, as other publishers' are.
    fn end(&mut self, ended: &Ended, standing: &Standing<'_>) {
        if self.receiver.take().is_none() {
            return;
        }
        let metrics = &standing.pulls().metrics;
        metrics.publishers.get_or_create(&ProtocolLabel { protocol: PROTOCOL.as_str() }).dec();
        let is_stopping = standing.pulls().stop.is_cancelled();
        let outcome = match ended {
            Ended::Unwanted if is_stopping => PullEnding::Ended(EndReason::Draining).outcome(),
            Ended::Unwanted => PullEnding::Ended(EndReason::Deleted).outcome(),
            Ended::Lost(ending) => ending.outcome(),
        };
        metrics.count_session(PROTOCOL.as_str(), outcome);
        info!(session = %self.id, outcome, lost = self.lost, "session over");
    }
}

async fn poll(track: Option<&Arc<dyn TrackRemote>>) -> Option<TrackRemoteEvent> {
    match track {
        Some(track) => track.poll().await,
        None => std::future::pending().await,
    }
}

async fn send(track: &Arc<dyn TrackRemote>, mut compound: Bytes) {
    // Our own words can be read; a connection that takes none any more is known to be lost.
    if let Ok(packets) = rtcp::packet::unmarshal(&mut compound) {
        let _ = track.write_rtcp(packets).await;
    }
}

#[cfg(test)]
#[path = "whep_tests.rs"]
mod tests;
