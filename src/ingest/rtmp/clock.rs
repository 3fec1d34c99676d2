//! RTMP's timestamps (32-bit milliseconds that wrap, start anywhere and sometimes jump) become one media clock that only
//! goes forward and is common to picture and sound, so that they stay together.
//!
//! Each lane's times are held against its own last one: how far the two are apart, or which of them jumps first, is the publisher's affair.
//! Where the sender counts them by clocks that drift apart, pictures are moved: see [`Drift`].

use std::time::Instant;

use super::drift::Drift;

/// Where the media clock starts: room for times that lie before a publisher's first one (decoder and encoder delays).
const START_MS: i64 = 60_000;
/// A step forward that real time does not explain, and that is taken for a new timeline.
const JUMP_FORWARD_MS: i64 = 3_000;
/// A step back within one track that is taken for a new timeline; smaller ones are a muxer's disorder.
const JUMP_BACK_MS: i64 = 500;
/// As near as this to where they usually are from each other, two lanes' times are of one timeline.
const TOGETHER_MS: i64 = 200;
/// FLV muxers (ffmpeg's, OBS's) write 31 bits of a time, as the format has it: theirs go to 0 here, after 24 days.
const FLV_WRAP_MS: u32 = 1 << 31;
/// As near to that wrap as this, on both sides of it, times have gone through it.
const FLV_WRAP_NEAR_MS: u32 = 10_000;

/// Which of a publisher's two sequences of times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lane {
    Video,
    Audio,
}

impl Lane {
    fn other(self) -> Self {
        match self {
            Self::Video => Self::Audio,
            Self::Audio => Self::Video,
        }
    }
}

/// See the module. Times go in as they are on the wire, and come out as milliseconds of the media clock.
#[derive(Debug, Default)]
pub struct MediaClock {
    /// When it showed [`START_MS`].
    begun: Option<Instant>,
    /// The last message of each lane.
    lanes: [Option<Message>; 2],
    /// How many timelines there were before this one.
    jumps: u32,
    drift: Drift,
}

#[derive(Debug, Clone, Copy)]
struct Message {
    /// Its wire time, and the same widened to its timeline.
    wire_ms: u32,
    wide_ms: i64,
    arrival: Instant,
    /// What its timeline is ahead of the media clock.
    offset_ms: i64,
    /// What it was ahead of the other lane when both were last on one timeline.
    ahead_ms: i64,
}

impl Message {
    /// A wire time that comes after this one, on the same timeline.
    fn widened(&self, wire_ms: u32) -> i64 {
        self.wide_ms + step_ms(self.wire_ms, wire_ms)
    }

    fn elapsed_ms(&self, now: Instant) -> i64 {
        now.saturating_duration_since(self.arrival).as_millis() as i64
    }

    /// A time from `back_ms` before this one to what real time explains.
    fn explains(&self, now: Instant, wide_ms: i64, back_ms: i64) -> bool {
        let step = wide_ms - self.wide_ms;
        (-back_ms..=JUMP_FORWARD_MS + self.elapsed_ms(now)).contains(&step)
    }

    /// What a time of the same timeline that comes now is ahead of this lane.
    fn ahead_ms(&self, now: Instant, wide_ms: i64) -> i64 {
        wide_ms - self.wide_ms - self.elapsed_ms(now)
    }

    /// What the media clock shows now, by this message's arrival.
    fn due_ms(&self, now: Instant) -> i64 {
        self.wide_ms - self.offset_ms + self.elapsed_ms(now).max(1)
    }
}

impl MediaClock {
    /// Begins to run, where it does not yet. What is sent ahead of media (decoder configurations) often has no time of its own but 0.
    pub fn begin(&mut self, now: Instant) {
        self.begun.get_or_insert(now);
    }

    /// The media clock's time of a message that arrived now.
    pub fn map(&mut self, now: Instant, lane: Lane, wire_ms: u32) -> i64 {
        let begun = *self.begun.get_or_insert(now);
        let [own, other] = [lane, lane.other()].map(|lane| self.lanes[lane as usize]);
        let (wide_ms, offset_ms) = if let Some(on) = goes_on(now, wire_ms, own, other) {
            on
        } else {
            // A new timeline goes on where the old one would be now.
            let wide_ms = i64::from(wire_ms);
            let since_begun = || START_MS + now.saturating_duration_since(begun).as_millis() as i64;
            let last = own.or(other);
            self.jumps += u32::from(last.is_some());
            (wide_ms, wide_ms - last.map_or_else(since_begun, |last| last.due_ms(now)))
        };
        if own.is_some_and(|own| own.offset_ms != offset_ms) {
            self.drift.changed();
        }
        let together = other.filter(|other| other.offset_ms == offset_ms).map(|other| other.ahead_ms(now, wide_ms));
        let ahead_ms = together.or(own.map(|own| own.ahead_ms)).unwrap_or_default();
        self.lanes[lane as usize] = Some(Message { wire_ms, wide_ms, arrival: now, offset_ms, ahead_ms });
        let time_ms = wide_ms - offset_ms;
        self.drift.observe(now, lane, time_ms);
        // Nobody sees pictures move by a millisecond, and sound stays a plain count of samples.
        if lane == Lane::Video { time_ms - self.drift.correction_ms(now) } else { time_ms }
    }

    /// The time of a message beside the last one of its lane: of another track of the same pictures. `None` before there is one, and for a time
    /// that is not near it.
    pub fn beside(&mut self, now: Instant, lane: Lane, wire_ms: u32) -> Option<i64> {
        let last = self.lanes[lane as usize]?;
        let wide_ms = last.widened(wire_ms);
        let time_ms = wide_ms - last.offset_ms;
        let corrected_ms = if lane == Lane::Video { time_ms - self.drift.correction_ms(now) } else { time_ms };
        ((wide_ms - last.wide_ms).abs() <= JUMP_FORWARD_MS).then_some(corrected_ms)
    }

    /// An instant and the media clock's time then: the same for both tracks.
    pub fn anchor(&self) -> Option<(Instant, i64)> {
        self.begun.map(|at| (at, START_MS))
    }

    /// Timelines begun anew so far.
    pub fn jumps(&self) -> u32 {
        self.jumps
    }

    /// By how much the sound's times have fallen behind the pictures' so far.
    pub fn drifted_ms(&self) -> i64 {
        self.drift.found_ms()
    }
}

/// The widened time, and its timeline's offset, of a message that goes on with its lane, or follows the other one onto a timeline that is new.
fn goes_on(now: Instant, wire_ms: u32, own: Option<Message>, other: Option<Message>) -> Option<(i64, i64)> {
    let same_timeline = |own: &Message| other.filter(|other| other.offset_ms == own.offset_ms);
    // Small steps of one lane pass for disorder; where it has come to the other's new timeline by one, their times are together.
    let together = || {
        let own = own?;
        let other = other.filter(|other| own.offset_ms != other.offset_ms)?;
        let wide_ms = other.widened(wire_ms);
        let moved_ms = other.ahead_ms(now, wide_ms) - own.ahead_ms;
        (moved_ms.abs() <= TOGETHER_MS).then_some((wide_ms, other.offset_ms))
    };
    let on_own = || {
        let own = own?;
        // A lane that was silent for long may have missed the wrap that the other one has seen.
        let widened = [Some(own), same_timeline(&own)].into_iter().flatten().map(|known| known.widened(wire_ms));
        let wide_ms = widened.into_iter().find(|wide_ms| own.explains(now, *wide_ms, JUMP_BACK_MS))?;
        Some((wide_ms, own.offset_ms))
    };
    let on_other = || {
        let other = other.filter(|other| own.is_none_or(|own| own.offset_ms != other.offset_ms))?;
        let wide_ms = other.widened(wire_ms);
        other.explains(now, wide_ms, JUMP_FORWARD_MS + JUMP_BACK_MS).then_some((wide_ms, other.offset_ms))
    };
    together().or_else(on_own).or_else(on_other)
}

/// From one wire time to another, whichever of the two wraps lies between them.
fn step_ms(from_ms: u32, to_ms: u32) -> i64 {
    let before = FLV_WRAP_MS - FLV_WRAP_NEAR_MS..FLV_WRAP_MS;
    let after = 0..FLV_WRAP_NEAR_MS;
    // The other lane may be behind, so that the step leads back through the wrap.
    let wrapped =
        before.contains(&from_ms) && after.contains(&to_ms) || after.contains(&from_ms) && before.contains(&to_ms);
    let step = to_ms.wrapping_sub(from_ms);
    i64::from(if wrapped { step.wrapping_sub(FLV_WRAP_MS) } else { step } as i32)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::testing::epoch;

    /// Feeds pairs of (seconds on our clock, milliseconds on the wire), and gives the media clock's times, from 0.
    fn run(lane: Lane, clock: &mut MediaClock, times: &[(u64, u32)]) -> Vec<i64> {
        let at = |ms: u64| epoch() + Duration::from_millis(ms);
        times.iter().map(|&(now_ms, wire_ms)| clock.map(at(now_ms), lane, wire_ms) - START_MS).collect()
    }

    #[test]
    fn times_go_through_the_wrap() {
        let mut clock = MediaClock::default();
        let wire = [(0, u32::MAX - 39), (40, 0), (80, 40)];
        assert_eq!(run(Lane::Video, &mut clock, &wire), [0, 40, 80]);
        assert_eq!(clock.jumps(), 0);
    }

    #[test]
    fn times_go_through_the_wrap_of_31_bits_that_flv_muxers_write() {
        let mut clock = MediaClock::default();
        let wire = [(0, i32::MAX as u32 - 39), (40, 0), (80, 40)];
        assert_eq!(run(Lane::Video, &mut clock, &wire), [0, 40, 80]);
        assert_eq!(clock.jumps(), 0);
        // A clock of 32 bits goes on behind it.
        let mut clock = MediaClock::default();
        let wire = [(0, i32::MAX as u32 - 39), (40, 1 << 31), (80, (1 << 31) + 40)];
        assert_eq!(run(Lane::Video, &mut clock, &wire), [0, 40, 80]);
        assert_eq!(clock.jumps(), 0);
    }

    #[test]
    fn a_lane_may_be_before_a_wrap_while_the_other_is_behind_it() {
        for last in [u32::MAX, i32::MAX as u32] {
            let mut clock = MediaClock::default();
            run(Lane::Video, &mut clock, &[(0, last - 39)]);
            assert_eq!(run(Lane::Audio, &mut clock, &[(0, last - 59)]), [-20]);
            assert_eq!(run(Lane::Video, &mut clock, &[(40, 0), (80, 40)]), [40, 80]);
            assert_eq!(run(Lane::Audio, &mut clock, &[(90, last - 19), (100, 0)]), [20, 40]);
            assert_eq!(run(Lane::Video, &mut clock, &[(120, 80)]), [120]);
            assert_eq!(clock.jumps(), 0);
        }
    }

    #[test]
    fn a_publisher_that_counts_from_0_again_has_not_wrapped() {
        // Shortly before the wrap, but further than time went on: were it one, eight seconds would be missing.
        for before_ms in [8_000, 60_000] {
            let mut clock = MediaClock::default();
            let wire = [(0, (1 << 31) - before_ms), (40, 0), (80, 40)];
            assert_eq!(run(Lane::Video, &mut clock, &wire), [0, 40, 80]);
            assert_eq!(clock.jumps(), 1);
        }
    }

    #[test]
    fn what_goes_before_media_has_no_time() {
        let mut clock = MediaClock::default();
        assert_eq!(clock.anchor(), None);
        clock.begin(epoch());
        clock.begin(epoch() + Duration::from_millis(10));
        assert_eq!(clock.anchor(), Some((epoch(), START_MS)));
        // Its time 0 was when it began, whatever the first media's time is.
        assert_eq!(run(Lane::Video, &mut clock, &[(30, 7_000_000), (70, 7_000_040)]), [30, 70]);
        assert_eq!(clock.anchor(), Some((epoch(), START_MS)));
        assert_eq!(clock.jumps(), 0);
    }

    #[test]
    fn a_jump_either_way_goes_on_where_the_clock_is() {
        let mut clock = MediaClock::default();
        let forward = [(0, 1_000), (40, 1_040), (80, 900_000), (120, 900_040)];
        assert_eq!(run(Lane::Video, &mut clock, &forward), [0, 40, 80, 120]);
        let back = [(160, 7), (200, 47)];
        assert_eq!(run(Lane::Video, &mut clock, &back), [160, 200]);
        assert_eq!(clock.jumps(), 2);
    }

    #[test]
    fn a_pause_that_real_time_explains_is_no_jump() {
        let mut clock = MediaClock::default();
        assert_eq!(run(Lane::Video, &mut clock, &[(0, 0), (9_000, 9_000)]), [0, 9_000]);
        assert_eq!(clock.jumps(), 0);
    }

    #[test]
    fn picture_and_sound_jump_together() {
        let mut clock = MediaClock::default();
        run(Lane::Video, &mut clock, &[(0, 50_000)]);
        assert_eq!(run(Lane::Audio, &mut clock, &[(10, 50_010)]), [10]);
        assert_eq!(run(Lane::Video, &mut clock, &[(40, 0)]), [40]);
        assert_eq!(run(Lane::Audio, &mut clock, &[(41, 21)]), [61]);
        assert_eq!(run(Lane::Video, &mut clock, &[(80, 40)]), [80]);
        assert_eq!(clock.jumps(), 1, "the second lane follows the first");
    }

    #[test]
    fn a_muxers_disorder_is_no_jump() {
        let mut clock = MediaClock::default();
        run(Lane::Video, &mut clock, &[(0, 1_000)]);
        assert_eq!(run(Lane::Audio, &mut clock, &[(0, 600)]), [-400], "sound that began earlier");
        assert_eq!(run(Lane::Video, &mut clock, &[(40, 1_040), (41, 1_030)]), [40, 30]);
        assert_eq!(clock.jumps(), 0);
    }
}
