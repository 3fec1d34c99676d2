//! WHIP and WHEP: HTTP on this side, [`sluice_signaling`] on the other. Reads a bounded body in bounded time, hands the
//! request over as plain values, writes out the plain response. Decides nothing itself but 408 and,
//! while draining, 503.

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
use sluice_signaling::{
    error::Problem,
    http::{self as plain, BODY_MAX_BYTES},
    whep, whip,
};
use tracing::{Span, field::display};

use super::{AppState, cors, now, presented, problem, problem::Refusal};
use crate::track::Protocol;

/// How long a body may take: an offer is a few packets, even over a slow phone.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

pub fn router() -> Router<AppState> {
    Router::new()
        .route("/whip/{stream}", any(whip_endpoint))
        .route("/whip/{stream}/{session}", any(whip_session))
        .route("/whep/{stream}", any(whep_endpoint))
        .route("/whep/{stream}/{session}", any(whep_session))
        .layer(middleware::from_fn(cors::allow_any_origin))
}

#[derive(Clone, Copy)]
enum Door {
    Whip,
    Whep,
}

impl Door {
    fn protocol(self) -> &'static str {
        match self {
            Self::Whip => Protocol::Whip.as_str(),
            Self::Whep => Protocol::Whep.as_str(),
        }
    }
}

/// The outcome of a session that signalling did not let begin (`sluice_sessions_total`).
const REFUSED: &str = "refused";

type From = ConnectInfo<SocketAddr>;

async fn whip_endpoint(
    State(state): State<AppState>,
    from: From,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    endpoint(Door::Whip, &state, from, path, request).await
}

async fn whip_session(
    State(state): State<AppState>,
    from: From,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    session(Door::Whip, &state, from, path, request).await
}

async fn whep_endpoint(
    State(state): State<AppState>,
    from: From,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    endpoint(Door::Whep, &state, from, path, request).await
}

async fn whep_session(
    State(state): State<AppState>,
    from: From,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    session(Door::Whep, &state, from, path, request).await
}

async fn endpoint(
    door: Door,
    state: &AppState,
    from: From,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    match path {
        Ok(Path(stream)) => handle(door, state, from, &stream, None, request).await,
        Err(rejection) => Refusal(problem::bad_request(rejection.body_text())).into_response(),
    }
}

async fn session(
    door: Door,
    state: &AppState,
    from: From,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    match path {
        Ok(Path((stream, session))) => handle(door, state, from, &stream, Some(&session), request).await,
        Err(rejection) => Refusal(problem::bad_request(rejection.body_text())).into_response(),
    }
}

async fn handle(
    door: Door,
    state: &AppState,
    ConnectInfo(from): From,
    stream: &str,
    session: Option<&str>,
    request: Request,
) -> Response {
    let span = Span::current();
    span.record("stream", display(stream));
    let (head, body) = request.into_parts();
    if state.drain.is_cancelled() && head.method == Method::POST {
        state.metrics.count_session(door.protocol(), REFUSED);
        return problem::respond(&problem::draining());
    }
    let (token, body) = match (presented::query_token(&head.uri), read(body).await) {
        (Ok(token), Ok(body)) => (token, body),
        (Err(problem), _) | (_, Err(problem)) => return problem::respond(&problem),
    };
    let text = |name| presented::text(&head.headers, name);
    let request = plain::Request {
        content_type: text(header::CONTENT_TYPE),
        authorization: text(header::AUTHORIZATION),
        query_token: token.as_deref(),
        origin: text(header::ORIGIN),
        if_match: text(header::IF_MATCH),
        user_agent: text(header::USER_AGENT),
        body: &body,
        ..plain::Request::new(plain::Method::from_name(head.method.as_str()), stream, session, from)
    };
    let plane = &*state.plane;
    let response = match door {
        Door::Whip => whip::handle(&request, &state.authenticator, plane, &state.signalling, now()),
        Door::Whep => whep::handle(&request, &state.authenticator, plane, &state.signalling, now()),
    };
    if let Some(session) = response.session {
        span.record("session", display(session));
    }
    if response.problem.is_some() && head.method == Method::POST {
        state.metrics.count_session(door.protocol(), REFUSED);
    }
    if let Some(denied) = response.denied {
        state.metrics.count_auth_failure(denied.reason());
    }
    problem::written(response)
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
