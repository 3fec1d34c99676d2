//! Opus packets with times go in, AAC-LC frames with times come out, for players that take no Opus. Sans-I/O.
//!
//! Sound counts samples from its first packet on and never stops: what is missing is concealed, or, when it is long, silence. A frame's
//! time is exact, less what encoder and decoder delay the sound by, so that what a player decodes of it is heard at the time that the
//! publisher gave it; there is no priming left to declare.

use bytes::Bytes;
use fdk_aac::enc::{AudioObjectType, BitRate, ChannelMode, Encoder, EncoderParams, Transport};
use opus::{Channels, Decoder};

use crate::codec::opus::CLOCK_HZ;

/// Bits per second of stereo AAC-LC; what comes in are 32 to 128 kb/s of Opus, and nothing is heard to be missing.
const AAC_BITRATE: u32 = 128_000;
/// Samples of an AAC frame.
pub const AAC_FRAME_SAMPLES: usize = 1_024;
const CHANNELS: usize = 2;
/// The longest Opus packet, 120 ms (RFC 6716 section 3.2.5).
const PACKET_SAMPLES_MAX: usize = 5_760;
/// A gap up to so long is concealed by the decoder, 60 ms; in a longer one that would only hum.
const CONCEAL_SAMPLES_MAX: i64 = 2_880;
/// Gaps are made good up to so long, 10 s; beyond it times have no relation.
const GAP_SAMPLES_MAX: i64 = 10 * CLOCK_HZ as i64;
/// AAC's own limit: 6,144 bits a channel.
const AAC_FRAME_BYTES_MAX: usize = 768 * CHANNELS;

/// Why sound cannot be turned into AAC.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    #[error("the Opus decoder fails: {0}")]
    Decoder(String),
    #[error("the AAC encoder fails: {0}")]
    Encoder(String),
}

/// One frame of 1,024 samples.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AacFrame {
    /// In ticks of 48 kHz, on the clock that the packets' times are on.
    pub time_ticks: i64,
    pub data: Bytes,
}

/// See the module.
pub struct OpusToAac {
    decoder: Decoder,
    encoder: Encoder,
    configuration: Bytes,
    delay_samples: i64,
    /// Samples that do not fill a frame yet, interleaved.
    pending: Vec<i16>,
    /// The time of the first pending sample, once known.
    head_ticks: Option<i64>,
    pcm: Vec<i16>,
}

impl std::fmt::Debug for OpusToAac {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpusToAac").field("head_ticks", &self.head_ticks).finish_non_exhaustive()
    }
}

impl OpusToAac {
    /// # Errors
    /// When the libraries do not give a decoder or an encoder.
    pub fn new() -> Result<Self, EncodeError> {
        let decoder = Decoder::new(CLOCK_HZ, Channels::Stereo).map_err(|e| EncodeError::Decoder(e.to_string()))?;
        let failed = |error: fdk_aac::enc::EncoderError| EncodeError::Encoder(error.to_string());
        let encoder = Encoder::new(EncoderParams {
            bit_rate: BitRate::Cbr(AAC_BITRATE),
            sample_rate: CLOCK_HZ,
            transport: Transport::Raw,
            channels: ChannelMode::Stereo,
            audio_object_type: AudioObjectType::Mpeg4LowComplexity,
        })
        .map_err(failed)?;
        let info = encoder.info().map_err(failed)?;
        let configuration = info.confBuf.get(..info.confSize as usize).unwrap_or_default();
        Ok(Self {
            decoder,
            configuration: Bytes::copy_from_slice(configuration),
            delay_samples: i64::from(info.nDelay),
            encoder,
            pending: Vec::new(),
            head_ticks: None,
            pcm: vec![0; PACKET_SAMPLES_MAX * CHANNELS],
        })
    }

    /// The `AudioSpecificConfig` of what comes out.
    pub fn configuration(&self) -> &Bytes {
        &self.configuration
    }

    /// Where the sound that came ends.
    pub fn end_ticks(&self) -> Option<i64> {
        Some(self.head_ticks? + (self.pending.len() / CHANNELS) as i64)
    }

    /// Takes one packet with its time; whole frames are handed to `emit`. Sound for a time that is past is left out.
    ///
    /// # Errors
    /// When the encoder fails: nothing comes out any more.
    pub fn push(&mut self, packet: &[u8], time_ticks: i64, mut emit: impl FnMut(AacFrame)) -> Result<(), EncodeError> {
        if let Some(end) = self.end_ticks() {
            let gap = time_ticks - end;
            if !(-GAP_SAMPLES_MAX..=GAP_SAMPLES_MAX).contains(&gap) {
                self.restart();
            } else {
                self.fill(gap, packet.is_empty(), &mut emit)?;
            }
        }
        let end = *self.head_ticks.get_or_insert(time_ticks) + (self.pending.len() / CHANNELS) as i64;
        let Ok(samples) = self.decoder.decode(packet, &mut self.pcm, false) else {
            // Damaged: the next one's gap is made good.
            return Ok(());
        };
        let late = usize::try_from(end - time_ticks).unwrap_or(0).min(samples);
        self.pending.extend_from_slice(self.pcm.get(late * CHANNELS..samples * CHANNELS).unwrap_or_default());
        self.encode(emit)
    }

    /// No packet came up to a time: the sound goes on, silent.
    ///
    /// # Errors
    /// When the encoder fails: nothing comes out any more.
    pub fn silence_until(&mut self, time_ticks: i64, mut emit: impl FnMut(AacFrame)) -> Result<(), EncodeError> {
        let gap = self.end_ticks().map_or(0, |end| time_ticks - end).min(GAP_SAMPLES_MAX);
        self.fill(gap, true, &mut emit)
    }

    /// Times have no relation to those before.
    pub fn restart(&mut self) {
        self.head_ticks = None;
        self.pending.clear();
        let _ = self.decoder.reset_state();
    }

    /// Makes a gap of so many samples good.
    fn fill(&mut self, gap: i64, silent: bool, emit: &mut impl FnMut(AacFrame)) -> Result<(), EncodeError> {
        // The decoder conceals in steps of 2.5 ms.
        const STEP: i64 = CLOCK_HZ as i64 / 400;
        let mut left = gap;
        if !silent && (STEP..=CONCEAL_SAMPLES_MAX).contains(&gap) {
            let values = (gap / STEP * STEP) as usize * CHANNELS;
            let concealed = self.pcm.get_mut(..values).map(|pcm| self.decoder.decode(&[], pcm, false));
            if let Some(Ok(samples)) = concealed {
                self.pending.extend_from_slice(self.pcm.get(..samples * CHANNELS).unwrap_or_default());
                left -= samples as i64;
            }
        }
        let silence = usize::try_from(left).unwrap_or(0);
        self.pending.resize(self.pending.len() + silence * CHANNELS, 0);
        self.encode(emit)
    }

    fn encode(&mut self, mut emit: impl FnMut(AacFrame)) -> Result<(), EncodeError> {
        const VALUES: usize = AAC_FRAME_SAMPLES * CHANNELS;
        let mut out = [0; AAC_FRAME_BYTES_MAX];
        let mut used = 0;
        while let (Some(head), Some(samples)) = (self.head_ticks, self.pending.get(used..used + VALUES)) {
            let made =
                self.encoder.encode(samples, &mut out).map_err(|error| EncodeError::Encoder(error.to_string()))?;
            // Nothing comes out of it while it fills.
            if made.output_size > 0 {
                let data = Bytes::copy_from_slice(out.get(..made.output_size).unwrap_or_default());
                emit(AacFrame { time_ticks: head - self.delay_samples, data });
            }
            self.head_ticks = Some(head + AAC_FRAME_SAMPLES as i64);
            used += VALUES;
        }
        self.pending.drain(..used);
        Ok(())
    }
}

#[cfg(test)]
#[path = "opus_to_aac_tests.rs"]
mod tests;
