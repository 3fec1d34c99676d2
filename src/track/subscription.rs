//! One viewer's reading of one track: which packet is next, and under which number and time it goes out.
//!
//! The tree's numbering and clock change with every publisher; the viewer's never jump. This is the one place where the
//! two meet, since whatever is left out or inserted changes numbering. Whose turn it is and how fast is for the caller.
//!
//! Of a track's layers a viewer reads one. It goes over to another at that one's keyframe, and has the old one's pictures up to
//! there: numbers go on, and so does time, since the layers' clocks are known to each other.
//!
//! A viewer joins at the last keyframe. The pictures since then are stamped with times squeezed up to the live edge, so
//! that the decoder runs through them as fast as they come and no delay stays behind.

mod mapping;
#[cfg(test)]
mod switching_tests;
#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    codec::vp8::PictureNumbers,
    media::{Codec, ExtendedSeq, MediaKind},
    track::{LayerIndex, LayerSet, PacketRing, ReplicaLayer, ReplicaTrack, TrackPacket, packet::advance},
};

use mapping::{CATCHING_UP, Mapping, Stamps};
pub use mapping::{Outgoing, Playout};

/// Runs of numbering kept for retransmission: a viewer asks for what it missed within a second or two, and a run lasts
/// at least a keyframe request.
const MAPPINGS_MAX: usize = 4;

/// How far the keyframe of a switch may lie behind what was shown last: as much as one layer's encoder and pacer may be behind
/// another's. An older one would show again what has been seen.
const SWITCH_BACK_MAX: Duration = Duration::from_millis(150);
/// How much further, where the layer is made here and comes later than the one that is read: beyond, it is not live.
const MADE_LAG_MAX: Duration = Duration::from_secs(2);
/// How long a switch waits for the rest of a picture that is half sent.
const PICTURE_PATIENCE: Duration = Duration::from_millis(50);
/// How long a layer may be asked for again after a switch from it: a round trip, and some repeats.
const LEFT_KEPT: Duration = Duration::from_secs(2);
/// The time between two pictures at 60 a second, and not quite.
const PICTURE_INTERVAL_MIN: Duration = Duration::from_millis(16);

/// What a subscription is at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Nothing can be shown until a keyframe comes.
    Waiting,
    /// Running from a cached keyframe up to the live edge.
    CatchingUp,
    /// At the live edge.
    Live,
}

/// What a switch of layers waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchWait {
    /// A keyframe of this layer that is new enough.
    Keyframe(LayerIndex),
    /// The pictures before it.
    Pictures,
}

/// The picture that was sent last, or is being sent.
#[derive(Debug, Clone, Copy)]
struct Picture {
    /// In the layer's ticks.
    in_ticks: u64,
    /// What the viewer's ticks would be at the live edge: where the picture belongs, however it was squeezed.
    live_ticks: u64,
    is_whole: bool,
}

#[derive(Debug, Clone, Copy)]
struct LastSent {
    at: Instant,
    time_ticks: u64,
}

/// A viewer's place in a track.
#[derive(Debug)]
pub struct Subscription {
    kind: MediaKind,
    phase: Phase,
    /// The layer that is read, or waited for.
    layer: LayerIndex,
    /// The layer to go over to.
    target: Option<LayerIndex>,
    /// The layer that was read before, until when.
    left: Option<(LayerIndex, Instant)>,
    picture: Option<Picture>,
    /// The current stretch, last; older ones are kept for retransmission.
    mappings: VecDeque<Mapping>,
    /// The layer's next number to send.
    next: ExtendedSeq,
    /// One past the highest number the viewer was sent.
    next_out: ExtendedSeq,
    last: Option<LastSent>,
    /// Of the VP8 picture sent last, as it went out.
    vp8_last: Option<PictureNumbers>,
    first_offset_ticks: u64,
    stamps: Stamps,
}

impl Subscription {
    /// `first_seq` (below 2^15, RFC 3711 section 3.3.1: the first packet's rollover count must be guessable as 0) and
    /// `first_offset_ticks` are random (RFC 3550 section 5.1).
    pub fn new(kind: MediaKind, first_seq: u16, first_offset_ticks: u32) -> Self {
        Self {
            kind,
            phase: Phase::Waiting,
            layer: LayerIndex(0),
            target: None,
            left: None,
            picture: None,
            mappings: VecDeque::new(),
            next: ExtendedSeq(0),
            next_out: ExtendedSeq(u64::from(first_seq & 0x7fff)),
            last: None,
            vp8_last: None,
            first_offset_ticks: u64::from(first_offset_ticks),
            stamps: Stamps::default(),
        }
    }

    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The layer that is read, or waited for.
    pub fn layer(&self) -> LayerIndex {
        self.layer
    }

    /// One past the highest number the viewer was sent: no packet that goes out later has a lower one, but to fill a gap.
    pub fn next_out(&self) -> ExtendedSeq {
        self.next_out
    }

    /// Those that must be at hand: what is read, what it is to go over to, and what may be asked for again.
    pub fn layers_needed(&self, now: Instant) -> LayerSet {
        let left = self.left.filter(|(_, at)| now.saturating_duration_since(*at) < LEFT_KEPT).map(|(layer, _)| layer);
        [Some(self.layer), self.target, left].into_iter().flatten().collect()
    }

    /// Follows the track after it changed: a run that ended leaves the viewer waiting for the next one's keyframe.
    /// `layer` is the one it is to have. With `instant` a cached keyframe is taken at once; without, the next live one is waited for.
    pub fn follow(&mut self, now: Instant, track: &ReplicaTrack, layer: LayerIndex, instant: bool) {
        if self.phase != Phase::Waiting && self.current(track).is_none() {
            self.phase = Phase::Waiting;
        }
        if self.phase == Phase::Waiting {
            (self.layer, self.target) = (layer, None);
            self.begin(now, track, instant);
        } else {
            self.target = (layer != self.layer).then_some(layer);
            if self.target.is_some() && instant && self.current(track).is_some_and(|layer| !layer.state().active) {
                self.fall(now, track);
            }
        }
    }

    /// Goes back to the cached keyframe, for a viewer whose picture broke; false when the cache cannot serve.
    pub fn rejoin(&mut self, now: Instant, track: &ReplicaTrack) -> bool {
        if self.kind == MediaKind::Audio || !track.layer(self.layer).is_some_and(|layer| can_join(layer.ring())) {
            return false;
        }
        self.phase = Phase::Waiting;
        // What the viewer still misses from before the keyframe is of no use to it any more.
        self.mappings.clear();
        self.begin(now, track, true);
        self.phase != Phase::Waiting
    }

    /// Goes over to the layer that [`Self::follow`] named, if its keyframe is here and the pictures before that are sent. To be called
    /// before each [`Self::peek`]; gives what a switch still waits for.
    pub fn switch(&mut self, now: Instant, track: &ReplicaTrack) -> Option<SwitchWait> {
        let target = self.target?;
        let wait = SwitchWait::Keyframe(target);
        let (Some(mapping), Some(from)) = (self.mappings.back(), self.current(track)) else { return Some(wait) };
        let Some(to) = track.layer(target) else { return Some(wait) };
        let (Some(first), Some(picture)) = (to.ring().join_point().and_then(|at| to.ring().get(at)), self.picture)
        else {
            return Some(wait);
        };
        let rate_hz = track.format().codec.clock_rate_hz();
        let Some(behind) = to.ticks_behind(from, now, rate_hz) else { return Some(wait) };
        let offset_ticks = mapping.offset_ticks.wrapping_add(behind);
        let begins_ticks = first.time_ticks.wrapping_add(offset_ticks);
        let back_max_ticks = ticks_of(SWITCH_BACK_MAX, rate_hz) + made_lag_ticks(to, from, behind, rate_hz);
        // Where the old layer has stopped, that is no matter: what is behind it is the best there is.
        let is_old = from.state().active && is_before(begins_ticks.wrapping_add(back_max_ticks), picture.live_ticks);
        if is_old || !can_join(to.ring()) {
            return Some(wait);
        }
        let goes_on = match self.peek(track) {
            Some(next) if next.time_ticks == picture.in_ticks => !picture.is_whole,
            Some(next) => is_before(mapping.live_ticks(next), begins_ticks),
            None => !picture.is_whole && now.saturating_duration_since(first.arrival) < PICTURE_PATIENCE,
        };
        if goes_on {
            return Some(SwitchWait::Pictures);
        }
        // Not at one time with what was sent, nor before it; else squeezed until time has caught up.
        let follows = self.last.is_none_or(|last| is_before(last.time_ticks, begins_ticks));
        let (first, run, vp8_shift) = (first.seq, to.run(), self.vp8_shift(track, first));
        self.leave(now, target);
        self.map(Mapping {
            run,
            first,
            out_first: self.next_out,
            offset_ticks,
            live_from: if follows { first } else { CATCHING_UP },
            vp8_shift,
        });
        None
    }

    /// The next packet to send and its size, without sending it.
    pub fn peek<'a>(&self, track: &'a ReplicaTrack) -> Option<&'a TrackPacket> {
        if self.phase == Phase::Waiting {
            return None;
        }
        let ring = track.layer(self.layer)?.ring();
        let mut seq = self.next;
        while seq < ring.end() {
            if let Some(packet) = ring.get(seq) {
                return Some(packet);
            }
            seq = seq.next();
        }
        None
    }

    /// Takes the next packet, numbered and timed for the viewer. Gaps stay gaps, for the late packet that may fill them.
    pub fn take<'a>(&mut self, now: Instant, track: &'a ReplicaTrack) -> Option<(&'a TrackPacket, Outgoing)> {
        let packet = self.peek(track)?;
        let mapping = *self.mappings.back()?;
        let layer = track.layer(self.layer)?;
        let rate_hz = track.format().codec.clock_rate_hz();
        let playout = mapping.playout(packet.seq);
        let seq = mapping.out(packet.seq)?;
        if track.format().codec == Codec::Vp8 {
            let numbers = PictureNumbers::of(&packet.payload).map(|numbers| numbers.shifted(mapping.vp8_shift));
            self.vp8_last = numbers.or(self.vp8_last);
        }
        let live_ticks = mapping.live_ticks(packet);
        let time_ticks = match playout {
            Playout::AtOnce => self.squeeze(now, layer.ring(), rate_hz, packet, seq, &mapping),
            Playout::Unsaid | Playout::Live => live_ticks,
        };
        self.next = packet.seq.next();
        self.next_out = self.next_out.max(seq.next());
        self.picture = Some(Picture { in_ticks: packet.time_ticks, live_ticks, is_whole: packet.marker });
        if self.last.is_none_or(|last| last.time_ticks <= time_ticks) {
            self.last = Some(LastSent { at: now, time_ticks });
        }
        // The rest of a picture goes out with the time of its first packet, so the edge lies between two pictures. It is reached
        // when the next picture's own time will be later than what was sent: after a switch that may take some pictures.
        let next_ticks = live_ticks.wrapping_add(ticks_of(PICTURE_INTERVAL_MIN, rate_hz));
        let caught_up = is_before(time_ticks, next_ticks);
        if packet.marker && caught_up && self.next >= layer.ring().end() {
            self.reach_live_edge();
        }
        Some((packet, Outgoing { seq, time_ticks, playout, vp8_shift: mapping.vp8_shift }))
    }

    /// A packet that filled a gap behind the place already read; `None` when it is still ahead or of no use.
    pub fn late<'a>(
        &self,
        layer: LayerIndex,
        seq: ExtendedSeq,
        track: &'a ReplicaTrack,
    ) -> Option<(&'a TrackPacket, Outgoing)> {
        let mapping = self.mappings.back().filter(|mapping| mapping.run.layer() == layer)?;
        // What is from before the stretch is none of the viewer's.
        let is_passed = self.phase != Phase::Waiting && mapping.first <= seq && seq < self.next;
        let packet = track.layer_of(mapping.run).filter(|_| is_passed)?.ring().get(seq)?;
        Some((packet, mapping.outgoing(packet, &self.stamps)?))
    }

    /// Finds the packet that went out under a number (its low 16 bits), exactly as it went out.
    pub fn sent<'a>(&self, wire_seq: u16, track: &'a ReplicaTrack) -> Option<(&'a TrackPacket, Outgoing)> {
        let newest = self.next_out.0.checked_sub(1)?;
        let back = u64::from((newest as u16).wrapping_sub(wire_seq));
        let seq = ExtendedSeq(newest.checked_sub(back)?);
        let mapping = self.mappings.iter().rev().find(|mapping| mapping.out_first <= seq)?;
        let packet = track.layer_of(mapping.run)?.ring().get(mapping.first + (seq - mapping.out_first))?;
        Some((packet, mapping.outgoing(packet, &self.stamps)?))
    }

    /// The viewer's RTP time of the live edge at `now`, for sender reports; `None` before anything was sent.
    pub fn live_time_ticks(&self, now: Instant, track: &ReplicaTrack) -> Option<u64> {
        let mapping = self.mappings.back()?;
        let clock = track.layer_of(mapping.run)?.clock()?;
        Some(clock.ticks_at(now, track.format().codec.clock_rate_hz()).wrapping_add(mapping.offset_ticks))
    }

    /// The old squeezed pictures can no longer be asked for.
    pub fn forget_squeezed(&mut self) {
        self.stamps = Stamps::default();
    }

    pub fn remembers_squeezed(&self) -> bool {
        !self.stamps.is_empty()
    }

    /// The layer that is being read, while its run lasts.
    fn current<'a>(&self, track: &'a ReplicaTrack) -> Option<&'a ReplicaLayer> {
        track.layer_of(self.mappings.back()?.run)
    }

    /// The layer that was read stopped: nothing is lost by going to the other's cached keyframe, however old.
    fn fall(&mut self, now: Instant, track: &ReplicaTrack) {
        let Some(target) = self.target else { return };
        if track.layer(target).is_some_and(|layer| can_join(layer.ring())) {
            self.leave(now, target);
            self.phase = Phase::Waiting;
            self.begin(now, track, true);
        }
    }

    fn leave(&mut self, now: Instant, target: LayerIndex) {
        self.left = Some((std::mem::replace(&mut self.layer, target), now));
        self.target = None;
    }

    fn begin(&mut self, now: Instant, track: &ReplicaTrack, instant: bool) {
        let Some(layer) = track.layer(self.layer) else { return };
        let ring = layer.ring();
        let Some(newest) = ring.newest() else { return };
        let first = match self.kind {
            // Sound needs no keyframe: it begins at the live edge.
            MediaKind::Audio => newest.seq,
            MediaKind::Video => match ring.join_point() {
                Some(point) if instant && can_join(ring) => point,
                // A keyframe that is just coming in is live whatever the cache is worth.
                Some(point) if ring.get(point).is_some_and(|p| p.time_ticks == newest.time_ticks) => point,
                _ => return,
            },
        };
        let rate_hz = track.format().codec.clock_rate_hz();
        let edge_ticks = advance(newest.time_ticks, newest.arrival, now, rate_hz);
        let offset_ticks = match self.last {
            None => self.first_offset_ticks,
            // The viewer's clock went on while nothing came.
            Some(last) => advance(last.time_ticks, last.at, now, rate_hz).wrapping_sub(edge_ticks),
        };
        // With a picture to catch up with, all are squeezed until the edge is reached.
        let newest_picture = ring.get(first).is_none_or(|packet| packet.time_ticks == newest.time_ticks);
        let live_from = if newest_picture { first } else { CATCHING_UP };
        let vp8_shift = ring.get(first).map_or_else(Default::default, |packet| self.vp8_shift(track, packet));
        self.map(Mapping { run: layer.run(), first, out_first: self.next_out, offset_ticks, live_from, vp8_shift });
    }

    /// What makes a stretch's picture numbers follow those sent last, given its first packet.
    fn vp8_shift(&self, track: &ReplicaTrack, first: &TrackPacket) -> PictureNumbers {
        let numbers = PictureNumbers::of(&first.payload).filter(|_| track.format().codec == Codec::Vp8);
        numbers.zip(self.vp8_last).map_or_else(Default::default, |(first, last)| first.shift_to_follow(last))
    }

    /// A new stretch begins.
    fn map(&mut self, mapping: Mapping) {
        if self.mappings.len() == MAPPINGS_MAX {
            self.mappings.pop_front();
        }
        self.next = mapping.first;
        self.phase = if mapping.live_from > mapping.first { Phase::CatchingUp } else { Phase::Live };
        self.picture = None;
        self.mappings.push_back(mapping);
    }

    /// All that had come is sent: what comes from now on has its own time.
    fn reach_live_edge(&mut self) {
        if self.phase == Phase::CatchingUp {
            self.phase = Phase::Live;
            let next = self.next;
            if let Some(mapping) = self.mappings.back_mut() {
                mapping.live_from = next;
            }
        }
    }

    /// The time of a picture on its way up to the live edge: now, as the newest picture's clock has it, but not so late
    /// that the next live picture would seem to come before it.
    fn squeeze(
        &mut self,
        now: Instant,
        ring: &PacketRing,
        rate_hz: u32,
        packet: &TrackPacket,
        out: ExtendedSeq,
        mapping: &Mapping,
    ) -> u64 {
        if let Some(out_ticks) = self.stamps.of_newest_picture(packet, mapping) {
            return out_ticks;
        }
        let newest = ring.newest().map_or(packet, |newest| newest);
        // A hundredth of a second: less than the time between two pictures at 60 a second.
        let latest = newest.time_ticks + u64::from(rate_hz / 100);
        let edge =
            advance(newest.time_ticks, newest.arrival, now, rate_hz).min(latest).wrapping_add(mapping.offset_ticks);
        let out_ticks = self.last.map_or(edge, |last| edge.max(last.time_ticks + 1));
        self.stamps.remember(packet, out, out_ticks);
        out_ticks
    }
}

/// How much later a layer comes that is made here, at present: its newest picture lies so far behind the other layer's. `behind` is what
/// has the other layer's ticks of its own.
fn made_lag_ticks(made: &ReplicaLayer, other: &ReplicaLayer, behind: u64, rate_hz: u32) -> u64 {
    let newest = made.ring().newest().zip(other.ring().newest()).filter(|_| made.state().role.is_made_here());
    let lag_ticks =
        newest.map_or(0, |(made, other)| other.time_ticks.wrapping_sub(made.time_ticks.wrapping_add(behind)));
    (lag_ticks as i64).clamp(0, ticks_of(MADE_LAG_MAX, rate_hz) as i64) as u64
}

fn ticks_of(duration: Duration, rate_hz: u32) -> u64 {
    duration.as_millis() as u64 * u64::from(rate_hz) / 1_000
}

/// A cache with holes in it would give the viewer a broken picture.
fn can_join(ring: &PacketRing) -> bool {
    ring.join_point().is_some() && ring.holes_since_join_point() == 0
}

/// Of two times in a viewer's ticks, which wrap at 2^64 and are never far apart.
fn is_before(a: u64, b: u64) -> bool {
    (a.wrapping_sub(b) as i64) < 0
}
