//! Where streams are fetched from.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};
use sluice_signaling::name::StreamName;
use url::Url;

use super::{EndpointUrl, InvalidEndpoint, RtmpUrl};

/// A stream that is fetched from another server.
#[derive(Clone, PartialEq, Eq)]
pub struct PullSource {
    pub stream: StreamName,
    pub url: SourceUrl,
    /// It is fetched while somebody wants to watch it, and not all the time.
    pub on_demand: bool,
}

/// The other server, and the stream there.
#[derive(Clone, PartialEq, Eq)]
pub enum SourceUrl {
    Rtmp(RtmpUrl),
    Whep(EndpointUrl),
}

/// Why a text names no source. Texts hold secrets: none of these repeats any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPullSource {
    #[error("it is a stream's name, a blank, a URL, and perhaps bearer=TOKEN and on-demand behind it")]
    Form,
    #[error("no stream can have that name; a source is of one stream, so it takes no glob")]
    Stream,
    #[error("the URL cannot be read")]
    Url,
    #[error("the URL begins with rtmp://, rtmps://, https:// or http://")]
    Scheme,
    #[error("the URL has an application and a stream key behind its host: rtmp://host/app/key")]
    Path,
    #[error(
        "user and password in a URL are not sent: write a token behind the URL, as bearer=TOKEN, or by RTMP behind the key, as ?token=TOKEN"
    )]
    UserInfo,
    #[error("behind the URL comes nothing but bearer=TOKEN and on-demand")]
    Word,
    #[error("a word is there twice")]
    Twice,
    #[error(
        "bearer=TOKEN is for WHEP, which is http:// and https://; by RTMP a token is part of the key, as ?token=TOKEN"
    )]
    Bearer,
    #[error("a token has letters, digits and -._~+/= only, as bearer=TOKEN")]
    Token,
}

impl FromStr for PullSource {
    type Err = InvalidPullSource;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut words = text.split_whitespace();
        let (Some(stream), Some(url)) = (words.next(), words.next()) else { return Err(InvalidPullSource::Form) };
        let stream = stream.parse().map_err(|_| InvalidPullSource::Stream)?;
        let (mut on_demand, mut token) = (false, None);
        for word in words {
            let is_second = match word.strip_prefix("bearer=") {
                Some(value) => token.replace(value).is_some(),
                None if word == "on-demand" => std::mem::replace(&mut on_demand, true),
                None => return Err(InvalidPullSource::Word),
            };
            if is_second {
                return Err(InvalidPullSource::Twice);
            }
        }
        Ok(Self { stream, url: source_url(url, token)?, on_demand })
    }
}

fn source_url(text: &str, token: Option<&str>) -> Result<SourceUrl, InvalidPullSource> {
    let url: Url = text.parse().map_err(|_| InvalidPullSource::Url)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidPullSource::UserInfo);
    }
    match url.scheme() {
        "rtmp" | "rtmps" if token.is_some() => Err(InvalidPullSource::Bearer),
        "rtmp" | "rtmps" => Ok(SourceUrl::Rtmp(text.parse().map_err(|_| InvalidPullSource::Path)?)),
        "http" | "https" => Ok(SourceUrl::Whep(EndpointUrl::new(text, token)?)),
        _ => Err(InvalidPullSource::Scheme),
    }
}

impl From<InvalidEndpoint> for InvalidPullSource {
    fn from(error: InvalidEndpoint) -> Self {
        match error {
            InvalidEndpoint::Url => Self::Url,
            InvalidEndpoint::Scheme => Self::Scheme,
            InvalidEndpoint::UserInfo => Self::UserInfo,
            InvalidEndpoint::Token => Self::Token,
        }
    }
}

impl PullSource {
    pub fn is_rtmp(&self) -> bool {
        matches!(self.url, SourceUrl::Rtmp(_))
    }
}

/// Without what may be secret.
impl fmt::Display for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rtmp(url) => url.fmt(f),
            Self::Whep(endpoint) => endpoint.fmt(f),
        }
    }
}

impl fmt::Debug for SourceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for PullSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}{}", self.stream, self.url, if self.on_demand { " on-demand" } else { "" })
    }
}

impl<'de> Deserialize<'de> for PullSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_is_a_name_a_url_and_words() {
        let source: PullSource = "cam1 rtmps://user.example.net/live/KEY?token=x.y on-demand".parse().unwrap();
        assert_eq!((source.stream.as_str(), source.on_demand), ("cam1", true));
        assert!(!"cam1 rtmp://h/app/key".parse::<PullSource>().unwrap().on_demand);
        let source: PullSource = "cam3 https://h.example.net/whep/cam3 on-demand bearer=abc.def".parse().unwrap();
        let SourceUrl::Whep(endpoint) = &source.url else { panic!() };
        assert_eq!((endpoint.token(), source.on_demand, source.is_rtmp()), (Some("abc.def"), true, false));
        assert_eq!(format!("{source:?}"), "cam3 https://h.example.net/… on-demand");
        let source: PullSource = "cam1 rtmps://user.example.net/live/KEY?token=x.y".parse().unwrap();
        let shown = format!("{source:?} {}", source.url);
        assert!(shown.contains("user.example.net") && !shown.contains("KEY") && !shown.contains("x.y"), "{shown}");
    }

    #[test]
    fn what_is_no_source_is_told_without_repeating_it() {
        for (text, why) in [
            ("rtmp://h/live/k", InvalidPullSource::Form),
            ("cam* rtmp://h/live/k", InvalidPullSource::Stream),
            ("cam1 h/live/k", InvalidPullSource::Url),
            ("cam1 srt://h/live/k", InvalidPullSource::Scheme),
            ("cam1 rtmp://h/live", InvalidPullSource::Path),
            ("cam1 rtmp://user@h/live/k", InvalidPullSource::UserInfo),
            ("cam1 rtmp://:secret@h/live/k", InvalidPullSource::UserInfo),
            ("cam1 https://me:secret@h/whep/cam1", InvalidPullSource::UserInfo),
            ("cam1 rtmp://h/live/k bearer=secret", InvalidPullSource::Bearer),
            ("cam1 https://h/whep/a bearer=", InvalidPullSource::Token),
            ("cam1 https://h/whep/a bearer=secret bearer=other", InvalidPullSource::Twice),
            ("cam1 rtmp://h/live/k always", InvalidPullSource::Word),
            ("cam1 rtmp://h/live/k on-demand on-demand", InvalidPullSource::Twice),
        ] {
            assert_eq!(text.parse::<PullSource>(), Err(why), "{text}");
            assert!(!why.to_string().contains("secret"));
        }
    }
}
