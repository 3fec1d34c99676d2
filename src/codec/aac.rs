//! AAC's `AudioSpecificConfig` (ISO/IEC 14496-3 section 1.6.2.1), as far as Sluice needs it before a decoder does.

/// What a stream of AAC says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudioSpecificConfig {
    /// 2: AAC-LC; 5 and 29: HE-AAC.
    pub object_type: u8,
    /// Of the core coder: half of what comes out of HE-AAC.
    pub sample_rate_hz: u32,
    /// `channelConfiguration`: 0 when the stream itself says it.
    pub channel_configuration: u8,
}

/// The configuration makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAudioConfig {
    #[error("the AAC configuration is cut short")]
    Truncated,
    #[error("AAC sampling frequency index {0} is reserved")]
    SampleRate(u8),
}

/// The longest configuration taken, in bytes. Real ones have 2 to 7; one with a program config element some tens.
pub const AUDIO_CONFIG_MAX_BYTES: usize = 256;

const SAMPLE_RATES_HZ: [u32; 13] =
    [96_000, 88_200, 64_000, 48_000, 44_100, 32_000, 24_000, 22_050, 16_000, 12_000, 11_025, 8_000, 7_350];

impl AudioSpecificConfig {
    /// # Errors
    /// When it is cut short or has a reserved sampling frequency.
    pub fn parse(bytes: &[u8]) -> Result<Self, BadAudioConfig> {
        // 5 + 6 bits of object type, 4 + 24 of rate, 4 of channels: read as one number, zeros where the bytes end.
        let mut word = [0u8; 8];
        let have = bytes.len().min(8);
        word[..have].copy_from_slice(&bytes[..have]);
        let word = u64::from_be_bytes(word);
        let mut at = 0;
        let mut bits = |count: u32| {
            at += count;
            if at as usize > have * 8 {
                Err(BadAudioConfig::Truncated)
            } else {
                Ok(word << (at - count) >> (64 - count))
            }
        };
        let mut object_type = bits(5)? as u8;
        if object_type == 31 {
            object_type = 32 + bits(6)? as u8;
        }
        let index = bits(4)? as u8;
        let sample_rate_hz = match index {
            15 => bits(24)? as u32,
            _ => *SAMPLE_RATES_HZ.get(usize::from(index)).ok_or(BadAudioConfig::SampleRate(index))?,
        };
        if !(7_000..=96_000).contains(&sample_rate_hz) {
            return Err(BadAudioConfig::SampleRate(index));
        }
        Ok(Self { object_type, sample_rate_hz, channel_configuration: bits(4)? as u8 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn common_configurations_are_read() {
        let config = |bytes: &[u8]| AudioSpecificConfig::parse(bytes).unwrap();
        assert_eq!(
            config(&[0x12, 0x10]),
            AudioSpecificConfig { object_type: 2, sample_rate_hz: 44_100, channel_configuration: 2 }
        );
        assert_eq!(config(&[0x11, 0x90, 0x56, 0xe5, 0]).sample_rate_hz, 48_000);
        assert_eq!(config(&[0x2b, 0x92, 0x08, 0]).object_type, 5);
    }

    #[test]
    fn nonsense_is_refused() {
        assert_eq!(AudioSpecificConfig::parse(&[]), Err(BadAudioConfig::Truncated));
        assert_eq!(AudioSpecificConfig::parse(&[0x12]), Err(BadAudioConfig::Truncated));
        assert_eq!(AudioSpecificConfig::parse(&[0x16, 0x90]), Err(BadAudioConfig::SampleRate(13)));
        assert_eq!(AudioSpecificConfig::parse(&[0x17, 0x80, 0, 0, 0x10]), Err(BadAudioConfig::SampleRate(15)));
    }
}
