//! HLS in a store of files, for a CDN to fetch it from: whole segments, and playlists of these. Where it lies is `hls.output`, a folder or
//! a bucket; under it everything has the path that it has at this server under `/hls/`.
//!
//! A task per packaged stream brings the store to what the playlists list: media first, then the playlists that name it, the
//! multivariant one last. What is listed no more is removed when no player can ask for it any longer. A store that fails loses nothing that
//! is still listed when it is back.

mod listing;
mod mirror;
mod task;
#[cfg(test)]
mod tests;

use std::{fmt, path::PathBuf, sync::Arc};

use bytes::Bytes;
use object_store::{
    Attribute, Attributes, ObjectStore, ObjectStoreExt, PutOptions, PutPayload, RetryConfig,
    aws::{AmazonS3Builder, AmazonS3ConfigKey},
    client::ClientConfigKey,
    local::LocalFileSystem,
    path::Path,
};
use tokio::time::Duration;

use crate::{config::OutputPlace, media::StreamName};

pub(super) use listing::Listing;
pub(super) use task::run;

/// A request is given up after this, and after as many further tries; what is still listed then is tried again.
const REQUEST_MAX: &str = "10 seconds";
const TRIES_MORE_MAX: usize = 2;
const TRIES_FOR_MAX: Duration = Duration::from_secs(15);

/// Media is never another under the same name.
const MEDIA_CACHE: &str = "public, max-age=31536000, immutable";
/// A second is what a crowd that comes at once is served by one request.
const PLAYLIST_CACHE: &str = "public, max-age=1";

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    #[error("hls.output: the folder {} cannot be made: {source}", folder.display())]
    Folder { folder: PathBuf, source: std::io::Error },
    #[error("hls.output: {0}")]
    Store(#[from] object_store::Error),
    #[error("hls.output: {0}")]
    Path(#[from] object_store::path::Error),
}

/// As the API shows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OutputState {
    /// Segments that lie in the store.
    pub segments: usize,
    /// What it says against more, while it does.
    pub failing: Option<String>,
}

/// Where HLS is put.
#[derive(Clone)]
pub struct Output {
    store: Arc<dyn ObjectStore>,
    /// Before every path.
    prefix: Path,
    /// Whether objects have a type and a life in caches: files have not.
    has_attributes: bool,
}

/// A store's own words could hold its credentials.
impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Output").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    Media,
    Playlist,
}

impl Output {
    /// Credentials, region and endpoint of S3 come from the environment, in the variables that all its tools read (`AWS_ACCESS_KEY_ID`,
    /// `AWS_SECRET_ACCESS_KEY`, `AWS_REGION`, `AWS_ENDPOINT_URL`, …).
    ///
    /// # Errors
    /// When that makes no store. A store that does not answer is no error: it is tried again.
    pub fn open(place: &OutputPlace) -> Result<Self, OutputError> {
        match place {
            OutputPlace::Folder(folder) => {
                let unmade = |source| OutputError::Folder { folder: folder.clone(), source };
                std::fs::create_dir_all(folder).map_err(unmade)?;
                let store = LocalFileSystem::new_with_prefix(folder)?.with_automatic_cleanup(true);
                Ok(Self::new(Arc::new(store), Path::default(), false))
            }
            OutputPlace::S3 { bucket, prefix } => {
                let retry =
                    RetryConfig { max_retries: TRIES_MORE_MAX, retry_timeout: TRIES_FOR_MAX, ..RetryConfig::default() };
                let store = AmazonS3Builder::from_env()
                    .with_bucket_name(bucket)
                    .with_config(AmazonS3ConfigKey::Client(ClientConfigKey::Timeout), REQUEST_MAX)
                    .with_retry(retry)
                    .build()?;
                Ok(Self::new(Arc::new(store), Path::parse(prefix)?, true))
            }
        }
    }

    fn new(store: Arc<dyn ObjectStore>, prefix: Path, has_attributes: bool) -> Self {
        Self { store, prefix, has_attributes }
    }

    /// `name` is relative to the stream's multivariant playlist. Nothing in it or in a stream's name needs encoding.
    fn path(&self, stream: &StreamName, name: &str) -> Result<Path, object_store::path::Error> {
        match self.prefix.as_ref() {
            "" => Path::parse(format!("{stream}/{name}")),
            prefix => Path::parse(format!("{prefix}/{stream}/{name}")),
        }
    }

    async fn put(
        &self,
        stream: &StreamName,
        name: &str,
        runs: Vec<Bytes>,
        content: Content,
    ) -> object_store::Result<()> {
        let (kind, cache) = match content {
            Content::Media => ("video/mp4", MEDIA_CACHE),
            Content::Playlist => ("application/vnd.apple.mpegurl", PLAYLIST_CACHE),
        };
        let attributes = if self.has_attributes {
            Attributes::from_iter([(Attribute::ContentType, kind), (Attribute::CacheControl, cache)])
        } else {
            Attributes::default()
        };
        let options = PutOptions { attributes, ..PutOptions::default() };
        self.store.put_opts(&self.path(stream, name)?, PutPayload::from_iter(runs), options).await?;
        Ok(())
    }

    /// What is not there is as good as removed.
    async fn delete(&self, stream: &StreamName, name: &str) -> object_store::Result<()> {
        match self.store.delete(&self.path(stream, name)?).await {
            Err(object_store::Error::NotFound { .. }) => Ok(()),
            other => other,
        }
    }
}
