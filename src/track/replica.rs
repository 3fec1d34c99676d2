//! A worker's copy of a stream: the same packets, in rings of its own, fed by deliveries. What its viewers read.

use std::{sync::Arc, time::Instant};

use crate::{
    media::{ExtendedSeq, MediaKind, TrackFormat},
    track::{
        Batch, ClockReference, Delivery, Insertion, LayerIndex, PacketRing, RingLimits, Snapshot, TrackIndex,
        TrackPacket, TrackSnapshot,
    },
};

/// One unbroken run of numbering and clock. A viewer that crosses from one run to the next is rebased at a keyframe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Run {
    publication: u64,
    epoch: u32,
    /// Counts the beginnings anew within one epoch: numbering jumped, or deliveries were lost.
    restart: u32,
}

impl Run {
    /// Both carry the same format: there is no change of publisher or format between them.
    pub fn has_format_of(self, other: Self) -> bool {
        (self.publication, self.epoch) == (other.publication, other.epoch)
    }
}

/// A track as a worker has it.
#[derive(Debug)]
pub struct ReplicaTrack {
    index: TrackIndex,
    format: TrackFormat,
    clock: Option<ClockReference>,
    run: Run,
    ring: PacketRing,
}

impl ReplicaTrack {
    fn new(index: TrackIndex, publication: u64, snapshot: &TrackSnapshot) -> Self {
        let run = Run { publication, epoch: snapshot.epoch, restart: 0 };
        let mut track = Self {
            index,
            format: snapshot.format.clone(),
            clock: snapshot.clock,
            run,
            ring: PacketRing::new(RingLimits::of(snapshot.format.codec.kind())),
        };
        track.take(&snapshot.layers);
        track
    }

    /// Where it stands among the publication's tracks.
    pub fn index(&self) -> TrackIndex {
        self.index
    }

    pub fn format(&self) -> &TrackFormat {
        &self.format
    }

    pub fn run(&self) -> Run {
        self.run
    }

    pub fn ring(&self) -> &PacketRing {
        &self.ring
    }

    /// Where the track's clock and ours meet: as measured, else by the newest packet's arrival.
    pub fn clock(&self) -> Option<ClockReference> {
        let by_arrival = || {
            let newest = self.ring.newest()?;
            Some(ClockReference { at: newest.arrival, time_ticks: newest.time_ticks })
        };
        self.clock.or_else(by_arrival)
    }

    fn insert(&mut self, packet: Arc<TrackPacket>) -> Insertion {
        let insertion = self.ring.insert(packet);
        if insertion == Insertion::Restarted {
            self.run.restart = self.run.restart.wrapping_add(1);
        }
        insertion
    }

    fn take(&mut self, layers: &[Vec<Arc<TrackPacket>>]) {
        for packet in layers.first().into_iter().flatten() {
            self.insert(packet.clone());
        }
    }

    /// The same track again, after deliveries were lost: what overlaps goes on, anything else begins anew.
    fn resume(&mut self, snapshot: &TrackSnapshot) {
        self.clock = snapshot.clock.or(self.clock);
        let first = snapshot.layers.first().and_then(|layer| layer.first());
        if first.is_some_and(|first| first.seq > self.ring.end()) {
            self.ring = PacketRing::new(RingLimits::of(self.format.codec.kind()));
            self.run.restart = self.run.restart.wrapping_add(1);
        }
        self.take(&snapshot.layers);
    }
}

/// What deliveries brought since viewers were last served.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Tracks came, went, or were brought up to date.
    pub tracks: bool,
    /// Packets of these kinds came.
    pub video: bool,
    pub audio: bool,
    /// Packets that filled gaps behind the newest.
    pub late: Vec<(MediaKind, ExtendedSeq)>,
    /// When the first of the packets reached the server.
    pub arrival: Option<Instant>,
}

impl News {
    pub fn is_empty(&self) -> bool {
        !(self.tracks || self.video || self.audio)
    }

    /// The one kind that has news; `None` when it is not one alone.
    pub fn only(&self) -> Option<MediaKind> {
        match (self.tracks, self.video, self.audio) {
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

    fn note(&mut self, kind: MediaKind, arrival: Instant) {
        match kind {
            MediaKind::Video => self.video = true,
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
            Delivery::Clock { track, reference } => {
                if let Some(track) = self.tracks.get_mut(usize::from(track.0)) {
                    track.clock = Some(reference);
                }
            }
        }
    }

    fn apply_batch(&mut self, batch: &Batch, news: &mut News) {
        let Some(track) = self.tracks.get_mut(usize::from(batch.track.0)) else { return };
        if batch.layer != LayerIndex(0) {
            return;
        }
        let kind = track.format.codec.kind();
        for packet in &batch.packets {
            news.note(kind, packet.arrival);
            if track.insert(packet.clone()) == Insertion::Late {
                news.late.push((kind, packet.seq));
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
                Some(ours) if ours.run.epoch == theirs.epoch => ours.resume(theirs),
                Some(ours) => *ours = ReplicaTrack::new(ours.index, snapshot.publication, theirs),
                None => self.tracks.push(ReplicaTrack::new(TrackIndex(at as u8), snapshot.publication, theirs)),
            }
        }
    }
}
