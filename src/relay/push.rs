//! One stream on its way to one target: connections, one after the other.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    contained::contained,
    dial::Connector,
    endpoint::Endpoints,
    report::{Live, Shown},
    retry::{Retry, STEADY},
    rtmp, whip,
};
use crate::{
    config::PushUrl,
    track::{Stream, WorkerIndex},
};

/// For how long the target keeps the stream after its publisher has left: encoders that reconnect are back sooner.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the publisher is there.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// A publisher that changes its formats again and again has a session begun so often.
const RENEWAL_INTERVAL: Duration = Duration::from_millis(500);

pub(super) struct Push {
    pub stream: Arc<Stream>,
    pub url: PushUrl,
    pub connector: Connector,
    pub endpoints: Endpoints,
    /// In whose name packets are subscribed to: no worker's, and no other target's of the stream.
    pub worker: WorkerIndex,
    pub shown: Shown,
    pub stop: CancellationToken,
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The stream is not to be sent any more.
    Unwanted,
    /// What is sent now needs another session.
    Outdated,
    /// In words.
    Failed(String),
}

/// Of one connection.
#[derive(Default)]
pub(super) struct Progress {
    live: Option<(Instant, Live)>,
    /// When the publisher was there last.
    heard: Option<Instant>,
}

impl Progress {
    /// The target takes the stream.
    pub(super) fn is_live(&mut self, shown: &Shown) {
        info!("sent on");
        self.live = Some((Instant::now(), shown.live()));
    }

    /// True when the publisher has been away for too long.
    pub(super) fn is_abandoned(&mut self, stream: &Stream) -> bool {
        let now = Instant::now();
        let heard = self.heard.get_or_insert(now);
        if stream.is_live() {
            *heard = now;
        }
        now.saturating_duration_since(*heard) >= AWAY_MAX
    }
}

impl Push {
    /// Until the stream's publisher has gone, or the server stops.
    pub(super) async fn run(self) {
        let mut retry = Retry::default();
        loop {
            self.shown.connecting();
            let mut progress = Progress::default();
            let ended = contained(async {
                match &self.url {
                    PushUrl::Rtmp(url) => rtmp::connection(&self, url, &mut progress).await,
                    PushUrl::Whip(endpoint) => whip::connection(&self, endpoint, &mut progress).await,
                }
            });
            let ended = ended.await.unwrap_or_else(Ended::Failed);
            let reason = match ended {
                Ended::Failed(reason) => reason,
                Ended::Unwanted => {
                    self.shown.ended();
                    return info!("no longer sent on");
                }
                Ended::Outdated => {
                    self.shown.ended();
                    info!("sent on anew, as what is sent has changed");
                    tokio::select! {
                        () = sleep(RENEWAL_INTERVAL) => continue,
                        () = self.stop.cancelled() => return,
                    }
                }
            };
            if progress.live.is_some_and(|(since, _)| since.elapsed() >= STEADY) {
                retry.reset();
            }
            let wait = retry.next();
            warn!("not sent on: {reason}; trying again in {:.1} s", wait.as_secs_f64());
            self.shown.retrying(reason);
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => return,
            }
            if !self.stream.is_live() {
                return info!("no longer sent on: its publisher has left");
            }
        }
    }
}
