//! Pictures encoded anew by ffmpeg, in a process for each stream: for WebRTC viewers of streams with B-frames, which they cannot be shown.
//!
//! In: streams of the track tree, which say that it is wanted ([`Stream::wants_reencoding`]). Out: a layer in place of the publisher's
//! ([`Rendition`](crate::track::Rendition)), from its first keyframe on. Begun with the first viewer, ended some time after the last one;
//! begun again when it fails. Knows no ingest and no egress.
#![allow(clippy::disallowed_methods, reason = "an I/O room: it owns processes, tasks, and their clock")]

mod arguments;
mod feed;
mod flv;
mod job;
mod program;
mod usage;

use std::{
    collections::HashMap,
    fmt,
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, OnceCell, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info_span};

use crate::{
    config::Encoder,
    media::StreamName,
    metrics::Metrics,
    track::{Notice, Stream, Streams},
};

use job::Job;
pub use program::find_program;

/// How pictures are encoded anew.
#[derive(Debug, Clone)]
pub struct ReencodingSettings {
    /// The ffmpeg program.
    pub program: PathBuf,
    pub encoder: Encoder,
    pub streams_max: usize,
}

/// A stream that is encoded anew, as the API shows it.
#[derive(Debug, Clone)]
pub struct ReencodingState {
    /// None until one was found.
    pub encoder: Option<Encoder>,
    pub since: SystemTime,
    /// From a picture's arrival until it is encoded, of late; `None` while nothing comes.
    pub latency: Option<Duration>,
    /// Of one core, of late.
    pub cpu_share: Option<f64>,
    /// Processes begun so far.
    pub starts: u32,
    /// Why nothing comes at present.
    pub failing: Option<String>,
}

/// What jobs share.
struct Shared {
    settings: ReencodingSettings,
    metrics: Arc<Metrics>,
    /// Found by trial.
    encoder: OnceCell<Encoder>,
}

impl Shared {
    /// Tried once, and again where none worked: a machine may have been too busy.
    async fn encoder(&self) -> Result<Encoder, String> {
        let ReencodingSettings { program, encoder, .. } = &self.settings;
        self.encoder.get_or_try_init(|| program::choose_encoder(program, *encoder)).await.copied()
    }
}

struct Entry {
    state: Arc<Mutex<ReencodingState>>,
}

/// See the module.
pub struct Reencoding {
    shared: Arc<Shared>,
    streams: Arc<Streams>,
    /// At most [`ReencodingSettings::streams_max`].
    jobs: Mutex<HashMap<StreamName, Entry>>,
    /// A job has ended.
    ended: Notify,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for Reencoding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reencoding").field("settings", &self.shared.settings).finish_non_exhaustive()
    }
}

impl Reencoding {
    pub fn new(
        settings: ReencodingSettings,
        streams: Arc<Streams>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let shared = Arc::new(Shared { settings, metrics, encoder: OnceCell::new() });
        let (jobs, ended, tasks) = (Mutex::default(), Notify::new(), TaskTracker::new());
        Arc::new(Self { shared, streams, jobs, ended, tasks, stop })
    }

    /// Begins what is wanted, until the server stops. `changes` marks that streams have changed.
    pub async fn run(self: Arc<Self>, mut changes: watch::Receiver<()>) {
        let shared = self.shared.clone();
        // So that the first viewer need not wait for it.
        self.tasks.spawn(async move { shared.encoder().await.is_ok() });
        loop {
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
                () = self.ended.notified() => {}
            }
            for stream in self.streams.all() {
                if let Some(publication) = stream.wants_reencoding() {
                    self.begin(&stream, publication);
                }
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How a stream is encoded anew, if it is.
    pub fn state(&self, stream: &StreamName) -> Option<ReencodingState> {
        self.jobs.lock().get(stream).map(|entry| entry.state.lock().clone())
    }

    fn begin(self: &Arc<Self>, stream: &Arc<Stream>, publication: u64) {
        let mut jobs = self.jobs.lock();
        if jobs.contains_key(stream.name()) {
            // One of another publication ends by itself, and tells.
            return;
        }
        let streams_max = self.shared.settings.streams_max;
        if jobs.len() >= streams_max {
            let text = format!(
                "B-frames are left out, motion is less smooth: {streams_max} other streams are encoded without theirs, as many as may \
                 be (transcode.streams_max)"
            );
            return stream.notice(publication, Notice { code: "b-frames-dropped", text });
        }
        let state = Arc::new(Mutex::new(ReencodingState {
            encoder: None,
            since: SystemTime::now(),
            latency: None,
            cpu_share: None,
            starts: 0,
            failing: None,
        }));
        jobs.insert(stream.name().clone(), Entry { state: state.clone() });
        let job =
            Job { stream: stream.clone(), publication, shared: self.shared.clone(), state, stop: self.stop.clone() };
        let this = self.clone();
        let span = info_span!("reencoding", stream = %stream.name());
        self.tasks.spawn(
            async move {
                this.shared.metrics.reencoded_streams.inc();
                let name = job.stream.name().clone();
                job.run().await;
                this.shared.metrics.reencoded_streams.dec();
                this.jobs.lock().remove(&name);
                this.ended.notify_one();
            }
            .instrument(span),
        );
    }
}
