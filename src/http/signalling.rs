//! WHIP and WHEP: HTTP on this side, [`sluice_signaling`] on the other. Reads a bounded body in bounded time, hands the
//! request over as plain values, writes out the plain response. Decides nothing itself but 408 and
//! 429, and says by which nodes a stream comes.

use std::{net::SocketAddr, time::Duration};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Path, Request, State, rejection::PathRejection},
    http::{Method, header},
    middleware,
    response::{IntoResponse, Response},
    routing::any,
};
use futures_util::StreamExt;
use serde::Deserialize;
use sluice_signaling::{
    endpoint::Door,
    error::Problem,
    extensions::Resource,
    http::{self as plain, BODY_MAX_BYTES},
    media_plane::Direction,
    token::Presenter,
    whep::WHEP,
    whip::WHIP,
};
use tracing::{Span, field::display};

use super::{AppState, cors, events, now, presented, problem, problem::Refusal, rate_limit};
use crate::{media::StreamName, relay::PATH_HEADER, track::Protocol};

/// How long a body may take: an offer is a few packets, even over a slow phone.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub fn router(state: &AppState) -> Router<AppState> {
    Router::new()
        .merge(routes(&WHIP))
        .merge(routes(&WHEP))
        .layer(middleware::from_fn_with_state(state.clone(), rate_limit::limit))
        .layer(middleware::from_fn(cors::allow_any_origin))
}

/// A door's endpoints and sessions.
fn routes(door: &'static Door) -> Router<AppState> {
    let answer = any(
        move |State(state): State<AppState>,
              from: From,
              place: Result<Path<Place>, PathRejection>,
              request: Request| async move {
            match place {
                Ok(Path(place)) => handle(door, &state, from, &place, request).await,
                Err(rejection) => Refusal(problem::bad_request(rejection.body_text())).into_response(),
            }
        },
    );
    let prefix = door.prefix;
    let router = Router::new()
        .route(&format!("{prefix}/{{stream}}"), answer.clone())
        .route(&format!("{prefix}/{{stream}}/{{session}}"), answer.clone());
    match door.direction {
        Direction::Ingest => router,
        // WHEP's extensions.
        Direction::Egress => router
            .route(&format!("{prefix}/{{stream}}/{{session}}/{{resource}}"), answer.clone())
            .route(&format!("{prefix}/{{stream}}/{{session}}/{{resource}}/{{id}}"), answer),
    }
}

/// What the path names: an endpoint, one of its sessions, or what is below that.
#[derive(Deserialize)]
struct Place {
    stream: String,
    session: Option<String>,
    resource: Option<String>,
    id: Option<String>,
}

impl Place {
    /// What is below the session; an error for what nothing has.
    fn resource(&self) -> Result<Option<Resource<'_>>, Problem> {
        match (self.resource.as_deref(), self.id.as_deref()) {
            (None, _) => Ok(None),
            (Some("events"), None) => Ok(Some(Resource::Events)),
            (Some("events"), Some(id)) => Ok(Some(Resource::EventStream(id))),
            (Some("layer"), None) => Ok(Some(Resource::Layer)),
            _ => Err(problem::not_found("a session has /events and /layer below it, and nothing else")),
        }
    }
}

/// The outcome of a session that signalling did not let begin (`sluice_sessions_total`).
const REFUSED: &str = "refused";
/// That of one that another node is to have.
const REDIRECTED: &str = "redirected";

type From = ConnectInfo<SocketAddr>;

async fn handle(door: &Door, state: &AppState, ConnectInfo(from): From, place: &Place, request: Request) -> Response {
    let (stream, session) = (place.stream.as_str(), place.session.as_deref());
    let protocol = Protocol::of(door.direction).as_str();
    let span = Span::current();
    span.record("stream", display(stream));
    let (head, body) = request.into_parts();
    let resource = match place.resource() {
        Ok(resource) => resource,
        Err(problem) => return problem::respond(&problem),
    };
    let (query, body) = match (presented::query(&head.uri), read(body).await) {
        (Ok(query), Ok(body)) => (query, body),
        (Err(problem), _) | (_, Err(problem)) => return problem::respond(&problem),
    };
    let text = |name| presented::text(&head.headers, name);
    let request = plain::Request {
        resource,
        content_type: text(header::CONTENT_TYPE),
        authorization: text(header::AUTHORIZATION),
        query_token: query.token.as_deref(),
        query_priority: query.priority.as_deref(),
        origin: text(header::ORIGIN),
        if_match: text(header::IF_MATCH),
        user_agent: text(header::USER_AGENT),
        is_redirected: query.redirected.is_some(),
        is_preflight: cors::is_preflight(&head.method, &head.headers),
        body: &body,
        ..plain::Request::new(plain::Method::from_name(head.method.as_str()), stream, session, from)
    };
    fetch_on_demand(door, state, &request).await;
    let mut response = door.answer(&request, &state.authenticator, &*state.plane, &state.signalling, now());
    if response.status == 201
        && let Some(stream) = wanted(door, &request)
    {
        response.headers.push((PATH_HEADER, state.pulls.path(&stream)));
    }
    if let Some(session) = response.session {
        span.record("session", display(session));
    }
    if head.method == Method::POST && session.is_none() {
        match (response.status, &response.problem, response.session) {
            (307, ..) => state.metrics.count_session(protocol, REDIRECTED),
            // An offer of ours is no refusal yet: its session is counted when it ends, or when nobody answers.
            (_, Some(_), None) => state.metrics.count_session(protocol, REFUSED),
            _ => {}
        }
    }
    if let Some(denied) = response.denied {
        state.metrics.count_auth_failure(denied.reason());
    }
    match (response.session, response.events) {
        (Some(session), Some(id)) => events::respond(state, stream, session, id, response),
        _ => problem::written(response),
    }
}

/// The stream that a viewer's offer is for; `None` where the request is something else.
fn wanted(door: &Door, request: &plain::Request<'_>) -> Option<StreamName> {
    let is_offer = request.method == plain::Method::Post && request.session.is_none();
    (door.direction == Direction::Egress && is_offer).then(|| request.stream.parse().ok()).flatten()
}

/// A viewer who may watch waits for a stream whose source is connected on demand. Whatever else the request is, the answer says it.
async fn fetch_on_demand(door: &Door, state: &AppState, request: &plain::Request<'_>) {
    let Some(stream) = wanted(door, request) else { return };
    if !state.pulls.is_on_demand(&stream) || state.plane.unavailable().is_some() {
        return;
    }
    let presenter = Presenter::new(request.authorization, request.query_token, request.from.ip(), request.origin);
    if state.authenticator.authorise(&presenter, door.right, &stream, now()).is_ok() {
        // Where too many wait already, this one is answered as things stand.
        if let (Some(comes), Ok(_place)) =
            (state.pulls.want(&stream), state.packaging.waiting().enter(request.from.ip()))
        {
            comes.await;
        }
    }
}

/// The whole body, or one chunk more than may be sent: enough for signalling to refuse it.
async fn read(body: Body) -> Result<Vec<u8>, Problem> {
    let all = async {
        let mut chunks = body.into_data_stream();
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.next().await {
            bytes.extend_from_slice(&chunk.map_err(|_| problem::bad_request("the request's body broke off"))?);
            if bytes.len() > BODY_MAX_BYTES {
                break;
            }
        }
        Ok(bytes)
    };
    let too_slow = |_| Err(problem::body_too_slow(BODY_TIMEOUT.as_secs()));
    tokio::time::timeout(BODY_TIMEOUT, all).await.unwrap_or_else(too_slow)
}
