//! A WebRTC publisher's packets, put together for an RTMP target: H.264 as it is, Opus as AAC.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::feed::{Frame, refusal};
use crate::{
    codec::{
        depacketize::{AvcPictures, DecoderSetup, Depacketizer},
        opus,
    },
    media::{Codec, MediaKind},
    track::{
        AssembledFrame, Assembler, Batch, ClockReference, Delivery, LayerIndex, LayerSnapshot, LayerState, Snapshot,
        TrackIndex, TrackSnapshot, best_active,
    },
    transcode::OpusToAac,
};

const PICTURE_CLOCK_HZ: u32 = 90_000;

/// See the module.
#[derive(Default)]
pub(super) struct Packets {
    pictures: Option<Lane>,
    sound: Option<Lane>,
    /// What times are counted from.
    origin: Option<Instant>,
    /// By the publisher's reports, of each layer.
    clocks: HashMap<(TrackIndex, LayerIndex), ClockReference>,
    /// Times go by reports; else by arrival.
    by_report: bool,
    /// Added to all times, so that none goes back when they begin to go by reports.
    shift_ms: i64,
    refusals: [Option<String>; 2],
}

/// One layer of a track.
struct Lane {
    index: TrackIndex,
    epoch: u32,
    layer: LayerIndex,
    assembler: Assembler,
    maker: Maker,
    /// By the first arrival.
    arrived: Option<ClockReference>,
}

enum Maker {
    Pictures { depacketizer: Box<Depacketizer>, setup: Option<Arc<DecoderSetup>> },
    Sound { to_aac: Option<Box<OpusToAac>> },
}

impl Packets {
    pub(super) fn refusals(&self) -> [Option<String>; 2] {
        self.refusals.clone()
    }

    /// The layer that is sent.
    pub(super) fn pictures(&self) -> Option<(TrackIndex, LayerIndex)> {
        self.pictures.as_ref().map(|lane| (lane.index, lane.layer))
    }

    pub(super) fn due(&self) -> Option<Instant> {
        let lanes = [&self.pictures, &self.sound].into_iter().flatten();
        lanes.filter_map(|lane| lane.assembler.due()).min()
    }

    pub(super) fn take(&mut self, delivery: &Delivery) {
        match delivery {
            Delivery::Snapshot(snapshot) => self.take_snapshot(snapshot),
            Delivery::Packets(batches) => batches.iter().for_each(|batch| self.take_batch(batch)),
            Delivery::Clock { track, layer, reference } => {
                self.measured(*track, *layer, Some(*reference));
            }
            Delivery::Layers { track, states } => self.follow_layers(*track, states),
        }
    }

    fn measured(&mut self, track: TrackIndex, layer: LayerIndex, clock: Option<ClockReference>) {
        self.clocks.extend(clock.filter(|clock| clock.by_report).map(|clock| ((track, layer), clock)));
    }

    fn take_snapshot(&mut self, snapshot: &Snapshot) {
        for (index, track) in (0..).map(TrackIndex).zip(&snapshot.tracks) {
            for (layer, of) in (0..).map(LayerIndex).zip(&track.layers) {
                self.measured(index, layer, of.clock);
            }
            let layers = || (0..).map(LayerIndex).zip(track.layers.iter().map(|layer| &layer.state));
            let layer = best_active(layers()).unwrap_or(LayerIndex(0));
            let Some(of) = track.layers.get(usize::from(layer.0)) else { continue };
            match track.format.codec {
                Codec::H264 | Codec::Opus => self.resume(index, track, layer, of),
                other => {
                    self.pictures = None;
                    self.refusals[MediaKind::Video as usize] = Some(refusal(other.sdp_name()));
                }
            }
        }
    }

    /// The same lane again, or another.
    fn resume(&mut self, index: TrackIndex, track: &TrackSnapshot, layer: LayerIndex, of: &LayerSnapshot) {
        let kind = track.format.codec.kind();
        self.refusals[kind as usize] = None;
        let place = if kind == MediaKind::Video { &mut self.pictures } else { &mut self.sound };
        let goes_on = |lane: &Lane| (lane.index, lane.epoch, lane.layer) == (index, track.epoch, layer);
        if !place.as_ref().is_some_and(goes_on) {
            *place = Some(Lane::new(index, track.epoch, layer, kind));
        }
        let Some(lane) = place else { return };
        of.packets.iter().flatten().for_each(|packet| lane.assembler.push(packet.clone()));
    }

    fn take_batch(&mut self, batch: &Batch) {
        let lanes = [&mut self.pictures, &mut self.sound].into_iter().flatten();
        for lane in lanes.filter(|lane| (lane.index, lane.layer) == (batch.track, batch.layer)) {
            batch.packets.iter().for_each(|packet| lane.assembler.push(packet.clone()));
        }
    }

    /// The layer may have stopped, or a higher one may have come.
    fn follow_layers(&mut self, track: TrackIndex, states: &[LayerState]) {
        let Some(lane) = self.pictures.as_mut().filter(|lane| lane.index == track) else { return };
        let best = best_active((0..).map(LayerIndex).zip(states));
        if let Some(layer) = best.filter(|layer| *layer != lane.layer) {
            *lane = Lane::new(track, lane.epoch, layer, MediaKind::Video);
        }
    }

    /// Hands out what has become whole, with its time in milliseconds.
    pub(super) fn assemble(&mut self, now: Instant, mut made: impl FnMut(i64, Frame)) {
        // Sound first: the lanes are put on one clock, and a picture may take long.
        while let Some(frame) = self.sound.as_mut().and_then(|lane| lane.poll(now)) {
            self.make(MediaKind::Audio, &frame, &mut made);
        }
        while let Some(frame) = self.pictures.as_mut().and_then(|lane| lane.poll(now)) {
            self.make(MediaKind::Video, &frame, &mut made);
        }
    }

    /// From when on all lanes are reported, times go by that. What it moves them by is each lane's own: all wait for the one that would go
    /// back furthest, so that they keep together.
    fn go_by_reports(&mut self, origin: Instant) {
        if self.by_report {
            return;
        }
        let mut least_ms: Option<i64> = None;
        for lane in [&self.pictures, &self.sound].into_iter().flatten() {
            let Some(reported) = self.clocks.get(&(lane.index, lane.layer)) else { return };
            let Some(arrived) = lane.arrived else { continue };
            let rate_hz = if matches!(lane.maker, Maker::Pictures { .. }) { PICTURE_CLOCK_HZ } else { opus::CLOCK_HZ };
            let at = |reference| ms_of(reference, origin, arrived.time_ticks as i64, rate_hz);
            let moved_ms = at(*reported) - at(arrived);
            least_ms = Some(least_ms.map_or(moved_ms, |least| least.min(moved_ms)));
        }
        self.by_report = true;
        self.shift_ms = -least_ms.unwrap_or(0);
    }

    fn make(&mut self, kind: MediaKind, frame: &AssembledFrame, made: &mut impl FnMut(i64, Frame)) {
        let origin = *self.origin.get_or_insert(frame.arrival);
        self.go_by_reports(origin);
        let (by_report, shift_ms) = (self.by_report, self.shift_ms);
        let lane = if kind == MediaKind::Video { &mut self.pictures } else { &mut self.sound };
        let Some(lane) = lane else { return };
        let reported = self.clocks.get(&(lane.index, lane.layer)).copied().filter(|_| by_report);
        let Some(reference) = reported.or(lane.arrived) else { return };
        let time = |ticks, rate_hz| shift_ms + ms_of(reference, origin, ticks, rate_hz);
        match &mut lane.maker {
            Maker::Pictures { depacketizer, setup } => {
                if frame.after_loss {
                    *setup = None;
                }
                let picture = depacketizer.picture(&frame.payloads).ok();
                let Some(picture) = picture.filter(|picture| picture.setup.is_some() || setup.is_some()) else {
                    // What comes after it refers to it.
                    *setup = None;
                    return lane.assembler.restart();
                };
                let time_ms = time(frame.time_ticks as i64, PICTURE_CLOCK_HZ);
                let is_new = picture.setup.is_some() && picture.setup != *setup;
                *setup = picture.setup.or(setup.take());
                if let Some(setup) = setup.as_ref().filter(|_| is_new || picture.keyframe) {
                    made(time_ms, Frame::PictureFormat(setup.configuration.clone()));
                }
                let (keyframe, data) = (picture.keyframe, picture.data);
                made(time_ms, Frame::Picture { composition_ms: 0, keyframe, data });
            }
            Maker::Sound { to_aac } => {
                let (Some(encoder), Some(packet)) = (to_aac.as_mut(), frame.payloads.first()) else { return };
                let at = |ticks| time(ticks, opus::CLOCK_HZ);
                made(at(frame.time_ticks as i64), Frame::SoundFormat(encoder.configuration().clone()));
                let pushed = encoder.push(packet, frame.time_ticks as i64, |frame| {
                    made(at(frame.time_ticks), Frame::Sound(frame.data));
                });
                if pushed.is_err() {
                    *to_aac = OpusToAac::new().ok().map(Box::new);
                }
            }
        }
    }
}

impl Lane {
    fn new(index: TrackIndex, epoch: u32, layer: LayerIndex, kind: MediaKind) -> Self {
        let maker = match kind {
            MediaKind::Video => {
                let depacketizer = Box::new(Depacketizer::H264(AvcPictures::default()));
                Maker::Pictures { depacketizer, setup: None }
            }
            MediaKind::Audio => Maker::Sound { to_aac: OpusToAac::new().ok().map(Box::new) },
        };
        Self { index, epoch, layer, assembler: Assembler::new(kind), maker, arrived: None }
    }

    fn poll(&mut self, now: Instant) -> Option<AssembledFrame> {
        let frame = self.assembler.poll(now)?;
        let arrived = ClockReference { at: frame.arrival, time_ticks: frame.time_ticks, by_report: false };
        self.arrived.get_or_insert(arrived);
        Some(frame)
    }
}

/// A time on a layer's clock, in milliseconds after the origin.
fn ms_of(reference: ClockReference, origin: Instant, ticks: i64, rate_hz: u32) -> i64 {
    let behind = ticks - reference.time_ticks as i64;
    let ahead =
        |from: Instant, to: Instant| to.checked_duration_since(from).unwrap_or(Duration::ZERO).as_millis() as i64;
    let at_ms = ahead(origin, reference.at) - ahead(reference.at, origin);
    at_ms + behind * 1_000 / i64::from(rate_hz)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn lanes_that_begin_to_go_by_reports_keep_together_and_none_goes_back() {
        let ms = |ms: u64| epoch() + Duration::from_millis(ms);
        let mut packets = Packets { origin: Some(epoch()), ..Packets::default() };
        let lane = |index, kind, arrived_ms: u64, rate_hz: u32| {
            let mut lane = Lane::new(TrackIndex(index), 0, LayerIndex(0), kind);
            let time_ticks = 1_000_000 + u64::from(rate_hz);
            lane.arrived = Some(ClockReference { at: ms(arrived_ms), time_ticks, by_report: false });
            Some(lane)
        };
        packets.pictures = lane(0, MediaKind::Video, 180, PICTURE_CLOCK_HZ);
        packets.sound = lane(1, MediaKind::Audio, 60, opus::CLOCK_HZ);
        let report = |time_ticks| Some(ClockReference { at: epoch(), time_ticks, by_report: true });
        // Captured together at 0, by the reports; pictures took 180 ms to come, sound 60.
        packets.measured(TrackIndex(0), LayerIndex(0), report(1_000_000 + u64::from(PICTURE_CLOCK_HZ)));
        packets.go_by_reports(epoch());
        assert!(!packets.by_report, "sound is not reported yet");
        packets.measured(TrackIndex(1), LayerIndex(0), report(1_000_000 + u64::from(opus::CLOCK_HZ)));
        packets.go_by_reports(epoch());
        // Pictures would have gone back by 180 ms: they go on, and sound waits 120 ms for them.
        assert_eq!((packets.by_report, packets.shift_ms), (true, 180));
    }
}
