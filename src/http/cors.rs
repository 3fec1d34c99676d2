//! Cross-origin rules for media and signalling paths (Fetch standard, section 3.3): pages of every origin may publish and watch,
//! as far as their token lets them. The API has no such rules: other origins' pages cannot use it.

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Method, header},
    middleware::Next,
    response::Response,
};

/// What a page's script may read of a response, beside what Fetch always lets it read.
const EXPOSED: &str = "Location, ETag, Link, Retry-After, Accept-Patch, Accept-Post, WWW-Authenticate, Age, Date, \
     Content-Range, Accept-Ranges";
/// What a page's script may send.
const ALLOWED_HEADERS: &str = "Authorization, Content-Type, If-Match, If-None-Match, Range";
const ALLOWED_METHODS: &str = "GET, HEAD, POST, PATCH, DELETE, OPTIONS";
/// How long a browser may remember all that: a day.
const MAX_AGE_S: &str = "86400";

/// Middleware for the paths that any origin may use. What the handler set itself stays.
pub async fn allow_any_origin(request: Request, next: Next) -> Response {
    let preflight = is_preflight(request.method(), request.headers());
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    set(headers, header::ACCESS_CONTROL_ALLOW_ORIGIN, "*");
    set(headers, header::ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    if preflight {
        set(headers, header::ACCESS_CONTROL_ALLOW_METHODS, ALLOWED_METHODS);
        set(headers, header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS);
        set(headers, header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_S);
    }
    response
}

/// The browser asks whether a page may ask.
pub fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

fn set(headers: &mut HeaderMap, name: HeaderName, value: &'static str) {
    headers.entry(name).or_insert(HeaderValue::from_static(value));
}
