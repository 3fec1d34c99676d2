//! The connection against a server of ours at the other end of a pipe, which may stop reading.

use std::{sync::Arc, time::SystemTime};

use tokio::{
    io::DuplexStream,
    task::JoinHandle,
    time::{Duration, Instant as TokioInstant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::{super::report::Shown, *};
use crate::{
    config::PushUrl,
    ingest::rtmp::{Session, testing},
    media::{SessionId, testing::epoch},
    metrics::Metrics,
    relay::{Connector, Endpoints},
    track::{EndReason, LayerIndex, PublisherControl, TrackIndex, WorkerIndex},
};

const PIPE_BYTES: usize = 64 * 1024;
const PICTURE_BYTES: usize = 40_000;

struct Nobody;

impl PublisherControl for Nobody {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}
    fn end(&self, _: EndReason) {}
}

/// A stream with one large keyframe, which goes out whenever a target begins.
struct Near {
    _publisher: testing::Pair,
    push: Push,
}

fn near() -> Near {
    let context = testing::open();
    let mut publisher = testing::live(&context, "cam1");
    let (configuration, pictures) = testing::avc(include_bytes!("../../tests/fixtures/h264/b-frames.264"));
    publisher.video(epoch(), 0, configuration);
    for (at, mut picture) in pictures.into_iter().enumerate() {
        // Filler, so that the pipe is soon full.
        picture.extend((PICTURE_BYTES as u32).to_be_bytes());
        picture.push(12);
        picture.resize(picture.len() + PICTURE_BYTES - 1, 0xff);
        publisher.video(epoch(), 40 * at as u32, picture);
    }
    let push = Push {
        stream: context.streams.get(&"cam1".parse().unwrap()).unwrap(),
        url: PushUrl::Rtmp("rtmp://far.example.net/live/copy".parse().unwrap()),
        connector: Connector::new(false).unwrap(),
        endpoints: Endpoints::new(false).unwrap(),
        worker: WorkerIndex(0),
        shown: Shown::new("far".into(), Metrics::new()),
        stop: CancellationToken::new(),
    };
    Near { _publisher: publisher, push }
}

/// A server at the other end, up to where it has taken the publisher. Then it is for the test to read on.
async fn accept(mut pipe: DuplexStream) -> (DuplexStream, Session) {
    let peer = "192.0.2.7:4000".parse().unwrap();
    let (id, context) = (SessionId::random(), testing::open());
    let mut session = Session::new(context.clone(), id, peer, Arc::new(Nobody), epoch(), SystemTime::now());
    let mut buffer = vec![0; 4_096];
    while context.streams.get(&"copy".parse().unwrap()).is_none_or(|copy| !copy.is_live()) {
        let count = pipe.read(&mut buffer).await.unwrap();
        session.handle_bytes(epoch(), &buffer[..count]);
        pipe.write_all(&session.take_output()).await.unwrap();
    }
    (pipe, session)
}

fn begin(push: Push, pipe: DuplexStream) -> JoinHandle<Ended> {
    tokio::spawn(async move {
        let PushUrl::Rtmp(url) = &push.url else { return Ended::Unwanted };
        drive(&push, url, Box::new(pipe), &mut Progress::default()).await
    })
}

#[tokio::test(start_paused = true)]
async fn a_target_that_takes_nothing_for_10_s_is_given_up() {
    let near = near();
    let shown = near.push.shown.clone();
    let (here, there) = tokio::io::duplex(PIPE_BYTES);
    let driven = begin(near.push, here);
    let (_pipe, _session) = accept(there).await;
    let begun = TokioInstant::now();
    assert_eq!(driven.await.unwrap(), Ended::Failed("it took nothing for 10 s".into()));
    let lasted = begun.elapsed();
    assert!((Duration::from_secs(10)..Duration::from_secs(11)).contains(&lasted), "{lasted:?}");
    assert!(shown.report().sent_bytes >= PIPE_BYTES as u64, "what it took is counted");
}

#[tokio::test(start_paused = true)]
async fn a_target_that_takes_a_little_now_and_then_is_kept() {
    let near = near();
    let (here, there) = tokio::io::duplex(PIPE_BYTES);
    let driven = begin(near.push, here);
    let (mut pipe, _session) = accept(there).await;
    let mut buffer = vec![0; 8_192];
    for _ in 0..8 {
        sleep(Duration::from_secs(5)).await;
        assert!(pipe.read(&mut buffer).await.unwrap() > 0);
    }
    assert!(!driven.is_finished());
    driven.abort();
}

#[tokio::test(start_paused = true)]
async fn a_stalled_target_does_not_outlast_the_server() {
    let near = near();
    let stop = near.push.stop.clone();
    let (here, there) = tokio::io::duplex(PIPE_BYTES);
    let driven = begin(near.push, here);
    let (_pipe, _session) = accept(there).await;
    sleep(Duration::from_secs(2)).await;
    let stopped = TokioInstant::now();
    stop.cancel();
    assert_eq!(driven.await.unwrap(), Ended::Unwanted);
    assert!(stopped.elapsed() < Duration::from_secs(1), "{:?}", stopped.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_a_target_says_is_read_while_it_takes_nothing() {
    let near = near();
    let (here, there) = tokio::io::duplex(PIPE_BYTES);
    let driven = begin(near.push, here);
    let (mut pipe, _session) = accept(there).await;
    sleep(Duration::from_secs(1)).await;
    // Three pipes full of acknowledgements, before it reads on.
    let acknowledgement = [2, 0, 0, 0, 0, 0, 4, 3, 0, 0, 0, 0, 0, 0, 0, 0];
    let said = timeout(Duration::from_secs(5), pipe.write_all(&acknowledgement.repeat(3 * PIPE_BYTES / 16))).await;
    said.expect("nobody reads").unwrap();
    assert!(!driven.is_finished());
    // Pings, of which each wants an answer that it does not take.
    let ping = [2, 0, 0, 0, 0, 0, 6, 4, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0];
    let _ = timeout(Duration::from_secs(5), pipe.write_all(&ping.repeat(8_192))).await;
    assert_eq!(driven.await.unwrap(), Ended::Failed("it asks and asks, and takes no answers".into()));
}
