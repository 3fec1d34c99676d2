//! What machines ask: alive, ready, metrics.

use axum::{
    Router,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{AppState, problem};
use crate::{
    metrics::Metrics,
    track::{Protocol, Streams},
};

pub fn router() -> Router<AppState> {
    Router::new().route("/healthz", get(alive)).route("/readyz", get(ready)).route("/metrics", get(metrics))
}

async fn alive() -> &'static str {
    "alive\n"
}

/// Able to take sessions: not while draining.
async fn ready(State(state): State<AppState>) -> Response {
    if state.drain.is_cancelled() { problem::respond(&problem::draining()) } else { "ready\n".into_response() }
}

async fn metrics(State(state): State<AppState>) -> Response {
    count_what_is_on(&state.metrics, &state.streams);
    let exposition = state.metrics.render();
    ([(header::CONTENT_TYPE, "application/openmetrics-text; version=1.0.0; charset=utf-8")], exposition).into_response()
}

/// The gauges say what is on at the moment they are asked for.
fn count_what_is_on(metrics: &Metrics, streams: &Streams) {
    let mut publishers = [Protocol::Whip, Protocol::Rtmp].map(|protocol| (protocol.as_str(), 0));
    let mut viewers = 0;
    for state in streams.all().iter().map(|stream| stream.state()) {
        viewers += state.viewers;
        let protocol = state.publisher.map(|publisher| publisher.protocol.as_str());
        for (_, count) in publishers.iter_mut().filter(|(name, _)| Some(*name) == protocol) {
            *count += 1;
        }
    }
    metrics.set_live(&publishers, &[(Protocol::Whep.as_str(), viewers)]);
}
