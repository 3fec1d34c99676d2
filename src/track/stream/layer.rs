//! A layer as the tree keeps it: its packets, who asked for a keyframe, and how it goes.

use std::time::{Duration, Instant};

use crate::{
    codec::picture_size,
    media::Codec,
    track::{
        ClockReference, KeyframeGate, LayerIndex, LayerRole, LayerSnapshot, LayerState, LayerUnit, PacketRing,
        RingLimits, TrackPacket,
    },
};

/// A layer has stopped when nothing of it came for so long, and meanwhile so many pictures of the other layers: low
/// frame rates alone do not make it seem so.
const SILENCE: Duration = Duration::from_millis(500);
const PICTURES_MISSED: u32 = 16;
/// The bitrate is that of the last whole stretch of so long.
const BITRATE_STRETCH: Duration = Duration::from_secs(1);

/// Pictures of a layer that are kept for frame readers: 5 s at 60 a second. A group that lasts longer is begun with at its next keyframe.
const UNITS_MAX: usize = 300;
/// Their bytes.
const UNITS_MAX_BYTES: usize = 8 * 1024 * 1024;

/// The publisher's layer that others are made of here: there is only one then.
pub(super) const SOURCE: LayerIndex = LayerIndex(0);

pub(super) struct Layer {
    pub state: LayerState,
    pub clock: Option<ClockReference>,
    pub ring: PacketRing,
    pub gate: KeyframeGate,
    pub packets: u64,
    pub bytes: u64,
    pub keyframes: u64,
    pub bitrate_bps: u64,
    /// When the present stretch of the bitrate began, and what came in it.
    stretch: Option<(Instant, u64)>,
    heard: Option<Instant>,
    /// Pictures of the other layers since.
    missed: u32,
    /// Of a layer beside the first, where the publisher hands over originals: what frame readers begin with, from the last keyframe on.
    pub units: Vec<LayerUnit>,
    units_bytes: usize,
}

/// What packets brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(super) struct Brought {
    pub keyframe: bool,
    pub pictures: u32,
    /// The layer's state is another.
    pub changed: bool,
}

impl Layer {
    pub fn new(codec: Codec, state: LayerState) -> Self {
        Self {
            state,
            clock: None,
            ring: PacketRing::new(RingLimits::of(codec.kind())),
            gate: KeyframeGate::default(),
            packets: 0,
            bytes: 0,
            keyframes: 0,
            bitrate_bps: 0,
            stretch: None,
            heard: None,
            missed: 0,
            units: Vec::new(),
            units_bytes: 0,
        }
    }

    pub fn snapshot(&self, wanted: bool) -> LayerSnapshot {
        let packets = wanted.then(|| self.ring.iter().cloned().collect());
        LayerSnapshot { state: self.state.clone(), clock: self.clock, packets }
    }

    /// The format is another: nothing of the cache is of use with it.
    pub fn empty(&mut self, codec: Codec) {
        self.ring = PacketRing::new(RingLimits::of(codec.kind()));
        self.drop_units();
    }

    /// Keeps a picture for frame readers to begin with; a group that grows too large is of no use to them.
    pub fn keep_unit(&mut self, unit: &LayerUnit) {
        let is_full = self.units.len() == UNITS_MAX || self.units_bytes > UNITS_MAX_BYTES;
        let is_other = self.units.last().is_some_and(|last| last.unit.format != unit.unit.format);
        if unit.unit.unit.keyframe || is_full || is_other {
            self.drop_units();
        }
        if unit.unit.unit.keyframe || !self.units.is_empty() {
            self.units_bytes += unit.unit.unit.data.len();
            self.units.push(unit.clone());
        }
    }

    fn drop_units(&mut self) {
        self.units.clear();
        self.units_bytes = 0;
    }

    pub fn take(&mut self, now: Instant, codec: Codec, packets: &[std::sync::Arc<TrackPacket>]) -> Brought {
        let is_shown = self.state.role != LayerRole::Replaced;
        let mut brought = Brought { changed: self.state.active != is_shown, ..Brought::default() };
        (self.state.active, self.heard, self.missed) = (is_shown, Some(now), 0);
        let mut bytes = 0;
        for packet in packets {
            bytes += packet.payload.len() as u64;
            brought.pictures += u32::from(packet.marker);
            if packet.keyframe_start {
                brought.keyframe = true;
                self.keyframes += 1;
                let size = picture_size(codec, &packet.payload).or(self.state.size);
                brought.changed |= size != self.state.size;
                self.state.size = size;
            }
            self.ring.insert(packet.clone());
        }
        self.packets += packets.len() as u64;
        self.bytes += bytes;
        self.measure(now, bytes);
        brought
    }

    /// Pictures of another layer came and none of this one. True when it is taken to have stopped because of that.
    pub fn miss(&mut self, now: Instant, pictures: u32) -> bool {
        self.missed = self.missed.saturating_add(pictures);
        let silent = self.heard.is_none_or(|heard| now >= heard + SILENCE);
        self.state.active && silent && self.missed >= PICTURES_MISSED && self.stop()
    }

    /// The publisher sends it no longer. False when that was known.
    pub fn stop(&mut self) -> bool {
        (self.bitrate_bps, self.stretch) = (0, None);
        self.drop_units();
        std::mem::replace(&mut self.state.active, false)
    }

    /// Viewers get another layer instead of this one from now on, or no longer. False when that was so.
    pub fn replace(&mut self, is_replaced: bool) -> bool {
        let role = if is_replaced { LayerRole::Replaced } else { LayerRole::Sent };
        if self.state.role == role {
            return false;
        }
        self.state.role = role;
        self.state.active = !is_replaced && self.heard.is_some();
        true
    }

    /// The publisher's layer that it is, or is made of: a keyframe of that one is one of this.
    pub fn source(&self, layer: LayerIndex) -> LayerIndex {
        if self.state.role.is_made_here() { SOURCE } else { layer }
    }

    fn measure(&mut self, now: Instant, bytes: u64) {
        let (since, before) = self.stretch.unwrap_or((now, 0));
        let took = now.saturating_duration_since(since);
        if took < BITRATE_STRETCH {
            self.stretch = Some((since, before + bytes));
            return;
        }
        self.bitrate_bps = before * 8_000 / took.as_millis().max(1) as u64;
        self.stretch = Some((now, bytes));
    }
}
