//! Slice headers (ITU-T H.264 section 7.3.3), as far as they say when a picture is shown and what it refers to.

use super::{
    escape::unescape,
    nal::{kind, ref_idc, unit_type},
    parameter_sets::{OrderCount, Pps, Sps},
};
use crate::codec::bits::BitReader;

/// How much of a slice is looked at. The longest header is that of weighted prediction with two lists of 32 pictures,
/// 6 codes each; such streams do not exist, and one cut short here counts as unreadable.
const HEADER_MAX_BYTES: usize = 512;
/// Entries of a reference list (section 7.4.3).
pub(super) const LIST_MAX: u32 = 32;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SliceKind {
    P,
    B,
    /// I, and the switching kinds of the extended profile.
    Other,
}

/// One step of `ref_pic_list_modification` for list 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Modification {
    Subtract(u32),
    Add(u32),
    LongTerm,
}

/// What happens to the reference pictures after this one is decoded (section 8.2.5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Marking {
    /// `nal_ref_idc` is 0, nothing happens.
    None,
    Sliding,
    Adaptive {
        /// `difference_of_pic_nums_minus1` + 1 of the short-term pictures that are let go.
        unused: Vec<u32>,
        /// An operation on long-term pictures, or one that forgets everything.
        beyond_short_term: bool,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SliceHeader {
    pub(super) kind: SliceKind,
    pub(super) idr: bool,
    pub(super) pps_id: u8,
    pub(super) frame_num: u32,
    pub(super) field: bool,
    /// `pic_order_cnt_lsb`, when the stream codes it.
    pub(super) order_low_bits: u32,
    /// Entries in use of list 0; 0 in intra slices.
    pub(super) list_length: u32,
    pub(super) modifications: Vec<Modification>,
    pub(super) marking: Marking,
}

/// Which picture parameter set a slice names: needed to find the sets that its header is read with.
pub(super) fn pps_id(nal: &[u8]) -> Option<u8> {
    let payload = unescape(nal.get(1..)?, 16);
    let mut r = BitReader::new(&payload);
    r.unsigned()?;
    r.unsigned()?;
    Some(r.unsigned_up_to(255)? as u8)
}

impl SliceHeader {
    /// `None` when the header is cut short or out of range.
    pub(super) fn parse(nal: &[u8], sps: &Sps, pps: &Pps) -> Option<Self> {
        let payload = unescape(nal.get(1..)?, HEADER_MAX_BYTES);
        let r = &mut BitReader::new(&payload);
        let idr = unit_type(nal) == kind::IDR_SLICE;
        r.unsigned()?; // first_mb_in_slice
        let kind = match r.unsigned_up_to(9)? % 5 {
            0 => SliceKind::P,
            1 => SliceKind::B,
            _ => SliceKind::Other,
        };
        let pps_id = r.unsigned_up_to(255)? as u8;
        if sps.separate_colour_planes {
            r.bits(2)?;
        }
        let frame_num = r.bits(sps.max_frame_num_bits)?;
        let field = !sps.frames_only && r.flag()?;
        if field {
            r.flag()?; // bottom_field_flag
        }
        if idr {
            r.unsigned()?; // idr_pic_id
        }
        let mut order_low_bits = 0;
        match sps.order_count {
            OrderCount::Coded { low_bits } => {
                order_low_bits = r.bits(low_bits)?;
                if pps.bottom_field_order_present && !field {
                    r.signed()?;
                }
            }
            OrderCount::Expected { always_zero: false } => {
                r.signed()?;
                if pps.bottom_field_order_present && !field {
                    r.signed()?;
                }
            }
            OrderCount::Expected { always_zero: true } | OrderCount::DecodingOrder => {}
        }
        if pps.redundant_picture_count_present {
            r.unsigned()?;
        }
        if kind == SliceKind::B {
            r.flag()?; // direct_spatial_mv_pred_flag
        }
        let mut lengths = pps.list_lengths;
        if kind != SliceKind::Other && r.flag()? {
            lengths[0] = r.unsigned_up_to(LIST_MAX - 1)? + 1;
            if kind == SliceKind::B {
                lengths[1] = r.unsigned_up_to(LIST_MAX - 1)? + 1;
            }
        }
        let mut modifications = Vec::new();
        if kind != SliceKind::Other {
            modifications = read_modifications(r)?;
            if kind == SliceKind::B {
                read_modifications(r)?;
            }
            let weighted = match kind {
                SliceKind::P => pps.weighted_prediction,
                _ => pps.weighted_bipred_idc == 1,
            };
            if weighted {
                let lists = if kind == SliceKind::B { &lengths[..] } else { &lengths[..1] };
                skip_weights(r, sps, lists)?;
            }
        }
        let marking = if ref_idc(nal) == 0 { Marking::None } else { read_marking(r, idr)? };
        let list_length = if kind == SliceKind::Other { 0 } else { lengths[0] };
        Some(Self { kind, idr, pps_id, frame_num, field, order_low_bits, list_length, modifications, marking })
    }
}

fn read_modifications(r: &mut BitReader<'_>) -> Option<Vec<Modification>> {
    let mut modifications = Vec::new();
    if !r.flag()? {
        return Some(modifications);
    }
    for _ in 0..=LIST_MAX {
        modifications.push(match r.unsigned_up_to(3)? {
            0 => Modification::Subtract(r.unsigned()?.checked_add(1)?),
            1 => Modification::Add(r.unsigned()?.checked_add(1)?),
            2 => {
                r.unsigned()?;
                Modification::LongTerm
            }
            _ => return Some(modifications),
        });
    }
    None
}

fn skip_weights(r: &mut BitReader<'_>, sps: &Sps, list_lengths: &[u32]) -> Option<()> {
    let chroma = sps.chroma_format_idc != 0 && !sps.separate_colour_planes;
    r.unsigned()?;
    if chroma {
        r.unsigned()?;
    }
    for &length in list_lengths {
        for _ in 0..length {
            if r.flag()? {
                r.signed()?;
                r.signed()?;
            }
            if chroma && r.flag()? {
                for _ in 0..4 {
                    r.signed()?;
                }
            }
        }
    }
    Some(())
}

fn read_marking(r: &mut BitReader<'_>, idr: bool) -> Option<Marking> {
    if idr {
        r.flag()?; // no_output_of_prior_pics_flag
        let long_term = r.flag()?;
        return Some(if long_term {
            Marking::Adaptive { unused: Vec::new(), beyond_short_term: true }
        } else {
            Marking::Sliding
        });
    }
    if !r.flag()? {
        return Some(Marking::Sliding);
    }
    let mut unused = Vec::new();
    let mut beyond_short_term = false;
    // One operation per picture that could be held, and then some; the standard has no figure.
    for _ in 0..=2 * LIST_MAX {
        match r.unsigned_up_to(6)? {
            0 => return Some(Marking::Adaptive { unused, beyond_short_term }),
            1 => unused.push(r.unsigned()?.checked_add(1)?),
            3 => {
                r.unsigned()?;
                r.unsigned()?;
                beyond_short_term = true;
            }
            5 => beyond_short_term = true,
            _ => {
                r.unsigned()?;
                beyond_short_term = true;
            }
        }
    }
    None
}
