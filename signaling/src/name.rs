//! The names that cross every protocol: a stream's and a session's.

use std::{fmt, str::FromStr, sync::Arc};

use uuid::Uuid;

/// A stream's name: `[A-Za-z0-9][A-Za-z0-9._~-]{0,127}`. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamName(Arc<str>);

/// The longest stream name, in bytes.
pub const STREAM_NAME_MAX_BYTES: usize = 128;

/// Why a text is no stream name. Its `Display` is fit for a client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidStreamName {
    #[error("a stream name cannot be empty")]
    Empty,
    #[error("a stream name has at most {STREAM_NAME_MAX_BYTES} characters, this one has {0}")]
    TooLong(usize),
    #[error("a stream name starts with a letter or a digit")]
    BadStart,
    #[error("a stream name holds letters, digits and . _ ~ - only, this one has {0:?}")]
    BadCharacter(char),
}

impl FromStr for StreamName {
    type Err = InvalidStreamName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let first = text.chars().next().ok_or(InvalidStreamName::Empty)?;
        if text.len() > STREAM_NAME_MAX_BYTES {
            return Err(InvalidStreamName::TooLong(text.chars().count()));
        }
        if let Some(bad) = text.chars().find(|c| !c.is_ascii_alphanumeric() && !matches!(c, '.' | '_' | '~' | '-')) {
            return Err(InvalidStreamName::BadCharacter(bad));
        }
        if !first.is_ascii_alphanumeric() {
            return Err(InvalidStreamName::BadStart);
        }
        Ok(Self(text.into()))
    }
}

impl StreamName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for StreamName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

/// A WHIP, WHEP or RTMP session: a version 4 UUID, so its URL cannot be guessed (RFC 9725 section 4.2).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

impl SessionId {
    /// A fresh id from the system's random generator.
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Uuid::try_parse(text).map(Self)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stream_names_hold_what_the_contract_says() {
        for good in ["a", "cam1", "Room-1.x_~", &"a".repeat(128)] {
            assert_eq!(good.parse::<StreamName>().unwrap().as_str(), good);
        }
        assert_eq!("".parse::<StreamName>(), Err(InvalidStreamName::Empty));
        assert_eq!("-a".parse::<StreamName>(), Err(InvalidStreamName::BadStart));
        assert_eq!("a/b".parse::<StreamName>(), Err(InvalidStreamName::BadCharacter('/')));
        assert_eq!("\u{e9}".parse::<StreamName>(), Err(InvalidStreamName::BadCharacter('\u{e9}')));
        assert_eq!("a".repeat(129).parse::<StreamName>(), Err(InvalidStreamName::TooLong(129)));
    }
}
