//! AAC frames with times go in, Opus packets of 20 ms with times come out. Sans-I/O; a thread drives it.
//!
//! A packet's time is exact: it counts samples from the publisher's times, less what decoder, resampler and encoder delay
//! the sound by, so that a receiver plays each sample at the time that the publisher gave it. How the count follows the
//! times is in [`SampleCount`].
//!
//! The delay added is that of filling a packet (below 20 ms), of the resampler (below 2 ms) and of the encoder's look-ahead
//! (2.5 ms).

use bytes::Bytes;
use opus::{Application, Bitrate, Channels, Encoder, Signal};

use super::{
    aac_decoder::{AacDecoder, DecodedFrame},
    resample::{CHANNELS, ToFortyEight, stretch},
    sample_count::{Place, SampleCount},
};
use crate::codec::{
    aac::{AudioSpecificConfig, BadAudioConfig},
    opus::{CLOCK_HZ, FRAME_SAMPLES},
};

/// Bits per second of stereo Opus: transparent for music, as browsers' publishers send it at best.
const OPUS_BITRATE: i32 = 128_000;
/// Of 0 to 10. At this bit rate the steps above 5 are not heard, and cost as much again as those below.
const OPUS_COMPLEXITY: i32 = 5;
/// An Opus frame's size limit (RFC 6716 section 3.2.1), and its table of contents byte.
const OPUS_PACKET_MAX_BYTES: usize = 1_275 + 1;
/// Samples of the longest frame of any AAC: 2,048, or 4,096 of extended HE-AAC; two channels come out.
const PCM_MAX_SAMPLES: usize = 4_096 * CHANNELS;
/// Frames in a row that cannot be decoded before the decoder is made anew.
const BAD_FRAMES_MAX: u32 = 10;
const TICKS_PER_MS: i64 = CLOCK_HZ as i64 / 1_000;

/// Why sound cannot be turned into Opus.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TranscodeError {
    #[error(transparent)]
    Config(#[from] BadAudioConfig),
    #[error("the AAC decoder refuses object type {object_type}, {sample_rate_hz} Hz: {cause}")]
    Decoder { object_type: u8, sample_rate_hz: u32, cause: String },
    #[error("the resampler fails: {0}")]
    Resampler(String),
    #[error("the Opus encoder fails: {0}")]
    Encoder(String),
}

/// One packet of 20 ms.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpusPacket {
    /// In ticks of 48 kHz, on the media clock that the frames' times are on.
    pub time_ticks: i64,
    /// There is a gap before it.
    pub after_gap: bool,
    pub payload: Bytes,
}

/// See the module.
pub struct AacToOpus {
    config: Vec<u8>,
    parsed: AudioSpecificConfig,
    decoder: AacDecoder,
    encoder: Encoder,
    encoder_delay_ticks: i64,
    /// Made when the first frame says what comes out of the decoder.
    output: Option<Output>,
    /// Samples at 48 kHz, interleaved, that do not fill a packet yet.
    pending: Vec<f32>,
    /// Where the last of them ends.
    count: SampleCount,
    after_gap: bool,
    bad_frames: u32,
    pcm: Vec<i16>,
    block: Vec<f32>,
}

struct Output {
    rate_hz: u32,
    frame_samples: usize,
    /// The decoder's own delay, at its rate.
    delay_samples: u32,
    resampler: ToFortyEight,
}

impl AacToOpus {
    /// # Errors
    /// When the configuration is none, or none that the decoder takes.
    pub fn new(config: &[u8]) -> Result<Self, TranscodeError> {
        let parsed = AudioSpecificConfig::parse(config)?;
        let decoder = open_decoder(config, parsed)?;
        let failed = |error: opus::Error| TranscodeError::Encoder(error.to_string());
        let mut encoder = Encoder::new(CLOCK_HZ, Channels::Stereo, Application::LowDelay).map_err(failed)?;
        encoder.set_bitrate(Bitrate::Bits(OPUS_BITRATE)).map_err(failed)?;
        encoder.set_complexity(OPUS_COMPLEXITY).map_err(failed)?;
        encoder.set_signal(Signal::Music).map_err(failed)?;
        let encoder_delay_ticks = i64::from(encoder.get_lookahead().map_err(failed)?);
        Ok(Self {
            config: config.to_vec(),
            parsed,
            decoder,
            encoder,
            encoder_delay_ticks,
            output: None,
            pending: Vec::with_capacity(PCM_MAX_SAMPLES * 2),
            count: SampleCount::default(),
            after_gap: true,
            bad_frames: 0,
            pcm: vec![0; PCM_MAX_SAMPLES],
            block: Vec::with_capacity(PCM_MAX_SAMPLES),
        })
    }

    /// Takes one AAC frame with its time in milliseconds of the media clock; whole packets are handed to `emit`.
    ///
    /// A frame that cannot be decoded becomes silence.
    ///
    /// # Errors
    /// When the decoder cannot be made anew, or resampler or encoder fail: nothing comes out any more.
    pub fn push(&mut self, frame: &[u8], time_ms: i64, emit: impl FnMut(OpusPacket)) -> Result<(), TranscodeError> {
        self.decode(frame)?;
        if self.block.is_empty() {
            return Ok(());
        }
        let Some(output) = &mut self.output else { return Ok(()) };
        let decoder_delay_ticks = i64::from(output.delay_samples) * i64::from(CLOCK_HZ) / i64::from(output.rate_hz);
        let first_ticks = time_ms * TICKS_PER_MS - decoder_delay_ticks - output.resampler.delay_samples();
        let before = self.pending.len();
        output.resampler.process(&self.block, &mut self.pending)?;
        self.place(first_ticks, before);
        self.encode(emit)
    }

    /// Decodes into `block`: one frame of stereo at the decoder's rate, or nothing.
    fn decode(&mut self, frame: &[u8]) -> Result<(), TranscodeError> {
        self.block.clear();
        let Ok(decoded) = self.decoder.decode(frame, &mut self.pcm) else {
            self.bad_frames += 1;
            if self.bad_frames >= BAD_FRAMES_MAX {
                self.bad_frames = 0;
                self.decoder = open_decoder(&self.config, self.parsed)?;
            }
            let silence = self.output.as_ref().map_or(0, |output| output.frame_samples * CHANNELS);
            self.block.resize(silence, 0.0);
            return Ok(());
        };
        self.bad_frames = 0;
        let DecodedFrame { rate_hz, samples: frame_samples, channels, delay_samples } = decoded;
        if rate_hz == 0 || frame_samples == 0 || !(1..=CHANNELS).contains(&channels) {
            return Ok(());
        }
        match &mut self.output {
            Some(known) if known.rate_hz == rate_hz && known.frame_samples == frame_samples => {
                known.delay_samples = delay_samples;
            }
            output => {
                let resampler = ToFortyEight::new(rate_hz, frame_samples)?;
                *output = Some(Output { rate_hz, frame_samples, delay_samples, resampler });
            }
        }
        let scale = |sample: i16| f32::from(sample) / 32_768.0;
        let pcm = self.pcm.get(..frame_samples * channels).unwrap_or_default();
        if channels == CHANNELS {
            self.block.extend(pcm.iter().map(|&sample| scale(sample)));
        } else {
            self.block.extend(pcm.iter().flat_map(|&sample| [scale(sample); CHANNELS]));
        }
        Ok(())
    }

    /// Makes the new samples, behind the `before` values that were pending, fit where they belong.
    fn place(&mut self, first_ticks: i64, before: usize) {
        let samples = (self.pending.len() - before) / CHANNELS;
        match self.count.place(first_ticks, samples) {
            Place::Joined => {}
            Place::Stretched(by) => stretch(&mut self.pending, before, by),
            Place::AfterSilence(samples) => {
                let silence = std::iter::repeat_n(0.0, samples as usize * CHANNELS);
                self.pending.splice(before..before, silence);
            }
            Place::AfterGap => {
                self.pending.drain(..before);
                self.after_gap = true;
            }
            Place::LeftOut => self.pending.truncate(before),
        }
    }

    fn encode(&mut self, mut emit: impl FnMut(OpusPacket)) -> Result<(), TranscodeError> {
        let mut packet = [0; OPUS_PACKET_MAX_BYTES];
        let values = FRAME_SAMPLES * CHANNELS;
        let Some(end_ticks) = self.count.end_ticks() else { return Ok(()) };
        let begin_ticks = end_ticks - (self.pending.len() / CHANNELS) as i64 - self.encoder_delay_ticks;
        let mut used = 0;
        while let Some(samples) = self.pending.get(used..used + values) {
            let bytes = self
                .encoder
                .encode_float(samples, &mut packet)
                .map_err(|error| TranscodeError::Encoder(error.to_string()))?;
            emit(OpusPacket {
                time_ticks: begin_ticks + (used / CHANNELS) as i64,
                after_gap: std::mem::take(&mut self.after_gap),
                payload: Bytes::copy_from_slice(&packet[..bytes]),
            });
            used += values;
        }
        self.pending.drain(..used);
        Ok(())
    }
}

fn open_decoder(config: &[u8], parsed: AudioSpecificConfig) -> Result<AacDecoder, TranscodeError> {
    AacDecoder::open(config).map_err(|error| TranscodeError::Decoder {
        object_type: parsed.object_type,
        sample_rate_hz: parsed.sample_rate_hz,
        cause: error.to_string(),
    })
}

#[cfg(test)]
#[path = "aac_to_opus_tests.rs"]
mod tests;
