//! A worker's copy of a stream: the same packets, in rings of its own, fed by deliveries. What its viewers read.
//!
//! Of a track's layers only those are copied that a viewer of the worker watches: another costs its state, and no packet.

use std::{sync::Arc, time::Instant};

use arrayvec::ArrayVec;

use crate::{
    media::{ExtendedSeq, MediaKind, TrackFormat},
    track::{
        Batch, ClockReference, Delivery, Insertion, LAYERS_MAX, LayerIndex, LayerSet, LayerSnapshot, LayerState,
        PacketRing, RingLimits, Snapshot, TrackIndex, TrackPacket, TrackSnapshot, best_active,
    },
};

/// One unbroken run of a layer's numbering and clock. A viewer that crosses from one run to the next is rebased at a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    publication: u64,
    epoch: u32,
    layer: LayerIndex,
    /// Counts the beginnings anew within one epoch: numbering jumped, deliveries were lost, or nobody watched.
    restart: u32,
}

impl Run {
    /// Both carry the same format: there is no change of publisher or format between them.
    pub fn has_format_of(self, other: Self) -> bool {
        (self.publication, self.epoch) == (other.publication, other.epoch)
    }

    pub fn layer(self) -> LayerIndex {
        self.layer
    }
}

/// A layer as a worker has it.
#[derive(Debug)]
pub struct ReplicaLayer {
    state: LayerState,
    clock: Option<ClockReference>,
    run: Run,
    /// Empty while it is not kept.
    ring: PacketRing,
    is_kept: bool,
    kind: MediaKind,
}

impl ReplicaLayer {
    fn new(run: Run, kind: MediaKind, snapshot: &LayerSnapshot) -> Self {
        let mut layer = Self {
            state: snapshot.state.clone(),
            clock: snapshot.clock,
            run,
            ring: PacketRing::new(RingLimits::of(kind)),
            is_kept: false,
            kind,
        };
        layer.resume(snapshot);
        layer
    }

    pub fn state(&self) -> &LayerState {
        &self.state
    }

    pub fn run(&self) -> Run {
        self.run
    }

    pub fn ring(&self) -> &PacketRing {
        &self.ring
    }

    /// Where the layer's clock and ours meet: as measured, else by the newest packet's arrival.
    pub fn clock(&self) -> Option<ClockReference> {
        self.clock.or_else(|| self.clock_by_arrival())
    }

    /// What is to be added to this layer's ticks, modulo 2^64, to have another layer's of the same moment; `None` before packets
    /// of both have come.
    pub fn ticks_behind(&self, other: &Self, at: Instant, rate_hz: u32) -> Option<u64> {
        let (mut ours, mut theirs) = (self.clock()?, other.clock()?);
        if ours.by_report != theirs.by_report {
            // What one's sender said and when the other's packets came are not to be compared.
            (ours, theirs) = (self.clock_by_arrival()?, other.clock_by_arrival()?);
        }
        Some(theirs.ticks_at(at, rate_hz).wrapping_sub(ours.ticks_at(at, rate_hz)))
    }

    fn clock_by_arrival(&self) -> Option<ClockReference> {
        let newest = self.ring.newest()?;
        Some(ClockReference { at: newest.arrival, time_ticks: newest.time_ticks, by_report: false })
    }

    fn insert(&mut self, packet: Arc<TrackPacket>) -> Insertion {
        let insertion = self.ring.insert(packet);
        if insertion == Insertion::Restarted {
            self.run.restart = self.run.restart.wrapping_add(1);
        }
        insertion
    }

    /// The same layer again: what overlaps goes on, anything else begins anew.
    fn resume(&mut self, snapshot: &LayerSnapshot) {
        self.state.clone_from(&snapshot.state);
        self.clock = snapshot.clock.or(self.clock);
        let Some(packets) = &snapshot.packets else { return self.forget() };
        if self.is_kept && packets.first().is_some_and(|first| first.seq > self.ring.end()) {
            self.forget();
        }
        self.is_kept = true;
        for packet in packets {
            self.insert(packet.clone());
        }
    }

    /// Keeps no packets of it any more.
    fn forget(&mut self) {
        if self.is_kept {
            self.is_kept = false;
            self.ring = PacketRing::new(RingLimits::of(self.kind));
            self.run.restart = self.run.restart.wrapping_add(1);
        }
    }
}

/// A track as a worker has it.
#[derive(Debug)]
pub struct ReplicaTrack {
    index: TrackIndex,
    epoch: u32,
    format: TrackFormat,
    layers: ArrayVec<ReplicaLayer, LAYERS_MAX>,
}

impl ReplicaTrack {
    fn new(index: TrackIndex, publication: u64, snapshot: &TrackSnapshot) -> Self {
        let layers = Self::layers_of(publication, snapshot).collect();
        Self { index, epoch: snapshot.epoch, format: snapshot.format.clone(), layers }
    }

    fn layers_of(publication: u64, snapshot: &TrackSnapshot) -> impl Iterator<Item = ReplicaLayer> {
        let kind = snapshot.format.codec.kind();
        snapshot.layers.iter().enumerate().take(LAYERS_MAX).map(move |(at, layer)| {
            let run = Run { publication, epoch: snapshot.epoch, layer: LayerIndex(at as u8), restart: 0 };
            ReplicaLayer::new(run, kind, layer)
        })
    }

    /// Where it stands among the publication's tracks.
    pub fn index(&self) -> TrackIndex {
        self.index
    }

    pub fn format(&self) -> &TrackFormat {
        &self.format
    }

    pub fn layer(&self, layer: LayerIndex) -> Option<&ReplicaLayer> {
        self.layers.get(usize::from(layer.0))
    }

    /// The layer that a run is of, if the run still lasts.
    pub fn layer_of(&self, run: Run) -> Option<&ReplicaLayer> {
        self.layer(run.layer).filter(|layer| layer.run == run)
    }

    /// In the publisher's order.
    pub fn layers(&self) -> impl Iterator<Item = (LayerIndex, &ReplicaLayer)> {
        self.layers.iter().enumerate().map(|(at, layer)| (LayerIndex(at as u8), layer))
    }

    /// A run of the present format; all of them have it.
    pub fn any_run(&self) -> Option<Run> {
        self.layers.first().map(ReplicaLayer::run)
    }

    /// The highest layer that is being sent.
    pub fn best_active(&self) -> Option<LayerIndex> {
        best_active(self.layers().map(|(layer, of)| (layer, &of.state)))
    }

    /// Those whose packets are here.
    pub fn kept(&self) -> LayerSet {
        self.layers().filter(|(_, layer)| layer.is_kept).map(|(at, _)| at).collect()
    }

    fn resume(&mut self, publication: u64, snapshot: &TrackSnapshot) {
        for (ours, theirs) in self.layers.iter_mut().zip(&snapshot.layers) {
            ours.resume(theirs);
        }
        let known = self.layers.len();
        self.layers.extend(Self::layers_of(publication, snapshot).skip(known));
    }
}

/// What deliveries brought since viewers were last served.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Tracks or layers came, went, or were brought up to date.
    pub tracks: bool,
    /// Pictures of these layers came.
    pub video: LayerSet,
    pub audio: bool,
    /// Packets that filled gaps behind the newest.
    pub late: Vec<(MediaKind, LayerIndex, ExtendedSeq)>,
    /// When the first of the packets reached the server.
    pub arrival: Option<Instant>,
}

impl News {
    pub fn is_empty(&self) -> bool {
        !self.tracks && self.video.is_empty() && !self.audio
    }

    /// The one kind that has news; `None` when it is not one alone.
    pub fn only(&self) -> Option<MediaKind> {
        match (self.tracks, !self.video.is_empty(), self.audio) {
            (false, true, false) => Some(MediaKind::Video),
            (false, false, true) => Some(MediaKind::Audio),
            _ => None,
        }
    }

    /// Empties it; its room is kept.
    pub fn clear(&mut self) {
        self.late.clear();
        *self = Self { late: std::mem::take(&mut self.late), ..Self::default() };
    }

    fn note(&mut self, kind: MediaKind, layer: LayerIndex, arrival: Instant) {
        match kind {
            MediaKind::Video => self.video = self.video.union(LayerSet::of(layer)),
            MediaKind::Audio => self.audio = true,
        }
        self.arrival = self.arrival.or(Some(arrival));
    }
}

/// A worker's copy of one stream.
#[derive(Debug, Default)]
pub struct Replica {
    publication: u64,
    sound_lags: bool,
    tracks: Vec<ReplicaTrack>,
}

impl Replica {
    /// Takes a delivery in, and adds to `news` what it brought.
    pub fn apply(&mut self, delivery: Delivery, news: &mut News) {
        match delivery {
            Delivery::Snapshot(snapshot) => {
                self.apply_snapshot(&snapshot);
                news.tracks = true;
            }
            Delivery::Packets(batches) => batches.iter().for_each(|batch| self.apply_batch(batch, news)),
            Delivery::Clock { track, layer, reference } => {
                let track = self.tracks.get_mut(usize::from(track.0));
                if let Some(layer) = track.and_then(|track| track.layers.get_mut(usize::from(layer.0))) {
                    layer.clock = Some(reference);
                }
            }
            Delivery::Layers { track, states } => {
                let Some(track) = self.tracks.get_mut(usize::from(track.0)) else { return };
                for (layer, state) in track.layers.iter_mut().zip(states.iter()) {
                    layer.state.clone_from(state);
                }
                news.tracks = true;
            }
        }
    }

    fn apply_batch(&mut self, batch: &Batch, news: &mut News) {
        let Some(track) = self.tracks.get_mut(usize::from(batch.track.0)) else { return };
        let kind = track.format.codec.kind();
        let layer = track.layers.get_mut(usize::from(batch.layer.0));
        let Some(layer) = layer.filter(|layer| layer.is_kept) else { return };
        for packet in &batch.packets {
            news.note(kind, batch.layer, packet.arrival);
            if layer.insert(packet.clone()) == Insertion::Late {
                news.late.push((kind, batch.layer, packet.seq));
            }
        }
    }

    /// Which publication this is a copy of, as [`Snapshot::publication`] counts them.
    pub fn publication(&self) -> u64 {
        self.publication
    }

    /// The track of a kind; a publication has one of each at the most.
    pub fn track(&self, kind: MediaKind) -> Option<&ReplicaTrack> {
        self.tracks.iter().find(|track| track.format.codec.kind() == kind)
    }

    /// Keeps packets of these layers only.
    pub fn keep_only(&mut self, track: TrackIndex, layers: LayerSet) {
        let Some(track) = self.tracks.get_mut(usize::from(track.0)) else { return };
        for (at, layer) in track.layers.iter_mut().enumerate() {
            if !layers.contains(LayerIndex(at as u8)) {
                layer.forget();
            }
        }
    }

    /// See [`Protocol::sound_lags`](crate::track::Protocol::sound_lags).
    pub fn sound_lags(&self) -> bool {
        self.sound_lags
    }

    fn apply_snapshot(&mut self, snapshot: &Snapshot) {
        if snapshot.publication != self.publication {
            self.tracks.clear();
            self.publication = snapshot.publication;
        }
        self.sound_lags = snapshot.sound_lags;
        self.tracks.truncate(snapshot.tracks.len());
        for (at, theirs) in snapshot.tracks.iter().enumerate() {
            match self.tracks.get_mut(at) {
                Some(ours) if ours.epoch == theirs.epoch => ours.resume(snapshot.publication, theirs),
                Some(ours) => *ours = ReplicaTrack::new(ours.index, snapshot.publication, theirs),
                None => self.tracks.push(ReplicaTrack::new(TrackIndex(at as u8), snapshot.publication, theirs)),
            }
        }
    }
}
