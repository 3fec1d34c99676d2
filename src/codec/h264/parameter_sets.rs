//! Sequence and picture parameter sets (ITU-T H.264 sections 7.3.2.1, 7.3.2.2 and E.1): what the stream is, and what its
//! slice headers need to be read. Only what Sluice uses is kept.

use bytes::Bytes;

use super::escape::{escape, unescape};
use crate::codec::bits::BitReader;

/// The longest parameter set read, in bytes. Real ones have some tens; scaling matrices and HRD tables some hundreds.
pub const PARAMETER_SET_MAX_BYTES: usize = 4096;

/// A parameter set that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadParameterSet {
    #[error("the sequence parameter set is cut short or out of range")]
    Sequence,
    #[error("the picture parameter set is cut short or out of range")]
    Picture,
    #[error("a parameter set of {0} bytes; at most {PARAMETER_SET_MAX_BYTES} are read")]
    TooLong(usize),
}

/// A sequence parameter set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sps {
    pub id: u8,
    pub profile_idc: u8,
    /// `constraint_set0_flag` in the highest bit.
    pub constraint_flags: u8,
    pub level_idc: u8,
    pub chroma_format_idc: u8,
    pub separate_colour_planes: bool,
    pub bit_depth_luma: u8,
    pub bit_depth_chroma: u8,
    pub max_frame_num_bits: u32,
    pub order_count: OrderCount,
    pub max_ref_frames: u32,
    pub gaps_in_frame_num_allowed: bool,
    pub frames_only: bool,
    /// Luma size after cropping.
    pub width: u32,
    pub height: u32,
    pub usability: Usability,
    /// Where the flag of frame number gaps is, in bits of the unescaped payload.
    gaps_flag_bit: usize,
}

/// What the set says beside what decoding needs (appendix E), as far as it does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usability {
    /// `time_scale` and twice `num_units_in_tick`: pictures per second.
    pub frame_rate: Option<(u32, u32)>,
    /// `max_num_reorder_frames`.
    pub max_reorder_frames: Option<u32>,
}

/// How pictures say when they are shown (section 8.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrderCount {
    /// `pic_order_cnt_type` 0: low bits of a counter in each slice header.
    Coded { low_bits: u32 },
    /// Type 1: differences to an expected order.
    Expected { always_zero: bool },
    /// Type 2: decoding order is the order of output.
    DecodingOrder,
}

impl Sps {
    /// Parses a NAL unit of type 7, header included.
    ///
    /// # Errors
    /// [`BadParameterSet`] when it is cut short, out of range or too long.
    pub fn parse(nal: &[u8]) -> Result<Self, BadParameterSet> {
        if nal.len() > PARAMETER_SET_MAX_BYTES {
            return Err(BadParameterSet::TooLong(nal.len()));
        }
        let payload = unescape(nal.get(1..).unwrap_or_default(), PARAMETER_SET_MAX_BYTES);
        Self::read(&mut BitReader::new(&payload)).ok_or(BadParameterSet::Sequence)
    }

    fn read(r: &mut BitReader<'_>) -> Option<Self> {
        let profile_idc = r.bits(8)? as u8;
        let constraint_flags = r.bits(8)? as u8;
        let level_idc = r.bits(8)? as u8;
        let id = r.unsigned_up_to(31)? as u8;
        let mut chroma_format_idc = 1;
        let mut separate_colour_planes = false;
        let (mut bit_depth_luma, mut bit_depth_chroma) = (8, 8);
        if matches!(profile_idc, 100 | 110 | 122 | 244 | 44 | 83 | 86 | 118 | 128 | 138 | 139 | 134 | 135) {
            chroma_format_idc = r.unsigned_up_to(3)? as u8;
            separate_colour_planes = chroma_format_idc == 3 && r.flag()?;
            bit_depth_luma = 8 + r.unsigned_up_to(6)? as u8;
            bit_depth_chroma = 8 + r.unsigned_up_to(6)? as u8;
            r.flag()?; // qpprime_y_zero_transform_bypass_flag
            if r.flag()? {
                skip_scaling_lists(r, if chroma_format_idc == 3 { 12 } else { 8 })?;
            }
        }
        let max_frame_num_bits = r.unsigned_up_to(12)? + 4;
        let order_count = match r.unsigned_up_to(2)? {
            0 => OrderCount::Coded { low_bits: r.unsigned_up_to(12)? + 4 },
            1 => {
                let always_zero = r.flag()?;
                r.signed()?; // offset_for_non_ref_pic
                r.signed()?; // offset_for_top_to_bottom_field
                for _ in 0..r.unsigned_up_to(255)? {
                    r.signed()?;
                }
                OrderCount::Expected { always_zero }
            }
            _ => OrderCount::DecodingOrder,
        };
        let max_ref_frames = r.unsigned_up_to(16)?;
        let gaps_flag_bit = r.position_bits();
        let gaps_in_frame_num_allowed = r.flag()?;
        // 1,023 macroblocks are 16,368 samples: beyond what level 6.2 can hold in one direction.
        let width_mbs = r.unsigned_up_to(1_022)? + 1;
        let height_units = r.unsigned_up_to(1_022)? + 1;
        let frames_only = r.flag()?;
        if !frames_only {
            r.flag()?; // mb_adaptive_frame_field_flag
        }
        r.flag()?; // direct_8x8_inference_flag
        let height_mbs = height_units * if frames_only { 1 } else { 2 };
        let (mut width, mut height) = (width_mbs * 16, height_mbs * 16);
        if r.flag()? {
            let unit_x = if matches!(chroma_format_idc, 1 | 2) { 2 } else { 1 };
            let unit_y = if chroma_format_idc == 1 { 2 } else { 1 } * if frames_only { 1 } else { 2 };
            let mut crop = || r.unsigned_up_to(16_384);
            let (left, right, top, bottom) = (crop()?, crop()?, crop()?, crop()?);
            width = width.checked_sub(unit_x * (left + right)).filter(|&w| w > 0)?;
            height = height.checked_sub(unit_y * (top + bottom)).filter(|&h| h > 0)?;
        }
        // What the usability information says is welcome, not needed: encoders exist that write it wrong.
        let mut usability = Usability::default();
        if r.flag()? {
            let _ = read_usability(r, &mut usability);
        }
        Some(Self {
            id,
            profile_idc,
            constraint_flags,
            level_idc,
            chroma_format_idc,
            separate_colour_planes,
            bit_depth_luma,
            bit_depth_chroma,
            max_frame_num_bits,
            order_count,
            max_ref_frames,
            gaps_in_frame_num_allowed,
            frames_only,
            width,
            height,
            usability,
            gaps_flag_bit,
        })
    }

    /// `profile-level-id` as SDP writes it (RFC 6184 section 8.1).
    pub fn profile_level_id(&self) -> String {
        format!("{:02x}{:02x}{:02x}", self.profile_idc, self.constraint_flags, self.level_idc)
    }

    /// The format parameters of a track with these parameter sets, packetized in mode 1.
    pub fn fmtp(&self) -> String {
        let id = self.profile_level_id();
        format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={id}")
    }

    /// False when B-frames that others refer to cannot occur, whatever the encoder does: between two pictures in order
    /// there must be room for two that are not.
    pub fn may_have_b_references(&self) -> bool {
        let baseline = self.profile_idc == 66; // no B slices (section A.2.1)
        let reordering =
            self.order_count != OrderCount::DecodingOrder && self.usability.max_reorder_frames.is_none_or(|n| n >= 2);
        !baseline && reordering
    }

    /// The same set with `gaps_in_frame_num_value_allowed_flag` set: pictures may then be left out of the stream if no
    /// picture that stays refers to them (section 8.2.5.2).
    pub fn with_gaps_allowed(&self, nal: &[u8]) -> Bytes {
        let mut payload = unescape(nal.get(1..).unwrap_or_default(), PARAMETER_SET_MAX_BYTES);
        if let Some(byte) = payload.get_mut(self.gaps_flag_bit / 8) {
            *byte |= 0x80 >> (self.gaps_flag_bit % 8);
        }
        let mut out = Vec::with_capacity(nal.len() + 4);
        out.extend(nal.first());
        escape(&payload, &mut out);
        out.into()
    }
}

fn skip_scaling_lists(r: &mut BitReader<'_>, lists: usize) -> Option<()> {
    for list in 0..lists {
        if !r.flag()? {
            continue;
        }
        let (mut last, mut next) = (8i32, 8i32);
        for _ in 0..if list < 6 { 16 } else { 64 } {
            if next != 0 {
                next = (last + r.signed()?.clamp(-256, 256)).rem_euclid(256);
            }
            last = if next == 0 { last } else { next };
        }
    }
    Some(())
}

/// Walks `vui_parameters()` to its end; `None` when it is cut short.
fn read_usability(r: &mut BitReader<'_>, usability: &mut Usability) -> Option<()> {
    if r.flag()? && r.bits(8)? == 255 {
        r.bits(32)?; // sar_width, sar_height
    }
    if r.flag()? {
        r.flag()?; // overscan_appropriate_flag
    }
    if r.flag()? {
        r.bits(4)?; // video_format, video_full_range_flag
        if r.flag()? {
            r.bits(24)?; // colour description
        }
    }
    if r.flag()? {
        r.unsigned()?; // chroma sample locations
        r.unsigned()?;
    }
    if r.flag()? {
        let (units_in_tick, time_scale) = (r.bits(32)?, r.bits(32)?);
        r.flag()?; // fixed_frame_rate_flag
        // A tick is a field's.
        usability.frame_rate = units_in_tick.checked_mul(2).filter(|&units| units > 0).map(|units| (time_scale, units));
    }
    let nal_hrd = r.flag()?;
    if nal_hrd {
        skip_hrd(r)?;
    }
    let vcl_hrd = r.flag()?;
    if vcl_hrd {
        skip_hrd(r)?;
    }
    if nal_hrd || vcl_hrd {
        r.flag()?; // low_delay_hrd_flag
    }
    r.flag()?; // pic_struct_present_flag
    if !r.flag()? {
        return Some(());
    }
    r.flag()?; // motion_vectors_over_pic_boundaries_flag
    for _ in 0..4 {
        r.unsigned()?; // sizes and vector ranges
    }
    usability.max_reorder_frames = r.unsigned_up_to(16);
    Some(())
}

fn skip_hrd(r: &mut BitReader<'_>) -> Option<()> {
    let count = r.unsigned_up_to(31)? + 1;
    r.bits(8)?; // bit_rate_scale, cpb_size_scale
    for _ in 0..count {
        r.unsigned()?;
        r.unsigned()?;
        r.flag()?;
    }
    r.bits(20)?; // lengths of delays and of the time offset
    Some(())
}

/// A picture parameter set, as far as slice headers need it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pps {
    pub id: u8,
    pub sps_id: u8,
    pub bottom_field_order_present: bool,
    /// Default lengths of the two reference lists.
    pub list_lengths: [u32; 2],
    pub weighted_prediction: bool,
    pub weighted_bipred_idc: u32,
    pub redundant_picture_count_present: bool,
}

impl Pps {
    /// Parses a NAL unit of type 8, header included.
    ///
    /// # Errors
    /// [`BadParameterSet`] when it is cut short, out of range or too long.
    pub fn parse(nal: &[u8]) -> Result<Self, BadParameterSet> {
        if nal.len() > PARAMETER_SET_MAX_BYTES {
            return Err(BadParameterSet::TooLong(nal.len()));
        }
        let payload = unescape(nal.get(1..).unwrap_or_default(), PARAMETER_SET_MAX_BYTES);
        Self::read(&mut BitReader::new(&payload)).ok_or(BadParameterSet::Picture)
    }

    fn read(r: &mut BitReader<'_>) -> Option<Self> {
        let id = r.unsigned_up_to(255)? as u8;
        let sps_id = r.unsigned_up_to(31)? as u8;
        r.flag()?; // entropy_coding_mode_flag
        let bottom_field_order_present = r.flag()?;
        // Slice groups are a tool of the baseline and extended profiles that no live encoder has; WebRTC's
        // constrained baseline forbids them.
        if r.unsigned()? != 0 {
            return None;
        }
        let list_lengths = [r.unsigned_up_to(31)? + 1, r.unsigned_up_to(31)? + 1];
        let weighted_prediction = r.flag()?;
        let weighted_bipred_idc = r.bits(2)?;
        r.signed()?; // pic_init_qp_minus26
        r.signed()?; // pic_init_qs_minus26
        r.signed()?; // chroma_qp_index_offset
        r.flag()?; // deblocking_filter_control_present_flag
        r.flag()?; // constrained_intra_pred_flag
        let redundant_picture_count_present = r.flag()?;
        Some(Self {
            id,
            sps_id,
            bottom_field_order_present,
            list_lengths,
            weighted_prediction,
            weighted_bipred_idc,
            redundant_picture_count_present,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x264's for 64x64, 30000/1001 pictures per second, without reordering.
    const SPS: [u8; 24] = [
        0x67, 0xf4, 0x00, 0x0a, 0x91, 0x96, 0x41, 0x09, 0xb0, 0x11, 0x00, 0x00, 0x03, 0x03, 0xe9, 0x00, 0x00, 0xea,
        0x60, 0x8f, 0x12, 0x26, 0x48, 0x00,
    ];

    #[test]
    fn usability_is_read_as_far_as_it_goes() {
        let whole = Sps::parse(&SPS).unwrap();
        assert_eq!((whole.width, whole.height), (64, 64));
        assert_eq!(whole.usability, Usability { frame_rate: Some((60_000, 2_002)), max_reorder_frames: Some(0) });
        let cut = Sps::parse(&SPS[..20]).unwrap();
        assert_eq!(cut.usability, Usability { frame_rate: Some((60_000, 2_002)), max_reorder_frames: None });
        assert_eq!(Sps::parse(&SPS[..14]).unwrap().usability, Usability::default());
    }
}
