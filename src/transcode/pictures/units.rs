//! What an encoder is fed: a publisher's access units, whichever way it sends them. Of one that sends RTP they are put together here. Sans-I/O.

use std::{sync::Arc, time::Instant};

use crate::{
    codec::depacketize::{DecoderSetup, Depacketizer},
    media::{AccessUnit, Codec, MediaKind},
    track::{
        AssembledFrame, Assembler, Delivery, FrameDelivery, LayerIndex, Original, OriginalFormat, Originals,
        PicturePackets, Snapshot, TrackIndex,
    },
};

/// The publisher's only layer.
const SOURCE: LayerIndex = LayerIndex(0);

/// Another publication is on, or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

/// See the module. Times of units are milliseconds of the publication's media clock.
#[derive(Debug)]
pub(super) struct Units {
    publication: u64,
    rtp: Option<RtpUnits>,
}

#[derive(Debug)]
struct RtpUnits {
    track: TrackIndex,
    epoch: u32,
    assembler: Assembler,
    depacketizer: Depacketizer,
    /// As of the last keyframe; none while that is waited for.
    setup: Option<Arc<DecoderSetup>>,
    format: Option<Arc<OriginalFormat>>,
    last_number: u64,
}

impl Units {
    pub fn new(publication: u64) -> Self {
        Self { publication, rtp: None }
    }

    /// What a delivery brings, in order; a snapshot repeats some.
    ///
    /// # Errors
    /// [`Gone`].
    pub fn take(&mut self, now: Instant, delivery: FrameDelivery) -> Result<Vec<Original>, Gone> {
        match delivery {
            FrameDelivery::Originals(Originals::Snapshot(snapshot)) if snapshot.publication != self.publication => {
                Err(Gone)
            }
            FrameDelivery::Originals(Originals::Snapshot(snapshot)) => Ok(snapshot.units.clone()),
            FrameDelivery::Originals(Originals::Units(units)) => Ok(units.to_vec()),
            FrameDelivery::Originals(Originals::Rungs(_) | Originals::RungsStopped(_)) => Ok(Vec::new()),
            FrameDelivery::Rtp(Delivery::Snapshot(snapshot)) => {
                self.apply(&snapshot)?;
                Ok(self.poll(now))
            }
            FrameDelivery::Rtp(Delivery::Packets(batches)) => {
                if let Some(rtp) = &mut self.rtp {
                    let of_source = batches.iter().filter(|batch| (batch.track, batch.layer) == (rtp.track, SOURCE));
                    of_source.flat_map(|batch| &batch.packets).for_each(|packet| rtp.assembler.push(packet.clone()));
                }
                Ok(self.poll(now))
            }
            FrameDelivery::Rtp(Delivery::Clock { .. } | Delivery::Layers { .. }) => Ok(Vec::new()),
        }
    }

    /// What was made whole, or will not be waited for any longer.
    pub fn poll(&mut self, now: Instant) -> Vec<Original> {
        let Some(rtp) = &mut self.rtp else { return Vec::new() };
        std::iter::from_fn(|| rtp.next(now)).collect()
    }

    /// The layer of which a keyframe is needed to go on.
    pub fn wants_keyframe_of(&self) -> Option<(TrackIndex, LayerIndex)> {
        let rtp = self.rtp.as_ref()?;
        (rtp.assembler.is_lost() || rtp.setup.is_none()).then_some((rtp.track, SOURCE))
    }

    fn apply(&mut self, snapshot: &Snapshot) -> Result<(), Gone> {
        if snapshot.publication != self.publication {
            return Err(Gone);
        }
        let mut tracks = (0..).map(TrackIndex).zip(&snapshot.tracks);
        let Some((index, track)) = tracks.find(|(_, track)| track.format.codec == Codec::H264) else {
            return if snapshot.tracks.is_empty() { Ok(()) } else { Err(Gone) };
        };
        if self.rtp.as_ref().is_none_or(|rtp| (rtp.track, rtp.epoch) != (index, track.epoch)) {
            let last_number = self.rtp.as_ref().map_or(0, |rtp| rtp.last_number);
            self.rtp = RtpUnits::new(index, track.epoch, last_number);
        }
        if let Some((rtp, layer)) = self.rtp.as_mut().zip(track.layers.first()) {
            layer.packets.iter().flatten().for_each(|packet| rtp.assembler.push(packet.clone()));
        }
        Ok(())
    }
}

impl RtpUnits {
    fn new(track: TrackIndex, epoch: u32, last_number: u64) -> Option<Self> {
        let assembler = Assembler::new(MediaKind::Video);
        let depacketizer = Depacketizer::new(Codec::H264)?;
        Some(Self { track, epoch, assembler, depacketizer, setup: None, format: None, last_number })
    }

    /// The next picture that can be decoded.
    fn next(&mut self, now: Instant) -> Option<Original> {
        loop {
            let AssembledFrame { time_ticks, arrival, payloads, after_loss } = self.assembler.poll(now)?;
            if after_loss {
                self.setup = None;
            }
            let picture = self.depacketizer.picture(&payloads).ok();
            let setup = picture.as_ref().and_then(|picture| picture.setup.clone()).or_else(|| self.setup.clone());
            let Some((picture, setup)) = picture.zip(setup) else {
                // What comes after it refers to it.
                self.setup = None;
                self.assembler.restart();
                continue;
            };
            let format = match self.format.take().filter(|_| self.setup.as_ref() == Some(&setup)) {
                Some(format) => format,
                None => Arc::new(OriginalFormat::Avc(setup.configuration.clone())),
            };
            (self.setup, self.format) = (Some(setup), Some(format.clone()));
            self.last_number += 1;
            let unit = AccessUnit {
                decode_time_ticks: time_ticks / PicturePackets::TICKS_PER_MS,
                composition_offset_ticks: 0,
                keyframe: picture.keyframe,
                data: picture.data,
            };
            return Some(Original { number: self.last_number, format, arrival, unit });
        }
    }
}
