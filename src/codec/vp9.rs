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
    layers.or_else(|| frame_size(frame))
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
        let mut rest = self.rest.get(indices..)?;
        if !self.has_scalability {
            return Some((None, rest));
        }
        let (&structure, after) = rest.split_first()?;
        rest = after;
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
}

/// From a keyframe's uncompressed header (VP9 bitstream specification, sections 6.2 and 7.2).
fn frame_size(frame: &[u8]) -> Option<PictureSize> {
    const SYNC_CODE: u32 = 0x49_8342;
    const RGB: u32 = 7;
    let mut r = BitReader::new(frame);
    if r.bits(2)? != 2 {
        return None; // frame_marker
    }
    let profile = r.bits(1)? | r.bits(1)? << 1;
    let reserved = profile == 3 && r.flag()?;
    let (shown_again, inter) = (r.flag()?, r.flag()?);
    r.bits(2)?; // show_frame, error_resilient_mode
    if reserved || shown_again || inter || r.bits(24)? != SYNC_CODE {
        return None;
    }
    if profile >= 2 {
        r.flag()?; // ten_or_twelve_bit
    }
    let colours = r.bits(3)?;
    if colours != RGB {
        r.flag()?; // color_range
    }
    if profile & 1 == 1 {
        // Subsampling where it may vary, and a reserved bit.
        r.bits(if colours == RGB { 1 } else { 3 })?;
    }
    Some(PictureSize { width: r.bits(16)? + 1, height: r.bits(16)? + 1 })
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
