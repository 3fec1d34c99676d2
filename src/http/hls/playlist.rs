//! Playlists as responses: validators, caching and encoding.

use axum::{
    body::Body,
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::Response,
};

use super::access::Access;
use crate::{http::conditional, packaging::SharedPlaylist};

/// RFC 8216bis section 4.
const CONTENT_TYPE: &str = "application/vnd.apple.mpegurl";
/// What was waited for is there for good: whoever asks for it later gets at least that (RFC 8216bis appendix B.1 has six).
const BLOCKING_TARGETS: u64 = 6;

/// Which playlist, for how long it may be kept.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    /// What the stream consists of, which seldom changes.
    Multivariant,
    /// `blocking`: it has what its URL asks for.
    Media { blocking: bool },
}

/// The playlist for one viewer, or word that it is the one that is known already.
pub fn respond(shared: &SharedPlaylist, kind: Kind, access: &Access, request: &HeaderMap) -> Response {
    let gzip = conditional::accepts_gzip(request);
    let etag = format!("\"{}{}\"", shared.version(), if gzip { "-gz" } else { "" });
    let known = conditional::is_known(request, &etag);
    let body = match (known, &access.carried, gzip) {
        (true, ..) => Body::empty(),
        (false, None, false) => Body::from(shared.plain()),
        (false, None, true) => Body::from(shared.gzip()),
        (false, Some(query), false) => Body::from(shared.with_query(query)),
        (false, Some(query), true) => Body::from(shared.gzip_with_query(query)),
    };
    let mut response = Response::new(body);
    if known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    let mut set = |name, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    };
    if !known {
        set(header::CONTENT_TYPE, CONTENT_TYPE);
        if gzip {
            set(header::CONTENT_ENCODING, "gzip");
        }
    }
    set(header::ETAG, &etag);
    set(header::CACHE_CONTROL, &cache_control(shared, kind, access));
    set(header::VARY, if access.is_private { "Accept-Encoding, Authorization, Cookie" } else { "Accept-Encoding" });
    set(header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    // The URL may hold a token: no other site is told it.
    set(header::REFERRER_POLICY, "no-referrer");
    if let Some(cookie) = &access.cookie {
        headers.insert(header::SET_COOKIE, cookie.clone());
    }
    response
}

fn cache_control(shared: &SharedPlaylist, kind: Kind, access: &Access) -> String {
    if access.cookie.is_some() {
        return "no-store".into();
    }
    let whose = if access.is_private { "private" } else { "public" };
    match kind {
        Kind::Media { blocking: true } => format!("{whose}, max-age={}", BLOCKING_TARGETS * shared.target_duration_s),
        // A second is what a crowd that comes at once, or polls, is served by one request.
        Kind::Media { blocking: false } | Kind::Multivariant => format!("{whose}, max-age=1"),
    }
}
