//! `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 section 8.3.3.1), which comes before H.265 in FLV and MP4.

use bytes::Bytes;

use super::is_parameter_set;
use crate::codec::h264::parameter_sets::PARAMETER_SET_MAX_BYTES;

/// Parameter sets in a record: encoders write one of each kind.
const PARAMETER_SETS_MAX: usize = 16;

/// The record makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHevcConfiguration {
    #[error("the H.265 decoder configuration is cut short")]
    Truncated,
    #[error("version {0} of the H.265 decoder configuration is not known")]
    Version(u8),
    #[error("more than {PARAMETER_SETS_MAX} parameter sets, or one of more than {PARAMETER_SET_MAX_BYTES} bytes")]
    TooMuch,
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HevcConfiguration {
    /// Of lengths before NAL units, 1 to 4.
    pub length_bytes: usize,
    pub profile: u8,
    pub high_tier: bool,
    /// 30 times the level's number.
    pub level: u8,
    /// Video, sequence and picture parameter sets, in the record's order.
    pub parameter_sets: Vec<Bytes>,
}

impl HevcConfiguration {
    /// # Errors
    /// [`BadHevcConfiguration`].
    pub fn parse(record: &Bytes) -> Result<Self, BadHevcConfiguration> {
        use BadHevcConfiguration::{TooMuch, Truncated, Version};
        const HEAD_BYTES: usize = 23;
        let head: &[u8; HEAD_BYTES] = record.first_chunk().ok_or(Truncated)?;
        // Encoders of before the standard's end wrote 0.
        if head[0] > 1 {
            return Err(Version(head[0]));
        }
        let mut rest = record.slice(HEAD_BYTES..);
        let mut take = |bytes: usize| if bytes <= rest.len() { Ok(rest.split_to(bytes)) } else { Err(Truncated) };
        let mut parameter_sets = Vec::new();
        for _ in 0..head[22] {
            take(1)?; // completeness and type, which the units say themselves
            let count = take(2)?;
            for _ in 0..u16::from_be_bytes([count[0], count[1]]) {
                let length = take(2)?;
                let nal = take(usize::from(u16::from_be_bytes([length[0], length[1]])))?;
                if parameter_sets.len() == PARAMETER_SETS_MAX || nal.len() > PARAMETER_SET_MAX_BYTES {
                    return Err(TooMuch);
                }
                if is_parameter_set(&nal) {
                    // A copy: it stays, and what it came in should not.
                    parameter_sets.push(Bytes::copy_from_slice(&nal));
                }
            }
        }
        Ok(Self {
            length_bytes: usize::from(head[21] & 3) + 1,
            profile: head[1] & 0x1f,
            high_tier: head[1] & 0x20 != 0,
            level: head[12],
            parameter_sets,
        })
    }

    /// As SDP writes it (RFC 7798 section 7.1).
    pub fn fmtp(&self) -> String {
        let Self { profile, high_tier, level, .. } = self;
        format!("level-id={level};profile-id={profile};tier-flag={};tx-mode=SRST", u8::from(*high_tier))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(sets: &[&[u8]]) -> Bytes {
        let mut record =
            vec![1, 0x21, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f];
        record.push(sets.len() as u8);
        for set in sets {
            record.extend([0x80 | set[0] >> 1 & 0x3f, 0, 1]);
            record.extend((set.len() as u16).to_be_bytes());
            record.extend_from_slice(set);
        }
        record.into()
    }

    #[test]
    fn profile_level_and_parameter_sets_are_read() {
        let (vps, sps, pps, sei) = (&[0x40, 1, 7][..], &[0x42, 1, 8][..], &[0x44, 1, 9][..], &[0x4e, 1, 5][..]);
        let read = HevcConfiguration::parse(&record(&[vps, sps, pps, sei])).unwrap();
        assert_eq!(read.parameter_sets, [vps, sps, pps], "and nothing else");
        assert_eq!((read.length_bytes, read.profile, read.high_tier, read.level), (4, 1, true, 93));
        assert_eq!(read.fmtp(), "level-id=93;profile-id=1;tier-flag=1;tx-mode=SRST");
    }

    #[test]
    fn what_is_cut_short_or_too_much_is_refused() {
        let whole = record(&[&[0x40, 1, 7], &[0x42, 1, 8]]);
        for length in 0..whole.len() {
            assert_eq!(HevcConfiguration::parse(&whole.slice(..length)), Err(BadHevcConfiguration::Truncated));
        }
        let many = record(&[&[0x40, 1, 7][..]; 17]);
        assert_eq!(HevcConfiguration::parse(&many), Err(BadHevcConfiguration::TooMuch));
        let mut other = whole.to_vec();
        other[0] = 2;
        assert_eq!(HevcConfiguration::parse(&other.into()), Err(BadHevcConfiguration::Version(2)));
    }
}
