//! One stream that is encoded anew: an encoder for as long as it is wanted, and another when it has failed.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStderr, ChildStdin, ChildStdout},
    sync::mpsc,
    time::{MissedTickBehavior, interval, sleep},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    ReencodingState, Shared,
    arguments::{Pictures, SAMPLES_MAX, encode},
    feed::{Feed, Group},
    flv::{FlvReader, Tag},
    program::command,
    usage::Usage,
};
use crate::{
    media::CaptureTime,
    rtp::rtcp::NtpTime,
    track::{
        AvcPackets, FRAME_QUEUE_MAX_DELIVERIES, FrameDelivery, Notice, Originals, PicturePackets, Rendition, Stream,
    },
};

/// How long an encoder goes on without viewers: a page that is loaded anew should find it.
const LINGER: Duration = Duration::from_secs(10);
/// How often it is looked at: whether it is wanted, what it costs, how far behind it is.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// Pauses before another encoder begins: between two in any case, and after failures, doubled each time.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// One that has run for so long did not fail at once: the pauses begin anew.
const STEADY_AFTER: Duration = Duration::from_secs(60);
/// An encoder that gives nothing for so long, though it is fed, does not work.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Pictures that come later than this, for so long, are not live: the machine is too slow.
const LATENCY_MAX: Duration = Duration::from_secs(2);
const LATE_MAX: Duration = Duration::from_secs(5);
/// What waits for the encoder at the most: a group of pictures that is kept for joins, and as much again.
const INPUT_MAX_BYTES: usize = 32 * 1024 * 1024;
/// Read at a time.
const READ_BYTES: usize = 64 * 1024;
/// Lines of an encoder's complaints that are kept.
const COMPLAINTS_MAX: usize = 4;

/// See the module.
pub(super) struct Job {
    pub stream: Arc<Stream>,
    pub publication: u64,
    pub shared: Arc<Shared>,
    pub state: Arc<Mutex<ReencodingState>>,
    pub stop: CancellationToken,
}

/// Why an encoder ended.
enum Ended {
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
                Ended::Unwanted => return info!("pictures are not encoded anew any more"),
                Ended::Anew => PAUSE_MIN,
                Ended::Failed(cause) => {
                    failures += 1;
                    self.fail(cause);
                    (PAUSE_MIN * 2u32.saturating_pow(failures)).min(PAUSE_MAX)
                }
            };
            tokio::select! {
                () = self.stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            if !self.is_wanted() {
                return;
            }
        }
    }

    fn fail(&self, cause: String) {
        warn!(cause, "pictures could not be encoded anew");
        self.shared.metrics.reencoder_failures.inc();
        let text = format!("B-frames are left out, motion is less smooth: encoding without them failed: {cause}");
        self.stream.notice(self.publication, Notice { code: "b-frames-dropped", text });
        self.state.lock().failing = Some(cause);
    }

    fn is_wanted(&self) -> bool {
        self.stream.wants_reencoding() == Some(self.publication)
    }

    async fn encode(&self) -> Ended {
        let encoder = match self.shared.encoder().await {
            Ok(encoder) => encoder,
            Err(refusals) => return Ended::Failed(format!("no encoder works: {refusals}")),
        };
        let (sender, mut deliveries) = mpsc::channel(FRAME_QUEUE_MAX_DELIVERIES);
        let _subscription = self.stream.subscribe_frames(Arc::new(move |delivery| sender.try_send(delivery).is_ok()));
        let Some(group) = self.first_group(&mut deliveries).await else { return Ended::Unwanted };
        let mut input = BytesMut::new();
        let (feed, pictures) = match Feed::begin(&group, &mut input) {
            Ok(begun) => begun,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let Pictures { width, height, .. } = pictures;
        if width.saturating_mul(height) > SAMPLES_MAX {
            return Ended::Failed(format!("pictures of {width}x{height} are too large for it"));
        }
        let rendition = match self.stream.begin_rendition(self.publication) {
            Ok(rendition) => rendition,
            Err(error) => return Ended::Failed(error.to_string()),
        };
        let program = &self.shared.settings.program;
        let child = command(program, encode(encoder, &pictures)).spawn();
        let child = match child.map_err(|error| error.to_string()).and_then(Pipes::of) {
            Ok(child) => child,
            Err(error) => return Ended::Failed(format!("{}: {error}", program.display())),
        };
        info!(%encoder, width, height, bitrate_bps = pictures.bitrate_bps, "pictures are encoded anew without B-frames");
        {
            let mut state = self.state.lock();
            (state.encoder, state.starts) = (Some(encoder), state.starts + 1);
        }
        let reader = FlvReader::default();
        let running = Running { job: self, feed, rendition, packets: None, reader, shown: None, late_since: None };
        running.drive(child, input, deliveries).await
    }

    /// What to begin with, as soon as there is a keyframe; `None` when that is not wanted any more.
    async fn first_group(&self, deliveries: &mut mpsc::Receiver<FrameDelivery>) -> Option<Group> {
        let mut look = looks();
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return None,
                _ = look.tick() => if !self.is_wanted() { return None },
                delivery = deliveries.recv() => {
                    let group = match delivery? {
                        FrameDelivery::Originals(Originals::Snapshot(snapshot)) => Group::last_of(&snapshot.units),
                        FrameDelivery::Originals(Originals::Units(units)) => Group::last_of(&units),
                        FrameDelivery::Rtp(_) => None,
                    };
                    if group.is_some() {
                        return group;
                    }
                }
            }
        }
    }
}

fn looks() -> tokio::time::Interval {
    let mut look = interval(LOOK_INTERVAL);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    look
}

/// A process and its ends of the pipes; it ends when this is dropped.
struct Pipes {
    child: Child,
    stdin: ChildStdin,
    stdout: ChildStdout,
    stderr: Lines<BufReader<ChildStderr>>,
}

impl Pipes {
    fn of(mut child: Child) -> Result<Self, String> {
        let pipes = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(stdin), Some(stdout), Some(stderr)) = pipes else { return Err("it has no pipes".into()) };
        Ok(Self { child, stdin, stdout, stderr: BufReader::new(stderr).lines() })
    }
}

/// An encoder at work.
struct Running<'a> {
    job: &'a Job,
    feed: Feed,
    rendition: Rendition,
    packets: Option<AvcPackets>,
    reader: FlvReader,
    /// When the last picture came out.
    shown: Option<Instant>,
    /// Since when they come too late.
    late_since: Option<Instant>,
}

impl Running<'_> {
    async fn drive(
        mut self,
        mut pipes: Pipes,
        mut input: BytesMut,
        mut deliveries: mpsc::Receiver<FrameDelivery>,
    ) -> Ended {
        let began = Instant::now();
        let mut usage = pipes.child.id().map(|process| Usage::new(process, began));
        let (mut look, mut unwanted_since) = (looks(), None);
        let mut complaints = VecDeque::new();
        loop {
            tokio::select! {
                () = self.job.stop.cancelled() => return Ended::Unwanted,
                delivery = deliveries.recv() => match delivery {
                    Some(FrameDelivery::Originals(originals)) => {
                        let taken = match &originals {
                            Originals::Snapshot(snapshot) if snapshot.publication != self.job.publication => {
                                return Ended::Unwanted;
                            }
                            Originals::Snapshot(snapshot) => self.feed.take(&snapshot.units, &mut input),
                            Originals::Units(units) => self.feed.take(units, &mut input),
                        };
                        if taken.is_err() {
                            return Ended::Anew;
                        }
                    }
                    // Nobody publishes, or another kind of publisher.
                    Some(FrameDelivery::Rtp(_)) | None => return Ended::Unwanted,
                },
                written = pipes.stdin.write_buf(&mut input), if !input.is_empty() => if written.is_err() {
                    return Ended::Failed(last_words(pipes, complaints).await);
                },
                read = pipes.stdout.read_buf(&mut self.reader.buffer) => match read {
                    Ok(0) | Err(_) => return Ended::Failed(last_words(pipes, complaints).await),
                    Ok(_) => match self.take_made(Instant::now()) {
                        Ok(()) => self.reader.buffer.reserve(READ_BYTES),
                        Err(ended) => return ended,
                    },
                },
                Ok(Some(line)) = pipes.stderr.next_line() => complain(&mut complaints, line),
                _ = look.tick() => {
                    let now = Instant::now();
                    let unwanted = (!self.job.is_wanted()).then(|| unwanted_since.unwrap_or(now));
                    unwanted_since = unwanted;
                    if unwanted.is_some_and(|since| now >= since + LINGER) {
                        return Ended::Unwanted;
                    }
                    if let Some((spent, share)) = usage.as_mut().and_then(|usage| usage.measure(now)) {
                        self.job.shared.metrics.reencoder_cpu_seconds.inc_by(spent.as_secs_f64());
                        self.job.state.lock().cpu_share = Some(share);
                    }
                    if input.len() > INPUT_MAX_BYTES {
                        return Ended::Failed("this machine is too slow for it".into());
                    }
                    if now >= self.shown.unwrap_or(began) + SILENCE_MAX && self.feed.fed_since(self.shown.unwrap_or(began)) {
                        return Ended::Failed(format!("ffmpeg gave no picture in {} s", SILENCE_MAX.as_secs()));
                    }
                }
            }
        }
    }

    /// What the encoder made goes to the tree.
    fn take_made(&mut self, now: Instant) -> Result<(), Ended> {
        let failed = |error: &dyn std::fmt::Display| Ended::Failed(error.to_string());
        while let Some(tag) = self.reader.read().map_err(|error| failed(&error))? {
            match (tag, &mut self.packets) {
                (Tag::Configuration(record), Some(packets)) => {
                    packets.configure(&record).map_err(|error| failed(&error))?;
                }
                (Tag::Configuration(record), packets) => {
                    let first_seq = self.rendition.first_seq;
                    *packets = Some(AvcPackets::new(&record, first_seq).map_err(|error| failed(&error))?);
                }
                (Tag::Picture { time_ms, composition_ms, data }, Some(packets)) => {
                    let shown_ms = self.feed.shown_ms(time_ms, composition_ms);
                    let nals = packets.split(&data).map_err(|error| failed(&error))?;
                    let rendition = &mut self.rendition;
                    let captured = || captured(rendition, now, SystemTime::now(), shown_ms);
                    let made =
                        packets.packets(now, shown_ms.max(0) as u64 * PicturePackets::TICKS_PER_MS, nals, captured);
                    rendition.push(now, made).map_err(|_| Ended::Unwanted)?;
                    self.count(now, shown_ms)?;
                }
                (Tag::Picture { .. }, None) => return Err(Ended::Failed("a picture came before its sets".into())),
            }
        }
        Ok(())
    }

    fn count(&mut self, now: Instant, shown_ms: i64) -> Result<(), Ended> {
        if self.shown.replace(now).is_none() {
            self.job.state.lock().failing = None;
        }
        let metrics = &self.job.shared.metrics;
        metrics.reencoded_pictures.inc();
        let Some(took) = self.feed.took(shown_ms, now) else { return Ok(()) };
        metrics.reencode_seconds.observe(took.as_secs_f64());
        self.job.state.lock().latency = Some(took);
        self.late_since = (took > LATENCY_MAX).then(|| self.late_since.unwrap_or(now));
        match self.late_since {
            Some(since) if now >= since + LATE_MAX => {
                Err(Ended::Failed(format!("this machine is too slow for it: pictures come {} s late", took.as_secs())))
            }
            _ => Ok(()),
        }
    }
}

/// When what is shown at this time was captured: RTMP does not say, so it is when that would have arrived. The clock is ours.
fn captured(rendition: &Rendition, now: Instant, time_of_day: SystemTime, shown_ms: i64) -> Option<CaptureTime> {
    const CLOCK_HZ: u32 = PicturePackets::TICKS_PER_MS as u32 * 1_000;
    let live_ticks = rendition.clock?.ticks_at(now, CLOCK_HZ) as i64;
    let NtpTime(ntp) = NtpTime::from_system(time_of_day);
    let shown_ticks = shown_ms * PicturePackets::TICKS_PER_MS as i64;
    Some(CaptureTime { ntp, clock_offset: 0 }.after(shown_ticks - live_ticks, CLOCK_HZ))
}

fn complain(complaints: &mut VecDeque<String>, line: String) {
    if line.trim().is_empty() {
        return;
    }
    if complaints.len() == COMPLAINTS_MAX {
        complaints.pop_front();
    }
    complaints.push_back(line.trim().chars().take(300).collect());
}

/// How a process ended, in its own words where it had any.
async fn last_words(mut pipes: Pipes, mut complaints: VecDeque<String>) -> String {
    const PATIENCE: Duration = Duration::from_secs(1);
    drop(pipes.stdin);
    let _ = tokio::time::timeout(PATIENCE, async {
        while let Ok(Some(line)) = pipes.stderr.next_line().await {
            complain(&mut complaints, line);
        }
    })
    .await;
    let status = tokio::time::timeout(PATIENCE, pipes.child.wait()).await;
    let status = status.ok().and_then(Result::ok).map_or_else(|| "it hangs".to_owned(), |status| status.to_string());
    let words: Vec<_> = complaints.into_iter().collect();
    if words.is_empty() {
        format!("ffmpeg ended: {status}")
    } else {
        format!("ffmpeg ended: {status}: {}", words.join("; "))
    }
}
