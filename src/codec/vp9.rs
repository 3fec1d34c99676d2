//! VP9 in RTP (RFC 9628): where keyframes begin, and how large they are. In: an RTP payload. It does not reassemble frames.

use super::{PictureSize, bits::BitReader};

/// True for the first packet of a picture that refers to no other: the beginning of a frame (B), not inter-predicted
/// (P clear), of the lowest spatial layer (RFC 9628 section 4.2). Higher layers of a keyframe have P clear too, but
/// refer to the layer below.
pub fn starts_keyframe(payload: &[u8]) -> bool {
    descriptor(payload).is_some_and(|descriptor| descriptor.starts_keyframe())
}

/// The size of a keyframe: of its highest spatial layer where the packet tells of layers, else as its own header says.
pub fn picture_size(payload: &[u8]) -> Option<PictureSize> {
    let descriptor = descriptor(payload).filter(Descriptor::starts_keyframe)?;
    let (layers, frame) = descriptor.scalability()?;
    layers.or_else(|| Some(frame_header(frame)?.size))
}

/// The payload descriptor (section 4.2) up to the layer indices.
struct Descriptor<'a> {
    predicted: bool,
    begins: bool,
    has_layers: bool,
    flexible: bool,
    has_scalability: bool,
    /// From the layer indices on.
    rest: &'a [u8],
}

fn descriptor(payload: &[u8]) -> Option<Descriptor<'_>> {
    let (&first, mut rest) = payload.split_first()?;
    let flag = |bit: u8| first & bit != 0;
    if flag(0x80) {
        // The picture id has 7 bits, or 15 when its first bit is set.
        let long = rest.first()? & 0x80 != 0;
        rest = rest.get(if long { 2 } else { 1 }..)?;
    }
    Some(Descriptor {
        predicted: flag(0x40),
        begins: flag(0x08),
        has_layers: flag(0x20),
        flexible: flag(0x10),
        has_scalability: flag(0x02),
        rest,
    })
}

impl<'a> Descriptor<'a> {
    fn starts_keyframe(&self) -> bool {
        let spatial_layer =
            if self.has_layers { self.rest.first().map(|indices| indices >> 1 & 0x07) } else { Some(0) };
        self.begins && !self.predicted && spatial_layer == Some(0) && !self.rest.is_empty()
    }

    /// The last layer's size as the scalability structure has it (section 4.2.1), if it does, and what follows: the frame.
    /// For a keyframe, which has no reference indices.
    fn scalability(&self) -> Option<(Option<PictureSize>, &'a [u8])> {
        // In non-flexible mode the layer indices are followed by TL0PICIDX.
        let indices = if !self.has_layers { 0 } else { 1 + usize::from(!self.flexible) };
        let rest = self.rest.get(indices..)?;
        if self.has_scalability { scalability(rest) } else { Some((None, rest)) }
    }
}

/// A scalability structure (section 4.2.1): the size of the highest layer if it tells, and what follows.
fn scalability(structure: &[u8]) -> Option<(Option<PictureSize>, &[u8])> {
    let (&structure, mut rest) = structure.split_first()?;
    let mut size = None;
    if structure & 0x10 != 0 {
        for _ in 0..=structure >> 5 {
            let (&[w0, w1, h0, h1], after) = rest.split_first_chunk()?;
            rest = after;
            let side = |high, low| u32::from(u16::from_be_bytes([high, low]));
            size = Some(PictureSize { width: side(w0, w1), height: side(h0, h1) });
        }
    }
    if structure & 0x08 != 0 {
        let (&pictures, after) = rest.split_first()?;
        rest = after;
        for _ in 0..pictures {
            let references = usize::from(rest.first()? >> 2 & 0x03);
            rest = rest.get(1 + references..)?;
        }
    }
    Some((size, rest))
}

/// What a payload has of a frame: whether the frame begins with it, and its bytes without the descriptor. `None` when it is cut short.
pub(super) fn frame_part(payload: &[u8]) -> Option<(bool, &[u8])> {
    let descriptor = descriptor(payload)?;
    let mut at = 0;
    if descriptor.has_layers {
        at += 1 + usize::from(!descriptor.flexible);
    }
    if descriptor.flexible && descriptor.predicted {
        // At most three references, each of which says whether another follows.
        for count in 1.. {
            let more = descriptor.rest.get(at)? & 1 != 0;
            at += 1;
            if !more || count == 3 {
                break;
            }
        }
    }
    if !descriptor.has_scalability {
        return Some((descriptor.begins, descriptor.rest.get(at..)?));
    }
    let (_, frame) = scalability(descriptor.rest.get(at..)?)?;
    Some((descriptor.begins, frame))
}

/// A keyframe's uncompressed header (VP9 bitstream specification, sections 6.2 and 7.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub profile: u8,
    pub bit_depth: u8,
    /// `color_space`.
    pub colour_space: u8,
    pub full_range: bool,
    /// As `vpcC` has it: 1 for 4:2:0 with chroma beside luma, 2 for 4:2:2, 3 for 4:4:4.
    pub subsampling: u8,
    pub size: PictureSize,
}

impl FrameHeader {
    /// Ten times the lowest level (annex A) that allows pictures so large. How many come in a second is not in the stream: 30.
    pub(super) fn level(&self) -> u8 {
        /// Level, luma samples of a picture, and of a second.
        const LEVELS: [(u8, u64, u64); 14] = [
            (10, 36_864, 829_440),
            (11, 73_728, 2_764_800),
            (20, 122_880, 4_608_000),
            (21, 245_760, 9_216_000),
            (30, 552_960, 20_736_000),
            (31, 983_040, 36_864_000),
            (40, 2_228_224, 83_558_400),
            (41, 2_228_224, 160_432_128),
            (50, 8_912_896, 311_951_360),
            (51, 8_912_896, 588_251_136),
            (52, 8_912_896, 1_176_502_272),
            (60, 35_651_584, 1_176_502_272),
            (61, 35_651_584, 2_353_004_544),
            (62, 35_651_584, 4_706_009_088),
        ];
        const PICTURES_PER_SECOND: u64 = 30;
        let samples = u64::from(self.size.width) * u64::from(self.size.height);
        let fits =
            |&&(_, picture, second): &&(u8, u64, u64)| samples <= picture && samples * PICTURES_PER_SECOND <= second;
        LEVELS.iter().find(fits).map_or(62, |(level, ..)| *level)
    }

    /// Primaries, transfer and matrix (ISO/IEC 23091-2) of `color_space`.
    pub(super) fn colours(&self) -> [u8; 3] {
        match self.colour_space {
            1 => [6, 6, 6],  // BT.601
            2 => [1, 1, 1],  // BT.709
            3 => [6, 6, 6],  // SMPTE 170M
            4 => [7, 7, 7],  // SMPTE 240M
            5 => [9, 14, 9], // BT.2020
            7 => [1, 13, 0], // sRGB
            _ => [2, 2, 2],
        }
    }
}

pub(crate) fn frame_header(frame: &[u8]) -> Option<FrameHeader> {
    const SYNC_CODE: u32 = 0x49_8342;
    const RGB: u32 = 7;
    let mut r = BitReader::new(frame);
    if r.bits(2)? != 2 {
        return None; // frame_marker
    }
    let profile = (r.bits(1)? | r.bits(1)? << 1) as u8;
    let reserved = profile == 3 && r.flag()?;
    let (shown_again, inter) = (r.flag()?, r.flag()?);
    r.bits(2)?; // show_frame, error_resilient_mode
    if reserved || shown_again || inter || r.bits(24)? != SYNC_CODE {
        return None;
    }
    let bit_depth = if profile >= 2 { 10 + 2 * r.bits(1)? as u8 } else { 8 };
    let colours = r.bits(3)?;
    let full_range = if colours == RGB { true } else { r.flag()? };
    let mut subsampling = if colours == RGB { 3 } else { 1 };
    if profile & 1 == 1 {
        if colours != RGB {
            let (x, y) = (r.flag()?, r.flag()?);
            subsampling = match (x, y) {
                (true, true) => 1,
                (true, false) => 2,
                (false, _) => 3,
            };
        }
        r.flag()?; // reserved
    }
    let size = PictureSize { width: r.bits(16)? + 1, height: r.bits(16)? + 1 };
    Some(FrameHeader { profile, bit_depth, colour_space: colours as u8, full_range, subsampling, size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyframe_begins_with_b_set_and_p_clear() {
        assert!(starts_keyframe(&[0x88, 0x05, 1]));
        assert!(starts_keyframe(&[0x88, 0x85, 0x01, 1]));
        assert!(starts_keyframe(&[0x08, 1]), "without a picture id");
        assert!(!starts_keyframe(&[0xc8, 0x05, 1]), "inter-predicted");
        assert!(!starts_keyframe(&[0x80, 0x05, 1]), "a continuation");
    }

    #[test]
    fn only_the_lowest_spatial_layer_begins_a_picture() {
        assert!(starts_keyframe(&[0xa8, 0x85, 0x01, 0x00, 9, 1]));
        assert!(!starts_keyframe(&[0xa8, 0x85, 0x01, 0x03, 9, 1]));
    }

    #[test]
    fn a_keyframe_says_how_large_it_is() {
        // libvpx, 640 x 360.
        let frame = [0x82, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16, 0x76, 0x04];
        let size = Some(PictureSize { width: 640, height: 360 });
        for descriptor in [&[0x08][..], &[0x88, 0x05], &[0xa8, 0x85, 0x01, 0x00, 9], &[0xb8, 0x85, 0x01, 0x00]] {
            assert_eq!(picture_size(&[descriptor, &frame].concat()), size, "{descriptor:?}");
        }
        // Groups of pictures told of, no sizes: two pictures, the second with one reference.
        assert_eq!(picture_size(&[&[0x0a, 0x08, 2, 0, 0x04, 1][..], &frame].concat()), size);
        assert_eq!(picture_size(&[&[0xc8, 0x05][..], &frame].concat()), None, "inter-predicted");
        let whole = [&[0x08][..], &frame].concat();
        assert!((0..whole.len() - 1).all(|len| picture_size(&whole[..len]).is_none()));
    }

    #[test]
    fn of_several_spatial_layers_the_highest_counts() {
        // Three layers: 320 x 180, 640 x 360, 1280 x 720.
        let sizes = [1, 0x40, 0, 180, 2, 0x80, 1, 0x68, 5, 0, 2, 0xd0];
        let payload = [&[0xaa, 0x85, 0x01, 0x00, 9, 0x50][..], &sizes, &[0x82]].concat();
        assert_eq!(picture_size(&payload), Some(PictureSize { width: 1_280, height: 720 }));
    }

    #[test]
    fn cut_payloads_are_no_keyframes() {
        let whole = [0xa8, 0x85, 0x01, 0];
        assert!(starts_keyframe(&whole));
        for len in 0..whole.len() {
            assert!(!starts_keyframe(&whole[..len]));
        }
    }
}
