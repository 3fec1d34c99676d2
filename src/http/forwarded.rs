//! Whose request it is behind a reverse proxy, and whether it came by HTTPS: `X-Forwarded-For` and `X-Forwarded-Proto` of the proxies
//! that the operator trusts.
//!
//! Each proxy appends the address it was called from, so the list is read from its end; the first address that is not a trusted
//! proxy's is the client's. What stands before it is hearsay: anybody can send the header. `Forwarded` (RFC 7239) is not read: few
//! proxies write it unasked.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{HeaderMap, HeaderName, request::Parts},
    middleware::Next,
    response::Response,
};

use crate::config::TrustedProxy;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The client speaks HTTPS, to a proxy that is believed.
#[derive(Debug, Clone, Copy)]
struct ByHttps;

/// Whether the client came by HTTPS; this server itself speaks none.
pub fn is_https(head: &Parts) -> bool {
    head.extensions.get::<ByHttps>().is_some()
}

/// Middleware, before everything that asks for [`ConnectInfo`]: puts the client's address in the place of its proxy's.
pub async fn believe(State(proxies): State<Arc<[TrustedProxy]>>, mut request: Request, next: Next) -> Response {
    let connected = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(from)| *from);
    if let Some(connected) = connected {
        let from = client(connected, request.headers(), &proxies);
        let by_https = request.headers().get(FORWARDED_PROTO).is_some_and(|proto| proto == "https");
        if by_https && proxies.iter().any(|proxy| proxy.has(connected.ip())) {
            request.extensions_mut().insert(ByHttps);
        }
        request.extensions_mut().insert(ConnectInfo(from));
    }
    next.run(request).await
}

/// The client's address; its port is 0 where the proxy does not say it.
fn client(connected: SocketAddr, headers: &HeaderMap, proxies: &[TrustedProxy]) -> SocketAddr {
    let trusted = |ip: IpAddr| proxies.iter().any(|proxy| proxy.has(ip));
    let mut from = connected;
    // Several fields are one list, in their order (RFC 9110 section 5.3).
    let fields = headers.get_all(FORWARDED_FOR).iter().rev();
    let entries = fields.flat_map(|field| field.as_bytes().rsplit(|byte| *byte == b','));
    for entry in entries {
        if !trusted(from.ip()) {
            break;
        }
        // What cannot be read was passed on by the last one trusted: its own address is all that is known.
        let Some(named) = std::str::from_utf8(entry).ok().and_then(address) else { break };
        from = named;
    }
    from
}

/// `192.0.2.1`, `192.0.2.1:4711`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:4711`.
fn address(text: &str) -> Option<SocketAddr> {
    let text = text.trim();
    let with_port = || text.parse::<SocketAddr>().ok();
    let bare = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    let found = bare.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, 0)).or_else(with_port)?;
    Some(SocketAddr::new(found.ip().to_canonical(), found.port()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn from(connected: &str, fields: &[&'static str]) -> String {
        let proxies: Vec<TrustedProxy> = ["127.0.0.1", "10.0.0.0/8"].map(|text| text.parse().unwrap()).into();
        let mut headers = HeaderMap::new();
        for field in fields {
            headers.append(FORWARDED_FOR, HeaderValue::from_static(field));
        }
        client(connected.parse().unwrap(), &headers, &proxies).to_string()
    }

    #[test]
    fn a_trusted_proxy_names_its_client() {
        assert_eq!(from("127.0.0.1:5000", &["203.0.113.7"]), "203.0.113.7:0");
        assert_eq!(from("127.0.0.1:5000", &["203.0.113.7:4711"]), "203.0.113.7:4711");
        assert_eq!(from("127.0.0.1:5000", &[" [2001:db8::1]:4711 "]), "[2001:db8::1]:4711");
        assert_eq!(from("127.0.0.1:5000", &["[2001:db8::1]"]), "[2001:db8::1]:0");
        assert_eq!(from("127.0.0.1:5000", &["2001:db8::1"]), "[2001:db8::1]:0");
        assert_eq!(from("127.0.0.1:5000", &["::ffff:203.0.113.7"]), "203.0.113.7:0");
        assert_eq!(from("127.0.0.1:5000", &[]), "127.0.0.1:5000", "the proxy's own request");
    }

    #[test]
    fn of_several_proxies_the_last_that_is_not_trusted_is_the_client() {
        assert_eq!(from("127.0.0.1:5000", &["203.0.113.7, 10.1.2.3"]), "203.0.113.7:0");
        assert_eq!(from("127.0.0.1:5000", &["203.0.113.7", "10.1.2.3, 10.1.2.4"]), "203.0.113.7:0");
        assert_eq!(from("127.0.0.1:5000", &["10.1.2.3"]), "10.1.2.3:0", "all of them are proxies");
    }

    #[test]
    fn nobody_else_is_believed() {
        assert_eq!(from("192.0.2.9:5000", &["203.0.113.7"]), "192.0.2.9:5000");
        let pretended = "198.51.100.1, 203.0.113.7";
        assert_eq!(from("127.0.0.1:5000", &[pretended]), "203.0.113.7:0", "the client wrote the first itself");
        for nonsense in ["", "unknown", "203.0.113.7;", "203.0.113.7, _hidden", "a, ,"] {
            assert_eq!(from("127.0.0.1:5000", &[nonsense]), "127.0.0.1:5000", "{nonsense:?}");
        }
    }
}
