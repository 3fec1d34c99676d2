//! A publisher that stands by: it sends as the one on air does, and nobody is sent it, until it is needed.
//!
//! There is one place for a publisher of either [`Priority`]. While both are taken, the primary is on air, and what the backup sends is
//! kept in caches of its own, so that its picture is there the moment it takes over: when the primary leaves, or falls silent. A primary that
//! comes (back) while the backup is on air stands by as well, until it has gone on without a break for a while, and hands over at a keyframe.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use prometheus_client::metrics::counter::Counter;
use sluice_signaling::priority::Priority;
use tracing::info;

use super::{Inner, Live, Notice, PublisherInfo, Stream, TrackIndex};
use crate::{
    media::MediaKind,
    track::{Batch, LayerIndex, LayerSet},
};

/// Whoever is on air and sends nothing for so long is lost. Encoders send sound or pictures every few tens of milliseconds.
const SILENCE_MIN: Duration = Duration::from_millis(700);
/// Unless it sends so seldom that it must be given more: so many of the gaps that it usually makes.
const SILENCE_GAPS: u32 = 4;
/// A gap counts for no more than this: whoever was away must not be waited for the longer.
const GAP_MAX: Duration = Duration::from_secs(2);
/// For so long the one that stands by must have been heard meanwhile: when both fall silent together, the fault lies with this machine
/// or its network, and the next word may be either's.
const DOUBT: Duration = Duration::from_millis(300);
/// From when on a silence is in doubt.
const DOUBT_FROM: Duration = Duration::from_millis(300);
/// What is heard within this time is one word: a picture's packets, and the picture itself beside them.
const ONE_WORD: Duration = Duration::from_millis(5);

/// When a publisher was heard, and how often it is.
#[derive(Debug, Default, Clone)]
pub(super) struct Pulse {
    heard: Option<Instant>,
    usual_gap: Duration,
    /// Since when it has sent without a break.
    steady_since: Option<Instant>,
}

impl Pulse {
    pub(super) fn beat(&mut self, now: Instant) {
        let silent = self.is_silent(now);
        if let Some(silence) = self.silence(now) {
            if silence < ONE_WORD {
                return;
            }
            let gap = silence.min(GAP_MAX);
            self.usual_gap = (self.usual_gap * 7 + gap) / 8;
        }
        if silent {
            self.steady_since = Some(now);
        }
        self.heard = Some(now);
    }

    /// Who was never heard is silent, too.
    fn is_silent(&self, now: Instant) -> bool {
        let silence_max = SILENCE_MIN.max(self.usual_gap * SILENCE_GAPS);
        self.silence(now).is_none_or(|silence| silence >= silence_max)
    }

    fn silence(&self, now: Instant) -> Option<Duration> {
        self.heard.map(|heard| now.saturating_duration_since(heard))
    }

    fn steady_for(&self, now: Instant) -> Duration {
        self.steady_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// Why another publisher is on air now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Because {
    Left,
    Silent,
    Back,
}

impl Because {
    fn as_str(self) -> &'static str {
        match self {
            Self::Left => "the one on air has left",
            Self::Silent => "the one on air has fallen silent",
            Self::Back => "the primary is back",
        }
    }
}

/// How publishers hand over to each other, for all streams.
#[derive(Debug, Clone)]
pub struct HandOver {
    /// A primary that comes while the backup is on air is heard for so long first.
    pub back_after: Duration,
    /// Hand-overs so far.
    pub to_primary: Counter,
    pub to_backup: Counter,
}

impl Default for HandOver {
    fn default() -> Self {
        Self { back_after: Duration::from_secs(2), to_primary: Counter::default(), to_backup: Counter::default() }
    }
}

/// Who stands by, as the API shows it.
#[derive(Debug, Clone)]
pub struct StandbyState {
    pub publisher: PublisherInfo,
    pub since: SystemTime,
    /// It could take over at once: there are pictures, or sound, to begin with.
    pub ready: bool,
    /// What it should know and change.
    pub notices: Vec<Notice>,
}

impl Live {
    /// There is something to begin with.
    fn is_ready(&self) -> bool {
        let begins = |track: &super::Track| {
            track.format.codec.kind() == MediaKind::Audio
                || track.layers.iter().any(|layer| layer.ring.join_point().is_some())
        };
        !self.tracks.is_empty() && self.tracks.iter().all(begins)
    }

    /// Asks for keyframes while it stands by: browsers send them when asked only. Of every layer where one is `awaited`, else of those that
    /// nobody could begin with.
    fn ask_for_keyframes(&mut self, now: Instant, awaited: bool) {
        for at in 0..self.tracks.len() {
            let track = &self.tracks[at];
            if track.format.codec.kind() != MediaKind::Video {
                continue;
            }
            let begins = |layer: &super::Layer| layer.ring.join_point().is_some();
            let layers = (0..).map(LayerIndex).zip(&track.layers);
            let of = layers.filter(|(_, layer)| layer.state.active && (awaited || !begins(layer)));
            let of: LayerSet = of.map(|(at, _)| at).collect();
            for layer in of.iter() {
                self.request_keyframe(now, TrackIndex(at as u8), layer);
            }
        }
    }

    /// It is on air no longer: what was made of its layers here is made for others now.
    fn stand_down(&mut self) {
        for track in &mut self.tracks {
            // Those before a layer of the publisher's keep their places, for it has its number.
            while track.layers.last().is_some_and(|layer| layer.state.role.is_made_here()) {
                track.layers.pop();
            }
            for layer in &mut track.layers {
                if layer.state.role.is_made_here() {
                    layer.stop();
                    layer.empty(track.format.codec);
                } else {
                    layer.replace(false);
                }
            }
        }
    }

    pub(super) fn standby_state(&self) -> StandbyState {
        StandbyState {
            publisher: self.info.clone(),
            since: self.since,
            ready: self.is_ready(),
            notices: self.notices.clone(),
        }
    }
}

impl Inner {
    /// Whether somebody of this priority publishes, on air or standing by.
    pub(super) fn has(&self, priority: Priority) -> bool {
        [&self.live, &self.standby].into_iter().flatten().any(|live| live.info.priority == priority)
    }

    /// What came of the publisher that stands by; it may be its turn.
    pub(super) fn stand_by(&mut self, stream: &Arc<Stream>, now: Instant, batches: &[Batch]) {
        let Some(standby) = &mut self.standby else { return };
        let taken = standby.take(now, batches);
        let has_pictures = standby.tracks.iter().any(|track| track.format.codec.kind() == MediaKind::Video);
        let is_steady = standby.info.priority == Priority::Primary
            && standby.pulse.steady_for(now) >= stream.shared.hand_over.back_after;
        let is_back = is_steady && (taken.keyframe || !has_pictures);
        standby.ask_for_keyframes(now, is_steady && !is_back);
        let because = if is_back { Some(Because::Back) } else { self.is_lost(now).then_some(Because::Silent) };
        if let Some(because) = because.filter(|_| self.standby.as_ref().is_some_and(Live::is_ready)) {
            std::mem::swap(&mut self.live, &mut self.standby);
            self.standby.iter_mut().for_each(Live::stand_down);
            self.goes_on_air(stream, because);
        }
    }

    /// The one on air has been silent for too long, in which the other one was heard.
    fn is_lost(&mut self, now: Instant) -> bool {
        let Some(live) = &self.live else { return true };
        if live.pulse.silence(now).is_some_and(|silence| silence < DOUBT_FROM) {
            self.in_doubt_since = None;
            return false;
        }
        let since = *self.in_doubt_since.get_or_insert(now);
        live.pulse.is_silent(now) && now.saturating_duration_since(since) >= DOUBT
    }

    /// The one on air has left; whoever stood by, if anybody, has the stream now.
    pub(super) fn leave_air(&mut self, stream: &Arc<Stream>) {
        self.live = self.standby.take();
        if self.live.is_some() {
            self.goes_on_air(stream, Because::Left);
        } else {
            self.announce(stream);
        }
    }

    /// Somebody else is on air: a new stretch of the stream for all who watch.
    fn goes_on_air(&mut self, stream: &Arc<Stream>, because: Because) {
        self.publication += 1;
        self.in_doubt_since = None;
        let Some(live) = &self.live else { return };
        let hand_over = &stream.shared.hand_over;
        match live.info.priority {
            Priority::Primary => hand_over.to_primary.inc(),
            Priority::Backup => hand_over.to_backup.inc(),
        };
        let (priority, session) = (live.info.priority.as_str(), live.info.session);
        info!(stream = %stream.name, %session, priority, because = because.as_str(), "another publisher is on air");
        let wanted = self.usually_wanted();
        self.subscribers.iter_mut().for_each(|subscriber| subscriber.wanted = wanted);
        self.announce(stream);
    }
}
