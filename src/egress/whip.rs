//! WHIP egress: a stream is sent on to another server, as a WebRTC publisher would send it. In: what the tree delivers to a worker. Out: RTP packets
//! in an order and at times of their own, which no change of publishers or layers breaks, and what sender reports say. Sans-I/O; connections
//! are in [`crate::relay`], which also repeat what is asked for again.
//!
//! # The driver's contract
//! Hand over every delivery ([`PacketFeed::take`]); then send what [`PacketFeed::poll`] gives, and call it again at
//! [`PacketFeed::poll_timeout`]. After each: ask the stream for [`PacketFeed::layers_wanted`] and [`PacketFeed::wants_keyframe`]. When
//! [`PacketFeed::misfits`] names something that the target has not refused, the session is no longer of use: another is to be offered.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use sluice_signaling::sdp::NegotiatedMedia;

use super::whep::pace::Pace;
use crate::{
    codec::vp8::PictureNumbers,
    media::{ExtendedSeq, MediaKind, TrackFormat},
    track::{
        Delivery, LayerIndex, LayerSet, News, Outgoing, Phase, Replica, Subscription, SwitchWait, TrackIndex,
        TrackPacket,
    },
};

/// In megabits per second: what a target catches up with, and large pictures, are spread by it.
const PACE_MBPS: u32 = 40;
/// When pacing holds something back.
const PACE_INTERVAL: Duration = Duration::from_millis(1);
/// A picture mended from the cache is given this long to arrive before it is mended again.
const MEND_INTERVAL: Duration = Duration::from_secs(2);

/// A packet to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpOut {
    pub kind: MediaKind,
    pub seq: u16,
    pub time: u32,
    pub marker: bool,
    pub payload: Bytes,
}

/// What a sender report says of a track (RFC 3550 section 6.4.1), but the time of day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReportOut {
    pub kind: MediaKind,
    pub rtp_time: u32,
    pub packets: u32,
    /// Of payload.
    pub bytes: u32,
}

/// See the module.
#[derive(Debug)]
pub struct PacketFeed {
    replica: Replica,
    news: News,
    /// Of those in [`News::late`], how many have been looked at.
    late_done: usize,
    /// What the target takes: sound before pictures, which may be many.
    lanes: Vec<Lane>,
    pace: Pace,
    /// Pacing holds pictures back.
    backlog: Option<Instant>,
    /// Layers that were asked for and have not come yet.
    awaited: LayerSet,
    mended: Option<Instant>,
}

#[derive(Debug)]
struct Lane {
    agreed: NegotiatedMedia,
    subscription: Subscription,
    wait: Option<SwitchWait>,
    packets: u32,
    bytes: u32,
}

impl PacketFeed {
    /// `agreed`: what is sent, each in the codecs that both sides have. `numbers` gives the random beginnings of each ([`Subscription::new`]).
    pub fn new(now: Instant, agreed: &[NegotiatedMedia], mut numbers: impl FnMut() -> (u16, u32)) -> Self {
        let lane = |agreed: &NegotiatedMedia| {
            let (first_seq, first_ticks) = numbers();
            let subscription = Subscription::new(agreed.kind, first_seq, first_ticks);
            Lane { agreed: agreed.clone(), subscription, wait: None, packets: 0, bytes: 0 }
        };
        let mut lanes: Vec<_> = agreed.iter().map(lane).collect();
        lanes.sort_by_key(|lane| lane.agreed.kind);
        Self {
            replica: Replica::default(),
            news: News::default(),
            late_done: 0,
            lanes,
            pace: Pace::new(now, PACE_MBPS),
            backlog: None,
            awaited: LayerSet::default(),
            mended: None,
        }
    }

    pub fn take(&mut self, now: Instant, delivery: Delivery) {
        if matches!(delivery, Delivery::Snapshot(_)) {
            self.awaited = LayerSet::default();
        }
        self.replica.apply(delivery, &mut self.news);
        for lane in &mut self.lanes {
            let Some(track) = self.replica.track(lane.agreed.kind) else { continue };
            let waits = lane.subscription.phase() == Phase::Waiting;
            if (self.news.tracks || waits) && lane.agreed.best_for(track.format()).is_some() {
                let best = track.best_active().unwrap_or_else(|| lane.subscription.layer());
                lane.subscription.follow(now, track, best, true);
            }
        }
        self.news.tracks = false;
    }

    /// What is live and cannot be sent in this session.
    pub fn misfits(&self) -> impl Iterator<Item = &TrackFormat> {
        [MediaKind::Video, MediaKind::Audio].into_iter().filter_map(|kind| {
            let format = self.replica.track(kind)?.format();
            let lane = self.lanes.iter().find(|lane| lane.agreed.kind == kind);
            lane.is_none_or(|lane| lane.agreed.best_for(format).is_none()).then_some(format)
        })
    }

    /// The next packet that may go out now.
    pub fn poll(&mut self, now: Instant) -> Option<RtpOut> {
        if let Some(late) = self.poll_late() {
            return Some(late);
        }
        self.backlog = None;
        let catching_up = self.lanes.iter().any(|lane| lane.subscription.phase() == Phase::CatchingUp);
        self.pace.refill(now, catching_up);
        for lane in &mut self.lanes {
            let Some(track) = self.replica.track(lane.agreed.kind) else { continue };
            if lane.agreed.best_for(track.format()).is_none() {
                continue;
            }
            lane.wait = lane.subscription.switch(now, track);
            let is_paced = lane.agreed.kind == MediaKind::Video;
            if is_paced && !self.pace.allows() {
                self.backlog = lane.subscription.peek(track).map(|_| now + PACE_INTERVAL);
                continue;
            }
            if let Some((packet, outgoing)) = lane.subscription.take(now, track) {
                if is_paced {
                    self.pace.spend(packet.payload.len());
                }
                return Some(lane.written(packet, outgoing));
            }
            if lane.subscription.phase() == Phase::Live && lane.subscription.remembers_squeezed() {
                // Whoever repeats them has them whole.
                lane.subscription.forget_squeezed();
            }
        }
        None
    }

    /// A packet that filled a gap behind what has gone out already.
    fn poll_late(&mut self) -> Option<RtpOut> {
        while let Some((kind, layer, seq)) = self.news.late.get(self.late_done).copied() {
            self.late_done += 1;
            if let Some(late) = self.late(kind, layer, seq) {
                return Some(late);
            }
        }
        self.late_done = 0;
        self.news.clear();
        None
    }

    fn late(&mut self, kind: MediaKind, layer: LayerIndex, seq: ExtendedSeq) -> Option<RtpOut> {
        let track = self.replica.track(kind)?;
        let lane = self.lanes.iter_mut().find(|lane| lane.agreed.kind == kind)?;
        let (packet, outgoing) = lane.subscription.late(layer, seq, track)?;
        Some(lane.written(packet, outgoing))
    }

    /// When [`Self::poll`] is to be called although nothing came.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.backlog
    }

    /// The layers of pictures that the stream is to deliver from now on, if they are others than before; with the publication that they are of.
    pub fn layers_wanted(&mut self, now: Instant) -> Option<(u64, TrackIndex, LayerSet)> {
        let lane = self.lanes.iter().find(|lane| lane.agreed.kind == MediaKind::Video)?;
        let needed = lane.subscription.layers_needed(now);
        let track = self.replica.track(MediaKind::Video)?;
        let (publication, index, kept) = (self.replica.publication(), track.index(), track.kept());
        if !needed.without(kept.union(self.awaited)).is_empty() {
            self.awaited = self.awaited.union(needed);
            return Some((publication, index, kept.union(needed)));
        }
        if track.layers().count() > 1 && self.awaited.is_empty() && !kept.without(needed).is_empty() {
            self.replica.keep_only(index, needed);
            return Some((publication, index, needed));
        }
        None
    }

    /// What the publisher is to be asked for: nothing can be shown, or gone over to, without it.
    pub fn wants_keyframe(&self) -> Option<(TrackIndex, LayerIndex)> {
        let lane = self.lanes.iter().find(|lane| lane.agreed.kind == MediaKind::Video)?;
        let track = self.replica.track(MediaKind::Video)?;
        let layer = match lane.wait {
            Some(SwitchWait::Keyframe(layer)) => layer,
            _ if lane.subscription.phase() == Phase::Waiting => lane.subscription.layer(),
            _ => return None,
        };
        Some((track.index(), layer))
    }

    /// The target asks for a keyframe; gives what the publisher is to be asked for. One that sends none when asked (RTMP) has its last one sent
    /// again, and what came since.
    pub fn keyframe_requested(&mut self, now: Instant) -> Option<(TrackIndex, LayerIndex)> {
        let lane = self.lanes.iter_mut().find(|lane| lane.agreed.kind == MediaKind::Video)?;
        let track = self.replica.track(MediaKind::Video)?;
        if self.replica.sound_lags() {
            let is_due = self.mended.is_none_or(|at| now.saturating_duration_since(at) >= MEND_INTERVAL);
            if is_due && lane.subscription.phase() == Phase::Live && lane.subscription.rejoin(now, track) {
                self.mended = Some(now);
            }
            return None;
        }
        Some((track.index(), lane.subscription.layer()))
    }

    /// What sender reports say at present, of the tracks that have begun.
    pub fn reports(&self, now: Instant) -> impl Iterator<Item = ReportOut> {
        self.lanes.iter().filter(|lane| lane.packets > 0).filter_map(move |lane| {
            let track = self.replica.track(lane.agreed.kind)?;
            let rtp_time = lane.subscription.live_time_ticks(now, track)? as u32;
            Some(ReportOut { kind: lane.agreed.kind, rtp_time, packets: lane.packets, bytes: lane.bytes })
        })
    }
}

impl Lane {
    fn written(&mut self, packet: &TrackPacket, outgoing: Outgoing) -> RtpOut {
        let mut payload = packet.payload.clone();
        if outgoing.vp8_shift != PictureNumbers::default() {
            let mut shifted = BytesMut::from(&payload[..]);
            outgoing.vp8_shift.add_to(&mut shifted);
            payload = shifted.freeze();
        }
        self.packets = self.packets.wrapping_add(1);
        self.bytes = self.bytes.wrapping_add(payload.len() as u32);
        let (seq, time) = (outgoing.seq.wire(), outgoing.time_ticks as u32);
        RtpOut { kind: self.agreed.kind, seq, time, marker: packet.marker, payload }
    }
}

#[cfg(test)]
#[path = "whip_tests.rs"]
mod tests;
