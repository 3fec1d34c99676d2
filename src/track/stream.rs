//! A stream: one publisher's tracks at a time, and the workers that want their packets.
//!
//! A stream outlives its publishers: viewers stay subscribed while one leaves and the next comes. One lock per stream
//! is taken once per batch of packets by the publisher's side, never per viewer and never by the packet path of egress.

mod deliveries;
#[cfg(test)]
mod frame_tests;
mod frames;
mod layer;
mod publication;
mod publisher;
mod rendition;
#[cfg(test)]
mod rendition_tests;
#[cfg(test)]
mod rung_tests;
mod standby;
#[cfg(test)]
mod standby_tests;
#[cfg(test)]
mod tests;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Instant, SystemTime},
};

use parking_lot::Mutex;
use sluice_signaling::{media_plane::Direction, priority::Priority};

use crate::{
    codec::PictureSize,
    media::{StreamName, TrackFormat},
    track::{Delivery, LayerIndex, LayerSet, LayerState, PacketSink, frames::OriginalsCache, layer::best_active},
};

use frames::FrameReaders;
use layer::Layer;
pub use publication::Publication;
pub use publisher::{EndReason, Notice, PublisherControl, PublisherInfo};
pub use rendition::{Rendition, RenditionKind, RenditionRefused, RungsWanted};
use standby::Pulse;
pub use standby::{HandOver, StandbyState};

/// A track's place among its publication's tracks, in order of [`Publication::add_track`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TrackIndex(pub u8);

/// One of the server's workers; from [`WorkerIndex::FIRST_RELAY`] on, who sends streams on to other servers by packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct WorkerIndex(pub u16);

impl WorkerIndex {
    /// More than there are workers.
    pub const FIRST_RELAY: u16 = 1_024;

    /// It sends the highest layer on, and chooses no other.
    fn is_relay(self) -> bool {
        self.0 >= Self::FIRST_RELAY
    }
}

/// Tracks a publication may have: one video, one audio.
pub const TRACKS_MAX: usize = 2;
/// Notices a publication keeps for the API; further ones are in the log only.
pub const NOTICES_MAX: usize = 16;
/// Of those, such as viewers cause, who may be many and each of another kind.
const VIEWER_NOTICES_MAX: usize = 4;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    Whip,
    Whep,
    Rtmp,
    /// Fetched from another server by RTMP.
    RtmpPull,
    /// The same by WHEP.
    WhepPull,
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
            Self::RtmpPull => "rtmp-pull",
            Self::WhepPull => "whep-pull",
        }
    }

    /// The sound arrives noticeably later than the pictures it belongs to: RTMP encoders send it interleaved with the
    /// pictures, and it is transcoded. Players should hold pictures back for it.
    pub fn sound_lags(self) -> bool {
        matches!(self, Self::Rtmp | Self::RtmpPull)
    }

    /// Frame readers get its access units as they came, not what WebRTC viewers are sent.
    pub fn hands_over_originals(self) -> bool {
        matches!(self, Self::Rtmp | Self::RtmpPull)
    }
}

/// The publication was replaced by another: its packets go nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("another publisher took the stream over")]
pub struct Superseded;

struct Track {
    epoch: u32,
    format: TrackFormat,
    /// Never empty.
    layers: Vec<Layer>,
}

/// A publisher and what it sends: on air, or standing by.
struct Live {
    /// Its [`Publication`] has it, too.
    id: u64,
    info: PublisherInfo,
    control: Arc<dyn PublisherControl>,
    since: SystemTime,
    tracks: Vec<Track>,
    notices: Vec<Notice>,
    /// Pictures come in another order than that in which they are shown.
    reordered: bool,
    /// Begun so far.
    renditions: u64,
    /// Of a publisher that hands over access units.
    originals: Option<OriginalsCache>,
    pulse: Pulse,
}

struct Subscriber {
    worker: WorkerIndex,
    sink: Arc<dyn PacketSink>,
    /// The layers it gets, of each track: those that its viewers watch.
    wanted: [LayerSet; TRACKS_MAX],
    /// A delivery was lost: nothing but a snapshot helps.
    lagging: bool,
}

#[derive(Default)]
struct Inner {
    /// Counts the stretches of one publisher on air, so that late words about one are not taken for the next one's.
    publication: u64,
    /// The last one's [`Live::id`].
    last_id: u64,
    /// On air.
    live: Option<Live>,
    /// Of the other priority; only beside one that is on air.
    standby: Option<Live>,
    /// Since when the one that stands by is heard, and the one on air is not.
    in_doubt_since: Option<Instant>,
    subscribers: Vec<Subscriber>,
    frames: FrameReaders,
}

/// What all streams have in common.
#[derive(Default)]
pub(super) struct Shared {
    /// Who wants to know of changes, if anybody.
    pub on_change: Option<Box<dyn Fn() + Send + Sync>>,
    pub hand_over: HandOver,
    /// They want to know of audiences as well: layers may be made for them.
    pub tells_of_audiences: AtomicBool,
}

/// A stream that somebody publishes or waits for.
pub struct Stream {
    name: StreamName,
    shared: Arc<Shared>,
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
    /// Ready to take over, or to take back.
    pub standby: Option<StandbyState>,
    pub viewers: usize,
}

#[derive(Debug, Clone)]
pub struct TrackState {
    pub format: TrackFormat,
    /// Over all layers that the publisher sends, since the publication's start.
    pub packets: u64,
    pub bytes: u64,
    pub keyframes: u64,
    /// Of the largest layer; `None` for sound, and until a keyframe has named it.
    pub size: Option<PictureSize>,
    /// At least one, in the publisher's order.
    pub layers: Vec<LayerReport>,
}

/// A layer as the API shows it.
#[derive(Debug, Clone)]
pub struct LayerReport {
    pub state: LayerState,
    /// What arrives of it at present, without headers.
    pub bitrate_bps: u64,
}

impl Stream {
    pub(super) fn new(name: StreamName, shared: Arc<Shared>) -> Self {
        Self { name, shared, inner: Mutex::default(), viewers: AtomicUsize::new(0) }
    }

    fn changed(&self) {
        if let Some(on_change) = &self.shared.on_change {
            on_change();
        }
    }

    pub fn name(&self) -> &StreamName {
        &self.name
    }

    pub fn is_live(&self) -> bool {
        self.inner.lock().live.is_some()
    }

    /// How the publisher on air sends, if there is one.
    pub fn on_air(&self) -> Option<Protocol> {
        Some(self.inner.lock().live.as_ref()?.info.protocol)
    }

    /// Somebody of this priority publishes, on air or standing by.
    pub fn has_publisher(&self, priority: Priority) -> bool {
        self.inner.lock().has(priority)
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
            standby: inner.standby.as_ref().map(Live::standby_state),
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

    /// Subscribes a worker: its sink gets a snapshot at once, then every batch of the layers it wants. To begin with these
    /// are the highest that are being sent, until it [wants others](Self::want_layers).
    pub fn subscribe(self: &Arc<Self>, worker: WorkerIndex, sink: Arc<dyn PacketSink>) {
        let mut inner = self.inner.lock();
        if inner.subscribers.iter().any(|subscriber| subscriber.worker == worker) {
            return;
        }
        let wanted = inner.usually_wanted();
        let snapshot = Arc::new(inner.snapshot(&wanted));
        let lagging = !sink.deliver(self, Delivery::Snapshot(snapshot));
        inner.subscribers.push(Subscriber { worker, sink, wanted, lagging });
        inner.tell_of_audience(self);
    }

    /// A worker wants these layers of a track, and no others, from now on. When one is among them that it had not got, it is given
    /// a snapshot.
    pub fn want_layers(self: &Arc<Self>, worker: WorkerIndex, publication: u64, track: TrackIndex, layers: LayerSet) {
        let mut inner = self.inner.lock();
        let inner = &mut *inner;
        if inner.publication != publication {
            return;
        }
        let Some(at) = inner.subscribers.iter().position(|subscriber| subscriber.worker == worker) else { return };
        let Some(wanted) = inner.subscribers[at].wanted.get_mut(usize::from(track.0)) else { return };
        let had = std::mem::replace(wanted, layers);
        if !layers.without(had).is_empty() && !inner.subscribers[at].lagging {
            let snapshot = Arc::new(inner.snapshot(&inner.subscribers[at].wanted));
            let subscriber = &mut inner.subscribers[at];
            subscriber.lagging = !subscriber.sink.deliver(self, Delivery::Snapshot(snapshot));
        }
    }

    pub fn unsubscribe(&self, worker: WorkerIndex) {
        let mut inner = self.inner.lock();
        inner.subscribers.retain(|subscriber| subscriber.worker != worker);
        inner.tell_of_audience(self);
    }

    /// A viewer needs a keyframe; requests are coalesced (see [`super::KeyframeGate`]). True when one went to the publisher.
    pub fn request_keyframe(&self, now: Instant, track: TrackIndex, layer: LayerIndex) -> bool {
        self.inner.lock().request_keyframe(now, track, layer)
    }

    /// Ends the current publication, if any; its publisher is told why. Whoever stands by has the stream then.
    pub fn end_publication(&self, reason: EndReason) -> bool {
        let control = self.inner.lock().live.as_ref().map(|live| live.control.clone());
        control.inspect(|control| control.end(reason)).is_some()
    }

    /// The same of the publisher that stands by.
    pub fn end_standby(&self, reason: EndReason) -> bool {
        let control = self.inner.lock().standby.as_ref().map(|standby| standby.control.clone());
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

    /// Tells whoever publishes (`publication`: that one only, if it is still on) what viewers have with it: each text once, and not many.
    pub fn notice_of_viewers(&self, publication: Option<u64>, notice: Notice) {
        let mut inner = self.inner.lock();
        if publication.is_none_or(|publication| inner.publication == publication)
            && let Some(live) = &mut inner.live
        {
            live.notice_of_viewers(notice);
        }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        let inner = self.inner.lock();
        let unread = inner.subscribers.is_empty() && inner.frames.is_empty();
        inner.live.is_none() && unread && self.viewers.load(Ordering::Relaxed) == 0
    }

    /// Puts a new publication on air, or lets it stand by where one of the other priority is on; whoever was in its place is returned, to be told
    /// outside the lock.
    pub(super) fn publish(
        self: &Arc<Self>,
        info: PublisherInfo,
        control: Arc<dyn PublisherControl>,
        since: SystemTime,
    ) -> (Publication, Option<Arc<dyn PublisherControl>>) {
        let mut inner = self.inner.lock();
        inner.last_id += 1;
        let publication = Publication { stream: self.clone(), id: inner.last_id };
        let stands_by = inner.live.as_ref().is_some_and(|live| live.info.priority != info.priority);
        let newcomer = Live {
            id: inner.last_id,
            originals: info.protocol.hands_over_originals().then(OriginalsCache::default),
            info,
            control,
            since,
            tracks: Vec::new(),
            notices: Vec::new(),
            reordered: false,
            renditions: 0,
            pulse: Pulse::default(),
        };
        if stands_by {
            let replaced = inner.standby.replace(newcomer);
            self.changed();
            return (publication, replaced.map(|standby| standby.control));
        }
        inner.publication += 1;
        let replaced = inner.live.replace(newcomer);
        for subscriber in &mut inner.subscribers {
            subscriber.wanted = Default::default();
        }
        if replaced.is_some() {
            inner.announce(self);
        }
        (publication, replaced.map(|live| live.control))
    }
}

impl Track {
    fn state(&self) -> TrackState {
        let sent = || self.layers.iter().filter(|layer| !layer.state.role.is_made_here());
        TrackState {
            format: self.format.clone(),
            packets: sent().map(|layer| layer.packets).sum(),
            bytes: sent().map(|layer| layer.bytes).sum(),
            keyframes: sent().map(|layer| layer.keyframes).sum(),
            size: sent().filter_map(|layer| layer.state.size).max_by_key(|size| size.height),
            layers: self
                .layers
                .iter()
                .map(|layer| LayerReport { state: layer.state.clone(), bitrate_bps: layer.bitrate_bps })
                .collect(),
        }
    }

    /// What a worker wants that has not said yet what its viewers watch.
    fn usually_wanted(&self) -> LayerSet {
        let states = self.layers.iter().enumerate().map(|(at, layer)| (LayerIndex(at as u8), &layer.state));
        if self.layers.len() == 1 { LayerSet::of(LayerIndex(0)) } else { best_active(states).into_iter().collect() }
    }
}

impl Live {
    fn notice(&mut self, notice: Notice) {
        if self.notices.len() < NOTICES_MAX && self.notices.iter().all(|known| known.code != notice.code) {
            self.control.notice(&notice);
            self.notices.push(notice);
        }
    }

    fn notice_of_viewers(&mut self, notice: Notice) {
        let of_code = self.notices.iter().filter(|known| known.code == notice.code).count();
        if self.notices.len() < NOTICES_MAX && of_code < VIEWER_NOTICES_MAX && !self.notices.contains(&notice) {
            self.notices.push(notice);
        }
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
