//! HLS packaging at run time: a task for each stream that somebody plays, and what its viewers share: the window, its playlists written
//! once, and the wish to be woken.
//!
//! In: streams of the track tree, requests in terms of renditions and names. Out: playlists and media, now or when they are there. A
//! stream is packaged from its first request (or from its publisher on, `hls.always_on` and `hls.output`) until nobody has asked for a while, or its
//! publisher has been away for a while. Knows no HTTP; what packaging is, `egress::hls` knows.
#![allow(clippy::disallowed_methods, reason = "an I/O room: tasks that wait, and the clock they wait by")]

mod output;
mod playlists;
mod state;
mod stream;
mod task;
#[cfg(test)]
pub mod testing;
mod viewers;
mod waiting;
#[cfg(test)]
mod wraps_tests;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    egress::hls::{PackagerSettings, WindowSettings},
    media::StreamName,
    metrics::Metrics,
    track::{Stream, Streams},
};

pub use output::{Output, OutputError, OutputState};
pub use playlists::SharedPlaylist;
pub use stream::{Asked, MediaRefusal, PackagedStream, PackagingState, PlaylistRefusal, RenditionState};
pub use viewers::ViewerKey;
pub use waiting::{TooManyWaiting, Waiting};

/// From when media sequence numbers are counted, a second each: packaging that begins anew, or a server that was restarted, goes on
/// with higher ones than before, as segments last a second at least. 2025-01-01.
const NUMBERS_SINCE: Duration = Duration::from_secs(1_735_689_600);

/// How streams are packaged, and when.
#[derive(Debug, Clone)]
pub struct PackagingSettings {
    /// Streams are packaged at all.
    pub enabled: bool,
    pub window: WindowSettings,
    pub packager: PackagerSettings,
    /// Every stream that is published is packaged, whether somebody asks or not.
    pub always_on: bool,
    /// Where all that is packaged is put, too: then every stream is.
    pub output: Option<Output>,
    /// Packaging stops when nobody has asked for so long.
    pub idle: Duration,
    /// It ends when the publisher has been away for so long: playlists say so, and players stop.
    pub away: Duration,
    /// Streams packaged at one time.
    pub streams_max: usize,
    /// Requests that wait at one time, of all clients and of one address.
    pub waiting_max: usize,
    pub client_waiting_max: usize,
}

/// Why a stream is not packaged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NotPackaged {
    #[error("this server serves no HLS (hls.enabled)")]
    Disabled,
    #[error("nobody publishes the stream")]
    NotLive,
    #[error("as many streams are packaged as may be (hls.streams_max)")]
    Full,
    #[error("the server is stopping")]
    Draining,
}

/// All streams that are packaged. One per server.
pub struct Packaging {
    settings: PackagingSettings,
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
    by_name: Mutex<HashMap<StreamName, Arc<PackagedStream>>>,
    waiting: Arc<Waiting>,
    tasks: TaskTracker,
    drain: CancellationToken,
}

impl Packaging {
    pub fn new(
        settings: PackagingSettings,
        streams: Arc<Streams>,
        metrics: Arc<Metrics>,
        drain: CancellationToken,
    ) -> Self {
        let waiting = Arc::new(Waiting::new(settings.waiting_max, settings.client_waiting_max));
        let (by_name, tasks) = (Mutex::default(), TaskTracker::new());
        Self { settings, streams, metrics, by_name, waiting, tasks, drain }
    }

    pub fn waiting(&self) -> &Arc<Waiting> {
        &self.waiting
    }

    /// The packaging of a stream, begun now if it was not.
    ///
    /// # Errors
    /// When there is none and none can be begun.
    pub fn open(&self, name: &StreamName) -> Result<Arc<PackagedStream>, NotPackaged> {
        if !self.settings.enabled {
            return Err(NotPackaged::Disabled);
        }
        let live = || self.streams.get(name).filter(|stream| stream.is_live());
        let mut by_name = self.by_name.lock();
        if let Some(packaged) = by_name.get(name) {
            // What has ended stays as it is; a publisher that is back is packaged anew.
            if !packaged.is_over() || live().is_none() {
                packaged.touch(Instant::now());
                return Ok(packaged.clone());
            }
        }
        let stream = live().ok_or(NotPackaged::NotLive)?;
        if by_name.len() >= self.settings.streams_max && !by_name.contains_key(name) {
            return Err(NotPackaged::Full);
        }
        self.begin(&mut by_name, stream, "first request")
    }

    /// The packaging of a stream, if it is packaged.
    pub fn get(&self, name: &StreamName) -> Option<Arc<PackagedStream>> {
        self.by_name.lock().get(name).cloned()
    }

    fn begin(
        &self,
        by_name: &mut HashMap<StreamName, Arc<PackagedStream>>,
        stream: Arc<Stream>,
        cause: &'static str,
    ) -> Result<Arc<PackagedStream>, NotPackaged> {
        if self.drain.is_cancelled() {
            return Err(NotPackaged::Draining);
        }
        let since = SystemTime::now();
        let age = since.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().saturating_sub(NUMBERS_SINCE);
        let packaged = Arc::new(PackagedStream::new(
            stream.clone(),
            self.settings.window.clone(),
            age.as_secs(),
            self.metrics.clone(),
            self.drain.child_token(),
        ));
        by_name.insert(stream.name().clone(), packaged.clone());
        tracing::info!(stream = %stream.name(), cause, "HLS packaging begins");
        self.tasks.spawn(task::run(packaged.clone(), self.settings.packager.clone(), self.settings.away));
        if let Some(output) = &self.settings.output {
            let (output, metrics) = (output.clone(), self.metrics.clone());
            self.tasks.spawn(output::run(packaged.clone(), output, metrics, self.drain.clone()));
        }
        Ok(packaged)
    }

    fn packages_all(&self) -> bool {
        self.settings.enabled && (self.settings.always_on || self.settings.output.is_some())
    }

    /// Stops what nobody asks for, and begins what is to be always on; to be called every second or so.
    pub fn sweep(&self) {
        let now = Instant::now();
        let mut by_name = self.by_name.lock();
        by_name.retain(|_, packaged| {
            packaged.forget_viewers(now);
            let is_kept = self.packages_all() && !packaged.is_over();
            let keep = is_kept || packaged.idle(now) < self.settings.idle;
            if !keep {
                packaged.stop("nobody asks for it any more");
            }
            keep
        });
        if self.packages_all() {
            for stream in self.streams.all().into_iter().filter(|stream| stream.is_live()) {
                let is_on = by_name.get(stream.name()).is_some_and(|packaged| !packaged.is_over());
                if !is_on && by_name.len() < self.settings.streams_max {
                    // Refused only by a server that stops.
                    let _ = self.begin(&mut by_name, stream, "every stream is packaged");
                }
            }
        }
    }

    /// Ends all; returns when the last task has. To be called once the drain was cancelled.
    pub async fn finish(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
