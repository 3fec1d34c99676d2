//! H.264 in RTP (RFC 6184): which packets begin a picture that a decoder can begin with, and the profile they name.
//!
//! In: an RTP payload in single NAL unit or non-interleaved mode. It does not reassemble NAL units; interleaved mode
//! (STAP-B, MTAP, FU-B) is not negotiated and counts as nothing of interest.

/// Profile, constraint flags and level as SDP's `profile-level-id` has them (RFC 6184 section 8.1): the three bytes
/// after a sequence parameter set's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProfileLevelId(pub [u8; 3]);

impl std::fmt::Display for ProfileLevelId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [profile, constraints, level] = self.0;
        write!(f, "{profile:02x}{constraints:02x}{level:02x}")
    }
}

/// What of interest begins in a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// A sequence parameter set; the first of them.
    pub parameter_set: Option<ProfileLevelId>,
    /// An IDR picture's slice begins here.
    pub idr: bool,
}

const NAL_IDR: u8 = 5;
const NAL_SPS: u8 = 7;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;

/// Looks into a payload: a single NAL unit, an aggregation (STAP-A) or a fragment (FU-A).
pub fn inspect(payload: &[u8]) -> Contents {
    let mut contents = Contents::default();
    match payload.first().map(|header| header & 0x1f) {
        Some(STAP_A) => {
            let mut rest = &payload[1..];
            while let Some((size, after)) = rest.split_first_chunk() {
                let Some((nal, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*size))) else { break };
                contents.add(nal.first().map_or(0, |header| header & 0x1f), nal.get(1..).unwrap_or_default());
                rest = after;
            }
        }
        Some(FU_A) => {
            // The first fragment only (S set): the others begin nothing.
            if let Some(&header) = payload.get(1).filter(|header| *header & 0x80 != 0) {
                contents.add(header & 0x1f, &payload[2..]);
            }
        }
        Some(kind) => contents.add(kind, &payload[1..]),
        None => {}
    }
    contents
}

impl Contents {
    fn add(&mut self, kind: u8, body: &[u8]) {
        match kind {
            NAL_IDR => self.idr = true,
            NAL_SPS if self.parameter_set.is_none() => {
                self.parameter_set = body.first_chunk().map(|id| ProfileLevelId(*id));
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: [u8; 6] = [0x67, 0x42, 0xe0, 0x1f, 1, 2];

    #[test]
    fn single_units_are_told_apart() {
        assert_eq!(inspect(&SPS).parameter_set.unwrap().to_string(), "42e01f");
        assert_eq!(inspect(&[0x65, 0x88]), Contents { parameter_set: None, idr: true });
        assert_eq!(inspect(&[0x41, 0x88]), Contents::default());
        assert_eq!(inspect(&[0x68, 0xce]), Contents::default(), "a picture parameter set alone");
    }

    #[test]
    fn aggregations_are_searched_to_their_end() {
        let mut stap = vec![0x78, 0, 2, 0x09, 0xf0, 0, 6];
        stap.extend_from_slice(&SPS);
        stap.extend_from_slice(&[0, 2, 0x65, 0x88]);
        let contents = inspect(&stap);
        assert!(contents.idr && contents.parameter_set.is_some());
        for len in 0..stap.len() {
            let cut = inspect(&stap[..len]);
            assert!(!cut.idr, "{len}");
            assert_eq!(cut.parameter_set.is_some(), len >= 13, "{len}");
        }
        assert_eq!(inspect(&[0x78, 0, 0, 0, 0]), Contents::default());
    }

    #[test]
    fn only_the_first_fragment_begins_a_picture() {
        assert!(inspect(&[0x7c, 0x85, 0x88]).idr);
        assert!(!inspect(&[0x7c, 0x05, 0x88]).idr);
        assert!(!inspect(&[0x7c, 0x45, 0x88]).idr);
        assert!(!inspect(&[0x7c, 0x81, 0x88]).idr);
        assert!(!inspect(&[0x7c]).idr);
    }

    #[test]
    fn a_cut_parameter_set_names_no_profile() {
        assert_eq!(inspect(&SPS[..3]), Contents::default());
        assert_eq!(inspect(&[]), Contents::default());
    }
}
