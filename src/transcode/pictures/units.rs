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
            FrameDelivery::Originals(Originals::Layers(_) | Originals::LayersStopped(_)) => Ok(Vec::new()),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::{
        super::flv::{FlvReader, Tag},
        *,
    };
    use crate::{
        codec::h264::nal,
        media::{ExtendedSeq, TrackFormat, testing::epoch},
        track::{AvcPackets, Batch, LayerSnapshot, LayerState, TrackPacket, TrackSnapshot},
    };

    const VIDEO: TrackIndex = TrackIndex(1);

    /// Each picture's packets, and its bytes: 30 a second, a keyframe a second, from 60 s on the publisher's clock on.
    fn pictures() -> Vec<(Vec<Arc<TrackPacket>>, Bytes)> {
        let mut reader = FlvReader::default();
        reader.buffer.extend_from_slice(IN_ORDER);
        let tags: Vec<_> = std::iter::from_fn(|| reader.read().unwrap()).collect();
        let Tag::Configuration(record) = &tags[0] else { panic!("a configuration comes first") };
        let mut packets = AvcPackets::new(record, ExtendedSeq(1_000)).unwrap();
        let of_tag = |tag: &Tag| {
            let Tag::Picture { time_ms, data, .. } = tag else { panic!("one configuration") };
            let nals = packets.split(data).unwrap();
            let ticks = (60_000 + u64::from(*time_ms)) * PicturePackets::TICKS_PER_MS;
            (packets.packets(epoch() + Duration::from_millis((*time_ms).into()), ticks, nals, || None), data.clone())
        };
        tags[1..].iter().map(of_tag).collect()
    }

    const IN_ORDER: &[u8] = include_bytes!("../../../tests/fixtures/flv/in-order.flv");

    fn snapshot(publication: u64, packets: Vec<Arc<TrackPacket>>) -> FrameDelivery {
        let track = |codec, packets| {
            let format = TrackFormat { codec, fmtp: String::new(), channels: 1 };
            let layer = LayerSnapshot { state: LayerState::only(), clock: None, packets: Some(packets) };
            TrackSnapshot { epoch: 0, format, layers: vec![layer] }
        };
        let tracks = vec![track(Codec::Opus, Vec::new()), track(Codec::H264, packets)];
        FrameDelivery::Rtp(Delivery::Snapshot(Arc::new(Snapshot { publication, sound_lags: false, tracks })))
    }

    fn batch(layer: u8, packets: Vec<Arc<TrackPacket>>) -> FrameDelivery {
        let batch = Batch { track: VIDEO, layer: LayerIndex(layer), packets };
        FrameDelivery::Rtp(Delivery::Packets(Arc::new([batch])))
    }

    #[test]
    fn packets_become_the_access_units_that_they_were_made_of() {
        let pictures = pictures();
        let mut units = Units::new(7);
        let kept = pictures[..10].iter().flat_map(|(packets, _)| packets.clone()).collect();
        let mut all = units.take(epoch(), snapshot(7, kept)).unwrap();
        assert_eq!(all.len(), 10);
        assert_eq!(units.wants_keyframe_of(), None);
        for (packets, _) in &pictures[10..] {
            all.extend(units.take(epoch(), batch(0, packets.clone())).unwrap());
            // What is made of it here is not for who makes it.
            assert!(units.take(epoch(), batch(1, packets.clone())).unwrap().is_empty());
        }
        assert_eq!(all.len(), pictures.len());
        for (at, (unit, (_, data))) in all.iter().zip(&pictures).enumerate() {
            let slices = |data: &Bytes| {
                let nals = nal::split_lengths(data, 4).unwrap();
                nals.into_iter().filter(|nal| (1..=5).contains(&nal::unit_type(nal))).collect::<Vec<_>>()
            };
            assert!(slices(&unit.unit.data) == slices(data), "picture {at}");
            assert_eq!((unit.number, unit.unit.keyframe), (at as u64 + 1, at % 30 == 0));
            assert!(matches!(&*unit.format, OriginalFormat::Avc(_)) && Arc::ptr_eq(&unit.format, &all[0].format));
        }
        assert_eq!(all[30].unit.decode_time_ticks - all[0].unit.decode_time_ticks, 1_000);
    }

    #[test]
    fn after_a_loss_a_keyframe_is_asked_for_and_begun_with() {
        let pictures = pictures();
        let mut units = Units::new(7);
        units.take(epoch(), snapshot(7, pictures[0].0.clone())).unwrap();
        assert!(units.take(epoch(), batch(0, pictures[2].0.clone())).unwrap().is_empty());
        let later = epoch() + Duration::from_secs(1);
        assert!(units.poll(later).is_empty());
        assert_eq!(units.wants_keyframe_of(), Some((VIDEO, SOURCE)));
        assert!(units.take(later, batch(0, pictures[3].0.clone())).unwrap().is_empty());
        let again = units.take(later, batch(0, pictures[30].0.clone())).unwrap();
        assert_eq!(again.iter().map(|unit| (unit.number, unit.unit.keyframe)).collect::<Vec<_>>(), [(2, true)]);
        assert_eq!(units.wants_keyframe_of(), None);
    }

    #[test]
    fn another_publication_is_not_gone_on_with() {
        let mut units = Units::new(7);
        assert_eq!(units.take(epoch(), snapshot(8, Vec::new())).err(), Some(Gone));
        let nobody = Snapshot { publication: 7, sound_lags: false, tracks: Vec::new() };
        let nobody = FrameDelivery::Rtp(Delivery::Snapshot(Arc::new(nobody)));
        assert!(units.take(epoch(), nobody).unwrap().is_empty(), "nothing has come yet");
    }
}
