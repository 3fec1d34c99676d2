//! One packaged stream, as its viewers share it.

use std::{
    array,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::{
    sync::watch,
    time::{Instant, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::{
    output::{Listing, OutputState},
    playlists::SharedPlaylist,
    state::{State, Taken},
    viewers::{ViewerKey, Viewers},
    waiting::{Place, TooManyWaiting, Waiting},
};
use crate::{
    codec::PictureSize,
    egress::hls::{Found, MediaNames, Output, RENDITIONS_MAX, RenditionIndex, RenditionWindow, Window, WindowSettings},
    media::MediaKind,
    metrics::Metrics,
    track::{LayerRole, Stream},
};

/// How long a first playlist is waited for: a keyframe that is asked for comes within a second, one that is not within the interval of
/// most encoders.
const FIRST_MAX: Duration = Duration::from_secs(10);
/// How long the first rendition waits for the others before it is offered without them.
const OTHERS_MAX: Duration = Duration::from_secs(1);
/// RFC 8216bis section 6.2.5.2.
const BLOCK_MAX_TARGETS: u32 = 3;

/// What of a playlist must be there before it is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// Anything; a whole segment, for players that cannot begin with parts.
    Any { whole_segment: bool },
    /// `_HLS_msn`, `_HLS_part`.
    From { segment: u64, part: Option<u64> },
}

/// Why there is no playlist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlaylistRefusal {
    #[error("the stream has no such rendition, or its publisher has stopped it")]
    NoRendition,
    #[error("that is further ahead than a request may be: the playlist ends with segment {last_segment}")]
    TooFarAhead { last_segment: u64 },
    #[error("the publisher has sent nothing new for {after_s} s")]
    Late { after_s: u64 },
    #[error("the publisher has sent no keyframe within {after_s} s")]
    NothingYet { after_s: u64 },
    #[error("the stream is packaged no longer; ask again")]
    Stopped,
    /// With the packager's words.
    #[error("{0}")]
    Unpackageable(String),
    #[error(transparent)]
    TooManyWaiting(#[from] TooManyWaiting),
}

/// Why there is no media.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MediaRefusal {
    #[error("there is no such media (any more)")]
    Missing,
    #[error("the publisher has sent nothing new for {after_s} s")]
    Late { after_s: u64 },
    #[error(transparent)]
    TooManyWaiting(#[from] TooManyWaiting),
}

/// As the API shows it.
#[derive(Debug, Clone)]
pub struct PackagingState {
    pub since: SystemTime,
    pub viewers: usize,
    pub window_bytes: usize,
    pub target_duration: Duration,
    pub refusal: Option<String>,
    /// Where it goes to a store.
    pub output: Option<OutputState>,
    pub renditions: Vec<RenditionState>,
}

#[derive(Debug, Clone)]
pub struct RenditionState {
    pub kind: MediaKind,
    pub codecs: String,
    pub size: Option<PictureSize>,
    pub frame_rate: Option<f64>,
    pub rid: Option<String>,
    pub ended: bool,
    pub peak_bps: u64,
    pub average_bps: u64,
    pub first_segment: u64,
    pub segments: usize,
    pub window: Duration,
}

/// A stream that is packaged.
pub struct PackagedStream {
    stream: Arc<Stream>,
    since: SystemTime,
    /// Tells its playlists' versions from those of other packagings.
    id: u64,
    state: Mutex<State>,
    /// Marked when a rendition's playlist has changed.
    changed: [watch::Sender<()>; RENDITIONS_MAX],
    /// Marked when anything has.
    anything: watch::Sender<()>,
    asked: Mutex<Instant>,
    viewers: Mutex<Viewers>,
    output: Mutex<Option<OutputState>>,
    stop: CancellationToken,
    over: CancellationToken,
}

impl PackagedStream {
    pub(super) fn new(
        stream: Arc<Stream>,
        settings: WindowSettings,
        first_segment: u64,
        metrics: Arc<Metrics>,
        stop: CancellationToken,
    ) -> Self {
        let window = Window::new(settings, MediaNames::new(rand::random()), first_segment);
        Self {
            viewers: Mutex::new(Viewers::new(stream.clone(), metrics)),
            stream,
            since: SystemTime::now(),
            id: rand::random(),
            state: Mutex::new(State::new(window)),
            changed: array::from_fn(|_| watch::Sender::new(())),
            anything: watch::Sender::new(()),
            asked: Mutex::new(Instant::now()),
            output: Mutex::default(),
            stop,
            over: CancellationToken::new(),
        }
    }

    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Nothing more comes of it.
    pub fn is_over(&self) -> bool {
        self.over.is_cancelled()
    }

    /// Somebody has asked for it.
    pub(super) fn touch(&self, now: Instant) {
        *self.asked.lock() = now;
    }

    /// What a store is to have of it, from these segments on.
    pub(super) fn listing(&self, next: impl Fn(RenditionIndex) -> u64) -> Listing {
        self.state.lock().listing(next)
    }

    /// Woken whenever anything has changed.
    pub(super) fn changes(&self) -> watch::Receiver<()> {
        self.anything.subscribe()
    }

    /// Until nothing more comes of it.
    pub(super) async fn over(&self) {
        self.over.cancelled().await;
    }

    pub(super) fn set_output(&self, state: OutputState) {
        *self.output.lock() = Some(state);
    }

    /// For how long nobody has asked for it.
    pub(super) fn idle(&self, now: Instant) -> Duration {
        now.saturating_duration_since(*self.asked.lock())
    }

    /// Somebody reads playlists.
    pub fn saw(&self, key: ViewerKey<'_>) {
        self.viewers.lock().saw(Instant::now(), key);
    }

    pub(super) fn forget_viewers(&self, now: Instant) {
        self.viewers.lock().forget_gone(now);
    }

    pub(super) fn stop(&self, cause: &'static str) {
        if !self.is_over() {
            tracing::info!(stream = %self.stream.name(), cause, "HLS packaging stops");
        }
        self.stop.cancel();
    }

    pub(super) async fn stopped(&self) {
        self.stop.cancelled().await;
    }

    /// The task's last word where nothing will follow.
    pub(super) fn end(&self, cause: &'static str) {
        tracing::info!(stream = %self.stream.name(), cause, "HLS packaging ends");
        self.state.lock().end();
        self.release();
    }

    /// The task's last word where it was stopped: the stream goes on, and so its playlists have no end. Who waits is told to come again.
    pub(super) fn release(&self) {
        self.over.cancel();
        self.wake(0..RENDITIONS_MAX);
    }

    /// What the packager gave goes into the window; who waits for it is woken.
    pub(crate) fn take(&self, outputs: &mut Vec<Output>, refusal: Option<&str>) {
        let Taken { touched, refused } = self.state.lock().take(Instant::now(), outputs, refusal);
        if refused || touched.contains(&true) {
            self.wake((0..RENDITIONS_MAX).filter(|at| touched.get(*at).is_some_and(|touched| *touched)));
        }
    }

    fn wake(&self, renditions: impl Iterator<Item = usize>) {
        for at in renditions {
            if let Some(changed) = self.changed.get(at) {
                changed.send_replace(());
            }
        }
        self.anything.send_replace(());
    }

    /// The playlist that names the others, as soon as all that is expected is there: what the publisher sends, and so many smaller
    /// layers that are made of it here.
    ///
    /// # Errors
    /// When nothing comes, or what comes cannot be packaged.
    pub async fn multivariant(
        &self,
        rungs_expected: impl Fn() -> usize,
        waiting: &Arc<Waiting>,
        from: IpAddr,
    ) -> Result<Arc<SharedPlaylist>, PlaylistRefusal> {
        let mut changed = self.anything.subscribe();
        let deadline = Instant::now() + FIRST_MAX;
        let mut place = None;
        loop {
            let mut look_again = deadline;
            {
                let mut state = self.state.lock();
                let complete_at = state.first_part.map(|first| first + OTHERS_MAX);
                let is_there = state.window.renditions().next().is_some();
                let now = Instant::now();
                if is_there
                    && (complete_at.is_some_and(|at| at <= now)
                        || self.has_all(&state, rungs_expected())
                        || self.is_over())
                {
                    return Ok(state.multivariant(self.id));
                }
                if !is_there && let Some(reason) = &state.refusal {
                    return Err(PlaylistRefusal::Unpackageable(reason.clone()));
                }
                if self.is_over() {
                    return Err(PlaylistRefusal::Stopped);
                }
                if now >= deadline {
                    return Err(PlaylistRefusal::NothingYet { after_s: FIRST_MAX.as_secs() });
                }
                look_again = look_again.min(complete_at.unwrap_or(deadline));
            }
            wait(&mut place, waiting, from, &mut changed, look_again).await?;
        }
    }

    /// All that the publisher sends, or is being made of it here, has a rendition.
    fn has_all(&self, state: &State, rungs_expected: usize) -> bool {
        let tracks = self.stream.state().tracks;
        let expected = |kind| {
            let of_kind = tracks.iter().filter(move |track| track.format.codec.kind() == kind);
            let sent = of_kind.flat_map(|track| &track.layers).map(|layer| &layer.state).filter(|state| state.active);
            let (rungs, others): (Vec<_>, Vec<_>) = sent.partition(|state| state.role == LayerRole::Rung);
            others.len() + if kind == MediaKind::Video { rungs.len().max(rungs_expected) } else { 0 }
        };
        let there = |kind| {
            let going_on = state.window.renditions().filter(|rendition| !rendition.is_ended());
            let kinds = going_on.filter_map(RenditionWindow::description);
            kinds.filter(|description| description.kind == kind).count()
        };
        [MediaKind::Video, MediaKind::Audio].iter().all(|kind| there(*kind) >= expected(*kind))
    }

    /// A rendition's playlist, as soon as it has what is asked for.
    ///
    /// # Errors
    /// When it cannot have it, or has not in time.
    pub async fn playlist(
        &self,
        rendition: RenditionIndex,
        asked: Asked,
        delta: bool,
        waiting: &Arc<Waiting>,
        from: IpAddr,
    ) -> Result<Arc<SharedPlaylist>, PlaylistRefusal> {
        let changed = self.changed.get(usize::from(rendition.0)).ok_or(PlaylistRefusal::NoRendition)?;
        let mut changed = changed.subscribe();
        let mut deadline = None;
        let mut place = None;
        loop {
            let deadline = {
                let mut state = self.state.lock();
                if state.has(rendition, asked)? {
                    return state.playlist(self.id, rendition, delta).ok_or(PlaylistRefusal::NoRendition);
                }
                if self.is_over() {
                    return Err(PlaylistRefusal::Stopped);
                }
                let patience = BLOCK_MAX_TARGETS * state.window.target_duration();
                let patience = if matches!(asked, Asked::Any { .. }) { patience.max(FIRST_MAX) } else { patience };
                let now = Instant::now();
                let deadline = *deadline.get_or_insert(now + patience);
                if now >= deadline {
                    return Err(PlaylistRefusal::Late { after_s: patience.as_secs() });
                }
                deadline
            };
            wait(&mut place, waiting, from, &mut changed, deadline).await?;
        }
    }

    /// Media by its name, as soon as it is there.
    ///
    /// # Errors
    /// When there is none of that name, or not in time.
    pub async fn media(&self, name: &str, waiting: &Arc<Waiting>, from: IpAddr) -> Result<Vec<Bytes>, MediaRefusal> {
        let mut place = None;
        let mut deadline = None;
        let mut changed = None;
        loop {
            let (found, target) = {
                let state = self.state.lock();
                (state.window.find(name).ok_or(MediaRefusal::Missing)?, state.window.target_duration())
            };
            let rendition = match found {
                Found::Media(runs) => return Ok(runs),
                Found::Awaited(_) if self.is_over() => return Err(MediaRefusal::Missing),
                Found::Awaited(rendition) => rendition,
            };
            let patience = BLOCK_MAX_TARGETS * target;
            let now = Instant::now();
            let deadline = *deadline.get_or_insert(now + patience);
            if now >= deadline {
                return Err(MediaRefusal::Late { after_s: patience.as_secs() });
            }
            let Some(changed) = &mut changed else {
                // What came before it was listened for is looked at once more.
                let of_rendition = self.changed.get(usize::from(rendition.0)).ok_or(MediaRefusal::Missing)?;
                changed = Some(of_rendition.subscribe());
                continue;
            };
            wait(&mut place, waiting, from, changed, deadline).await?;
        }
    }

    pub fn state(&self) -> PackagingState {
        let viewers = self.viewers.lock().count();
        let state = self.state.lock();
        let rendition = |window: &RenditionWindow| {
            let description = window.description()?;
            let (peak_bps, average_bps) = window.measured_bps();
            Some(RenditionState {
                kind: description.kind,
                codecs: description.codecs.clone(),
                size: description.size,
                frame_rate: description.frame_rate,
                rid: description.rid.clone(),
                ended: window.is_ended(),
                peak_bps,
                average_bps,
                first_segment: window.listed().next().map_or(0, |segment| segment.number),
                segments: window.listed().len(),
                window: window.listed().map(|segment| segment.duration).sum(),
            })
        };
        PackagingState {
            since: self.since,
            viewers,
            window_bytes: state.window.bytes(),
            target_duration: state.window.target_duration(),
            refusal: state.refusal.clone(),
            output: self.output.lock().clone(),
            renditions: state.window.renditions().filter_map(rendition).collect(),
        }
    }
}

/// Waits for a change, in a place of the bounded number.
async fn wait(
    place: &mut Option<Place>,
    waiting: &Arc<Waiting>,
    from: IpAddr,
    changed: &mut watch::Receiver<()>,
    deadline: Instant,
) -> Result<(), TooManyWaiting> {
    if place.is_none() {
        *place = Some(waiting.enter(from)?);
    }
    // A time that has come, or a sender that is gone: whoever waits looks for itself.
    let _ = timeout_at(deadline, changed.changed()).await;
    Ok(())
}
