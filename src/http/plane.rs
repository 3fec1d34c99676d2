//! Signalling's way to the workers: makes, finds and ends WebRTC sessions.
#![allow(clippy::disallowed_methods, reason = "sessions begin at the time of day")]

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use sluice_signaling::{
    codec::{Codec, MediaKind, TrackFormat},
    error::Problem,
    ice::IceCredentials,
    media_plane::{
        AnswerRequest, CounterOfferRequest, CounterOffered, Direction, IceRestart, LayerChoice, LayerInfo, MediaPlane,
        OpenRequest, PresentIce, SenderIds, SessionOwner, TransportParams, WatchedSession,
    },
    name::{SessionId, StreamName},
    priority::Priority,
    sdp::{IceCandidate, Negotiated, NegotiatedMedia, Setup},
};

mod counter_offers;
mod watched;

use self::{
    counter_offers::{CounterOffer, CounterOffers},
    watched::Watched,
};
use super::problem;
use crate::{
    config::OnConflict,
    egress::whep::Undecodable,
    metrics::Metrics,
    relay::Pulls,
    track::{EndReason, Protocol, StreamBusy, Streams},
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
    metrics: Arc<Metrics>,
    pulls: Arc<Pulls>,
    counter_offers: Mutex<CounterOffers>,
    draining: AtomicBool,
}

impl Plane {
    pub fn new(
        streams: Arc<Streams>,
        workers: Arc<Workers>,
        certificate: Arc<Certificate>,
        on_conflict: OnConflict,
        metrics: Arc<Metrics>,
        pulls: Arc<Pulls>,
    ) -> Self {
        let (counter_offers, draining) = (Mutex::default(), AtomicBool::new(false));
        Self { streams, workers, certificate, on_conflict, metrics, pulls, counter_offers, draining }
    }

    /// From now on every new session is refused.
    pub fn drain(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    fn check_draining(&self) -> Result<(), Problem> {
        if self.draining.load(Ordering::Relaxed) { Err(problem::draining()) } else { Ok(()) }
    }

    /// Forgets what nobody came back for; to be called every second or so.
    pub fn sweep(&self) {
        let void = self.counter_offers.lock().sweep(Instant::now());
        for _ in 0..void {
            self.metrics.count_session(Protocol::Whep.as_str(), "unanswered");
        }
    }

    /// Makes a session pending: from now on it answers connectivity checks.
    fn begin(
        &self,
        id: SessionId,
        local_ice: IceCredentials,
        request: OpenRequest,
        senders: Vec<SenderIds>,
    ) -> Result<(), Problem> {
        let info = SessionInfo {
            id,
            direction: request.direction,
            stream: request.stream,
            ice: Arc::new(IceSession::first(local_ice, request.remote_ice)),
            from: request.from,
            user_agent: request.user_agent,
            video_line: request.video_line,
            subject: request.grant.subject,
            priority: request.priority,
            expires: request.grant.expires,
            video_codecs: video_codecs(&request.media),
            since: SystemTime::now(),
            offered_at: Instant::now(),
        };
        let transport = TransportConfig {
            role: match request.remote_setup {
                // RFC 5763 section 5 lets us choose; as server we are connected a third of the time sooner.
                Setup::ActPass | Setup::Active => DtlsRole::Server,
                Setup::Passive => DtlsRole::Client,
            },
            remote_fingerprints: request.remote_fingerprints,
            certificate: self.certificate.clone(),
            consent_timeout: match request.direction {
                Direction::Ingest => PUBLISHER_SILENT_MAX,
                Direction::Egress => VIEWER_SILENT_MAX,
            },
        };
        let pending = Pending { transport, media: request.media, senders };
        self.workers.open(info, pending).map_err(|full| unavailable(&full.to_string()))
    }

    fn params(
        &self,
        session: SessionId,
        ice: IceCredentials,
        setup: Setup,
        senders: Vec<SenderIds>,
    ) -> TransportParams {
        let fingerprint = self.certificate.fingerprint();
        TransportParams { session, ice, fingerprint, setup, candidates: self.workers.candidates().to_vec(), senders }
    }

    /// A viewer offers nothing that can carry the stream: whoever publishes it, or runs the server, should know.
    fn tell_publisher(&self, request: &CounterOfferRequest) {
        let Some(stream) = self.streams.get(&request.stream) else { return };
        for format in &request.live {
            let section = request.refused.media.iter().find(|section| section.kind == format.codec.kind());
            if section.is_some_and(|section| section.best_for(format).is_some()) {
                continue;
            }
            let what = Undecodable::new(format, section);
            tracing::info!(stream = %request.stream, from = %request.from, "a viewer's offer cannot carry the stream: {what}");
            stream.notice_of_viewers(None, what.notice());
        }
    }

    fn session(&self, id: SessionId, direction: Direction) -> Option<Arc<SessionEntry>> {
        self.workers.session(id).filter(|entry| entry.info.direction == direction)
    }
}

impl MediaPlane for Plane {
    fn live_formats(&self, stream: &StreamName) -> Option<Vec<TrackFormat>> {
        self.streams.get(stream)?.formats()
    }

    fn why_not_live(&self, stream: &StreamName) -> Option<String> {
        self.pulls.why_not_live(stream)
    }

    fn viewer_codecs(&self, stream: &StreamName) -> Option<Vec<Codec>> {
        self.workers.viewer_codecs(stream)
    }

    fn unavailable(&self) -> Option<Problem> {
        let full = || self.workers.check_room().err().map(|full| unavailable(&full.to_string()));
        self.check_draining().err().or_else(full)
    }

    fn open(&self, request: OpenRequest) -> Result<TransportParams, Problem> {
        self.check_draining()?;
        let busy = || self.streams.get(&request.stream).is_some_and(|stream| stream.has_publisher(request.priority));
        if request.direction == Direction::Ingest && self.on_conflict == OnConflict::Reject && busy() {
            return Err(conflict(request.priority));
        }
        let (session, local_ice) = (SessionId::random(), IceCredentials::random());
        let senders = match request.direction {
            Direction::Ingest => Vec::new(),
            Direction::Egress => sender_ids(&request.media),
        };
        let setup = request.remote_setup.answer();
        let params = self.params(session, local_ice.clone(), setup, senders.clone());
        self.begin(session, local_ice, request, senders)?;
        Ok(params)
    }

    fn offer(&self, request: CounterOfferRequest) -> Result<TransportParams, Problem> {
        self.check_draining()?;
        self.tell_publisher(&request);
        let (session, local_ice, senders) = (SessionId::random(), IceCredentials::random(), sender_ids(&request.media));
        let params = self.params(session, local_ice.clone(), Setup::ActPass, senders.clone());
        let offer = CounterOffer { request, local_ice, senders, made_at: Instant::now() };
        self.counter_offers.lock().insert(session, offer).map_err(|many| unavailable(&many.to_string()))?;
        Ok(params)
    }

    fn offered(&self, session: SessionId) -> Option<CounterOffered> {
        self.counter_offers.lock().get(Instant::now(), session).map(CounterOffer::offered)
    }

    fn accept(&self, session: SessionId, answer: AnswerRequest) -> Result<(), Problem> {
        self.check_draining()?;
        let offer = self.counter_offers.lock().take(Instant::now(), session);
        let CounterOffer { request, local_ice, senders, .. } =
            offer.ok_or_else(|| problem::not_found("no answer is waited for: POST a new offer"))?;
        let senders = answered(&answer.media, &senders);
        let request = OpenRequest {
            direction: Direction::Egress,
            stream: request.stream,
            grant: request.grant,
            priority: Priority::default(),
            from: request.from,
            user_agent: request.user_agent,
            remote_ice: answer.remote_ice,
            remote_fingerprints: answer.remote_fingerprints,
            remote_setup: answer.remote_setup,
            remote_candidates: answer.remote_candidates,
            media: answer.media,
            video_line: answer.video_line,
        };
        self.begin(session, local_ice, request, senders)
    }

    fn ice_of(&self, session: SessionId, direction: Direction) -> Option<PresentIce> {
        let entry = self.session(session, direction)?;
        let ice = entry.present_ice();
        let is_restarting = ice.number > entry.ice_in_use();
        Some(PresentIce { local: ice.local.clone(), remote: ice.remote.clone(), is_restarting })
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
        if direction == Direction::Egress
            && let Some(offer) = self.counter_offers.lock().get(Instant::now(), session)
        {
            return Some(offer.owner());
        }
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
        if direction == Direction::Egress && self.counter_offers.lock().take(Instant::now(), session).is_some() {
            return true;
        }
        self.session(session, direction).is_some() && self.workers.end_session(session, EndReason::Deleted)
    }

    fn watched(&self, session: SessionId) -> Option<Arc<dyn WatchedSession>> {
        let entry = self.session(session, Direction::Egress)?;
        Some(Arc::new(Watched { streams: self.streams.clone(), entry }))
    }

    fn layers(&self, session: SessionId) -> Vec<LayerInfo> {
        let Some(entry) = self.session(session, Direction::Egress) else { return Vec::new() };
        watched::layers(&self.streams, &entry)
    }

    fn select_layer(&self, session: SessionId, choice: LayerChoice) -> Result<(), Problem> {
        if self.session(session, Direction::Egress).is_none() {
            return Err(no_session());
        }
        if let LayerChoice::Encoding(rid) = &choice {
            let layers = self.layers(session);
            let rids: Vec<_> = layers.iter().filter_map(|layer| layer.encoding_id.as_deref()).collect();
            if !rids.contains(&rid.as_str()) {
                let there = if rids.is_empty() { "one encoding without a name".into() } else { rids.join(", ") };
                let detail = format!("the publisher sends {there}; none is called {rid:?}");
                return Err(Problem::new(422, "no-such-layer", "The stream has no such layer", detail));
            }
        }
        if self.workers.select_layer(session, choice) {
            Ok(())
        } else {
            Err(unavailable("the session's worker is too busy to be told"))
        }
    }

    fn renew(&self, session: SessionId, expires: Option<SystemTime>) {
        if self.counter_offers.lock().renew(session, expires) {
            return;
        }
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

fn conflict(priority: Priority) -> Problem {
    Problem {
        status: 409,
        slug: "stream-has-publisher",
        title: "The stream already has a publisher",
        detail: StreamBusy::with(priority).to_string(),
        retry_after_s: None,
    }
}

/// The numbers we offered, for what the client took.
fn answered(media: &Negotiated, offered: &[SenderIds]) -> Vec<SenderIds> {
    let taken = media.media.iter().zip(offered).filter(|(section, _)| section.is_accepted());
    let repeats = |section: &NegotiatedMedia| section.codecs.iter().any(|codec| codec.rtx_payload_type.is_some());
    taken.map(|(section, ids)| SenderIds { rtx_ssrc: ids.rtx_ssrc.filter(|_| repeats(section)), ..*ids }).collect()
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
