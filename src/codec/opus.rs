//! Opus in RTP (RFC 7587): one packet of the codec is one payload, and the clock is always 48 kHz.

/// Samples per second of the RTP clock, and of what Sluice encodes.
pub const CLOCK_HZ: u32 = 48_000;
/// Samples per channel in the 20 ms packets that Sluice makes.
pub const FRAME_SAMPLES: usize = 960;
/// Format parameters of a stereo track (section 6.1): without them receivers play the left channel only.
pub const STEREO_FMTP: &str = "minptime=10;useinbandfec=1;stereo=1;sprop-stereo=1";

/// How long a packet plays, in samples at 48 kHz (RFC 6716 section 3.1); `None` when it is malformed.
pub fn duration_samples(packet: &[u8]) -> Option<u32> {
    let toc = *packet.first()?;
    let frame = match toc >> 3 {
        config @ 0..12 => [480, 960, 1_920, 2_880][usize::from(config % 4)],
        config @ 12..16 => [480, 960][usize::from(config % 2)],
        config => [120, 240, 480, 960][usize::from(config % 4)],
    };
    let frames = match toc & 3 {
        0 => 1,
        1 | 2 => 2,
        _ => u32::from(*packet.get(1)? & 0x3f),
    };
    // No packet is longer than 120 ms (section 3.2.5).
    Some(frame * frames).filter(|&samples| samples > 0 && samples <= 5_760)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_follow_the_table_of_configurations() {
        let samples = |toc: u8, rest: u8| duration_samples(&[toc, rest]);
        assert_eq!(samples(31 << 3, 0), Some(960));
        assert_eq!(samples(28 << 3 | 3, 48), Some(5_760));
        assert_eq!(samples(3 << 3, 0), Some(2_880));
        assert_eq!(samples(3 << 3 | 3, 3), None, "180 ms");
        assert_eq!(samples(13 << 3 | 1, 0), Some(1_920));
        assert_eq!(duration_samples(&[]), None);
    }
}
