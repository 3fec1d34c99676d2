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

/// The numbers of a picture (RFC 7741 section 4.2), by which decoders find what it refers to. An encoder counts its own; what comes
/// from several must be made to continue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PictureNumbers {
    /// Of 15 bits, or 7.
    pub picture_id: u16,
    /// TL0PICIDX: counts the pictures of the lowest temporal layer.
    pub base_index: u8,
}

impl PictureNumbers {
    /// In a payload that has them; 0 for one it has not.
    pub fn of(payload: &[u8]) -> Option<Self> {
        let Places { picture_id, base_index } = places(payload)?;
        let number = picture_id.map(|(at, long)| match long {
            true => u16::from_be_bytes([payload[at] & 0x7f, payload[at + 1]]),
            false => u16::from(payload[at]),
        });
        Some(Self { picture_id: number.unwrap_or(0), base_index: base_index.map_or(0, |at| payload[at]) })
    }

    /// What is to be added to these so that they follow `last`.
    #[must_use]
    pub fn shift_to_follow(self, last: Self) -> Self {
        Self {
            picture_id: last.picture_id.wrapping_add(1).wrapping_sub(self.picture_id) & 0x7fff,
            base_index: last.base_index.wrapping_add(1).wrapping_sub(self.base_index),
        }
    }

    #[must_use]
    pub fn shifted(self, shift: Self) -> Self {
        Self {
            picture_id: self.picture_id.wrapping_add(shift.picture_id) & 0x7fff,
            base_index: self.base_index.wrapping_add(shift.base_index),
        }
    }

    /// Adds these to the numbers in a payload, which keeps its length.
    pub fn add_to(self, payload: &mut [u8]) {
        let (Some(numbers), Some(places)) = (Self::of(payload), places(payload)) else { return };
        let Self { picture_id, base_index } = numbers.shifted(self);
        match places.picture_id {
            Some((at, true)) => payload[at..at + 2].copy_from_slice(&(picture_id | 0x8000).to_be_bytes()),
            Some((at, false)) => payload[at] = (picture_id & 0x7f) as u8,
            None => {}
        }
        if let Some(at) = places.base_index {
            payload[at] = base_index;
        }
    }
}

/// Where a payload descriptor has its numbers.
struct Places {
    /// And whether it has 15 bits.
    picture_id: Option<(usize, bool)>,
    base_index: Option<usize>,
}

/// `None` where the descriptor has none, or is cut short.
fn places(payload: &[u8]) -> Option<Places> {
    if payload.first()? & 0x80 == 0 {
        return None;
    }
    let flags = payload.get(1)?;
    let mut at = 2;
    let mut places = Places { picture_id: None, base_index: None };
    if flags & 0x80 != 0 {
        let long = payload.get(at)? & 0x80 != 0;
        payload.get(at + usize::from(long))?;
        places.picture_id = Some((at, long));
        at += 1 + usize::from(long);
    }
    if flags & 0x40 != 0 {
        payload.get(at)?;
        places.base_index = Some(at);
    }
    Some(places)
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
    fn numbers_continue_those_of_another_encoder_through_the_wrap() {
        let last = PictureNumbers { picture_id: 0x7ffe, base_index: 255 };
        let first = [0x90, 0xe0, 0x81, 0x05, 200, 0x20, 0x50];
        let shift = PictureNumbers::of(&first).unwrap().shift_to_follow(last);
        let mut payload = first;
        shift.add_to(&mut payload);
        assert_eq!(payload, [0x90, 0xe0, 0xff, 0xff, 0, 0x20, 0x50]);
        let mut next = [0x90, 0xe0, 0x81, 0x06, 201, 0x20, 0x51];
        shift.add_to(&mut next);
        assert_eq!(PictureNumbers::of(&next), Some(PictureNumbers { picture_id: 0, base_index: 1 }));
        let mut short = [0x90, 0x80, 0x7f, 0x50];
        PictureNumbers { picture_id: 1, base_index: 9 }.add_to(&mut short);
        assert_eq!(short, [0x90, 0x80, 0, 0x50], "7 bits, and no index");
        for payload in [&[0x10, 0x50][..], &[0x90], &[0x90, 0x80], &[0x90, 0x80, 0x81], &[0x90, 0xc0, 1], &[]] {
            let mut same = payload.to_vec();
            shift.add_to(&mut same);
            assert_eq!((PictureNumbers::of(payload), &same[..]), (None, payload));
        }
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
