//! H.265 in RTP (RFC 7798): which packets begin a picture that a decoder can begin with.
//!
//! In: an RTP payload of a single stream without decoding order numbers (`sprop-max-don-diff` 0, as WebRTC has it). It does not
//! reassemble NAL units.

mod record;
mod sets;

use super::{bits::BitReader, h264::escape::unescape, picture_size::PictureSize};

pub use record::{BadHevcConfiguration, HevcConfiguration};
pub use sets::ParameterSets;

/// What of interest begins in a packet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Contents {
    /// A video, sequence or picture parameter set.
    pub parameter_set: bool,
    /// A slice of a picture that decoding can begin with (IRAP: BLA, IDR or CRA; ITU-T H.265 section 7.4.2.2).
    pub random_access: bool,
}

const IRAP: std::ops::RangeInclusive<u8> = 16..=23;
/// Below this, even types are of pictures that no other of their temporal sub-layer refers to (table 7-1).
const NON_REFERENCES_END: u8 = 16;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
/// An aggregation packet (RFC 7798 section 4.4.2).
const AGGREGATION: u8 = 48;
/// A fragmentation unit (RFC 7798 section 4.4.3).
const FRAGMENT: u8 = 49;
const NAL_HEADER_BYTES: usize = 2;
/// As far into a sequence parameter set as its size can be.
const SPS_HEAD_BYTES_MAX: usize = 256;

/// Looks into a payload: a single NAL unit, an aggregation or a fragment.
pub fn inspect(payload: &[u8]) -> Contents {
    let mut contents = Contents::default();
    match nal_type(payload) {
        Some(AGGREGATION) => aggregated(payload).for_each(|unit| contents.add(nal_type(unit))),
        Some(FRAGMENT) => {
            // The first fragment only (S set): the others begin nothing.
            let header = payload.get(NAL_HEADER_BYTES).filter(|header| *header & 0x80 != 0);
            contents.add(header.map(|header| header & 0x3f));
        }
        single => contents.add(single),
    }
    contents
}

/// The size of the pictures that a sequence parameter set in the payload describes, whole or in an aggregation.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let mut set = Some(payload).filter(|unit| nal_type(unit) == Some(SPS));
    if nal_type(payload) == Some(AGGREGATION) {
        set = aggregated(payload).find(|unit| nal_type(unit) == Some(SPS));
    }
    sps_size(&unescape(set?.get(NAL_HEADER_BYTES..)?, SPS_HEAD_BYTES_MAX))
}

/// ITU-T H.265 section 7.3.2.2.1, up to the conformance window.
fn sps_size(sps: &[u8]) -> Option<PictureSize> {
    let mut reader = BitReader::new(sps);
    reader.bits(4)?; // sps_video_parameter_set_id
    let sub_layers = reader.bits(3)?;
    reader.flag()?; // sps_temporal_id_nesting_flag
    skip_profile_tier_level(&mut reader, sub_layers)?;
    reader.unsigned()?; // sps_seq_parameter_set_id
    let chroma_format = reader.unsigned_up_to(3)?;
    if chroma_format == 3 {
        reader.flag()?; // separate_colour_plane_flag
    }
    let (width, height) = (reader.unsigned()?, reader.unsigned()?);
    let mut window = [0; 4];
    if reader.flag()? {
        for edge in &mut window {
            *edge = reader.unsigned()?;
        }
    }
    // The window counts in samples of the subsampled chroma (table 6-1).
    let (unit_x, unit_y) = (if matches!(chroma_format, 1 | 2) { 2 } else { 1 }, if chroma_format == 1 { 2 } else { 1 });
    let [left, right, top, bottom] = window;
    let cut = |size: u32, unit: u32, a: u32, b: u32| size.checked_sub(a.checked_add(b)?.checked_mul(unit)?);
    Some(PictureSize { width: cut(width, unit_x, left, right)?, height: cut(height, unit_y, top, bottom)? })
}

/// ITU-T H.265 section 7.3.3.
pub(super) fn skip_profile_tier_level(reader: &mut BitReader<'_>, sub_layers: u32) -> Option<()> {
    const PROFILE_BITS: u32 = 88;
    const LEVEL_BITS: u32 = 8;
    let skip = |reader: &mut BitReader<'_>, count: u32| (0..count).try_for_each(|_| reader.flag().map(drop));
    skip(reader, PROFILE_BITS + LEVEL_BITS)?;
    let mut further_bits = 0;
    for _ in 0..sub_layers {
        let (has_profile, has_level) = (reader.flag()?, reader.flag()?);
        further_bits += u32::from(has_profile) * PROFILE_BITS + u32::from(has_level) * LEVEL_BITS;
    }
    if sub_layers > 0 {
        // Flags of the sub-layers that are not there, up to eight.
        further_bits += 2 * (8 - sub_layers);
    }
    skip(reader, further_bits)
}

/// The NAL units of an aggregation that are there in full (RFC 7798 section 4.4.2).
fn aggregated(payload: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = payload.get(NAL_HEADER_BYTES..).unwrap_or_default();
    std::iter::from_fn(move || {
        let (size, after) = rest.split_first_chunk()?;
        let (unit, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*size)))?;
        rest = after;
        Some(unit)
    })
}

/// Whether these NAL units have a picture that decoding can begin with.
pub fn is_random_access(nals: &[bytes::Bytes]) -> bool {
    nals.iter().any(|nal| nal_type(nal).is_some_and(|kind| IRAP.contains(&kind)))
}

pub fn is_parameter_set(nal: &[u8]) -> bool {
    nal_type(nal).is_some_and(|kind| (VPS..=PPS).contains(&kind))
}

/// Part of a picture: a slice.
pub fn is_slice(nal: &[u8]) -> bool {
    nal_type(nal).is_some_and(|kind| kind < VPS)
}

/// A picture that nothing refers to, in the highest temporal sub-layer: it can be left out.
pub fn is_disposable(nals: &[bytes::Bytes]) -> bool {
    let mut slices = nals.iter().filter(|nal| is_slice(nal)).filter_map(|nal| nal_type(nal)).peekable();
    slices.peek().is_some() && slices.all(|kind| kind < NON_REFERENCES_END && kind % 2 == 0)
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
    fn a_sequence_parameter_set_says_how_large_pictures_are() {
        // Of x265.
        let sps = [
            0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x78,
            0xa0, 0x03, 0xc0, 0x80, 0x10, 0xe5, 0x96, 0x56, 0x69, 0x24, 0xca, 0xf0,
        ];
        let size = Some(PictureSize { width: 1_920, height: 1_080 });
        assert_eq!(picture_size(&sps), size);
        let mut packet = vec![AGGREGATION << 1, 1, 0, 3];
        packet.extend(nal(VPS));
        packet.extend((sps.len() as u16).to_be_bytes());
        packet.extend(sps);
        assert_eq!(picture_size(&packet), size);
        assert_eq!(picture_size(&sps[..10]), None);
        assert_eq!(picture_size(&nal(19)), None);
    }

    #[test]
    fn only_the_first_fragment_begins_a_picture() {
        assert_eq!(inspect(&[FRAGMENT << 1, 1, 0x80 | 19]), Contents { random_access: true, ..NOTHING });
        assert_eq!(inspect(&[FRAGMENT << 1, 1, 19]), NOTHING);
        assert_eq!(inspect(&[FRAGMENT << 1, 1]), NOTHING);
        assert_eq!(inspect(&[]), NOTHING);
    }
}
