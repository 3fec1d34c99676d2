//! Streams sent on to other servers (`relay.push`), in a task for each stream and target; and streams fetched from them (`pull`).
//!
//! In: streams of the track tree, by their frame lanes. Out: RTMP and RTMPS connections to servers of others. A task begins when a stream is
//! published that a target is for, connects again for as long as it is, and ends when its publisher has been away for a while. Knows no
//! ingest. What a target says can end the connection to it and nothing else.
#![allow(clippy::disallowed_methods, reason = "an I/O room: it owns connections, tasks, and their clock")]

mod dial;
mod endpoint;
mod peer;
mod pull;
mod push;
mod retry;
#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info_span, warn};

use crate::{
    config::PushTarget,
    media::StreamName,
    metrics::Metrics,
    track::{Stream, Streams},
};

pub use dial::Connector;
pub use endpoint::Endpoints;
pub use pull::{PullReport, PullState, Pulls};
use push::Push;

/// Tasks at one time, over all streams and targets: each holds a frame lane's queue, a connection, and what waits to be sent.
const TASKS_MAX: usize = 1_024;

/// How it stands with a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayState {
    Connecting,
    /// The target takes the stream.
    Live,
    /// The connection was lost, or did not come up; another try is waited for.
    Retrying,
}

impl RelayState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Live => "live",
            Self::Retrying => "retrying",
        }
    }
}

/// A target of a stream, as the API shows it.
#[derive(Debug, Clone)]
pub struct RelayReport {
    /// Its URL without the key.
    pub target: String,
    pub state: RelayState,
    /// Since when it is that.
    pub since: SystemTime,
    /// Connections begun so far.
    pub attempts: u32,
    /// Of all connections.
    pub sent_bytes: u64,
    /// What went wrong last, or what is left out, in words.
    pub problem: Option<String>,
}

type Shown = Arc<Mutex<RelayReport>>;

/// See the module.
pub struct Relays {
    targets: Vec<PushTarget>,
    connector: Connector,
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
    /// By stream and number of the target; at most [`TASKS_MAX`].
    pushes: Mutex<HashMap<(StreamName, usize), Shown>>,
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
        streams: Arc<Streams>,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let (pushes, ended, tasks) = (Mutex::default(), Notify::new(), TaskTracker::new());
        Arc::new(Self { targets, connector, streams, metrics, pushes, ended, tasks, stop })
    }

    /// Begins what is wanted, until the server stops. `changes` marks that streams have changed.
    pub async fn run(self: Arc<Self>, mut changes: watch::Receiver<()>) {
        loop {
            for stream in self.streams.all() {
                self.begin(&stream);
            }
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
        let pushes = self.pushes.lock();
        let of_stream = (0..self.targets.len()).filter_map(|target| pushes.get(&(stream.clone(), target)));
        of_stream.map(|shown| shown.lock().clone()).collect()
    }

    fn begin(self: &Arc<Self>, stream: &Arc<Stream>) {
        if !stream.is_live() {
            return;
        }
        for (at, target) in self.targets.iter().enumerate().filter(|(_, target)| target.is_for(stream.name())) {
            let key = (stream.name().clone(), at);
            let mut pushes = self.pushes.lock();
            if pushes.contains_key(&key) {
                continue;
            }
            if pushes.len() >= TASKS_MAX {
                warn!(stream = %stream.name(), target = %target.url, "not sent on: {TASKS_MAX} streams are already");
                continue;
            }
            let shown = Arc::new(Mutex::new(RelayReport {
                target: target.url.to_string(),
                state: RelayState::Connecting,
                since: SystemTime::now(),
                attempts: 0,
                sent_bytes: 0,
                problem: None,
            }));
            pushes.insert(key.clone(), shown.clone());
            drop(pushes);
            let push = Push {
                stream: stream.clone(),
                url: target.url.clone(),
                connector: self.connector.clone(),
                shown,
                metrics: self.metrics.clone(),
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
