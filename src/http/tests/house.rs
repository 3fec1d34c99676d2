//! The routes on fakes of everything behind them, and what a client sends to them.

use std::{
    net::SocketAddr,
    time::{Duration, UNIX_EPOCH},
};

use axum::{
    body::Body,
    extract::ConnectInfo,
    http::{Request, StatusCode, header},
};
use parking_lot::Mutex;
use serde_json::Value;
use sluice_signaling::{
    codec::{Codec, TrackFormat},
    error::Problem,
    ice::IceCredentials,
    media_plane::{
        AnswerRequest, CounterOfferRequest, CounterOffered, Direction, IceRestart, LayerChoice, LayerInfo, OpenRequest,
        PresentIce, SenderIds, SessionOwner, TransportParams, WatchedSession,
    },
    sdp::{Fingerprint, IceCandidate},
    token::{Claims, OneOrMany, Right, Rights},
};
use tower::ServiceExt;

use crate::{
    config::OnConflict,
    egress::whep::ViewerPath,
    http::*,
    media::{SessionId, StreamName},
    packaging,
    relay::{Connector, Endpoints, Pulls, Relays},
    track::{EndReason, LayerIndex, Notice, Protocol, Publication, PublisherControl, PublisherInfo, TrackIndex},
    worker::ViewerState,
};

pub(in crate::http) const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Refuses sessions, or takes those that are for a live stream; has one viewer; remembers whom it was told to end.
#[derive(Default)]
pub(in crate::http) struct Fake {
    /// Is live, and can be watched.
    pub(super) live: Option<TrackFormat>,
    pub(super) viewer: Option<(StreamName, ViewerState)>,
    pub(super) unavailable: Mutex<Option<Problem>>,
    pub(super) ended: Mutex<Vec<(SessionId, EndReason)>>,
}

impl MediaPlane for Fake {
    fn live_formats(&self, _: &StreamName) -> Option<Vec<TrackFormat>> {
        self.live.clone().map(|live| vec![live])
    }
    fn viewer_codecs(&self, _stream: &StreamName) -> Option<Vec<Codec>> {
        None
    }

    fn unavailable(&self) -> Option<Problem> {
        self.unavailable.lock().clone()
    }
    fn open(&self, request: OpenRequest) -> Result<TransportParams, Problem> {
        let full = Problem::new(503, "full", "Full", "no place left");
        self.live.as_ref().ok_or(full).map(|_| TransportParams {
            session: SessionId::random(),
            ice: IceCredentials::random(),
            fingerprint: Fingerprint { algorithm: "sha-256".into(), digest: vec![7; 32] },
            setup: request.remote_setup.answer(),
            candidates: Vec::new(),
            senders: vec![SenderIds { ssrc: 1, rtx_ssrc: Some(2) }, SenderIds { ssrc: 3, rtx_ssrc: None }],
        })
    }
    fn offer(&self, _: CounterOfferRequest) -> Result<TransportParams, Problem> {
        Err(Problem::new(503, "full", "Full", "no place left"))
    }
    fn offered(&self, _: SessionId) -> Option<CounterOffered> {
        None
    }
    fn accept(&self, _: SessionId, _: AnswerRequest) -> Result<(), Problem> {
        Ok(())
    }
    fn ice_of(&self, _: SessionId, _: Direction) -> Option<PresentIce> {
        None
    }
    fn owner_of(&self, _: SessionId, _: Direction) -> Option<SessionOwner> {
        None
    }
    fn restart_ice(&self, _: SessionId, _: Direction, _: IceCredentials) -> Result<IceRestart, Problem> {
        Err(Problem::new(404, "no-session", "There is no such session", ""))
    }
    fn add_candidates(&self, _: SessionId, _: Vec<IceCandidate>) {}
    fn close(&self, _: SessionId, _: Direction) -> bool {
        false
    }
    fn watched(&self, _: SessionId) -> Option<Arc<dyn WatchedSession>> {
        None
    }
    fn layers(&self, _: SessionId) -> Vec<LayerInfo> {
        Vec::new()
    }
    fn select_layer(&self, _: SessionId, _: LayerChoice) -> Result<(), Problem> {
        Ok(())
    }
    fn renew(&self, _: SessionId, _: Option<SystemTime>) {}
}

impl Sessions for Fake {
    fn count(&self) -> usize {
        self.viewer.iter().count()
    }
    fn viewers(&self, stream: &StreamName) -> Vec<ViewerState> {
        self.viewer.iter().filter(|(of, _)| of == stream).map(|(_, viewer)| viewer.clone()).collect()
    }
    fn end_session(&self, session: SessionId, reason: EndReason) -> bool {
        self.ended.lock().push((session, reason));
        true
    }
}

#[derive(Default)]
pub(in crate::http) struct Publisher(pub(super) Mutex<Vec<EndReason>>);

impl PublisherControl for Publisher {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}
    fn end(&self, reason: EndReason) {
        self.0.lock().push(reason);
    }
}

pub(in crate::http) struct House {
    pub router: Router,
    pub(super) fake: Arc<Fake>,
    pub streams: Arc<Streams>,
    pub packaging: Arc<Packaging>,
    pub metrics: Arc<Metrics>,
}

pub(in crate::http) fn house(authenticator: Authenticator, fake: Fake) -> House {
    let (fake, streams, metrics) = (Arc::new(fake), Arc::new(Streams::default()), Metrics::new());
    let settings = packaging::testing::settings();
    let packaging = Arc::new(Packaging::new(settings, streams.clone(), metrics.clone(), Default::default()));
    let from = SocketAddr::from(([127, 0, 0, 1], 50_000));
    let router = router(Arc::new(Services {
        streams: streams.clone(),
        metrics: metrics.clone(),
        authenticator: Arc::new(authenticator),
        plane: fake.clone(),
        packaging: packaging.clone(),
        reencoding: None,
        relays: Relays::new(
            Vec::new(),
            Connector::new(false).unwrap(),
            Endpoints::new(false).unwrap(),
            streams.clone(),
            metrics.clone(),
            Default::default(),
        ),
        pulls: Pulls::new(
            Vec::new(),
            (Connector::new(false).unwrap(), Endpoints::new(false).unwrap()),
            streams.clone(),
            metrics.clone(),
            false,
            Default::default(),
        ),
        sessions: fake.clone(),
        events: EventPlaces::new(tokio::sync::watch::channel(()).1, Default::default(), 8),
        signalling: sluice_signaling::endpoint::Settings::default(),
        rate_limiter: RateLimiter::new(Rate { per_s: 1, burst: 3 }),
        trusted_proxies: ["127.0.0.1".parse().unwrap()].into(),
        rtmp_port: Some(1936),
        loopback_only: true,
    }))
    .layer(axum::Extension(ConnectInfo(from)));
    House { router, fake, streams, packaging, metrics }
}

pub(in crate::http) fn open_house() -> House {
    house(Authenticator::open(), Fake::default())
}

pub(super) struct Answer {
    pub status: StatusCode,
    pub headers: header::HeaderMap,
    pub body: String,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|_| panic!("no JSON: {}", self.body))
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    #[track_caller]
    pub(super) fn is_problem(&self, status: u16) {
        assert_eq!(self.status.as_u16(), status, "{}", self.body);
        assert_eq!(self.header("content-type"), "application/problem+json");
        let body = self.json();
        assert_eq!(body["status"], status);
        for member in ["type", "title", "detail"] {
            assert!(body[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {body}");
        }
    }
}

impl House {
    pub(super) async fn send(
        &self,
        method: &str,
        uri: &str,
        headers: &[(&str, &str)],
        body: impl Into<Body>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(uri).header("host", "localhost:8080");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = self.router.clone().oneshot(request.body(body.into()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.unwrap();
        Answer { status: head.status, headers: head.headers, body: String::from_utf8(body.to_vec()).unwrap() }
    }

    pub(super) async fn get(&self, uri: &str) -> Answer {
        self.send("GET", uri, &[], Body::empty()).await
    }

    pub(in crate::http) fn publish(&self, name: &str, control: Arc<Publisher>) -> Publication {
        let info = PublisherInfo {
            session: SessionId::random(),
            protocol: Protocol::Rtmp,
            priority: Default::default(),
            remote: SocketAddr::from(([127, 0, 0, 1], 40_000)),
            user_agent: "OBS".into(),
            subject: Some("alice".into()),
        };
        let since = UNIX_EPOCH + Duration::from_millis(1_700_000_000_123);
        let name = name.parse().unwrap();
        let mut publication = self.streams.publish(&name, info, control, OnConflict::Takeover, since).unwrap();
        publication.add_track(TrackFormat { codec: Codec::H264, fmtp: "a=b".into(), channels: 1 }).unwrap();
        publication.notice(Notice { code: "b-frames-dropped", text: "Set B-frames to 0".into() });
        publication
    }
}

pub(super) fn token(can: Right, stream: &str) -> String {
    signed(can, stream, Claims::default())
}

pub(in crate::http) fn signed(can: Right, stream: &str, claims: Claims) -> String {
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let stream = OneOrMany(vec![stream.into()]);
    let claims = Claims { exp, stream, can: Rights(vec![can]), ..claims };
    format!("Bearer {}", Authenticator::hs256(SECRET).unwrap().sign(&claims).unwrap())
}

pub(super) fn viewer(of: &str) -> (StreamName, ViewerState) {
    let state = ViewerState {
        session: SessionId::random(),
        from: SocketAddr::from(([127, 0, 0, 1], 40_001)),
        user_agent: "browser".into(),
        subject: None,
        since: UNIX_EPOCH,
        connected: true,
        packets_sent: 12,
        bytes_sent: 3_400,
        path: ViewerPath {
            round_trip: Some(Duration::from_micros(38_512)),
            lost_share: Some(0.25),
            bandwidth_bps: Some(4_200_000),
        },
    };
    (of.parse().unwrap(), state)
}
