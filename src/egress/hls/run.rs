//! A run: all renditions of a publication on one timeline, from their first keyframe to where times lose their relation.

mod sound;

use std::time::{Duration, Instant};

use super::{
    PackagerSettings,
    boundaries::{Boundaries, Boundary},
    fmp4::SampleFormat,
    part::{Output, RenditionIndex},
    pictures::{Frame, PICTURE_CLOCK_HZ, PictureSource},
    segmenter::{Beginning, Clocks, Placed, Segmenter},
    timeline::{Timeline, to_ns, to_ticks},
};
use crate::track::{ClockReference, LAYERS_MAX, LayerIndex};

/// A pause in decode times after which a keyframe begins anew, 3 s.
const PAUSE_MAX_TICKS: i64 = 3 * PICTURE_CLOCK_HZ as i64;
/// A correction of a clock by more is none, 1 s: everything begins anew.
const CORRECTION_MAX_TICKS: i64 = PICTURE_CLOCK_HZ as i64;
/// Pictures longer than the target, of one run, after which the target is set anew.
const OVERLONG_MAX: u32 = 2;

/// The sound's place is behind that of all layers.
pub(super) const SOUND: RenditionIndex = RenditionIndex(LAYERS_MAX as u8);

/// Times lost their relation: the run is to be ended, and another begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BeginAnew;

#[derive(Debug)]
struct PictureRendition {
    segmenter: Segmenter,
    offset_ticks: i64,
    /// Where the offset is on its way to.
    wanted_ticks: i64,
    /// The number of the last boundary.
    passed: u64,
    /// Decode time of the last picture.
    last_ticks: i64,
    /// Pictures come in another order than that in which they are shown.
    is_reordered: bool,
}

#[derive(Debug)]
struct SoundRendition {
    segmenter: Segmenter,
    offset_ticks: i64,
    passed: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Run {
    timeline: Timeline,
    boundaries: Boundaries,
    begin_ns: i64,
    pictures: [Option<PictureRendition>; LAYERS_MAX],
    sound: Option<SoundRendition>,
    /// Of layers that ended in this run: the last boundary that they passed.
    ended: [Option<u64>; LAYERS_MAX],
}

impl Run {
    /// What happened at `origin` is presented at `begin_ns`, where the boundary of that number is.
    pub(super) fn new(origin: Instant, begin_ns: i64, boundary: u64) -> Self {
        Self {
            timeline: Timeline::new(origin, begin_ns),
            boundaries: Boundaries::new(begin_ns, boundary),
            begin_ns,
            pictures: Default::default(),
            sound: None,
            ended: Default::default(),
        }
    }

    /// Clocks may have been measured anew.
    pub(super) fn reclock(
        &mut self,
        pictures: impl Fn(LayerIndex) -> Option<ClockReference>,
        sound: Option<(ClockReference, u32)>,
    ) {
        let mut leads = match (&self.sound, sound) {
            (Some(rendition), Some((reference, rate_hz))) => {
                self.timeline.lead(rendition.offset_ticks, reference, rate_hz);
                true
            }
            (rendition, _) => rendition.is_some(),
        };
        for (at, rendition) in self.pictures.iter_mut().enumerate() {
            let Some(rendition) = rendition else { continue };
            let Some(reference) = pictures(LayerIndex(at as u8)) else { continue };
            if leads {
                rendition.wanted_ticks = self.timeline.offset_ticks(reference, PICTURE_CLOCK_HZ);
            } else {
                self.timeline.lead(rendition.offset_ticks, reference, PICTURE_CLOCK_HZ);
                leads = true;
            }
        }
    }

    /// Takes what a layer has ready.
    ///
    /// # Errors
    /// [`BeginAnew`]: what waits belongs into another run.
    pub(super) fn take_pictures(
        &mut self,
        layer: LayerIndex,
        source: &mut PictureSource,
        reference: Option<ClockReference>,
        settings: &PackagerSettings,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) -> Result<(), BeginAnew> {
        while let Some(first) = source.first() {
            let at = usize::from(layer.0);
            let Some(rendition) = self.pictures.get(at).and_then(Option::as_ref) else {
                if !self.begin_pictures(layer, source, reference, settings, clocks, out) {
                    return Ok(());
                }
                continue;
            };
            let since_last = first.decode_ticks + rendition.offset_ticks - rendition.last_ticks;
            let moved = (rendition.wanted_ticks - rendition.offset_ticks).abs() > CORRECTION_MAX_TICKS;
            if first.keyframe && (since_last.abs() > PAUSE_MAX_TICKS || moved) {
                if !source.follows {
                    return Err(BeginAnew);
                }
                // It comes again, where the one that it follows is.
                self.end_pictures(layer, source.interval_ticks(), clocks, out);
                continue;
            }
            if let Some(frame) = source.pop() {
                self.take_picture(layer, source, frame, settings, clocks, out);
            }
        }
        Ok(())
    }

    /// Begins a layer's rendition with the first picture that waits. False when that has to wait.
    fn begin_pictures(
        &mut self,
        layer: LayerIndex,
        source: &mut PictureSource,
        reference: Option<ClockReference>,
        settings: &PackagerSettings,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) -> bool {
        // What goes on without a keyframe after it had stopped is nothing to begin with.
        while source.first().is_some_and(|first| !first.keyframe) {
            source.pop();
        }
        let Some((first, reference)) = source.first().filter(|_| source.can_begin(clocks.now)).zip(reference) else {
            return false;
        };
        let offset_ticks = self.timeline.offset_ticks(reference, PICTURE_CLOCK_HZ);
        let start_ticks = first.decode_ticks + offset_ticks;
        if start_ticks < to_ticks(self.begin_ns, PICTURE_CLOCK_HZ) {
            // From before the run: a layer that was slow to be known.
            source.drop_to_keyframe();
            return source.first().is_some();
        }
        let presented_ns = to_ns(start_ticks + i64::from(first.composition_ticks), PICTURE_CLOCK_HZ);
        let nothing_yet = self.sound.is_none() && self.pictures.iter().all(Option::is_none);
        if nothing_yet {
            self.boundaries = Boundaries::new(presented_ns, self.boundaries.first().number);
        }
        let ended = self.ended.get(usize::from(layer.0)).copied().flatten();
        if let Some(passed) = ended.filter(|_| source.follows)
            && self.boundaries.number_at(presented_ns) <= passed
        {
            // The segment that it ended in goes on without it.
            source.drop_to_keyframe();
            return source.first().is_some();
        }
        if ended.is_some() && !source.follows {
            // What goes on after a hole is discontinuous, and then all are.
            self.boundaries.set(presented_ns, true);
        }
        if let Some(ended) = self.ended.get_mut(usize::from(layer.0)) {
            *ended = None;
        }
        let passed = self.boundaries.number_at(presented_ns);
        let format = SampleFormat::Video(first.setup.clone());
        let beginning = beginning(RenditionIndex(layer.0), source, format, start_ticks, passed, settings);
        let segmenter = Segmenter::begin(Beginning { joins: source.follows, ..beginning }, out);
        if let Some(place) = self.pictures.get_mut(usize::from(layer.0)) {
            *place = Some(PictureRendition {
                segmenter,
                offset_ticks,
                wanted_ticks: offset_ticks,
                passed,
                last_ticks: start_ticks,
                is_reordered: false,
            });
        }
        true
    }

    fn take_picture(
        &mut self,
        layer: LayerIndex,
        source: &PictureSource,
        frame: Frame,
        settings: &PackagerSettings,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) {
        let at = usize::from(layer.0);
        let others: Vec<_> = self.pictures.iter().enumerate().filter(|(other, _)| *other != at).collect();
        let others: Vec<_> = others.into_iter().filter_map(|(_, other)| Some(other.as_ref()?.passed)).collect();
        let Some(rendition) = self.pictures.get_mut(at).and_then(Option::as_mut) else { return };
        let segmenter = &mut rendition.segmenter;
        let raw_ticks = frame.decode_ticks + rendition.offset_ticks;
        rendition.offset_ticks = Timeline::slewed(
            rendition.offset_ticks,
            rendition.wanted_ticks,
            (raw_ticks - rendition.last_ticks).clamp(0, PAUSE_MAX_TICKS),
        );
        let decode_ticks = frame.decode_ticks + rendition.offset_ticks;
        rendition.last_ticks = decode_ticks;
        let Placed { start_ticks, ahead_ticks, late_ticks } =
            segmenter.place_picture(decode_ticks, &mut self.timeline, clocks, out);
        // With B-frames every picture is shown at its time, whenever it is decoded: moved, it would come before one that it is to follow.
        rendition.is_reordered |= frame.composition_ticks != 0;
        let moved_ticks = if rendition.is_reordered { ahead_ticks - late_ticks } else { ahead_ticks };
        let composition_ticks = frame.composition_ticks.saturating_add(moved_ticks as i32);
        // One that ends a pause is shown from its beginning on; where it belongs is told by its time.
        let shown_ticks = start_ticks + i64::from(composition_ticks);
        let belongs_ticks = shown_ticks.max(decode_ticks + i64::from(frame.composition_ticks));
        let presented_ns = to_ns(belongs_ticks, PICTURE_CLOCK_HZ);
        let is_first = segmenter.end_ticks() == start_ticks && segmenter.segment_start_ticks() == start_ticks;
        let mut cut = None;
        if frame.keyframe && !is_first {
            let format = SampleFormat::Video(frame.setup.clone());
            let sparse =
                segmenter.overlong() >= OVERLONG_MAX && source.part_target(settings.part) > segmenter.part_target();
            let changed = *segmenter.format() != format || sparse;
            let owed = self.boundaries.owed_at_keyframe(rendition.passed, presented_ns);
            cut = match owed {
                Some(owed) if owed.discontinuous || !changed => Some((owed, owed.discontinuous)),
                _ if changed => Some((self.boundaries.set(presented_ns, true), true)),
                // What is made of a layer here has keyframes where that one has none.
                _ if !source.follows
                    && self.boundaries.may_set(presented_ns, nanos(settings.segment_min), others.into_iter()) =>
                {
                    Some((self.boundaries.set(presented_ns, false), false))
                }
                _ => None,
            };
            if let Some((Boundary { number, .. }, true)) = cut {
                segmenter.cut(&mut self.timeline, clocks, out);
                let beginning = beginning(RenditionIndex(layer.0), source, format, start_ticks, number, settings);
                segmenter.initialize(beginning, out);
            }
        }
        let segment_ticks = start_ticks - segmenter.segment_start_ticks();
        if cut.is_none() && to_ns(segment_ticks, PICTURE_CLOCK_HZ) >= nanos(settings.segment_max) {
            let owed = self.boundaries.owed(rendition.passed, presented_ns);
            cut = Some((owed.unwrap_or_else(|| self.boundaries.set(presented_ns, false)), false));
        }
        match cut {
            Some((boundary, discontinuous)) => {
                rendition.passed = boundary.number;
                if !discontinuous {
                    segmenter.cut(&mut self.timeline, clocks, out);
                    segmenter.begin_segment();
                }
            }
            None => segmenter.cut_if_full(source.interval_ticks(), &mut self.timeline, clocks, out),
        }
        segmenter.open_picture(start_ticks, composition_ticks, frame.keyframe, frame.data, frame.arrival);
    }

    /// Time has passed: pictures that were waited for do not come.
    pub(super) fn poll(&mut self, clocks: Clocks, out: &mut Vec<Output>) {
        for rendition in self.pictures.iter_mut().flatten() {
            if rendition.segmenter.due().is_some_and(|due| clocks.now >= due) {
                rendition.segmenter.fill_open(&mut self.timeline, clocks, out);
            }
        }
    }

    /// When [`Self::poll`] is to be called.
    pub(super) fn due(&self) -> Option<Instant> {
        self.pictures.iter().flatten().filter_map(|rendition| rendition.segmenter.due()).min()
    }

    /// A layer is sent no longer.
    pub(super) fn end_pictures(
        &mut self,
        layer: LayerIndex,
        interval_ticks: i64,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) {
        let at = usize::from(layer.0);
        if let Some(mut rendition) = self.pictures.get_mut(at).and_then(Option::take) {
            rendition.segmenter.finish(interval_ticks, &mut self.timeline, clocks, out);
            if let Some(ended) = self.ended.get_mut(at) {
                *ended = Some(rendition.passed);
            }
        }
        // Also of one that was there before this run, and has not come into it.
        out.push(Output::Ended { rendition: RenditionIndex(layer.0) });
    }

    /// Where the next run goes on counting.
    pub(super) fn next_boundary(&self) -> u64 {
        self.boundaries.latest().number + 1
    }

    /// Cuts what there is; gives where the timeline has come to, and which renditions there were.
    pub(super) fn finish(
        mut self,
        interval_ticks: i64,
        clocks: Clocks,
        out: &mut Vec<Output>,
    ) -> (i64, Vec<RenditionIndex>) {
        let mut end_ns = self.begin_ns;
        let mut renditions = Vec::new();
        for (at, rendition) in self.pictures.iter_mut().enumerate() {
            let Some(PictureRendition { segmenter, .. }) = rendition else { continue };
            segmenter.finish(interval_ticks, &mut self.timeline, clocks, out);
            end_ns = end_ns.max(to_ns(segmenter.end_ticks(), PICTURE_CLOCK_HZ));
            renditions.push(RenditionIndex(at as u8));
        }
        if let Some(SoundRendition { segmenter, .. }) = &mut self.sound {
            segmenter.cut(&mut self.timeline, clocks, out);
            end_ns = end_ns.max(to_ns(segmenter.end_ticks(), segmenter.timescale_hz()));
            renditions.push(SOUND);
        }
        (end_ns, renditions)
    }

    /// A layer's keyframe is needed for a segment to end: it is time, another layer's has ended, or parts are to be longer.
    pub(super) fn wants_keyframe(
        &self,
        layer: LayerIndex,
        source: &PictureSource,
        settings: &PackagerSettings,
    ) -> bool {
        let Some(rendition) = self.pictures.get(usize::from(layer.0)).and_then(Option::as_ref) else {
            return source.first().is_none();
        };
        let latest = self.boundaries.latest();
        let segment_ns = to_ns(rendition.last_ticks, PICTURE_CLOCK_HZ) - latest.at_ns;
        let sparse = rendition.segmenter.overlong() >= OVERLONG_MAX
            && source.part_target(settings.part) > rendition.segmenter.part_target();
        rendition.passed < latest.number || segment_ns >= nanos(settings.segment_wanted) || sparse
    }
}

fn beginning(
    index: RenditionIndex,
    source: &PictureSource,
    format: SampleFormat,
    start_ticks: i64,
    boundary: u64,
    settings: &PackagerSettings,
) -> Beginning {
    Beginning {
        index,
        boundary,
        joins: false,
        format,
        rid: source.rid.clone(),
        frame_rate: source.frame_rate(),
        timescale_hz: PICTURE_CLOCK_HZ,
        part_target: source.part_target(settings.part),
        start_ticks,
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}
