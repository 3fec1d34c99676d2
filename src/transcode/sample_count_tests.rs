//! A day of sound whose sample clock is not the clock of its times.

use super::*;

const DAY_MS: f64 = 24.0 * 3_600_000.0;

/// What became of a day's frames.
#[derive(Debug, Default)]
struct Day {
    stretched_frames: u64,
    stretches: u64,
    stretched_ticks: i64,
    others: u64,
    largest_off_ms: f64,
}

/// Frames of a sample clock that is fast by so many millionths; their times are honest, and rounded as RTMP has them.
fn day(frame_samples: usize, rate_hz: u32, fast_ppm: f64) -> Day {
    let mut count = SampleCount::default();
    let mut day = Day::default();
    let ratio = f64::from(CLOCK_HZ) / f64::from(rate_hz);
    let frame_ms = frame_samples as f64 * 1_000.0 / (f64::from(rate_hz) * (1.0 + fast_ppm / 1e6));
    let (mut made, mut last_end, mut stretches) = (0.0, 0, false);
    for frame in 0..(DAY_MS / frame_ms) as u64 {
        let at_ms = frame as f64 * frame_ms;
        let given_ticks = at_ms.round() as i64 * TICKS_PER_MS;
        let before = f64::floor(made);
        made += frame_samples as f64 * ratio;
        let samples = (made.floor() - before) as usize;
        let place = count.place(given_ticks, samples);
        let end = count.end_ticks().unwrap();
        let start = match place {
            Place::Stretched(by) => {
                assert_eq!(by.unsigned_abs(), (samples as u64 / 1_000).max(1), "by a thousandth");
                day.stretched_frames += 1;
                day.stretches += u64::from(!stretches);
                day.stretched_ticks += by.abs();
                end - samples as i64 - by
            }
            Place::Joined => end - samples as i64,
            _ => {
                day.others += 1;
                end - samples as i64
            }
        };
        stretches = matches!(place, Place::Stretched(_));
        assert!(frame == 0 || start == last_end, "{place:?}: never back, and without a hole");
        last_end = end;
        let off_ms = start as f64 / TICKS_PER_MS as f64 - at_ms;
        day.largest_off_ms = day.largest_off_ms.max(off_ms.abs());
    }
    day
}

#[test]
fn a_day_of_sound_from_another_clock_stays_at_its_time() {
    for (frame_samples, rate_hz) in [(1_024, 48_000), (1_024, 44_100), (2_048, 48_000)] {
        for fast_ppm in [50.0, -50.0] {
            let day = day(frame_samples, rate_hz, fast_ppm);
            assert!(day.largest_off_ms < 12.0, "{day:?}");
            assert_eq!(day.others, 1, "the beginning: nothing else is ever left out or silent");
            // 4.32 s are made good, in stretches of some seconds every three minutes.
            assert!((200_000..210_000).contains(&day.stretched_ticks), "{day:?}");
            assert!(day.stretches < 500, "{day:?}");
        }
    }
}

#[test]
fn clocks_that_agree_are_left_alone() {
    let day = day(1_024, 44_100, 0.0);
    assert_eq!((day.stretched_frames, day.others), (0, 1));
    assert!(day.largest_off_ms < 1.1, "{day:?}");
}

#[test]
fn what_stretching_cannot_follow_is_a_step() {
    let mut count = SampleCount::default();
    assert_eq!(count.place(0, 960), Place::AfterGap);
    assert_eq!(count.place(960, 960), Place::Joined);
    assert_eq!(count.place(1_920 + STEP_AT_ONCE_TICKS, 960), Place::AfterGap);
    assert_eq!(count.place(1_920, 960), Place::LeftOut);
    // 100 ms ahead, on average in a few frames.
    let end = count.end_ticks().unwrap();
    let ahead = 100 * TICKS_PER_MS;
    let places: Vec<_> = (0..10).map(|frame| count.place(end + frame * 960 + ahead, 960)).collect();
    let silence = places.iter().find_map(|place| match place {
        Place::AfterSilence(samples) => Some(*samples),
        _ => None,
    });
    assert!(silence.is_some_and(|samples| (ahead - 10..=ahead).contains(&samples)), "{places:?}");
    assert_eq!(count.end_ticks(), Some(end + 10 * 960 + ahead));
}
