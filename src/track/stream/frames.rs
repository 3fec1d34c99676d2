//! A stream's frame readers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Inner, Live, Publication, Stream, Superseded, Track, TrackIndex, publication::Place};
use crate::{
    media::MediaKind,
    track::{
        Batch, Delivery, FrameDelivery, FrameInterest, FrameSink, FrameSubscription, LayerIndex, LayerSet, LayerUnit,
        Original, OriginalFormat, Originals, OriginalsSnapshot,
    },
};

/// Pictures of which nothing came for so long are not waited for.
const PAUSE: Duration = Duration::from_secs(2);

/// Frame readers of one stream: a packager, encoders, and targets that it is sent on to.
#[derive(Default)]
pub(super) struct FrameReaders {
    last_id: u64,
    readers: Vec<Reader>,
    /// When the last picture came of a publisher that hands over access units, as far as somebody read it.
    picture_came: Option<Instant>,
}

struct Reader {
    id: u64,
    sink: Arc<dyn FrameSink>,
    interest: FrameInterest,
    /// A delivery was lost: nothing but a snapshot helps.
    lagging: bool,
}

impl FrameReaders {
    pub(super) fn is_empty(&self) -> bool {
        self.readers.is_empty()
    }

    /// Tells all who keep up, and brings back those who did not where that is of use.
    fn tell(&mut self, delivery: &FrameDelivery, snapshot: Option<&FrameDelivery>) {
        for reader in &mut self.readers {
            let delivery = if reader.lagging { snapshot } else { Some(delivery) };
            if let Some(delivery) = delivery {
                reader.lagging = !reader.sink.deliver(delivery.clone());
            }
        }
    }

    /// The same for those who read all layers; who is behind is brought back by others.
    fn tell_of_layers(&mut self, originals: &Originals) {
        let interested = |reader: &&mut Reader| reader.interest == FrameInterest::AllLayers && !reader.lagging;
        for reader in self.readers.iter_mut().filter(interested) {
            reader.lagging = !reader.sink.deliver(FrameDelivery::Originals(originals.clone()));
        }
    }

    /// Somebody reads all layers.
    pub(super) fn want_all_layers(&self) -> bool {
        self.readers.iter().any(|reader| reader.interest == FrameInterest::AllLayers)
    }

    fn any_lags(&self) -> bool {
        self.readers.iter().any(|reader| reader.lagging)
    }

    /// The publisher sends sound alone for now.
    fn pictures_pause(&self, now: Instant) -> bool {
        self.picture_came.is_none_or(|at| now.saturating_duration_since(at) >= PAUSE)
    }
}

impl Stream {
    /// Subscribes a reader of frames: its sink gets a snapshot at once, then everything that comes.
    pub fn subscribe_frames(self: &Arc<Self>, interest: FrameInterest, sink: Arc<dyn FrameSink>) -> FrameSubscription {
        let mut inner = self.inner.lock();
        inner.frames.last_id += 1;
        let id = inner.frames.last_id;
        let mut lagging = !sink.deliver(inner.frame_snapshot());
        if interest == FrameInterest::AllLayers
            && let Some(units) = inner.live.as_ref().and_then(Live::layer_units)
        {
            lagging |= !sink.deliver(FrameDelivery::Originals(Originals::Layers(units)));
        }
        inner.frames.readers.push(Reader { id, sink, interest, lagging });
        inner.tell_of_audience(self);
        FrameSubscription { stream: self.clone(), id }
    }
}

impl Drop for FrameSubscription {
    fn drop(&mut self) {
        let mut inner = self.stream.inner.lock();
        inner.frames.readers.retain(|reader| reader.id != self.id);
        inner.tell_of_audience(&self.stream);
    }
}

impl Inner {
    fn frame_snapshot(&self) -> FrameDelivery {
        if let Some(cache) = self.live.as_ref().and_then(|live| live.originals.as_ref()) {
            let formats = cache.formats().cloned().collect();
            let units = cache.units().cloned().collect();
            let layers_stopped = self.stopped_layers();
            let snapshot = OriginalsSnapshot { publication: self.publication, formats, units, layers_stopped };
            return FrameDelivery::Originals(Originals::Snapshot(Arc::new(snapshot)));
        }
        let wanted = [LayerSet::ALL; super::TRACKS_MAX];
        FrameDelivery::Rtp(Delivery::Snapshot(Arc::new(self.snapshot(&wanted))))
    }

    /// Of the track of pictures.
    fn stopped_layers(&self) -> LayerSet {
        let tracks = self.live.iter().flat_map(|live| &live.tracks);
        let mut of_pictures = tracks.filter(|track| track.format.codec.kind() == MediaKind::Video);
        of_pictures.next().map(Track::stopped_layers).unwrap_or_default()
    }

    /// Publication, tracks or formats changed.
    pub(super) fn announce_frames(&mut self) {
        if !self.frames.is_empty() {
            let snapshot = self.frame_snapshot();
            self.frames.tell(&snapshot, Some(&snapshot));
        }
    }

    /// Packets came, or word about them. Whoever hands over originals is not read by its packets.
    pub(super) fn tell_frames(&mut self, delivery: &Delivery) {
        if self.frames.is_empty() || self.live.as_ref().is_none_or(|live| live.originals.is_some()) {
            return;
        }
        let brings_back = match delivery {
            Delivery::Packets(batches) => self.frames.any_lags() && self.begins_anew(batches),
            _ => false,
        };
        let snapshot = brings_back.then(|| self.frame_snapshot());
        self.frames.tell(&FrameDelivery::Rtp(delivery.clone()), snapshot.as_ref());
    }

    /// Word of the layers beside the first, for readers of a publisher that hands over originals: others read their packets.
    pub(super) fn tell_of_layers(&mut self, originals: impl FnOnce() -> Originals) {
        if self.frames.want_all_layers() && self.live.as_ref().is_some_and(|live| live.originals.is_some()) {
            self.frames.tell_of_layers(&originals());
        }
    }

    /// Whether a snapshot that ends with these packets is something to begin with: at a keyframe, or, without pictures, anywhere.
    fn begins_anew(&self, batches: &[Batch]) -> bool {
        let mut packets = batches.iter().flat_map(|batch| &batch.packets);
        self.pictures().is_none() || packets.any(|packet| packet.keyframe_start)
    }
}

impl Publication {
    /// For publishers that hand over access units: how those to come are coded.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn announce_original(&mut self, format: Arc<OriginalFormat>) -> Result<(), Superseded> {
        self.with(|_, inner, place| {
            inner.at(place)?.originals.get_or_insert_default().announce(format);
            if place == Place::OnAir {
                inner.announce_frames();
            }
            Ok(())
        })
    }

    /// For publishers that hand over access units: the next one, beside the packets that are made of it. Its number is set here.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn push_original(&mut self, mut original: Original) -> Result<(), Superseded> {
        self.with(|stream, inner, place| {
            let live = inner.at(place)?;
            // Not all of it becomes packets.
            live.pulse.beat(original.arrival);
            let cache = live.originals.get_or_insert_default();
            original.number = cache.next_number();
            cache.insert(original.clone());
            let has_pictures = cache.formats().any(|format| format.kind() == MediaKind::Video);
            if place == Place::StandingBy {
                inner.stand_by(stream, original.arrival, &[]);
                return Ok(());
            }
            if inner.frames.is_empty() {
                return Ok(());
            }
            // Sound is said to be keyframes, too: what pictures there are could not be decoded from there on.
            let begins = match original.format.kind() {
                MediaKind::Video => {
                    inner.frames.picture_came = Some(original.arrival);
                    original.unit.keyframe
                }
                MediaKind::Audio => !has_pictures || inner.frames.pictures_pause(original.arrival),
            };
            let brings_back = inner.frames.any_lags() && begins;
            let snapshot = brings_back.then(|| inner.frame_snapshot());
            let delivery = FrameDelivery::Originals(Originals::Units(Arc::new([original])));
            inner.frames.tell(&delivery, snapshot.as_ref());
            Ok(())
        })
    }

    /// The same of a layer beside the first; its number counts that layer's, from 1.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn push_layer_original(
        &mut self,
        track: TrackIndex,
        layer: LayerIndex,
        rid: &Arc<str>,
        unit: Original,
    ) -> Result<(), Superseded> {
        self.with(|_, inner, place| {
            let unit = LayerUnit { layer, rid: rid.clone(), unit };
            if let Some(layer) = inner.at(place)?.layer_mut(track, layer) {
                layer.keep_unit(&unit);
            }
            if place == Place::OnAir {
                inner.tell_of_layers(|| Originals::Layers(Arc::new([unit])));
            }
            Ok(())
        })
    }
}
