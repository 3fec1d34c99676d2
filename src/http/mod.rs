//! The HTTP door: WHIP and WHEP signalling, HLS, the API, the pages, and what machines ask (health, metrics).
//!
//! In: requests. Out: responses, every error as `application/problem+json`. Holds no state of its own: sessions, streams
//! and tokens belong to others ([`Services`]). Carries no media but that of HLS. TLS is a reverse proxy's.

#![allow(clippy::disallowed_methods, reason = "an I/O room: requests come with the time of day")]

mod api;
mod conditional;
mod cors;
mod events;
mod forwarded;
mod hls;
mod listener;
pub mod pages;
pub mod plane;
mod presented;
mod probes;
mod problem;
mod rate_limit;
mod request_log;
mod sessions;
mod signalling;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::SystemTime};

use axum::{Router, http::Method, middleware, response::Response};
use sluice_signaling::{media_plane::MediaPlane, token::Authenticator};

use crate::{
    config::TrustedProxy,
    metrics::Metrics,
    packaging::Packaging,
    relay::{Pulls, Relays},
    track::Streams,
    transcode::Reencoding,
};

pub use events::EventPlaces;
pub use listener::serve;
pub use rate_limit::{Rate, RateLimiter};
pub use sessions::Sessions;

/// What the routes stand on.
pub struct Services {
    pub streams: Arc<Streams>,
    pub metrics: Arc<Metrics>,
    pub authenticator: Arc<Authenticator>,
    /// Carries the media of WHIP and WHEP sessions.
    pub plane: Arc<dyn MediaPlane>,
    /// What HLS is served from.
    pub packaging: Arc<Packaging>,
    /// `None` where streams with B-frames are not encoded anew.
    pub reencoding: Option<Arc<Reencoding>>,
    pub relays: Arc<Relays>,
    pub pulls: Arc<Pulls>,
    /// Knows the viewers, for the API.
    pub sessions: Arc<dyn Sessions>,
    pub signalling: sluice_signaling::endpoint::Settings,
    /// What event streams stand on.
    pub events: EventPlaces,
    /// How often one client may make, change and end sessions.
    pub rate_limiter: RateLimiter,
    /// Whose `X-Forwarded-For` is believed.
    pub trusted_proxies: Arc<[TrustedProxy]>,
    /// Where RTMP is served, for the addresses that pages show; `None`: it is not.
    pub rtmp_port: Option<u16>,
    /// All doors are on loopback by rule: nobody but this machine's users is meant to come.
    pub loopback_only: bool,
}

pub type AppState = Arc<Services>;

/// All routes.
pub fn router(state: AppState) -> Router {
    Router::new()
        .merge(signalling::router(&state))
        .merge(hls::router())
        .merge(api::router(&state))
        .merge(probes::router())
        .merge(pages::router(state.signalling.overflow_to.as_ref()))
        .fallback(nothing_here)
        .method_not_allowed_fallback(wrong_method)
        .layer(middleware::from_fn(request_log::log))
        .layer(middleware::from_fn_with_state(state.trusted_proxies.clone(), forwarded::believe))
        .with_state(state)
}

async fn nothing_here() -> Response {
    problem::respond(&problem::not_found("there is nothing at this path; / lists what is live"))
}

async fn wrong_method(method: Method) -> Response {
    problem::respond(&problem::method_not_allowed(&method))
}

fn now() -> SystemTime {
    SystemTime::now()
}
