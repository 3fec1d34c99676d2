//! The task that brings the store of one packaged stream to what its playlists list.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, future::join_all};
use object_store::ObjectStore as _;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{
    Content, Listing, Output, OutputState,
    listing::{ListedRendition, ListedSegment},
    mirror::Mirror,
};
use crate::{
    egress::hls::{MEDIA_PREFIX, RENDITIONS_MAX, RenditionIndex, playlist_name},
    metrics::{Metrics, OutputLabels},
    packaging::{stream::PackagedStream, task::at},
    track::Stream,
};

/// Between two tries at a store that fails.
const RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// The last playlists of a stream that has ended are tried for so long.
const LAST_TRIES_FOR: Duration = Duration::from_secs(60);
/// What an earlier packaging left behind goes after this: whoever played it has noticed by then.
const LEFTOVERS_HOLD: Duration = Duration::from_secs(120);
/// Of those, as many are looked at; the rest is for the next time.
const LEFTOVERS_MAX: usize = 10_000;

/// Removed at one time, side by side: whoever waits for a new segment does not wait for all that is old to go.
const DELETES_MAX: usize = 16;

const MULTIVARIANT: &str = "index.m3u8";

/// Mirrors a packaged stream until it is over, and what has ended until nobody can ask for it any longer. When the server stops,
/// everything stays as it is: the stream goes on at the next one.
pub(in crate::packaging) async fn run(
    packaged: Arc<PackagedStream>,
    output: Output,
    metrics: Arc<Metrics>,
    drain: CancellationToken,
) {
    let task = Task {
        stream: packaged.stream().clone(),
        output,
        metrics,
        mirror: Mirror::new(),
        playlists: BTreeMap::new(),
        state: OutputState::default(),
    };
    drain.run_until_cancelled(task.run(packaged)).await;
}

struct Task {
    stream: Arc<Stream>,
    output: Output,
    metrics: Arc<Metrics>,
    mirror: Mirror,
    /// Those that are to be stored: all that they name is.
    playlists: BTreeMap<String, Playlist>,
    state: OutputState,
}

struct Playlist {
    text: String,
    /// Of a rendition's: with which segment it begins.
    begins: Option<(RenditionIndex, u64)>,
    hold: Duration,
}

impl Task {
    async fn run(mut self, packaged: Arc<PackagedStream>) {
        let mut changes = packaged.changes();
        changes.mark_changed();
        self.doom_leftovers().await;
        let mut retry = None;
        loop {
            let due = [retry, self.mirror.due()].into_iter().flatten().min();
            tokio::select! {
                biased;
                () = packaged.over() => break,
                _ = changes.changed(), if retry.is_none() => {}
                () = at(due) => {}
            }
            retry = (!self.pass(&packaged).await).then(|| Instant::now() + RETRY_INTERVAL);
        }
        let Listing { is_ended, hold, .. } = packaged.listing(|_| u64::MAX);
        if !is_ended {
            return;
        }
        let last = Instant::now() + LAST_TRIES_FOR;
        while !self.pass(&packaged).await && Instant::now() < last {
            tokio::time::sleep(RETRY_INTERVAL).await;
        }
        // Its window is not needed any more.
        drop(packaged);
        self.mirror.end(Instant::now(), hold);
        while let Some(due) = self.mirror.due() {
            tokio::time::sleep_until(due.min(last + hold)).await;
            self.delete_due().await;
            if Instant::now() >= last + hold {
                break;
            }
        }
        self.delete_playlists().await;
    }

    /// Stores what is new; false when something is still to be done.
    async fn pass(&mut self, packaged: &PackagedStream) -> bool {
        let listing = packaged.listing(|rendition| self.mirror.next(rendition));
        let mut failure = None;
        let stored = join_all(listing.renditions.iter().map(|rendition| self.store_segments(rendition))).await;
        for (rendition, (count, result)) in listing.renditions.iter().zip(stored) {
            for segment in rendition.segments.iter().take(count) {
                let ListedSegment { number, name, initialization: (initialization, _), .. } = segment;
                self.mirror.stored(rendition.index, *number, name.clone(), initialization.clone());
            }
            match result {
                Ok(()) => {
                    let begins = Some((rendition.index, rendition.first));
                    let playlist = Playlist { text: rendition.playlist.clone(), begins, hold: listing.hold };
                    self.playlists.insert(playlist_name(rendition.index), playlist);
                }
                Err(why) => failure = Some(why),
            }
        }
        if let Some(text) = listing.multivariant {
            self.playlists.insert(MULTIVARIANT.to_owned(), Playlist { text, begins: None, hold: listing.hold });
        }
        failure = self.store_playlists(failure).await;
        self.delete_due().await;
        self.tell(packaged, failure.clone());
        failure.is_none()
    }

    /// A rendition's new segments, in order, up to the first that fails: how many were stored, and what the store said.
    async fn store_segments(&self, rendition: &ListedRendition) -> (usize, Result<(), String>) {
        let mut made = None;
        for (count, segment) in rendition.segments.iter().enumerate() {
            let (initialization, bytes) = &segment.initialization;
            let is_there =
                made == Some(initialization) || self.mirror.has_initialization(rendition.index, initialization);
            if !is_there && let Err(why) = self.put_media(initialization, vec![bytes.clone()]).await {
                return (count, Err(why));
            }
            made = Some(initialization);
            if let Err(why) = self.put_media(&segment.name, segment.runs.clone()).await {
                return (count, Err(why));
            }
        }
        (rendition.segments.len(), Ok(()))
    }

    /// Those of renditions first; the one that names them when all they name is there.
    async fn store_playlists(&mut self, mut failure: Option<String>) -> Option<String> {
        let (multivariant, mut names): (Vec<_>, Vec<_>) =
            self.playlists.keys().cloned().partition(|name| name == MULTIVARIANT);
        names.extend(multivariant);
        for name in names {
            if name == MULTIVARIANT && failure.is_some() {
                break;
            }
            let Some(Playlist { text, begins, hold }) = self.playlists.get(&name) else { continue };
            let (begins, hold) = (*begins, *hold);
            match self.put(&name, vec![Bytes::copy_from_slice(text.as_bytes())], Content::Playlist).await {
                Ok(()) => {
                    self.playlists.remove(&name);
                    if let Some((rendition, first)) = begins {
                        self.mirror.listed_from(Instant::now(), rendition, first, hold);
                    }
                }
                Err(why) => failure = Some(why),
            }
        }
        failure
    }

    async fn put_media(&self, name: &str, runs: Vec<Bytes>) -> Result<(), String> {
        self.put(&format!("{MEDIA_PREFIX}{name}"), runs, Content::Media).await
    }

    async fn put(&self, name: &str, runs: Vec<Bytes>, content: Content) -> Result<(), String> {
        let bytes: usize = runs.iter().map(Bytes::len).sum();
        let result = self.output.put(self.stream.name(), name, runs, content).await;
        if result.is_ok() {
            self.metrics.hls_output_bytes.inc_by(bytes as u64);
        }
        self.count("put", result, name)
    }

    async fn delete(&self, name: String) -> Result<(), String> {
        let result = self.output.delete(self.stream.name(), &name).await;
        self.count("delete", result, &name)
    }

    fn count(&self, operation: &'static str, result: object_store::Result<()>, name: &str) -> Result<(), String> {
        let outcome = if result.is_ok() { "ok" } else { "failed" };
        self.metrics.hls_output_requests.get_or_create(&OutputLabels { operation, outcome }).inc();
        // Whoever knows a name of media can have it of this server: it is told to nobody.
        result.map_err(|error| error.to_string().replace(name, "…"))
    }

    /// What may go, goes, some of it at a time; what cannot be removed is tried again later.
    async fn delete_due(&mut self) {
        let due = self.mirror.take_due(Instant::now(), DELETES_MAX);
        let results = join_all(due.iter().map(|name| self.delete(format!("{MEDIA_PREFIX}{name}")))).await;
        for (name, result) in due.into_iter().zip(results) {
            if let Err(why) = result {
                tracing::debug!(stream = %self.stream.name(), why, "an object could not be removed");
                self.mirror.doom(Instant::now() + LAST_TRIES_FOR, name);
            }
        }
    }

    /// Those of a stream that is over, unless it is published again: then they are the next packaging's.
    async fn delete_playlists(&self) {
        if self.stream.is_live() {
            return;
        }
        let of_renditions = (0..RENDITIONS_MAX as u8).map(|index| playlist_name(RenditionIndex(index)));
        for name in std::iter::once(MULTIVARIANT.to_owned()).chain(of_renditions) {
            if let Err(why) = self.delete(name).await {
                tracing::debug!(stream = %self.stream.name(), why, "a playlist could not be removed");
            }
        }
    }

    /// Media of an earlier packaging, which was not there to remove it.
    async fn doom_leftovers(&mut self) {
        let Ok(folder) = self.output.path(self.stream.name(), MEDIA_PREFIX.trim_end_matches('/')) else { return };
        let gone = Instant::now() + LEFTOVERS_HOLD;
        let mut listed = self.output.store.list(Some(&folder)).take(LEFTOVERS_MAX);
        while let Some(object) = listed.next().await {
            match object {
                Ok(object) => {
                    if let Some(name) = object.location.filename() {
                        self.mirror.doom(gone, name.to_owned());
                    }
                }
                Err(error) => {
                    tracing::debug!(stream = %self.stream.name(), %error, "the store does not tell what it has");
                    return;
                }
            }
        }
    }

    /// A store that fails is told of once, and so is one that is back.
    fn tell(&mut self, packaged: &PackagedStream, failing: Option<String>) {
        let stream = self.stream.name();
        match (&self.state.failing, &failing) {
            (None, Some(why)) => {
                tracing::warn!(%stream, why, "HLS cannot be stored; what is still listed is tried again")
            }
            (Some(_), None) => tracing::info!(%stream, "HLS is stored again"),
            _ => {}
        }
        let state = OutputState { segments: self.mirror.segments(), failing };
        if state != self.state {
            self.state = state.clone();
            packaged.set_output(state);
        }
    }
}
