//! One stream that is encoded anew: an encoder for as long as it is wanted, and another when it has failed.

use std::{
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    EncodingPurpose, ReencodingState, Shared,
    arguments::{Pictures, SAMPLES_MAX, Target, encode},
    feed::{Feed, Group},
    ladder::smaller,
    pipes::Pipes,
    running::{Output, Running},
    units::Units,
};
use crate::{
    codec::PictureSize,
    track::{FRAME_QUEUE_MAX_DELIVERIES, FrameDelivery, FrameInterest, Notice, RenditionKind, Stream},
};

/// How often an encoder is looked at: whether it is wanted, what it costs, how far behind it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Pauses before another encoder begins: between two in any case, and after failures, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// One that has run for so long did not fail at once: the pauses begin anew.
const STEADY_AFTER: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct Job {
    pub stream: Arc<Stream>,
    pub publication: u64,
    pub purpose: EncodingPurpose,
    pub shared: Arc<Shared>,
    pub state: Arc<Mutex<ReencodingState>>,
    pub stop: CancellationToken,
}

/// Why an encoder ended.
pub(super) enum Ended {
    /// Nobody watches any more, or the publisher has gone, or the server stops.
    Unwanted,
    /// Another one is to begin, with what is there then.
    Anew,
    Failed(String),
}

impl Job {
    /// Until it is not wanted any more.
    pub async fn run(self) {
        let mut failures = 0;
        loop {
            let began = Instant::now();
            let ended = self.encode().await;
            self.state.lock().latency = None;
            if began.elapsed() >= STEADY_AFTER {
                failures = 0;
            }
            let pause = match ended {
                // Meanwhile it may be wanted again.
                Ended::Unwanted if !self.is_wanted() => return info!("pictures are not encoded anew any more"),
                Ended::Unwanted | Ended::Anew => PAUSE_MIN,
                Ended::Failed(cause) => {
                    failures += 1;
                    self.fail(cause);
                    (PAUSE_MIN * 2u32.saturating_pow(failures)).min(PAUSE_MAX)
                }
            };
            if !self.rest(pause).await {
                return;
            }
        }
    }

    /// Lets a pause pass. False as soon as nothing is to begin after it: its place is for other streams then, or for the next publisher of
    /// this one, whose pictures may have no fault.
    async fn rest(&self, pause: Duration) -> bool {
        let mut pause = pin!(sleep(pause));
        let mut look = looks();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return false,
                () = &mut pause => return self.is_wanted(),
                _ = look.tick() => if !self.is_wanted() {
                    return false;
                }
            }
        }
    }

    fn fail(&self, cause: String) {
        warn!(cause, "pictures could not be encoded anew");
        self.shared.metrics.reencoder_failures.inc();
        let notice = match self.purpose {
            EncodingPurpose::Replacement => Notice {
                code: "b-frames-dropped",
                text: format!("B-frames are left out, motion is less smooth: encoding without them failed: {cause}"),
            },
            EncodingPurpose::Ladder => Notice {
                code: "ladder-failed",
                text: format!("The picture is there in one size only: making smaller ones failed: {cause}"),
            },
        };
        self.stream.notice(self.publication, notice);
        self.state.lock().failing = Some(cause);
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.shared.wanted(&self.stream, self.purpose) == Some(self.publication)
    }

    /// What is to be made of pictures of that size.
    fn targets(&self, size: PictureSize) -> Vec<(RenditionKind, Target)> {
        match self.purpose {
            EncodingPurpose::Replacement => vec![(RenditionKind::Replacement, Target::Same)],
            EncodingPurpose::Ladder => {
                let rungs = smaller(&self.shared.settings.ladder, size);
                rungs.into_iter().map(|(rid, target)| (RenditionKind::Rung(rid), target)).collect()
            }
        }
    }

    async fn encode(&self) -> Ended {
        let encoder = match self.shared.encoder().await {
            Ok(encoder) => encoder,
            Err(refusals) => return Ended::Failed(format!("no encoder works: {refusals}")),
        };
        let (sender, mut deliveries) = mpsc::channel(FRAME_QUEUE_MAX_DELIVERIES);
        let sink = move |delivery| sender.try_send(delivery).is_ok();
        let _subscription = self.stream.subscribe_frames(FrameInterest::Publisher, Arc::new(sink));
        let mut units = Units::new(self.publication);
        let Some(group) = self.first_group(&mut units, &mut deliveries).await else { return Ended::Unwanted };
        let mut input = BytesMut::new();
        let (feed, pictures) = match Feed::begin(&group, &mut input) {
            Ok(begun) => begun,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let Pictures { size: PictureSize { width, height }, bitrate_bps, .. } = pictures;
        if width.saturating_mul(height) > SAMPLES_MAX {
            return Ended::Failed(format!("pictures of {width}x{height} are too large for it"));
        }
        let (kinds, targets): (Vec<_>, Vec<_>) = self.targets(pictures.size).into_iter().unzip();
        if targets.is_empty() {
            return Ended::Failed(format!("its configuration says {width}x{height}, its pictures say otherwise"));
        }
        let mut made = Vec::with_capacity(kinds.len());
        for kind in kinds {
            match self.stream.begin_rendition(self.publication, kind) {
                Ok(rendition) => made.push(Output::new(rendition)),
                Err(error) => return Ended::Failed(error.to_string()),
            }
        }
        let arguments = encode(encoder, &pictures, &targets);
        let pipes = match Pipes::open(&self.shared.settings.program, arguments, targets.len()) {
            Ok(pipes) => pipes,
            Err(error) => return Ended::Failed(error),
        };
        info!(%encoder, width, height, bitrate_bps, ?targets, "pictures are encoded anew");
        {
            let mut state = self.state.lock();
            (state.encoder, state.starts) = (Some(encoder), state.starts + 1);
        }
        Running::new(self, feed, units, made).drive(pipes, input, deliveries).await
    }

    /// What to begin with, as soon as there is a keyframe; `None` when that is not wanted any more.
    async fn first_group(&self, units: &mut Units, deliveries: &mut mpsc::Receiver<FrameDelivery>) -> Option<Group> {
        let mut look = looks();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                _ = look.tick() => {
                    if !self.is_wanted() {
                        return None;
                    }
                    self.ask_for_keyframe(units);
                }
                delivery = deliveries.recv() => {
                    let group = Group::last_of(&units.take(Instant::now(), delivery?).ok()?);
                    if group.is_some() {
                        return group;
                    }
                }
            }
        }
    }

    /// Where the publisher sends one when asked, and nothing can be decoded without.
    pub(super) fn ask_for_keyframe(&self, units: &Units) {
        if let Some((track, layer)) = units.wants_keyframe_of() {
            self.stream.request_keyframe(Instant::now(), track, layer);
        }
    }
}

pub(super) fn looks() -> tokio::time::Interval {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}

#[cfg(test)]
mod tests {
    use std::{path::PathBuf, time::SystemTime};

    use sluice_signaling::priority::Priority;
    use tokio::{sync::OnceCell, time};

    use super::{super::ReencodingSettings, *};
    use crate::{
        config::{Encoder, OnConflict},
        media::{Codec, SessionId, TrackFormat},
        metrics::Metrics,
        track::{
            Delivery, EndReason, LayerIndex, PacketSink, Protocol, Publication, PublisherControl, PublisherInfo,
            Streams, TrackIndex, WorkerIndex,
        },
    };

    struct Nobody;

    impl PublisherControl for Nobody {
        fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}

        fn end(&self, _: EndReason) {}
    }

    impl PacketSink for Nobody {
        fn deliver(&self, _: &Arc<Stream>, _: Delivery) -> bool {
            true
        }
    }

    /// A publisher with B-frames.
    fn publish(streams: &Streams) -> Publication {
        let info = PublisherInfo {
            session: SessionId::random(),
            protocol: Protocol::Rtmp,
            priority: Priority::default(),
            remote: ([127, 0, 0, 1], 9).into(),
            user_agent: String::new(),
            subject: None,
        };
        let name = "cam".parse().unwrap();
        let since = SystemTime::UNIX_EPOCH;
        let mut publication = streams.publish(&name, info, Arc::new(Nobody), OnConflict::Takeover, since).unwrap();
        publication.add_track(TrackFormat { codec: Codec::H264, fmtp: String::new(), channels: 1 }).unwrap();
        publication.set_reordered(true).unwrap();
        publication
    }

    /// That of the first publication, which somebody watches.
    fn job(stream: &Arc<Stream>) -> Job {
        stream.subscribe(WorkerIndex(0), Arc::new(Nobody));
        let settings = ReencodingSettings {
            program: PathBuf::from("/nowhere/ffmpeg"),
            encoder: Encoder::Auto,
            streams_max: 1,
            b_frames: true,
            ladder: Vec::new(),
        };
        let shared = Shared { settings, metrics: Metrics::new(), encoder: OnceCell::new() };
        let state = ReencodingState {
            encoder: None,
            since: SystemTime::UNIX_EPOCH,
            latency: None,
            cpu_share: None,
            starts: 0,
            failing: None,
        };
        Job {
            stream: stream.clone(),
            publication: 1,
            purpose: EncodingPurpose::Replacement,
            shared: Arc::new(shared),
            state: Arc::new(Mutex::new(state)),
            stop: CancellationToken::new(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_another_publisher_has_the_stream() {
        let streams = Streams::default();
        let first = publish(&streams);
        let job = job(first.stream());
        let began = time::Instant::now();
        assert!(job.rest(PAUSE_MAX).await, "it is wanted still");
        assert!(began.elapsed() >= PAUSE_MAX);
        let other = async {
            sleep(Duration::from_secs(3)).await;
            publish(&streams)
        };
        let began = time::Instant::now();
        let (goes_on, _second) = tokio::join!(job.rest(PAUSE_MAX), other);
        assert!(!goes_on);
        assert!(began.elapsed() <= Duration::from_secs(3) + LOOK_INTERVAL, "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_ends_when_nobody_watches() {
        let streams = Streams::default();
        let publication = publish(&streams);
        let job = job(publication.stream());
        let leave = async {
            sleep(Duration::from_secs(3)).await;
            publication.stream().unsubscribe(WorkerIndex(0));
        };
        let began = time::Instant::now();
        let (goes_on, ()) = tokio::join!(job.rest(PAUSE_MAX), leave);
        assert!(!goes_on);
        assert!(began.elapsed() <= Duration::from_secs(3) + LOOK_INTERVAL, "{:?}", began.elapsed());
    }
}
