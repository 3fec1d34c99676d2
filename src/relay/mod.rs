//! Streams sent on to other servers (`relay.push`), in a task for each stream and target; and streams fetched from them (`pull`).
//!
//! In: streams of the track tree. Out: RTMP and RTMPS connections to servers of others, of what the frame lane has; and WHIP sessions, of what
//! workers get. A task begins when a stream is published that a target is for, connects again for as long as it is, and ends when its
//! publisher has been away for a while. Knows no ingest. What a target says can end the connection to it and nothing else.
#![allow(clippy::disallowed_methods, reason = "an I/O room: it owns connections, tasks, and their clock")]

mod answer;
mod contained;
mod dial;
mod endpoint;
mod feedback;
mod path;
mod peer;
mod pull;
mod push;
mod report;
mod retry;
mod rtmp;
mod sockets;
#[cfg(test)]
mod tests;
mod whip;

use std::{
    collections::HashMap,
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info_span, warn};

use crate::{
    config::PushTarget,
    media::StreamName,
    metrics::Metrics,
    track::{Stream, Streams, WorkerIndex},
};

pub use dial::Connector;
pub use endpoint::Endpoints;
pub use path::PATH_HEADER;
pub use pull::{PullReport, PullState, Pulls};
pub use report::{RelayReport, RelayState};

use push::Push;
use report::Shown;

/// Tasks at one time, over all streams and targets: each holds a frame lane's queue, a connection, and what waits to be sent.
const TASKS_MAX: usize = 1_024;

/// See the module.
pub struct Relays {
    targets: Vec<PushTarget>,
    connector: Connector,
    endpoints: Endpoints,
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
    /// By stream and number of the target; at most [`TASKS_MAX`].
    pushes: Mutex<HashMap<(StreamName, usize), Shown>>,
    /// Those that found no room, and since when; at most [`TASKS_MAX`], the others are waiting unsaid.
    waiting: Mutex<HashMap<(StreamName, usize), SystemTime>>,
    ended: Notify,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl fmt::Debug for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Relays").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl Relays {
    pub fn new(
        targets: Vec<PushTarget>,
        connector: Connector,
        endpoints: Endpoints,
        streams: Arc<Streams>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (pushes, waiting) = (Mutex::default(), Mutex::default());
        let (ended, tasks) = (Notify::new(), TaskTracker::new());
        Arc::new(Self { targets, connector, endpoints, streams, metrics, pushes, waiting, ended, tasks, stop })
    }

    /// Begins what is wanted, until the server stops. `changes` marks that streams have changed.
    pub async fn run(self: Arc<Self>, mut changes: watch::Receiver<()>) {
        loop {
            let streams = self.streams.all();
            streams.iter().for_each(|stream| self.begin(stream));
            self.waiting.lock().retain(|(name, _), _| streams.iter().any(|stream| stream.name() == name));
            tokio::select! {
                () = self.stop.cancelled() => break,
                changed = changes.changed() => if changed.is_err() { break },
                () = self.ended.notified() => {}
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Where a stream is sent to, in the order of the settings.
    pub fn reports(&self, stream: &StreamName) -> Vec<RelayReport> {
        let (pushes, waiting) = (self.pushes.lock(), self.waiting.lock());
        let report = |(at, target): (usize, &PushTarget)| {
            let key = (stream.clone(), at);
            let shown = pushes.get(&key).map(Shown::report);
            shown.or_else(|| {
                let since = *waiting.get(&key)?;
                let problem = Some(format!("{TASKS_MAX} others are sent on already, which is the most"));
                Some(RelayReport { problem, ..RelayReport::new(target.url.to_string(), RelayState::Waiting, since) })
            })
        };
        self.targets.iter().enumerate().filter_map(report).collect()
    }

    fn begin(self: &Arc<Self>, stream: &Arc<Stream>) {
        let is_live = stream.is_live();
        for (at, target) in self.targets.iter().enumerate().filter(|(_, target)| target.is_for(stream.name())) {
            let key = (stream.name().clone(), at);
            let (mut pushes, mut waiting) = (self.pushes.lock(), self.waiting.lock());
            if !is_live || pushes.contains_key(&key) {
                waiting.remove(&key);
                continue;
            }
            if pushes.len() >= TASKS_MAX {
                if waiting.len() < TASKS_MAX && !waiting.contains_key(&key) {
                    warn!(stream = %stream.name(), target = %target.url, "not sent on: {TASKS_MAX} others are already");
                    waiting.insert(key, SystemTime::now());
                }
                continue;
            }
            waiting.remove(&key);
            let shown = Shown::new(target.url.to_string(), self.metrics.clone());
            pushes.insert(key.clone(), shown.clone());
            drop((pushes, waiting));
            let push = Push {
                stream: stream.clone(),
                url: target.url.clone(),
                connector: self.connector.clone(),
                endpoints: self.endpoints.clone(),
                worker: WorkerIndex(WorkerIndex::FIRST_RELAY + at as u16),
                shown,
                stop: self.stop.clone(),
            };
            let this = self.clone();
            let span = info_span!("push", stream = %stream.name(), target = %target.url);
            self.tasks.spawn(
                async move {
                    push.run().await;
                    this.pushes.lock().remove(&key);
                    this.ended.notify_one();
                }
                .instrument(span),
            );
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
