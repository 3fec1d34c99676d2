//! Problems as HTTP responses: `application/problem+json` (RFC 9457). No error leaves this server in any other form.

use std::time::Duration;

use axum::{
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;
use sluice_signaling::{error::Problem, http as plain, name::InvalidStreamName};
use utoipa::ToSchema;

/// The body of every error (RFC 9457 section 3.1), as [`Problem::to_json`] writes it; for the API's description.
#[derive(Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Which kind of problem, as a URI that never changes.
    #[schema(example = "/problems/not-found")]
    pub r#type: String,
    /// The kind in a few words.
    pub title: String,
    /// The HTTP status again.
    pub status: u16,
    /// What happened this time, and what to change.
    pub detail: String,
}

/// A refusal on its way out of a handler.
#[derive(Debug)]
pub struct Refusal(pub Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        respond(&self.0)
    }
}

/// The response that carries a problem.
pub fn respond(problem: &Problem) -> Response {
    written(plain::Response::from(problem.clone()))
}

/// A plain response, written out.
pub fn written(plain: plain::Response) -> Response {
    let status = StatusCode::from_u16(plain.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = (status, plain.body).into_response();
    let headers = response.headers_mut();
    // What axum says of bytes by default.
    headers.remove(header::CONTENT_TYPE);
    for (name, value) in plain.headers {
        // A value with a control character in it would be a mistake of ours; the response is better off without it.
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            headers.append(name, value);
        }
    }
    if plain.problem.is_some() {
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
    response.extensions_mut().insert(WhyRefused(plain.problem.map(|problem| problem.detail)));
    response
}

/// Why a response refuses, for the log; `None` when it does not.
#[derive(Debug, Clone)]
pub struct WhyRefused(pub Option<String>);

pub fn not_found(detail: impl Into<String>) -> Problem {
    Problem::new(404, "not-found", "Not found", detail)
}

pub fn bad_request(detail: impl Into<String>) -> Problem {
    Problem::new(400, "bad-request", "Bad request", detail)
}

pub fn invalid_stream_name(why: InvalidStreamName) -> Problem {
    Problem::new(400, "invalid-stream-name", "Invalid stream name", why.to_string())
}

pub fn forbidden(detail: impl Into<String>) -> Problem {
    Problem::new(403, "forbidden", "Forbidden", detail)
}

pub fn method_not_allowed(method: &Method) -> Problem {
    Problem::new(
        405,
        "method-not-allowed",
        "Method not allowed",
        format!("{method} is not defined on this path; the Allow header names what is"),
    )
}

pub fn body_too_slow(limit_s: u64) -> Problem {
    Problem::new(408, "body-too-slow", "Body too slow", format!("the request's body did not arrive within {limit_s} s"))
}

/// The client's share is used up (RFC 6585 section 4); `wait` until it may ask once more.
pub fn too_many_requests(method: &Method, wait: Duration) -> Problem {
    let seconds = wait.as_secs_f64().ceil().max(1.0) as u32;
    let detail = format!("too many {method} requests come from your address; wait {seconds} s");
    Problem::new(429, "too-many-requests", "Too many requests", detail).retry_after(seconds)
}

/// No new sessions: the server is stopping. Another one, or this one restarted, may take it in a few seconds.
pub fn draining() -> Problem {
    Problem::new(
        503,
        "draining",
        "The server is stopping",
        "this server takes no new sessions any more; try again shortly",
    )
    .retry_after(5)
}
