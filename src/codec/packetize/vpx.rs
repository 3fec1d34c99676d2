//! Frames of VP8 (RFC 7741) and VP9 (RFC 9628) become RTP payloads of equal size, but the last.
//!
//! Descriptors say no more than receivers need that have all of a stream: where a frame begins and ends, whether it refers to others, and
//! a picture id of 15 bits. There are no layers.

use bytes::{BufMut, Bytes, BytesMut};

use super::PAYLOAD_MAX_BYTES;

/// Flags, and the picture id with what announces it.
const VP8_DESCRIPTOR_BYTES: usize = 4;
const VP9_DESCRIPTOR_BYTES: usize = 3;
/// Says that the picture id has 15 bits.
const LONG_ID: u16 = 0x8000;

/// Of a VP8 frame; `number` counts pictures.
pub fn packetize_vp8(frame: &[u8], number: u64) -> Vec<Bytes> {
    const EXTENDED: u8 = 0x80;
    const STARTS_PARTITION: u8 = 0x10;
    const HAS_PICTURE_ID: u8 = 0x80;
    cut(frame, VP8_DESCRIPTOR_BYTES, |first, _, payload| {
        payload.put_u8(EXTENDED | if first { STARTS_PARTITION } else { 0 });
        payload.put_u8(HAS_PICTURE_ID);
        payload.put_u16(number as u16 | LONG_ID);
    })
}

/// Of a VP9 frame, or superframe; `number` counts pictures.
pub fn packetize_vp9(frame: &[u8], keyframe: bool, number: u64) -> Vec<Bytes> {
    const HAS_PICTURE_ID: u8 = 0x80;
    const PREDICTED: u8 = 0x40;
    const BEGINS: u8 = 0x08;
    const ENDS: u8 = 0x04;
    cut(frame, VP9_DESCRIPTOR_BYTES, |first, last, payload| {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        payload.put_u8(HAS_PICTURE_ID | flag(!keyframe, PREDICTED) | flag(first, BEGINS) | flag(last, ENDS));
        payload.put_u16(number as u16 | LONG_ID);
    })
}

/// `describe` writes the descriptor of a piece, which may be the first, and the last.
fn cut(frame: &[u8], descriptor_bytes: usize, describe: impl Fn(bool, bool, &mut BytesMut)) -> Vec<Bytes> {
    let count = frame.len().div_ceil(PAYLOAD_MAX_BYTES - descriptor_bytes);
    let piece_bytes = frame.len().div_ceil(count.max(1)).max(1);
    let mut buffer = BytesMut::with_capacity(frame.len() + count * descriptor_bytes);
    let mut payloads = Vec::with_capacity(count);
    let mut pieces = frame.chunks(piece_bytes).peekable();
    while let Some(piece) = pieces.next() {
        describe(payloads.is_empty(), pieces.peek().is_none(), &mut buffer);
        buffer.put_slice(piece);
        payloads.push(buffer.split().freeze());
    }
    payloads
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{depacketize::Vp9Pictures, vp8, vp9};

    /// libvpx, 640 x 360, and what follows in a frame.
    fn vp9_keyframe(bytes: usize) -> Bytes {
        let mut frame = vec![0x82, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16, 0x76, 0x04];
        frame.resize(bytes, 0xa5);
        frame.into()
    }

    #[test]
    fn vp9_frames_come_back_whole() {
        for bytes in [10, 1_139, 1_140, 5_000, 100_000] {
            let frame = vp9_keyframe(bytes);
            let payloads = packetize_vp9(&frame, true, 40_000);
            assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_MAX_BYTES));
            assert!(payloads[0].len() - payloads[payloads.len() - 1].len() < payloads.len());
            assert!(vp9::starts_keyframe(&payloads[0]) && !payloads[1..].iter().any(|rest| vp9::starts_keyframe(rest)));
            let picture = Vp9Pictures::default().of_payloads(&payloads).unwrap();
            assert!(picture.keyframe);
            assert_eq!(picture.data, frame, "{bytes}");
        }
        assert!(!vp9::starts_keyframe(&packetize_vp9(&[0x86, 1, 2], false, 1)[0]));
        assert!(packetize_vp9(&[], true, 1).is_empty());
    }

    #[test]
    fn vp8_frames_come_back_whole() {
        for bytes in [10, 1_138, 1_139, 5_000] {
            let mut frame = vec![0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1];
            frame.resize(bytes, 0xa5);
            let payloads = packetize_vp8(&frame, 0x9234);
            let whole: Vec<u8> =
                payloads.iter().flat_map(|payload| &payload[VP8_DESCRIPTOR_BYTES..]).copied().collect();
            assert_eq!(whole, frame);
            assert!(vp8::starts_keyframe(&payloads[0]));
            assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_MAX_BYTES));
            assert_eq!(vp8::PictureNumbers::of(&payloads[0]).unwrap().picture_id, 0x1234, "15 bits of it");
        }
    }
}
