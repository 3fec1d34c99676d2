//! H.264 (RFC 6184, single NAL unit and non-interleaved mode), and what it has in common with H.265: fragments, aggregations,
//! parameter sets that are kept apart from the pictures.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{BadPicture, DecoderSetup, Picture};
use crate::codec::{
    PictureSize,
    bits::BitReader,
    h264::{
        BadDecoderConfiguration, DecoderConfiguration,
        escape::unescape,
        nal::{kind, split_lengths, unit_type},
        parameter_sets::{PARAMETER_SET_MAX_BYTES, Sps},
        write_record,
    },
};

/// Parameter sets of one kind a stream may have at a time. Encoders use one; a few more for several sizes.
pub(super) const SETS_MAX: usize = 16;
/// Bytes of the lengths that are written before NAL units.
pub(super) const LENGTH_BYTES: usize = 4;

/// Parameter sets of one kind, by id, as sent. At most [`SETS_MAX`] of [`PARAMETER_SET_MAX_BYTES`] each: 64 KiB.
#[derive(Debug, Clone, Default)]
pub(super) struct Sets {
    sets: Vec<(u32, Bytes)>,
}

impl Sets {
    /// Takes one in, in place of the one with its id.
    pub(super) fn insert(&mut self, id: u32, set: &Bytes) {
        if set.len() > PARAMETER_SET_MAX_BYTES {
            return;
        }
        match self.sets.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) if known == set => {}
            // A copy: it stays, and what it came in should not.
            Some((_, known)) => *known = Bytes::copy_from_slice(set),
            None => {
                if self.sets.len() == SETS_MAX {
                    self.sets.remove(0);
                }
                self.sets.push((id, Bytes::copy_from_slice(set)));
            }
        }
    }

    pub(super) fn all(&self) -> Vec<Bytes> {
        self.sets.iter().map(|(_, set)| set.clone()).collect()
    }

    pub(super) fn clear(&mut self) {
        self.sets.clear();
    }

    pub(super) fn first(&self) -> Option<&Bytes> {
        self.sets.first().map(|(_, set)| set)
    }
}

/// Puts NAL units together, with lengths before them.
pub(super) fn with_lengths(nals: &[Bytes]) -> Bytes {
    let mut data = BytesMut::with_capacity(nals.iter().map(|nal| LENGTH_BYTES + nal.len()).sum());
    for nal in nals {
        data.extend_from_slice(&(nal.len() as u32).to_be_bytes());
        data.extend_from_slice(nal);
    }
    data.freeze()
}

/// The units of an aggregation: each behind its length of two bytes.
pub(super) fn split_aggregation(mut units: Bytes, nals: &mut Vec<Bytes>) -> Result<(), BadPicture> {
    while !units.is_empty() {
        let length = units.first_chunk().map(|length| usize::from(u16::from_be_bytes(*length)));
        let length = length.filter(|length| 2 + length <= units.len()).ok_or(BadPicture::Truncated)?;
        let _ = units.split_to(2);
        let nal = units.split_to(length);
        if !nal.is_empty() {
            nals.push(nal);
        }
    }
    Ok(())
}

/// A NAL unit that is being put together of fragments.
#[derive(Debug, Default)]
pub(super) struct Fragments {
    nal: Option<BytesMut>,
}

impl Fragments {
    /// A fragment came; `header` is the NAL unit's own, which the first one stands for.
    pub(super) fn add(
        &mut self,
        header: &[u8],
        starts: bool,
        ends: bool,
        body: &[u8],
        nals: &mut Vec<Bytes>,
    ) -> Result<(), BadPicture> {
        if starts == self.nal.is_some() {
            return Err(BadPicture::LoneFragment);
        }
        let nal = self.nal.get_or_insert_with(|| BytesMut::from(header));
        nal.extend_from_slice(body);
        if ends && let Some(nal) = self.nal.take() {
            nals.push(nal.freeze());
        }
        Ok(())
    }

    /// No unit may be left unfinished.
    pub(super) fn finish(self) -> Result<(), BadPicture> {
        if self.nal.is_some() { Err(BadPicture::LoneFragment) } else { Ok(()) }
    }
}

/// H.264's pictures, of RTP or behind lengths.
#[derive(Debug, Default)]
pub struct AvcPictures {
    sequence: Sets,
    picture: Sets,
    setup: Option<Arc<DecoderSetup>>,
}

impl AvcPictures {
    /// What an `AVCDecoderConfigurationRecord` says, in place of what was known.
    ///
    /// # Errors
    /// When it makes no sense. Gives the bytes of the lengths before NAL units, 1 to 4.
    pub fn configure(&mut self, record: &Bytes) -> Result<usize, BadDecoderConfiguration> {
        let configuration = DecoderConfiguration::parse(record)?;
        if configuration.parameter_sets.iter().any(|set| unit_type(set) == kind::SPS) {
            self.sequence.clear();
            self.picture.clear();
        }
        configuration.parameter_sets.iter().for_each(|set| self.take_set(set));
        Ok(configuration.length_bytes)
    }

    /// An access unit whose NAL units have lengths of `length_bytes` (1 to 4); its bytes are kept where nothing is to be changed.
    ///
    /// # Errors
    /// When it is no picture.
    pub fn of_lengths(&mut self, data: &Bytes, length_bytes: usize) -> Result<Picture, BadPicture> {
        let nals = split_lengths(data, length_bytes).map_err(|_| BadPicture::Truncated)?;
        let untouched = length_bytes == LENGTH_BYTES && nals.iter().all(|nal| belongs_to_samples(nal));
        let mut picture = self.of_nals(nals)?;
        if untouched {
            picture.data = data.clone();
        }
        Ok(picture)
    }

    pub(super) fn of_payloads(&mut self, payloads: &[Bytes]) -> Result<Picture, BadPicture> {
        let mut nals = Vec::new();
        let mut fragments = Fragments::default();
        for payload in payloads {
            match unit_type(payload) {
                kind::STAP_A => split_aggregation(payload.slice(1..), &mut nals)?,
                kind::FU_A => {
                    let (&[indicator, header], body) = payload.split_first_chunk().ok_or(BadPicture::Truncated)?;
                    let nal_header = indicator & 0xe0 | header & 0x1f;
                    fragments.add(&[nal_header], header & 0x80 != 0, header & 0x40 != 0, body, &mut nals)?;
                }
                1..=23 => nals.push(payload.clone()),
                _ if payload.is_empty() => {}
                _ => return Err(BadPicture::Structure),
            }
        }
        fragments.finish()?;
        self.of_nals(nals)
    }

    fn of_nals(&mut self, mut nals: Vec<Bytes>) -> Result<Picture, BadPicture> {
        nals.iter().for_each(|nal| self.take_set(nal));
        nals.retain(|nal| belongs_to_samples(nal));
        let is_slice = |nal: &Bytes| (kind::SLICE..=kind::IDR_SLICE).contains(&unit_type(nal));
        if !nals.iter().any(is_slice) {
            return Err(BadPicture::Empty);
        }
        let keyframe = nals.iter().any(|nal| unit_type(nal) == kind::IDR_SLICE);
        let setup = if keyframe { Some(self.setup().ok_or(BadPicture::NoSetup)?) } else { None };
        Ok(Picture { keyframe, data: with_lengths(&nals), setup })
    }

    fn take_set(&mut self, nal: &Bytes) {
        let sets = match unit_type(nal) {
            kind::SPS => &mut self.sequence,
            kind::PPS => &mut self.picture,
            _ => return,
        };
        // Profile, constraints and level come before a sequence set's id.
        let before = if unit_type(nal) == kind::SPS { 4 } else { 1 };
        let head = unescape(nal.get(before..).unwrap_or_default(), 8);
        if let Some(id) = BitReader::new(&head).unsigned_up_to(255) {
            sets.insert(id, nal);
        }
    }

    /// Made anew only when it is another, so that it can be told by its address.
    fn setup(&mut self) -> Option<Arc<DecoderSetup>> {
        let sps = Sps::parse(self.sequence.first()?).ok()?;
        self.picture.first()?;
        let configuration = write_record(&sps, LENGTH_BYTES, &self.sequence.all(), &self.picture.all());
        if self.setup.as_ref().is_none_or(|known| known.configuration != configuration) {
            self.setup = Some(Arc::new(DecoderSetup {
                entry: *b"avc1",
                configuration_box: *b"avcC",
                configuration,
                size: PictureSize { width: sps.width, height: sps.height },
                codecs: format!("avc1.{}", sps.profile_level_id()),
                frame_rate: sps.usability.frame_rate,
            }));
        }
        self.setup.clone()
    }
}

/// Parameter sets are in the sample entry; delimiters and filler say nothing.
fn belongs_to_samples(nal: &[u8]) -> bool {
    (kind::SLICE..=kind::SEI).contains(&unit_type(nal))
}
