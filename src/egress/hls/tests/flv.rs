//! What ffmpeg sends over RTMP (`tests/fixtures/flv`, see the README there), as the frame lane has it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;

use crate::{
    media::{AccessUnit, testing::epoch},
    track::{Original, OriginalFormat},
};

/// The media clock at the first message.
pub const START_MS: u64 = 60_000;

/// All units, in the file's order, each at its time.
pub fn originals(flv: &'static [u8]) -> Vec<Original> {
    let flv = Bytes::from_static(flv);
    let mut at = 13;
    let mut formats: [Option<Arc<OriginalFormat>>; 2] = [None, None];
    let mut originals = Vec::new();
    while at + 11 < flv.len() {
        let number =
            |at: usize, bytes: usize| flv[at..at + bytes].iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let (kind, length, time_ms) = (flv[at], number(at + 1, 3) as usize, number(at + 4, 3));
        let body = flv.slice(at + 11..at + 11 + length);
        at += 11 + length + 4;
        let mut unit = |format: &Option<Arc<OriginalFormat>>, composition: i32, keyframe, data| {
            let decode_time_ticks = START_MS + time_ms;
            originals.push(Original {
                number: originals.len() as u64 + 1,
                format: format.clone().unwrap(),
                arrival: at_ms(time_ms),
                unit: AccessUnit { decode_time_ticks, composition_offset_ticks: composition, keyframe, data },
            });
        };
        match (kind, body.get(1)) {
            (9, Some(0)) => formats[0] = Some(Arc::new(OriginalFormat::Avc(body.slice(5..)))),
            (9, Some(1)) => {
                let composition = i32::from_be_bytes([body[2], body[3], body[4], 0]) >> 8;
                unit(&formats[0], composition, body[0] >> 4 == 1, body.slice(5..));
            }
            (8, Some(0)) => formats[1] = Some(Arc::new(OriginalFormat::Aac(body.slice(2..)))),
            (8, Some(1)) => unit(&formats[1], 0, true, body.slice(2..)),
            _ => {}
        }
    }
    originals
}

pub fn at_ms(ms: u64) -> Instant {
    epoch() + Duration::from_millis(ms)
}
