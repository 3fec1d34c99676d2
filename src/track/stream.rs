//! A stream: one publisher's tracks at a time, and the workers that want their packets.
//!
//! A stream outlives its publishers: viewers stay subscribed while one leaves and the next comes. One lock per stream
//! is taken once per batch of packets by the publisher's side, never per viewer and never by the packet path of egress.

mod publication;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use parking_lot::Mutex;
use sluice_signaling::media_plane::Direction;

use crate::{
    codec::PictureSize,
    media::{Codec, MediaKind, SessionId, StreamName, TrackFormat},
    track::{ClockReference, KeyframeGate, PacketRing, RingLimits, TrackPacket},
};

pub use publication::Publication;

/// A track's place among its publication's tracks, in order of [`Publication::add_track`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackIndex(pub u8);

/// A layer's place in its track; 0 where there is one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LayerIndex(pub u8);

/// One of the server's workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerIndex(pub u16);

/// Tracks a publication may have: one video, one audio.
pub const TRACKS_MAX: usize = 2;
/// Notices a publication keeps for the API; further ones are in the log only.
const NOTICES_MAX: usize = 16;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Whip,
    Whep,
    Rtmp,
}

impl Protocol {
    /// Of WebRTC sessions, by the way their media flows.
    pub fn of(direction: Direction) -> Self {
        match direction {
            Direction::Ingest => Self::Whip,
            Direction::Egress => Self::Whep,
        }
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Whip => "whip",
            Self::Whep => "whep",
            Self::Rtmp => "rtmp",
        }
    }

    /// The sound arrives noticeably later than the pictures it belongs to: RTMP encoders send it interleaved with the
    /// pictures, and it is transcoded. Players should hold pictures back for it.
    pub fn sound_lags(self) -> bool {
        self == Self::Rtmp
    }
}

/// Who publishes.
#[derive(Debug, Clone)]
pub struct PublisherInfo {
    pub session: SessionId,
    pub protocol: Protocol,
    pub remote: SocketAddr,
    /// HTTP user agent or RTMP `flashVer`; empty when unknown.
    pub user_agent: String,
    /// The token's `sub`.
    pub subject: Option<String>,
}

/// Something the publisher should know and change, in words fit for the dashboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    /// Stable, for programs: `b-frames-dropped`.
    pub code: &'static str,
    pub text: String,
}

/// Why a session is ended from our side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndReason {
    /// Its client asked for it (DELETE on the session's URL).
    Deleted,
    /// Another publisher took the stream.
    Superseded,
    /// An operator ended it by the API.
    Kicked,
    /// Its token's `exp` has come.
    TokenExpired,
    /// The server is stopping.
    Draining,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deleted => "ended by its client",
            Self::Superseded => "another publisher took the stream over",
            Self::Kicked => "ended by an operator",
            Self::TokenExpired => "the token has expired",
            Self::Draining => "the server is stopping",
        })
    }
}

/// What the tree asks of whoever publishes. Calls come from any thread, some under the stream's lock: post the wish and
/// return; never block, and never call the stream back.
pub trait PublisherControl: Send + Sync {
    fn request_keyframe(&self, track: TrackIndex, layer: LayerIndex);
    fn end(&self, reason: EndReason);
}

/// A worker's bounded inbox, as the tree sees it. Calls come from any thread, under the stream's lock: never block, and
/// never call the stream back.
pub trait PacketSink: Send + Sync {
    /// False when the inbox is full: the delivery is lost, and the worker is brought back with a [`Delivery::Snapshot`].
    fn deliver(&self, stream: &Arc<Stream>, delivery: Delivery) -> bool;
}

/// What a subscribed worker is told, in order.
#[derive(Debug, Clone)]
pub enum Delivery {
    /// Everything known: on subscription, when a publisher comes or goes, when its formats change, after lost deliveries.
    Snapshot(Arc<Snapshot>),
    /// New packets: what arrived together, of whichever layers.
    Packets(Arc<[Batch]>),
    /// A track's clock was measured anew.
    Clock { track: TrackIndex, reference: ClockReference },
}

/// Packets of one layer, in order of arrival.
#[derive(Debug, Clone)]
pub struct Batch {
    pub track: TrackIndex,
    pub layer: LayerIndex,
    pub packets: Vec<Arc<TrackPacket>>,
}

/// A stream's state at one moment. No tracks: nobody publishes.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    /// Counts publications; numbering and clocks of two publications are unrelated.
    pub publication: u64,
    /// See [`Protocol::sound_lags`].
    pub sound_lags: bool,
    pub tracks: Vec<TrackSnapshot>,
}

#[derive(Debug, Clone)]
pub struct TrackSnapshot {
    /// Counts the changes of the track's format within its publication; packets of two epochs need a keyframe between them.
    pub epoch: u32,
    pub format: TrackFormat,
    pub clock: Option<ClockReference>,
    /// Each layer's cached packets, oldest first.
    pub layers: Vec<Vec<Arc<TrackPacket>>>,
}

/// The publication was replaced by another: its packets go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another publisher took the stream over")]
pub struct Superseded;

struct Track {
    epoch: u32,
    format: TrackFormat,
    clock: Option<ClockReference>,
    layers: Vec<Layer>,
}

struct Layer {
    ring: PacketRing,
    gate: KeyframeGate,
    packets: u64,
    bytes: u64,
    keyframes: u64,
    /// As the last keyframe that named it said.
    size: Option<PictureSize>,
}

struct Live {
    info: PublisherInfo,
    control: Arc<dyn PublisherControl>,
    since: SystemTime,
    tracks: Vec<Track>,
    notices: Vec<Notice>,
}

struct Subscriber {
    worker: WorkerIndex,
    sink: Arc<dyn PacketSink>,
    /// A delivery was lost: nothing but a snapshot helps.
    lagging: bool,
}

#[derive(Default)]
struct Inner {
    /// Which publication is on (or was last), so that a replaced one's late words are not taken for the new one's.
    publication: u64,
    live: Option<Live>,
    subscribers: Vec<Subscriber>,
}

/// Who wants to know of changes, if anybody.
#[derive(Clone, Default)]
pub(super) struct OnChange(pub Option<Arc<dyn Fn() + Send + Sync>>);

/// A stream that somebody publishes or waits for.
pub struct Stream {
    name: StreamName,
    on_change: OnChange,
    inner: Mutex<Inner>,
    viewers: AtomicUsize,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A live stream as the API shows it.
#[derive(Debug, Clone)]
pub struct StreamState {
    pub publisher: Option<PublisherInfo>,
    pub since: Option<SystemTime>,
    pub tracks: Vec<TrackState>,
    pub notices: Vec<Notice>,
    pub viewers: usize,
}

#[derive(Debug, Clone)]
pub struct TrackState {
    pub format: TrackFormat,
    /// Over all layers, since the publication's start.
    pub packets: u64,
    pub bytes: u64,
    pub keyframes: u64,
    /// Of the largest layer; `None` for sound, and until a keyframe has named it.
    pub size: Option<PictureSize>,
}

impl Stream {
    pub(super) fn new(name: StreamName, on_change: OnChange) -> Self {
        Self { name, on_change, inner: Mutex::default(), viewers: AtomicUsize::new(0) }
    }

    pub fn name(&self) -> &StreamName {
        &self.name
    }

    pub fn is_live(&self) -> bool {
        self.inner.lock().live.is_some()
    }

    /// The formats of the live tracks, video first; `None` when nobody publishes or no track is known yet.
    pub fn formats(&self) -> Option<Vec<TrackFormat>> {
        let inner = self.inner.lock();
        let mut formats: Vec<_> = inner.live.as_ref()?.tracks.iter().map(|track| track.format.clone()).collect();
        formats.sort_by_key(|format| std::cmp::Reverse(format.codec.kind()));
        (!formats.is_empty()).then_some(formats)
    }

    pub fn state(&self) -> StreamState {
        let inner = self.inner.lock();
        let live = inner.live.as_ref();
        StreamState {
            publisher: live.map(|live| live.info.clone()),
            since: live.map(|live| live.since),
            tracks: live.map_or_else(Vec::new, |live| live.tracks.iter().map(Track::state).collect()),
            notices: live.map_or_else(Vec::new, |live| live.notices.clone()),
            viewers: self.viewers.load(Ordering::Relaxed),
        }
    }

    /// Viewers that are connected.
    pub fn viewer_count(&self) -> usize {
        self.viewers.load(Ordering::Relaxed)
    }

    /// Counts a viewer in; the guard counts it out.
    pub fn count_viewer(self: &Arc<Self>) -> ViewerCount {
        self.viewers.fetch_add(1, Ordering::Relaxed);
        ViewerCount(self.clone())
    }

    /// Subscribes a worker: its sink gets a snapshot at once, then every batch.
    pub fn subscribe(self: &Arc<Self>, worker: WorkerIndex, sink: Arc<dyn PacketSink>) {
        let mut inner = self.inner.lock();
        if inner.subscribers.iter().any(|subscriber| subscriber.worker == worker) {
            return;
        }
        let snapshot = Arc::new(inner.snapshot());
        let lagging = !sink.deliver(self, Delivery::Snapshot(snapshot));
        inner.subscribers.push(Subscriber { worker, sink, lagging });
    }

    pub fn unsubscribe(&self, worker: WorkerIndex) {
        self.inner.lock().subscribers.retain(|subscriber| subscriber.worker != worker);
    }

    /// A viewer needs a keyframe; requests are coalesced (see [`KeyframeGate`]). True when one went to the publisher.
    pub fn request_keyframe(&self, now: Instant, track: TrackIndex, layer: LayerIndex) -> bool {
        self.inner.lock().request_keyframe(now, track, layer)
    }

    /// Ends the current publication, if any; its publisher is told why.
    pub fn end_publication(&self, reason: EndReason) -> bool {
        let control = self.inner.lock().live.as_ref().map(|live| live.control.clone());
        control.inspect(|control| control.end(reason)).is_some()
    }

    /// Tells a publication's operator something, once per code, if it is still on.
    pub fn notice(&self, publication: u64, notice: Notice) {
        let mut inner = self.inner.lock();
        if inner.publication == publication
            && let Some(live) = &mut inner.live
        {
            live.notice(notice);
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        let inner = self.inner.lock();
        inner.live.is_none() && inner.subscribers.is_empty() && self.viewers.load(Ordering::Relaxed) == 0
    }

    /// Puts a new publication on; whoever was on is returned, to be told outside the lock.
    pub(super) fn publish(
        self: &Arc<Self>,
        info: PublisherInfo,
        control: Arc<dyn PublisherControl>,
        since: SystemTime,
    ) -> (Publication, Option<Arc<dyn PublisherControl>>) {
        let mut inner = self.inner.lock();
        inner.publication += 1;
        let publication = Publication { stream: self.clone(), publication: inner.publication };
        let replaced = inner.live.replace(Live { info, control, since, tracks: Vec::new(), notices: Vec::new() });
        if replaced.is_some() {
            inner.announce(self);
        }
        (publication, replaced.map(|live| live.control))
    }
}

impl Track {
    fn state(&self) -> TrackState {
        TrackState {
            format: self.format.clone(),
            packets: self.layers.iter().map(|layer| layer.packets).sum(),
            bytes: self.layers.iter().map(|layer| layer.bytes).sum(),
            keyframes: self.layers.iter().map(|layer| layer.keyframes).sum(),
            size: self.layers.iter().filter_map(|layer| layer.size).max_by_key(|size| size.height),
        }
    }
}

impl Live {
    fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX && self.notices.iter().all(|known| known.code != notice.code) {
            self.notices.push(notice);
        }
    }
}

impl Layer {
    fn new(codec: Codec) -> Self {
        Self {
            ring: PacketRing::new(RingLimits::of(codec.kind())),
            gate: KeyframeGate::default(),
            packets: 0,
            bytes: 0,
            keyframes: 0,
            size: None,
        }
    }
}

impl Inner {
    fn snapshot(&self) -> Snapshot {
        let tracks = self.live.as_ref().map_or_else(Vec::new, |live| {
            live.tracks
                .iter()
                .map(|track| TrackSnapshot {
                    epoch: track.epoch,
                    format: track.format.clone(),
                    clock: track.clock,
                    layers: track.layers.iter().map(|layer| layer.ring.iter().cloned().collect()).collect(),
                })
                .collect()
        });
        let sound_lags = self.live.as_ref().is_some_and(|live| live.info.protocol.sound_lags());
        Snapshot { publication: self.publication, sound_lags, tracks }
    }

    /// Publication, tracks or formats changed: everybody gets a snapshot.
    fn announce(&mut self, stream: &Arc<Stream>) {
        let snapshot = Arc::new(self.snapshot());
        for subscriber in &mut self.subscribers {
            subscriber.lagging = !subscriber.sink.deliver(stream, Delivery::Snapshot(snapshot.clone()));
        }
        if let Some(changed) = &stream.on_change.0 {
            changed();
        }
    }

    /// Sends to all who keep up; the others are brought back with a snapshot when `resume` says that one is of use.
    fn deliver(&mut self, stream: &Arc<Stream>, delivery: &Delivery, resume: bool) -> bool {
        let mut snapshot = None;
        let mut lost = false;
        for at in 0..self.subscribers.len() {
            let delivered = if !self.subscribers[at].lagging {
                self.subscribers[at].sink.deliver(stream, delivery.clone())
            } else if resume {
                let snapshot = snapshot.get_or_insert_with(|| Arc::new(self.snapshot())).clone();
                self.subscribers[at].sink.deliver(stream, Delivery::Snapshot(snapshot))
            } else {
                false
            };
            self.subscribers[at].lagging = !delivered;
            lost |= !delivered;
        }
        !lost
    }

    fn request_keyframe(&mut self, now: Instant, track: TrackIndex, layer: LayerIndex) -> bool {
        let Some(live) = &mut self.live else { return false };
        let gate = live
            .tracks
            .get_mut(usize::from(track.0))
            .and_then(|track| track.layers.get_mut(usize::from(layer.0)))
            .map(|layer| &mut layer.gate);
        let due = gate.is_some_and(|gate| gate.request(now));
        if due {
            live.control.request_keyframe(track, layer);
        }
        due
    }
}

/// Counts one viewer for as long as it lives.
#[derive(Debug)]
pub struct ViewerCount(Arc<Stream>);

impl Drop for ViewerCount {
    fn drop(&mut self) {
        self.0.viewers.fetch_sub(1, Ordering::Relaxed);
    }
}

impl RingLimits {
    /// What a layer of this kind keeps.
    pub fn of(kind: MediaKind) -> Self {
        match kind {
            MediaKind::Video => Self::VIDEO,
            MediaKind::Audio => Self::AUDIO,
        }
    }
}
