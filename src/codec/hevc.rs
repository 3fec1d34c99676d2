//! H.265 in RTP (RFC 7798): which packets begin a picture that a decoder can begin with.
//!
//! In: an RTP payload of a single stream without decoding order numbers (`sprop-max-don-diff` 0, as WebRTC has it). It does not
//! reassemble NAL units.

/// What of interest begins in a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// A video, sequence or picture parameter set.
    pub parameter_set: bool,
    /// A slice of a picture that decoding can begin with (IRAP: BLA, IDR or CRA; ITU-T H.265 section 7.4.2.2).
    pub random_access: bool,
}

const IRAP: std::ops::RangeInclusive<u8> = 16..=23;
const VPS: u8 = 32;
const PPS: u8 = 34;
/// An aggregation packet (RFC 7798 section 4.4.2).
const AGGREGATION: u8 = 48;
/// A fragmentation unit (RFC 7798 section 4.4.3).
const FRAGMENT: u8 = 49;
const NAL_HEADER_BYTES: usize = 2;

/// Looks into a payload: a single NAL unit, an aggregation or a fragment.
pub fn inspect(payload: &[u8]) -> Contents {
    let mut contents = Contents::default();
    match nal_type(payload) {
        Some(AGGREGATION) => {
            let mut rest = payload.get(NAL_HEADER_BYTES..).unwrap_or_default();
            while let Some((size, after)) = rest.split_first_chunk() {
                let Some((nal, after)) = after.split_at_checked(usize::from(u16::from_be_bytes(*size))) else { break };
                contents.add(nal_type(nal));
                rest = after;
            }
        }
        Some(FRAGMENT) => {
            // The first fragment only (S set): the others begin nothing.
            let header = payload.get(NAL_HEADER_BYTES).filter(|header| *header & 0x80 != 0);
            contents.add(header.map(|header| header & 0x3f));
        }
        single => contents.add(single),
    }
    contents
}

fn nal_type(nal: &[u8]) -> Option<u8> {
    nal.first().map(|header| header >> 1 & 0x3f)
}

impl Contents {
    fn add(&mut self, nal_type: Option<u8>) {
        let Some(nal_type) = nal_type else { return };
        self.parameter_set |= (VPS..=PPS).contains(&nal_type);
        self.random_access |= IRAP.contains(&nal_type);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTHING: Contents = Contents { parameter_set: false, random_access: false };

    fn nal(kind: u8) -> [u8; 3] {
        [kind << 1, 1, 0xaa]
    }

    #[test]
    fn single_units_are_told_apart_by_their_type() {
        for kind in [VPS, 33, PPS] {
            assert_eq!(inspect(&nal(kind)), Contents { parameter_set: true, ..NOTHING }, "{kind}");
        }
        for kind in [16, 19, 20, 21] {
            assert_eq!(inspect(&nal(kind)), Contents { random_access: true, ..NOTHING }, "{kind}");
        }
        for kind in [0, 1, 9, 39] {
            assert_eq!(inspect(&nal(kind)), NOTHING, "{kind}");
        }
    }

    #[test]
    fn an_aggregation_is_looked_into_as_far_as_it_is_whole() {
        let mut packet = vec![AGGREGATION << 1, 1];
        for kind in [VPS, 33, PPS, 19] {
            packet.extend([0, 3]);
            packet.extend(nal(kind));
        }
        assert_eq!(inspect(&packet), Contents { parameter_set: true, random_access: true });
        packet.truncate(packet.len() - 1);
        assert_eq!(inspect(&packet), Contents { parameter_set: true, ..NOTHING });
    }

    #[test]
    fn only_the_first_fragment_begins_a_picture() {
        assert_eq!(inspect(&[FRAGMENT << 1, 1, 0x80 | 19]), Contents { random_access: true, ..NOTHING });
        assert_eq!(inspect(&[FRAGMENT << 1, 1, 19]), NOTHING);
        assert_eq!(inspect(&[FRAGMENT << 1, 1]), NOTHING);
        assert_eq!(inspect(&[]), NOTHING);
    }
}
