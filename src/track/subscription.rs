//! One viewer's reading of one track: which packet is next, and under which number and time it goes out.
//!
//! The tree's numbering and clock change with every publisher; the viewer's never jump. This is the one place where the
//! two meet, since whatever is left out or inserted changes numbering. Whose turn it is and how fast is for the caller.
//!
//! A viewer joins at the last keyframe. The pictures since then are stamped with times squeezed up to the live edge, so
//! that the decoder runs through them as fast as they come and no delay stays behind.

#[cfg(test)]
mod tests;

use std::{collections::VecDeque, time::Instant};

use crate::{
    media::{ExtendedSeq, MediaKind},
    track::{PacketRing, ReplicaTrack, RingLimits, Run, TrackPacket},
};

/// Stamps kept of squeezed pictures, so that each can be sent again as it was: one per picture of the longest group
/// of pictures that a ring keeps.
const SQUEEZED_FRAMES_MAX: usize = RingLimits::VIDEO.gop_frames as usize;
/// Runs of numbering kept for retransmission: a viewer asks for what it missed within a second or two, and a run lasts
/// at least a keyframe request.
const MAPPINGS_MAX: usize = 4;

/// No number is as high: whatever comes is squeezed until the live edge is reached.
const CATCHING_UP: ExtendedSeq = ExtendedSeq(u64::MAX);

/// Packets from the live edge on that tell the player how to play the stream: some pictures' worth, since one that told it
/// alone could be lost.
const LIVE_WORD_PACKETS: u64 = 64;

/// What a packet says of its playout (the playout-delay extension).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Playout {
    /// Nothing: the last word stands.
    Unsaid,
    /// Show it at once: part of the run from a cached keyframe up to the live edge.
    AtOnce,
    /// At the live edge: play as suits the stream.
    Live,
}

/// How a packet goes out to this viewer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    pub seq: ExtendedSeq,
    /// RTP timestamp in ticks; the low 32 bits go on the wire.
    pub time_ticks: u64,
    pub playout: Playout,
}

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

/// A stretch of the track's numbers and its place in the viewer's.
#[derive(Debug, Clone, Copy)]
struct Mapping {
    run: Run,
    /// The track's number of the stretch's first packet, and the viewer's number for it.
    first: ExtendedSeq,
    out_first: ExtendedSeq,
    /// Added to the track's ticks, modulo 2^64, at the live edge.
    offset_ticks: u64,
    /// Pictures below this number are squeezed; [`CATCHING_UP`] while all are.
    live_from: ExtendedSeq,
}

impl Mapping {
    /// The same for a packet whenever it is asked: what is sent again must be the same bytes.
    fn playout(&self, seq: ExtendedSeq) -> Playout {
        if seq < self.live_from {
            Playout::AtOnce
        } else if seq - self.live_from < LIVE_WORD_PACKETS {
            Playout::Live
        } else {
            Playout::Unsaid
        }
    }
}

/// The time a squeezed picture went out with.
#[derive(Debug, Clone, Copy)]
struct Stamp {
    first: ExtendedSeq,
    out_first: ExtendedSeq,
    in_ticks: u64,
    out_ticks: u64,
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
    /// The current stretch, last; older ones are kept for retransmission.
    mappings: VecDeque<Mapping>,
    /// The track's next number to send.
    next: ExtendedSeq,
    /// One past the highest number the viewer was sent.
    next_out: ExtendedSeq,
    last: Option<LastSent>,
    first_offset_ticks: u64,
    stamps: VecDeque<Stamp>,
}

impl Subscription {
    /// `first_seq` (below 2^15, RFC 3711 section 3.3.1: the first packet's rollover count must be guessable as 0) and
    /// `first_offset_ticks` are random (RFC 3550 section 5.1).
    pub fn new(kind: MediaKind, first_seq: u16, first_offset_ticks: u32) -> Self {
        Self {
            kind,
            phase: Phase::Waiting,
            mappings: VecDeque::new(),
            next: ExtendedSeq(0),
            next_out: ExtendedSeq(u64::from(first_seq & 0x7fff)),
            last: None,
            first_offset_ticks: u64::from(first_offset_ticks),
            stamps: VecDeque::new(),
        }
    }

    pub fn kind(&self) -> MediaKind {
        self.kind
    }

    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Follows the track after it changed: a run that ended leaves the viewer waiting for the next one's keyframe.
    /// With `instant` a cached keyframe is taken at once; without, the next live one is waited for.
    pub fn follow(&mut self, now: Instant, track: &ReplicaTrack, instant: bool) {
        let current = self.mappings.back().map(|mapping| mapping.run);
        if self.phase != Phase::Waiting && current != Some(track.run()) {
            self.phase = Phase::Waiting;
        }
        if self.phase == Phase::Waiting {
            self.begin(now, track, instant);
        }
    }

    /// Goes back to the cached keyframe, for a viewer whose picture broke; false when the cache cannot serve.
    pub fn rejoin(&mut self, now: Instant, track: &ReplicaTrack) -> bool {
        if self.kind == MediaKind::Audio || !can_join(track.ring()) {
            return false;
        }
        self.phase = Phase::Waiting;
        // What the viewer still misses from before the keyframe is of no use to it any more.
        self.mappings.clear();
        self.begin(now, track, true);
        self.phase != Phase::Waiting
    }

    /// The next packet to send and its size, without sending it.
    pub fn peek<'a>(&self, track: &'a ReplicaTrack) -> Option<&'a TrackPacket> {
        if self.phase == Phase::Waiting {
            return None;
        }
        let ring = track.ring();
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
        let playout = mapping.playout(packet.seq);
        let seq = mapping.out_first + (packet.seq - mapping.first);
        let time_ticks = match playout {
            Playout::AtOnce => self.squeeze(now, track, packet, seq, &mapping),
            Playout::Unsaid | Playout::Live => self.live_ticks(packet, &mapping),
        };
        self.next = packet.seq.next();
        self.next_out = self.next_out.max(seq.next());
        if self.last.is_none_or(|last| last.time_ticks <= time_ticks) {
            self.last = Some(LastSent { at: now, time_ticks });
        }
        // The rest of a picture goes out with the time of its first packet, so the edge lies between two pictures.
        if packet.marker && self.next >= track.ring().end() {
            self.reach_live_edge();
        }
        Some((packet, Outgoing { seq, time_ticks, playout }))
    }

    /// A packet that filled a gap behind the place already read; `None` when it is still ahead or of no use.
    pub fn late(&self, seq: ExtendedSeq, track: &ReplicaTrack) -> Option<Outgoing> {
        let mapping = self.mappings.back().filter(|mapping| mapping.run == track.run())?;
        (self.phase != Phase::Waiting && mapping.first <= seq && seq < self.next)
            .then(|| self.outgoing(seq, track.ring().get(seq)?, mapping))?
    }

    /// Finds the packet that went out under a number (its low 16 bits), exactly as it went out.
    pub fn sent<'a>(&self, wire_seq: u16, track: &'a ReplicaTrack) -> Option<(&'a TrackPacket, Outgoing)> {
        let newest = self.next_out.0.checked_sub(1)?;
        let back = u64::from((newest as u16).wrapping_sub(wire_seq));
        let seq = ExtendedSeq(newest.checked_sub(back)?);
        let mapping = self.mappings.iter().rev().find(|mapping| mapping.out_first <= seq)?;
        if mapping.run != track.run() {
            return None;
        }
        let packet = track.ring().get(mapping.first + (seq - mapping.out_first))?;
        Some((packet, self.outgoing(packet.seq, packet, mapping)?))
    }

    /// The viewer's RTP time of the live edge at `now`, for sender reports; `None` before anything was sent.
    pub fn live_time_ticks(&self, now: Instant, track: &ReplicaTrack) -> Option<u64> {
        let mapping = self.mappings.back().filter(|mapping| mapping.run == track.run())?;
        let clock = track.clock()?;
        let rate_hz = track.format().codec.clock_rate_hz();
        Some(advance(clock.time_ticks, clock.at, now, rate_hz).wrapping_add(mapping.offset_ticks))
    }

    /// The old squeezed pictures can no longer be asked for.
    pub fn forget_squeezed(&mut self) {
        self.stamps = VecDeque::new();
    }

    pub fn remembers_squeezed(&self) -> bool {
        !self.stamps.is_empty()
    }

    fn begin(&mut self, now: Instant, track: &ReplicaTrack, instant: bool) {
        let ring = track.ring();
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
        if self.mappings.len() == MAPPINGS_MAX {
            self.mappings.pop_front();
        }
        let run = track.run();
        self.mappings.push_back(Mapping { run, first, out_first: self.next_out, offset_ticks, live_from });
        self.next = first;
        self.phase = if live_from > first { Phase::CatchingUp } else { Phase::Live };
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
        track: &ReplicaTrack,
        packet: &TrackPacket,
        out_first: ExtendedSeq,
        mapping: &Mapping,
    ) -> u64 {
        if let Some(stamp) = self.stamps.back().filter(|stamp| stamp.in_ticks == packet.time_ticks) {
            return stamp.out_ticks;
        }
        let rate_hz = track.format().codec.clock_rate_hz();
        let newest = track.ring().newest().map_or(packet, |newest| newest);
        // A hundredth of a second: less than the time between two pictures at 60 a second.
        let latest = newest.time_ticks + u64::from(rate_hz / 100);
        let edge =
            advance(newest.time_ticks, newest.arrival, now, rate_hz).min(latest).wrapping_add(mapping.offset_ticks);
        let out_ticks = self.last.map_or(edge, |last| edge.max(last.time_ticks + 1));
        if self.stamps.len() == SQUEEZED_FRAMES_MAX {
            self.stamps.pop_front();
        }
        self.stamps.push_back(Stamp { first: packet.seq, out_first, in_ticks: packet.time_ticks, out_ticks });
        out_ticks
    }

    fn live_ticks(&self, packet: &TrackPacket, mapping: &Mapping) -> u64 {
        packet.time_ticks.wrapping_add(mapping.offset_ticks)
    }

    fn outgoing(&self, seq: ExtendedSeq, packet: &TrackPacket, mapping: &Mapping) -> Option<Outgoing> {
        let out = mapping.out_first + (seq - mapping.first);
        let playout = mapping.playout(seq);
        if playout != Playout::AtOnce {
            return Some(Outgoing { seq: out, time_ticks: self.live_ticks(packet, mapping), playout });
        }
        let at = self.stamps.partition_point(|stamp| stamp.out_first <= out).checked_sub(1)?;
        let stamp = self.stamps.get(at).filter(|stamp| stamp.in_ticks == packet.time_ticks && stamp.first <= seq)?;
        Some(Outgoing { seq: out, time_ticks: stamp.out_ticks, playout })
    }
}

/// A cache with holes in it would give the viewer a broken picture.
fn can_join(ring: &PacketRing) -> bool {
    ring.join_point().is_some() && ring.holes_since_join_point() == 0
}

/// A clock's ticks at `now`, given its ticks at another instant.
fn advance(ticks: u64, at: Instant, now: Instant, rate_hz: u32) -> u64 {
    let since = |later: Instant, earlier: Instant| {
        (later.saturating_duration_since(earlier).as_nanos() * u128::from(rate_hz) / 1_000_000_000) as u64
    };
    if now >= at { ticks.wrapping_add(since(now, at)) } else { ticks.wrapping_sub(since(at, now)) }
}
