//! Signalling's way to the workers: makes, finds and ends WebRTC sessions.
#![allow(clippy::disallowed_methods, reason = "sessions begin at the time of day")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use sluice_signaling::{
    codec::{Codec, MediaKind, TrackFormat},
    error::Problem,
    ice::IceCredentials,
    media_plane::{
        Direction, IceRestart, LayerChoice, LayerInfo, MediaPlane, OpenRequest, SenderIds, SessionOwner,
        TransportParams,
    },
    name::{SessionId, StreamName},
    sdp::{IceCandidate, Negotiated, Setup},
};

use super::problem;
use crate::{
    config::OnConflict,
    track::{EndReason, StreamBusy, Streams},
    transport::{Certificate, DtlsRole, TransportConfig},
    worker::{IceSession, Pending, SessionEntry, SessionInfo, Workers},
};

/// A publisher sends media or reports all the time: silence is its end. That it is gone must show within five seconds.
const PUBLISHER_SILENT_MAX: Duration = Duration::from_secs(4);
/// A viewer speaks by its checks and reports; browsers check every few seconds, others as RFC 7675 section 5.1 has it.
const VIEWER_SILENT_MAX: Duration = Duration::from_secs(30);
/// What a full or stopping server asks clients to wait.
const RETRY_AFTER_S: u32 = 5;

/// The media plane that the workers are.
pub struct Plane {
    streams: Arc<Streams>,
    workers: Arc<Workers>,
    certificate: Arc<Certificate>,
    on_conflict: OnConflict,
    draining: AtomicBool,
}

impl Plane {
    pub fn new(
        streams: Arc<Streams>,
        workers: Arc<Workers>,
        certificate: Arc<Certificate>,
        on_conflict: OnConflict,
    ) -> Self {
        Self { streams, workers, certificate, on_conflict, draining: AtomicBool::new(false) }
    }

    /// From now on every new session is refused.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn session(&self, id: SessionId, direction: Direction) -> Option<Arc<SessionEntry>> {
        self.workers.session(id).filter(|entry| entry.info.direction == direction)
    }
}

impl MediaPlane for Plane {
    fn live_formats(&self, stream: &StreamName) -> Option<Vec<TrackFormat>> {
        self.streams.get(stream)?.formats()
    }

    fn viewer_codecs(&self, stream: &StreamName) -> Option<Vec<Codec>> {
        self.workers.viewer_codecs(stream)
    }

    fn open(&self, request: OpenRequest) -> Result<TransportParams, Problem> {
        if self.draining.load(Ordering::Relaxed) {
            return Err(unavailable("the server is stopping"));
        }
        let busy = || self.streams.get(&request.stream).is_some_and(|stream| stream.is_live());
        if request.direction == Direction::Ingest && self.on_conflict == OnConflict::Reject && busy() {
            return Err(conflict());
        }
        let (role, setup) = match request.remote_setup {
            // RFC 5763 section 5 lets us choose; as server we are connected a third of the time sooner.
            Setup::ActPass | Setup::Active => (DtlsRole::Server, Setup::Passive),
            Setup::Passive => (DtlsRole::Client, Setup::Active),
        };
        let senders = match request.direction {
            Direction::Ingest => Vec::new(),
            Direction::Egress => sender_ids(&request.media),
        };
        let info = SessionInfo {
            id: SessionId::random(),
            direction: request.direction,
            stream: request.stream,
            ice: Arc::new(IceSession::first(IceCredentials::random(), request.remote_ice)),
            from: request.from,
            user_agent: request.user_agent,
            video_line: request.video_line,
            subject: request.grant.subject,
            expires: request.grant.expires,
            video_codecs: video_codecs(&request.media),
            since: SystemTime::now(),
            offered_at: Instant::now(),
        };
        let params = TransportParams {
            session: info.id,
            ice: info.ice.local.clone(),
            fingerprint: self.certificate.fingerprint(),
            setup,
            candidates: self.workers.candidates().to_vec(),
            senders: senders.clone(),
        };
        let consent_timeout = match request.direction {
            Direction::Ingest => PUBLISHER_SILENT_MAX,
            Direction::Egress => VIEWER_SILENT_MAX,
        };
        let transport = TransportConfig {
            role,
            remote_fingerprints: request.remote_fingerprints,
            certificate: self.certificate.clone(),
            consent_timeout,
        };
        let pending = Pending { transport, media: request.media, senders };
        self.workers.open(info, pending).map_err(|full| unavailable(&full.to_string()))?;
        Ok(params)
    }

    fn ice_of(&self, session: SessionId, direction: Direction) -> Option<(IceCredentials, IceCredentials)> {
        let ice = self.session(session, direction)?.present_ice();
        Some((ice.local.clone(), ice.remote.clone()))
    }

    fn restart_ice(
        &self,
        session: SessionId,
        direction: Direction,
        remote: IceCredentials,
    ) -> Result<IceRestart, Problem> {
        let entry = self.session(session, direction).ok_or_else(no_session)?;
        let begun = self.workers.restart_ice(&entry, remote).map_err(|overtaken| {
            Problem::new(409, "old-ice-credentials", "A later ICE restart was here first", overtaken.to_string())
        })?;
        let ice = begun.ok_or_else(no_session)?.local.clone();
        tracing::debug!(%session, "ICE restarts");
        Ok(IceRestart { ice, candidates: self.workers.candidates().to_vec() })
    }

    fn owner_of(&self, session: SessionId, direction: Direction) -> Option<SessionOwner> {
        let entry = self.session(session, direction)?;
        let info = &entry.info;
        Some(SessionOwner {
            stream: info.stream.clone(),
            subject: info.subject.clone(),
            from: info.from.ip(),
            expires: entry.expires(),
        })
    }

    /// Nothing to do: the client's checks tell a lite agent where it is (RFC 8445 section 6.1.1).
    fn add_candidates(&self, _session: SessionId, _candidates: Vec<IceCandidate>) {}

    fn close(&self, session: SessionId, direction: Direction) -> bool {
        self.session(session, direction).is_some() && self.workers.end_session(session, EndReason::Deleted)
    }

    fn layers(&self, session: SessionId) -> Vec<LayerInfo> {
        let Some(entry) = self.session(session, Direction::Egress) else { return Vec::new() };
        let has_video =
            |formats: Vec<TrackFormat>| formats.iter().any(|format| format.codec.kind() == MediaKind::Video);
        let live = self.live_formats(&entry.info.stream).is_some_and(has_video);
        let one = |media_id| LayerInfo {
            media_id,
            encoding_id: None,
            width: None,
            height: None,
            bitrate_bps: 0,
            active: true,
        };
        entry.info.video_line.filter(|_| live).map(one).into_iter().collect()
    }

    fn select_layer(&self, session: SessionId, choice: LayerChoice) -> Result<(), Problem> {
        if self.session(session, Direction::Egress).is_none() {
            return Err(no_session());
        }
        match choice {
            LayerChoice::Automatic | LayerChoice::Within { .. } => Ok(()),
            LayerChoice::Encoding(rid) => {
                let detail = format!("the publisher sends one encoding, and none is called {rid:?}");
                Err(Problem::new(422, "no-such-layer", "The stream has no such layer", detail))
            }
        }
    }

    fn renew(&self, session: SessionId, expires: Option<SystemTime>) {
        if let Some(entry) = self.workers.session(session) {
            entry.renew(expires);
        }
    }
}

/// One entry per accepted section; all numbers differ (RFC 3550 section 8.1).
fn sender_ids(media: &Negotiated) -> Vec<SenderIds> {
    let mut taken = Vec::new();
    let mut fresh = || {
        loop {
            let ssrc: u32 = rand::random();
            if ssrc != 0 && !taken.contains(&ssrc) {
                taken.push(ssrc);
                return ssrc;
            }
        }
    };
    let accepted = media.media.iter().filter(|section| !section.codecs.is_empty());
    accepted
        .map(|section| SenderIds {
            ssrc: fresh(),
            rtx_ssrc: section.codecs.iter().any(|codec| codec.rtx_payload_type.is_some()).then(&mut fresh),
        })
        .collect()
}

fn unavailable(detail: &str) -> Problem {
    Problem {
        status: 503,
        slug: "unavailable",
        title: "The server takes no new sessions now",
        detail: detail.into(),
        retry_after_s: Some(RETRY_AFTER_S),
    }
}

fn no_session() -> Problem {
    problem::not_found("the session has ended, or never was")
}

fn conflict() -> Problem {
    Problem {
        status: 409,
        slug: "stream-has-publisher",
        title: "The stream already has a publisher",
        detail: StreamBusy.to_string(),
        retry_after_s: None,
    }
}

/// What was agreed on for pictures, each codec once.
fn video_codecs(media: &Negotiated) -> Vec<Codec> {
    let mut codecs: Vec<Codec> = Vec::new();
    let video = media.media.iter().filter(|section| section.kind == MediaKind::Video);
    for accepted in video.flat_map(|section| &section.codecs) {
        if !codecs.contains(&accepted.codec) {
            codecs.push(accepted.codec);
        }
    }
    codecs
}
