//! What machines ask: alive, ready, metrics.

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{AppState, problem};

pub fn router() -> Router<AppState> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

async fn alive() -> &'static str {
    "alive\n"
}

/// Able to take sessions: not while draining, and not while full.
async fn ready(State(state): State<AppState>) -> Response {
    state.plane.unavailable().map_or_else(|| "ready\n".into_response(), |why| problem::respond(&why))
}

async fn metrics(State(state): State<AppState>) -> Response {
    let live = state.streams.all().iter().filter(|stream| stream.is_live()).count();
    state.metrics.streams.set(live as i64);
    state.metrics.webrtc_sessions.set(state.sessions.count() as i64);
    let exposition = state.metrics.render();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], exposition).into_response()
}
