//! Media as responses: never another under the same name, so kept by whoever likes, for as long as they like.

use std::convert::Infallible;

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};
use bytes::Bytes;
use futures_util::stream;
use sluice_signaling::error::Problem;

use super::range::{self, Range};
use crate::http::{conditional, presented, problem};

const IMMUTABLE: &str = "public, max-age=31536000, immutable";

/// An initialization, a part or a segment, or what of it is asked for.
pub fn respond(name: &str, runs: Vec<Bytes>, request: &HeaderMap) -> Response {
    let etag = format!("\"{name}\"");
    let len = runs.iter().map(|run| run.len() as u64).sum();
    // `If-Range` compares strongly; there is only ever one of a name, so another tag is of something else.
    let if_range = presented::text(request, header::IF_RANGE);
    let field = presented::text(request, header::RANGE).filter(|_| if_range.is_none_or(|tag| tag == etag));
    let (status, runs, content_range) = match range::read(field, len) {
        _ if conditional::is_known(request, &etag) => (StatusCode::NOT_MODIFIED, Vec::new(), None),
        Range::Whole => (StatusCode::OK, runs, None),
        Range::Part { from, to } => {
            let content_range = format!("bytes {from}-{}/{len}", to - 1);
            (StatusCode::PARTIAL_CONTENT, range::cut(runs, from, to), Some(content_range))
        }
        Range::Unsatisfiable => return unsatisfiable(len),
    };
    let body_len: usize = runs.iter().map(Bytes::len).sum();
    let mut response = Response::new(body(runs));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if status != StatusCode::NOT_MODIFIED {
        set(header::CONTENT_TYPE, "video/mp4");
        set(header::CONTENT_LENGTH, &body_len.to_string());
    }
    if let Some(content_range) = content_range {
        set(header::CONTENT_RANGE, &content_range);
    }
    set(header::ACCEPT_RANGES, "bytes");
    set(header::ETAG, &etag);
    set(header::CACHE_CONTROL, IMMUTABLE);
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    response
}

fn unsatisfiable(len: u64) -> Response {
    let detail = format!("there are {len} bytes");
    let mut response = problem::respond(&Problem::new(416, "range-not-satisfiable", "No such range", detail));
    if let Ok(value) = HeaderValue::from_str(&format!("bytes */{len}")) {
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    response
}

/// The runs one behind the other, as they lie.
fn body(mut runs: Vec<Bytes>) -> Body {
    match (runs.pop(), runs.is_empty()) {
        (None, _) => Body::empty(),
        (Some(only), true) => Body::from(only),
        (Some(last), false) => {
            runs.push(last);
            Body::from_stream(stream::iter(runs.into_iter().map(Ok::<_, Infallible>)))
        }
    }
}
