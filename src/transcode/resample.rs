//! Stereo sound at any rate becomes stereo sound at 48 kHz.

use rubato::{
    Async, FixedAsync, Resampler, SincInterpolationParameters, SincInterpolationType, WindowFunction,
    audioadapter_buffers::direct::InterleavedSlice,
};

use super::TranscodeError;
use crate::codec::opus::CLOCK_HZ;

/// Taps of the interpolation filter: flat to 18 kHz at 44.1 kHz, and a delay of half of it, 0.7 ms.
const FILTER_TAPS: usize = 64;
/// Filters that are made: 160 KB of them, as many as the standard rates need at the most.
const FILTERS_MAX: u32 = 640;
pub(super) const CHANNELS: usize = 2;

/// Bound to one input rate and block size.
pub(super) enum ToFortyEight {
    Same,
    Other { resampler: Box<Async<f32>>, delay_samples: i64, out: Vec<f32> },
}

impl ToFortyEight {
    pub(super) fn new(rate_hz: u32, block_samples: usize) -> Result<Self, TranscodeError> {
        if rate_hz == CLOCK_HZ {
            return Ok(Self::Same);
        }
        let ratio = f64::from(CLOCK_HZ) / f64::from(rate_hz);
        let (filters, interpolation) = filters(rate_hz);
        let parameters = SincInterpolationParameters::new(FILTER_TAPS, WindowFunction::BlackmanHarris2)
            .oversampling_factor(filters as usize)
            .interpolation(interpolation);
        let resampler = Async::new_sinc(ratio, 1.0, &parameters, block_samples, CHANNELS, FixedAsync::Input)
            .map_err(|error| TranscodeError::Resampler(error.to_string()))?;
        let delay_samples = resampler.output_delay() as i64;
        let out = vec![0.0; resampler.output_frames_max() * CHANNELS];
        Ok(Self::Other { resampler: Box::new(resampler), delay_samples, out })
    }

    /// Samples per channel at 48 kHz by which the output is behind the input.
    pub(super) fn delay_samples(&self) -> i64 {
        match self {
            Self::Same => 0,
            Self::Other { delay_samples, .. } => *delay_samples,
        }
    }

    /// Takes one block, interleaved, and appends what comes out of it to `to`.
    pub(super) fn process(&mut self, block: &[f32], to: &mut Vec<f32>) -> Result<(), TranscodeError> {
        let Self::Other { resampler, out, .. } = self else {
            to.extend_from_slice(block);
            return Ok(());
        };
        let size = |error: &dyn std::fmt::Display| TranscodeError::Resampler(error.to_string());
        let frames = out.len() / CHANNELS;
        let input = InterleavedSlice::new(block, CHANNELS, block.len() / CHANNELS).map_err(|e| size(&e))?;
        let mut output = InterleavedSlice::new_mut(&mut out[..], CHANNELS, frames).map_err(|e| size(&e))?;
        let (_, made) = resampler.process_into_buffer(&input, &mut output, None).map_err(|e| size(&e))?;
        to.extend_from_slice(&out[..made * CHANNELS]);
        Ok(())
    }
}

/// Makes the samples from the `from`th value on longer by so many, or shorter, with each of them moved by the same share: their beginning
/// and end go on as those of the neighbours. Between samples a cubic goes through the four nearest.
pub(super) fn stretch(values: &mut Vec<f32>, from: usize, by: i64) {
    let old = values.split_off(from);
    let samples = old.len() / CHANNELS;
    let wanted = samples.saturating_add_signed(by as isize);
    let Some(last) = samples.checked_sub(1) else { return };
    for at in 0..wanted {
        let (index, part) = (at * samples / wanted, (at * samples % wanted) as f32 / wanted as f32);
        let near = [index.saturating_sub(1), index, (index + 1).min(last), (index + 2).min(last)];
        for channel in 0..CHANNELS {
            let [a, b, c, d] = near.map(|sample| old.get(sample * CHANNELS + channel).copied().unwrap_or_default());
            let (first, second, third) = (c - a, 2.0 * a - 5.0 * b + 4.0 * c - d, 3.0 * (b - c) + d - a);
            values.push(b + part / 2.0 * (first + part * (second + part * third)));
        }
    }
}

/// How many, and what to do between them. Between two input samples there are so many places where an output sample can lie: with a filter for each
/// of them (640 for 11,025 Hz) nothing is left to interpolate. Publishers can write out any rate, though, and at most there are places by the
/// ten thousand.
fn filters(rate_hz: u32) -> (u32, SincInterpolationType) {
    match CLOCK_HZ / gcd(CLOCK_HZ, rate_hz) {
        places @ ..=FILTERS_MAX => (places, SincInterpolationType::Nearest),
        _ => (FILTERS_MAX, SincInterpolationType::Cubic),
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretched_samples_are_the_same_sound_a_little_longer_or_shorter() {
        let tone = |at: f64| (at * 1_000.0 / f64::from(CLOCK_HZ) * std::f64::consts::TAU).sin();
        for by in [1, -1, 2] {
            let mut values: Vec<f32> = (0..2_048).flat_map(|at| [tone(f64::from(at)) as f32, 0.5]).collect();
            stretch(&mut values, 1_024 * CHANNELS, by);
            let wanted = 1_024 + by;
            assert_eq!(values.len(), (1_024 + wanted as usize) * CHANNELS);
            for (at, pair) in values.chunks(CHANNELS).enumerate() {
                let within = (at as f64 - 1_024.0).max(0.0);
                let is_at = if at < 1_024 { at as f64 } else { 1_024.0 + within * 1_024.0 / wanted as f64 };
                // 60 dB below the tone, that is.
                assert!((f64::from(pair[0]) - tone(is_at)).abs() < 0.001, "{by}: {at}");
                assert!((pair[1] - 0.5).abs() < 1e-6, "{by}: {at}");
            }
        }
    }

    #[test]
    fn no_rate_needs_more_filters_than_the_standard_ones() {
        for (rate_hz, needed) in [(96_000, 1), (44_100, 160), (22_050, 320), (11_025, 640), (8_000, 6), (7_350, 320)] {
            let (filters, interpolation) = filters(rate_hz);
            assert_eq!((filters, matches!(interpolation, SincInterpolationType::Nearest)), (needed, true), "{rate_hz}");
        }
        for rate_hz in 7_000..=96_000 {
            assert!(filters(rate_hz).0 <= FILTERS_MAX, "{rate_hz}");
        }
    }

    #[test]
    fn a_tone_at_any_rate_is_the_same_tone() {
        const BLOCK: usize = 1_024;
        for rate_hz in [44_100, 47_999, 44_101, 11_027, 95_999] {
            let tone = |at: f64, rate_hz: u32| (at * 1_000.0 / f64::from(rate_hz) * std::f64::consts::TAU).sin();
            let mut resampler = ToFortyEight::new(rate_hz, BLOCK).unwrap();
            let mut made = Vec::new();
            for block in 0..16 {
                let samples = (block * BLOCK..(block + 1) * BLOCK).map(|at| tone(at as f64, rate_hz) as f32);
                let block: Vec<_> = samples.flat_map(|sample| [sample; CHANNELS]).collect();
                resampler.process(&block, &mut made).unwrap();
            }
            // From the largest at two places a quarter of a period apart follow size and phase, whatever the delay is exactly.
            let pairs: Vec<_> = made.chunks(CHANNELS).map(|pair| f64::from(pair[0])).collect();
            let whole = &pairs[1_000..pairs.len() - 200];
            for (at, pair) in whole.windows(13).enumerate() {
                let power = pair[0].powi(2) + pair[12].powi(2);
                assert!((power - 1.0).abs() < 0.002, "{rate_hz}: {power} at {at}");
            }
        }
    }
}
