//! Which smaller sizes a stream's pictures are made in.

use std::sync::Arc;

use super::arguments::Target;
use crate::{codec::PictureSize, config::Rung};

/// The rungs that are smaller than pictures of this size, with their names, in the ladder's order. The shape is kept, upright or not; sides
/// are even, as encoders of 4:2:0 want them.
pub(super) fn smaller(ladder: &[Rung], size: PictureSize) -> Vec<(Arc<str>, Target)> {
    let PictureSize { width, height } = size;
    let short = width.min(height);
    let of_rung = |rung: &Rung| {
        let scaled = |side: u32| {
            let half = f64::from(side) * f64::from(rung.short_side) / f64::from(short) / 2.0;
            (half.round() as u32).max(1) * 2
        };
        let size = PictureSize { width: scaled(width), height: scaled(height) };
        let bitrate_bps = rung.bitrate_kbps.map(|kbps| u64::from(kbps) * 1_000);
        (rung.name().into(), Target::Smaller { size, bitrate_bps })
    };
    ladder.iter().filter(|rung| rung.short_side < short).map(of_rung).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sizes(ladder: &[&str], width: u32, height: u32) -> Vec<(u32, u32)> {
        let ladder: Vec<Rung> = ladder.iter().map(|rung| rung.parse().unwrap()).collect();
        let made = smaller(&ladder, PictureSize { width, height });
        made.iter()
            .map(|(_, target)| match target {
                Target::Smaller { size, .. } => (size.width, size.height),
                Target::Same => panic!("a rung is smaller"),
            })
            .collect()
    }

    #[test]
    fn rungs_are_smaller_and_of_the_same_shape() {
        let ladder = ["720p", "480p 900k", "240p"];
        assert_eq!(sizes(&ladder, 1_920, 1_080), [(1_280, 720), (854, 480), (426, 240)]);
        assert_eq!(sizes(&ladder, 1_280, 720), [(854, 480), (426, 240)]);
        assert_eq!(sizes(&ladder, 720, 1_280), [(480, 854), (240, 426)], "upright");
        assert_eq!(sizes(&ladder, 320, 240), [], "nothing is smaller");
        let named = smaller(&["480p 900k".parse().unwrap()], PictureSize { width: 1_280, height: 720 });
        let size = PictureSize { width: 854, height: 480 };
        assert_eq!(named, [("480p".into(), Target::Smaller { size, bitrate_bps: Some(900_000) })]);
    }
}
