//! One rendition's samples become parts and segments.
//!
//! Parts end at whole frames, when the next one would not fit. How long a picture is shown is known when the next has come, so the last
//! one stays *open*. Where the next does not come in time, the part is published all the same: its last picture is shown until the part
//! is as long as a part may be. The picture that ends the pause then begins where that one ended, earlier than it should, and the next
//! one is at its time again: decode times grow without a hole, whatever happens.
//!
//! A picture that is late by little, as when its publisher left one out, may leave a part that is too short without the picture before it
//! and too long with it, and players are promised neither (RFC 8216bis section 4.4.4.9). Then the part is filled all the same and the late
//! picture is decoded *ahead*: its composition offset still shows it when it should be. A part is longer than the target only if a single
//! picture is, by more than that.

use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;

use super::{
    fmp4::{Sample, SampleFormat, TrackHeader, write_fragment, write_initialization},
    part::{Output, Part, RenditionDescription, RenditionIndex},
    timeline::{Timeline, to_ns, to_ticks},
};

/// Beyond the time that a part takes, its next picture is waited for so long: the jitter of networks.
const LATE_PICTURE_WAIT: Duration = Duration::from_millis(150);

/// A picture is decoded ahead of its time by no more than so long: one that was waited for longer ends a pause.
const AHEAD_MAX: Duration = LATE_PICTURE_WAIT;
/// Parts that do not end a segment are as long as this share of the target, at least (RFC 8216bis section 4.4.4.9).
const PART_LEAST_PERCENT: i64 = 85;

/// The clocks of the call that is being served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clocks {
    pub now: Instant,
    pub wall: SystemTime,
}

/// A picture whose duration is not known yet.
#[derive(Debug)]
struct Open {
    start_ticks: i64,
    arrival: Instant,
    sample: Sample,
}

/// Where a picture was placed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Placed {
    /// When it is decoded.
    pub start_ticks: i64,
    /// So much before its time.
    pub ahead_ticks: i64,
    /// So much after it, for it came when the one before had been shown in its place.
    pub late_ticks: i64,
}

/// What a rendition begins with.
#[derive(Debug)]
pub(super) struct Beginning {
    pub index: RenditionIndex,
    /// Number of the boundary that its first segment begins at, or is behind.
    pub boundary: u64,
    /// It comes into what others have begun, whatever was before.
    pub joins: bool,
    pub format: SampleFormat,
    pub rid: Option<String>,
    pub frame_rate: Option<f64>,
    pub timescale_hz: u32,
    /// In whole milliseconds.
    pub part_target: Duration,
    pub start_ticks: i64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Segmenter {
    index: RenditionIndex,
    format: SampleFormat,
    timescale_hz: u32,
    part_target: Duration,
    target_ticks: i64,
    /// Counts chunks.
    sequence: u32,
    /// Where the next part begins.
    start_ticks: i64,
    /// Samples of the next part, and how long they last. Bounded by the target: a frame is a tick long at least.
    pending: Vec<Sample>,
    pending_ticks: i64,
    open: Option<Open>,
    begins_segment: bool,
    segment_start_ticks: i64,
    /// Pictures that lasted longer than a part is to.
    overlong: u32,
}

impl Segmenter {
    pub(super) fn begin(beginning: Beginning, out: &mut Vec<Output>) -> Self {
        let mut segmenter = Self {
            index: beginning.index,
            format: beginning.format.clone(),
            timescale_hz: beginning.timescale_hz,
            part_target: beginning.part_target,
            target_ticks: 0,
            sequence: 0,
            start_ticks: beginning.start_ticks.max(0),
            pending: Vec::new(),
            pending_ticks: 0,
            open: None,
            begins_segment: true,
            segment_start_ticks: 0,
            overlong: 0,
        };
        segmenter.initialize(beginning, out);
        segmenter
    }

    /// Begins anew, discontinuously, after what was there was cut.
    pub(super) fn initialize(&mut self, beginning: Beginning, out: &mut Vec<Output>) {
        let Beginning { boundary, joins, format, rid, frame_rate, timescale_hz, part_target, start_ticks, .. } =
            beginning;
        self.start_ticks = self.start_ticks.max(start_ticks);
        if self.timescale_hz != timescale_hz {
            self.start_ticks = start_ticks.max(0);
        }
        self.timescale_hz = timescale_hz;
        self.part_target = part_target;
        self.target_ticks = to_ticks(part_target.as_nanos() as i64, timescale_hz).max(1);
        self.begin_segment();
        self.overlong = 0;
        out.push(Output::Initialization {
            rendition: self.index,
            boundary,
            joins,
            description: RenditionDescription {
                kind: format.kind(),
                codecs: format.codecs(),
                size: format.size(),
                frame_rate,
                channels: format.channels(),
                rid,
            },
            bytes: write_initialization(&TrackHeader { timescale_hz, format: format.clone() }),
            part_target,
        });
        self.format = format;
    }

    pub(super) fn format(&self) -> &SampleFormat {
        &self.format
    }

    pub(super) fn timescale_hz(&self) -> u32 {
        self.timescale_hz
    }

    pub(super) fn part_target(&self) -> Duration {
        self.part_target
    }

    pub(super) fn overlong(&self) -> u32 {
        self.overlong
    }

    /// Where samples end, as far as known: the next one begins there, or later if one is open.
    pub(super) fn end_ticks(&self) -> i64 {
        match &self.open {
            Some(open) => open.start_ticks + 1,
            None => self.start_ticks + self.pending_ticks,
        }
    }

    pub(super) fn segment_start_ticks(&self) -> i64 {
        self.segment_start_ticks
    }

    /// A picture's decode time is known, and with it the duration of the one before.
    pub(super) fn place_picture(
        &mut self,
        decode_ticks: i64,
        timeline: &mut Timeline,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) -> Placed {
        let due_ticks = decode_ticks.max(self.end_ticks());
        let Some(open) = self.open.take() else {
            // After a pause whose beginning was published.
            let start_ticks = self.end_ticks();
            return Placed { start_ticks, ahead_ticks: 0, late_ticks: (start_ticks - decode_ticks).max(0) };
        };
        self.overlong += u32::from(due_ticks - open.start_ticks > self.target_ticks);
        let full_ticks = self.start_ticks + self.target_ticks;
        let ahead_ticks = due_ticks - full_ticks;
        let fills =
            self.is_short() && (1..=to_ticks(AHEAD_MAX.as_nanos() as i64, self.timescale_hz)).contains(&ahead_ticks);
        let (start_ticks, ahead_ticks) = if fills { (full_ticks, ahead_ticks) } else { (due_ticks, 0) };
        let sample = Sample { duration_ticks: ticks(start_ticks - open.start_ticks), ..open.sample };
        self.add(sample, timeline, clocks, out);
        Placed { start_ticks, ahead_ticks, late_ticks: (start_ticks - decode_ticks).max(0) }
    }

    /// A part of what is pending would be too short.
    fn is_short(&self) -> bool {
        self.pending_ticks * 100 < self.target_ticks * PART_LEAST_PERCENT
    }

    /// The picture that was just placed.
    pub(super) fn open_picture(
        &mut self,
        start_ticks: i64,
        composition_ticks: i32,
        sync: bool,
        data: Bytes,
        arrival: Instant,
    ) {
        let sample = Sample { duration_ticks: 0, composition_ticks, sync, data };
        self.open = Some(Open { start_ticks, arrival, sample });
    }

    /// A sample whose duration is known.
    pub(super) fn add(&mut self, sample: Sample, timeline: &mut Timeline, clocks: Clocks, out: &mut Vec<Output>) {
        let duration = i64::from(sample.duration_ticks);
        if self.pending_ticks + duration > self.target_ticks {
            self.cut(timeline, clocks, out);
        }
        self.pending_ticks += duration;
        self.pending.push(sample);
    }

    /// The part ends if one more frame of so long would not fit.
    pub(super) fn cut_if_full(
        &mut self,
        frame_ticks: i64,
        timeline: &mut Timeline,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) {
        if self.pending_ticks + frame_ticks > self.target_ticks && !self.is_short() {
            self.cut(timeline, clocks, out);
        }
    }

    /// When [`Self::fill_open`] is to be called, unless another picture comes.
    pub(super) fn due(&self) -> Option<Instant> {
        let open = self.open.as_ref()?;
        let left_ns = to_ns((self.target_ticks - self.pending_ticks).max(0), self.timescale_hz);
        Some(open.arrival + Duration::from_nanos(left_ns.unsigned_abs()) + LATE_PICTURE_WAIT)
    }

    /// The next picture does not come: the open one fills the part.
    pub(super) fn fill_open(&mut self, timeline: &mut Timeline, clocks: Clocks, out: &mut Vec<Output>) {
        let Some(open) = self.open.take() else { return };
        let sample = Sample { duration_ticks: ticks(self.target_ticks - self.pending_ticks), ..open.sample };
        self.add(sample, timeline, clocks, out);
        self.cut(timeline, clocks, out);
    }

    /// There will be no more: the open picture is shown for so long.
    pub(super) fn finish(&mut self, frame_ticks: i64, timeline: &mut Timeline, clocks: Clocks, out: &mut Vec<Output>) {
        if let Some(open) = self.open.take() {
            let left_ticks = self.target_ticks - self.pending_ticks;
            let lasts_ticks = if self.is_short() { frame_ticks.min(left_ticks) } else { frame_ticks };
            self.add(Sample { duration_ticks: ticks(lasts_ticks), ..open.sample }, timeline, clocks, out);
        }
        self.cut(timeline, clocks, out);
    }

    /// What comes next begins a segment; what was there was cut.
    pub(super) fn begin_segment(&mut self) {
        self.begins_segment = true;
        self.segment_start_ticks = self.start_ticks;
    }

    /// Makes a part of what is pending.
    pub(super) fn cut(&mut self, timeline: &mut Timeline, clocks: Clocks, out: &mut Vec<Output>) {
        let Some(first) = self.pending.first() else { return };
        let independent = first.sync;
        self.sequence = self.sequence.wrapping_add(1);
        let bytes = write_fragment(self.sequence, self.start_ticks as u64, &self.pending);
        let duration_ns = to_ns(self.pending_ticks, self.timescale_hz);
        let captured = timeline.captured(to_ns(self.start_ticks, self.timescale_hz), clocks.now, clocks.wall);
        out.push(Output::Part {
            rendition: self.index,
            part: Part {
                bytes,
                duration: Duration::from_nanos(duration_ns.unsigned_abs()),
                independent,
                begins_segment: std::mem::take(&mut self.begins_segment),
                captured,
            },
        });
        self.start_ticks += self.pending_ticks;
        self.pending_ticks = 0;
        self.pending.clear();
    }
}

/// A duration as samples have it; none is nothing.
fn ticks(duration: i64) -> u32 {
    u32::try_from(duration.max(1)).unwrap_or(u32::MAX)
}
