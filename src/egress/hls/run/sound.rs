//! The sound of a run: it waits for the pictures of its time, is cut where they are, and is filled where there is none.

use std::time::{Duration, Instant};

use super::{Run, SOUND, SoundRendition, nanos};
use crate::{
    egress::hls::{
        PackagerSettings,
        fmp4::Sample,
        part::Output,
        pictures::PICTURE_CLOCK_HZ,
        segmenter::{Beginning, Clocks, Segmenter},
        sound::{SoundFrame, SoundSource},
        timeline::{NS_PER_SECOND, to_ns, to_ticks},
    },
    track::ClockReference,
};

/// Sound waits for the pictures of its time, so that both are cut at the same place; but not for longer than this.
const SOUND_WAIT: Duration = Duration::from_millis(500);
/// Sound that did not come for so long is taken to be off, and silence is put in its place...
const SILENCE_AFTER: Duration = Duration::from_millis(600);
/// ...as far as this behind the pictures, 300 ms: where it comes again, little of it is for times that are filled.
const SILENCE_BEHIND_NS: i64 = 300_000_000;

impl Run {
    /// Takes the sound that is ready, as far as pictures are there for it.
    pub(in crate::egress::hls) fn take_sound(
        &mut self,
        source: &mut SoundSource,
        reference: Option<(ClockReference, u32)>,
        settings: &PackagerSettings,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) {
        self.fill_silence(source, clocks);
        while let Some(first) = source.first() {
            let Some(rendition) = &self.sound else {
                let Some((reference, rate_hz)) = reference else { return };
                let offset_ticks = self.timeline.offset_ticks(reference, rate_hz);
                let middle_ticks = first.start_ticks + offset_ticks + first.duration_ticks / 2;
                let middle_ns = to_ns(middle_ticks, rate_hz);
                let begins_ns = if self.boundaries.is_first() { self.boundaries.first().at_ns } else { self.begin_ns };
                if middle_ns < begins_ns {
                    source.pop();
                    continue;
                }
                if !self.is_released(middle_ns, first.arrival, clocks.now) {
                    return;
                }
                let before = self.boundaries.first();
                let passed = self.boundaries.owed(before.number, middle_ns).unwrap_or(before).number;
                let segmenter = Segmenter::begin(sound_beginning(first, offset_ticks, passed, settings), out);
                self.sound = Some(SoundRendition { segmenter, offset_ticks, passed });
                continue;
            };
            let end_ticks = first.start_ticks + first.duration_ticks + rendition.offset_ticks;
            if !self.is_released(to_ns(end_ticks, first.rate_hz), first.arrival, clocks.now) {
                return;
            }
            if let Some(frame) = source.pop() {
                self.take_sound_frame(frame, settings, clocks, out);
            }
        }
    }

    fn take_sound_frame(
        &mut self,
        frame: SoundFrame,
        settings: &PackagerSettings,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) {
        let alone = self.pictures.iter().all(Option::is_none);
        let Some(rendition) = &mut self.sound else { return };
        let segmenter = &mut rendition.segmenter;
        if segmenter.timescale_hz() != frame.rate_hz {
            // Its count began anew, at another rate: on where the sound was.
            let end_ns = to_ns(segmenter.end_ticks(), segmenter.timescale_hz());
            rendition.offset_ticks = to_ticks(end_ns, frame.rate_hz) - frame.start_ticks;
        }
        let start_ticks = frame.start_ticks + rendition.offset_ticks;
        let presented_ns = to_ns(start_ticks, frame.rate_hz);
        let middle_ns = to_ns(start_ticks + frame.duration_ticks / 2, frame.rate_hz);
        let changed = *segmenter.format() != *frame.format;
        let mut cut = self.boundaries.owed(rendition.passed, middle_ns);
        if changed && cut.is_none_or(|boundary| !boundary.discontinuous) {
            cut = Some(self.boundaries.set(presented_ns, true));
        }
        if cut.is_none() && alone && presented_ns - self.boundaries.latest().at_ns >= nanos(settings.segment_wanted) {
            cut = Some(self.boundaries.set(presented_ns, false));
        }
        if let Some(boundary) = cut {
            rendition.passed = boundary.number;
            segmenter.cut(&mut self.timeline, clocks, out);
            if boundary.discontinuous {
                let beginning = sound_beginning(&frame, rendition.offset_ticks, boundary.number, settings);
                segmenter.initialize(beginning, out);
            } else {
                segmenter.begin_segment();
            }
        }
        let hole_ticks = start_ticks - segmenter.end_ticks();
        if hole_ticks < -frame.duration_ticks / 2 {
            // For a time that was filled.
            return;
        }
        // What could not be filled with silence, the frame before or this one lasts longer for.
        let duration_ticks = frame.duration_ticks + hole_ticks;
        let duration_ticks = u32::try_from(duration_ticks.max(1)).unwrap_or(u32::MAX);
        let sample = Sample { duration_ticks, composition_ticks: 0, sync: true, data: frame.data };
        segmenter.add(sample, &mut self.timeline, clocks, out);
        segmenter.cut_if_full(frame.duration_ticks, &mut self.timeline, clocks, out);
    }

    /// Sound of that time need not wait: pictures are there, or will not be waited for.
    fn is_released(&self, until_ns: i64, arrival: Instant, now: Instant) -> bool {
        self.progress_ns().is_none_or(|progress| progress >= until_ns) || now >= arrival + SOUND_WAIT
    }

    /// How far pictures have come.
    fn progress_ns(&self) -> Option<i64> {
        let pictures = self.pictures.iter().flatten();
        pictures.map(|rendition| to_ns(rendition.last_ticks, PICTURE_CLOCK_HZ)).max()
    }

    fn fill_silence(&self, source: &mut SoundSource, clocks: Clocks) {
        let silent = source.last_arrival.is_some_and(|last| clocks.now >= last + SILENCE_AFTER);
        let Some((rendition, progress_ns)) = self.sound.as_ref().filter(|_| silent).zip(self.progress_ns()) else {
            return;
        };
        let (Some(rate_hz), Some(end_ticks)) = (source.rate_hz(), source.end_ticks()) else { return };
        let until_ticks = to_ticks(progress_ns - SILENCE_BEHIND_NS, rate_hz) - rendition.offset_ticks;
        if until_ticks > end_ticks {
            source.silence_until(until_ticks, clocks.now);
        }
    }

    /// When sound is to be taken although no pictures came.
    pub(in crate::egress::hls) fn sound_due(source: &SoundSource) -> Option<Instant> {
        source.first().map(|frame| frame.arrival + SOUND_WAIT)
    }
}

/// Parts of sound hold as many whole frames as fit.
fn sound_beginning(frame: &SoundFrame, offset_ticks: i64, boundary: u64, settings: &PackagerSettings) -> Beginning {
    let wanted_ticks = to_ticks(nanos(settings.part), frame.rate_hz);
    let frames = (wanted_ticks / frame.duration_ticks.max(1)).max(1);
    let target_ns = to_ns(frames * frame.duration_ticks, frame.rate_hz);
    const NS_PER_MS: i64 = NS_PER_SECOND / 1_000;
    Beginning {
        index: SOUND,
        boundary,
        joins: false,
        format: (*frame.format).clone(),
        rid: None,
        frame_rate: None,
        timescale_hz: frame.rate_hz,
        part_target: Duration::from_millis(((target_ns + NS_PER_MS - 1) / NS_PER_MS).unsigned_abs()),
        start_ticks: frame.start_ticks + offset_ticks,
    }
}
