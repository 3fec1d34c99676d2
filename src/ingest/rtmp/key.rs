//! Where a publisher puts the stream's name, its token and its priority: the stream key, the application or the URL it connects to.
//!
//! Encoders cut one URL in two in several ways, and people put into their two fields what they think belongs there. What is taken:
//!
//! | server, or application | stream key | seen with |
//! | --- | --- | --- |
//! | `rtmp://h/live` | `cam1?token=T` | OBS, vMix, Wirecast; FFmpeg and GStreamer of `rtmp://h/live/cam1?token=T` |
//! | `rtmp://h/live/`, `rtmp://h/live` | `/cam1`, `cam1/`, `cam1` with blanks around it | copied fields |
//! | `rtmp://h/live?token=T` | `cam1` | FFmpeg of `rtmp://h/live?token=T/cam1`, Larix |
//! | `rtmp://h` | `cam1`, `live/cam1` | FFmpeg of `rtmp://h/cam1`; hardware with one field for all of the path |
//! | `rtmp://h/live` | `live/cam1` | the path pasted into the key's field |
//! | `rtmp://h/live/cam1` | none | encoders with one field only |
//! | any | `mp4:cam1`, `flv:cam1` | encoders after Flash Media Live Encoder's manner |
//! | any | `cam1%3Ftoken%3DT` | encoders that escape the key |

use percent_encoding::percent_decode_str;
use sluice_signaling::name::InvalidStreamName;

use crate::media::StreamName;

/// What the publisher asked for with `connect`: kept for `publish`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Application {
    /// Without query and slashes around it.
    pub name: String,
    query: Query,
}

/// What it asks for with `publish`.
#[derive(PartialEq, Eq)]
pub struct Asked {
    pub name: StreamName,
    pub token: Option<String>,
    /// Not looked into.
    pub priority: Option<String>,
}

/// What of a query means something here.
#[derive(Clone, Default, PartialEq, Eq)]
struct Query {
    token: Option<String>,
    priority: Option<String>,
}

/// The token is a secret.
impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Application").field("name", &self.name).finish_non_exhaustive()
    }
}

/// As [`Application`]'s.
impl std::fmt::Debug for Asked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Application {
    /// From the `app` and `tcUrl` of a `connect` command.
    pub fn new(app: &str, tc_url: &str) -> Self {
        let (name, query) = split(app);
        let query = Query::read(query).or(Query::read(split(tc_url).1));
        Self { name: name.trim_matches('/').to_owned(), query }
    }

    /// What is asked for, given the stream key. What the key says itself comes first.
    ///
    /// # Errors
    /// When there is no stream name in it.
    pub fn stream(&self, key: &str) -> Result<Asked, InvalidStreamName> {
        let key = percent_decode_str(key.trim()).decode_utf8_lossy();
        let (path, query) = split(&key);
        let name = self.stream_name(path)?;
        let Query { token, priority } = Query::read(query).or(self.query.clone());
        Ok(Asked { name, token, priority })
    }

    fn stream_name(&self, path: &str) -> Result<StreamName, InvalidStreamName> {
        let mut app = self.name.split('/');
        let mut path = path.trim().trim_matches('/');
        path = path.strip_prefix("mp4:").or_else(|| path.strip_prefix("flv:")).unwrap_or(path);
        if path.is_empty() && app.clone().count() > 1 {
            // All of the path was taken for the application.
            path = app.next_back().unwrap_or_default();
        }
        // Said twice, or `live` although there is no application.
        let prefixes = [self.name.as_str(), "live"].into_iter().filter(|prefix| !prefix.is_empty());
        for prefix in prefixes {
            if let Some(rest) = path.strip_prefix(prefix).and_then(|rest| rest.strip_prefix('/')) {
                path = rest;
                break;
            }
        }
        path.parse()
    }
}

/// What is before the question mark, and what is after it.
fn split(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

impl Query {
    /// Neither a JWT nor a priority has a character that would be escaped. A slash at the end is one that the client put after the URL.
    fn read(query: &str) -> Self {
        let value = |wanted: &str| {
            // A second question mark comes from clients that append one query to another.
            let mut pairs = query.split(['&', '?']).filter_map(|pair| pair.split_once('='));
            let (_, value) = pairs.find(|(name, _)| *name == wanted)?;
            let value = value.trim_end_matches('/');
            (!value.is_empty()).then(|| value.to_owned())
        };
        Self { token: value("token"), priority: value("priority") }
    }

    fn or(self, other: Self) -> Self {
        Self { token: self.token.or(other.token), priority: self.priority.or(other.priority) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stream, token and priority.
    fn read(app: &str, tc_url: &str, key: &str) -> (String, String, String) {
        let asked = Application::new(app, tc_url).stream(key).unwrap();
        (asked.name.to_string(), asked.token.unwrap_or_default(), asked.priority.unwrap_or_default())
    }

    #[test]
    fn names_and_tokens_are_found_wherever_clients_put_them() {
        for (app, tc_url, key, token) in [
            ("live", "rtmp://h/live", "cam1", ""),
            ("live", "rtmp://h/live", "cam1?token=a.b-_c", "a.b-_c"),
            ("live", "rtmp://h/live", "cam1/?x=1&token=abc/", "abc"),
            ("live", "rtmp://h/live", "cam1?token=", ""),
            ("live", "rtmp://h/live", " cam1?token=abc \r\n", "abc"),
            ("live", "rtmp://h/live", "/cam1", ""),
            ("live", "rtmp://h/live", "live/cam1?token=abc", "abc"),
            ("live", "rtmp://h/live", "mp4:cam1", ""),
            ("live", "rtmp://h/live", "cam1%3Ftoken%3Dabc", "abc"),
            ("live/", "rtmp://h/live/", "cam1", ""),
            ("live?token=app", "rtmp://h/live?token=url", "cam1", "app"),
            ("live?token=app", "rtmp://h/live?token=url", "cam1?token=key", "key"),
            ("live", "rtmp://h/live?token=url/", "cam1/", "url"),
            ("", "rtmp://h", "cam1", ""),
            ("", "rtmp://h/", "live/cam1?token=abc", "abc"),
            ("live/cam1", "rtmp://h/live/cam1", "", ""),
            ("live/cam1?token=abc", "rtmp://h/live/cam1?token=abc", "", "abc"),
            ("live/instance", "rtmp://h/live/instance", "cam1", ""),
            ("live/instance", "rtmp://h/live/instance", "live/instance/cam1", ""),
            ("ingest", "rtmp://h/ingest", "ingest/cam1", ""),
        ] {
            assert_eq!(read(app, tc_url, key), ("cam1".into(), token.into(), String::new()), "{app:?} {key:?}");
        }
        assert_eq!(read("live", "", "live").0, "live", "a stream may be called so");
        assert_eq!(read("live", "", "cam1?token=abc&priority=backup"), ("cam1".into(), "abc".into(), "backup".into()));
        assert_eq!(read("live?priority=backup", "", "cam1?token=abc").2, "backup");
    }

    #[test]
    fn a_key_that_is_no_name_is_refused() {
        let refused = |app: &str, key: &str| Application::new(app, "").stream(key).unwrap_err();
        assert_eq!(refused("live", "?token=a"), InvalidStreamName::Empty);
        assert_eq!(refused("live", ""), InvalidStreamName::Empty);
        assert_eq!(refused("live", "a/b"), InvalidStreamName::BadCharacter('/'));
    }

    #[test]
    fn the_token_stays_out_of_debug_output() {
        let application = Application::new("live?token=secret", "");
        assert!(!format!("{application:?} {:?}", application.stream("cam1").unwrap()).contains("secret"));
    }
}
