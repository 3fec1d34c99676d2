//! An encoder at work: a publisher's pictures into it, and what it makes into the tree.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use tokio::{io::AsyncWriteExt, sync::mpsc};

use super::{
    feed::Feed,
    flv::Tag,
    job::{Ended, Job, looks},
    pipes::Pipes,
    units::Units,
    usage::Usage,
};
use crate::{
    codec::h264::nal,
    media::{AccessUnit, CaptureTime},
    rtp::rtcp::NtpTime,
    track::{AvcPackets, BadAvc, FrameDelivery, Original, OriginalFormat, PicturePackets, Rendition},
};

/// How long an encoder goes on without viewers: a page that is loaded anew should find it.
const LINGER: Duration = Duration::from_secs(10);
/// An encoder that gives nothing for so long, though it is fed, does not work.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Pictures that come later than this, for so long, are not live: the machine is too slow.
const LATENCY_MAX: Duration = Duration::from_secs(2);
const LATE_MAX: Duration = Duration::from_secs(5);
/// What waits for the encoder at the most: a group of pictures that is kept for joins, and as much again.
const INPUT_MAX_BYTES: usize = 32 * 1024 * 1024;

/// See the module.
pub(super) struct Running<'a> {
    job: &'a Job,
    feed: Feed,
    units: Units,
    made: Vec<Output>,
    /// When the last picture came out of the first output.
    shown: Option<Instant>,
    /// Since when they come too late.
    late_since: Option<Instant>,
}

/// One of the things that are made.
pub(super) struct Output {
    rendition: Rendition,
    packets: Option<AvcPackets>,
    format: Option<Arc<OriginalFormat>>,
    /// Of the last picture.
    number: u64,
}

impl Output {
    pub fn new(rendition: Rendition) -> Self {
        Self { rendition, packets: None, format: None, number: 0 }
    }

    fn configure(&mut self, record: Bytes) -> Result<(), BadAvc> {
        match &mut self.packets {
            Some(packets) => packets.configure(&record)?,
            None => self.packets = Some(AvcPackets::new(&record, self.rendition.first_seq)?),
        }
        self.format = Some(Arc::new(OriginalFormat::Avc(record)));
        Ok(())
    }

    /// Hands a picture to the tree.
    fn push(&mut self, now: Instant, shown_ms: i64, data: Bytes) -> Result<(), Ended> {
        let Some((packets, format)) = self.packets.as_mut().zip(self.format.clone()) else {
            return Err(Ended::Failed("a picture came before its sets".into()));
        };
        let nals = packets.split(&data).map_err(|error| failed(&error))?;
        let shown_ms = shown_ms.max(0) as u64;
        let keyframe = nals.iter().any(|nal| nal::unit_type(nal) == nal::kind::IDR_SLICE);
        let rendition = &mut self.rendition;
        let captured = || captured(rendition, now, SystemTime::now(), shown_ms as i64);
        let made = packets.packets(now, shown_ms * PicturePackets::TICKS_PER_MS, nals, captured);
        self.number += 1;
        let number = self.number;
        let original = || {
            let unit = AccessUnit { decode_time_ticks: shown_ms, composition_offset_ticks: 0, keyframe, data };
            Original { number, format, arrival: now, unit }
        };
        rendition.push(now, made, original).map_err(|_| Ended::Unwanted)
    }
}

impl<'a> Running<'a> {
    pub fn new(job: &'a Job, feed: Feed, units: Units, made: Vec<Output>) -> Self {
        Self { job, feed, units, made, shown: None, late_since: None }
    }

    pub async fn drive(
        mut self,
        mut pipes: Pipes,
        mut input: BytesMut,
        mut deliveries: mpsc::Receiver<FrameDelivery>,
    ) -> Ended {
        let began = Instant::now();
        let mut usage = pipes.id().map(|process| Usage::new(process, began));
        let (mut look, mut unwanted_since) = (looks(), None);
        loop {
            tokio::select! {
                () = self.job.stop.cancelled() => return Ended::Unwanted,
                delivery = deliveries.recv() => {
                    let units = delivery.map(|delivery| self.units.take(Instant::now(), delivery));
                    let Some(Ok(units)) = units else { return Ended::Unwanted };
                    if self.feed.take(&units, &mut input).is_err() {
                        return Ended::Anew;
                    }
                }
                written = pipes.stdin.write_buf(&mut input), if !input.is_empty() => if written.is_err() {
                    return Ended::Failed(pipes.last_words().await);
                },
                (at, read) = pipes.outputs.read() => match read {
                    Ok(0) | Err(_) => return Ended::Failed(pipes.last_words().await),
                    Ok(_) => if let Err(ended) = self.take_made(Instant::now(), &mut pipes, at) {
                        return ended;
                    },
                },
                Some(()) = pipes.stderr.next() => {}
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
                    let units = self.units.poll(now);
                    if self.feed.take(&units, &mut input).is_err() {
                        return Ended::Anew;
                    }
                    self.job.ask_for_keyframe(&self.units);
                }
            }
        }
    }

    /// What came out of an output goes to the tree.
    fn take_made(&mut self, now: Instant, pipes: &mut Pipes, at: usize) -> Result<(), Ended> {
        while let Some(tag) = pipes.outputs.next(at).map_err(|error| failed(&error))? {
            let Some(output) = self.made.get_mut(at) else { return Ok(()) };
            match tag {
                Tag::Configuration(record) => output.configure(record).map_err(|error| failed(&error))?,
                Tag::Picture { time_ms, composition_ms, data } => {
                    let shown_ms = self.feed.shown_ms(time_ms, composition_ms);
                    output.push(now, shown_ms, data)?;
                    self.job.shared.metrics.reencoded_pictures.inc();
                    if at == 0 {
                        self.count(now, shown_ms)?;
                    }
                }
            }
        }
        Ok(())
    }

    fn count(&mut self, now: Instant, shown_ms: i64) -> Result<(), Ended> {
        if self.shown.replace(now).is_none() {
            self.job.state.lock().failing = None;
        }
        let Some(took) = self.feed.took(shown_ms, now) else { return Ok(()) };
        self.job.shared.metrics.reencode_seconds.observe(took.as_secs_f64());
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

fn failed(error: &dyn std::fmt::Display) -> Ended {
    Ended::Failed(error.to_string())
}

/// When what is shown at this time was captured: RTMP does not say, so it is when that would have arrived. The clock is ours.
fn captured(rendition: &Rendition, now: Instant, time_of_day: SystemTime, shown_ms: i64) -> Option<CaptureTime> {
    const CLOCK_HZ: u32 = PicturePackets::TICKS_PER_MS as u32 * 1_000;
    let live_ticks = rendition.clock?.ticks_at(now, CLOCK_HZ) as i64;
    let NtpTime(ntp) = NtpTime::from_system(time_of_day);
    let shown_ticks = shown_ms * PicturePackets::TICKS_PER_MS as i64;
    Some(CaptureTime { ntp, clock_offset: 0 }.after(shown_ticks - live_ticks, CLOCK_HZ))
}
