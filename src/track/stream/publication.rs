//! A publisher's side of a stream.

use std::{sync::Arc, time::Instant};

use super::{Batch, Delivery, Inner, Layer, LayerIndex, Notice, Stream, Superseded, TRACKS_MAX, Track, TrackIndex};
use crate::{
    codec::picture_size,
    media::{MediaKind, TrackFormat},
    track::ClockReference,
};

/// The right to publish on a stream, held by an ingest session; dropping it takes the stream off.
pub struct Publication {
    pub(super) stream: Arc<Stream>,
    pub(super) publication: u64,
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
        self.with_live(|stream, inner| {
            let live = inner.live.as_mut().ok_or(Superseded)?;
            assert!(live.tracks.len() < TRACKS_MAX, "one video track and one audio track");
            let layers = vec![Layer::new(format.codec)];
            live.tracks.push(Track { epoch: 0, format, clock: None, layers });
            let index = TrackIndex((live.tracks.len() - 1) as u8);
            inner.announce(stream);
            Ok(index)
        })
    }

    /// The track's format changed mid-stream (another size, profile or codec). Its cache starts anew; numbering goes on.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn set_format(&mut self, track: TrackIndex, format: TrackFormat) -> Result<(), Superseded> {
        self.with_live(|stream, inner| {
            let live = inner.live.as_mut().ok_or(Superseded)?;
            let track = &mut live.tracks[usize::from(track.0)];
            if track.format == format {
                return Ok(());
            }
            track.layers = vec![Layer::new(format.codec)];
            track.format = format;
            track.epoch += 1;
            inner.announce(stream);
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
        self.with_live(|stream, inner| {
            let live = inner.live.as_mut().ok_or(Superseded)?;
            let mut any_keyframe = false;
            for Batch { track, layer, packets } in &batches {
                let of = &mut live.tracks[usize::from(track.0)];
                let kept = &mut of.layers[usize::from(layer.0)];
                let mut keyframe = false;
                for packet in packets {
                    kept.packets += 1;
                    kept.bytes += packet.payload.len() as u64;
                    if packet.keyframe_start {
                        keyframe = true;
                        kept.keyframes += 1;
                        kept.size = picture_size(of.format.codec, &packet.payload).or(kept.size);
                    }
                    kept.ring.insert(packet.clone());
                }
                if keyframe {
                    kept.gate.keyframe_arrived();
                } else if kept.gate.poll(now) {
                    live.control.request_keyframe(*track, *layer);
                }
                any_keyframe |= keyframe;
            }
            let pictures = live.tracks.iter().position(|track| track.format.codec.kind() == MediaKind::Video);
            // Sound alone can be gone on with anywhere; a picture at a keyframe only.
            let resume = any_keyframe || pictures.is_none();
            let all_kept_up = inner.deliver(stream, &Delivery::Packets(batches.into()), resume);
            if let Some(pictures) = pictures.filter(|_| !all_kept_up) {
                inner.request_keyframe(now, TrackIndex(pictures as u8), LayerIndex(0));
            }
            Ok(())
        })
    }

    /// The track's clock was measured: by a sender report, or by the first packet.
    ///
    /// # Errors
    /// [`Superseded`] when another publisher has the stream.
    pub fn set_clock(&mut self, track: TrackIndex, reference: ClockReference) -> Result<(), Superseded> {
        self.with_live(|stream, inner| {
            let live = inner.live.as_mut().ok_or(Superseded)?;
            live.tracks[usize::from(track.0)].clock = Some(reference);
            inner.deliver(stream, &Delivery::Clock { track, reference }, false);
            Ok(())
        })
    }

    /// Tells the operator something about this publication, once per code.
    pub fn notice(&mut self, notice: Notice) {
        self.stream.notice(self.publication, notice);
    }

    fn with_live<T>(
        &self,
        act: impl FnOnce(&Arc<Stream>, &mut Inner) -> Result<T, Superseded>,
    ) -> Result<T, Superseded> {
        let mut inner = self.stream.inner.lock();
        if inner.publication != self.publication {
            return Err(Superseded);
        }
        act(&self.stream, &mut inner)
    }
}

impl Drop for Publication {
    fn drop(&mut self) {
        let _ = self.with_live(|stream, inner| {
            inner.live = None;
            inner.announce(stream);
            Ok(())
        });
    }
}
