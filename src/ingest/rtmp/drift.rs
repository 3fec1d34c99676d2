//! How the times of sound and pictures drift apart, by their arrival.
//!
//! Encoders that count samples for the sound's times, and take a system clock for the pictures', let lips and voice drift apart by what the
//! two clocks differ: 50 ppm are 4.3 s a day. Both come in real time, over one connection, so how much later than its time each lane comes at
//! the least says how far its times have gone away. What networks and stalls do, they do to both lanes.
//!
//! It is no more than a suspicion until it looks like two clocks: a straight line through ten stretches of half a minute. What changes
//! in a step (an encoder that buffers more, a sender that sets its times right) is the sender's word, and is believed. So is what the lanes
//! are apart in the beginning. Sans-I/O.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::clock::Lane;

/// A stretch whose least delayed messages count: longer than networks jitter and connections stall.
const STRETCH: Duration = Duration::from_secs(30);
/// Messages of each lane without which a stretch says nothing.
const MESSAGES_LEAST: u32 = 10;
/// Stretches that a line is drawn through: five minutes.
const POINTS: usize = 10;
/// A stretch this far from the line, 6 ms, and it is none.
const NEAR_US: i64 = 6_000;
/// A difference from where the lines would go on, 10 ms, that is a step.
const STEP_US: i64 = 10_000;
/// Two clocks do not differ by more: 500 ppm. Quartzes are off by 100 at the most, poor ones by 200.
const SLOPE_MAX: f64 = 500e-6;
/// What is found is followed when it has moved by this much, 15 ms: lips may be off by 40, of which sound takes 10.
const FOLLOW_US: i64 = 15_000;
/// Pictures are moved by 1/1000 of the time that passes, 1 ms a second...
const SLEW_SHARE: i64 = 1_000;
/// ...but at once, after times jumped, and the new ones begin without the drift of the old ones.
const AT_ONCE_US: i64 = 100_000;

/// See the module. Times are microseconds; positive is sound that falls behind.
#[derive(Debug, Default)]
pub struct Drift {
    begun: Option<Instant>,
    stretch: Option<Stretch>,
    points: VecDeque<Point>,
    line: Option<Line>,
    base: Option<Base>,
    found_us: i64,
    corrected_us: i64,
    slewed: Option<Instant>,
    /// Times jumped, and it is not known yet whether the drift stayed.
    jumped: bool,
}

#[derive(Debug)]
struct Stretch {
    since: Instant,
    /// Of each lane, how much later than its time the least delayed message came, and how many came.
    least_us: [i64; 2],
    messages: [u32; 2],
}

/// How much later sound came than pictures of the same time, by the end of a stretch.
#[derive(Debug, Clone, Copy)]
struct Point {
    at_us: i64,
    apart_us: i64,
}

/// The first and the last point of the straight line that points lie on.
#[derive(Debug, Clone, Copy)]
struct Line {
    first: Point,
    last: Point,
}

/// What the lanes are apart without drift, and since when they drift.
#[derive(Debug, Clone, Copy)]
struct Base {
    apart_us: i64,
    since_us: i64,
}

impl Base {
    /// Where the lanes will be, if they go on to drift as they did up to that point.
    fn expected_us(self, last: Point, at_us: i64) -> i64 {
        let drifted_us = i128::from(last.apart_us - self.apart_us);
        let (passed_us, measured_us) = (at_us - last.at_us, last.at_us - self.since_us);
        last.apart_us + (drifted_us * i128::from(passed_us) / i128::from(measured_us.max(1))) as i64
    }
}

impl Drift {
    /// A message with this time of the media clock, not corrected, arrived now.
    pub fn observe(&mut self, now: Instant, lane: Lane, time_ms: i64) {
        let begun = *self.begun.get_or_insert(now);
        let at_us = now.saturating_duration_since(begun).as_micros() as i64;
        let late_us = at_us - time_ms * 1_000;
        if let Some(stretch) = self.stretch.take_if(|stretch| now >= stretch.since + STRETCH) {
            let [pictures, sound] = [Lane::Video, Lane::Audio].map(|lane| lane as usize);
            if stretch.messages.iter().all(|messages| *messages >= MESSAGES_LEAST) {
                self.take(Point { at_us, apart_us: stretch.least_us[sound] - stretch.least_us[pictures] });
            }
        }
        let empty = Stretch { since: now, least_us: [i64::MAX; 2], messages: [0; 2] };
        let stretch = self.stretch.get_or_insert(empty);
        let at = lane as usize;
        stretch.least_us[at] = stretch.least_us[at].min(late_us);
        stretch.messages[at] += 1;
    }

    /// A lane goes on on another timeline: what was measured says nothing about that one.
    pub fn changed(&mut self) {
        self.stretch = None;
        self.points.clear();
        self.line = None;
        self.jumped = true;
    }

    /// What is to be taken off the pictures' times.
    pub fn correction_ms(&mut self, now: Instant) -> i64 {
        let left_us = self.found_us - self.corrected_us;
        let since = self.slewed.map_or(Duration::ZERO, |last| now.saturating_duration_since(last));
        let most_us = since.as_micros() as i64 / SLEW_SHARE;
        if most_us > 0 || self.slewed.is_none() || left_us == 0 {
            self.slewed = Some(now);
        }
        self.corrected_us += if left_us.abs() > AT_ONCE_US { left_us } else { left_us.clamp(-most_us, most_us) };
        (self.corrected_us + 500).div_euclid(1_000)
    }

    /// By how much the sound's times have fallen behind so far.
    pub fn found_ms(&self) -> i64 {
        self.found_us / 1_000
    }

    fn take(&mut self, point: Point) {
        if std::mem::take(&mut self.jumped) {
            self.begin_anew(point);
        }
        if self.points.len() == POINTS {
            self.points.pop_front();
        }
        self.points.push_back(point);
        let Some(line) = line_through(&self.points) else { return };
        let before = self.line.replace(line);
        let base = self.base.get_or_insert(Base { apart_us: line.first.apart_us, since_us: line.first.at_us });
        if let Some(before) = before {
            let step_us = line.last.apart_us - base.expected_us(before.last, line.last.at_us);
            base.apart_us += if step_us.abs() > STEP_US { step_us } else { 0 };
        }
        let drifted_us = line.last.apart_us - base.apart_us;
        if (drifted_us - self.found_us).abs() > FOLLOW_US {
            self.found_us = drifted_us;
        }
    }

    /// The first stretch after a jump: the new times have the drift of the old ones, or begin without.
    fn begin_anew(&mut self, point: Point) {
        let Some(base) = &mut self.base else { return };
        let drifted_us = point.apart_us - base.apart_us;
        if drifted_us.abs() < (drifted_us - self.found_us).abs() {
            (self.found_us, base.since_us) = (0, point.at_us);
        }
        base.apart_us = point.apart_us - self.found_us;
    }
}

/// By least squares; none while there are too few points, or one is too far from it.
fn line_through(points: &VecDeque<Point>) -> Option<Line> {
    let (first, last) = (points.front()?, points.back()?);
    if points.len() < POINTS {
        return None;
    }
    let count = points.len() as f64;
    let x = |point: &Point| (point.at_us - first.at_us) as f64;
    let y = |point: &Point| (point.apart_us - first.apart_us) as f64;
    let mean_x = points.iter().map(x).sum::<f64>() / count;
    let mean_y = points.iter().map(y).sum::<f64>() / count;
    let both: f64 = points.iter().map(|point| (x(point) - mean_x) * (y(point) - mean_y)).sum();
    let square: f64 = points.iter().map(|point| (x(point) - mean_x).powi(2)).sum();
    let slope = both / square.max(1.0);
    let on_line = |point: &Point| first.apart_us + (mean_y + slope * (x(point) - mean_x)) as i64;
    let is_near = points.iter().all(|point| (point.apart_us - on_line(point)).abs() <= NEAR_US);
    let end = |point: &Point| Point { apart_us: on_line(point), ..*point };
    (is_near && slope.abs() <= SLOPE_MAX).then(|| Line { first: end(first), last: end(last) })
}

#[cfg(test)]
#[path = "drift_tests.rs"]
mod tests;
