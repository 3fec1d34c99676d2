//! AAC's `AudioSpecificConfig` (ISO/IEC 14496-3 section 1.6.2.1), as far as Sluice needs it before a decoder does.

/// What a stream of AAC says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// 2: AAC-LC; 5 and 29: HE-AAC.
    pub object_type: u8,
    /// Of the core coder: half of what comes out of HE-AAC.
    pub sample_rate_hz: u32,
    /// Of what comes out. Of HE-AAC that does not say here that it is (implicit signalling), it is the core coder's: so are its frames.
    pub output_rate_hz: u32,
    /// That a frame becomes, at the rate of what comes out.
    pub frame_samples: u32,
    /// `channelConfiguration`: 0 when the stream itself says it.
    pub channel_configuration: u8,
}

/// The configuration makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAudioConfig {
    #[error("the AAC configuration is cut short")]
    Truncated,
    #[error("an AAC configuration of {0} bytes; at most {AUDIO_CONFIG_MAX_BYTES} are taken")]
    TooLong(usize),
    #[error("AAC sampling frequency index {0} is reserved")]
    SampleRate(u8),
}

/// The longest configuration taken, in bytes. Real ones have 2 to 7; one with a program config element some tens.
pub const AUDIO_CONFIG_MAX_BYTES: usize = 256;

/// Object types (ISO/IEC 14496-3 section 1.5.1): with spectral band replication, also with parametric stereo; of low delay.
const SBR: u8 = 5;
const PARAMETRIC_STEREO: u8 = 29;
const LOW_DELAY: u8 = 23;
const ENHANCED_LOW_DELAY: u8 = 39;

const SAMPLE_RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

impl AudioSpecificConfig {
    /// # Errors
    /// When it is cut short, too long or has a reserved sampling frequency.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadAudioConfig> {
        if bytes.len() > AUDIO_CONFIG_MAX_BYTES {
            return Err(BadAudioConfig::TooLong(bytes.len()));
        }
        // 5 + 6 bits of object type, 4 + 24 of rate, 4 of channels, rate and object type again, the length of frames: read as one
        // number, zeros where the bytes end.
        let mut word = [0u8; 16];
        let have = bytes.len().min(16);
        word[..have].copy_from_slice(&bytes[..have]);
        let word = u128::from_be_bytes(word);
        let mut at = 0;
        let mut bits = |count: u32| {
            at += count;
            if at as usize > have * 8 {
                Err(BadAudioConfig::Truncated)
            } else {
                Ok((word << (at - count) >> (128 - count)) as u32)
            }
        };
        let object_type = read_object_type(&mut bits)?;
        let sample_rate_hz = read_sample_rate(&mut bits)?;
        let channel_configuration = bits(4)? as u8;
        let (mut extension_rate_hz, mut core_type) = (sample_rate_hz, object_type);
        if matches!(object_type, SBR | PARAMETRIC_STEREO) {
            extension_rate_hz = read_sample_rate(&mut bits)?;
            core_type = read_object_type(&mut bits)?;
        }
        // `frameLengthFlag`, where a decoder's own configuration begins; what is cut off there is as usual.
        let core_samples = match (matches!(core_type, LOW_DELAY | ENHANCED_LOW_DELAY), bits(1) == Ok(1)) {
            (false, false) => 1_024,
            (false, true) => 960,
            (true, false) => 512,
            (true, true) => 480,
        };
        // The extension doubles the rate, or leaves it.
        let ratio = if extension_rate_hz == 2 * sample_rate_hz { 2 } else { 1 };
        Ok(Self {
            object_type,
            sample_rate_hz,
            output_rate_hz: ratio * sample_rate_hz,
            frame_samples: ratio * core_samples,
            channel_configuration,
        })
    }

    /// Of what comes out, as far as it is said here: two in all that is sent without.
    pub fn channels(&self) -> u8 {
        match self.channel_configuration {
            0 => 2,
            1 if self.object_type == PARAMETRIC_STEREO => 2,
            7 => 8,
            channels => channels,
        }
    }
}

type Bits<'a> = dyn FnMut(u32) -> Result<u32, BadAudioConfig> + 'a;

fn read_object_type(bits: &mut Bits<'_>) -> Result<u8, BadAudioConfig> {
    const ESCAPE: u32 = 31;
    Ok(match bits(5)? {
        ESCAPE => 32 + bits(6)? as u8,
        object_type => object_type as u8,
    })
}

fn read_sample_rate(bits: &mut Bits<'_>) -> Result<u32, BadAudioConfig> {
    let index = bits(4)? as u8;
    let sample_rate_hz = match index {
        15 => bits(24)?,
        _ => *SAMPLE_RATES_HZ.get(usize::from(index)).ok_or(BadAudioConfig::SampleRate(index))?,
    };
    if (7_000..=96_000).contains(&sample_rate_hz) { Ok(sample_rate_hz) } else { Err(BadAudioConfig::SampleRate(index)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_configurations_are_read() {
        let config = |bytes: &[u8]| AudioSpecificConfig::parse(bytes).unwrap();
        assert_eq!(
            config(&[0x12, 0x10]),
            AudioSpecificConfig {
                object_type: 2,
                sample_rate_hz: 44_100,
                output_rate_hz: 44_100,
                frame_samples: 1_024,
                channel_configuration: 2
            }
        );
        assert_eq!(config(&[0x11, 0x90, 0x56, 0xe5, 0]).sample_rate_hz, 48_000);
        assert_eq!(config(&[0x2b, 0x92, 0x08, 0]).object_type, 5);
    }

    #[test]
    fn frames_are_as_long_as_the_configuration_says() {
        for (bytes, rate_hz, samples, channels) in [
            (&[0x11, 0x90][..], 48_000, 1_024, 2),
            // `frameLengthFlag`.
            (&[0x11, 0x94], 48_000, 960, 2),
            (&[0x12, 0x0c], 44_100, 960, 1),
            // A rate that is written out, 48,000 Hz.
            (&[0x17, 0x80, 0x5d, 0xc0, 0x14], 48_000, 960, 2),
            // HE-AAC, explicit: of 24 kHz; with frames of 960; not doubled; its second version.
            (&[0x2b, 0x11, 0x88, 0x00], 48_000, 2_048, 2),
            (&[0x2b, 0x11, 0x8a, 0x00], 48_000, 1_920, 2),
            (&[0x29, 0x91, 0x88, 0x00], 48_000, 1_024, 2),
            (&[0xeb, 0x8a, 0x08, 0x00], 44_100, 2_048, 2),
            // What names its extension behind the rest: as the core coder has it.
            (&[0x13, 0x10, 0x56, 0xe5, 0x98], 24_000, 1_024, 2),
            // AAC-LD.
            (&[0xb9, 0x90], 48_000, 512, 2),
            (&[0xb9, 0x94], 48_000, 480, 2),
        ] {
            let config = AudioSpecificConfig::parse(bytes).unwrap();
            let said = (config.output_rate_hz, config.frame_samples, config.channels());
            assert_eq!(said, (rate_hz, samples, channels), "{bytes:x?}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(AudioSpecificConfig::parse(&[]), Err(BadAudioConfig::Truncated));
        assert_eq!(AudioSpecificConfig::parse(&[0x12]), Err(BadAudioConfig::Truncated));
        assert_eq!(AudioSpecificConfig::parse(&[0x2b, 0x11]), Err(BadAudioConfig::Truncated), "HE-AAC's own rate");
        assert_eq!(AudioSpecificConfig::parse(&[0x16, 0x90]), Err(BadAudioConfig::SampleRate(13)));
        assert_eq!(AudioSpecificConfig::parse(&[0x17, 0x80, 0, 0, 0x10]), Err(BadAudioConfig::SampleRate(15)));
    }
}
