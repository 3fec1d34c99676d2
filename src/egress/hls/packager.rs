//! A stream's frames become CMAF parts: what the frame lane delivers goes in, initializations and parts come out. Sans-I/O.
//!
//! The driver's contract, for [`Packager`], one per stream that somebody plays:
//! 1. subscribe to the stream's frame lane; for each delivery: [`Packager::handle`];
//! 2. when [`Packager::poll_due`]'s time has come: [`Packager::poll`];
//! 3. after 1 and 2: take all outputs; hand what [`Packager::poll_keyframe`] gives to
//!    [`Stream::request_keyframe`](crate::track::Stream::request_keyframe) until it gives nothing; then `poll_due` again.
//!
//! It may encode sound, which takes up to a millisecond per delivery: it is to run on no worker.

use std::{
    collections::VecDeque,
    time::{Duration, Instant, SystemTime},
};

use super::{
    part::Output,
    pictures::{PICTURE_CLOCK_HZ, PictureSource},
    run::{BeginAnew, Run},
    segmenter::Clocks,
    sound::{SoundSource, at_rate},
    timeline::{LeastDelay, instant_of},
};
use crate::{
    media::{Codec, MediaKind},
    track::{
        Batch, ClockReference, Delivery, FrameDelivery, LAYERS_MAX, LayerIndex, LayerRole, LayerUnit,
        ORIGINALS_CLOCK_HZ, Original, OriginalFormat, Originals, OriginalsSnapshot, Snapshot, TrackIndex,
        TrackSnapshot,
    },
};

/// Layers that are known to be sent are waited for so long at the beginning.
const LAYERS_WAIT: Duration = Duration::from_millis(500);
/// A track of pictures that brings none is not waited for any longer: sound begins alone.
const PICTURES_WAIT: Duration = Duration::from_secs(2);
/// Between two wishes for the same layer's keyframe.
const WISH_INTERVAL: Duration = Duration::from_secs(1);
/// Wishes that nobody has taken yet: one per layer.
const WISHES_MAX: usize = LAYERS_MAX;

/// How a stream is cut, and its sound kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackagerSettings {
    /// Parts are to be as long at the most, unless frames are longer.
    pub part: Duration,
    /// A segment ends at the first keyframe after so long.
    pub segment_min: Duration,
    /// Publishers that send keyframes when asked (WebRTC) are asked for one after so long.
    pub segment_wanted: Duration,
    /// A segment ends after so long although no keyframe came: the next one is not independent.
    pub segment_max: Duration,
    /// Opus stays Opus, instead of becoming AAC.
    pub opus: bool,
}

impl Default for PackagerSettings {
    fn default() -> Self {
        Self {
            part: Duration::from_millis(200),
            segment_min: Duration::from_secs(1),
            segment_wanted: Duration::from_secs(2),
            segment_max: Duration::from_secs(12),
            opus: false,
        }
    }
}

/// A track as its publication has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct TrackOf {
    index: TrackIndex,
    epoch: u32,
    codec: Codec,
}

/// See the module.
#[derive(Debug)]
pub struct Packager {
    settings: PackagerSettings,
    /// Which publication is read, and whether by its originals; none while nobody publishes.
    publication: Option<(u64, bool)>,
    refusal: Option<String>,
    pictures_track: Option<TrackOf>,
    pictures: [Option<PictureSource>; LAYERS_MAX],
    sound_track: Option<TrackOf>,
    sound: Option<SoundSource>,
    /// Of originals: the last one's number, and the media clock.
    last_number: u64,
    media_clock: LeastDelay,
    run: Option<Run>,
    /// Where the next run begins on the presentation timeline, and with which boundary.
    end_ns: i64,
    next_boundary: u64,
    /// Since when something of the publication was there and no run.
    waits_since: Option<Instant>,
    wishes: VecDeque<(TrackIndex, LayerIndex)>,
    wished: [Option<Instant>; LAYERS_MAX],
    /// The time of the last call.
    served: Option<Instant>,
}

impl Packager {
    pub fn new(settings: PackagerSettings) -> Self {
        Self {
            settings,
            publication: None,
            refusal: None,
            pictures_track: None,
            pictures: Default::default(),
            sound_track: None,
            sound: None,
            last_number: 0,
            media_clock: LeastDelay::default(),
            run: None,
            end_ns: 0,
            next_boundary: 0,
            waits_since: None,
            wishes: VecDeque::new(),
            wished: Default::default(),
            served: None,
        }
    }

    /// The lane delivered something.
    pub fn handle(&mut self, now: Instant, wall: SystemTime, delivery: FrameDelivery, out: &mut Vec<Output>) {
        let clocks = Clocks { now, wall };
        match delivery {
            FrameDelivery::Rtp(Delivery::Snapshot(snapshot)) => self.apply_snapshot(&snapshot, clocks, out),
            FrameDelivery::Rtp(Delivery::Packets(batches)) => batches.iter().for_each(|batch| self.apply_batch(batch)),
            FrameDelivery::Rtp(Delivery::Clock { track, layer, reference }) => {
                self.apply_clock(track, layer, reference);
            }
            FrameDelivery::Rtp(Delivery::Layers { track, states }) => {
                for (layer, state) in (0..).map(LayerIndex).zip(states.iter()) {
                    if self.pictures_track.is_some_and(|known| known.index == track) {
                        self.set_active(layer, state.active, clocks, out);
                    }
                }
            }
            FrameDelivery::Originals(Originals::Snapshot(snapshot)) => self.apply_originals(&snapshot, clocks, out),
            FrameDelivery::Originals(Originals::Units(units)) => units.iter().for_each(|unit| self.apply_next(unit)),
            FrameDelivery::Originals(Originals::Layers(units)) => units.iter().for_each(|unit| self.apply_layer(unit)),
            FrameDelivery::Originals(Originals::LayersStopped(layers)) => {
                layers.iter().for_each(|layer| self.set_active(layer, false, clocks, out));
            }
        }
        self.advance(clocks, out);
    }

    /// Time has passed. Deliveries that wait come first.
    pub fn poll(&mut self, now: Instant, wall: SystemTime, out: &mut Vec<Output>) {
        let clocks = Clocks { now, wall };
        self.advance(clocks, out);
        if let Some(run) = &mut self.run {
            run.poll(clocks, out);
        }
    }

    /// When [`Self::poll`] is to be called.
    pub fn poll_due(&self) -> Option<Instant> {
        let pictures = || self.pictures.iter().flatten();
        let waits = pictures().filter_map(PictureSource::due).chain(pictures().filter_map(PictureSource::begin_due));
        let sound = self.sound.as_ref().and_then(SoundSource::due);
        let released = self.run.as_ref().and(self.sound.as_ref()).and_then(Run::sound_due);
        let waits = waits.chain(sound).chain(released).chain(self.begin_due());
        // What was due and did nothing waits for something else to come.
        let waits = waits.filter(|due| self.served.is_none_or(|served| *due > served));
        waits.chain(self.run.as_ref().and_then(Run::due)).min()
    }

    /// A layer of which a keyframe is needed.
    pub fn poll_keyframe(&mut self) -> Option<(TrackIndex, LayerIndex)> {
        self.wishes.pop_front()
    }

    /// Why the stream, as it is published now, gives no media, in words for who asks for it.
    pub fn refusal(&self) -> Option<&str> {
        self.refusal.as_deref()
    }

    fn apply_snapshot(&mut self, snapshot: &Snapshot, clocks: Clocks, out: &mut Vec<Output>) {
        let goes_on = self.publish((!snapshot.tracks.is_empty()).then_some((snapshot.publication, false)), clocks, out);
        // Packets of pictures are put together from the last keyframe on, and the sound of before it is left out.
        let layers = snapshot.tracks.iter().flat_map(|track| &track.layers);
        let mut packets = layers.flat_map(|layer| layer.packets.iter().flatten());
        let alone = goes_on && !packets.any(|packet| packet.keyframe_start);
        for (index, track) in (0..).map(TrackIndex).zip(&snapshot.tracks) {
            let of = TrackOf { index, epoch: track.epoch, codec: track.format.codec };
            match track.format.codec.kind() {
                MediaKind::Video => self.apply_pictures(of, track, clocks, out),
                MediaKind::Audio => self.apply_sound(of, track, alone),
            }
        }
    }

    fn apply_pictures(&mut self, of: TrackOf, track: &TrackSnapshot, clocks: Clocks, out: &mut Vec<Output>) {
        let is_same = self.pictures_track.replace(of) == Some(of);
        for (at, layer) in (0..LAYERS_MAX as u8).zip(&track.layers) {
            let place = &mut self.pictures[usize::from(at)];
            if !is_same || place.is_none() {
                *place = PictureSource::of_rtp(of.codec, layer.state.rid.clone());
                place.iter_mut().for_each(|source| source.follows = layer.state.role == LayerRole::Rung);
            }
            let Some(source) = place else {
                self.refusal = Some(cannot_show(of.codec));
                return;
            };
            source.reported = layer.clock.filter(|clock| clock.by_report).or(source.reported);
            layer.packets.iter().flatten().for_each(|packet| source.push_packet(packet.clone()));
            self.set_active(LayerIndex(at), layer.state.active, clocks, out);
        }
        self.refusal = None;
    }

    /// With `alone` it begins with the last packet.
    fn apply_sound(&mut self, of: TrackOf, track: &TrackSnapshot, alone: bool) {
        if self.sound_track.replace(of) != Some(of) || self.sound.is_none() {
            self.sound = Some(SoundSource::of_rtp(self.settings.opus, track.format.channels));
        }
        let Some((source, layer)) = self.sound.as_mut().zip(track.layers.first()) else { return };
        source.reported = layer.clock.filter(|clock| clock.by_report).or(source.reported);
        let packets = layer.packets.as_deref().unwrap_or_default();
        let from = if alone { packets.len().saturating_sub(1) } else { 0 };
        packets.iter().skip(from).for_each(|packet| source.push_packet(packet.clone()));
    }

    fn apply_batch(&mut self, batch: &Batch) {
        if self.pictures_track.is_some_and(|track| track.index == batch.track) {
            let source = self.pictures.get_mut(usize::from(batch.layer.0)).and_then(Option::as_mut);
            if let Some(source) = source {
                batch.packets.iter().for_each(|packet| source.push_packet(packet.clone()));
            }
        } else if self.sound_track.is_some_and(|track| track.index == batch.track)
            && let Some(source) = &mut self.sound
        {
            batch.packets.iter().for_each(|packet| source.push_packet(packet.clone()));
        }
    }

    fn apply_clock(&mut self, track: TrackIndex, layer: LayerIndex, reference: ClockReference) {
        if !reference.by_report {
            return;
        }
        if self.pictures_track.is_some_and(|known| known.index == track) {
            let source = self.pictures.get_mut(usize::from(layer.0)).and_then(Option::as_mut);
            source.into_iter().for_each(|source| source.reported = Some(reference));
        } else if self.sound_track.is_some_and(|known| known.index == track) {
            self.sound.iter_mut().for_each(|source| source.reported = Some(reference));
        }
    }

    fn set_active(&mut self, layer: LayerIndex, active: bool, clocks: Clocks, out: &mut Vec<Output>) {
        let Some(source) = self.pictures.get_mut(usize::from(layer.0)).and_then(Option::as_mut) else { return };
        if std::mem::replace(&mut source.active, active) && !active {
            source.assemble(clocks.now);
            let interval_ticks = source.interval_ticks();
            if let Some(run) = &mut self.run {
                run.end_pictures(layer, interval_ticks, clocks, out);
            }
        }
    }

    fn apply_originals(&mut self, snapshot: &OriginalsSnapshot, clocks: Clocks, out: &mut Vec<Output>) {
        let goes_on = self.publish(Some((snapshot.publication, true)), clocks, out);
        snapshot.formats.iter().for_each(|format| self.expect(format));
        let is_picture = |unit: &Original| unit.format.kind() == MediaKind::Video;
        let keyframe = snapshot.units.iter().rposition(|unit| is_picture(unit) && unit.unit.keyframe);
        let from = if goes_on { keyframe.unwrap_or(snapshot.units.len().saturating_sub(1)) } else { 0 };
        for (at, unit) in snapshot.units.iter().enumerate() {
            match keyframe {
                // Pictures that are kept are whole from a keyframe on, and what is missing between them is sound.
                Some(_) if at >= from || !is_picture(unit) => self.apply_original(unit),
                None if at >= from => self.apply_next(unit),
                _ => {}
            }
        }
        snapshot.layers_stopped.iter().for_each(|layer| self.set_active(layer, false, clocks, out));
    }

    fn expect(&mut self, format: &OriginalFormat) {
        match (format, format.kind()) {
            (OriginalFormat::Vp8, _) => self.refusal = Some(cannot_show(Codec::Vp8)),
            (_, MediaKind::Video) => {
                self.refusal = None;
                self.pictures[0].get_or_insert_with(PictureSource::of_originals);
            }
            (_, MediaKind::Audio) if self.sound.as_ref().is_some_and(|sound| sound.takes(format)) => {}
            (_, MediaKind::Audio) => self.sound = Some(SoundSource::of_originals(format, self.settings.opus)),
        }
    }

    /// What may have been lost before it may have been a picture: sound and pictures are counted together.
    fn apply_next(&mut self, original: &Original) {
        if original.number > self.last_number + 1 {
            self.pictures[0].iter_mut().for_each(PictureSource::lose);
        }
        self.apply_original(original);
    }

    fn apply_original(&mut self, original: &Original) {
        if original.number <= self.last_number || !self.publication.is_some_and(|(_, originals)| originals) {
            return;
        }
        self.last_number = original.number;
        self.media_clock.observe(original.arrival, original.unit.decode_time_ticks, ORIGINALS_CLOCK_HZ);
        self.expect(&original.format);
        match original.format.kind() {
            MediaKind::Video => self.pictures[0].iter_mut().for_each(|source| source.push_original(original)),
            MediaKind::Audio => self.sound.iter_mut().for_each(|source| source.push_original(original)),
        }
    }

    /// A picture of a layer beside the originals'. Its numbers tell what was lost on the way here.
    fn apply_layer(&mut self, LayerUnit { layer, rid, unit }: &LayerUnit) {
        if !self.publication.is_some_and(|(_, originals)| originals) {
            return;
        }
        let Some(place) = self.pictures.get_mut(usize::from(layer.0)) else { return };
        let source = place.get_or_insert_with(|| PictureSource::of_layer(rid));
        source.active = true;
        source.push_of_layer(unit);
    }

    /// Who publishes now. Another publication begins with nothing of the one before but the timeline. True when it goes on where that one
    /// ended: what it had sent before it was on air is the past then, and would leave players as much further behind.
    fn publish(&mut self, publication: Option<(u64, bool)>, clocks: Clocks, out: &mut Vec<Output>) -> bool {
        if self.publication == publication {
            return false;
        }
        self.assemble(clocks.now);
        let _ = self.take(clocks, out);
        let renditions = self.end_run(clocks, out);
        out.extend(renditions.into_iter().map(|rendition| Output::Ended { rendition }));
        self.publication = publication;
        (self.pictures_track, self.pictures) = (None, Default::default());
        (self.sound_track, self.sound) = (None, None);
        (self.last_number, self.media_clock) = (0, LeastDelay::default());
        (self.waits_since, self.refusal) = (None, None);
        self.wishes.clear();
        self.wished = Default::default();
        self.next_boundary > 0
    }

    fn end_run(&mut self, clocks: Clocks, out: &mut Vec<Output>) -> Vec<super::RenditionIndex> {
        let Some(run) = self.run.take() else { return Vec::new() };
        let source = self.pictures.iter().flatten().next();
        let interval_ticks = source.map_or(i64::from(PICTURE_CLOCK_HZ) / 30, PictureSource::interval_ticks);
        self.next_boundary = run.next_boundary();
        let (end_ns, renditions) = run.finish(interval_ticks, clocks, out);
        self.end_ns = end_ns;
        renditions
    }

    fn assemble(&mut self, now: Instant) {
        self.pictures.iter_mut().flatten().for_each(|source| source.assemble(now));
        self.sound.iter_mut().for_each(|source| source.assemble(now));
    }

    fn advance(&mut self, clocks: Clocks, out: &mut Vec<Output>) {
        self.served = Some(clocks.now);
        if self.refusal.is_some() {
            return;
        }
        self.assemble(clocks.now);
        // A second run, where the first one ends in what there is; a third will have to wait for more.
        for _ in 0..2 {
            if self.run.is_none() {
                self.begin_run(clocks.now);
            }
            match self.take(clocks, out) {
                Ok(()) => break,
                Err(BeginAnew) => {
                    // Renditions that go on are initialized again; one that does not come back is as if it had ended.
                    self.end_run(clocks, out);
                }
            }
        }
        self.wish(clocks.now);
    }

    /// Hands what is ready to the run.
    fn take(&mut self, clocks: Clocks, out: &mut Vec<Output>) -> Result<(), BeginAnew> {
        let references = self.references();
        let sound_reference = self.sound_reference();
        let Some(run) = &mut self.run else { return Ok(()) };
        run.reclock(|layer| references.get(usize::from(layer.0)).copied().flatten(), sound_reference);
        for (at, source) in self.pictures.iter_mut().enumerate() {
            let Some(source) = source.as_mut().filter(|source| source.active) else { continue };
            run.take_pictures(LayerIndex(at as u8), source, references[at], &self.settings, clocks, out)?;
        }
        if let Some(source) = &mut self.sound {
            run.take_sound(source, sound_reference, &self.settings, clocks, out);
        }
        Ok(())
    }

    /// Begins a run where there is enough to begin with.
    fn begin_run(&mut self, now: Instant) {
        let references = self.references();
        let has_begun = self.pictures.iter().flatten().any(|source| source.first().is_some())
            || self.sound.as_ref().is_some_and(|sound| sound.first().is_some());
        if !has_begun {
            return;
        }
        let since = *self.waits_since.get_or_insert(now);
        let active: Vec<_> = self.pictures.iter().zip(references).filter(|(source, _)| is_active(source)).collect();
        let ready = active.iter().filter_map(|(source, reference)| {
            let first = source.as_ref().filter(|source| source.can_begin(now))?.first()?;
            Some(instant_of((*reference)?, first.decode_ticks, PICTURE_CLOCK_HZ))
        });
        let ready: Vec<_> = ready.collect();
        let origin = if active.is_empty() || ready.is_empty() && now >= since + PICTURES_WAIT {
            let first = self.sound.as_ref().and_then(SoundSource::first).map(|frame| frame.start_ticks);
            self.sound_reference().zip(first).map(|((reference, rate), first)| instant_of(reference, first, rate))
        } else if ready.len() == active.len() || now >= since + LAYERS_WAIT {
            ready.into_iter().min()
        } else {
            None
        };
        if let Some(origin) = origin {
            self.run = Some(Run::new(origin, self.end_ns, self.next_boundary));
            self.waits_since = None;
        }
    }

    fn begin_due(&self) -> Option<Instant> {
        let since = self.waits_since.filter(|_| self.run.is_none())?;
        let pictures = self.pictures.iter().flatten().any(|source| source.first().is_some());
        Some(since + if pictures { LAYERS_WAIT } else { PICTURES_WAIT })
    }

    /// Clocks are compared by what the publisher reports of all of them, or by arrival of all of them.
    fn all_reported(&self) -> bool {
        let pictures = self.pictures.iter().flatten().filter(|source| source.arrived.is_some());
        let sound = self.sound.as_ref().filter(|source| source.arrived.is_some());
        pictures.map(|source| source.reported).chain(sound.map(|source| source.reported)).all(|known| known.is_some())
    }

    fn references(&self) -> [Option<ClockReference>; LAYERS_MAX] {
        let by_report = self.all_reported();
        let media_clock = self.media_clock.reference(ORIGINALS_CLOCK_HZ);
        std::array::from_fn(|at| {
            if let Some(clock) = media_clock {
                let ticks_per_ms = u64::from(PICTURE_CLOCK_HZ / ORIGINALS_CLOCK_HZ);
                return Some(ClockReference { time_ticks: clock.time_ticks * ticks_per_ms, ..clock });
            }
            let source = self.pictures[at].as_ref()?;
            if by_report { source.reported } else { source.arrived }
        })
    }

    fn sound_reference(&self) -> Option<(ClockReference, u32)> {
        let source = self.sound.as_ref()?;
        let rate_hz = source.rate_hz()?;
        if let Some(clock) = self.media_clock.reference(ORIGINALS_CLOCK_HZ) {
            let time_ticks = at_rate(clock.time_ticks, rate_hz) - source.moved_ticks();
            return Some((ClockReference { time_ticks: time_ticks as u64, ..clock }, rate_hz));
        }
        Some((if self.all_reported() { source.reported } else { source.arrived }?, rate_hz))
    }

    /// Notes which layers' keyframes are to be asked for; whoever hands over originals cannot be asked.
    fn wish(&mut self, now: Instant) {
        let Some(track) = self.pictures_track else { return };
        for (at, source) in self.pictures.iter().enumerate() {
            let layer = LayerIndex(at as u8);
            let Some(source) = source.as_ref().filter(|source| source.active) else { continue };
            // What is made of a layer here has a keyframe wherever that one has.
            let for_segments =
                || self.run.as_ref().is_some_and(|run| run.wants_keyframe(layer, source, &self.settings));
            let wanted = source.needs_keyframe() || !source.follows && for_segments();
            let due = self.wished[at].is_none_or(|last| now >= last + WISH_INTERVAL);
            if wanted && due && self.wishes.len() < WISHES_MAX {
                self.wished[at] = Some(now);
                self.wishes.push_back((track.index, layer));
            }
        }
    }
}

fn cannot_show(codec: Codec) -> String {
    format!("the stream's pictures are {codec}, which HLS players cannot show: publish H.264, H.265, VP9 or AV1")
}

fn is_active(source: &Option<PictureSource>) -> bool {
    source.as_ref().is_some_and(|source| source.active)
}
