//! How large the pictures are, read from the first packet of a keyframe. For people: nothing is decided by it.

use super::{av1, h264::depacketize, hevc, vp8, vp9};
use crate::media::Codec;

/// Width and height in samples, as a player shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PictureSize {
    pub width: u32,
    pub height: u32,
}

/// The size that an RTP payload names; `None` where it names none, as the payloads between keyframes do.
pub fn picture_size(codec: Codec, payload: &[u8]) -> Option<PictureSize> {
    match codec {
        Codec::H264 => depacketize::picture_size(payload),
        Codec::Hevc => hevc::picture_size(payload),
        Codec::Vp8 => vp8::picture_size(payload),
        Codec::Vp9 => vp9::picture_size(payload),
        Codec::Av1 => av1::picture_size(payload),
        Codec::Opus => None,
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    #[test]
    fn no_payload_makes_a_parser_panic() {
        let mut random = StdRng::seed_from_u64(1);
        // Beginnings that lead somewhere.
        let beginnings: [&[u8]; 8] = [
            &[0x42, 0x01, 0x01, 0x01, 0x60],
            &[0x60, 0x01, 0, 40, 0x42, 0x01, 0x05],
            &[0x67, 0x42, 0xc0, 0x1e],
            &[0x78, 0, 30, 0x67, 0x64],
            &[0x10, 0xf0, 0xc6, 0, 0x9d, 1, 0x2a],
            &[0x8a, 5, 0x30],
            &[0x08, 0x82, 0x49, 0x83, 0x42],
            &[0x18, 0x0a, 0x0b],
        ];
        for round in 0..60_000 {
            let mut payload = beginnings[round % beginnings.len()].to_vec();
            payload.extend((0..random.random_range(0..60)).map(|_| random.random::<u8>()));
            if random.random_bool(0.5) {
                let at = random.random_range(0..payload.len());
                payload[at] = random.random();
            }
            for codec in [Codec::H264, Codec::Hevc, Codec::Vp8, Codec::Vp9, Codec::Av1] {
                picture_size(codec, &payload);
            }
        }
    }
}
