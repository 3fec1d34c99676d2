//! How a layer's numbers and times become a viewer's, and become the same ones again when a packet is sent once more.

use std::collections::VecDeque;

use crate::{
    codec::vp8::PictureNumbers,
    media::ExtendedSeq,
    track::{RingLimits, Run, TrackPacket},
};

/// Stamps kept of squeezed pictures, so that each can be sent again as it was: one per picture of the longest group
/// of pictures that a ring keeps.
const SQUEEZED_FRAMES_MAX: usize = RingLimits::VIDEO.gop_frames as usize;

/// No number is as high: whatever comes is squeezed until the live edge is reached.
pub(super) const CATCHING_UP: ExtendedSeq = ExtendedSeq(u64::MAX);

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
    /// To be added to a VP8 picture's numbers; nothing for other codecs.
    pub vp8_shift: PictureNumbers,
}

/// A stretch of a layer's numbers and its place in the viewer's.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mapping {
    pub run: Run,
    /// The layer's number of the stretch's first packet, and the viewer's number for it.
    pub first: ExtendedSeq,
    pub out_first: ExtendedSeq,
    /// Added to the layer's ticks, modulo 2^64, at the live edge.
    pub offset_ticks: u64,
    /// Pictures below this number are squeezed; [`CATCHING_UP`] while all are.
    pub live_from: ExtendedSeq,
    /// Makes VP8's picture numbers go on.
    pub vp8_shift: PictureNumbers,
}

impl Mapping {
    /// The same for a packet whenever it is asked: what is sent again must be the same bytes.
    pub fn playout(&self, seq: ExtendedSeq) -> Playout {
        if seq < self.live_from {
            Playout::AtOnce
        } else if seq - self.live_from < LIVE_WORD_PACKETS {
            Playout::Live
        } else {
            Playout::Unsaid
        }
    }

    /// The viewer's time of a packet at the live edge.
    pub fn live_ticks(&self, packet: &TrackPacket) -> u64 {
        packet.time_ticks.wrapping_add(self.offset_ticks)
    }

    /// The viewer's number of a packet; `None` for one from before the stretch.
    pub fn out(&self, seq: ExtendedSeq) -> Option<ExtendedSeq> {
        Some(self.out_first + seq.0.checked_sub(self.first.0)?)
    }

    /// How a packet of the stretch went out, or goes out late; `None` when the time it was squeezed to is forgotten.
    pub fn outgoing(&self, packet: &TrackPacket, stamps: &Stamps) -> Option<Outgoing> {
        let seq = self.out(packet.seq)?;
        let playout = self.playout(packet.seq);
        let time_ticks = if playout == Playout::AtOnce { stamps.find(packet, seq)? } else { self.live_ticks(packet) };
        Some(Outgoing { seq, time_ticks, playout, vp8_shift: self.vp8_shift })
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

/// The times of squeezed pictures, oldest first.
#[derive(Debug, Default)]
pub(super) struct Stamps(VecDeque<Stamp>);

impl Stamps {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// That of the packet's picture, when it was the last to get one, in this stretch.
    pub fn of_newest_picture(&self, packet: &TrackPacket, mapping: &Mapping) -> Option<u64> {
        let newest = self.0.back()?;
        let is_its = newest.in_ticks == packet.time_ticks && newest.out_first >= mapping.out_first;
        is_its.then_some(newest.out_ticks)
    }

    /// A picture goes out with this time; the packet is its first, and `out_first` that one's number for the viewer.
    pub fn remember(&mut self, packet: &TrackPacket, out_first: ExtendedSeq, out_ticks: u64) {
        if self.0.len() == SQUEEZED_FRAMES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(Stamp { first: packet.seq, out_first, in_ticks: packet.time_ticks, out_ticks });
    }

    /// The time that a packet went out with under a number of the viewer's.
    fn find(&self, packet: &TrackPacket, out: ExtendedSeq) -> Option<u64> {
        let at = self.0.partition_point(|stamp| stamp.out_first <= out).checked_sub(1)?;
        let its = |stamp: &&Stamp| stamp.in_ticks == packet.time_ticks && stamp.first <= packet.seq;
        self.0.get(at).filter(its).map(|stamp| stamp.out_ticks)
    }
}
