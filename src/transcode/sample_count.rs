//! Where decoded samples lie on the media clock. Frames come with the publisher's times, samples are counted; this says how the two are kept
//! together. It touches no sample: whoever has them does what [`Place`] says. Sans-I/O.
//!
//! Times from RTMP are rounded to milliseconds, so they are followed on average. Where the publisher's sample clock runs faster or slower
//! than the clock of its times, a frame is made longer or shorter by a thousandth until the two agree again: nobody hears it. A step is made
//! only when the times have moved away for good.

use crate::codec::opus::CLOCK_HZ;

const TICKS_PER_MS: i64 = CLOCK_HZ as i64 / 1_000;
/// Ticks by which counted and given times may differ, on average over some frames, before frames are stretched: 10 ms. Less is the rounding
/// and the jitter of times.
const STRETCH_FROM_TICKS: i64 = 10 * TICKS_PER_MS;
/// They are stretched until this little is left, 1 ms.
const STRETCH_UNTIL_TICKS: i64 = TICKS_PER_MS;
/// A frame is stretched by this share of it: 1.7 cents of pitch, and 1 ms a second.
const STRETCH_SHARE: i64 = 1_000;
/// Beyond this difference, on average, stretching does not keep up, and a step is made: 30 ms. Less cannot be heard against a picture.
const STEP_TICKS: i64 = 30 * TICKS_PER_MS;
/// A difference that is followed at once: 200 ms; frames were lost, or the timeline changed.
const STEP_AT_ONCE_TICKS: i64 = 200 * TICKS_PER_MS;
/// Weight of a new difference in the average.
const DRIFT_SHARE: i64 = 16;

/// What is to be done with a frame's samples.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// They follow those before.
    Joined,
    /// They follow those before, made longer by so many samples; shorter where it is negative.
    Stretched(i64),
    /// So many samples of silence go before them.
    AfterSilence(i64),
    /// They begin anew; what waits for a whole packet is let go.
    AfterGap,
    /// They are for a time that has been played: they are left out until the times have caught up.
    LeftOut,
}

/// See the module.
#[derive(Debug, Default)]
pub struct SampleCount {
    /// Where the samples so far end, in ticks of 48 kHz, once there are any.
    end_ticks: Option<i64>,
    drift_ticks: i64,
    stretches: bool,
}

impl SampleCount {
    /// A frame of so many samples (at 48 kHz) came, and is to begin at the given time.
    pub fn place(&mut self, given_ticks: i64, samples: usize) -> Place {
        let samples = samples as i64;
        let Some(end) = self.end_ticks else { return self.begin(given_ticks + samples, Place::AfterGap) };
        let ahead = given_ticks - end;
        self.drift_ticks += (ahead - self.drift_ticks) / DRIFT_SHARE;
        if ahead.abs() >= STEP_AT_ONCE_TICKS || self.drift_ticks.abs() >= STEP_TICKS {
            return match ahead {
                ..0 => self.begin(end, Place::LeftOut),
                0..STEP_AT_ONCE_TICKS => self.begin(given_ticks + samples, Place::AfterSilence(ahead)),
                // Below 20 ms of sound before a gap ten times as long are let go.
                _ => self.begin(given_ticks + samples, Place::AfterGap),
            };
        }
        let least = if self.stretches { STRETCH_UNTIL_TICKS } else { STRETCH_FROM_TICKS };
        self.stretches = self.drift_ticks.abs() >= least;
        let stretch = if self.stretches { self.drift_ticks.signum() * (samples / STRETCH_SHARE).max(1) } else { 0 };
        self.end_ticks = Some(end + samples + stretch);
        if stretch == 0 { Place::Joined } else { Place::Stretched(stretch) }
    }

    fn begin(&mut self, end_ticks: i64, place: Place) -> Place {
        *self = Self { end_ticks: Some(end_ticks), drift_ticks: 0, stretches: false };
        place
    }

    /// Where the samples end that were not left out.
    pub fn end_ticks(&self) -> Option<i64> {
        self.end_ticks
    }
}

#[cfg(test)]
#[path = "sample_count_tests.rs"]
mod tests;
