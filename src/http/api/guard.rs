//! Who may use the API: bearers of the `admin` right; without tokens, whoever is on this machine, but no web page of
//! somebody else that happens to be open there.

use std::net::{IpAddr, SocketAddr};

use axum::{
    extract::{ConnectInfo, RawPathParams, Request, State, rejection::RawPathParamsRejection},
    http::{HeaderMap, HeaderName, header, uri::Authority},
    middleware::Next,
    response::Response,
};
use sluice_signaling::{http as plain, token::Right};

use crate::{
    http::{AppState, now, presented, problem},
    media::StreamName,
};

/// Middleware: lets those through who may administer what the path names: one stream, or the server.
pub async fn admins_only(
    State(state): State<AppState>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    params: Result<RawPathParams, RawPathParamsRejection>,
    request: Request,
    next: Next,
) -> Response {
    if state.authenticator.is_open()
        && !request.method().is_safe()
        && let Err(why) = same_site(request.headers(), state.loopback_only)
    {
        return problem::respond(&problem::forbidden(why));
    }
    let token = match presented::query_token(request.uri()) {
        Ok(token) => token,
        Err(problem) => return problem::respond(&problem),
    };
    let presenter = presented::presenter(request.headers(), token.as_deref(), from.ip());
    // A name that cannot be is the handler's to refuse, but only to those who may ask.
    let stream = params.ok().and_then(|params| {
        let (_, name) = params.iter().find(|(param, _)| *param == "stream")?;
        name.parse::<StreamName>().ok()
    });
    let authorised = match stream {
        Some(stream) => state.authenticator.authorise(&presenter, Right::Admin, &stream, now()),
        None => state.authenticator.authorise_admin(&presenter, now()),
    };
    if let Err(denied) = authorised {
        state.metrics.count_auth_failure(denied.reason());
        return problem::written(plain::Response::from(denied));
    }
    next.run(request).await
}

/// Without tokens, a browser's word on where a request comes from is all there is: requests of other origins' pages are
/// refused, and so are those of a page whose name was pointed at this machine (DNS rebinding).
fn same_site(headers: &HeaderMap, loopback_only: bool) -> Result<(), &'static str> {
    const FOREIGN: &str = "without tokens (auth.mode = \"open\") the API takes no requests from pages of other origins";
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or("?"));
    let host = text(header::HOST).unwrap_or_default();
    if text(HeaderName::from_static("sec-fetch-site")).is_some_and(|site| site != "same-origin" && site != "none") {
        return Err(FOREIGN);
    }
    if text(header::ORIGIN).is_some_and(|origin| origin.split_once("://").is_none_or(|(_, of)| of != host)) {
        return Err(FOREIGN);
    }
    if loopback_only && !names_this_machine(host) {
        return Err("without tokens the API is for this machine only: call it as localhost or by a loopback address, \
                    or set auth.mode = \"jwt\"");
    }
    Ok(())
}

fn names_this_machine(host: &str) -> bool {
    let Ok(authority) = host.parse::<Authority>() else { return false };
    let name = authority.host().trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(headers: &[(&'static str, &'static str)], loopback_only: bool) -> bool {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        same_site(&headers, loopback_only).is_ok()
    }

    #[test]
    fn programs_and_our_own_pages_may_change_state() {
        assert!(check(&[("host", "127.0.0.1:8080")], true));
        assert!(check(&[("host", "[::1]:8080"), ("origin", "http://[::1]:8080")], true));
        let ours = [("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-origin")];
        assert!(check(&ours, true));
        assert!(check(&[("host", "media.example:8080")], false));
    }

    #[test]
    fn pages_of_other_origins_may_not() {
        assert!(!check(&[("host", "localhost:8080"), ("origin", "https://evil.example")], true));
        assert!(!check(&[("host", "localhost:8080"), ("origin", "null")], true));
        assert!(!check(&[("host", "localhost:8080"), ("sec-fetch-site", "cross-site")], true));
        assert!(!check(&[("host", "localhost:8080"), ("sec-fetch-site", "same-site")], true));
        let other_port = [("host", "localhost:8080"), ("origin", "http://localhost:3000")];
        assert!(!check(&other_port, true));
    }

    #[test]
    fn a_name_pointed_at_this_machine_is_not_this_machine() {
        let rebound = [("host", "evil.example:8080"), ("origin", "http://evil.example:8080")];
        assert!(!check(&rebound, true));
        assert!(check(&rebound, false), "with auth.allow_open other names are meant");
        assert!(!check(&[], true));
    }
}
