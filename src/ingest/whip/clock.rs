//! The publisher's clock against ours: sender reports become [`ClockReference`]s (RFC 3550 section 6.4.1).
//!
//! All tracks of a publisher, and all layers, share one anchor, so that what its reports say of sound and picture survives,
//! whatever the delay of each report.

use std::time::{Duration, Instant, SystemTime};

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

/// A report that says that the publisher's clock is less ahead than was thought was delayed more, most of the time; one in so many parts
/// of the difference is believed, for clocks do drift.
const BELIEVED_PART: i64 = 16;

/// Where the publisher's wall clock meets ours.
#[derive(Debug)]
pub(super) struct SenderClock {
    /// Our two clocks at the session's beginning.
    begin: (Instant, SystemTime),
    anchor: Option<(NtpTime, Instant)>,
    /// What the publisher's clock is ahead of ours, in 1/2^32 s, less the shortest way that a report took.
    ahead: Option<i64>,
}

impl SenderClock {
    pub(super) fn new(now: Instant, time_of_day: SystemTime) -> Self {
        Self { begin: (now, time_of_day), anchor: None, ahead: None }
    }

    /// A report came. True when the anchor moved: references of every layer are to be made anew.
    pub(super) fn observe(&mut self, now: Instant, ntp: NtpTime) -> bool {
        let near = self.local(ntp).is_some_and(|local| {
            now.saturating_duration_since(local).max(local.saturating_duration_since(now)) <= REANCHOR_AFTER
        });
        let ours = NtpTime::from_system(self.begin.1 + now.saturating_duration_since(self.begin.0));
        let ahead = ntp.0.wrapping_sub(ours.0) as i64;
        let known = self.ahead.filter(|_| near);
        self.ahead = Some(known.map_or(ahead, |known| {
            if ahead >= known { ahead } else { known - known.saturating_sub(ahead) / BELIEVED_PART }
        }));
        if !near {
            self.anchor = Some((ntp, now));
        }
        !near
    }

    /// What the publisher's clock is ahead of ours, in 1/2^32 s; `None` before the first report.
    pub(super) fn ahead(&self) -> Option<i64> {
        self.ahead
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

    /// Of a server whose time of day was 1,000,000 s at the tests' origin.
    fn clock() -> SenderClock {
        SenderClock::new(epoch(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000))
    }

    #[test]
    fn all_tracks_share_one_offset_whatever_their_reports_delay() {
        let mut clock = clock();
        assert!(clock.observe(ms(40), ntp(1_000)));
        let audio = clock.reference(Reported { ntp: ntp(1_000), time_ticks: 48_000 }).unwrap();
        assert!(!clock.observe(ms(260), ntp(1_100)), "160 ms late, same anchor");
        let video = clock.reference(Reported { ntp: ntp(1_100), time_ticks: 90_000 }).unwrap();
        let apart = video.at - audio.at;
        assert!(apart.abs_diff(Duration::from_millis(100)) < Duration::from_micros(1), "{apart:?}");
    }

    #[test]
    fn a_clock_that_was_set_gets_a_new_anchor() {
        let mut clock = clock();
        clock.observe(ms(0), ntp(0));
        assert!(!clock.observe(ms(10_000), ntp(10_100)));
        assert!(clock.observe(ms(11_000), ntp(3_600_000)));
        assert!(!clock.observe(ms(12_000), ntp(3_601_000)));
        assert!(clock.observe(ms(13_000), NtpTime(1)));
        assert_eq!(clock.reference(Reported { ntp: NtpTime(1), time_ticks: 7 }).unwrap().at, ms(13_000));
    }

    #[test]
    fn the_shortest_way_tells_how_far_the_publishers_clock_is_ahead() {
        let ahead_ms = |clock: &SenderClock| ((i128::from(clock.ahead().unwrap()) * 1_000) + (1 << 31)) >> 32;
        // The publisher's clock is 3 s ahead of ours, which is NTP time 2,208,988,800 s + 1,000,000 s at the tests' origin.
        let theirs = |ms: u64| NtpTime(((2_208_988_800 + 1_000_003) << 32) + ((ms << 32) / 1_000));
        let mut clock = clock();
        assert_eq!(clock.ahead(), None);
        clock.observe(ms(120), theirs(0));
        assert_eq!(ahead_ms(&clock), 2_880, "less the 120 ms that it took");
        clock.observe(ms(1_020), theirs(1_000));
        assert_eq!(ahead_ms(&clock), 2_980);
        clock.observe(ms(2_180), theirs(2_000));
        assert_eq!(ahead_ms(&clock), 2_970, "a slow one is believed a sixteenth");
        let set = NtpTime(theirs(3_000).0 + (3_600 << 32));
        clock.observe(ms(3_000), set);
        assert_eq!(ahead_ms(&clock), 3_603_000, "it was set");
        clock.observe(ms(4_000), NtpTime(0));
        clock.observe(ms(5_000), NtpTime(u64::MAX));
    }
}
