//! One rendition's segments: complete ones, the one that grows, and how far back they are listed.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;

use super::{Edge, program_time};
use crate::egress::hls::{MediaNames, MediaObject, Part, RenditionDescription, RenditionIndex};

/// Initializes the decoder for the segments that refer to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Initialization {
    pub name: String,
    pub bytes: Bytes,
    number: u64,
}

/// A part, as playlists name it.
#[derive(Debug, Clone)]
pub struct PartEntry {
    pub name: String,
    pub bytes: Bytes,
    pub duration: Duration,
    pub independent: bool,
}

/// A run of parts, complete or still growing.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Media sequence number.
    pub number: u64,
    pub name: String,
    pub initialization: Arc<Initialization>,
    /// How many discontinuities are between it and the segment before.
    pub discontinuities: u64,
    /// When its first part was captured.
    pub program_time: SystemTime,
    pub parts: Vec<PartEntry>,
    pub duration: Duration,
    /// No part will follow in it.
    pub complete: bool,
    bytes: usize,
    first_part: u64,
    /// Where in the rendition's media it begins, discontinuities counting for nothing.
    pub begins: Duration,
}

impl Segment {
    pub fn ends(&self) -> Duration {
        self.begins + self.duration
    }

    /// Bits per second.
    pub fn bitrate_bps(&self) -> u64 {
        bitrate_bps(self.bytes, self.duration)
    }

    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

/// What a run begins with.
pub(super) struct Begun {
    pub description: RenditionDescription,
    pub bytes: Bytes,
    pub part_target: Duration,
}

/// One rendition of a window.
#[derive(Debug)]
pub struct RenditionWindow {
    index: RenditionIndex,
    description: Option<RenditionDescription>,
    initialization: Option<Arc<Initialization>>,
    next_initialization: u64,
    /// No part is longer; never less than it was.
    part_target: Duration,
    /// The discontinuities of the stream that this rendition has come to.
    run: u64,
    /// Of those, what its segments tell of already.
    told_run: u64,
    /// Oldest first; the last one may grow.
    segments: VecDeque<Segment>,
    /// Of these, how many at the front are listed no more.
    unlisted: usize,
    /// Of segments that are listed no more.
    passed_discontinuities: u64,
    next_segment: u64,
    /// Others went on meanwhile: with the first part what is left of before is forgotten, for there is no hole in a playlist.
    was_away: bool,
    next_part: u64,
    ended: bool,
    bytes: usize,
}

impl RenditionWindow {
    pub(super) fn new(index: RenditionIndex, first_segment: u64) -> Self {
        Self {
            index,
            description: None,
            initialization: None,
            next_initialization: 0,
            part_target: Duration::ZERO,
            run: 0,
            told_run: 0,
            segments: VecDeque::new(),
            unlisted: 0,
            passed_discontinuities: 0,
            next_segment: first_segment,
            was_away: false,
            next_part: 0,
            ended: false,
            bytes: 0,
        }
    }

    pub fn index(&self) -> RenditionIndex {
        self.index
    }

    pub fn description(&self) -> Option<&RenditionDescription> {
        self.description.as_ref()
    }

    /// `PART-TARGET`.
    pub fn part_target(&self) -> Duration {
        self.part_target
    }

    /// Its publisher left, or stopped the layer.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn run(&self) -> u64 {
        self.run
    }

    pub(super) fn has_whole_segment_of_run(&self) -> bool {
        let of_run = |segment: &&Segment| {
            self.initialization.as_ref().is_some_and(|current| Arc::ptr_eq(current, &segment.initialization))
        };
        self.segments.iter().filter(of_run).any(|segment| segment.complete)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The number of the part that is not there yet.
    pub fn next_part(&self) -> u64 {
        self.next_part
    }

    /// The media sequence number of the next segment that begins.
    pub(super) fn next_segment(&self) -> u64 {
        self.next_segment
    }

    /// What there is is forgotten when the next part comes.
    pub(super) fn forget_before(&mut self) {
        self.was_away = !self.segments.is_empty();
    }

    /// What follows is of another run than what was before, and begins with the segment of that number.
    pub(super) fn begin_run(&mut self, names: &MediaNames, run: u64, number: u64, begun: Begun) {
        let Begun { description, bytes, part_target } = begun;
        // For one segment less than the others nothing is thrown away that players may have been told of.
        if self.was_away || number > self.next_segment + 1 {
            self.was_away = true;
            self.next_segment = self.next_segment.max(number);
        }
        self.part_target = self.part_target.max(part_target);
        if self.segments.is_empty() {
            // It comes into the run that others are in: its first segment has the same number of discontinuities before it as theirs.
            self.passed_discontinuities = run;
            self.told_run = run;
        }
        self.run = run;
        self.complete_segment();
        self.ended = false;
        self.description = Some(description);
        let number = self.next_initialization;
        self.next_initialization += 1;
        let name = names.name(self.index, MediaObject::Initialization(number));
        self.bytes += bytes.len();
        if let Some(unused) = self.initialization.take().filter(|before| Arc::strong_count(before) == 1) {
            self.bytes -= unused.bytes.len();
        }
        self.initialization = Some(Arc::new(Initialization { name, bytes, number }));
    }

    /// Takes a part; gives the duration of the segment that it went into.
    pub(super) fn push(&mut self, names: &MediaNames, part: Part) -> Duration {
        let Some(initialization) = self.initialization.clone() else { return Duration::ZERO };
        if part.begins_segment {
            self.complete_segment();
        }
        if std::mem::take(&mut self.was_away) {
            self.segments.clear();
            (self.unlisted, self.bytes) = (0, initialization.bytes.len());
            (self.passed_discontinuities, self.told_run) = (self.run, self.run);
        }
        if self.segments.back().is_none_or(|last| last.complete) {
            let discontinuities = self.run - self.told_run;
            self.told_run = self.run;
            let before = self.segments.back();
            let program_time = match before.filter(|_| discontinuities == 0) {
                Some(before) => program_time(before.program_time + before.duration, part.captured),
                None => part.captured,
            };
            let number = self.next_segment;
            self.next_segment += 1;
            let segment = Segment {
                number,
                name: names.name(self.index, MediaObject::Segment(number)),
                initialization,
                discontinuities,
                program_time,
                parts: Vec::new(),
                duration: Duration::ZERO,
                complete: false,
                bytes: 0,
                first_part: self.next_part,
                begins: before.map_or(Duration::ZERO, Segment::ends),
            };
            self.segments.push_back(segment);
        }
        let Some(segment) = self.segments.back_mut() else { return Duration::ZERO };
        let name = names.name(self.index, MediaObject::Part(self.next_part));
        self.next_part += 1;
        self.bytes += part.bytes.len();
        segment.bytes += part.bytes.len();
        segment.duration += part.duration;
        segment.parts.push(PartEntry {
            name,
            bytes: part.bytes,
            duration: part.duration,
            independent: part.independent,
        });
        segment.duration
    }

    pub(super) fn end(&mut self) {
        self.complete_segment();
        self.ended = true;
    }

    fn complete_segment(&mut self) {
        if let Some(last) = self.segments.back_mut() {
            last.complete = true;
        }
    }

    /// What its playlist lists, oldest first.
    pub fn listed(&self) -> impl DoubleEndedIterator<Item = &Segment> + ExactSizeIterator {
        self.segments.range(self.unlisted.min(self.segments.len())..)
    }

    /// `EXT-X-DISCONTINUITY-SEQUENCE`.
    pub fn passed_discontinuities(&self) -> u64 {
        self.passed_discontinuities
    }

    /// The last part that is there; `None` before the first.
    pub fn edge(&self) -> Option<Edge> {
        let last = self.segments.back()?;
        let part = (!last.complete).then(|| last.parts.len().saturating_sub(1));
        Some(Edge { segment: last.number, part })
    }

    /// How far its media goes, on the scale of [`Segment::begins`].
    pub fn live(&self) -> Duration {
        self.segments.back().map_or(Duration::ZERO, Segment::ends)
    }

    /// The part that is there last, with the segment it is in: for rendition reports.
    pub fn last_part(&self) -> Option<(u64, usize)> {
        let last = self.segments.back()?;
        Some((last.number, last.parts.len().saturating_sub(1)))
    }

    /// Whether the playlist has what a blocking request names (RFC 8216bis section 6.2.5.2); without a part, a whole segment.
    pub fn has(&self, segment: u64, part: Option<u64>) -> bool {
        let Some(last) = self.segments.back() else { return false };
        let complete = if last.complete { last.number } else { last.number.saturating_sub(1) };
        match part {
            _ if segment <= complete => match (part, self.segment(segment)) {
                // A part beyond a segment's last is the first of the next segment.
                (Some(part), Some(asked)) if part >= asked.parts.len() as u64 => {
                    last.number > segment && !last.parts.is_empty()
                }
                _ => true,
            },
            Some(part) => segment == last.number && (last.parts.len() as u64) > part,
            None => false,
        }
    }

    fn segment(&self, number: u64) -> Option<&Segment> {
        let first = self.segments.front()?.number;
        self.segments.get(usize::try_from(number.checked_sub(first)?).ok()?)
    }

    /// An object that is there.
    pub(super) fn media(&self, object: MediaObject) -> Option<Vec<Bytes>> {
        match object {
            MediaObject::Initialization(number) => {
                let of_segments = self.segments.iter().map(|segment| &segment.initialization);
                let found = of_segments.chain(&self.initialization).find(|known| known.number == number)?;
                Some(vec![found.bytes.clone()])
            }
            MediaObject::Segment(number) => {
                let segment = self.segment(number).filter(|segment| segment.complete)?;
                Some(segment.parts.iter().map(|part| part.bytes.clone()).collect())
            }
            MediaObject::Part(number) => {
                let after = self.segments.partition_point(|segment| segment.first_part <= number);
                let segment = self.segments.get(after.checked_sub(1)?)?;
                let part = segment.parts.get(usize::try_from(number - segment.first_part).ok()?)?;
                Some(vec![part.bytes.clone()])
            }
        }
    }

    /// Lists no more than it must: `segments` complete ones, and at least `at_least` in all (RFC 8216bis section 6.2.2).
    pub(super) fn unlist(&mut self, segments: usize, at_least: Duration) {
        loop {
            let growing = self.segments.back().filter(|last| !last.complete);
            let complete = self.listed().len().saturating_sub(usize::from(growing.is_some()));
            let end = growing.map_or(self.live(), |growing| growing.begins);
            let Some(oldest) = self.segments.get(self.unlisted) else { return };
            if complete <= segments || end.saturating_sub(oldest.ends()) < at_least {
                return;
            }
            self.passed_discontinuities += oldest.discontinuities;
            self.unlisted += 1;
        }
    }

    /// Forgets what was unlisted long ago. A segment can be asked for as long after it was first listed as the playlist lasted, and once
    /// its own length; a part for three target durations after it was last listed, which it is for three (RFC 8216bis section 6.2.2).
    pub(super) fn forget(&mut self, target: Duration) {
        let live = self.live();
        while self.unlisted > 0
            && let (Some(oldest), Some(listed_from)) = (self.segments.front(), self.segments.get(self.unlisted))
        {
            let since_listed = listed_from.begins.saturating_sub(oldest.ends());
            if live.saturating_sub(oldest.ends()) < 6 * target || since_listed < oldest.duration + target {
                return;
            }
            self.forget_oldest();
        }
    }

    /// Gives the bytes that are free now; `None` where there is only what grows.
    pub(super) fn forget_oldest(&mut self) -> Option<usize> {
        if self.segments.len() < 2 {
            return None;
        }
        let oldest = self.segments.pop_front()?;
        match self.unlisted {
            0 => self.passed_discontinuities += oldest.discontinuities,
            _ => self.unlisted -= 1,
        }
        let mut freed = oldest.bytes;
        if Arc::strong_count(&oldest.initialization) == 1 {
            freed += oldest.initialization.bytes.len();
        }
        self.bytes -= freed;
        Some(freed)
    }

    /// Bits per second of the segment that has most, and of all that are listed; of what there is, where no segment is complete.
    pub fn measured_bps(&self) -> (u64, u64) {
        let complete = || self.listed().filter(|segment| segment.complete);
        let segments: Vec<&Segment> =
            if complete().next().is_some() { complete().collect() } else { self.listed().collect() };
        let peak = segments.iter().map(|segment| segment.bitrate_bps()).max().unwrap_or(0);
        let bytes = segments.iter().map(|segment| segment.bytes).sum();
        (peak, bitrate_bps(bytes, segments.iter().map(|segment| segment.duration).sum()))
    }
}

fn bitrate_bps(bytes: usize, duration: Duration) -> u64 {
    let seconds = duration.as_secs_f64();
    if seconds > 0.0 { (bytes as f64 * 8.0 / seconds).ceil() as u64 } else { 0 }
}
