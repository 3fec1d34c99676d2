//! Emulation prevention: three bytes that look like a start code do not occur inside a NAL unit (ITU-T H.264 section 7.4.1.1).

/// The payload of a NAL unit without its emulation prevention bytes (section 7.4.1.1), at most `limit_bytes` of it.
pub(in crate::codec) fn unescape(nal_payload: &[u8], limit_bytes: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(nal_payload.len().min(limit_bytes));
    let mut zeros = 0;
    for &byte in nal_payload {
        if out.len() == limit_bytes {
            break;
        }
        if zeros >= 2 && byte == 3 {
            zeros = 0;
            continue;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
    out
}

/// Puts emulation prevention bytes back.
pub(super) fn escape(payload: &[u8], out: &mut Vec<u8>) {
    let mut zeros = 0;
    for &byte in payload {
        if zeros >= 2 && byte <= 3 {
            out.push(3);
            zeros = 0;
        }
        zeros = if byte == 0 { zeros + 1 } else { 0 };
        out.push(byte);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escaping_undoes_unescaping() {
        let raw = [0, 0, 0, 0, 0, 1, 7, 0, 0, 3, 0, 0];
        let mut escaped = Vec::new();
        escape(&raw, &mut escaped);
        assert!(!escaped.windows(3).any(|w| w[0] == 0 && w[1] == 0 && w[2] < 3));
        assert_eq!(unescape(&escaped, 100), raw);
        assert_eq!(unescape(&escaped, 4), raw[..4]);
    }
}
