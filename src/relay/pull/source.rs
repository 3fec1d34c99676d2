//! One source: when it is connected, and when again.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sluice_signaling::priority::Priority;
use tokio::{sync::watch, time::sleep};
use tracing::{info, warn};

use super::{Phase, PullState, Pulls, Source, rtmp, whep};
use crate::{
    config::SourceUrl,
    ingest::PullEnding,
    relay::{
        contained::contained,
        retry::{LONGEST, Retry, STEADY},
    },
    track::EndReason,
};

/// How often it is looked whether the stream is wanted, where nothing else says so.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Of a stream whose pictures or whose sound are known, the other kind is waited for so long: sources begin with both, or have one only.
const SECOND_KIND_WAIT: Duration = Duration::from_millis(300);

pub(super) struct SourceTask {
    pub source: Arc<Source>,
    pub pulls: Arc<Pulls>,
    /// Marks that streams have changed.
    pub changes: watch::Receiver<()>,
}

/// How a connection ended.
pub(super) enum Ended {
    /// Nobody wants the stream any more, or the server stops.
    Unwanted,
    /// It ended by itself, or did not begin.
    Lost(PullEnding),
}

/// A connection's standing, as its driver tells it.
pub(super) struct Standing<'a> {
    source: &'a Source,
    pulls: &'a Pulls,
    live_since: Option<Instant>,
    /// Since when its pictures are known, or its sound.
    first_kind_at: Option<Instant>,
    /// Those who wait for the stream were told.
    decided: bool,
    retry_after: Option<Duration>,
}

impl SourceTask {
    /// Until the server stops.
    pub(super) async fn run(mut self) {
        let mut retry = Retry::default();
        loop {
            let Some(was_idle) = self.idle().await else { return };
            let Some(was_taken) = self.waits_for_others().await else { return };
            if was_idle || was_taken {
                // Whoever wants it now has not waited for it yet.
                retry.reset();
            }
            // Meanwhile nobody may want it any more.
            if !self.source.is_wanted() {
                continue;
            }
            self.source.phase.send_replace(Phase::Coming);
            self.source.show(PullState::Connecting, |report| report.attempts += 1);
            let source = self.source.clone();
            let mut standing = Standing::new(&source, &self.pulls);
            let ended = contained(async {
                match &source.settings.url {
                    SourceUrl::Rtmp(url) => rtmp::fetch(url, &mut standing).await,
                    SourceUrl::Whep(endpoint) => whep::fetch(endpoint, &mut standing).await,
                }
            });
            let ended = ended.await.unwrap_or_else(|reason| Ended::Lost(PullEnding::Failed(reason)));
            let live_for = standing.live_since.map(|since| since.elapsed());
            let asked = standing.retry_after.map_or(Duration::ZERO, |asked| asked.min(LONGEST));
            standing.end();
            let ending = match ended {
                Ended::Unwanted if self.pulls.stop.is_cancelled() => {
                    return self.pulls.metrics.count_relay("pull", "ended");
                }
                Ended::Unwanted => {
                    info!("left: nobody wants the stream any more");
                    self.pulls.metrics.count_relay("pull", "ended");
                    retry.reset();
                    continue;
                }
                Ended::Lost(ending) => ending,
            };
            // Whoever publishes now has it for as long as it likes.
            if matches!(ending, PullEnding::Busy | PullEnding::Ended(EndReason::Superseded)) {
                info!("left: somebody else publishes the stream");
                self.pulls.metrics.count_relay("pull", "ended");
                self.source.phase.send_replace(Phase::Decided);
                retry.reset();
                continue;
            }
            let is_failure = !matches!(ending, PullEnding::Over(_) | PullEnding::Ended(_));
            self.pulls.metrics.count_relay("pull", if is_failure { "failed" } else { "ended" });
            if live_for.is_some_and(|time| time >= STEADY) {
                retry.reset();
            }
            let wait = retry.next().max(asked);
            warn!("not fetched: {ending}; trying again in {:.1} s", wait.as_secs_f64());
            self.source.show(PullState::Retrying, |report| {
                report.problem = Some(ending.to_string());
                report.last_failure = Some((ending.to_string(), SystemTime::now()));
            });
            self.source.phase.send_replace(Phase::Decided);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.pulls.stop.cancelled() => return,
            }
        }
    }

    /// Returns when the stream is wanted, and whether it was not before; `None`: the server stops.
    async fn idle(&self) -> Option<bool> {
        let mut was_idle = false;
        while !self.source.is_wanted() {
            was_idle = true;
            self.source.show(PullState::Idle, |report| report.problem = None);
            self.source.phase.send_replace(Phase::Coming);
            tokio::select! {
                () = self.source.wish.notified() => {}
                () = sleep(LOOK_INTERVAL) => {}
                () = self.pulls.stop.cancelled() => return None,
            }
        }
        Some(was_idle)
    }

    /// Returns when nobody else publishes the stream, with whether somebody did; `None`: the server stops.
    async fn waits_for_others(&mut self) -> Option<bool> {
        let mut was_taken = false;
        while self.source.stream.has_publisher(Priority::default()) {
            was_taken = true;
            self.source.show(PullState::Waiting, |report| report.problem = None);
            self.source.phase.send_replace(Phase::Decided);
            tokio::select! {
                changed = self.changes.changed() => changed.ok()?,
                () = sleep(LOOK_INTERVAL) => {}
                () = self.pulls.stop.cancelled() => return None,
            }
        }
        Some(was_taken)
    }
}

impl<'a> Standing<'a> {
    pub(super) fn new(source: &'a Source, pulls: &'a Pulls) -> Self {
        Self { source, pulls, live_since: None, first_kind_at: None, decided: false, retry_after: None }
    }

    pub(super) fn source(&self) -> &'a Source {
        self.source
    }

    pub(super) fn pulls(&self) -> &'a Pulls {
        self.pulls
    }

    /// The source has said when it wants to be asked again.
    pub(super) fn retry_after(&mut self, wait: Option<Duration>) {
        self.retry_after = wait;
    }

    /// Bytes came.
    pub(super) fn received(&self, bytes: usize) {
        self.pulls.metrics.relay_bytes.received.inc_by(bytes as u64);
        self.source.report.lock().received_bytes += bytes as u64;
    }

    /// The source's stream is published here. To be called again and again: those who wait are told when there is enough to answer them with.
    pub(super) fn live(&mut self) {
        if self.live_since.is_none() {
            self.live_since = Some(Instant::now());
            self.pulls.metrics.count_relay("pull", "live");
            self.pulls.metrics.relays("pull").inc();
            self.show_live();
        }
        if self.decided {
            return;
        }
        let Some(formats) = self.source.stream.formats() else { return };
        let first_kind_at = *self.first_kind_at.get_or_insert_with(Instant::now);
        if formats.len() > 1 || first_kind_at.elapsed() >= SECOND_KIND_WAIT {
            self.decided = true;
            self.source.phase.send_replace(Phase::Decided);
        }
    }

    fn show_live(&self) {
        let state = if self.source.is_on_air() { PullState::Live } else { PullState::StandingBy };
        self.source.show(state, |report| report.problem = None);
    }

    /// Whether it goes on; to be asked every [`LOOK_INTERVAL`], for it is also looked whether it is on air. Whoever wants the stream from now on
    /// waits for the next connection.
    pub(super) fn is_wanted(&self) -> bool {
        if self.live_since.is_some() {
            self.show_live();
        }
        let wanted = self.source.is_wanted();
        if !wanted {
            self.source.phase.send_replace(Phase::Coming);
        }
        wanted
    }

    /// When [`Self::live`] is due at the latest.
    pub(super) fn due(&self) -> Option<Instant> {
        let since = self.first_kind_at.filter(|_| !self.decided)?;
        Some(since + SECOND_KIND_WAIT)
    }

    fn end(self) {
        if self.live_since.is_some() {
            self.pulls.metrics.relays("pull").dec();
        }
    }
}
