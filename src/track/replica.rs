//! A worker's copy of a stream: the same packets, in rings of its own, fed by deliveries. What its viewers read.

use std::sync::Arc;

use crate::{
    media::{ExtendedSeq, MediaKind, TrackFormat},
    track::{
        ClockReference, Delivery, Insertion, LayerIndex, PacketRing, RingLimits, Snapshot, TrackIndex, TrackPacket,
        TrackSnapshot,
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

/// What a delivery changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applied {
    /// Tracks came, went, or were brought up to date.
    Tracks,
    /// Packets of this track; `late` of them (appended to the caller's list) filled gaps behind the newest.
    Packets(MediaKind),
    Nothing,
}

/// A worker's copy of one stream.
#[derive(Debug, Default)]
pub struct Replica {
    publication: u64,
    sound_lags: bool,
    tracks: Vec<ReplicaTrack>,
}

impl Replica {
    /// Takes a delivery in. Numbers of packets that filled gaps are appended to `late`.
    pub fn apply(&mut self, delivery: Delivery, late: &mut Vec<ExtendedSeq>) -> Applied {
        match delivery {
            Delivery::Snapshot(snapshot) => {
                self.apply_snapshot(&snapshot);
                Applied::Tracks
            }
            Delivery::Packets { track, layer: LayerIndex(0), packets } => {
                let Some(track) = self.tracks.get_mut(usize::from(track.0)) else { return Applied::Nothing };
                for packet in packets.iter() {
                    if track.insert(packet.clone()) == Insertion::Late {
                        late.push(packet.seq);
                    }
                }
                Applied::Packets(track.format.codec.kind())
            }
            Delivery::Packets { .. } => Applied::Nothing,
            Delivery::Clock { track, reference } => {
                if let Some(track) = self.tracks.get_mut(usize::from(track.0)) {
                    track.clock = Some(reference);
                }
                Applied::Nothing
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
