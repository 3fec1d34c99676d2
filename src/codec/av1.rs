//! AV1 in RTP (AOM's "RTP Payload Format For AV1", section 4.4): where keyframes begin. In: an RTP payload. It does not
//! reassemble frames.

/// True for the first packet of a coded video sequence: N set in the aggregation header, and no continuation (Z clear).
/// Receivers go by N, and senders must set it with each new sequence, so a repeated sequence header without it is no
/// place to begin.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    const CONTINUATION: u8 = 0x80;
    const NEW_SEQUENCE: u8 = 0x08;
    payload.len() > 1 && payload[0] & (CONTINUATION | NEW_SEQUENCE) == NEW_SEQUENCE
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
}
