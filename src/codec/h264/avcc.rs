//! `AVCDecoderConfigurationRecord` (ISO/IEC 14496-15 section 5.3.3.1): what FLV and MP4 send before the pictures.

use bytes::Bytes;

use super::parameter_sets::Sps;

/// The record makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadDecoderConfiguration {
    #[error("the AVC decoder configuration is cut short")]
    Truncated,
    #[error("AVC decoder configuration version {0}, expected 1")]
    Version(u8),
}

/// The parameter sets, and how long the lengths before NAL units are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecoderConfiguration {
    /// 1 to 4.
    pub length_bytes: usize,
    /// Sequence sets, then picture sets.
    pub parameter_sets: Vec<Bytes>,
}

impl DecoderConfiguration {
    /// # Errors
    /// When it is cut short or of another version. What follows the picture sets (high profiles' fields) is not read.
    pub fn parse(record: &Bytes) -> Result<Self, BadDecoderConfiguration> {
        let Some(&[version, _, _, _, length, sequence_sets]) = record.first_chunk() else {
            return Err(BadDecoderConfiguration::Truncated);
        };
        if version != 1 {
            return Err(BadDecoderConfiguration::Version(version));
        }
        let mut at = 6;
        let mut parameter_sets = Vec::new();
        let mut take = |count: u8, at: &mut usize| {
            for _ in 0..count {
                let size = record.get(*at..*at + 2).and_then(|size| size.first_chunk());
                let size = usize::from(u16::from_be_bytes(*size.ok_or(BadDecoderConfiguration::Truncated)?));
                let set = *at + 2..*at + 2 + size;
                if set.end > record.len() {
                    return Err(BadDecoderConfiguration::Truncated);
                }
                *at = set.end;
                if size > 0 {
                    parameter_sets.push(record.slice(set));
                }
            }
            Ok(())
        };
        take(sequence_sets & 0x1f, &mut at)?;
        let picture_sets = *record.get(at).ok_or(BadDecoderConfiguration::Truncated)?;
        at += 1;
        take(picture_sets, &mut at)?;
        Ok(Self { length_bytes: usize::from(length & 3) + 1, parameter_sets })
    }
}

/// The record for samples whose NAL units have lengths of `length_bytes` (1 to 4), and these parameter sets, of which `sps` is the first.
pub(in crate::codec) fn write_record(sps: &Sps, length_bytes: usize, sequence: &[Bytes], picture: &[Bytes]) -> Bytes {
    let mut record = vec![1, sps.profile_idc, sps.constraint_flags, sps.level_idc, 0xfc | (length_bytes as u8 - 1) & 3];
    let put = |record: &mut Vec<u8>, sets: &[Bytes]| {
        for set in sets {
            record.extend((set.len() as u16).to_be_bytes());
            record.extend_from_slice(set);
        }
    };
    record.push(0xe0 | sequence.len() as u8 & 0x1f);
    put(&mut record, sequence);
    record.push(picture.len() as u8);
    put(&mut record, picture);
    if matches!(sps.profile_idc, 100 | 110 | 122 | 144 | 244) {
        let depth = |bits: u8| 0xf8 | bits.wrapping_sub(8) & 7;
        record.extend([0xfc | sps.chroma_format_idc, depth(sps.bit_depth_luma), depth(sps.bit_depth_chroma), 0]);
    }
    record.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const RECORD: &[u8] = &[1, 0x64, 0, 0x1f, 0xff, 0xe1, 0, 3, 0x67, 1, 2, 1, 0, 2, 0x68, 9, 0xfd, 0xf8, 0xf8, 0];

    #[test]
    fn parameter_sets_and_length_size_are_read() {
        let configuration = DecoderConfiguration::parse(&Bytes::from_static(RECORD)).unwrap();
        assert_eq!(configuration.length_bytes, 4);
        assert_eq!(configuration.parameter_sets, [&[0x67, 1, 2][..], &[0x68, 9]]);
    }

    #[test]
    fn a_record_cut_anywhere_is_refused() {
        for bytes in 0..16 {
            let cut = Bytes::copy_from_slice(&RECORD[..bytes]);
            assert_eq!(DecoderConfiguration::parse(&cut), Err(BadDecoderConfiguration::Truncated), "{bytes}");
        }
    }
}
