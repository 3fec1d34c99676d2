//! One span per request, with stream and session as soon as they are known, and one line when it is answered. Only the
//! path is written, never the query: it may hold a token.

use std::{net::SocketAddr, time::Instant};

use axum::{
    extract::{ConnectInfo, Request},
    http::StatusCode,
    middleware::Next,
    response::Response,
};
use tracing::{Instrument, Level, debug, enabled, field, info_span, warn};

use super::problem::WhyRefused;

pub async fn log(request: Request, next: Next) -> Response {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(from)| *from);
    let span = info_span!(
        "http",
        method = %request.method(),
        path = request.uri().path(),
        from = from.map(field::display),
        stream = field::Empty,
        session = field::Empty,
    );
    let begun = Instant::now();
    async move {
        let response = next.run(request).await;
        let status = response.status();
        let refused = response.extensions().get::<WhyRefused>().and_then(|why| why.0.as_deref());
        // 503 is said on purpose: full, or stopping.
        if status.is_server_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            warn!(status = status.as_u16(), reason = refused, "request failed");
        } else if enabled!(Level::DEBUG) {
            let took_us = begun.elapsed().as_micros() as u64;
            debug!(status = status.as_u16(), reason = refused, took_us, "request answered");
        }
        response
    }
    .instrument(span)
    .await
}
