//! One stream on its way to one target.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{sleep, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    RelayState, Shown,
    dial::{Connection, Connector},
    retry::{Retry, STEADY},
};
use crate::{
    config::RtmpUrl,
    egress::rtmp::{Feed, PublishClient, PublishState},
    metrics::Metrics,
    track::{FRAME_QUEUE_MAX_DELIVERIES, FrameDelivery, FrameInterest, FrameSubscription, Stream},
};

/// For how long the target keeps the stream after its publisher has left: encoders that reconnect are back sooner.
const AWAY_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether the publisher is there.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// How long a target may take to read what it is sent. Meanwhile frames wait in the lane's queue, which is bounded.
const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// Targets want to begin anywhere; WebRTC publishers send keyframes when asked only.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(2);
/// What a target says are some hundred bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// To say goodbye in.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(500);

pub(super) struct Push {
    pub stream: Arc<Stream>,
    pub url: RtmpUrl,
    pub connector: Connector,
    pub shown: Shown,
    pub metrics: Arc<Metrics>,
    pub stop: CancellationToken,
}

/// How a connection ended.
enum Ended {
    /// The stream is not to be sent any more.
    Unwanted,
    /// In words.
    Failed(String),
}

impl Push {
    /// Until the stream's publisher has gone, or the server stops.
    pub(super) async fn run(self) {
        let mut retry = Retry::default();
        loop {
            self.show(RelayState::Connecting, |report| report.attempts += 1);
            let mut live_since = None;
            let ended = self.connection(&mut live_since).await;
            let Ended::Failed(reason) = ended else {
                self.metrics.count_relay("push", "ended");
                return info!("no longer sent on");
            };
            self.metrics.count_relay("push", "failed");
            if live_since.is_some_and(|since: Instant| since.elapsed() >= STEADY) {
                retry.reset();
            }
            let wait = retry.next();
            warn!("not sent on: {reason}; trying again in {:.1} s", wait.as_secs_f64());
            self.show(RelayState::Retrying, |report| report.problem = Some(reason));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stop.cancelled() => return,
            }
            if !self.stream.is_live() {
                return info!("no longer sent on: its publisher has left");
            }
        }
    }

    fn show(&self, state: RelayState, change: impl FnOnce(&mut super::RelayReport)) {
        let mut report = self.shown.lock();
        if report.state != state {
            (report.state, report.since) = (state, SystemTime::now());
        }
        change(&mut report);
    }

    async fn connection(&self, live_since: &mut Option<Instant>) -> Ended {
        let connected = tokio::select! {
            connected = self.connector.connect(&self.url) => connected,
            () = self.stop.cancelled() => return Ended::Unwanted,
        };
        let mut connection = match connected {
            Ok(connection) => connection,
            Err(reason) => return Ended::Failed(reason),
        };
        let mut client = PublishClient::new(self.url.clone(), Instant::now());
        let ended = self.drive(&mut *connection, &mut client, live_since).await;
        if live_since.is_some() {
            self.metrics.relays.dec();
        }
        client.say_goodbye();
        let _ = timeout(GOODBYE_DEADLINE, async {
            connection.write_all(&client.take_output()).await?;
            connection.shutdown().await
        })
        .await;
        ended
    }

    async fn drive(
        &self,
        connection: &mut dyn Connection,
        client: &mut PublishClient,
        live_since: &mut Option<Instant>,
    ) -> Ended {
        let mut feed = Feed::default();
        let mut lane: Option<(FrameSubscription, mpsc::Receiver<FrameDelivery>)> = None;
        let mut buffer = vec![0; READ_BUFFER_BYTES];
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let mut heard = Instant::now();
        let mut keyframe_due = Instant::now();
        loop {
            let output = client.take_output();
            if !output.is_empty() {
                match timeout(WRITE_DEADLINE, connection.write_all(&output)).await {
                    Ok(Ok(())) => self.count(output.len()),
                    Ok(Err(error)) => return Ended::Failed(format!("the connection is lost: {error}")),
                    Err(_) => return Ended::Failed("it took nothing for 10 s".into()),
                }
            }
            match client.state() {
                PublishState::Failed(reason) => return Ended::Failed(reason.clone()),
                PublishState::Live if lane.is_none() => {
                    *live_since = Some(Instant::now());
                    info!("sent on");
                    self.metrics.count_relay("push", "live");
                    self.metrics.relays.inc();
                    self.show(RelayState::Live, |report| report.problem = None);
                    lane = Some(subscribe(&self.stream));
                }
                _ => {}
            }
            let due = [client.poll_timeout(), feed.poll_timeout()].into_iter().flatten().min();
            tokio::select! {
                read = connection.read(&mut buffer) => match read {
                    Ok(0) => return Ended::Failed("it closed the connection".into()),
                    Ok(count) => client.handle_bytes(buffer.get(..count).unwrap_or_default()),
                    Err(error) => return Ended::Failed(format!("the connection is lost: {error}")),
                },
                Some(delivery) = next(&mut lane) => feed.take(Instant::now(), delivery),
                _ = look.tick() => {}
                () = wait_until(due) => {
                    client.handle_timeout(Instant::now());
                    feed.handle_timeout(Instant::now());
                }
                () = self.stop.cancelled() => return Ended::Unwanted,
            }
            while let Some(outgoing) = feed.poll() {
                client.send(outgoing);
            }
            let now = Instant::now();
            if self.stream.is_live() {
                heard = now;
            } else if now >= heard + AWAY_MAX {
                return Ended::Unwanted;
            }
            if now >= keyframe_due
                && let Some((track, layer)) = feed.wants_keyframes_of()
            {
                keyframe_due = now + KEYFRAME_INTERVAL;
                self.stream.request_keyframe(now, track, layer);
            }
            if lane.is_some() {
                let problem = feed.refusal().map(str::to_owned);
                let mut report = self.shown.lock();
                if report.problem != problem {
                    if let Some(problem) = &problem {
                        warn!("{problem}");
                    }
                    report.problem = problem;
                }
            }
        }
    }

    fn count(&self, bytes: usize) {
        self.metrics.relay_bytes.sent.inc_by(bytes as u64);
        self.shown.lock().sent_bytes += bytes as u64;
    }
}

fn subscribe(stream: &Arc<Stream>) -> (FrameSubscription, mpsc::Receiver<FrameDelivery>) {
    let (sender, deliveries) = mpsc::channel(FRAME_QUEUE_MAX_DELIVERIES);
    let sink = move |delivery| sender.try_send(delivery).is_ok();
    (stream.subscribe_frames(FrameInterest::Publisher, Arc::new(sink)), deliveries)
}

async fn next(lane: &mut Option<(FrameSubscription, mpsc::Receiver<FrameDelivery>)>) -> Option<FrameDelivery> {
    match lane {
        Some((_, deliveries)) => deliveries.recv().await,
        None => std::future::pending().await,
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
