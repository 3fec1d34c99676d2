//! WHIP and WHEP endpoints of other servers.

use std::fmt;

use url::{Host, Url};

/// An endpoint's URL and the token that opens it. Shown without both: services put the stream's key into the path.
#[derive(Clone, PartialEq, Eq)]
pub struct EndpointUrl {
    url: Url,
    token: Option<String>,
}

/// Why a text is no endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEndpoint {
    #[error("the URL cannot be read")]
    Url,
    #[error("an endpoint's URL begins with http:// or https://")]
    Scheme,
    #[error("user and password in a URL are not sent; write the token behind the URL, as bearer=TOKEN")]
    UserInfo,
    #[error("a token has letters, digits and -._~+/= only, as bearer=TOKEN")]
    Token,
}

impl EndpointUrl {
    /// Parts of a path that are as long as this are keys, not names.
    const KEY_MIN_BYTES: usize = 20;

    /// # Errors
    /// [`InvalidEndpoint`].
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, InvalidEndpoint> {
        let mut url: Url = url.parse().map_err(|_| InvalidEndpoint::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(InvalidEndpoint::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidEndpoint::UserInfo);
        }
        url.set_fragment(None);
        // RFC 6750 section 2.1.
        let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
        if token.is_some_and(|token| token.is_empty() || !token.bytes().all(is_of_token)) {
            return Err(InvalidEndpoint::Token);
        }
        Ok(Self { url, token: token.map(str::to_owned) })
    }

    pub fn url(&self) -> &Url {
        &self.url
    }

    pub fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// By name or address, the server is on this machine.
    pub fn is_loopback(&self) -> bool {
        match self.url.host() {
            Some(Host::Domain(name)) => name == "localhost" || name.ends_with(".localhost"),
            Some(Host::Ipv4(ip)) => ip.is_loopback(),
            Some(Host::Ipv6(ip)) => ip.to_canonical().is_loopback(),
            None => false,
        }
    }

    /// What the other side may repeat, and nobody else is to read.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let query = self.url.query().into_iter().flat_map(|query| query.split('&'));
        let values = query.filter_map(|pair| Some(pair.split_once('=')?.1));
        let keys = self.url.path().split('/').filter(|part| part.len() >= Self::KEY_MIN_BYTES);
        self.token.as_deref().into_iter().chain(values).chain(keys)
    }
}

/// Its server alone.
impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/…", self.url.origin().ascii_serialization())
    }
}

impl fmt::Debug for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_tokens_are_shown_to_nobody() {
        let endpoint =
            EndpointUrl::new("https://h.example.net:8443/0123456789abcdef0123/publish?k=wxyz", Some("a.b-c"));
        let endpoint = endpoint.unwrap();
        assert_eq!(format!("{endpoint} {endpoint:?}"), "https://h.example.net:8443/… https://h.example.net:8443/…");
        assert_eq!(endpoint.secrets().collect::<Vec<_>>(), ["a.b-c", "wxyz", "0123456789abcdef0123"]);
        assert_eq!(endpoint.token(), Some("a.b-c"));
    }

    #[test]
    fn what_is_no_endpoint_is_told() {
        for (url, token, why) in [
            ("h/whip/cam1", None, InvalidEndpoint::Url),
            ("rtmp://h/live/k", None, InvalidEndpoint::Scheme),
            ("https://me:secret@h/whip", None, InvalidEndpoint::UserInfo),
            ("https://h/whip", Some(""), InvalidEndpoint::Token),
            ("https://h/whip", Some("a\"b"), InvalidEndpoint::Token),
        ] {
            assert_eq!(EndpointUrl::new(url, token), Err(why), "{url}");
        }
        let loopback = |url| EndpointUrl::new(url, None).unwrap().is_loopback();
        assert!(
            loopback("http://127.0.0.1:8080/whip/a") && loopback("http://[::1]/a") && loopback("http://localhost/a")
        );
        assert!(!loopback("http://192.0.2.1/whip/a") && !loopback("https://example.net/a"));
    }
}
