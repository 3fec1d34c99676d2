//! The API, version 1: live state as JSON, kicks, and its own description (OpenAPI 3).
//!
//! For bearers of the `admin` right ([`guard`]), but for what says nothing of streams. Reads the track tree and asks the sessions' keeper; keeps nothing.

mod guard;
mod model;

use axum::{
    Json, Router,
    extract::{Path, State, rejection::PathRejection},
    http::StatusCode,
    middleware,
    routing::{delete, get},
};
use tracing::{Span, info};
use utoipa::{
    Modify, OpenApi,
    openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
};

use super::{
    AppState,
    problem::{self, ProblemBody, Refusal},
};
use crate::{
    media::{SessionId, StreamName},
    track::EndReason,
    transcode::EncodingPurpose,
};
use model::{Doors, StreamDetail, StreamList, StreamSummary, Viewer};

pub fn router(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/api/v1/streams", get(list_streams))
        .route("/api/v1/streams/{stream}", get(show_stream))
        .route("/api/v1/streams/{stream}/publisher", delete(kick_publisher))
        .route("/api/v1/streams/{stream}/standby", delete(kick_standby))
        .route("/api/v1/streams/{stream}/viewers/{session}", delete(kick_viewer))
        .route_layer(middleware::from_fn_with_state(state.clone(), guard::admins_only))
        .route("/api/v1/openapi.json", get(description))
        .route("/api/v1/doors", get(show_doors))
}

#[derive(OpenApi)]
#[openapi(
    info(title = "Sluice API", description = "Live state of a Sluice server, and kicks."),
    paths(list_streams, show_stream, kick_publisher, kick_standby, kick_viewer, show_doors),
    modifiers(&BearerToken),
    security(("bearer" = []))
)]
struct Description;

/// The API's token: a JWT whose `can` has `admin`; none is needed with `auth.mode = "open"`.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        openapi.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

async fn description() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}

/// Every stream that is published, waited for, or to be fetched from elsewhere.
#[utoipa::path(get, path = "/api/v1/streams", responses(
    (status = 200, body = StreamList),
    (status = "4XX", description = "No token, or one without `admin`", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn list_streams(State(state): State<AppState>) -> Json<StreamList> {
    let streams = state.streams.all().iter().map(|stream| StreamSummary::of(stream, &state.pulls)).collect();
    Json(StreamList { streams })
}

/// One stream and its viewers.
#[utoipa::path(get, path = "/api/v1/streams/{stream}", params(("stream" = String, Path)), responses(
    (status = 200, body = StreamDetail),
    (status = 404, description = "Neither published nor waited for", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn show_stream(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<Json<StreamDetail>, Refusal> {
    let Path(name) = path.map_err(bad_path)?;
    let name = stream_name(&name)?;
    let stream = state.streams.get(&name).ok_or_else(|| no_stream(&name))?;
    let viewers = state.sessions.viewers(&name).into_iter().map(Viewer::from).collect();
    let hls = state.packaging.get(&name).map(|packaged| packaged.state().into());
    let encoded = |purpose| state.reencoding.as_ref()?.state(&name, purpose).map(Into::into);
    let (reencoding, ladder) = (encoded(EncodingPurpose::Replacement), encoded(EncodingPurpose::Ladder));
    let pushes = state.relays.reports(&name).into_iter().map(Into::into).collect();
    let summary = StreamSummary::of(&stream, &state.pulls);
    Ok(Json(StreamDetail { summary, viewers, hls, reencoding, ladder, pushes }))
}

/// Ends the stream's publication. Its viewers stay, and get what stands by, or wait for the next publisher.
#[utoipa::path(delete, path = "/api/v1/streams/{stream}/publisher", params(("stream" = String, Path)), responses(
    (status = 204, description = "Told to go"),
    (status = 404, description = "Nobody publishes it", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn kick_publisher(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let Path(name) = path.map_err(bad_path)?;
    let name = stream_name(&name)?;
    let stream = state.streams.get(&name).ok_or_else(|| no_stream(&name))?;
    if !stream.end_publication(EndReason::Kicked) {
        return Err(problem::not_found(format!("nobody publishes {name}")).into());
    }
    info!("publisher kicked");
    Ok(StatusCode::NO_CONTENT)
}

/// Ends the session of the publisher that stands by.
#[utoipa::path(delete, path = "/api/v1/streams/{stream}/standby", params(("stream" = String, Path)), responses(
    (status = 204, description = "Told to go"),
    (status = 404, description = "Nobody stands by", body = ProblemBody, content_type = "application/problem+json"),
))]
async fn kick_standby(
    State(state): State<AppState>,
    path: Result<Path<String>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let Path(name) = path.map_err(bad_path)?;
    let name = stream_name(&name)?;
    let stream = state.streams.get(&name).ok_or_else(|| no_stream(&name))?;
    if !stream.end_standby(EndReason::Kicked) {
        return Err(problem::not_found(format!("nobody stands by to publish {name}")).into());
    }
    info!("publisher that stood by kicked");
    Ok(StatusCode::NO_CONTENT)
}

/// Ends one viewer's session.
#[utoipa::path(delete, path = "/api/v1/streams/{stream}/viewers/{session}",
    params(("stream" = String, Path), ("session" = String, Path, description = "As `session` in the stream's viewers")),
    responses(
        (status = 204, description = "Ended"),
        (status = 404, description = "No such viewer", body = ProblemBody, content_type = "application/problem+json"),
    ))]
async fn kick_viewer(
    State(state): State<AppState>,
    path: Result<Path<(String, String)>, PathRejection>,
) -> Result<StatusCode, Refusal> {
    let Path((name, session)) = path.map_err(bad_path)?;
    let name = stream_name(&name)?;
    let nobody = || problem::not_found(format!("no viewer of {name} has that session"));
    let session: SessionId = session.parse().map_err(|_| nobody())?;
    Span::current().record("session", tracing::field::display(session));
    // A session's id alone must not end it under another stream's name, or a publisher's as a viewer's.
    let watches = state.sessions.viewers(&name).iter().any(|viewer| viewer.session == session);
    if !watches || !state.sessions.end_session(session, EndReason::Kicked) {
        return Err(nobody().into());
    }
    info!("viewer kicked");
    Ok(StatusCode::NO_CONTENT)
}

/// Where else than by HTTP publishers come in. For everybody who may see this server's pages: it needs no token.
#[utoipa::path(get, path = "/api/v1/doors", security(()), responses((status = 200, body = Doors)))]
async fn show_doors(State(state): State<AppState>) -> Json<Doors> {
    Json(Doors { rtmp_port: state.rtmp_port })
}

fn bad_path(rejection: PathRejection) -> Refusal {
    problem::bad_request(rejection.body_text()).into()
}

fn stream_name(text: &str) -> Result<StreamName, Refusal> {
    let name: StreamName = text.parse().map_err(problem::invalid_stream_name)?;
    Span::current().record("stream", tracing::field::display(&name));
    Ok(name)
}

fn no_stream(name: &StreamName) -> Refusal {
    problem::not_found(format!("nobody publishes or waits for {name}")).into()
}
