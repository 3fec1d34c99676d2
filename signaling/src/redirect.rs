//! Where clients go when this node takes no sessions (RFC 9725 section 4.5): to another node by 307, once; else 503.
//!
//! Two nodes that name each other must not send a client to and fro, so the URL that it is sent to says that it was sent. Section 4.5
//! forbids 301 and 302: clients would turn the POST into a GET.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};
use url::Url;

use crate::{
    endpoint::{Call, Refused, is_unreserved},
    error::Problem,
    http::Response,
    name::StreamName,
};

/// The query's name for what was redirected.
pub const REDIRECTED: &str = "redirected";

/// The base URL of a node: what stands before `/whip/` and `/whep/`, without a slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeUrl(String);

/// Why a text is no base URL of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no base URL such as https://b.example.net: {why}")]
pub struct InvalidNodeUrl {
    text: String,
    why: String,
}

impl FromStr for NodeUrl {
    type Err = InvalidNodeUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |why: &str| InvalidNodeUrl { text: text.to_owned(), why: why.to_owned() };
        let url: Url = text.trim().parse().map_err(|error: url::ParseError| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it begins with https:// or http://"));
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(invalid("it has no query and no fragment"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(invalid("it names no user: clients show their own tokens"));
        }
        Ok(Self(url.as_str().trim_end_matches('/').to_owned()))
    }
}

impl NodeUrl {
    /// The endpoint that a client is sent to, once: below `prefix`, `/whip` or `/whep`.
    pub fn endpoint(&self, prefix: &str, stream: &StreamName) -> String {
        format!("{self}{prefix}/{stream}?{REDIRECTED}=1")
    }

    /// Scheme, host and port, as browsers compare them (RFC 6454).
    pub fn origin(&self) -> String {
        Url::parse(&self.0).map_or_else(|_| self.0.clone(), |url| url.origin().ascii_serialization())
    }
}

impl fmt::Display for NodeUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for NodeUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl Call<'_> {
    /// What a client is told that cannot be served here for `why`, a 503: another node's endpoint, if there is one to try.
    pub(crate) fn elsewhere(&self, stream: &StreamName, why: Problem) -> Refused {
        let Some(node) = self.settings.overflow_to.as_ref().filter(|_| !self.request.is_redirected) else {
            return why.into();
        };
        let mut location = node.endpoint(self.door.prefix, stream);
        // A token in a header is the client's to send again; one in the URL would be lost. See `session_url`.
        if let Some(token) = self.request.query_token.filter(|token| token.bytes().all(is_unreserved)) {
            location.push_str("&token=");
            location.push_str(token);
        }
        if let Some(priority) = self.request.query_priority.filter(|priority| priority.bytes().all(is_unreserved)) {
            location.push_str("&priority=");
            location.push_str(priority);
        }
        Box::new(Response::new(307).header("Location", location).header("Cache-Control", "no-store"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nodes_url_has_a_scheme_a_host_and_perhaps_a_path() {
        for (text, written) in [
            ("https://b.example.net", "https://b.example.net"),
            (" https://B.example.net:8443/live/ ", "https://b.example.net:8443/live"),
            ("http://[2001:db8::1]:8080", "http://[2001:db8::1]:8080"),
        ] {
            assert_eq!(text.parse::<NodeUrl>().unwrap().to_string(), written);
        }
        let node: NodeUrl = "https://B.example.net:443/live/".parse().unwrap();
        let stream = "cam1".parse().unwrap();
        assert_eq!(node.endpoint("/whep", &stream), "https://b.example.net/live/whep/cam1?redirected=1");
        assert_eq!(node.origin(), "https://b.example.net");
        for (text, says) in [
            ("b.example.net", "relative URL"),
            ("b.example.net:8080", "https://"),
            ("ftp://b.example.net", "https://"),
            ("https://", "empty host"),
            ("https://b.example.net/?a=b", "no query"),
            ("https://alice@b.example.net", "no user"),
        ] {
            let error = text.parse::<NodeUrl>().unwrap_err().to_string();
            assert!(error.contains(says), "{error}");
        }
    }
}
