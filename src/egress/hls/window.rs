//! What of a stream can be asked for at one moment: of each rendition the segments that its playlist lists, the one that is growing,
//! and those that were listed lately (RFC 8216bis section 6.2.2). Sans-I/O.
//!
//! In: what the packager gives. Out: [`RenditionWindow`]s to write playlists of, and media by name. Bytes are kept once: a segment is its
//! parts, one behind the other.

mod rendition;
#[cfg(test)]
pub(super) mod tests;

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{MediaNames, MediaObject, Output, RENDITIONS_MAX, RenditionIndex};

use rendition::Begun;
pub use rendition::{PartEntry, RenditionWindow, Segment};

/// How much a window lists and keeps.
#[derive(Debug, Clone)]
pub struct WindowSettings {
    /// Complete segments that a playlist lists, where `dvr` does not ask for more.
    pub segments: usize,
    /// How far back viewers may go.
    pub dvr: Duration,
    /// What segments are meant to last: the target duration until one lasts longer.
    pub segment_target: Duration,
    /// Media of all renditions together, listed or not. When it is reached the oldest goes, whatever the rules of playlists say: they
    /// count on publishers that send what they ought to.
    pub bytes_max: usize,
}

/// Where a rendition has come to: the last part that its playlist lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Media sequence number.
    pub segment: u64,
    /// Its index in its segment; `None`: the segment is complete, nothing of the next one is there.
    pub part: Option<usize>,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// An initialization, a part or a segment: its bytes, one run behind the other.
    Media(Vec<Bytes>),
    /// The part that comes next.
    Awaited(RenditionIndex),
}

/// The window over one stream.
#[derive(Debug)]
pub struct Window {
    settings: WindowSettings,
    names: MediaNames,
    /// Of all playlists, in seconds; never less than it was (RFC 8216bis section 4.4.3.1).
    target_duration_s: u64,
    part_target: Duration,
    /// Counts the stream's discontinuities.
    run: u64,
    /// By index, which packagers give from 0 up.
    renditions: Vec<Option<RenditionWindow>>,
    /// The media sequence number of the first segment of all.
    first_segment: u64,
    /// The media sequence number of what is behind boundary 0.
    boundary_0: Option<u64>,
    /// There will be nothing more.
    ended: bool,
    bytes: usize,
}

impl Window {
    /// `first_segment` is the first media sequence number: higher than any that an earlier window over this stream came to, for players
    /// that are still there.
    pub fn new(settings: WindowSettings, names: MediaNames, first_segment: u64) -> Self {
        let target_duration_s = rounded_s(settings.segment_target).max(1);
        Self {
            settings,
            names,
            target_duration_s,
            part_target: Duration::ZERO,
            run: 0,
            renditions: Vec::new(),
            first_segment,
            boundary_0: None,
            ended: false,
            bytes: 0,
        }
    }

    /// Takes what the packager gave; the rendition whose playlist is another now.
    pub fn take(&mut self, output: Output) -> Option<RenditionIndex> {
        match output {
            Output::Initialization { rendition, boundary, joins, description, bytes, part_target } => {
                let at = usize::from(rendition.0);
                if at >= RENDITIONS_MAX {
                    return None;
                }
                self.part_target = self.part_target.max(part_target);
                if self.renditions.len() <= at {
                    self.renditions.resize_with(at + 1, || None);
                }
                let known = self.renditions[at].as_ref();
                if !joins && known.is_some_and(|known| known.run() == self.run) {
                    self.run += 1;
                }
                let number = self.number(at, boundary);
                let window = self.renditions[at].get_or_insert_with(|| RenditionWindow::new(rendition, number));
                let before = window.bytes();
                if joins {
                    window.forget_before();
                }
                window.begin_run(&self.names, self.run, number, Begun { description, bytes, part_target });
                self.bytes = self.bytes + window.bytes() - before;
                None
            }
            Output::Part { rendition, part } => {
                let window = self.renditions.get_mut(usize::from(rendition.0))?.as_mut()?;
                let before = window.bytes();
                let segment_duration = window.push(&self.names, part);
                self.bytes = self.bytes + window.bytes() - before;
                // As soon as a segment that grows is longer: before its length stands in a playlist.
                self.target_duration_s = self.target_duration_s.max(rounded_s(segment_duration));
                self.trim();
                Some(rendition)
            }
            Output::Ended { rendition } => {
                let window = self.renditions.get_mut(usize::from(rendition.0))?.as_mut()?;
                window.end();
                Some(rendition)
            }
        }
    }

    /// There will be nothing more: playlists say so from now on.
    pub fn end(&mut self) {
        self.ended = true;
        self.renditions.iter_mut().flatten().for_each(RenditionWindow::end);
    }

    pub fn is_ended(&self) -> bool {
        self.ended
    }

    pub fn target_duration(&self) -> Duration {
        Duration::from_secs(self.target_duration_s)
    }

    /// Of all renditions: the longest that one of them named.
    pub fn part_target(&self) -> Duration {
        self.part_target
    }

    /// Media that is held, in bytes.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    pub fn names(&self) -> &MediaNames {
        &self.names
    }

    /// Those that have media, in order of their index.
    pub fn renditions(&self) -> impl Iterator<Item = &RenditionWindow> {
        self.renditions.iter().flatten().filter(|rendition| rendition.edge().is_some())
    }

    pub fn rendition(&self, index: RenditionIndex) -> Option<&RenditionWindow> {
        self.renditions.get(usize::from(index.0))?.as_ref().filter(|rendition| rendition.edge().is_some())
    }

    /// What a name of media leads to; `None`: it never was one, or has left the window.
    pub fn find(&self, name: &str) -> Option<Found> {
        let (index, object) = self.names.object(name)?;
        let rendition = self.renditions.get(usize::from(index.0))?.as_ref()?;
        match object {
            MediaObject::Part(number) if number == rendition.next_part() => {
                (!self.has_stopped(rendition)).then_some(Found::Awaited(index))
            }
            object => rendition.media(object).map(Found::Media),
        }
    }

    /// Whether nothing more is to come of a rendition: the stream has ended, or its publisher goes on without it. While nobody publishes
    /// it may come again, and while a new publisher has not sent a whole segment of another one.
    pub fn has_stopped(&self, rendition: &RenditionWindow) -> bool {
        let without_it = |other: &RenditionWindow| {
            !other.is_ended() && (other.run() == rendition.run() || other.has_whole_segment_of_run())
        };
        self.ended || rendition.is_ended() && self.renditions().any(without_it)
    }

    /// Counts the stream's discontinuities: each is the beginning of a run of all renditions.
    pub fn run(&self) -> u64 {
        self.run
    }

    /// Forgets what is not listed any more and was not for long enough, and what there is no room for.
    fn trim(&mut self) {
        let (target, settings) = (self.target_duration(), &self.settings);
        for rendition in self.renditions.iter_mut().flatten() {
            rendition.unlist(settings.segments, settings.dvr.max(3 * target));
            let before = rendition.bytes();
            rendition.forget(target);
            self.bytes = self.bytes + rendition.bytes() - before;
        }
        while self.bytes > self.settings.bytes_max {
            let largest = self.renditions.iter_mut().flatten().max_by_key(|rendition| rendition.bytes());
            let Some(freed) = largest.and_then(RenditionWindow::forget_oldest) else { break };
            self.bytes -= freed;
        }
    }

    /// The media sequence number of the segment behind a boundary: the same in all renditions. A rendition that goes on goes on counting;
    /// one that comes late, or again, begins where the others are.
    fn number(&mut self, at: usize, boundary: u64) -> u64 {
        let others = self.renditions.iter().enumerate().filter(|(other, _)| *other != at);
        let others_go_on = others.filter_map(|(_, other)| other.as_ref()).any(|other| !other.is_ended());
        let known = self.renditions.get(at).and_then(Option::as_ref);
        let next = known.map(RenditionWindow::next_segment).filter(|_| known.is_some_and(|known| !known.is_ended()));
        let next = next.or(known.filter(|_| !others_go_on).map(RenditionWindow::next_segment));
        match (next, self.boundary_0) {
            (None, Some(boundary_0)) => boundary_0.saturating_add(boundary),
            (next, _) => {
                let number = next.unwrap_or(self.first_segment);
                // One that has passed several boundaries with one segment counts less than the others.
                self.boundary_0 = self.boundary_0.max(Some(number.saturating_sub(boundary)));
                number
            }
        }
    }
}

/// What `EXTINF` is compared by (RFC 8216bis section 4.4.3.1).
fn rounded_s(duration: Duration) -> u64 {
    (duration + Duration::from_millis(500)).as_secs()
}

/// `captured`, where it is another time than what the media's own length makes `expected`: clocks drift, but a part or two that were
/// measured late are no drift.
fn program_time(expected: SystemTime, captured: SystemTime) -> SystemTime {
    const DRIFT_MAX: Duration = Duration::from_millis(100);
    let apart = captured.duration_since(expected).unwrap_or_else(|earlier| earlier.duration());
    if apart > DRIFT_MAX { captured } else { expected }
}
