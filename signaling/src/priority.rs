//! Which of a stream's two publishers one is: the one whose pictures are shown, or the one that stands by for it.
//!
//! A publisher says so by `?priority=backup`, in the URL (WHIP) or the stream key (RTMP); or its token does, and then that counts.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::error::Problem;

/// See the module.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    #[default]
    Primary,
    /// On air only while there is no primary.
    Backup,
}

/// A priority that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the priority of a publisher is primary or backup")]
pub struct UnknownPriority;

impl From<UnknownPriority> for Problem {
    fn from(unknown: UnknownPriority) -> Self {
        Self::new(400, "bad-priority", "This is no priority", unknown.to_string())
    }
}

impl Priority {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Primary => "primary",
            Self::Backup => "backup",
        }
    }

    /// What a publisher is, by its token's claim, else by what it asked for.
    ///
    /// # Errors
    /// When it asked for what there is not.
    pub fn of(claim: Option<Self>, asked: Option<&str>) -> Result<Self, UnknownPriority> {
        let asked = asked.map(str::parse).transpose()?;
        Ok(claim.or(asked).unwrap_or_default())
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Priority {
    type Err = UnknownPriority;

    fn from_str(text: &str) -> Result<Self, UnknownPriority> {
        [Self::Primary, Self::Backup].into_iter().find(|priority| priority.as_str() == text).ok_or(UnknownPriority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_counts_then_what_was_asked_for() {
        assert_eq!(Priority::of(None, None), Ok(Priority::Primary));
        assert_eq!(Priority::of(None, Some("backup")), Ok(Priority::Backup));
        assert_eq!(Priority::of(Some(Priority::Backup), None), Ok(Priority::Backup));
        assert_eq!(Priority::of(Some(Priority::Primary), Some("backup")), Ok(Priority::Primary));
        assert_eq!(Priority::of(Some(Priority::Backup), Some("first")), Err(UnknownPriority));
    }
}
