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

/// Where packets lie on the codec's clock that come with times rounded to milliseconds, or jittered: they are counted, and set right
/// where the times have moved away for good. Sans-I/O.
#[derive(Debug, Default)]
pub struct PacketTimes {
    /// Where the packets so far end, once there are any.
    end_ticks: Option<i64>,
    /// Of given against counted times, on average.
    ahead_ticks: i64,
}

/// A packet's place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlacedPacket {
    pub time_ticks: i64,
    /// It does not follow the one before.
    pub after_gap: bool,
}

impl PacketTimes {
    /// A difference that is followed at once, 60 ms; and when it is there on average, 20 ms: less cannot be heard against a picture.
    const STEP_AT_ONCE_TICKS: i64 = 60 * CLOCK_HZ as i64 / 1_000;
    const STEP_TICKS: i64 = 20 * CLOCK_HZ as i64 / 1_000;
    /// Weight of a new difference in the average.
    const SHARE: i64 = 16;

    /// A packet that is to begin at the given time. `None` when it is malformed, or for a time that has been played.
    pub fn place(&mut self, given_ticks: i64, packet: &[u8]) -> Option<PlacedPacket> {
        let duration = i64::from(duration_samples(packet)?);
        let end = self.end_ticks.unwrap_or(given_ticks);
        let ahead = given_ticks - end;
        self.ahead_ticks += (ahead - self.ahead_ticks) / Self::SHARE;
        let step = ahead.abs() >= Self::STEP_AT_ONCE_TICKS || self.ahead_ticks.abs() >= Self::STEP_TICKS;
        if step && ahead < 0 {
            return None;
        }
        let after_gap = step || self.end_ticks.is_none();
        if step {
            self.ahead_ticks = 0;
        }
        let time_ticks = if step { given_ticks } else { end };
        self.end_ticks = Some(time_ticks + duration);
        Some(PlacedPacket { time_ticks, after_gap })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 20 ms, full band.
    const PACKET: [u8; 2] = [31 << 3, 0];

    #[test]
    fn rounded_times_are_counted_and_gaps_are_gaps() {
        let mut times = PacketTimes::default();
        let mut place = |ms: f64| times.place((ms.round() * 48.0) as i64, &PACKET).map(|placed| placed.time_ticks);
        for at in 0..200 {
            // 20 ms each, of a clock that began at 0.4 ms.
            assert_eq!(place(f64::from(at) * 20.0 + 0.4), Some(i64::from(at) * 960));
        }
        assert_eq!(place(4_100.0), Some(4_100 * 48), "100 ms are missing");
        assert_eq!(place(3_000.0), None, "for a time that has been played");
        assert_eq!(place(4_120.0), Some(4_120 * 48));
        assert_eq!(times.place(0, &[]), None);
    }

    #[test]
    fn drift_is_followed_before_it_can_be_heard() {
        for drift in [-1, 1] {
            let mut times = PacketTimes::default();
            let mut worst = 0;
            for at in 0..200_000_i64 {
                // 50 ppm, and rounded to milliseconds.
                let given = (at * 960 + at * drift * 48 / 1_000) / 48 * 48;
                if let Some(placed) = times.place(given, &PACKET) {
                    worst = worst.max((placed.time_ticks - given).abs());
                }
            }
            assert!(worst <= 30 * 48, "{worst}");
        }
    }

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
