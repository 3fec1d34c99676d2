//! Pictures encoded anew by ffmpeg, in a process for each stream and purpose: without B-frames, for WebRTC viewers, who cannot be shown them;
//! and in smaller sizes, for those who cannot receive the publisher's own.
//!
//! In: streams of the track tree, which say what is of use ([`Stream::wants_reencoding`], [`Stream::wants_rungs`]). Out: layers
//! ([`Rendition`](crate::track::Rendition)): one in place of the publisher's, from its first keyframe on, and those beside it. Begun with
//! the first viewer, ended some time after the last one; begun again when it fails. Knows no ingest and no egress.
#![allow(clippy::disallowed_methods, reason = "an I/O room: it owns processes, tasks, and their clock")]

mod arguments;
mod feed;
mod flv;
mod job;
mod ladder;
mod pipes;
mod program;
mod running;
mod units;
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
    config::{Encoder, Rung},
    media::{Codec, StreamName},
    metrics::Metrics,
    track::{Notice, RungsWanted, Stream, Streams},
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
    /// Streams with B-frames are encoded without them.
    pub b_frames: bool,
    /// Sizes that streams are to be there in, too.
    pub ladder: Vec<Rung>,
}

/// What a stream is encoded anew for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EncodingPurpose {
    /// To be shown without B-frames, in place of the publisher's pictures.
    Replacement,
    /// To be there in smaller sizes.
    Ladder,
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

    /// The publication that the ladder is to be made of, unless none of it would be smaller.
    fn rungs_wanted(&self, stream: &Stream) -> Option<RungsWanted> {
        let ladder = &self.settings.ladder;
        let wanted = if ladder.is_empty() { None } else { stream.wants_rungs() }?;
        if ladder::smaller(ladder, wanted.size).is_empty() {
            return None;
        }
        if wanted.codec != Codec::H264 {
            let codec = wanted.codec;
            let text = format!(
                "The picture is there in one size only: smaller ones are made of H.264, and this is {codec} (transcode.ladder)"
            );
            stream.notice(wanted.publication, Notice { code: "ladder-codec", text });
            return None;
        }
        Some(wanted)
    }

    /// The publication that is to be encoded for that purpose.
    fn wanted(&self, stream: &Stream, purpose: EncodingPurpose) -> Option<u64> {
        match purpose {
            EncodingPurpose::Replacement if self.settings.b_frames => stream.wants_reencoding(),
            EncodingPurpose::Ladder => self.rungs_wanted(stream).map(|wanted| wanted.publication),
            EncodingPurpose::Replacement => None,
        }
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
    jobs: Mutex<HashMap<(StreamName, EncodingPurpose), Entry>>,
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
        if !settings.ladder.is_empty() {
            streams.tell_of_audiences();
        }
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
                for purpose in [EncodingPurpose::Replacement, EncodingPurpose::Ladder] {
                    if let Some(publication) = self.shared.wanted(&stream, purpose) {
                        self.begin(&stream, publication, purpose);
                    }
                }
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// How a stream is encoded anew for that purpose, if it is.
    pub fn state(&self, stream: &StreamName, purpose: EncodingPurpose) -> Option<ReencodingState> {
        self.jobs.lock().get(&(stream.clone(), purpose)).map(|entry| entry.state.lock().clone())
    }

    /// Smaller layers that are being made of a stream, or will be in a moment.
    pub fn rungs_expected(&self, stream: &Stream) -> usize {
        let Some(RungsWanted { size, .. }) = self.shared.rungs_wanted(stream) else { return 0 };
        let jobs = self.jobs.lock();
        let is_hopeful = match jobs.get(&(stream.name().clone(), EncodingPurpose::Ladder)) {
            Some(entry) => entry.state.lock().failing.is_none(),
            None => jobs.len() < self.shared.settings.streams_max,
        };
        if is_hopeful { ladder::smaller(&self.shared.settings.ladder, size).len() } else { 0 }
    }

    fn begin(self: &Arc<Self>, stream: &Arc<Stream>, publication: u64, purpose: EncodingPurpose) {
        let key = (stream.name().clone(), purpose);
        let mut jobs = self.jobs.lock();
        if jobs.contains_key(&key) {
            // One of another publication ends by itself, and tells.
            return;
        }
        let streams_max = self.shared.settings.streams_max;
        if jobs.len() >= streams_max {
            drop(jobs);
            return stream.notice(publication, no_room(purpose, streams_max));
        }
        let state = Arc::new(Mutex::new(ReencodingState {
            encoder: None,
            since: SystemTime::now(),
            latency: None,
            cpu_share: None,
            starts: 0,
            failing: None,
        }));
        jobs.insert(key.clone(), Entry { state: state.clone() });
        let job = Job {
            stream: stream.clone(),
            publication,
            purpose,
            shared: self.shared.clone(),
            state,
            stop: self.stop.clone(),
        };
        let span = info_span!("reencoding", stream = %stream.name(), ?purpose);
        self.shared.metrics.reencoded_streams.inc();
        let place = Place { of: self.clone(), key };
        self.tasks.spawn(
            async move {
                let _place = place;
                job.run().await;
            }
            .instrument(span),
        );
    }
}

/// A job's place among those that may be; free again however it ends.
struct Place {
    of: Arc<Reencoding>,
    key: (StreamName, EncodingPurpose),
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.shared.metrics.reencoded_streams.dec();
        self.of.jobs.lock().remove(&self.key);
        self.of.ended.notify_one();
    }
}

/// As many encoders run as may.
fn no_room(purpose: EncodingPurpose, streams_max: usize) -> Notice {
    let why = format!("{streams_max} encoders run for other streams, as many as may (transcode.streams_max)");
    match purpose {
        EncodingPurpose::Replacement => {
            Notice { code: "b-frames-dropped", text: format!("B-frames are left out, motion is less smooth: {why}") }
        }
        EncodingPurpose::Ladder => {
            Notice { code: "ladder-refused", text: format!("The picture is there in one size only: {why}") }
        }
    }
}
