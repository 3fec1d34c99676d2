//! NAL units (ITU-T H.264 section 7.3.1) and the ways they are strung together: lengths (ISO 14496-15) and start codes.

use bytes::Bytes;

/// `nal_unit_type` (table 7-1), those that matter here.
pub mod kind {
    pub const SLICE: u8 = 1;
    pub const PARTITION_A: u8 = 2;
    pub const PARTITION_C: u8 = 4;
    pub const IDR_SLICE: u8 = 5;
    pub const SEI: u8 = 6;
    pub const SPS: u8 = 7;
    pub const PPS: u8 = 8;
    pub const STAP_A: u8 = 24;
    pub const FU_A: u8 = 28;
}

/// `nal_unit_type` of a NAL unit; 0 (unspecified) of an empty one.
pub fn unit_type(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header & 0x1f)
}

/// `nal_ref_idc`: 0 when nothing refers to the picture.
pub fn ref_idc(nal: &[u8]) -> u8 {
    nal.first().map_or(0, |header| header >> 5 & 3)
}

/// NAL units of an access unit, empty ones too. H.265 has 600 slices in a picture at the most (table A.8, level 6.2); the largest keyframe
/// that is taken over RTMP, 2.5 MiB, has some 2,200 in slices that fit a packet.
pub const NALS_MAX: usize = 2_560;

/// An access unit cannot be taken apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadLengths {
    /// A length field says more than there is.
    #[error("a NAL unit of {declared_bytes} bytes in {left_bytes} bytes of access unit")]
    Overrun { declared_bytes: usize, left_bytes: usize },
    #[error("more than {NALS_MAX} NAL units in an access unit: encode pictures in fewer slices")]
    TooMany,
}

/// Splits an access unit whose NAL units carry lengths of `length_bytes` (1 to 4) before them; empty ones are left out.
///
/// # Errors
/// When a length leads past the end, or there are more than [`NALS_MAX`].
pub fn split_lengths(access_unit: &Bytes, length_bytes: usize) -> Result<Vec<Bytes>, BadLengths> {
    let mut nals = Vec::new();
    let (mut at, mut units) = (0, 0);
    while at < access_unit.len() {
        units += 1;
        if units > NALS_MAX {
            return Err(BadLengths::TooMany);
        }
        let Some(length) = access_unit.get(at..at + length_bytes) else {
            return Err(BadLengths::Overrun { declared_bytes: length_bytes, left_bytes: access_unit.len() - at });
        };
        let declared_bytes = length.iter().fold(0usize, |sum, byte| sum << 8 | usize::from(*byte));
        at += length_bytes;
        let left_bytes = access_unit.len() - at;
        if declared_bytes > left_bytes {
            return Err(BadLengths::Overrun { declared_bytes, left_bytes });
        }
        if declared_bytes > 0 {
            nals.push(access_unit.slice(at..at + declared_bytes));
        }
        at += declared_bytes;
    }
    Ok(nals)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_every_size_are_read() {
        for size in 1..=4usize {
            let mut unit = Vec::new();
            for nal in [&b"\x67abc"[..], b"", b"\x65z"] {
                unit.extend_from_slice(&(nal.len() as u32).to_be_bytes()[4 - size..]);
                unit.extend_from_slice(nal);
            }
            let nals = split_lengths(&unit.into(), size).unwrap();
            assert_eq!(nals, [&b"\x67abc"[..], b"\x65z"]);
        }
    }

    #[test]
    fn a_length_that_lies_is_refused() {
        let unit = Bytes::from_static(&[0, 0, 0, 9, 1, 2]);
        assert_eq!(split_lengths(&unit, 4), Err(BadLengths::Overrun { declared_bytes: 9, left_bytes: 2 }));
        assert!(split_lengths(&Bytes::from_static(&[0, 0]), 4).is_err());
    }

    #[test]
    fn more_units_than_any_picture_has_are_refused() {
        let many = Bytes::from([1, 0x41].repeat(NALS_MAX));
        assert_eq!(split_lengths(&many, 1).unwrap().len(), NALS_MAX);
        for one_more in [&[1, 0x41][..], &[0]] {
            assert_eq!(split_lengths(&[&many[..], one_more].concat().into(), 1), Err(BadLengths::TooMany));
        }
    }
}
