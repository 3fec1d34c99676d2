//! What signalling asks of whatever carries the media, as a trait: open, patch, close.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::{
    codec::{Codec, MediaKind, TrackFormat},
    error::Problem,
    events::{EventStreams, News},
    ice::IceCredentials,
    name::{SessionId, StreamName},
    priority::Priority,
    sdp::{Fingerprint, IceCandidate, Negotiated, Setup},
    token::Grant,
};

/// Which way media flows, seen from the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// The client publishes (WHIP).
    Ingest,
    /// The client watches (WHEP).
    Egress,
}

/// A session about to be made. Everything in it has been parsed, authorised and negotiated.
#[derive(Debug, Clone)]
pub struct OpenRequest {
    pub direction: Direction,
    pub stream: StreamName,
    pub grant: Grant,
    /// Of a publisher.
    pub priority: Priority,
    /// The HTTP client's address.
    pub from: SocketAddr,
    pub user_agent: String,
    pub remote_ice: IceCredentials,
    pub remote_fingerprints: Vec<Fingerprint>,
    /// The role the offer asks for; the answer takes the other one.
    pub remote_setup: Setup,
    pub remote_candidates: Vec<IceCandidate>,
    pub media: Negotiated,
    /// The offer's `m=` line of pictures that was accepted, counted from 0.
    pub video_line: Option<usize>,
}

/// How long an offer of ours may be answered (draft-ietf-wish-whep, "Server Sends Counter-Offer": 30 s where no `valid-until` is sent).
pub const COUNTER_OFFER_VALID: Duration = Duration::from_secs(30);

/// A viewer's session that begins with an offer of ours.
#[derive(Debug, Clone)]
pub struct CounterOfferRequest {
    pub stream: StreamName,
    pub grant: Grant,
    /// The HTTP client's address.
    pub from: SocketAddr,
    pub user_agent: String,
    /// What is offered, one entry per section.
    pub media: Negotiated,
    /// The stream's formats at that time.
    pub live: Vec<TrackFormat>,
    /// What the client's own offer would have come to for a stream of any codec.
    pub refused: Negotiated,
}

/// What waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CounterOffered {
    /// The kind of each section, in order.
    pub kinds: Vec<MediaKind>,
    /// The stream's formats when the offer was made.
    pub live: Vec<TrackFormat>,
}

/// A client's answer to an offer of ours, read and found good.
#[derive(Debug, Clone)]
pub struct AnswerRequest {
    pub remote_ice: IceCredentials,
    pub remote_fingerprints: Vec<Fingerprint>,
    /// The role the answer takes: active or passive.
    pub remote_setup: Setup,
    pub remote_candidates: Vec<IceCandidate>,
    /// One entry per offered section.
    pub media: Negotiated,
    pub video_line: Option<usize>,
}

/// What the answer says of the transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportParams {
    pub session: SessionId,
    pub ice: IceCredentials,
    pub fingerprint: Fingerprint,
    /// Passive or active in an answer (RFC 8842 section 5.3), `actpass` in an offer.
    pub setup: Setup,
    pub candidates: Vec<IceCandidate>,
    /// For egress: one entry per accepted media section, in the order of the offer.
    pub senders: Vec<SenderIds>,
}

/// The ICE session that was begun last: with the offer and the answer, or by a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PresentIce {
    pub local: IceCredentials,
    pub remote: IceCredentials,
    /// It was begun by a restart and has not nominated a path yet: its client may not have been answered.
    pub is_restarting: bool,
}

/// What a client is told of a restarted ICE session of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceRestart {
    pub ice: IceCredentials,
    pub candidates: Vec<IceCandidate>,
}

/// The numbers an outgoing track is known by (RFC 3550, RFC 4588).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderIds {
    pub ssrc: u32,
    /// The retransmission stream's SSRC, when RTX was agreed.
    pub rtx_ssrc: Option<u32>,
}

/// Carries the media of the sessions that signalling makes. Calls return at once; none blocks.
pub trait MediaPlane: Send + Sync {
    /// The formats of a live stream, video first; `None` when nobody publishes it.
    fn live_formats(&self, stream: &StreamName) -> Option<Vec<TrackFormat>>;

    /// Why a stream that nobody publishes is not live, where more is known than that: it was to be fetched from elsewhere. In words.
    fn why_not_live(&self, _stream: &StreamName) -> Option<String> {
        None
    }

    /// The video codecs that every viewer of the stream has agreed to; `None` when it has no viewers of pictures. Called once for
    /// each publisher that comes.
    fn viewer_codecs(&self, stream: &StreamName) -> Option<Vec<Codec>>;

    /// Why no session can be made at present, a 503 with `Retry-After`: the server is full or stopping.
    fn unavailable(&self) -> Option<Problem>;

    /// Makes a pending session: from now on it answers connectivity checks.
    ///
    /// # Errors
    /// 409 when the stream has a publisher and conflicts are rejected, 503 when draining or full.
    fn open(&self, request: OpenRequest) -> Result<TransportParams, Problem>;

    /// Keeps a session for a viewer that is sent an offer of ours. Until [`MediaPlane::accept`] it answers no connectivity check, and it
    /// is void after [`COUNTER_OFFER_VALID`].
    ///
    /// # Errors
    /// 503 when draining, or when too many offers wait for their answers.
    fn offer(&self, request: CounterOfferRequest) -> Result<TransportParams, Problem>;

    /// What a session that waits for its client's answer was offered; `None` once it is answered, void or unknown.
    fn offered(&self, session: SessionId) -> Option<CounterOffered>;

    /// Makes a session pending whose client has answered our offer: from now on it answers connectivity checks.
    ///
    /// # Errors
    /// 404 when no answer is waited for (any more), 503 when draining or full.
    fn accept(&self, session: SessionId, answer: AnswerRequest) -> Result<(), Problem>;

    /// A session's present ICE session, for PATCH and its ETag; `None` for an unknown session.
    fn ice_of(&self, session: SessionId, direction: Direction) -> Option<PresentIce>;

    /// Begins an ICE restart (RFC 8445 section 9): from now on checks with fresh credentials of ours are answered too, and
    /// [`Self::ice_of`] gives those. What was before goes on, with its credentials, until a check with the fresh ones nominates a
    /// path. A restart that is begun before that replaces the one that was under way; with the client's credentials of that one it is
    /// the same restart, and gives the same again.
    ///
    /// # Errors
    /// 404 for an unknown session; 409 when `remote` was used before in this session: a fragment that was overtaken on its way.
    fn restart_ice(
        &self,
        session: SessionId,
        direction: Direction,
        remote: IceCredentials,
    ) -> Result<IceRestart, Problem>;

    /// Whom the session belongs to (the token's `sub`) and its stream, so that PATCH and DELETE can be authorised.
    fn owner_of(&self, session: SessionId, direction: Direction) -> Option<SessionOwner>;

    /// Hands over trickled candidates. An ICE-lite agent learns what it needs from the checks themselves, so this may do nothing.
    fn add_candidates(&self, session: SessionId, candidates: Vec<IceCandidate>);

    /// Ends a session at once; false when there is none (any more).
    fn close(&self, session: SessionId, direction: Direction) -> bool;

    /// A viewer's session as its event streams see it; `None` for an unknown one.
    fn watched(&self, session: SessionId) -> Option<Arc<dyn WatchedSession>>;

    /// The encodings of the stream's video that this viewer can choose among, best first; empty when there is no picture to choose, and
    /// for an unknown session.
    fn layers(&self, session: SessionId) -> Vec<LayerInfo>;

    /// Chooses what a viewer is sent. It holds until the next choice, through changes of publisher; the picture changes at the next
    /// keyframe of the encoding chosen.
    ///
    /// # Errors
    /// 404 when the session is unknown, 422 when the stream has no such encoding.
    fn select_layer(&self, session: SessionId, choice: LayerChoice) -> Result<(), Problem>;

    /// Moves a session's end, when its owner showed a token on its URL that lasts longer. Never called to shorten it.
    fn renew(&self, session: SessionId, expires: Option<SystemTime>);
}

/// A viewer's session, for who tells its client how it stands. Stays good after the session's end, and says that then.
pub trait WatchedSession: Send + Sync {
    fn news(&self) -> News;

    fn event_streams(&self) -> &EventStreams;
}

/// Who opened a session, and on what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionOwner {
    pub stream: StreamName,
    pub subject: Option<String>,
    pub from: IpAddr,
    /// When the session ends as things stand; `None` in open mode.
    pub expires: Option<SystemTime>,
}

/// One encoding of a stream's video, as a viewer may choose it (WHEP extensions draft, layers event).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerInfo {
    /// The `m=` line of the viewer's session that it would be sent on, counted from 0.
    pub media_id: usize,
    /// The publisher's rid (RFC 8852); `None` where it sends a single encoding, which has no name.
    pub encoding_id: Option<String>,
    /// In pixels, once a keyframe has told.
    pub width: Option<u32>,
    pub height: Option<u32>,
    /// What arrives at present, in bits per second.
    pub bitrate_bps: u64,
    /// Whether the publisher sends it at present.
    pub active: bool,
}

/// What a viewer wants of the stream's encodings (WHEP extensions draft, video layer selection).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LayerChoice {
    /// The server chooses.
    #[default]
    Automatic,
    /// This rid.
    Encoding(String),
    /// The best one within these bounds, in pixels; `None` is no bound.
    Within { width_max: Option<u32>, height_max: Option<u32> },
}
