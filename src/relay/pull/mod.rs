//! Streams fetched from other servers (`relay.pull`), in a task for each source.
//!
//! In: what other servers play. Out: publications in the track tree, like those of publishers that come by themselves. A source is connected
//! all the time, or (`on-demand`) while somebody wants its stream: the HTTP room says so, and how many watch says the tree. What is pushed or
//! stored is no wish: that is for whatever comes. A source is a primary publisher that never takes another one's place: while there is one, it
//! waits. A backup keeps no source away, or one that was lost would not get its stream back: it is connected, stands by, and is handed over to.

mod rtmp;
mod source;
#[cfg(test)]
mod tests;
mod whep;

use std::{
    collections::HashMap,
    convert::Infallible,
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{Instrument, info_span};

use super::{
    Connector, Endpoints,
    path::{NodeId, Path},
};
use crate::{
    config::PullSource,
    media::StreamName,
    metrics::Metrics,
    track::{Protocol, Stream, Streams},
};
use source::{LOOK_INTERVAL, SourceTask};

/// How long a request is held that wants a stream whose source is not connected yet.
const HELD_MAX: Duration = Duration::from_secs(5);
/// A source is left when nobody has wanted its stream for so long.
const UNWANTED_AFTER: Duration = Duration::from_secs(10);

/// How it stands with a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullState {
    /// On demand, and nobody wants it.
    Idle,
    /// Another primary publishes the stream.
    Waiting,
    Connecting,
    /// What it sends is ready to take over from a backup publisher, which is on air.
    StandingBy,
    /// The stream comes from it.
    Live,
    /// The connection was lost, or did not come up; another try is waited for.
    Retrying,
}

impl PullState {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Waiting => "waiting",
            Self::Connecting => "connecting",
            Self::StandingBy => "standby",
            Self::Live => "live",
            Self::Retrying => "retrying",
        }
    }
}

/// A stream's source, as the API shows it.
#[derive(Debug, Clone)]
pub struct PullReport {
    /// Its URL without what may be secret.
    pub source: String,
    pub on_demand: bool,
    pub state: PullState,
    /// Since when it is that.
    pub since: SystemTime,
    /// Connections begun so far.
    pub attempts: u32,
    /// Of all connections.
    pub received_bytes: u64,
    /// What is wrong now, in words.
    pub problem: Option<String>,
    /// What went wrong last, and when, whatever came after it.
    pub last_failure: Option<(String, SystemTime)>,
}

/// Where a source's task is, for those who wait for its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Nobody has wanted it, or its connection is on its way, or what it sends is not known yet.
    Coming,
    /// Viewers can be answered: it is live, or it will not be for now.
    Decided,
}

/// A source, for its task and for those who ask about it.
struct Source {
    settings: PullSource,
    /// Kept, so that the stream is known while nobody publishes it.
    stream: Arc<Stream>,
    report: Mutex<PullReport>,
    phase: watch::Sender<Phase>,
    /// When somebody wanted it last.
    wanted: Mutex<Option<Instant>>,
    wish: Notify,
    published: Mutex<Published>,
    /// Which nodes its session's stream comes through, as the answer by WHEP said.
    path: Mutex<Path>,
}

/// Whether a stream has a publisher here, as it was looked last, and when it had one last.
#[derive(Debug, Default)]
struct Published {
    is_live: bool,
    last: Option<Instant>,
}

impl Source {
    /// Somebody wants the stream now.
    fn want(&self) {
        *self.wanted.lock() = Some(Instant::now());
        self.wish.notify_one();
    }

    /// Whether it is to be connected. Who watches wants it.
    fn is_wanted(&self) -> bool {
        let mut wanted = self.wanted.lock();
        if self.stream.viewer_count() > 0 {
            *wanted = Some(Instant::now());
        }
        !self.settings.on_demand || wanted.is_some_and(|last| last.elapsed() < UNWANTED_AFTER)
    }

    /// What the stream's viewers get comes from it.
    fn is_on_air(&self) -> bool {
        matches!(self.stream.on_air(), Some(Protocol::RtmpPull | Protocol::WhepPull))
    }

    /// For how long the stream has had no publisher here, the source's sessions included; `None`: it had none.
    fn published_ago(&self) -> Option<Duration> {
        let mut published = self.published.lock();
        let was_live = std::mem::replace(&mut published.is_live, self.stream.is_live());
        // One that has gone went after the last look.
        if was_live || published.is_live {
            published.last = Some(Instant::now());
        }
        published.last.map(|last| last.elapsed())
    }

    fn show(&self, state: PullState, change: impl FnOnce(&mut PullReport)) {
        let mut report = self.report.lock();
        if report.state != state {
            (report.state, report.since) = (state, SystemTime::now());
        }
        change(&mut report);
    }
}

/// All sources. One per server.
pub struct Pulls {
    /// As many as `relay.pull` has.
    sources: HashMap<StreamName, Arc<Source>>,
    connector: Connector,
    endpoints: Endpoints,
    streams: Arc<Streams>,
    metrics: Arc<Metrics>,
    reencodes: bool,
    /// This server's.
    node: NodeId,
    stop: CancellationToken,
}

impl fmt::Debug for Pulls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pulls").field("sources", &self.sources.len()).finish_non_exhaustive()
    }
}

impl Pulls {
    /// `reencodes`: streams with B-frames are encoded anew for WebRTC viewers.
    pub fn new(
        sources: Vec<PullSource>,
        (connector, endpoints): (Connector, Endpoints),
        streams: Arc<Streams>,
        metrics: Arc<Metrics>,
        reencodes: bool,
        stop: CancellationToken,
    ) -> Arc<Self> {
        let source = |settings: PullSource| {
            let state = if settings.on_demand { PullState::Idle } else { PullState::Connecting };
            let report = PullReport {
                source: settings.url.to_string(),
                on_demand: settings.on_demand,
                state,
                since: SystemTime::now(),
                attempts: 0,
                received_bytes: 0,
                problem: None,
                last_failure: None,
            };
            let source = Source {
                stream: streams.get_or_create(&settings.stream),
                report: Mutex::new(report),
                phase: watch::Sender::new(Phase::Coming),
                wanted: Mutex::default(),
                wish: Notify::new(),
                published: Mutex::default(),
                path: Mutex::default(),
                settings,
            };
            (source.settings.stream.clone(), Arc::new(source))
        };
        let sources = sources.into_iter().map(source).collect();
        Arc::new(Self { sources, connector, endpoints, streams, metrics, reencodes, node: NodeId::random(), stop })
    }

    /// Fetches what is to be fetched, until the server stops. `changes` marks that streams have changed.
    pub async fn run(self: Arc<Self>, changes: watch::Receiver<()>) {
        let tasks = TaskTracker::new();
        for source in self.sources.values() {
            let span = info_span!("pull", stream = %source.settings.stream, source = %source.settings.url);
            let task = SourceTask { source: source.clone(), pulls: self.clone(), changes: changes.clone() };
            tasks.spawn(task.run().instrument(span));
        }
        tasks.close();
        tokio::select! {
            () = tasks.wait() => {}
            never = self.watch_publishers(changes) => match never {},
        }
    }

    /// Keeps in mind when streams that are fetched by WHEP had publishers, also while their sources' tasks wait for something else.
    async fn watch_publishers(&self, mut changes: watch::Receiver<()>) -> Infallible {
        loop {
            for source in self.sources.values().filter(|source| !source.settings.is_rtmp()) {
                source.published_ago();
            }
            tokio::select! {
                Ok(()) = changes.changed() => {}
                () = sleep(LOOK_INTERVAL) => {}
            }
        }
    }

    /// Which nodes the stream comes through, this one last, for those who fetch it from here ([`PATH_HEADER`](super::PATH_HEADER)).
    pub fn path(&self, stream: &StreamName) -> String {
        let source = self.sources.get(stream).filter(|source| source.stream.on_air() == Some(Protocol::WhepPull));
        let path = source.map_or_else(Path::default, |source| source.path.lock().clone());
        path.through(self.node).to_string()
    }

    /// The stream's source, if it has one.
    pub fn report(&self, stream: &StreamName) -> Option<PullReport> {
        Some(self.sources.get(stream)?.report.lock().clone())
    }

    /// The stream's source is connected when somebody [wants](Self::want) it.
    pub fn is_on_demand(&self, stream: &StreamName) -> bool {
        self.sources.get(stream).is_some_and(|source| source.settings.on_demand)
    }

    /// Why a stream is not live that is fetched from elsewhere; `None` where it has no source.
    pub fn why_not_live(&self, stream: &StreamName) -> Option<String> {
        let PullReport { source, problem, .. } = self.report(stream)?;
        Some(format!("the source {source}: {}", problem.as_deref().unwrap_or("it has not sent anything yet")))
    }

    /// Somebody wants to watch the stream, and may. Where that needs a source that is connected on demand, what is returned ends when the stream's
    /// formats are known, or the source has failed, after [`HELD_MAX`] at the latest; `None`: there is nothing to wait for.
    pub fn want(&self, stream: &StreamName) -> Option<impl Future<Output = ()>> {
        let source = self.sources.get(stream).filter(|source| source.settings.on_demand)?;
        let mut phase = source.phase.subscribe();
        source.want();
        if source.stream.formats().is_some() {
            return None;
        }
        Some(async move {
            let decided = phase.wait_for(|phase| *phase == Phase::Decided);
            tokio::select! {
                _ = timeout(HELD_MAX, decided) => {}
                () = self.stop.cancelled() => {}
            }
        })
    }
}
