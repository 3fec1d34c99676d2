//! A viewer of a stream by WHEP: reads the worker's replica through its subscriptions, and writes sealed datagrams.
//! Sans-I/O: the worker says when, and where datagrams go.
//!
//! # The driver's contract
//! Once the transport is connected: [`WhepSender::follow`] after every snapshot, and after every batch while
//! [`WhepSender::is_waiting`]; when it names something that the viewer [came for](WhepSender::came_for) and cannot decode, the session
//! is to be ended. Then [`WhepSender::send`]. While `send` says that there is a backlog, call it again a
//! millisecond later. [`WhepSender::handle_rtcp`] for what the viewer says; [`WhepSender::poll_report`] at
//! [`WhepSender::report_due`]. The replica must have the layers that are [needed](WhepSender::layers_needed): to be looked at after
//! each [`WhepSender::follow`], and now and then.

mod choice;
mod extensions;
mod media;
pub(super) mod pace;
mod resend;
#[cfg(test)]
mod tests;
mod undecodable;
mod wire;

use std::time::{Duration, Instant};

use sluice_signaling::{
    media_plane::{LayerChoice, SenderIds},
    sdp::Negotiated,
};

use crate::{
    media::{ExtendedSeq, MediaKind},
    rtp::rtcp::{NtpTime, Rtcp, RtcpReader},
    track::{LayerIndex, LayerSet, News, Replica, TrackIndex},
    transport::SrtpSealer,
};

use media::SenderMedia;
pub use media::StreamNumbers;
use pace::Pace;
pub use undecodable::Undecodable;
pub use wire::{DatagramOut, Scratch, Sent};

/// Between two sender reports. A second is the least that browsers are used to; lip sync needs the first one early.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);

/// What the worker lends for one call: the seal of this viewer's session, room to write, and the way out.
pub struct Output<'a, O> {
    pub sealer: &'a SrtpSealer,
    pub scratch: &'a mut Scratch,
    pub out: &'a mut O,
}

/// What a viewer asked for, counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Feedback {
    pub nacked_packets: u32,
    pub resent: Sent,
    pub keyframe_requests: u32,
    /// Pictures go out anew from the cached keyframe: the viewer is to be served.
    pub mended: bool,
    /// The picture cannot be mended from the cache: ask the publisher.
    pub wants_keyframe: Option<(TrackIndex, LayerIndex)>,
    /// The viewer said goodbye.
    pub bye: bool,
}

/// What a viewer has told of its path, last.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ViewerPath {
    pub round_trip: Option<Duration>,
    /// Of what was sent between the last two reports, pictures if there are any, before anything was sent again: from 0 to 1.
    pub lost_share: Option<f32>,
    /// What it carries, by the viewer's estimate: of a path that was never full somewhat more than what was sent.
    pub bandwidth_bps: Option<u64>,
}

impl ViewerPath {
    fn reported(&mut self, round_trip: Option<Duration>, fraction_lost: Option<u8>) {
        self.round_trip = round_trip.or(self.round_trip);
        self.lost_share = fraction_lost.map(|lost| f32::from(lost) / 256.0).or(self.lost_share);
    }
}

/// How a viewer is sent to.
#[derive(Debug, Clone, Copy)]
pub struct SenderSettings {
    /// Rate of catching up and of large pictures, in Mb/s; 0: viewers wait for the next keyframe instead.
    pub join_burst_mbps: u32,
    /// How long a picture may be held back at the live edge where the sound lags.
    pub playout_delay_max_ms: u16,
}

/// One viewer.
#[derive(Debug)]
pub struct WhepSender {
    /// Pictures before sound.
    media: Vec<SenderMedia>,
    pace: Pace,
    instant_join: bool,
    /// The name that ties the viewer's tracks together (RFC 3550 section 6.5.1); the answer's SDP says the same.
    cname: String,
    offered_at: Instant,
    /// The first keyframe went out.
    joined: bool,
    path: ViewerPath,
    next_report: Option<Instant>,
}

/// What one round of sending did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Round {
    pub sent: Sent,
    /// Pacing holds packets back.
    pub backlog: bool,
    /// The first keyframe went out: so long after the offer.
    pub joined_after: Option<Duration>,
    /// Nothing can be shown, or switched to, and the cache has no keyframe: ask the publisher.
    pub wants_keyframe: Option<(TrackIndex, LayerIndex)>,
}

impl WhepSender {
    /// `ids` has one entry per accepted section of `media`; `numbers` gives the random beginnings of each.
    pub fn new(
        now: Instant,
        offered_at: Instant,
        media: &Negotiated,
        ids: &[SenderIds],
        mut numbers: impl FnMut() -> StreamNumbers,
        cname: String,
        settings: SenderSettings,
    ) -> Self {
        let accepted = media.media.iter().filter(|section| !section.codecs.is_empty());
        let mut media: Vec<_> =
            accepted.zip(ids).map(|(section, ids)| SenderMedia::new(now, section, *ids, numbers(), settings)).collect();
        // Pictures first: sound is small, and goes with a picture's last call.
        media.sort_by_key(|media| std::cmp::Reverse(media.kind()));
        Self {
            media,
            pace: Pace::new(now, if settings.join_burst_mbps == 0 { 40 } else { settings.join_burst_mbps }),
            instant_join: settings.join_burst_mbps > 0,
            cname,
            offered_at,
            joined: false,
            path: ViewerPath::default(),
            next_report: None,
        }
    }

    /// Follows the replica after a snapshot, or while waiting for a keyframe. What the viewer cannot decode is not sent, and named
    /// once per format of a publication.
    pub fn follow(&mut self, now: Instant, replica: &Replica) -> Vec<Undecodable> {
        // Empty but for a change of codecs: nothing is allocated.
        let undecodable =
            self.media.iter_mut().filter_map(|media| media.follow(now, replica, self.instant_join)).collect();
        if self.next_report.is_none() && self.media.iter().any(SenderMedia::is_started) {
            self.next_report = Some(now);
        }
        undecodable
    }

    /// Whether a viewer is there for this kind of track: for pictures, if it asked for them; else for all it asked for.
    pub fn came_for(&self, kind: MediaKind) -> bool {
        kind == MediaKind::Video || self.media.iter().all(|media| media.kind() == kind)
    }

    /// Whether the viewer has got anything yet.
    pub fn has_begun(&self) -> bool {
        self.next_report.is_some()
    }

    /// The viewer chose among the layers of the picture. It holds until it chooses again; to be followed by [`Self::follow`].
    pub fn select_layer(&mut self, choice: LayerChoice) {
        if let Some(media) = self.pictures_mut() {
            media.choose(choice);
        }
    }

    /// The layers of the picture that the replica must have for this viewer.
    pub fn layers_needed(&self, now: Instant) -> LayerSet {
        self.pictures().map_or_else(LayerSet::default, |media| media.layers_needed(now))
    }

    /// Whether what came is of use to this viewer at present.
    pub fn is_concerned(&self, now: Instant, news: &News) -> bool {
        news.tracks || news.audio || self.layers_needed(now).intersects(news.video)
    }

    fn pictures(&self) -> Option<&SenderMedia> {
        self.media.first().filter(|media| media.kind() == MediaKind::Video)
    }

    fn pictures_mut(&mut self) -> Option<&mut SenderMedia> {
        self.media.first_mut().filter(|media| media.kind() == MediaKind::Video)
    }

    pub fn is_waiting(&self) -> bool {
        self.media.iter().any(|media| !media.is_started())
    }

    /// Sends what is due. `only` restricts it to one kind, when only that has news.
    pub fn send(
        &mut self,
        now: Instant,
        replica: &Replica,
        only: Option<MediaKind>,
        output: &mut Output<'_, impl DatagramOut>,
    ) -> Round {
        let catching_up = self.media.iter().any(SenderMedia::is_catching_up);
        self.pace.refill(now, catching_up);
        let mut round = Round::default();
        let mut sound_bytes = None;
        if only.is_none() {
            let sound = self.media.iter().find(|media| media.kind() == MediaKind::Audio);
            let sound = sound.zip(replica.track(MediaKind::Audio));
            sound_bytes = sound.and_then(|(media, track)| media.next_bytes_max(now, track, output.sealer));
        }
        for media in self.media.iter_mut().filter(|media| only.is_none_or(|kind| kind == media.kind())) {
            let Some(track) = replica.track(media.kind()) else { continue };
            let follows = sound_bytes.filter(|_| media.kind() == MediaKind::Video);
            let part = media.send(now, track, follows, &mut self.pace, output);
            round.sent.add(part.sent);
            round.backlog |= part.backlog;
            if part.keyframe && !self.joined {
                self.joined = true;
                round.joined_after = Some(now.saturating_duration_since(self.offered_at));
            }
            let mut wants = part.wants_keyframe;
            if media.kind() == MediaKind::Video && !media.is_started() {
                let waits_for = track.layer(media.layer()).filter(|layer| !layer.ring().is_empty());
                wants = waits_for.map(|layer| layer.run().layer());
            }
            round.wants_keyframe = round.wants_keyframe.or(wants.map(|layer| (track.index(), layer)));
        }
        output.scratch.finish(output.out);
        round
    }

    /// Sends packets that filled gaps behind the place already sent.
    pub fn send_late(
        &mut self,
        now: Instant,
        replica: &Replica,
        late: &[(MediaKind, LayerIndex, ExtendedSeq)],
        output: &mut Output<'_, impl DatagramOut>,
    ) -> Sent {
        let mut sent = Sent::default();
        for (kind, layer, seq) in late {
            let Some(track) = replica.track(*kind) else { continue };
            for media in self.media.iter_mut().filter(|media| media.kind() == *kind) {
                sent.add(media.send_late(now, track, *layer, *seq, output));
            }
        }
        sent
    }

    /// What the viewer reports and asks for, in one decrypted compound packet.
    pub fn handle_rtcp(
        &mut self,
        now: Instant,
        ntp: NtpTime,
        compound: &[u8],
        replica: &Replica,
        output: &mut Output<'_, impl DatagramOut>,
    ) -> Feedback {
        let mut feedback = Feedback::default();
        for part in RtcpReader::new(compound) {
            let broken = match part {
                Rtcp::Reception { report, .. } => {
                    self.media.iter_mut().for_each(|media| media.acknowledged(report.ssrc));
                    if let Some(media) = self.by_ssrc(report.ssrc) {
                        let rtt = report.round_trip(ntp);
                        if let Some(rtt) = rtt {
                            media.measured_rtt(rtt);
                        }
                        let tells = media.kind() == self.media[0].kind();
                        self.path.reported(rtt, tells.then_some(report.fraction_lost));
                    }
                    continue;
                }
                Rtcp::Remb { bitrate_bps } => {
                    self.path.bandwidth_bps = Some(bitrate_bps);
                    continue;
                }
                Rtcp::Nack { media_ssrc, sequences, .. } => {
                    let Some(media) = self.by_ssrc(media_ssrc) else { continue };
                    let Some(track) = replica.track(media.kind()) else { continue };
                    feedback.nacked_packets += sequences.count() as u32;
                    if !media.is_broken(now, sequences, track, output.sealer) {
                        for wire_seq in sequences {
                            feedback.resent.add(media.resend(now, wire_seq, track, output));
                        }
                        continue;
                    }
                    media_ssrc
                }
                Rtcp::Pli { media_ssrc, .. } | Rtcp::Fir { media_ssrc, .. } => {
                    feedback.keyframe_requests += 1;
                    media_ssrc
                }
                Rtcp::Bye { .. } => {
                    feedback.bye = true;
                    continue;
                }
                _ => continue,
            };
            let instant_join = self.instant_join;
            let Some(media) = self.by_ssrc(broken) else { continue };
            let Some(track) = replica.track(media.kind()) else { continue };
            if instant_join && media.mend(now, track) {
                feedback.mended = true;
            } else {
                feedback.wants_keyframe = Some((track.index(), media.layer()));
            }
        }
        feedback
    }

    /// What the viewer has told of its path.
    pub fn path(&self) -> ViewerPath {
        self.path
    }

    /// When sender reports are due.
    pub fn report_due(&self) -> Option<Instant> {
        self.next_report
    }

    /// Appends the sender reports that are due to `compound` (RFC 3550 section 6.4.1, one compound for all tracks);
    /// false when there is nothing to report.
    pub fn poll_report(&mut self, now: Instant, ntp: NtpTime, replica: &Replica, compound: &mut Vec<u8>) -> bool {
        if self.next_report.is_none_or(|due| now < due) {
            return false;
        }
        self.next_report = Some(now + REPORT_INTERVAL);
        let before = compound.len();
        for media in &mut self.media {
            if let Some(track) = replica.track(media.kind()) {
                media.report(now, ntp, track, &self.cname, compound);
            }
        }
        compound.len() > before
    }

    fn by_ssrc(&mut self, ssrc: u32) -> Option<&mut SenderMedia> {
        self.media.iter_mut().find(|media| media.ssrc() == ssrc)
    }
}
