//! A media plane that carries nothing and notes what it is asked, and offers of real clients.
#![allow(dead_code, reason = "each test program uses its part")]

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use sluice_signaling::{
    codec::{Codec, TrackFormat},
    error::Problem,
    events::{EventStreams, News},
    http::{FRAGMENT_TYPE, Method, Request, Response, SDP_TYPE},
    ice::IceCredentials,
    media_plane::{
        AnswerRequest, CounterOfferRequest, CounterOffered, Direction, IceRestart, LayerChoice, LayerInfo, MediaPlane,
        OpenRequest, PresentIce, SenderIds, SessionOwner, TransportParams, WatchedSession,
    },
    name::{SessionId, StreamName},
    priority::Priority,
    sdp::{CandidateTransport, Fingerprint, IceCandidate, Setup},
    token::{Authenticator, Claims, Grant, OneOrMany, Right, Rights},
};

/// `(name, text)` of every offer under `fixtures/`; Chromium's were made by Chromium, libdatachannel's (which OBS is built on) stands in
/// the logs of ZLMediaKit's issue 4324 and has their Content-Length, its simulcast one it wrote when it was driven as OBS 32.1 does. The
/// first of OBS, which gathers before it offers, is one that a WHIP server keeps for its tests, every byte of it. That of an OBS of 30.2 or
/// later is of SRS's issue 4590, whose text was at hand up to the end of the sound's section; that of the pictures is as in the first, with
/// the identifiers shown there, and makes up the 1090 bytes that the log counts. The others follow what the clients' sources write.
pub const OFFERS: [(&str, &str); 15] = [
    ("chromium-publish", CHROMIUM_PUBLISH),
    ("chromium-simulcast", include_str!("../fixtures/chromium-simulcast.sdp")),
    ("chromium-watch", CHROMIUM_WATCH),
    ("firefox-watch", include_str!("../fixtures/firefox-watch.sdp")),
    ("safari-watch", include_str!("../fixtures/safari-watch.sdp")),
    ("webrtc-rs-watch", include_str!("../fixtures/webrtc-rs-watch.sdp")),
    ("obs-30", OBS),
    ("obs-30-2", include_str!("../fixtures/obs-30-2.sdp")),
    ("libdatachannel-simulcast", include_str!("../fixtures/libdatachannel-simulcast.sdp")),
    ("libdatachannel-publish", include_str!("../fixtures/libdatachannel-publish.sdp")),
    ("ffmpeg-8-0", include_str!("../fixtures/ffmpeg-8-0.sdp")),
    ("ffmpeg-8-1", include_str!("../fixtures/ffmpeg-8-1.sdp")),
    ("ffmpeg-8-1-dtls-active-video-only", include_str!("../fixtures/ffmpeg-8-1-dtls-active-video-only.sdp")),
    ("aiortc-publish", include_str!("../fixtures/aiortc-publish.sdp")),
    ("gstreamer-publish", include_str!("../fixtures/gstreamer-publish.sdp")),
];
pub const CHROMIUM_PUBLISH: &str = include_str!("../fixtures/chromium-publish.sdp");
pub const CHROMIUM_WATCH: &str = include_str!("../fixtures/chromium-watch.sdp");
pub const OBS: &str = include_str!("../fixtures/obs-30.sdp");

pub fn offer(name: &str) -> &'static str {
    OFFERS.iter().find(|(other, _)| *other == name).map(|(_, text)| *text).unwrap()
}

pub fn watches(name: &str) -> bool {
    name.ends_with("-watch")
}

pub const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

pub fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// A token of `alice` for the streams `cam1` and `cam2`, good for `ttl_s` seconds from [`now`].
pub fn token(can: Right, ttl_s: u64) -> String {
    let claims = Claims {
        exp: 1_800_000_000 + ttl_s,
        sub: Some("alice".into()),
        stream: OneOrMany(vec!["cam1".into(), "cam2".into()]),
        can: Rights(vec![can]),
        ..Claims::default()
    };
    Authenticator::hs256(SECRET).unwrap().sign(&claims).unwrap()
}

/// Likewise, of a publisher that is a backup.
pub fn backup_token() -> String {
    let claims = Claims {
        exp: 1_800_000_060,
        stream: OneOrMany(vec!["cam1".into()]),
        can: Rights(vec![Right::Publish]),
        priority: Some(Priority::Backup),
        ..Claims::default()
    };
    Authenticator::hs256(SECRET).unwrap().sign(&claims).unwrap()
}

pub fn h264(fmtp: &str) -> TrackFormat {
    TrackFormat { codec: Codec::H264, fmtp: fmtp.into(), channels: 1 }
}

pub fn opus() -> TrackFormat {
    TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 }
}

fn candidates() -> Vec<IceCandidate> {
    let candidate = |transport, priority| IceCandidate { transport, ip: [192, 0, 2, 1].into(), port: 8189, priority };
    vec![candidate(CandidateTransport::TcpPassive, 9), candidate(CandidateTransport::Udp, 8)]
}

pub fn params(request: &OpenRequest) -> TransportParams {
    let sender = |index: usize| SenderIds { ssrc: 1000 + index as u32, rtx_ssrc: (index == 1).then_some(2001) };
    let accepted = request.media.media.iter().filter(|media| media.is_accepted()).count();
    TransportParams {
        session: SessionId::random(),
        ice: IceCredentials::random(),
        fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![7; 32] },
        setup: request.remote_setup.answer(),
        candidates: candidates(),
        senders: if request.direction == Direction::Egress { (0..accepted).map(sender).collect() } else { Vec::new() },
    }
}

/// Of an offer of ours.
pub fn offer_params(sections: usize) -> TransportParams {
    TransportParams {
        session: SessionId::random(),
        ice: IceCredentials::random(),
        fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![7; 32] },
        setup: Setup::ActPass,
        candidates: vec![IceCandidate {
            transport: CandidateTransport::Udp,
            ip: [192, 0, 2, 1].into(),
            port: 8189,
            priority: 9,
        }],
        senders: (0..sections).map(|index| SenderIds { ssrc: 1000 + index as u32, rtx_ssrc: None }).collect(),
    }
}

/// A session that is told to go on, without more.
#[derive(Default)]
pub struct Watched(EventStreams);

impl WatchedSession for Watched {
    fn news(&self) -> News {
        News::Present { live: true, viewers: 1, layers: Vec::new() }
    }

    fn event_streams(&self) -> &EventStreams {
        &self.0
    }
}

pub struct Open {
    watched: Arc<Watched>,
    id: SessionId,
    request: OpenRequest,
    local: IceCredentials,
    earlier_remote: Vec<IceCredentials>,
    is_restarting: bool,
}

/// Holds sessions, and a log of what it was asked.
#[derive(Default)]
pub struct FakePlane {
    /// Why the stream is not live, where that is known.
    pub why_not_live: Option<String>,
    pub live: Option<Vec<TrackFormat>>,
    pub unavailable: Option<Problem>,
    pub refuse: Option<Problem>,
    pub open: Mutex<Vec<Open>>,
    pub offered: Mutex<Vec<(SessionId, IceCredentials, CounterOfferRequest)>>,
    pub candidates: Mutex<Vec<IceCandidate>>,
    pub layers: Vec<LayerInfo>,
    pub chosen: Mutex<Vec<LayerChoice>>,
    pub renewed: Mutex<Vec<Option<SystemTime>>>,
}

impl FakePlane {
    pub fn live(formats: &[TrackFormat]) -> Self {
        Self { live: Some(formats.to_vec()), ..Self::default() }
    }

    pub fn sessions(&self) -> usize {
        self.open.lock().unwrap().len()
    }

    /// A check has nominated a path of the session's present ICE session.
    pub fn nominate(&self) {
        self.open.lock().unwrap().last_mut().unwrap().is_restarting = false;
    }

    pub fn last_request(&self) -> OpenRequest {
        self.open.lock().unwrap().last().unwrap().request.clone()
    }
}

impl MediaPlane for FakePlane {
    fn live_formats(&self, _stream: &StreamName) -> Option<Vec<TrackFormat>> {
        self.live.clone()
    }

    fn why_not_live(&self, _stream: &StreamName) -> Option<String> {
        self.why_not_live.clone()
    }

    fn viewer_codecs(&self, _stream: &StreamName) -> Option<Vec<Codec>> {
        None
    }

    fn unavailable(&self) -> Option<Problem> {
        self.unavailable.clone()
    }

    fn open(&self, request: OpenRequest) -> Result<TransportParams, Problem> {
        if let Some(problem) = &self.refuse {
            return Err(problem.clone());
        }
        let params = params(&request);
        self.open.lock().unwrap().push(Open {
            watched: Arc::default(),
            id: params.session,
            request,
            local: params.ice.clone(),
            earlier_remote: Vec::new(),
            is_restarting: false,
        });
        Ok(params)
    }

    fn offer(&self, request: CounterOfferRequest) -> Result<TransportParams, Problem> {
        if let Some(problem) = &self.refuse {
            return Err(problem.clone());
        }
        let params = offer_params(request.media.media.len());
        self.offered.lock().unwrap().push((params.session, params.ice.clone(), request));
        Ok(params)
    }

    fn offered(&self, session: SessionId) -> Option<CounterOffered> {
        let offered = self.offered.lock().unwrap();
        let (.., request) = offered.iter().find(|(id, ..)| *id == session)?;
        let kinds = request.media.media.iter().map(|media| media.kind).collect();
        Some(CounterOffered { kinds, live: request.live.clone() })
    }

    fn accept(&self, session: SessionId, answer: AnswerRequest) -> Result<(), Problem> {
        let mut offered = self.offered.lock().unwrap();
        let at = offered.iter().position(|(id, ..)| *id == session).unwrap();
        let (id, local, request) = offered.remove(at);
        let request = OpenRequest {
            direction: Direction::Egress,
            stream: request.stream,
            grant: request.grant,
            priority: Default::default(),
            from: request.from,
            user_agent: request.user_agent,
            remote_ice: answer.remote_ice,
            remote_fingerprints: answer.remote_fingerprints,
            remote_setup: answer.remote_setup,
            remote_candidates: answer.remote_candidates,
            media: answer.media,
            video_line: answer.video_line,
        };
        self.open.lock().unwrap().push(Open {
            watched: Arc::default(),
            id,
            request,
            local,
            earlier_remote: Vec::new(),
            is_restarting: false,
        });
        Ok(())
    }

    fn ice_of(&self, session: SessionId, direction: Direction) -> Option<PresentIce> {
        let open = self.open.lock().unwrap();
        let found = open.iter().find(|open| open.id == session && open.request.direction == direction)?;
        let (local, remote) = (found.local.clone(), found.request.remote_ice.clone());
        Some(PresentIce { local, remote, is_restarting: found.is_restarting })
    }

    /// With the sans-I/O rule of restarts: the client's credentials are never those of before.
    fn restart_ice(
        &self,
        session: SessionId,
        direction: Direction,
        remote: IceCredentials,
    ) -> Result<IceRestart, Problem> {
        let mut open = self.open.lock().unwrap();
        let found = open.iter_mut().find(|open| open.id == session && open.request.direction == direction);
        let found = found.ok_or_else(|| Problem::new(404, "no-session", "There is no such session", ""))?;
        if found.is_restarting && found.request.remote_ice == remote {
            return Ok(IceRestart { ice: found.local.clone(), candidates: candidates() });
        }
        if found.earlier_remote.contains(&remote) {
            return Err(Problem::new(409, "old-ice-credentials", "Overtaken by a restart", ""));
        }
        found.earlier_remote.push(std::mem::replace(&mut found.request.remote_ice, remote));
        found.local = IceCredentials::random();
        found.is_restarting = true;
        Ok(IceRestart { ice: found.local.clone(), candidates: candidates() })
    }

    fn owner_of(&self, session: SessionId, direction: Direction) -> Option<SessionOwner> {
        let owner = |stream: &StreamName, grant: &Grant| SessionOwner {
            stream: stream.clone(),
            subject: grant.subject.clone(),
            from: from().ip(),
            expires: grant.expires,
        };
        if let Some((.., offered)) = self.offered.lock().unwrap().iter().find(|(id, ..)| *id == session) {
            return (direction == Direction::Egress).then(|| owner(&offered.stream, &offered.grant));
        }
        let open = self.open.lock().unwrap();
        let found = open.iter().find(|open| open.id == session && open.request.direction == direction)?;
        Some(owner(&found.request.stream, &found.request.grant))
    }

    fn add_candidates(&self, _session: SessionId, candidates: Vec<IceCandidate>) {
        self.candidates.lock().unwrap().extend(candidates);
    }

    fn close(&self, session: SessionId, direction: Direction) -> bool {
        let (mut open, mut offered) = (self.open.lock().unwrap(), self.offered.lock().unwrap());
        let before = open.len() + offered.len();
        open.retain(|open| open.id != session || open.request.direction != direction);
        offered.retain(|(id, ..)| *id != session || direction != Direction::Egress);
        open.len() + offered.len() < before
    }

    fn watched(&self, session: SessionId) -> Option<Arc<dyn WatchedSession>> {
        self.open.lock().unwrap().iter().find(|open| open.id == session).map(|open| open.watched.clone() as _)
    }

    fn layers(&self, session: SessionId) -> Vec<LayerInfo> {
        let open = self.open.lock().unwrap();
        if open.iter().any(|open| open.id == session) { self.layers.clone() } else { Vec::new() }
    }

    fn select_layer(&self, _session: SessionId, choice: LayerChoice) -> Result<(), Problem> {
        if let LayerChoice::Encoding(rid) = &choice
            && self.layers.iter().all(|layer| layer.encoding_id.as_ref() != Some(rid))
        {
            return Err(Problem::new(422, "no-such-layer", "The stream has no such layer", rid.as_str()));
        }
        self.chosen.lock().unwrap().push(choice);
        Ok(())
    }

    fn renew(&self, _session: SessionId, expires: Option<SystemTime>) {
        self.renewed.lock().unwrap().push(expires);
    }
}

pub fn from() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 99], 40_000))
}

pub fn post(body: &str) -> Request<'_> {
    let request = Request::new(Method::Post, "cam1", None, from());
    Request { content_type: Some(SDP_TYPE), body: body.as_bytes(), ..request }
}

pub fn patch<'a>(session: &'a str, if_match: Option<&'a str>, body: &'a str) -> Request<'a> {
    let request = Request::new(Method::Patch, "cam1", Some(session), from());
    Request { content_type: Some(FRAGMENT_TYPE), body: body.as_bytes(), if_match, ..request }
}

/// The last segment of `Location`.
pub fn session_of(response: &Response) -> String {
    response.header_value("Location").unwrap().rsplit('/').next().unwrap().to_owned()
}

pub fn text(response: &Response) -> &str {
    std::str::from_utf8(&response.body).unwrap()
}

/// Checks that it is a problem as RFC 9457 has it, of this status and slug.
#[track_caller]
pub fn assert_problem(response: &Response, status: u16, slug: &str) {
    assert_eq!(response.status, status, "{}", text(response));
    assert_eq!(response.header_value("content-type"), Some("application/problem+json"));
    assert!(text(response).contains(&format!("\"/problems/{slug}\"")), "{}", text(response));
}
