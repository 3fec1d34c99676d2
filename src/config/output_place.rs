//! Where HLS is put: a folder, or a bucket.

use std::{fmt, path::PathBuf, str::FromStr};

use serde::{Deserialize, Deserializer, de::Error};

/// What `hls.output` names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OutputPlace {
    /// `file:///srv/hls`.
    Folder(PathBuf),
    /// `s3://bucket/prefix`; the prefix without slashes at its ends, empty where there is none.
    S3 { bucket: String, prefix: String },
}

/// Why a text names no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither file:///a/folder nor s3://bucket/prefix")]
pub struct InvalidOutputPlace(String);

impl FromStr for OutputPlace {
    type Err = InvalidOutputPlace;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().split_once("://") {
            Some(("file", folder)) if folder.starts_with('/') => Ok(Self::Folder(folder.into())),
            Some(("s3", place)) if !place.is_empty() && !place.starts_with('/') => {
                let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
                Ok(Self::S3 { bucket: bucket.to_owned(), prefix: prefix.trim_matches('/').to_owned() })
            }
            _ => Err(InvalidOutputPlace(text.to_owned())),
        }
    }
}

impl fmt::Display for OutputPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => write!(f, "file://{}", folder.display()),
            Self::S3 { bucket, prefix } => write!(f, "s3://{bucket}/{prefix}"),
        }
    }
}

impl<'de> Deserialize<'de> for OutputPlace {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_a_folder_or_a_bucket() {
        let s3 = |bucket: &str, prefix: &str| OutputPlace::S3 { bucket: bucket.into(), prefix: prefix.into() };
        for (text, place) in [
            ("file:///srv/hls", OutputPlace::Folder("/srv/hls".into())),
            ("s3://videos", s3("videos", "")),
            (" s3://videos/ ", s3("videos", "")),
            ("s3://videos/a/live/", s3("videos", "a/live")),
        ] {
            assert_eq!(text.parse(), Ok(place), "{text}");
        }
        for text in ["", "hls", "/srv/hls", "file://hls", "s3://", "s3:///prefix", "http://host/hls"] {
            assert_eq!(text.parse::<OutputPlace>(), Err(InvalidOutputPlace(text.into())));
        }
    }
}
