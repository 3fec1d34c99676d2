//! Where streams are sent on to.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};
use sluice_signaling::{name::StreamName, token::stream_matches};
use url::{Host, Url};

use super::{EndpointUrl, InvalidEndpoint, PullSource, SourceUrl};

/// Streams that are sent on to other servers, or fetched from them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RelayConfig {
    /// Targets, each a stream's name or a glob, and a URL: `"cam1 rtmp://a.example.net/live2/KEY"`, or a WHIP endpoint and the token that opens
    /// it, `"cam1 https://b.example.net/whip/cam1 bearer=TOKEN"`. Default: none. A stream is sent to each target that is for it, while it is live; each
    /// costs what is sent, and by RTMP AAC encoding where the publisher sends Opus.
    pub push: Vec<PushTarget>,
    /// Sources, each a stream's name, a URL of RTMP or WHEP, and perhaps `bearer=TOKEN` and `on-demand`: `"cam1 rtmp://a.example.net/live/KEY"`. Default: none. What comes from a
    /// source is published here under that name, as long as nobody else does that; each costs what a publisher costs.
    pub pull: Vec<PullSource>,
}

impl RelayConfig {
    /// Some other server is spoken to by RTMPS.
    pub fn has_rtmps(&self) -> bool {
        let is_pushed = self.push.iter().any(|target| matches!(&target.url, PushUrl::Rtmp(url) if url.tls));
        is_pushed || self.pull.iter().any(|source| matches!(&source.url, SourceUrl::Rtmp(url) if url.tls))
    }

    /// Some other server is spoken to by WHIP or WHEP.
    pub fn has_endpoints(&self) -> bool {
        let is_pushed = self.push.iter().any(|target| matches!(target.url, PushUrl::Whip(_)));
        is_pushed || self.pull.iter().any(|source| matches!(source.url, SourceUrl::Whep(_)))
    }
}

/// Where some streams are sent to.
#[derive(Clone, PartialEq, Eq)]
pub struct PushTarget {
    /// A name, or a glob.
    streams: String,
    pub url: PushUrl,
}

/// By which protocol it is sent there, and where that is.
#[derive(Clone, PartialEq, Eq)]
pub enum PushUrl {
    Rtmp(RtmpUrl),
    Whip(EndpointUrl),
}

/// A server, and what is published there.
#[derive(Clone, PartialEq, Eq)]
pub struct RtmpUrl {
    /// RTMPS.
    pub tls: bool,
    /// A name or an address; IPv6 without brackets.
    pub host: String,
    pub port: u16,
    pub application: String,
    /// The stream key, which is a secret as a rule.
    pub key: String,
}

/// Why a text names no target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPushTarget {
    #[error(
        "it is a stream's name or a glob, a blank, and a URL; behind one of http or https there may be bearer=TOKEN"
    )]
    Form,
    #[error("no stream can have that name")]
    Streams,
    #[error("the URL cannot be read")]
    Url,
    #[error("the URL begins with rtmp:// or rtmps://, or for WHIP with http:// or https://")]
    Scheme,
    #[error("bearer=TOKEN is for http:// and https://; what an RTMP target asks for stands in its key")]
    Bearer,
    #[error(transparent)]
    Endpoint(#[from] InvalidEndpoint),
    #[error(
        "user and password in a URL are not sent; put what the target asks for into the key, such as rtmp://host/app/key?token=…"
    )]
    UserInfo,
    #[error("the URL has an application and a stream key behind its host: rtmp://host/app/key")]
    Path,
}

impl PushTarget {
    pub fn is_for(&self, stream: &StreamName) -> bool {
        stream_matches(&self.streams, stream.as_str())
    }
}

impl FromStr for PushTarget {
    type Err = InvalidPushTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let (Some(streams), Some(url), bearer, None) = (words.next(), words.next(), words.next(), words.next()) else {
            return Err(InvalidPushTarget::Form);
        };
        let token = bearer.map(|word| word.strip_prefix("bearer=").ok_or(InvalidPushTarget::Form)).transpose()?;
        let without_globs: String = streams.chars().filter(|letter| !matches!(letter, '*' | '?')).collect();
        if !without_globs.is_empty() && format!("a{without_globs}").parse::<StreamName>().is_err() {
            return Err(InvalidPushTarget::Streams);
        }
        let scheme = url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase());
        let url = match scheme.as_deref() {
            Some("http" | "https") => PushUrl::Whip(EndpointUrl::new(url, token)?),
            _ if token.is_some() => return Err(InvalidPushTarget::Bearer),
            _ => PushUrl::Rtmp(url.parse()?),
        };
        Ok(Self { streams: streams.to_owned(), url })
    }
}

impl FromStr for RtmpUrl {
    type Err = InvalidPushTarget;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const PORT: u16 = 1_935;
        const TLS_PORT: u16 = 443;
        let url: Url = text.parse().map_err(|_| InvalidPushTarget::Url)?;
        let tls = match url.scheme() {
            "rtmp" => false,
            "rtmps" => true,
            _ => return Err(InvalidPushTarget::Scheme),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidPushTarget::UserInfo);
        }
        let host = match url.host().ok_or(InvalidPushTarget::Url)? {
            Host::Domain(name) => name.to_owned(),
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        // As encoders cut it: the last part is the key, its query too.
        let (application, key) = url.path().trim_start_matches('/').rsplit_once('/').ok_or(InvalidPushTarget::Path)?;
        if application.is_empty() || key.is_empty() {
            return Err(InvalidPushTarget::Path);
        }
        let key = url.query().map_or_else(|| key.to_owned(), |query| format!("{key}?{query}"));
        let port = url.port().unwrap_or(if tls { TLS_PORT } else { PORT });
        Ok(Self { tls, host, port, application: application.to_owned(), key })
    }
}

impl RtmpUrl {
    /// The key and its parts: what the other side may repeat, and nobody else is to read.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        let (name, query) = self.key.split_once('?').unwrap_or((&self.key, ""));
        let values = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.1));
        values.chain([self.key.as_str(), name])
    }

    /// The URL that a `connect` command names: without the key.
    pub fn tc_url(&self) -> String {
        let host = if self.host.contains(':') { format!("[{}]", self.host) } else { self.host.clone() };
        format!("{}://{host}:{}/{}", if self.tls { "rtmps" } else { "rtmp" }, self.port, self.application)
    }
}

/// Without the key.
impl fmt::Display for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.tc_url())
    }
}

impl fmt::Debug for RtmpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Without key and token.
impl fmt::Display for PushUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(url) => url.fmt(f),
            Self::Whip(url) => url.fmt(f),
        }
    }
}

impl fmt::Debug for PushTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.streams, self.url)
    }
}

impl<'de> Deserialize<'de> for PushTarget {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_cut_as_encoders_cut_them() {
        let url: RtmpUrl = "rtmp://a.rtmp.example.net/live2/abcd-efgh".parse().unwrap();
        assert_eq!((url.tls, url.host.as_str(), url.port), (false, "a.rtmp.example.net", 1_935));
        assert_eq!((url.application.as_str(), url.key.as_str()), ("live2", "abcd-efgh"));
        let url: RtmpUrl = "rtmps://[2001:db8::1]/a/b/key?token=x.y&z=1".parse().unwrap();
        assert_eq!((url.port, url.application.as_str(), url.key.as_str()), (443, "a/b", "key?token=x.y&z=1"));
        assert_eq!(url.tc_url(), "rtmps://[2001:db8::1]:443/a/b");
        assert!(!format!("{url:?} {url}").contains("x.y"), "the key is a secret");
    }

    #[test]
    fn targets_are_for_names_and_globs() {
        let target: PushTarget = "room-* rtmp://h:1936/live/k".parse().unwrap();
        assert!(target.is_for(&"room-7".parse().unwrap()) && !target.is_for(&"cam1".parse().unwrap()));
        let target: PushTarget = "cam1 https://h/whip/cam1 bearer=a.b-c".parse().unwrap();
        assert!(matches!(&target.url, PushUrl::Whip(endpoint) if endpoint.token() == Some("a.b-c")));
        assert_eq!(format!("{target:?}"), "cam1 https://h/…");
        for (text, why) in [
            ("rtmp://h/live/k", InvalidPushTarget::Form),
            ("a rtmp://h/live/k c", InvalidPushTarget::Form),
            ("a https://h/whip/a bearer=x y", InvalidPushTarget::Form),
            ("a rtmp://h/live/k bearer=x", InvalidPushTarget::Bearer),
            ("a https://me:secret@h/whip/a", InvalidPushTarget::Endpoint(InvalidEndpoint::UserInfo)),
            ("a https://h/whip/a bearer=", InvalidPushTarget::Endpoint(InvalidEndpoint::Token)),
            ("a/b rtmp://h/live/k", InvalidPushTarget::Streams),
            ("cam1 h/live/k", InvalidPushTarget::Url),
            ("cam1 srt://h/live/k", InvalidPushTarget::Scheme),
            ("cam1 rtmp://me:secret@h/live/k", InvalidPushTarget::UserInfo),
            ("cam1 rtmp://me@h/live/k", InvalidPushTarget::UserInfo),
            ("cam1 rtmp://h/live", InvalidPushTarget::Path),
            ("cam1 rtmp://h/live/", InvalidPushTarget::Path),
        ] {
            assert_eq!(text.parse::<PushTarget>(), Err(why), "{text}");
        }
    }
}
