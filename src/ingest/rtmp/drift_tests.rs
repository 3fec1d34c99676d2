//! A day of a publisher's times, from the wire to where pictures and sound are put: are lips and voice together?
//!
//! Pictures come five times a second and frames of sound have 4,096 samples, so that a day takes a second: what is measured here are clocks.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{super::clock::MediaClock, *};
use crate::{
    media::testing::epoch,
    transcode::{Place, SampleCount},
};

const HOUR_MS: f64 = 3_600_000.0;
/// Where nobody notices that lips and voice are apart.
const LIPS_MS: f64 = 40.0;

type OfTime = Box<dyn Fn(f64) -> f64>;

/// What a publisher does, as functions of the time in milliseconds at which something was captured.
struct Publisher {
    /// How much longer frames of sound take than they say.
    card_ppm: f64,
    /// What the lanes' times on the wire are ahead of when it was captured.
    ahead_ms: [OfTime; 2],
    /// How long the encoder keeps each lane.
    keeps_ms: [OfTime; 2],
    first_wire_ms: u32,
    wire_mask: u32,
    jitter_ms: f64,
    /// How long a delay of the network's lasts.
    jitter_lasts_ms: f64,
    stalls: bool,
    hours: f64,
    picture_ms: f64,
    frame_samples: usize,
}

impl Default for Publisher {
    fn default() -> Self {
        Self {
            card_ppm: 0.0,
            ahead_ms: [Box::new(|_| 0.0), Box::new(|_| 0.0)],
            keeps_ms: [Box::new(|_| 30.0), Box::new(|_| 90.0)],
            first_wire_ms: 0,
            wire_mask: u32::MAX,
            jitter_ms: 0.0,
            jitter_lasts_ms: 300.0,
            stalls: false,
            hours: 24.0,
            picture_ms: 200.0,
            frame_samples: 4_096,
        }
    }
}

#[derive(Debug, Default)]
struct Day {
    /// The most that voice and lips were apart, and when.
    lips_ms: f64,
    at_hours: f64,
    jumps: u32,
    /// How often what was found changed, and what it came to.
    corrections: u32,
    found_ms: i64,
    /// Frames of sound that were stretched, and that were left out or came after a hole.
    stretched: u32,
    holes: u32,
}

impl Publisher {
    fn run(&self) -> Day {
        let mut random = StdRng::seed_from_u64(7);
        let mut clock = MediaClock::default();
        let mut count = SampleCount::default();
        let mut day = Day::default();
        let (mut next_ms, mut arrival_ms) = ([0.0, 0.0], 0.0);
        let (mut jitter_ms, mut jitter_until_ms) = (0.0, 0.0);
        // Where each lane was put, less when it was captured.
        let mut put_ms = [None; 2];
        loop {
            let sent_ms = [0, 1].map(|at: usize| next_ms[at] + self.keeps_ms[at](next_ms[at]));
            let lane = if sent_ms[0] <= sent_ms[1] { Lane::Video } else { Lane::Audio };
            let at = lane as usize;
            let (captured_ms, sent_ms) = (next_ms[at], sent_ms[at]);
            if captured_ms > self.hours * HOUR_MS {
                break;
            }
            let frame_ms = self.frame_samples as f64 / 48.0 * (1.0 + self.card_ppm / 1e6);
            next_ms[at] += if lane == Lane::Video { self.picture_ms } else { frame_ms };
            if sent_ms >= jitter_until_ms && self.jitter_ms > 0.0 {
                jitter_ms = random.random_range(0.0..self.jitter_ms);
                jitter_until_ms = sent_ms + self.jitter_lasts_ms;
            }
            // Every hour ten seconds come at once.
            let in_hour_ms = sent_ms % HOUR_MS;
            let stall_ms = if self.stalls && in_hour_ms < 10_000.0 { 10_000.0 - in_hour_ms } else { 0.0 };
            arrival_ms = f64::max(arrival_ms, sent_ms + stall_ms + jitter_ms);
            let now = epoch() + Duration::from_micros((arrival_ms * 1_000.0) as u64);
            let wire_ms = (captured_ms + self.ahead_ms[at](captured_ms)).round() as i64;
            let wire_ms = self.first_wire_ms.wrapping_add(wire_ms as u32) & self.wire_mask;
            let found_ms = clock.drifted_ms();
            let time_ms = clock.map(now, lane, wire_ms);
            day.corrections += u32::from(clock.drifted_ms() != found_ms);
            let put = match lane {
                Lane::Video => time_ms as f64,
                Lane::Audio => {
                    match count.place(time_ms * 48, self.frame_samples) {
                        Place::Joined => {}
                        Place::Stretched(_) => day.stretched += 1,
                        _ => day.holes += 1,
                    }
                    (count.end_ticks().unwrap() - self.frame_samples as i64) as f64 / 48.0
                }
            };
            put_ms[at] = Some(put - captured_ms);
            if let [Some(pictures), Some(sound)] = put_ms {
                let lips_ms = f64::abs(pictures - sound);
                if lips_ms > day.lips_ms {
                    (day.lips_ms, day.at_hours) = (lips_ms, captured_ms / HOUR_MS);
                }
            }
        }
        (day.jumps, day.found_ms) = (clock.jumps(), clock.drifted_ms());
        day
    }
}

/// Times that are counted by a clock which is fast by so much.
fn fast(ppm: f64) -> OfTime {
    Box::new(move |at| at * ppm / 1e6)
}

#[test]
fn sound_counted_by_another_clock_stays_with_the_pictures_for_a_day() {
    for ppm in [50.0, -50.0] {
        let ahead_ms = [fast(0.0), fast(ppm)];
        let day = Publisher { card_ppm: -ppm, ahead_ms, ..Publisher::default() }.run();
        assert!(day.lips_ms < 20.0, "{day:?}");
        assert_eq!((day.jumps, day.holes, day.stretched), (0, 1, 0), "sound is not touched: {day:?}");
        assert!((day.found_ms + (86_400.0 * ppm / 1e3) as i64).abs() < 20, "{day:?}");
        assert!(day.corrections < 400, "{day:?}");
    }
}

#[test]
fn jitter_and_stalls_do_not_hide_a_drift() {
    for ppm in [50.0, -50.0] {
        let day = Publisher {
            card_ppm: -ppm,
            ahead_ms: [fast(0.0), fast(ppm)],
            jitter_ms: 200.0,
            stalls: true,
            hours: 4.0,
            picture_ms: 100.0 / 3.0,
            frame_samples: 1_024,
            ..Publisher::default()
        };
        let day = day.run();
        assert!(day.lips_ms < LIPS_MS, "{day:?}");
        assert_eq!((day.jumps, day.holes), (0, 1), "{day:?}");
    }
}

#[test]
fn honest_times_are_never_corrected() {
    let buffers = || -> [OfTime; 2] {
        // The encoder's sound has 300 ms more to wait from the third hour to the sixth, and then its pictures a second.
        let sound = |at| if (3.0 * HOUR_MS..6.0 * HOUR_MS).contains(&at) { 390.0 } else { 90.0 };
        let pictures = |at| if at > 9.0 * HOUR_MS { 1_030.0 } else { 30.0 };
        [Box::new(pictures), Box::new(sound)]
    };
    // What was captured in two seconds is sent together.
    let chunks = || -> [OfTime; 2] { [Box::new(|at| 2_000.0 - at % 2_000.0), Box::new(|at| 2_000.0 - at % 2_000.0)] };
    let settles = || -> [OfTime; 2] { [Box::new(|_| 30.0), Box::new(|at| 90.0 + 500.0 * (-at / 60_000.0).exp())] };
    for card_ppm in [50.0, -50.0] {
        for (jitter_ms, keeps_ms) in [
            (0.0, buffers()),
            (0.0, chunks()),
            (0.0, settles()),
            (20.0, buffers()),
            (200.0, buffers()),
            (200.0, chunks()),
        ] {
            let hours = 12.0;
            let day = Publisher { card_ppm, keeps_ms, jitter_ms, stalls: true, hours, ..Publisher::default() }.run();
            assert_eq!((day.jumps, day.holes, day.corrections, day.found_ms), (0, 1, 0, 0), "{day:?}");
            assert!(day.lips_ms < 13.0, "{day:?}");
        }
    }
}

#[test]
fn wraps_in_the_middle_of_a_day_are_not_seen_and_a_drift_goes_on() {
    for mask in [u32::MAX, i32::MAX as u32] {
        for ppm in [0.0, 50.0, -50.0] {
            let first_wire_ms = mask - HOUR_MS as u32;
            let ahead_ms = [fast(0.0), fast(ppm)];
            let day = Publisher {
                ahead_ms,
                card_ppm: 50.0,
                first_wire_ms,
                wire_mask: mask,
                hours: 2.0,
                stalls: true,
                ..Publisher::default()
            };
            let day = day.run();
            assert!(day.lips_ms < LIPS_MS, "{mask:#x} {ppm}: {day:?}");
            assert_eq!((day.jumps, day.holes), (0, 1), "{mask:#x} {ppm}: {day:?}");
        }
    }
}

#[test]
fn one_lane_jumps_after_the_other_and_lips_stay_with_the_voice() {
    for by_ms in [HOUR_MS, -HOUR_MS, 5_000.0, -5_000.0, -1_500.0] {
        for (first, second) in [(0.0, 700.0), (700.0, 0.0)] {
            for ppm in [0.0, 50.0] {
                let jump = |ppm: f64, after_ms: f64| -> OfTime {
                    let since = HOUR_MS + after_ms;
                    Box::new(move |at| at * ppm / 1e6 + if at >= since { by_ms } else { 0.0 })
                };
                let ahead_ms = [jump(0.0, first), jump(ppm, second)];
                let day = Publisher { ahead_ms, first_wire_ms: 1 << 30, hours: 2.0, ..Publisher::default() }.run();
                assert!(day.lips_ms < LIPS_MS, "{by_ms} {first} {ppm}: {day:?}");
                assert_eq!((day.jumps, day.holes), (1, 1), "{by_ms} {first} {ppm}: {day:?}");
            }
        }
    }
}

#[test]
fn an_encoder_that_counts_anew_has_left_its_drift_behind() {
    // Three hours at 50 ppm are 540 ms.
    let begins_anew = |ppm: f64| -> OfTime {
        let since = 3.0 * HOUR_MS;
        Box::new(move |at| if at >= since { (at - since) * ppm / 1e6 - since } else { at * ppm / 1e6 })
    };
    let day = Publisher { ahead_ms: [begins_anew(0.0), begins_anew(50.0)], hours: 6.0, ..Publisher::default() }.run();
    assert_eq!(day.jumps, 1);
    assert!((day.found_ms + 540).abs() < 20, "{day:?}");
    assert!(day.lips_ms < 560.0 && day.at_hours < 3.01, "for half a minute, until it is known: {day:?}");
}

#[test]
fn lanes_far_apart_are_no_jump() {
    // Sound that is behind by more than what is taken for a jump: sent so, or come to it in weeks.
    let mut clock = MediaClock::default();
    let at = |ms: u64| epoch() + Duration::from_millis(ms);
    let mut last = [0; 2];
    for step in 0..3_000u64 {
        let behind_ms = step * 4;
        let pictures = clock.map(at(step * 40), Lane::Video, 100_000 + step as u32 * 40);
        let sound = clock.map(at(step * 40 + 5), Lane::Audio, 100_000 + (step * 40 - behind_ms) as u32);
        assert!(pictures > last[0] && sound > last[1], "{step}: {pictures} {sound} after {last:?}");
        assert_eq!(pictures - sound, behind_ms as i64, "the sender's word, until it is known to be two clocks");
        last = [pictures, sound];
    }
    assert_eq!(clock.jumps(), 0);
}

#[test]
fn a_step_that_is_disorder_for_one_lane_and_a_jump_for_the_other_parts_them_for_a_message() {
    let mut clock = MediaClock::default();
    let at = |ms: u64| epoch() + Duration::from_millis(ms);
    for step in 0..100u64 {
        // Back by 530 ms: 490 from picture to picture, 510 from frame to frame.
        let back_ms = if step >= 50 { 530 } else { 0 };
        let wire_ms = |ms: u64| 10_000 + ms as u32 - back_ms;
        let sound = [0, 20].map(|ms| clock.map(at(step * 40 + ms), Lane::Audio, wire_ms(step * 40 + ms)));
        let pictures = clock.map(at(step * 40 + 20), Lane::Video, wire_ms(step * 40 + 20));
        assert_eq!(sound[1], pictures, "{step}");
    }
    assert_eq!(clock.jumps(), 1);
}

#[test]
fn a_lane_that_is_usually_late_is_not_taken_for_one_that_has_jumped_back() {
    let mut clock = MediaClock::default();
    let at = |ms: u64| epoch() + Duration::from_millis(ms);
    for step in 0..100u64 {
        // Sound comes 450 ms late, and jumps as late behind the pictures.
        let wire_ms = |ms: u64| 10_000 + ms as u32 - if ms >= 2_000 { 600 } else { 0 };
        let pictures = clock.map(at(step * 40), Lane::Video, wire_ms(step * 40));
        let late_ms = (step * 40).saturating_sub(450);
        let sound = clock.map(at(step * 40), Lane::Audio, wire_ms(late_ms));
        let apart_ms = pictures - sound - (step * 40 - late_ms) as i64;
        assert!(apart_ms.abs() <= 40, "{step}: {apart_ms}");
    }
    assert_eq!(clock.jumps(), 1);
}
