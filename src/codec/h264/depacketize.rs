//! H.264 in RTP (RFC 6184): which packets begin a picture that a decoder can begin with, and the profile and size they name.
//!
//! In: an RTP payload in single NAL unit or non-interleaved mode. It does not reassemble NAL units; interleaved mode
//! (STAP-B, MTAP, FU-B) is not negotiated and counts as nothing of interest.

use super::parameter_sets::Sps;
use crate::codec::PictureSize;

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
    match kind(payload) {
        Some(STAP_A) => {
            for unit in aggregated(payload) {
                contents.add(kind(unit).unwrap_or(0), unit.get(1..).unwrap_or_default());
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

/// The size that a whole sequence parameter set in the payload names, alone or in an aggregation.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let mut set = Some(payload).filter(|unit| kind(unit) == Some(NAL_SPS));
    if kind(payload) == Some(STAP_A) {
        set = aggregated(payload).find(|unit| kind(unit) == Some(NAL_SPS));
    }
    let Sps { width, height, .. } = Sps::parse(set?).ok()?;
    Some(PictureSize { width, height })
}

fn kind(unit: &[u8]) -> Option<u8> {
    unit.first().map(|header| header & 0x1f)
}

/// The NAL units of a STAP-A that are there in full (section 5.7.1).
fn aggregated(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload.get(1..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = after;
        Some(unit)
    })
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
    fn a_parameter_set_names_the_size_of_its_pictures() {
        // 640 x 360, constrained baseline.
        let sps = [
            0x67, 0x42, 0xc0, 0x1e, 0xd9, 0x00, 0xa0, 0x2f, 0xf9, 0x70, 0x11, 0x00, 0x00, 0x03, 0x00, 0x01, 0x00, 0x00,
            0x03, 0x00, 0x3c, 0x0f, 0x16, 0x2e, 0x48,
        ];
        let size = Some(PictureSize { width: 640, height: 360 });
        assert_eq!(picture_size(&sps), size);
        let stap = [&[0x78, 0, 2, 0x09, 0xf0, 0, sps.len() as u8][..], &sps, &[0, 2, 0x68, 0xce]].concat();
        assert_eq!(picture_size(&stap), size);
        assert_eq!(picture_size(&stap[..20]), None, "not all of it is there");
        assert_eq!(picture_size(&[0x65, 0x88]), None);
        assert_eq!(picture_size(&[]), None);
    }

    #[test]
    fn a_cut_parameter_set_names_no_profile() {
        assert_eq!(inspect(&SPS[..3]), Contents::default());
        assert_eq!(inspect(&[]), Contents::default());
    }
}
