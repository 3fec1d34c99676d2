//! Reads the bits of a raw byte sequence payload (ITU-T H.264 sections 7.2 and 9.1). Every read may fail: the bits come
//! from the network.

/// The payload of a NAL unit without its emulation prevention bytes (section 7.4.1.1), at most `limit_bytes` of it.
pub(super) fn unescape(nal_payload: &[u8], limit_bytes: usize) -> Vec<u8> {
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

/// `None` from any of these means that the payload ended too early or a code is out of range.
pub(super) struct BitReader<'a> {
    bytes: &'a [u8],
    at_bit: usize,
}

impl<'a> BitReader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at_bit: 0 }
    }

    /// Bits read so far.
    pub(super) fn position_bits(&self) -> usize {
        self.at_bit
    }

    pub(super) fn flag(&mut self) -> Option<bool> {
        let byte = self.bytes.get(self.at_bit / 8)?;
        let bit = byte >> (7 - self.at_bit % 8) & 1;
        self.at_bit += 1;
        Some(bit == 1)
    }

    /// `u(n)`, at most 32 bits.
    pub(super) fn bits(&mut self, count: u32) -> Option<u32> {
        let mut value = 0u32;
        for _ in 0..count {
            value = value << 1 | u32::from(self.flag()?);
        }
        Some(value)
    }

    /// `ue(v)`.
    pub(super) fn unsigned(&mut self) -> Option<u32> {
        let mut zeros = 0;
        while !self.flag()? {
            zeros += 1;
            if zeros > 31 {
                return None;
            }
        }
        Some((1u32 << zeros) - 1 + self.bits(zeros)?)
    }

    /// `ue(v)` that may be no more than `max`.
    pub(super) fn unsigned_up_to(&mut self, max: u32) -> Option<u32> {
        self.unsigned().filter(|&value| value <= max)
    }

    /// `se(v)`.
    pub(super) fn signed(&mut self) -> Option<i32> {
        let code = i64::from(self.unsigned()?);
        let magnitude = (code + 1) / 2;
        i32::try_from(if code % 2 == 1 { magnitude } else { -magnitude }).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponential_golomb_codes_are_read() {
        // 1 | 010 | 011 | 00100 | 00101 as ue: 0 1 2 3 4
        let bytes = [0b1010_0110, 0b0100_0010, 0b1000_0000];
        let mut reader = BitReader::new(&bytes);
        assert_eq!((0..5).map(|_| reader.unsigned()).collect::<Vec<_>>(), [0, 1, 2, 3, 4].map(Some));
        let mut reader = BitReader::new(&bytes);
        assert_eq!((0..5).map(|_| reader.signed()).collect::<Vec<_>>(), [0, 1, -1, 2, -2].map(Some));
        assert_eq!(BitReader::new(&[0; 8]).unsigned(), None, "more leading zeros than a code has");
        assert_eq!(BitReader::new(&[]).flag(), None);
    }

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
