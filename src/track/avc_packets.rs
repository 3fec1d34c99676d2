//! H.264 access units, as RTMP and encoders have them, become the packets of a layer.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use super::{PicturePackets, TrackPacket};
use crate::{
    codec::h264::{
        BadDecoderConfiguration, DecoderConfiguration, ParameterSets,
        nal::{BadLengths, kind, split_lengths, unit_type},
        parameter_sets::BadParameterSet,
    },
    codec::packetize::packetize_avc,
    media::{CaptureTime, Codec, ExtendedSeq, TrackFormat},
};

/// Parameter sets a stream may have at a time, of both kinds. Encoders use two; a few more for several sizes.
const PARAMETER_SETS_MAX: usize = 16;
/// Of them together, since all of them go before every keyframe. One has some tens; with scaling lists some hundreds.
const PARAMETER_SETS_MAX_BYTES: usize = 16 * 1024;

/// Why access units cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadAvc {
    #[error(transparent)]
    Configuration(#[from] BadDecoderConfiguration),
    #[error(transparent)]
    ParameterSet(#[from] BadParameterSet),
    #[error("more than {0} parameter sets")]
    TooManyParameterSets(usize),
    #[error("parameter sets of more than {0} bytes together")]
    ParameterSetsTooLong(usize),
    #[error(transparent)]
    Nal(#[from] BadLengths),
}

/// See the module.
#[derive(Debug)]
pub struct AvcPackets {
    length_bytes: usize,
    sets: ParameterSets,
    packets: PicturePackets,
}

impl AvcPackets {
    /// Of an `AVCDecoderConfigurationRecord`; the first packet has this number.
    ///
    /// # Errors
    /// When the record makes no sense.
    pub fn new(record: &Bytes, first_seq: ExtendedSeq) -> Result<Self, BadAvc> {
        let mut packets =
            Self { length_bytes: 4, sets: ParameterSets::default(), packets: PicturePackets::new(first_seq) };
        packets.configure(record)?;
        Ok(packets)
    }

    /// A decoder configuration came, the first or another.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn configure(&mut self, record: &Bytes) -> Result<(), BadAvc> {
        let configuration = DecoderConfiguration::parse(record)?;
        self.length_bytes = configuration.length_bytes;
        let known = std::mem::take(&mut self.sets);
        for nal in &configuration.parameter_sets {
            self.take_set(nal)?;
        }
        if !self.sets.is_complete() {
            // Parameter sets that come with the pictures only; those known before stay in use.
            self.sets = known;
        }
        Ok(())
    }

    /// The parameter sets in use.
    pub fn sets(&self) -> &ParameterSets {
        &self.sets
    }

    /// The track's format, once the parameter sets are known.
    pub fn format(&self) -> Option<TrackFormat> {
        let sps = self.sets.first_sps()?;
        Some(TrackFormat { codec: Codec::H264, fmtp: sps.fmtp(), channels: 1 })
    }

    fn take_set(&mut self, nal: &Bytes) -> Result<(), BadAvc> {
        if !(matches!(unit_type(nal), kind::SPS | kind::PPS) && self.sets.insert(nal)?) {
            return Ok(());
        }
        if self.sets.nals().count() > PARAMETER_SETS_MAX {
            return Err(BadAvc::TooManyParameterSets(PARAMETER_SETS_MAX));
        }
        if self.sets.nals().map(Bytes::len).sum::<usize>() > PARAMETER_SETS_MAX_BYTES {
            return Err(BadAvc::ParameterSetsTooLong(PARAMETER_SETS_MAX_BYTES));
        }
        Ok(())
    }

    /// Takes an access unit apart; parameter sets in it are in use from here on.
    ///
    /// # Errors
    /// When it cannot be taken apart, or brings parameter sets that make no sense.
    pub fn split(&mut self, data: &Bytes) -> Result<Vec<Bytes>, BadAvc> {
        let nals = split_lengths(data, self.length_bytes)?;
        for nal in &nals {
            self.take_set(nal)?;
        }
        Ok(nals)
    }

    /// The packets of one picture, which is shown at this time, in ticks of 90 kHz. `capture` tells when it was captured.
    pub fn packets(
        &mut self,
        now: Instant,
        shown_ticks: u64,
        nals: Vec<Bytes>,
        capture: impl FnOnce() -> Option<CaptureTime>,
    ) -> Vec<Arc<TrackPacket>> {
        let keyframe = has_idr(&nals);
        // Delimiters and filler say nothing, RTP has the marker. Supplemental information is for buffers that WebRTC
        // does not model, and x264's version string is the longest of it. What stays is slices, and parameter sets:
        // before every keyframe all of them, between keyframes those that the encoder sent.
        let kept = nals.into_iter().filter(|nal| match unit_type(nal) {
            kind::SLICE..=kind::IDR_SLICE => true,
            kind::SPS | kind::PPS => !keyframe,
            _ => false,
        });
        let nals: Vec<_> = if keyframe { self.sets.nals().cloned().chain(kept).collect() } else { kept.collect() };
        self.packets.packets(now, shown_ticks, keyframe, packetize_avc(&nals), capture)
    }
}

/// These NAL units hold an IDR picture, whatever their message says of it.
pub fn has_idr(nals: &[Bytes]) -> bool {
    nals.iter().any(|nal| unit_type(nal) == kind::IDR_SLICE)
}
