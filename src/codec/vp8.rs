//! VP8 in RTP (RFC 7741): where keyframes begin, and how large they are. In: an RTP payload. It does not reassemble frames.

use super::PictureSize;

/// True for the first packet of a keyframe: the start of partition 0 (RFC 7741 section 4.2), with the inverse key frame
/// flag of the frame header clear (section 4.3).
pub fn starts_keyframe(payload: &[u8]) -> bool {
    frame(payload).and_then(|frame| frame.first()).is_some_and(|header| header & 0x01 == 0)
}

/// The size in a keyframe's header (RFC 6386 section 9.1): after three bytes and a start code, 14 bits each, little-endian;
/// above them how to scale, which players leave out.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let [header, _, _, 0x9d, 0x01, 0x2a, w0, w1, h0, h1] = *frame(payload)?.first_chunk()? else { return None };
    let side = |low, high| u32::from(u16::from_le_bytes([low, high]) & 0x3fff);
    (header & 0x01 == 0).then(|| PictureSize { width: side(w0, w1), height: side(h0, h1) })
}

/// The VP8 frame, from its header on, in the packet that has that.
fn frame(payload: &[u8]) -> Option<&[u8]> {
    let (&first, mut rest) = payload.split_first()?;
    let (extended, starts_partition, partition) = (first & 0x80 != 0, first & 0x10 != 0, first & 0x07);
    if !starts_partition || partition != 0 {
        return None;
    }
    if extended {
        let (&flags, after) = rest.split_first()?;
        rest = after;
        if flags & 0x80 != 0 {
            // The picture id has 7 bits, or 15 when its first bit is set.
            let long = rest.first()? & 0x80 != 0;
            rest = rest.get(if long { 2 } else { 1 }..)?;
        }
        if flags & 0x40 != 0 {
            rest = rest.get(1..)?; // TL0PICIDX
        }
        if flags & 0x30 != 0 {
            rest = rest.get(1..)?; // TID, Y, KEYIDX share one byte
        }
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_starts_where_partition_0_starts_with_the_flag_clear() {
        assert!(starts_keyframe(&[0x10, 0x50, 0, 0]));
        assert!(!starts_keyframe(&[0x10, 0x51, 0, 0]), "an inter frame");
        assert!(!starts_keyframe(&[0x00, 0x50, 0, 0]), "a continuation");
        assert!(!starts_keyframe(&[0x11, 0x50, 0, 0]), "the start of another partition");
    }

    #[test]
    fn the_extended_descriptor_is_skipped_whatever_it_holds() {
        assert!(starts_keyframe(&[0x90, 0x80, 0x05, 0x50]), "7-bit picture id");
        assert!(starts_keyframe(&[0x90, 0x80, 0x85, 0x01, 0x50]), "15-bit picture id");
        assert!(starts_keyframe(&[0x90, 0xf0, 0x85, 0x01, 7, 0x21, 0x50]), "everything");
        assert!(starts_keyframe(&[0x90, 0x10, 0x21, 0x50]), "KEYIDX alone");
        assert!(!starts_keyframe(&[0x90, 0xf0, 0x84, 0x00, 6, 0x20, 0x51]));
    }

    #[test]
    fn a_keyframe_says_how_large_it_is() {
        // libvpx, 640 x 360.
        let keyframe = [0x90, 0x80, 0x05, 0xf0, 0xc6, 0x00, 0x9d, 0x01, 0x2a, 0x80, 0x02, 0x68, 0x01, 0x00];
        assert_eq!(picture_size(&keyframe), Some(PictureSize { width: 640, height: 360 }));
        assert_eq!(picture_size(&keyframe[..12]), None);
        let mut inter = keyframe;
        inter[3] |= 1;
        assert_eq!(picture_size(&inter), None);
    }

    #[test]
    fn cut_payloads_are_no_keyframes() {
        let whole = [0x90, 0xf0, 0x84, 0x00, 6, 0x20, 0x50];
        assert!(starts_keyframe(&whole));
        for len in 0..whole.len() {
            assert!(!starts_keyframe(&whole[..len]));
        }
    }
}
