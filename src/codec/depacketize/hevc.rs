//! H.265 (RFC 7798, without decoding order numbers).

use std::sync::Arc;

use bytes::Bytes;

use super::{
    BadPicture, DecoderSetup, Picture,
    nal_units::{Fragments, Sets, split_aggregation, with_lengths},
};
use crate::codec::{
    bits::BitReader,
    h264::{escape::unescape, nal::split_lengths, parameter_sets::PARAMETER_SET_MAX_BYTES},
    hevc,
};

const SLICES: std::ops::RangeInclusive<u8> = 0..=31;
const RANDOM_ACCESS: std::ops::RangeInclusive<u8> = 16..=23;
const VPS: u8 = 32;
const SPS: u8 = 33;
const PPS: u8 = 34;
const PREFIX_SEI: u8 = 39;
const SUFFIX_SEI: u8 = 40;
const AGGREGATION: u8 = 48;
const FRAGMENT: u8 = 49;

/// See the module.
#[derive(Debug, Default)]
pub struct HevcPictures {
    /// Video, sequence and picture parameter sets.
    sets: [Sets; 3],
    setup: Option<Arc<DecoderSetup>>,
}

impl HevcPictures {
    pub(super) fn of_payloads(&mut self, payloads: &[Bytes]) -> Result<Picture, BadPicture> {
        let mut nals = Vec::new();
        let mut fragments = Fragments::default();
        for payload in payloads.iter().filter(|payload| !payload.is_empty()) {
            match unit_type(payload) {
                AGGREGATION => split_aggregation(payload.slice(2.min(payload.len())..), &mut nals)?,
                FRAGMENT => {
                    let (&[first, second, header], body) = payload.split_first_chunk().ok_or(BadPicture::Truncated)?;
                    let nal_header = [first & 0x81 | (header & 0x3f) << 1, second];
                    fragments.add(&nal_header, header & 0x80 != 0, header & 0x40 != 0, body, &mut nals)?;
                }
                0..AGGREGATION => nals.push(payload.clone()),
                _ => return Err(BadPicture::Structure),
            }
        }
        fragments.finish()?;
        self.of_nals(nals)
    }

    /// What an `HEVCDecoderConfigurationRecord` says, in place of what was known.
    ///
    /// # Errors
    /// When it makes no sense. Gives the bytes of the lengths before NAL units, 1 to 4.
    pub fn configure(&mut self, record: &Bytes) -> Result<usize, hevc::BadHevcConfiguration> {
        let configuration = hevc::HevcConfiguration::parse(record)?;
        if !configuration.parameter_sets.is_empty() {
            self.sets.iter_mut().for_each(Sets::clear);
        }
        configuration.parameter_sets.iter().for_each(|set| self.take_set(set));
        Ok(configuration.length_bytes)
    }

    /// An access unit whose NAL units have lengths of `length_bytes` (1 to 4).
    ///
    /// # Errors
    /// When it is no picture.
    pub fn of_lengths(&mut self, data: &Bytes, length_bytes: usize) -> Result<Picture, BadPicture> {
        self.of_nals(split_lengths(data, length_bytes).map_err(|_| BadPicture::Truncated)?)
    }

    fn of_nals(&mut self, mut nals: Vec<Bytes>) -> Result<Picture, BadPicture> {
        for nal in &nals {
            self.take_set(nal);
        }
        nals.retain(|nal| {
            let kind = unit_type(nal);
            SLICES.contains(&kind) || kind == PREFIX_SEI || kind == SUFFIX_SEI
        });
        if !nals.iter().any(|nal| SLICES.contains(&unit_type(nal))) {
            return Err(BadPicture::Empty);
        }
        let keyframe = nals.iter().any(|nal| RANDOM_ACCESS.contains(&unit_type(nal)));
        let setup = if keyframe { Some(self.setup().ok_or(BadPicture::NoSetup)?) } else { None };
        Ok(Picture { keyframe, data: with_lengths(&nals), setup })
    }

    fn take_set(&mut self, nal: &Bytes) {
        let kind = unit_type(nal);
        if !(VPS..=PPS).contains(&kind) || nal.len() < 3 {
            return;
        }
        let id = match kind {
            VPS => nal.get(2).map(|byte| u32::from(byte >> 4)),
            SPS => sequence_set(nal).map(|sps| sps.id),
            _ => {
                let head = unescape(nal.get(2..).unwrap_or_default(), 8);
                BitReader::new(&head).unsigned_up_to(63)
            }
        };
        if let Some(id) = id {
            self.sets[usize::from(kind - VPS)].insert(id, nal);
        }
    }

    fn setup(&mut self) -> Option<Arc<DecoderSetup>> {
        let [vps, sps, pps] = &self.sets;
        let head = sequence_set(sps.first()?)?;
        vps.first()?;
        pps.first()?;
        let configuration = write_record(&head, &[vps, sps, pps]);
        if self.setup.as_ref().is_none_or(|known| known.configuration != configuration) {
            self.setup = Some(Arc::new(DecoderSetup {
                entry: *b"hvc1",
                configuration_box: *b"hvcC",
                configuration,
                size: hevc::picture_size(sps.first()?)?,
                codecs: head.codecs(),
                frame_rate: None,
            }));
        }
        self.setup.clone()
    }
}

fn unit_type(nal: &[u8]) -> u8 {
    nal.first().map_or(u8::MAX, |header| header >> 1 & 0x3f)
}

/// What the record needs of a sequence parameter set (ITU-T H.265 section 7.3.2.2).
struct SequenceSet {
    id: u32,
    sub_layers: u8,
    nesting: bool,
    /// Profile space, tier and profile; compatibility flags; constraint flags; level.
    profile_tier_level: [u8; 12],
    chroma_format: u8,
    depth_luma: u8,
    depth_chroma: u8,
}

impl SequenceSet {
    /// ISO/IEC 14496-15 section E.3.
    fn codecs(&self) -> String {
        let [first, c0, c1, c2, c3, constraints @ .., level] = self.profile_tier_level;
        let space = ["", "A", "B", "C"][usize::from(first >> 6)];
        let compatibility = u32::from_be_bytes([c0, c1, c2, c3]).reverse_bits();
        let tier = if first & 0x20 == 0 { 'L' } else { 'H' };
        let mut codecs = format!("hvc1.{space}{}.{compatibility:X}.{tier}{level}", first & 0x1f);
        let end = constraints.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        constraints[..end].iter().for_each(|byte| codecs.push_str(&format!(".{byte:X}")));
        codecs
    }
}

fn sequence_set(nal: &[u8]) -> Option<SequenceSet> {
    let payload = unescape(nal.get(2..)?, PARAMETER_SET_MAX_BYTES);
    let mut r = BitReader::new(&payload);
    r.bits(4)?; // sps_video_parameter_set_id
    let sub_layers = r.bits(3)? as u8;
    let nesting = r.flag()?;
    let profile_tier_level = *payload.get(1..)?.first_chunk::<12>()?;
    hevc::skip_profile_tier_level(&mut r, sub_layers.into())?;
    let id = r.unsigned_up_to(15)?;
    let chroma_format = r.unsigned_up_to(3)? as u8;
    if chroma_format == 3 {
        r.flag()?; // separate_colour_plane_flag
    }
    r.unsigned()?; // width and height
    r.unsigned()?;
    if r.flag()? {
        for _ in 0..4 {
            r.unsigned()?; // conformance window
        }
    }
    let depth_luma = 8 + r.unsigned_up_to(8)? as u8;
    let depth_chroma = 8 + r.unsigned_up_to(8)? as u8;
    Some(SequenceSet { id, sub_layers, nesting, profile_tier_level, chroma_format, depth_luma, depth_chroma })
}

/// `HEVCDecoderConfigurationRecord` (ISO/IEC 14496-15 section 8.3.3.1).
fn write_record(head: &SequenceSet, sets: &[&Sets; 3]) -> Bytes {
    let mut record = vec![1];
    record.extend(head.profile_tier_level);
    record.extend([0xf0, 0, 0xfc]); // min_spatial_segmentation_idc, parallelismType: unknown
    record.push(0xfc | head.chroma_format);
    record.push(0xf8 | (head.depth_luma - 8) & 7);
    record.push(0xf8 | (head.depth_chroma - 8) & 7);
    record.extend([0, 0]); // avgFrameRate: unknown
    // constantFrameRate, temporal layers, nesting, lengths of four bytes.
    record.push(((head.sub_layers + 1) & 7) << 3 | u8::from(head.nesting) << 2 | 3);
    record.push(sets.len() as u8);
    for (kind, sets) in (VPS..).zip(sets) {
        let sets = sets.all();
        const COMPLETE: u8 = 0x80;
        record.push(COMPLETE | kind);
        record.extend((sets.len() as u16).to_be_bytes());
        for set in sets {
            record.extend((set.len() as u16).to_be_bytes());
            record.extend_from_slice(&set);
        }
    }
    record.into()
}
