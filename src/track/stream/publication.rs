//! A publisher's side of a stream.

use std::{sync::Arc, time::Instant};

use super::{Inner, Layer, Live, Notice, Stream, Superseded, TRACKS_MAX, Track, TrackIndex};
use crate::{
    media::TrackFormat,
    track::{Batch, ClockReference, Delivery, LAYERS_MAX, LayerIndex, LayerRole, LayerSet, LayerState},
};

/// The right to publish on a stream, held by an ingest session; dropping it takes the stream off, or leaves it to the publisher that
/// stands by. It need not know whether it is on air.
pub struct Publication {
    pub(super) stream: Arc<Stream>,
    pub(super) id: u64,
}

/// Where a publication is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    OnAir,
    StandingBy,
}

impl Publication {
    pub fn stream(&self) -> &Arc<Stream> {
        &self.stream
    }

    /// Adds a track with one layer.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    ///
    /// # Panics
    /// Beyond [`TRACKS_MAX`] tracks: a caller adds one per kind.
    pub fn add_track(&mut self, format: TrackFormat) -> Result<TrackIndex, Superseded> {
        let layer = Layer::new(format.codec, LayerState::only());
        self.add(format, vec![layer])
    }

    /// Adds a track of simulcast layers, at most [`LAYERS_MAX`]: one per rid, numbered in this order, active as packets come.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    ///
    /// # Panics
    /// As [`Self::add_track`], and without rids or with too many: negotiation bounds them.
    pub fn add_layered_track(&mut self, format: TrackFormat, rids: &[String]) -> Result<TrackIndex, Superseded> {
        assert!((1..=LAYERS_MAX).contains(&rids.len()), "as many layers as answers accept");
        let layers = rids.iter().map(|rid| Layer::new(format.codec, LayerState::named(rid))).collect();
        self.add(format, layers)
    }

    /// Adds a layer to a track that has one, with the same clock, or finds the one of that name. One that is made here makes room, if need
    /// be. `None`: there are [`LAYERS_MAX`] of the publisher's.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn add_layer(&mut self, track: TrackIndex, rid: &str) -> Result<Option<LayerIndex>, Superseded> {
        self.with(|stream, inner, place| {
            let of = &mut inner.at(place)?.tracks[usize::from(track.0)];
            let state = LayerState::named(rid);
            let is_it = |layer: &Layer| (layer.state.role, &layer.state.rid) == (state.role, &state.rid);
            if let Some(at) = of.layers.iter().position(is_it) {
                return Ok(Some(LayerIndex(at as u8)));
            }
            let mut layer = Layer::new(of.format.codec, state);
            layer.clock = of.layers.first().and_then(|first| first.clock);
            let at = if of.layers.len() < LAYERS_MAX {
                of.layers.push(layer);
                of.layers.len() - 1
            } else {
                let Some(rung) = of.layers.iter().rposition(|layer| layer.state.role == LayerRole::Rung) else {
                    return Ok(None);
                };
                of.layers[rung] = layer;
                rung
            };
            let at = LayerIndex(at as u8);
            if place == Place::OnAir {
                inner.announce(stream);
            }
            Ok(Some(at))
        })
    }

    fn add(&mut self, format: TrackFormat, layers: Vec<Layer>) -> Result<TrackIndex, Superseded> {
        self.with(|stream, inner, place| {
            let live = inner.at(place)?;
            assert!(live.tracks.len() < TRACKS_MAX, "one video track and one audio track");
            let track = Track { epoch: 0, format, layers };
            let wanted = track.usually_wanted();
            live.tracks.push(track);
            let at = live.tracks.len() - 1;
            if place == Place::OnAir {
                inner.subscribers.iter_mut().for_each(|subscriber| subscriber.wanted[at] = wanted);
                inner.announce(stream);
            }
            Ok(TrackIndex(at as u8))
        })
    }

    /// The track's format changed mid-stream (another size, profile or codec). Its cache starts anew; numbering goes on.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn set_format(&mut self, track: TrackIndex, format: TrackFormat) -> Result<(), Superseded> {
        self.with(|stream, inner, place| {
            let track = &mut inner.at(place)?.tracks[usize::from(track.0)];
            if track.format == format {
                return Ok(());
            }
            track.layers.iter_mut().for_each(|layer| layer.empty(format.codec));
            track.format = format;
            track.epoch += 1;
            if place == Place::OnAir {
                inner.announce(stream);
            }
            Ok(())
        })
    }

    /// Hands on what arrived together: best one whole picture, with the sound that came beside it. It reaches each viewer
    /// in as few sends as its sizes allow.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn push(&mut self, now: Instant, batches: Vec<Batch>) -> Result<(), Superseded> {
        if batches.is_empty() {
            return Ok(());
        }
        self.with(|stream, inner, place| {
            match place {
                Place::OnAir => inner.take(stream, now, batches),
                Place::StandingBy => inner.stand_by(stream, now, &batches),
            }
            Ok(())
        })
    }

    /// A layer's clock was measured: by a sender report, or by the first packet.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn set_clock(
        &mut self,
        track: TrackIndex,
        layer: LayerIndex,
        reference: ClockReference,
    ) -> Result<(), Superseded> {
        self.with(|stream, inner, place| {
            // What is made of a layer here has that one's clock.
            let layers = inner.at(place)?.tracks[usize::from(track.0)].layers.iter_mut();
            let same_clock = (0..).map(LayerIndex).zip(layers).filter(|(at, of)| of.source(*at) == layer);
            let told: LayerSet = same_clock
                .map(|(at, of)| {
                    of.clock = Some(reference);
                    at
                })
                .collect();
            if place == Place::OnAir {
                told.iter().for_each(|layer| inner.tell(stream, &Delivery::Clock { track, layer, reference }));
            }
            Ok(())
        })
    }

    /// The publisher said that it sends a layer no longer.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn stop_layer(&mut self, track: TrackIndex, layer: LayerIndex) -> Result<(), Superseded> {
        self.with(|stream, inner, place| {
            let stopped = inner.at(place)?.tracks[usize::from(track.0)].layers[usize::from(layer.0)].stop();
            if stopped && place == Place::OnAir {
                inner.tell_states(stream, track);
            }
            Ok(())
        })
    }

    /// Whether its pictures are sent in another order than that in which they are shown (B-frames), and can be encoded anew, as WebRTC viewers
    /// need it.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn set_reordered(&mut self, reordered: bool) -> Result<(), Superseded> {
        self.with(|stream, inner, place| {
            if std::mem::replace(&mut inner.at(place)?.reordered, reordered) != reordered {
                stream.changed();
            }
            Ok(())
        })
    }

    /// A layer of its own is broken, and needs a keyframe to be made whole. It is asked for where that is of use: somebody gets the layer, or
    /// nobody is there and the next one will, or the publisher stands by; or `always`.
    pub fn wish_for_keyframe(&mut self, now: Instant, track: TrackIndex, layer: LayerIndex, always: bool) {
        let _ = self.with(|_, inner, place| {
            if always || place == Place::StandingBy || inner.is_watched(track, layer) {
                inner.at(place)?.request_keyframe(now, track, layer);
            }
            Ok(())
        });
    }

    /// Tells the operator something about this publication, once per code.
    pub fn notice(&mut self, notice: Notice) {
        let _ = self.with(|_, inner, place| {
            inner.at(place)?.notice(notice);
            Ok(())
        });
    }

    pub(super) fn with<T>(
        &self,
        act: impl FnOnce(&Arc<Stream>, &mut Inner, Place) -> Result<T, Superseded>,
    ) -> Result<T, Superseded> {
        let mut inner = self.stream.inner.lock();
        let is_ours = |live: &Option<Live>| live.as_ref().is_some_and(|live| live.id == self.id);
        let place = match (is_ours(&inner.live), is_ours(&inner.standby)) {
            (true, _) => Place::OnAir,
            (_, true) => Place::StandingBy,
            _ => return Err(Superseded),
        };
        act(&self.stream, &mut inner, place)
    }
}

impl Inner {
    pub(super) fn at(&mut self, place: Place) -> Result<&mut Live, Superseded> {
        let there = match place {
            Place::OnAir => &mut self.live,
            Place::StandingBy => &mut self.standby,
        };
        there.as_mut().ok_or(Superseded)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let _ = self.with(|stream, inner, place| {
            match place {
                Place::OnAir => inner.leave_air(stream),
                Place::StandingBy => {
                    inner.standby = None;
                    stream.changed();
                }
            }
            Ok(())
        });
    }
}
