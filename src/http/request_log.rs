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

#[cfg(test)]
mod tests {
    use std::{
        io::{self, Write},
        sync::Arc,
    };

    use axum::{Router, body::Body, middleware, routing::get};
    use parking_lot::Mutex;
    use tower::ServiceExt;
    use tracing::Span;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_request_is_logged_with_its_stream_and_without_its_token() {
        let lines = Lines::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(Level::TRACE)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        let handler = || async {
            Span::current().record("stream", "cam1");
            "fine"
        };
        let router = Router::new().route("/whep/{stream}", get(handler)).layer(middleware::from_fn(log));
        let request = Request::get("/whep/cam1?token=sesame").header("authorization", "Bearer sesame");
        router.oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let text = String::from_utf8(lines.0.lock().clone()).unwrap();
        for part in ["method=GET", "path=\"/whep/cam1\"", "stream=\"cam1\"", "status=200"] {
            assert!(text.contains(part), "{part} in {text}");
        }
        assert!(!text.contains("sesame"), "{text}");
    }
}
