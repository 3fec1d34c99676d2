//! VP9 in RTP (RFC 9628): where keyframes begin. In: an RTP payload. It does not reassemble frames.

/// True for the first packet of a picture that refers to no other: the beginning of a frame (B), not inter-predicted
/// (P clear), of the lowest spatial layer (RFC 9628 section 4.2). Higher layers of a keyframe have P clear too, but
/// refer to the layer below.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    descriptor(payload).unwrap_or(false)
}

fn descriptor(payload: &[u8]) -> Option<bool> {
    let (&first, mut rest) = payload.split_first()?;
    let flag = |bit: u8| first & bit != 0;
    let (picture_id, predicted, layers, begins) = (flag(0x80), flag(0x40), flag(0x20), flag(0x08));
    if predicted || !begins {
        return Some(false);
    }
    if picture_id {
        // 7 bits, or 15 when its first bit is set.
        let long = rest.first()? & 0x80 != 0;
        rest = rest.get(if long { 2 } else { 1 }..)?;
    }
    let spatial_layer = if layers { rest.first()? >> 1 & 0x07 } else { 0 };
    Some(spatial_layer == 0 && !rest.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_begins_with_b_set_and_p_clear() {
        assert!(starts_keyframe(&[0x88, 0x05, 1]));
        assert!(starts_keyframe(&[0x88, 0x85, 0x01, 1]));
        assert!(starts_keyframe(&[0x08, 1]), "without a picture id");
        assert!(!starts_keyframe(&[0xc8, 0x05, 1]), "inter-predicted");
        assert!(!starts_keyframe(&[0x80, 0x05, 1]), "a continuation");
    }

    #[test]
    fn only_the_lowest_spatial_layer_begins_a_picture() {
        assert!(starts_keyframe(&[0xa8, 0x85, 0x01, 0x00, 9, 1]));
        assert!(!starts_keyframe(&[0xa8, 0x85, 0x01, 0x03, 9, 1]));
    }

    #[test]
    fn cut_payloads_are_no_keyframes() {
        let whole = [0xa8, 0x85, 0x01, 0];
        assert!(starts_keyframe(&whole));
        for len in 0..whole.len() {
            assert!(!starts_keyframe(&whole[..len]));
        }
    }
}
