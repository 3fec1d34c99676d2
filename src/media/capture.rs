//! When media was captured, as the abs-capture-time header extension says it
//! (<http://www.webrtc.org/experiments/rtp-hdrext/abs-capture-time>), and which packets say it.

use std::time::{Duration, Instant};

/// Between two packets of a layer that say when they were captured: receivers work out what lies between by RTP time.
const STAMP_INTERVAL: Duration = Duration::from_secs(1);

/// When a picture or a piece of sound was captured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CaptureTime {
    /// By the clock of the system that captured it: NTP time, 32.32 fixed point.
    pub ntp: u64,
    /// What that clock is ahead of the sender's, the one that sender reports are made by: in 1/2^32 s.
    pub clock_offset: i64,
}

impl CaptureTime {
    /// What the extension's value takes in its longer form, which has the offset.
    pub const BYTES: usize = 16;

    /// Reads either form; without an offset, the sender is taken to have captured it.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let (ntp, rest) = value.split_first_chunk()?;
        let clock_offset = rest.first_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        Some(Self { ntp: u64::from_be_bytes(*ntp), clock_offset })
    }

    /// The longer form.
    pub fn to_bytes(self) -> [u8; Self::BYTES] {
        let both = u128::from(self.ntp) << 64 | u128::from(self.clock_offset as u64);
        both.to_be_bytes()
    }

    /// Of what lies `ticks` of a clock later, or earlier.
    pub fn after(self, ticks: i64, rate_hz: u32) -> Self {
        let units = (i128::from(ticks) << 32) / i128::from(rate_hz.max(1));
        Self { ntp: self.ntp.wrapping_add(units as u64), ..self }
    }
}

/// Chooses the packets of a layer that say when they were captured: the first of a picture (for sound: any), once a second.
#[derive(Debug, Default)]
pub struct CaptureStamps {
    newest_ticks: Option<u64>,
    stamped: Option<Instant>,
}

impl CaptureStamps {
    /// What the next packet is to say, if anything. `capture` gives its time, once that is known.
    pub fn stamp(
        &mut self,
        now: Instant,
        time_ticks: u64,
        capture: impl FnOnce() -> Option<CaptureTime>,
    ) -> Option<CaptureTime> {
        if self.newest_ticks.is_some_and(|newest| time_ticks <= newest) {
            return None;
        }
        self.newest_ticks = Some(time_ticks);
        if self.stamped.is_some_and(|at| now < at + STAMP_INTERVAL) {
            return None;
        }
        let capture = capture()?;
        self.stamped = Some(now);
        Some(capture)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    const NOON: CaptureTime = CaptureTime { ntp: 43_200 << 32, clock_offset: -(3 << 31) };

    #[test]
    fn both_forms_are_read_and_the_longer_is_written() {
        let bytes = NOON.to_bytes();
        assert_eq!(bytes, [0, 0, 0xa8, 0xc0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xfe, 0x80, 0, 0, 0]);
        assert_eq!(CaptureTime::parse(&bytes), Some(NOON));
        assert_eq!(CaptureTime::parse(&bytes[..8]), Some(CaptureTime { clock_offset: 0, ..NOON }));
        assert_eq!(CaptureTime::parse(&bytes[..7]), None);
    }

    #[test]
    fn ticks_lead_from_one_time_to_another() {
        assert_eq!(NOON.after(135_000, 90_000).ntp, (43_201 << 32) + (1 << 31));
        assert_eq!(NOON.after(-48_000, 48_000).ntp, 43_199 << 32);
        // Whatever a publisher says, nothing overflows.
        assert_eq!(CaptureTime { ntp: u64::MAX, ..NOON }.after(1, 1).ntp, (1 << 32) - 1);
        let _ = NOON.after(i64::MIN, 1).after(i64::MAX, 0);
    }

    #[test]
    fn one_packet_a_second_says_it_and_it_begins_a_picture() {
        let mut stamps = CaptureStamps::default();
        let mut stamped = Vec::new();
        for picture in 0..90u64 {
            let now = epoch() + Duration::from_millis(picture * 33);
            for packet in 0..3 {
                let known = picture > 0;
                if stamps.stamp(now, picture * 2_970, || known.then_some(NOON)).is_some() {
                    stamped.push((picture, packet));
                }
            }
        }
        // As soon as it is known; a packet that comes late, of an earlier picture, says nothing.
        assert_eq!(stamped, [(1, 0), (32, 0), (63, 0)]);
        assert_eq!(stamps.stamp(epoch() + Duration::from_secs(9), 2_970, || Some(NOON)), None);
    }
}
