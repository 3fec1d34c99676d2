//! A camera with layers, and a viewer who goes from one to another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    codec::PictureSize,
    media::{Codec, ExtendedSeq, MediaKind, TrackFormat, testing::epoch},
    track::{
        Batch, ClockReference, Delivery, LayerIndex, LayerRole, LayerSnapshot, LayerState, News, Outgoing, Replica,
        ReplicaTrack, Snapshot, Subscription, SwitchWait, TrackIndex, TrackPacket, TrackSnapshot,
    },
};

pub const FRAME: Duration = Duration::from_micros(33_333);
pub const FRAME_TICKS: u64 = 3_000;
pub const LOW: LayerIndex = LayerIndex(0);
pub const HIGH: LayerIndex = LayerIndex(1);

/// What a packet shows: which layer's, and which picture of the camera.
pub fn content(layer: usize, picture: u64) -> Bytes {
    let mut bytes = vec![layer as u8];
    bytes.extend(picture.to_be_bytes());
    bytes.into()
}

pub fn shown(packet: &TrackPacket) -> (u8, u64) {
    let (layer, picture) = packet.payload.split_first().unwrap();
    (*layer, u64::from_be_bytes(picture.try_into().unwrap()))
}

/// One layer as its encoder sends it.
#[derive(Clone)]
pub struct Encoder {
    pub seq: u64,
    /// Ticks at picture 0.
    pub base_ticks: u64,
    pub packets: u64,
    pub active: bool,
    pub role: LayerRole,
}

/// A camera of 30 pictures a second, its layers' encoders, and a worker's replica, on a virtual clock.
pub struct Camera {
    pub replica: Replica,
    pub encoders: Vec<Encoder>,
    pub now: Instant,
    pub picture: u64,
}

impl Camera {
    /// Layers of 1, 2, 3... packets a picture, with clocks and numbers that have nothing to do with each other.
    pub fn new(layers: usize) -> Self {
        let encoder = |at: usize| Encoder {
            seq: 10_000 * (at as u64 + 1),
            base_ticks: 77_000_000 + 1_234_567_890 * at as u64,
            packets: at as u64 + 1,
            active: true,
            role: LayerRole::Sent,
        };
        let encoders = (0..layers).map(encoder).collect();
        let mut camera = Self { replica: Replica::default(), encoders, now: epoch(), picture: 0 };
        camera.snapshot(0, |_| Vec::new());
        camera
    }

    pub fn states(&self) -> Vec<LayerState> {
        let state = |(at, encoder): (usize, &Encoder)| LayerState {
            rid: Some(at.to_string()),
            size: Some(PictureSize { width: 320 << at, height: 180 << at }),
            active: encoder.active,
            role: encoder.role,
        };
        self.encoders.iter().enumerate().map(state).collect()
    }

    pub fn snapshot(&mut self, epoch_number: u32, packets: impl Fn(usize) -> Vec<Arc<TrackPacket>>) {
        let clock = |encoder: &Encoder| ClockReference { at: epoch(), time_ticks: encoder.base_ticks, by_report: true };
        let states = self.states();
        let layers = states.into_iter().enumerate().map(|(at, state)| LayerSnapshot {
            state,
            clock: Some(clock(&self.encoders[at])),
            packets: Some(packets(at)),
        });
        let format = TrackFormat { codec: Codec::Vp8, fmtp: String::new(), channels: 1 };
        let track = TrackSnapshot { epoch: epoch_number, format, layers: layers.collect() };
        let snapshot = Snapshot { publication: 1, sound_lags: false, tracks: vec![track] };
        self.replica.apply(Delivery::Snapshot(Arc::new(snapshot)), &mut News::default());
    }

    /// The packets of a layer's present picture.
    pub fn encode(&mut self, layer: LayerIndex, keyframe: bool) -> Vec<Arc<TrackPacket>> {
        let (now, picture, at) = (self.now, self.picture, usize::from(layer.0));
        let encoder = &mut self.encoders[at];
        let first = encoder.seq;
        encoder.seq += encoder.packets;
        let packet = |seq: u64| {
            Arc::new(TrackPacket {
                seq: ExtendedSeq(seq),
                time_ticks: encoder.base_ticks + picture * FRAME_TICKS,
                arrival: now,
                marker: seq + 1 == encoder.seq,
                keyframe_start: keyframe && seq == first,
                capture: None,
                payload: content(at, picture),
            })
        };
        (first..encoder.seq).map(packet).collect()
    }

    pub fn deliver(&mut self, layer: LayerIndex, packets: Vec<Arc<TrackPacket>>) {
        let batch = Batch { track: TrackIndex(0), layer, packets };
        self.replica.apply(Delivery::Packets(Arc::new([batch])), &mut News::default());
    }

    pub fn next_picture(&mut self) {
        self.now += FRAME;
        self.picture += 1;
    }

    /// One picture in all active layers; a keyframe in those named.
    pub fn take_picture(&mut self, keyframes: &[LayerIndex]) {
        self.next_picture();
        for layer in (0..self.encoders.len() as u8).map(LayerIndex) {
            if self.encoders[usize::from(layer.0)].active {
                let packets = self.encode(layer, keyframes.contains(&layer));
                self.deliver(layer, packets);
            }
        }
    }

    pub fn set_active(&mut self, layer: LayerIndex, active: bool) {
        self.encoders[usize::from(layer.0)].active = active;
        let states = self.states().into();
        self.replica.apply(Delivery::Layers { track: TrackIndex(0), states }, &mut News::default());
    }

    pub fn track(&self) -> &ReplicaTrack {
        self.replica.track(MediaKind::Video).unwrap()
    }
}

pub struct Watcher {
    pub subscription: Subscription,
    pub got: Vec<((u8, u64), Outgoing)>,
}

impl Watcher {
    pub fn new() -> Self {
        Self { subscription: Subscription::new(MediaKind::Video, 32_000, 900_000), got: Vec::new() }
    }

    pub fn follow(&mut self, camera: &Camera, layer: LayerIndex) {
        self.subscription.follow(camera.now, camera.track(), layer, true);
    }

    /// Takes at most so many packets; gives what a switch waits for.
    pub fn take(&mut self, camera: &Camera, most: usize) -> Option<SwitchWait> {
        for _ in 0..most {
            let wait = self.subscription.switch(camera.now, camera.track());
            let Some((packet, outgoing)) = self.subscription.take(camera.now, camera.track()) else { return wait };
            self.got.push((shown(packet), outgoing));
        }
        None
    }

    pub fn take_all(&mut self, camera: &Camera) -> Option<SwitchWait> {
        self.take(camera, usize::MAX)
    }

    /// Numbers without a gap, times that never run back, and of each picture one time of its own.
    pub fn assert_sound(&self) {
        for pair in self.got.windows(2) {
            let ((was, before), (is, after)) = (pair[0], pair[1]);
            assert_eq!(after.seq, before.seq.next(), "{pair:?}");
            if was == is {
                assert_eq!(after.time_ticks, before.time_ticks, "one picture has one time: {pair:?}");
            } else {
                assert!(after.time_ticks > before.time_ticks, "another picture is later: {pair:?}");
            }
        }
    }

    pub fn pictures(&self) -> Vec<(u8, u64)> {
        let mut pictures: Vec<_> = self.got.iter().map(|(shown, _)| *shown).collect();
        pictures.dedup();
        pictures
    }
}
