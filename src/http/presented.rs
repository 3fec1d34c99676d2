//! What a request shows of who sends it: the token, in its header or its query, and the page's origin.

use std::net::IpAddr;

use axum::{
    extract::Query,
    http::{HeaderMap, HeaderName, Uri, header},
};
use serde::Deserialize;
use sluice_signaling::{error::Problem, token::Presenter};

use super::problem;

/// What of the query means something, percent-decoded.
#[derive(Deserialize)]
pub struct Presented {
    pub token: Option<String>,
    /// [`sluice_signaling::priority`].
    pub priority: Option<String>,
    /// [`sluice_signaling::redirect::REDIRECTED`].
    pub redirected: Option<String>,
}

/// # Errors
/// 400 when the query cannot be read or has one of its parts twice.
pub fn query(uri: &Uri) -> Result<Presented, Problem> {
    // The rejection's own text could repeat the token.
    let query = Query::<Presented>::try_from_uri(uri).map_err(|_| {
        problem::bad_request("the query cannot be read; expected at most one token=..., percent-encoded")
    })?;
    Ok(query.0)
}

/// The query's `token`.
///
/// # Errors
/// As [`query`].
pub fn query_token(uri: &Uri) -> Result<Option<String>, Problem> {
    query(uri).map(|query| query.token)
}

/// A header's value where it is visible ASCII; anything else counts as absent.
pub fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Who asks, for the authenticator.
pub fn presenter<'a>(headers: &'a HeaderMap, query_token: Option<&'a str>, ip: IpAddr) -> Presenter<'a> {
    Presenter::new(text(headers, header::AUTHORIZATION), query_token, ip, text(headers, header::ORIGIN))
}
