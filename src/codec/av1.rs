//! AV1 in RTP (AOM's "RTP Payload Format For AV1", section 4.4): where keyframes begin, and how large they are. In: an RTP
//! payload. It does not reassemble frames.

use super::{PictureSize, bits::BitReader};

/// True for the first packet of a coded video sequence: N set in the aggregation header, and no continuation (Z clear).
/// Receivers go by N, and senders must set it with each new sequence, so a repeated sequence header without it is no
/// place to begin.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    const CONTINUATION: u8 = 0x80;
    const NEW_SEQUENCE: u8 = 0x08;
    payload.len() > 1 && payload[0] & (CONTINUATION | NEW_SEQUENCE) == NEW_SEQUENCE
}

/// The largest size that a sequence header in the payload allows: that of the pictures, unless the encoder scales them.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    const SEQUENCE_HEADER: u8 = 1;
    let (&aggregation, mut rest) = payload.split_first()?;
    // So many elements, of which the last has no length; 0: all have one.
    let count = usize::from(aggregation >> 4 & 0x03);
    let is_continuation = aggregation & 0x80 != 0;
    for element in 1.. {
        if rest.is_empty() || count > 0 && element > count {
            break;
        }
        let obu = if element == count {
            std::mem::take(&mut rest)
        } else {
            let (length, after) = leb128(rest)?;
            let (obu, after) = after.split_at_checked(length)?;
            rest = after;
            obu
        };
        let is_whole = element > 1 || !is_continuation;
        if is_whole && obu.first().is_some_and(|header| header >> 3 & 0x0f == SEQUENCE_HEADER) {
            return sequence_size(body(obu)?);
        }
    }
    None
}

/// What follows an OBU's header (AV1 bitstream specification, section 5.3).
fn body(obu: &[u8]) -> Option<&[u8]> {
    let (&header, mut rest) = obu.split_first()?;
    if header & 0x04 != 0 {
        rest = rest.get(1..)?; // temporal and spatial id
    }
    if header & 0x02 != 0 {
        let (length, after) = leb128(rest)?;
        rest = after.get(..length)?;
    }
    Some(rest)
}

/// A length of at most 8 bytes (section 4.10.5), and what follows it.
fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(at + 1..)?));
        }
    }
    None
}

/// From a sequence header (section 5.5.1).
fn sequence_size(header: &[u8]) -> Option<PictureSize> {
    let mut r = BitReader::new(header);
    r.bits(4)?; // seq_profile, still_picture
    if r.flag()? {
        r.bits(5)?; // a reduced still picture's seq_level_idx
    } else {
        skip_operating_points(&mut r)?;
    }
    let (width_bits, height_bits) = (r.bits(4)? + 1, r.bits(4)? + 1);
    Some(PictureSize { width: r.bits(width_bits)? + 1, height: r.bits(height_bits)? + 1 })
}

fn skip_operating_points(r: &mut BitReader<'_>) -> Option<()> {
    let mut delay_bits = None;
    if r.flag()? {
        r.bits(32)?; // num_units_in_display_tick
        r.bits(32)?; // time_scale
        if r.flag()? {
            r.unsigned()?; // num_ticks_per_picture_minus_1: uvlc() is ue(v)
        }
        if r.flag()? {
            delay_bits = Some(r.bits(5)? + 1);
            r.bits(32)?; // num_units_in_decoding_tick
            r.bits(10)?; // lengths of other times
        }
    }
    let initial_display_delay = r.flag()?;
    for _ in 0..=r.bits(5)? {
        r.bits(12)?; // operating_point_idc
        if r.bits(5)? > 7 {
            r.flag()?; // seq_tier
        }
        if let Some(bits) = delay_bits
            && r.flag()?
        {
            r.bits(bits)?; // decoder_buffer_delay
            r.bits(bits)?; // encoder_buffer_delay
            r.flag()?; // low_delay_mode_flag
        }
        if initial_display_delay && r.flag()? {
            r.bits(4)?;
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_sequence_that_is_no_continuation_is_a_keyframe() {
        assert!(starts_keyframe(&[0b0001_1000, 0x0a]));
        assert!(starts_keyframe(&[0b0110_1000, 0x0a]), "with the last OBU going on in the next packet");
        assert!(!starts_keyframe(&[0b1001_1000, 0x0a]), "a continuation");
        assert!(!starts_keyframe(&[0b0001_0000, 0x0a]), "no new sequence");
        assert!(!starts_keyframe(&[0b0001_1000]), "no OBU");
        assert!(!starts_keyframe(&[]));
    }

    #[test]
    fn a_sequence_header_says_how_large_pictures_may_be() {
        let size = Some(PictureSize { width: 640, height: 360 });
        // libaom and SVT-AV1, 640 x 360, after a temporal delimiter that some senders leave in.
        let libaom = [0x0a, 0x0b, 0x00, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x3e, 0xbe, 0x60, 0x10];
        let svt = [0x0a, 0x0c, 0x02, 0x00, 0x00, 0x0d, 0x66, 0x27, 0xfb, 0x38, 0xd5, 0xf3, 0x00, 0x80];
        for obu in [&libaom[..], &svt] {
            let length = [obu.len() as u8];
            assert_eq!(picture_size(&[&[0x18][..], obu].concat()), size, "alone");
            assert_eq!(
                picture_size(&[&[0x08, 2, 0x12, 0][..], &length, obu, &[1, 0x32]].concat()),
                size,
                "all with lengths"
            );
            assert_eq!(picture_size(&[&[0x28][..], &length, obu, &[0x32, 1, 2]].concat()), size, "before a frame");
            assert_eq!(picture_size(&[&[0x98][..], obu].concat()), None, "a continuation has no header");
            assert!((0..8).all(|len| picture_size(&[&[0x18][..], &obu[..len]].concat()).is_none()));
        }
        // As RTP senders should write it: without a length of its own.
        let bare = [&[0x18, 0x08][..], &libaom[2..]].concat();
        assert_eq!(picture_size(&bare), size);
        assert_eq!(picture_size(&[0x10, 0x32, 1, 2]), None, "no sequence header");
    }
}
