//! AV1 in RTP (AOM's "RTP Payload Format For AV1", section 4.4): where keyframes begin, and how large they are. In: an RTP
//! payload. It does not reassemble frames.

use super::{PictureSize, bits::BitReader};

/// True for the first packet of a coded video sequence: N set in the aggregation header, and no continuation (Z clear).
/// Receivers go by N, and senders must set it with each new sequence, so a repeated sequence header without it is no
/// place to begin.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    const CONTINUATION: u8 = 0x80;
    const NEW_SEQUENCE: u8 = 0x08;
    payload.len() > 1 && payload[0] & (CONTINUATION | NEW_SEQUENCE) == NEW_SEQUENCE
}

/// The largest size that a sequence header in the payload allows: that of the pictures, unless the encoder scales them.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    const SEQUENCE_HEADER: u8 = 1;
    let (&aggregation, mut rest) = payload.split_first()?;
    // So many elements, of which the last has no length; 0: all have one.
    let count = usize::from(aggregation >> 4 & 0x03);
    let is_continuation = aggregation & 0x80 != 0;
    for element in 1.. {
        if rest.is_empty() || count > 0 && element > count {
            break;
        }
        let obu = if element == count {
            std::mem::take(&mut rest)
        } else {
            let (length, after) = leb128(rest)?;
            let (obu, after) = after.split_at_checked(length)?;
            rest = after;
            obu
        };
        let is_whole = element > 1 || !is_continuation;
        if is_whole && obu.first().is_some_and(|header| header >> 3 & 0x0f == SEQUENCE_HEADER) {
            return sequence_size(body(obu)?);
        }
    }
    None
}

/// What follows an OBU's header (AV1 bitstream specification, section 5.3).
fn body(obu: &[u8]) -> Option<&[u8]> {
    let (&header, mut rest) = obu.split_first()?;
    if header & 0x04 != 0 {
        rest = rest.get(1..)?; // temporal and spatial id
    }
    if header & 0x02 != 0 {
        let (length, after) = leb128(rest)?;
        rest = after.get(..length)?;
    }
    Some(rest)
}

/// A length of at most 8 bytes (section 4.10.5), and what follows it.
pub(super) fn leb128(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let mut value = 0u64;
    for (at, byte) in bytes.iter().enumerate().take(8) {
        value |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            return Some((usize::try_from(value).ok()?, bytes.get(at + 1..)?));
        }
    }
    None
}

/// What MP4 and playlists say of a sequence header (section 5.5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SequenceHeader {
    pub profile: u8,
    /// `seq_level_idx` and `seq_tier` of the first operating point: all layers.
    pub level: u8,
    pub tier: u8,
    pub size: PictureSize,
    pub bit_depth: u8,
    pub monochrome: bool,
    /// Of chroma, across and down.
    pub subsampling: (bool, bool),
    pub chroma_position: u8,
}

impl SequenceHeader {
    /// From an OBU, header included.
    pub(crate) fn of_obu(obu: &[u8]) -> Option<Self> {
        Self::parse(body(obu)?)
    }

    fn parse(header: &[u8]) -> Option<Self> {
        let mut r = BitReader::new(header);
        let (profile, level, tier, reduced, size) = sequence_head(&mut r)?;
        if !reduced && r.flag()? {
            r.bits(7)?; // lengths of frame ids
        }
        r.bits(3)?; // use_128x128_superblock, enable_filter_intra, enable_intra_edge_filter
        if !reduced {
            skip_tools(&mut r)?;
        }
        r.bits(3)?; // enable_superres, enable_cdef, enable_restoration
        let high = r.flag()?;
        let bit_depth = match high {
            true if profile == 2 && r.flag()? => 12,
            true => 10,
            false => 8,
        };
        let monochrome = profile != 1 && r.flag()?;
        const SRGB: [u32; 3] = [1, 13, 0];
        let colours = if r.flag()? { Some([r.bits(8)?, r.bits(8)?, r.bits(8)?]) } else { None };
        let mut subsampling = (true, true);
        let mut chroma_position = 0;
        if monochrome {
            r.flag()?; // color_range
        } else if colours == Some(SRGB) {
            subsampling = (false, false);
        } else {
            r.flag()?; // color_range
            subsampling = match profile {
                0 => (true, true),
                1 => (false, false),
                _ if bit_depth == 12 => {
                    let across = r.flag()?;
                    (across, across && r.flag()?)
                }
                _ => (true, false),
            };
            if subsampling == (true, true) {
                chroma_position = r.bits(2)? as u8;
            }
        }
        Some(Self { profile, level, tier, size, bit_depth, monochrome, subsampling, chroma_position })
    }
}

/// From a sequence header, as far as the size is.
fn sequence_size(header: &[u8]) -> Option<PictureSize> {
    sequence_head(&mut BitReader::new(header)).map(|(.., size)| size)
}

/// Profile, level, tier, whether it is reduced to a still picture's, and size.
fn sequence_head(r: &mut BitReader<'_>) -> Option<(u8, u8, u8, bool, PictureSize)> {
    let profile = r.bits(3)? as u8;
    r.flag()?; // still_picture
    let reduced = r.flag()?;
    let (level, tier) = if reduced { (r.bits(5)? as u8, 0) } else { operating_points(r)? };
    let (width_bits, height_bits) = (r.bits(4)? + 1, r.bits(4)? + 1);
    let size = PictureSize { width: r.bits(width_bits)? + 1, height: r.bits(height_bits)? + 1 };
    Some((profile, level, tier, reduced, size))
}

/// What a whole sequence header says of coding tools.
fn skip_tools(r: &mut BitReader<'_>) -> Option<()> {
    r.bits(4)?; // enable_interintra_compound, masked_compound, warped_motion, dual_filter
    let order_hint = r.flag()?;
    if order_hint {
        r.bits(2)?; // enable_jnt_comp, enable_ref_frame_mvs
    }
    let screen_content = r.flag()? || r.flag()?;
    if screen_content && !r.flag()? {
        r.flag()?; // seq_force_integer_mv
    }
    if order_hint {
        r.bits(3)?; // order_hint_bits_minus_1
    }
    Some(())
}

/// Level and tier of the first.
fn operating_points(r: &mut BitReader<'_>) -> Option<(u8, u8)> {
    let mut delay_bits = None;
    let mut first = None;
    if r.flag()? {
        r.bits(32)?; // num_units_in_display_tick
        r.bits(32)?; // time_scale
        if r.flag()? {
            r.unsigned()?; // num_ticks_per_picture_minus_1: uvlc() is ue(v)
        }
        if r.flag()? {
            delay_bits = Some(r.bits(5)? + 1);
            r.bits(32)?; // num_units_in_decoding_tick
            r.bits(10)?; // lengths of other times
        }
    }
    let initial_display_delay = r.flag()?;
    for _ in 0..=r.bits(5)? {
        r.bits(12)?; // operating_point_idc
        let level = r.bits(5)? as u8;
        let tier = level > 7 && r.flag()?;
        first = first.or(Some((level, u8::from(tier))));
        if let Some(bits) = delay_bits
            && r.flag()?
        {
            r.bits(bits)?; // decoder_buffer_delay
            r.bits(bits)?; // encoder_buffer_delay
            r.flag()?; // low_delay_mode_flag
        }
        if initial_display_delay && r.flag()? {
            r.bits(4)?;
        }
    }
    first
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_sequence_that_is_no_continuation_is_a_keyframe() {
        assert!(starts_keyframe(&[0b0001_1000, 0x0a]));
        assert!(starts_keyframe(&[0b0110_1000, 0x0a]), "with the last OBU going on in the next packet");
        assert!(!starts_keyframe(&[0b1001_1000, 0x0a]), "a continuation");
        assert!(!starts_keyframe(&[0b0001_0000, 0x0a]), "no new sequence");
        assert!(!starts_keyframe(&[0b0001_1000]), "no OBU");
        assert!(!starts_keyframe(&[]));
    }

    #[test]
    fn a_sequence_header_says_how_large_pictures_may_be() {
        let size = Some(PictureSize { width: 640, height: 360 });
        // libaom and SVT-AV1, 640 x 360, after a temporal delimiter that some senders leave in.
        let libaom = [0x0a, 0x0b, 0x00, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x3e, 0xbe, 0x60, 0x10];
        let svt = [0x0a, 0x0c, 0x02, 0x00, 0x00, 0x0d, 0x66, 0x27, 0xfb, 0x38, 0xd5, 0xf3, 0x00, 0x80];
        for obu in [&libaom[..], &svt] {
            let length = [obu.len() as u8];
            assert_eq!(picture_size(&[&[0x18][..], obu].concat()), size, "alone");
            assert_eq!(
                picture_size(&[&[0x08, 2, 0x12, 0][..], &length, obu, &[1, 0x32]].concat()),
                size,
                "all with lengths"
            );
            assert_eq!(picture_size(&[&[0x28][..], &length, obu, &[0x32, 1, 2]].concat()), size, "before a frame");
            assert_eq!(picture_size(&[&[0x98][..], obu].concat()), None, "a continuation has no header");
            assert!((0..8).all(|len| picture_size(&[&[0x18][..], &obu[..len]].concat()).is_none()));
        }
        // As RTP senders should write it: without a length of its own.
        let bare = [&[0x18, 0x08][..], &libaom[2..]].concat();
        assert_eq!(picture_size(&bare), size);
        assert_eq!(picture_size(&[0x10, 0x32, 1, 2]), None, "no sequence header");
    }
}
