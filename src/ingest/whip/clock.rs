//! The publisher's clock against ours: sender reports become [`ClockReference`]s (RFC 3550 section 6.4.1).
//!
//! All tracks of a publisher, and all layers, share one anchor, so that what its reports say of sound and picture survives,
//! whatever the delay of each report.

use std::time::{Duration, Instant};

use crate::{rtp::rtcp::NtpTime, track::ClockReference};

/// When the anchor and the arrival of reports differ by more, the publisher's clock was set (or has drifted for hours),
/// and a new anchor is taken.
const REANCHOR_AFTER: Duration = Duration::from_millis(500);

/// What a sender report says of one layer, with the time widened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reported {
    pub ntp: NtpTime,
    pub time_ticks: u64,
}

/// Where the publisher's wall clock meets ours.
#[derive(Debug, Default)]
pub(super) struct SenderClock {
    anchor: Option<(NtpTime, Instant)>,
}

impl SenderClock {
    /// A report came. True when the anchor moved: references of every layer are to be made anew.
    pub(super) fn observe(&mut self, now: Instant, ntp: NtpTime) -> bool {
        let near = self.local(ntp).is_some_and(|local| {
            now.saturating_duration_since(local).max(local.saturating_duration_since(now)) <= REANCHOR_AFTER
        });
        if !near {
            self.anchor = Some((ntp, now));
        }
        !near
    }

    /// The layer's clock on ours; `None` before the first report.
    pub(super) fn reference(&self, reported: Reported) -> Option<ClockReference> {
        Some(ClockReference { at: self.local(reported.ntp)?, time_ticks: reported.time_ticks, by_report: true })
    }

    fn local(&self, ntp: NtpTime) -> Option<Instant> {
        let (anchor, at) = self.anchor?;
        let ahead = ntp.0.wrapping_sub(anchor.0) as i64;
        let magnitude = Duration::from_nanos(((u128::from(ahead.unsigned_abs()) * 1_000_000_000) >> 32) as u64);
        if ahead < 0 { at.checked_sub(magnitude) } else { at.checked_add(magnitude) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    fn ntp(ms: u64) -> NtpTime {
        NtpTime((((4_000_000_000_000 + ms) / 1_000) << 32) | (((ms % 1_000) << 32) / 1_000))
    }

    fn ms(ms: u64) -> Instant {
        epoch() + Duration::from_millis(ms)
    }

    #[test]
    fn all_tracks_share_one_offset_whatever_their_reports_delay() {
        let mut clock = SenderClock::default();
        assert!(clock.observe(ms(40), ntp(1_000)));
        let audio = clock.reference(Reported { ntp: ntp(1_000), time_ticks: 48_000 }).unwrap();
        assert!(!clock.observe(ms(260), ntp(1_100)), "160 ms late, same anchor");
        let video = clock.reference(Reported { ntp: ntp(1_100), time_ticks: 90_000 }).unwrap();
        let apart = video.at - audio.at;
        assert!(apart.abs_diff(Duration::from_millis(100)) < Duration::from_micros(1), "{apart:?}");
    }

    #[test]
    fn a_clock_that_was_set_gets_a_new_anchor() {
        let mut clock = SenderClock::default();
        clock.observe(ms(0), ntp(0));
        assert!(!clock.observe(ms(10_000), ntp(10_100)));
        assert!(clock.observe(ms(11_000), ntp(3_600_000)));
        assert!(!clock.observe(ms(12_000), ntp(3_601_000)));
        assert!(clock.observe(ms(13_000), NtpTime(1)));
        assert_eq!(clock.reference(Reported { ntp: NtpTime(1), time_ticks: 7 }).unwrap().at, ms(13_000));
    }
}
