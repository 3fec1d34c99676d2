//! HTTP as signalling sees it: the parts of a request that matter, and a plain response.
//!
//! No HTTP library is named here; the layer that speaks HTTP fills in a [`Request`] and writes out the [`Response`].
//! CORS headers are that layer's too.

use std::{fmt, net::SocketAddr};

use crate::{error::Problem, events::EventStreamId, extensions::Resource, name::SessionId, token::Denied};

/// The longest body of a signalling request, in bytes; a longer one is answered 413. Chromium's fullest offer has about 10 KB.
pub const BODY_MAX_BYTES: usize = 64 * 1024;

/// The media type of offers and answers (RFC 8866 section 8.1).
pub const SDP_TYPE: &str = "application/sdp";

/// The media type of trickle fragments (RFC 8840 section 9).
pub const FRAGMENT_TYPE: &str = "application/trickle-ice-sdpfrag";

/// What WHEP's extensions take.
pub const JSON_TYPE: &str = "application/json";

/// Response headers that a page's script must be able to read: for `Access-Control-Expose-Headers`.
pub const EXPOSED_HEADERS: [&str; 6] = ["Location", "ETag", "Link", "Retry-After", "Accept-Patch", "WWW-Authenticate"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Post,
    Patch,
    Delete,
    Get,
    Head,
    Options,
    /// Any other; always refused.
    Other,
}

impl Method {
    /// By its name in the request line; methods are case-sensitive (RFC 9110 section 9.1).
    pub fn from_name(name: &str) -> Self {
        match name {
            "POST" => Self::Post,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "OPTIONS" => Self::Options,
            _ => Self::Other,
        }
    }
}

/// A request on `/whip/{stream}`, `/whep/{stream}` or one of their sessions. Header values as they came.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub method: Method,
    /// The path segment after `/whip/` or `/whep/`, percent-decoded.
    pub stream: &'a str,
    /// The path segment after that, where there is one.
    pub session: Option<&'a str>,
    /// What comes below the session's URL (WHEP's extensions), where there is something.
    pub resource: Option<Resource<'a>>,
    pub content_type: Option<&'a str>,
    /// The whole `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The query's `token`, percent-decoded.
    pub query_token: Option<&'a str>,
    /// The query's `priority`: a publisher's word on what it is (see [`priority`](crate::priority)).
    pub query_priority: Option<&'a str>,
    pub origin: Option<&'a str>,
    pub if_match: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    /// A browser asks whether a page may ask (Fetch standard: OPTIONS with `Access-Control-Request-Method`).
    pub is_preflight: bool,
    /// The query says that another node sent the client here ([`redirect::REDIRECTED`](crate::redirect::REDIRECTED)).
    pub is_redirected: bool,
    /// Read up to one byte past [`BODY_MAX_BYTES`]: that is enough to refuse it.
    pub body: &'a [u8],
    /// The client's address.
    pub from: SocketAddr,
}

impl<'a> Request<'a> {
    /// A request with no headers and no body.
    pub fn new(method: Method, stream: &'a str, session: Option<&'a str>, from: SocketAddr) -> Self {
        Self {
            method,
            stream,
            session,
            resource: None,
            content_type: None,
            authorization: None,
            query_token: None,
            query_priority: None,
            origin: None,
            if_match: None,
            user_agent: None,
            is_preflight: false,
            is_redirected: false,
            body: &[],
            from,
        }
    }

    /// Whether the content type is `expected`, whatever its parameters (RFC 9110 section 8.3.1).
    pub(crate) fn has_type(&self, expected: &str) -> bool {
        let essence = self.content_type.and_then(|value| value.split(';').next());
        essence.is_some_and(|essence| essence.trim().eq_ignore_ascii_case(expected))
    }
}

/// Without the token, which is in the header or the query.
impl fmt::Debug for Request<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("method", &self.method)
            .field("stream", &self.stream)
            .field("session", &self.session)
            .field("resource", &self.resource)
            .field("content_type", &self.content_type)
            .field("from", &self.from)
            .field("body_bytes", &self.body.len())
            .finish_non_exhaustive()
    }
}

/// What to answer, and what to count and log about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: Vec<u8>,
    /// The session that this request opened or spoke to.
    pub session: Option<SessionId>,
    /// The session's event stream that is to be written into the body, for as long as it lasts.
    pub events: Option<EventStreamId>,
    /// Why the token was refused, for the counter of refusals.
    pub denied: Option<Denied>,
    /// The problem in the body, for the log.
    pub problem: Option<Problem>,
}

impl Response {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Vec::new(), session: None, events: None, denied: None, problem: None }
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn of_session(self, session: SessionId) -> Self {
        Self { session: Some(session), ..self }
    }

    /// A header's value, by its name without regard to case.
    pub fn header_value(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

impl From<Problem> for Response {
    fn from(problem: Problem) -> Self {
        let mut response = Self::new(problem.status).header("Content-Type", Problem::CONTENT_TYPE);
        if let Some(seconds) = problem.retry_after_s {
            response = response.header("Retry-After", seconds.to_string());
        }
        response.body = problem.to_json().into_bytes();
        response.problem = Some(problem);
        response
    }
}

impl From<Denied> for Response {
    fn from(denied: Denied) -> Self {
        let mut response = Self::from(denied.problem());
        if let Some(challenge) = denied.www_authenticate() {
            response = response.header("WWW-Authenticate", challenge);
        }
        response.denied = Some(denied);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_media_type_is_compared_without_case_and_parameters() {
        let mut request = Request::new(Method::Post, "a", None, SocketAddr::from(([127, 0, 0, 1], 1)));
        for (value, good) in [
            (Some("application/sdp"), true),
            (Some("Application/SDP; charset=utf-8"), true),
            (Some("application/sdp ;x=y"), true),
            (Some("application/sdpx"), false),
            (Some("text/plain; application/sdp"), false),
            (Some(""), false),
            (None, false),
        ] {
            request.content_type = value;
            assert_eq!(request.has_type(SDP_TYPE), good, "{value:?}");
        }
    }

    #[test]
    fn a_request_shows_no_token() {
        let mut request = Request::new(Method::Post, "a", None, SocketAddr::from(([127, 0, 0, 1], 1)));
        request.authorization = Some("Bearer sesame");
        request.query_token = Some("sesame");
        assert!(!format!("{request:?}").contains("sesame"));
    }
}
