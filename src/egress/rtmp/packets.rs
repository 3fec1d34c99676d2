//! A WebRTC publisher's packets, put together for an RTMP target: H.264 as it is, Opus as AAC.

use std::{
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
    refusals: [Option<String>; 2],
}

/// One layer of a track.
struct Lane {
    index: TrackIndex,
    epoch: u32,
    layer: LayerIndex,
    assembler: Assembler,
    maker: Maker,
    /// By the publisher's reports, and by the first arrival.
    reported: Option<ClockReference>,
    arrived: Option<ClockReference>,
}

enum Maker {
    Pictures { depacketizer: Box<Depacketizer>, setup: Option<Arc<DecoderSetup>> },
    Sound { to_aac: Option<Box<OpusToAac>>, announced: bool },
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
                let lanes = [&mut self.pictures, &mut self.sound].into_iter().flatten();
                let of = |lane: &&mut Lane| (lane.index, lane.layer) == (*track, *layer) && reference.by_report;
                lanes.filter(of).for_each(|lane| lane.reported = Some(*reference));
            }
            Delivery::Layers { track, states } => self.follow_layers(*track, states),
        }
    }

    fn take_snapshot(&mut self, snapshot: &Snapshot) {
        for (index, track) in (0..).map(TrackIndex).zip(&snapshot.tracks) {
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
        lane.reported = of.clock.filter(|clock| clock.by_report).or(lane.reported);
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

    fn make(&mut self, kind: MediaKind, frame: &AssembledFrame, made: &mut impl FnMut(i64, Frame)) {
        let origin = *self.origin.get_or_insert(frame.arrival);
        let by_report = [&self.pictures, &self.sound].into_iter().flatten().all(|lane| lane.reported.is_some());
        let lane = if kind == MediaKind::Video { &mut self.pictures } else { &mut self.sound };
        let Some(lane) = lane else { return };
        let reference = if by_report { lane.reported } else { lane.arrived };
        let Some(reference) = reference else { return };
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
                let time_ms = ms_of(reference, origin, frame.time_ticks as i64, PICTURE_CLOCK_HZ);
                if let Some(new) = picture.setup.filter(|new| setup.as_ref() != Some(new)) {
                    made(time_ms, Frame::PictureFormat(new.configuration.clone()));
                    *setup = Some(new);
                }
                let (keyframe, data) = (picture.keyframe, picture.data);
                made(time_ms, Frame::Picture { composition_ms: 0, keyframe, data });
            }
            Maker::Sound { to_aac, announced } => {
                let (Some(encoder), Some(packet)) = (to_aac.as_mut(), frame.payloads.first()) else { return };
                let at = |ticks| ms_of(reference, origin, ticks, opus::CLOCK_HZ);
                if !std::mem::replace(announced, true) {
                    let configuration = encoder.configuration().clone();
                    made(at(frame.time_ticks as i64), Frame::SoundFormat(configuration));
                }
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
            MediaKind::Audio => Maker::Sound { to_aac: OpusToAac::new().ok().map(Box::new), announced: false },
        };
        Self { index, epoch, layer, assembler: Assembler::new(kind), maker, reported: None, arrived: None }
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
