//! The presentation timeline that all renditions of a run are on, and what it says of our clock and of the time of day.
//!
//! Every publisher's clock is mapped by an offset that is fixed when its rendition begins: of several, that of the sound is never
//! touched again, so that sound is a plain count of samples. What sender reports later say otherwise is made good by the pictures, a
//! little with each ([`Timeline::slewed`]); and how the timeline as a whole runs against our clock shows in the time of day only.

use std::time::{Duration, Instant, SystemTime};

use crate::track::ClockReference;

pub(super) const NS_PER_SECOND: i64 = 1_000_000_000;
/// The time of day of a part follows our clock by at most 1/200 of what was played: 5 ms a second, so that it never jumps.
const CAPTURE_SLEW: i64 = 200;
/// Pictures are moved against the sound by at most 1/50 of their duration: nobody sees it, and 100 ms are made good in five seconds.
const PICTURE_SLEW: i64 = 50;

pub(super) fn to_ns(ticks: i64, rate_hz: u32) -> i64 {
    (i128::from(ticks) * i128::from(NS_PER_SECOND)).div_euclid(i128::from(rate_hz.max(1))) as i64
}

/// The nearest tick.
pub(super) fn to_ticks(ns: i64, rate_hz: u32) -> i64 {
    let (rate, second) = (i128::from(rate_hz), i128::from(NS_PER_SECOND));
    (i128::from(ns) * rate + second / 2).div_euclid(second) as i64
}

/// See the module.
#[derive(Debug)]
pub(super) struct Timeline {
    /// What is presented for this instant of our clock, before the shift.
    origin: (Instant, i64),
    /// How far the clock that leads has moved against ours since it was mapped.
    shift_ns: i64,
    /// The last time of day given out, and for which time of presentation.
    captured: Option<(i64, SystemTime)>,
}

impl Timeline {
    /// What happened at `origin` is presented at `begin_ns`.
    pub(super) fn new(origin: Instant, begin_ns: i64) -> Self {
        Self { origin: (origin, begin_ns), shift_ns: 0, captured: None }
    }

    /// What is to be added to a clock's ticks to have those of presentation.
    pub(super) fn offset_ticks(&self, reference: ClockReference, rate_hz: u32) -> i64 {
        let (origin, begin_ns) = self.origin;
        let presented_ns = begin_ns + signed_ns(reference.at, origin) + self.shift_ns;
        to_ticks(presented_ns, rate_hz) - reference.time_ticks as i64
    }

    /// The clock that leads was measured anew: its offset stays, so the timeline as a whole has moved.
    pub(super) fn lead(&mut self, offset_ticks: i64, reference: ClockReference, rate_hz: u32) {
        let measured = self.offset_ticks(reference, rate_hz);
        self.shift_ns += to_ns(offset_ticks - measured, rate_hz);
    }

    /// An offset on its way to where it should be, `duration_ticks` after it was last touched.
    pub(super) fn slewed(offset_ticks: i64, wanted_ticks: i64, duration_ticks: i64) -> i64 {
        let most = (duration_ticks / PICTURE_SLEW).max(0);
        offset_ticks + (wanted_ticks - offset_ticks).clamp(-most, most)
    }

    /// When what is presented then was captured, as far as the publisher's clock tells, in our time of day. It grows with the time
    /// of presentation.
    pub(super) fn captured(&mut self, presented_ns: i64, now: Instant, wall: SystemTime) -> SystemTime {
        let (origin, begin_ns) = self.origin;
        let after_origin_ns = presented_ns - begin_ns - self.shift_ns;
        let wanted = shifted(wall, after_origin_ns - signed_ns(now, origin));
        let Some((last_ns, last)) = self.captured else {
            self.captured = Some((presented_ns, wanted));
            return wanted;
        };
        let played_ns = presented_ns - last_ns;
        let expected = shifted(last, played_ns);
        if played_ns <= 0 {
            // Another rendition's, which is behind.
            return expected;
        }
        let off_ns = match wanted.duration_since(expected) {
            Ok(ahead) => nanos(ahead),
            Err(behind) => -nanos(behind.duration()),
        };
        let most = played_ns / CAPTURE_SLEW;
        let captured = shifted(expected, off_ns.clamp(-most, most));
        self.captured = Some((presented_ns, captured));
        captured
    }
}

/// Time from `earlier` to `later`, negative where it is the other way round.
pub(super) fn signed_ns(later: Instant, earlier: Instant) -> i64 {
    match later.checked_duration_since(earlier) {
        Some(ahead) => nanos(ahead),
        None => -nanos(earlier.saturating_duration_since(later)),
    }
}

fn nanos(duration: Duration) -> i64 {
    i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX)
}

fn shifted(time: SystemTime, by_ns: i64) -> SystemTime {
    let by = Duration::from_nanos(by_ns.unsigned_abs());
    let shifted = if by_ns < 0 { time.checked_sub(by) } else { time.checked_add(by) };
    shifted.unwrap_or(time)
}

/// The instant at which something of a clock's time happened.
pub(super) fn instant_of(reference: ClockReference, time_ticks: i64, rate_hz: u32) -> Instant {
    let ahead_ns = to_ns(time_ticks - reference.time_ticks as i64, rate_hz);
    let by = Duration::from_nanos(ahead_ns.unsigned_abs());
    let moved = if ahead_ns < 0 { reference.at.checked_sub(by) } else { reference.at.checked_add(by) };
    moved.unwrap_or(reference.at)
}

/// Where a media clock without reports meets ours: by the arrivals that were delayed least, over some seconds, so that neither a slow
/// network nor a publisher's drifting clock moves it by more than it must.
#[derive(Debug, Default)]
pub(super) struct LeastDelay {
    /// Of the stretch before, and of the present one with its beginning.
    before: Option<ClockReference>,
    present: Option<(Instant, ClockReference)>,
}

impl LeastDelay {
    const STRETCH: Duration = Duration::from_secs(10);

    pub(super) fn observe(&mut self, arrival: Instant, time_ticks: u64, rate_hz: u32) {
        let new = ClockReference { at: arrival, time_ticks, by_report: false };
        match &mut self.present {
            Some((since, present)) if arrival < *since + Self::STRETCH => {
                if is_earlier(new, *present, rate_hz) {
                    *present = new;
                }
            }
            present => {
                self.before = present.map(|(_, reference)| reference);
                *present = Some((arrival, new));
            }
        }
    }

    pub(super) fn reference(&self, rate_hz: u32) -> Option<ClockReference> {
        let (_, present) = self.present?;
        Some(self.before.filter(|before| is_earlier(*before, present, rate_hz)).unwrap_or(present))
    }
}

/// The first one's clock shows the same time earlier: less delay.
fn is_earlier(a: ClockReference, b: ClockReference, rate_hz: u32) -> bool {
    instant_of(a, b.time_ticks as i64, rate_hz) < b.at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    const MS: i64 = 1_000_000;

    fn at(ms: u64) -> Instant {
        epoch() + Duration::from_millis(ms)
    }

    fn reference(ms: u64, time_ticks: u64) -> ClockReference {
        ClockReference { at: at(ms), time_ticks, by_report: true }
    }

    #[test]
    fn clocks_of_any_rate_meet_on_the_timeline() {
        let timeline = Timeline::new(at(1_000), 5 * NS_PER_SECOND);
        let pictures = timeline.offset_ticks(reference(1_040, 777_777), 90_000);
        assert_eq!(777_777 + pictures, (5_040) * 90);
        let sound = timeline.offset_ticks(reference(960, 48_000), 48_000);
        assert_eq!(48_000 + sound, 4_960 * 48);
    }

    #[test]
    fn the_clock_that_leads_stays_and_the_others_follow_it() {
        let mut timeline = Timeline::new(at(0), 0);
        let sound = timeline.offset_ticks(reference(0, 0), 48_000);
        let pictures = timeline.offset_ticks(reference(0, 0), 90_000);
        // A report says that sound of this time is 40 ms older than its arrival made it seem.
        timeline.lead(sound, reference(0, 40 * 48), 48_000);
        let wanted = timeline.offset_ticks(reference(0, 0), 90_000);
        assert_eq!(wanted - pictures, 40 * 90);
        let mut offset = pictures;
        for _ in 0..60 {
            let moved = Timeline::slewed(offset, wanted, 3_000);
            assert!(moved - offset <= 60);
            offset = moved;
        }
        assert_eq!(offset, wanted);
    }

    #[test]
    fn the_time_of_day_follows_without_a_jump() {
        let mut timeline = Timeline::new(at(0), 0);
        let day = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let first = timeline.captured(0, at(300), day + Duration::from_millis(300));
        assert_eq!(first, day);
        // The publisher's clock is a second slow from here on.
        timeline.lead(0, reference(1_000, 0), 48_000);
        let mut last = first;
        for part in 1..3_000i64 {
            let now = at(1_000 + 200 * part as u64);
            let captured = timeline.captured(part * 200 * MS, now, day + (now - epoch()));
            let step = captured.duration_since(last).unwrap();
            assert!(step.abs_diff(Duration::from_millis(200)) <= Duration::from_millis(1), "{step:?}");
            // Another rendition's part of the same time has the same time of day.
            assert_eq!(timeline.captured(part * 200 * MS, now, day), captured);
            last = captured;
        }
        assert_eq!(last, day + Duration::from_millis(1_000 + 200 * 2_999));
    }

    #[test]
    fn the_least_delayed_arrival_counts_and_is_forgotten_in_time() {
        let mut least = LeastDelay::default();
        for (arrival, time) in [(100, 0), (130, 40), (190, 80)] {
            least.observe(at(arrival), time, 1_000);
        }
        assert_eq!(instant_of(least.reference(1_000).unwrap(), 0, 1_000), at(90));
        for frame in 5..1_000 {
            least.observe(at(frame * 40 + 200), frame * 40, 1_000);
        }
        assert_eq!(instant_of(least.reference(1_000).unwrap(), 0, 1_000), at(200));
    }

    #[test]
    fn ticks_and_nanoseconds_are_rounded_to_the_nearest() {
        for rate in [90_000, 48_000, 44_100, 1_000] {
            for ticks in [-7i64, 0, 1, 12_345_678_901] {
                assert_eq!(to_ticks(to_ns(ticks, rate), rate), ticks);
            }
        }
    }
}
