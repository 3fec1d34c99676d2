//! Where a publisher puts the stream's name and its token: the stream key, the application or the URL it connects to.

use crate::media::StreamName;
use sluice_signaling::name::InvalidStreamName;

/// What the publisher asked for with `connect`: kept for `publish`.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Application {
    /// Without query and slashes around it.
    pub name: String,
    token: Option<String>,
}

/// The token is a secret.
impl std::fmt::Debug for Application {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Application").field("name", &self.name).finish_non_exhaustive()
    }
}

impl Application {
    /// From the `app` and `tcUrl` of a `connect` command.
    pub fn new(app: &str, tc_url: &str) -> Self {
        let (name, query) = split(app);
        let token = token_of(query).or_else(|| token_of(split(tc_url).1));
        Self { name: name.trim_matches('/').to_owned(), token: token.map(str::to_owned) }
    }

    /// The stream's name and the token, given the stream key. The key's own token comes first.
    ///
    /// # Errors
    /// When the key is no stream name.
    pub fn stream<'a>(&'a self, key: &'a str) -> Result<(StreamName, Option<&'a str>), InvalidStreamName> {
        let (name, query) = split(key);
        let name = name.trim_matches('/').parse()?;
        Ok((name, token_of(query).or(self.token.as_deref())))
    }
}

/// What is before the question mark, and what is after it.
fn split(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// The value of `token` in a query. A JWT has no character that would be escaped. A slash at its end is one that the
/// client put after the URL.
fn token_of(query: &str) -> Option<&str> {
    // A second question mark comes from clients that append one query to another.
    let mut pairs = query.split(['&', '?']).filter_map(|pair| pair.split_once('='));
    pairs
        .find(|(name, _)| *name == "token")
        .map(|(_, token)| token.trim_end_matches('/'))
        .filter(|token| !token.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<'a>(app: &'a Application, key: &'a str) -> (String, Option<&'a str>) {
        let (name, token) = app.stream(key).unwrap();
        (name.as_str().to_owned(), token)
    }

    #[test]
    fn names_and_tokens_are_found_wherever_clients_put_them() {
        let plain = Application::new("live", "rtmp://h/live");
        assert_eq!(read(&plain, "cam1"), ("cam1".into(), None));
        assert_eq!(read(&plain, "cam1?token=a.b-_c"), ("cam1".into(), Some("a.b-_c")));
        assert_eq!(read(&plain, "cam1/?x=1&token=abc/"), ("cam1".into(), Some("abc")));
        assert_eq!(read(&plain, "cam1?token="), ("cam1".into(), None));
        let slashed = Application::new("live/", "rtmp://h/live/");
        assert_eq!(slashed.name, "live");
        let in_app = Application::new("live?token=app", "rtmp://h/live?token=url");
        assert_eq!(in_app.name, "live");
        assert_eq!(read(&in_app, "cam1"), ("cam1".into(), Some("app")));
        assert_eq!(read(&in_app, "cam1?token=key"), ("cam1".into(), Some("key")));
        let in_url = Application::new("live", "rtmp://h/live?token=url/");
        assert_eq!(read(&in_url, "cam1/"), ("cam1".into(), Some("url")));
    }

    #[test]
    fn a_key_that_is_no_name_is_refused() {
        let app = Application::new("live", "");
        assert_eq!(app.stream("?token=a"), Err(InvalidStreamName::Empty));
        assert_eq!(app.stream("a/b"), Err(InvalidStreamName::BadCharacter('/')));
    }

    #[test]
    fn the_token_stays_out_of_debug_output() {
        assert!(!format!("{:?}", Application::new("live?token=secret", "")).contains("secret"));
    }
}
