//! A connection to an RTMP target, from its opening to its end.

use std::{
    future::pending,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant as TokioInstant, sleep_until, timeout},
};

use super::{
    dial::Connection,
    push::{Ended, LOOK_INTERVAL, Progress, Push},
    wait_until,
};
use crate::{
    config::RtmpUrl,
    egress::rtmp::{Feed, PublishClient, PublishState},
    track::{FRAME_QUEUE_MAX_DELIVERIES, FrameDelivery, FrameInterest, FrameSubscription, Stream},
};

/// How long a target may take nothing of what it is sent. Meanwhile frames wait in the lane's queue, which is bounded.
const STALL_DEADLINE: Duration = Duration::from_secs(10);
/// Targets want to begin anywhere; WebRTC publishers send keyframes when asked only.
const KEYFRAME_INTERVAL: Duration = Duration::from_secs(2);
/// What a target says are some hundred bytes.
const READ_BUFFER_BYTES: usize = 4 * 1024;
/// Of answers to what a target says, while it takes none: they are acknowledgements and pongs, of 16 bytes each.
const ANSWERS_MAX_BYTES: usize = 64 * 1024;
/// To say goodbye in.
const GOODBYE_DEADLINE: Duration = Duration::from_millis(500);

/// What is being written.
struct Outbox {
    rest: Bytes,
    /// All is handed over, and some of it may wait in the TLS layer.
    flushes: bool,
    /// When something was taken last.
    moved: TokioInstant,
}

/// Until the stream ends, or the connection.
pub(super) async fn connection(push: &Push, url: &RtmpUrl, progress: &mut Progress) -> Ended {
    let connected = tokio::select! {
        connected = push.connector.connect(url) => connected,
        () = push.stop.cancelled() => return Ended::Unwanted,
    };
    match connected {
        Ok(connection) => drive(push, url, connection, progress).await,
        Err(reason) => Ended::Failed(reason),
    }
}

async fn drive(push: &Push, url: &RtmpUrl, mut connection: Box<dyn Connection>, progress: &mut Progress) -> Ended {
    let mut client = PublishClient::new(url.clone(), Instant::now());
    let mut outbox = Outbox { rest: Bytes::new(), flushes: false, moved: TokioInstant::now() };
    let ended = exchange(push, &mut *connection, &mut client, &mut outbox, progress).await;
    client.say_goodbye();
    // What is half sent goes first, or nobody would understand what comes after it.
    let _ = timeout(GOODBYE_DEADLINE, async {
        connection.write_all(&outbox.rest).await?;
        connection.write_all(&client.take_output()).await?;
        connection.shutdown().await
    })
    .await;
    ended
}

async fn exchange(
    push: &Push,
    connection: &mut dyn Connection,
    client: &mut PublishClient,
    outbox: &mut Outbox,
    progress: &mut Progress,
) -> Ended {
    let (mut reader, mut writer) = tokio::io::split(connection);
    let mut feed = Feed::default();
    let mut lane: Option<(FrameSubscription, mpsc::Receiver<FrameDelivery>)> = None;
    let mut buffer = vec![0; READ_BUFFER_BYTES];
    let mut look = tokio::time::interval(LOOK_INTERVAL);
    let mut keyframe_due = Instant::now();
    loop {
        match client.state() {
            PublishState::Failed(reason) => return Ended::Failed(reason.clone()),
            PublishState::Live if lane.is_none() => {
                progress.is_live(&push.shown);
                lane = Some(subscribe(&push.stream));
            }
            _ => {}
        }
        if outbox.is_idle() {
            while let Some(outgoing) = feed.poll() {
                client.send(outgoing);
            }
            outbox.fill(client.take_output());
        } else if client.output_bytes() > ANSWERS_MAX_BYTES {
            return Ended::Failed("it asks and asks, and takes no answers".into());
        }
        let is_idle = outbox.is_idle();
        let stalled_at = outbox.moved + STALL_DEADLINE;
        let due = [client.poll_timeout(), feed.poll_timeout()].into_iter().flatten().min();
        tokio::select! {
            written = outbox.write(&mut writer), if !is_idle => match written {
                Ok(count) => push.shown.sent(count as u64),
                Err(error) => return Ended::Failed(format!("the connection is lost: {error}")),
            },
            () = sleep_until(stalled_at), if !is_idle => {
                return Ended::Failed("it took nothing for 10 s".into());
            }
            read = reader.read(&mut buffer) => match read {
                Ok(0) => return Ended::Failed("it closed the connection".into()),
                Ok(count) => client.handle_bytes(buffer.get(..count).unwrap_or_default()),
                Err(error) => return Ended::Failed(format!("the connection is lost: {error}")),
            },
            Some(delivery) = next(&mut lane), if is_idle => feed.take(Instant::now(), delivery),
            _ = look.tick() => {}
            () = wait_until(due) => {
                client.handle_timeout(Instant::now());
                feed.handle_timeout(Instant::now());
            }
            () = push.stop.cancelled() => return Ended::Unwanted,
        }
        if progress.is_abandoned(&push.stream) {
            return Ended::Unwanted;
        }
        let now = Instant::now();
        if now >= keyframe_due
            && let Some((track, layer)) = feed.wants_keyframes_of()
        {
            keyframe_due = now + KEYFRAME_INTERVAL;
            push.stream.request_keyframe(now, track, layer);
        }
        if lane.is_some() {
            push.shown.leaves_out(feed.refusal());
        }
    }
}

impl Outbox {
    fn is_idle(&self) -> bool {
        self.rest.is_empty() && !self.flushes
    }

    fn fill(&mut self, bytes: Vec<u8>) {
        if !bytes.is_empty() {
            (self.rest, self.moved) = (bytes.into(), TokioInstant::now());
        }
    }

    /// Hands over as much as is taken at once; dropped before it is done, it has handed over nothing.
    async fn write(&mut self, writer: &mut (impl AsyncWriteExt + Unpin)) -> std::io::Result<usize> {
        let count = if self.rest.is_empty() {
            writer.flush().await?;
            self.flushes = false;
            0
        } else {
            let count = writer.write(&self.rest).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            self.rest.advance(count);
            self.flushes = self.rest.is_empty();
            count
        };
        self.moved = TokioInstant::now();
        Ok(count)
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
        None => pending().await,
    }
}

#[cfg(test)]
#[path = "rtmp_tests.rs"]
mod tests;
