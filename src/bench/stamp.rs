//! The synthetic video stream: access units shaped like H.264 (ITU-T H.264 section 7.3) whose slices carry the time they
//! were sent, over and over, so that whatever packet they end up in tells its age. No decoder will show them.

use std::time::{Duration, Instant};

/// 1280x720, constrained baseline, level 3.1, picture order type 2: no reordering.
pub const SPS: [u8; 9] = [0x67, 0x42, 0xe0, 0x1f, 0xda, 0x01, 0x40, 0x16, 0xe4];
pub const PPS: [u8; 4] = [0x68, 0xce, 0x3c, 0x80];
/// NAL header and the beginning of a slice header: an I slice of an IDR picture, a P slice that others refer to.
const IDR_SLICE: [u8; 3] = [0x65, 0x88, 0x84];
const P_SLICE: [u8; 3] = [0x41, 0x9a, 0x24];

const MAGIC: &[u8; 8] = b"SluiceTs";
/// Magic, time in nanoseconds and record number as hexadecimal digits: no byte needs H.264's emulation prevention.
const RECORD_BYTES: usize = 8 + 16 + 8;
/// How many times a P picture a keyframe is; about what encoders make of moving pictures.
const KEYFRAME_WEIGHT: f64 = 5.0;

/// Shape of the stream that is published.
#[derive(Debug, Clone, Copy)]
pub struct StreamShape {
    pub kbps: u32,
    pub fps: u32,
    /// Pictures from one keyframe to the next.
    pub gop_frames: u32,
}

/// Makes the pictures of a stream, stamped.
#[derive(Debug)]
pub struct Pictures {
    shape: StreamShape,
    /// Stamps count from here.
    epoch: Instant,
    made: u64,
    keyframe_wanted: bool,
}

/// One picture: NAL units without start codes.
#[derive(Debug, Clone)]
pub struct Picture {
    pub keyframe: bool,
    pub slice: Vec<u8>,
}

impl Pictures {
    pub fn new(shape: StreamShape, epoch: Instant) -> Self {
        Self { shape, epoch, made: 0, keyframe_wanted: true }
    }

    pub fn request_keyframe(&mut self) {
        self.keyframe_wanted = true;
    }

    pub fn interval(&self) -> Duration {
        Duration::from_secs(1) / self.shape.fps.max(1)
    }

    /// The next picture, sent at `now`.
    pub fn next(&mut self, now: Instant) -> Picture {
        let number = self.made;
        self.made += 1;
        let keyframe =
            std::mem::take(&mut self.keyframe_wanted) || number.is_multiple_of(self.shape.gop_frames.max(1).into());
        let mut slice = if keyframe { IDR_SLICE.to_vec() } else { P_SLICE.to_vec() };
        let stamp = now.saturating_duration_since(self.epoch).as_nanos() as u64;
        for record in 0..self.slice_bytes(keyframe) / RECORD_BYTES {
            slice.extend_from_slice(MAGIC);
            slice.extend_from_slice(format!("{stamp:016x}{record:08x}").as_bytes());
        }
        Picture { keyframe, slice }
    }

    /// Keyframes and others together make the bitrate.
    fn slice_bytes(&self, keyframe: bool) -> usize {
        let gop = f64::from(self.shape.gop_frames.max(1));
        let gop_bytes = f64::from(self.shape.kbps) * 125.0 * gop / f64::from(self.shape.fps.max(1));
        let unit = gop_bytes / (gop - 1.0 + KEYFRAME_WEIGHT);
        (if keyframe { unit * KEYFRAME_WEIGHT } else { unit }) as usize
    }
}

/// When the picture in this payload was sent, since the epoch; `None` where no whole record is in it.
pub fn read(payload: &[u8]) -> Option<Duration> {
    // A record starts within the first two records' length, if the payload holds any.
    let head = payload.get(..payload.len().min(4 * RECORD_BYTES))?;
    let at = head.windows(MAGIC.len()).position(|window| window == MAGIC)?;
    let digits = head.get(at + MAGIC.len()..at + MAGIC.len() + 16)?;
    let stamp = u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
    Some(Duration::from_nanos(stamp))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::media::testing::epoch;

    const SHAPE: StreamShape = StreamShape { kbps: 2_000, fps: 30, gop_frames: 60 };

    #[test]
    fn every_piece_of_a_picture_tells_when_it_was_sent() {
        let mut pictures = Pictures::new(SHAPE, epoch());
        let sent = Duration::from_millis(1_234);
        let picture = pictures.next(epoch() + sent);
        for piece in picture.slice.chunks(700) {
            assert_eq!(read(piece).unwrap_or(sent), sent);
            assert!(read(piece).is_some() || piece.len() < 2 * RECORD_BYTES);
        }
        assert_eq!(read(b"SluiceTs00"), None);
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn the_bitrate_and_the_keyframe_interval_are_kept() {
        let mut pictures = Pictures::new(SHAPE, epoch());
        let (mut bytes, mut keyframes) = (0, 0);
        for _ in 0..300 {
            let picture = pictures.next(epoch());
            bytes += picture.slice.len();
            keyframes += u32::from(picture.keyframe);
        }
        assert_eq!(keyframes, 5);
        let kbps = bytes * 8 / 10 / 1_000;
        assert!((1_950..=2_000).contains(&kbps), "{kbps} kb/s");
        pictures.request_keyframe();
        assert!(!pictures.slice_bytes(true).eq(&0));
        assert!(pictures.next(epoch()).keyframe);
        assert!(!pictures.next(epoch()).keyframe);
    }
}
