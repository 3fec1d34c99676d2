//! Reads headers bit by bit, highest bit first; Exponential-Golomb codes are those of ITU-T H.264 section 9.1. Every read may
//! fail: the bits come from the network.

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
}
