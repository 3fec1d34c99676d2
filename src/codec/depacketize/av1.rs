//! AV1 (AOM's "RTP Payload Format For AV1"): a temporal unit of OBUs that say their length, without delimiters, as MP4 has it ("AV1
//! Codec ISO Media File Format Binding", section 2.4).

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{BadPicture, DecoderSetup, Picture};
use crate::codec::av1::{self, SequenceHeader, leb128};

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// Of an OBU's header.
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;

/// See the module.
#[derive(Debug, Default)]
pub struct Av1Pictures {
    setup: Option<Arc<DecoderSetup>>,
}

impl Av1Pictures {
    pub(crate) fn of_payloads(&mut self, payloads: &[Bytes]) -> Result<Picture, BadPicture> {
        let keyframe = payloads.first().is_some_and(|payload| av1::starts_keyframe(payload));
        let mut data = BytesMut::new();
        let mut sequence = None;
        let mut begun: Option<BytesMut> = None;
        let mut take = |obu: &[u8]| {
            let is_sequence = write_obu(obu, &mut data)?;
            if is_sequence && sequence.is_none() {
                sequence = Some(Bytes::copy_from_slice(obu));
            }
            Ok::<_, BadPicture>(())
        };
        for payload in payloads.iter().filter(|payload| !payload.is_empty()) {
            let (elements, continues, goes_on) = elements(payload)?;
            if continues != begun.is_some() {
                return Err(BadPicture::LoneFragment);
            }
            let last = elements.len().saturating_sub(1);
            for (at, element) in elements.into_iter().enumerate() {
                let mut obu = if at == 0 { begun.take().unwrap_or_default() } else { BytesMut::new() };
                obu.extend_from_slice(element);
                if at == last && goes_on {
                    begun = Some(obu);
                } else {
                    take(&obu)?;
                }
            }
        }
        if begun.is_some() {
            return Err(BadPicture::LoneFragment);
        }
        if data.is_empty() {
            return Err(BadPicture::Empty);
        }
        let setup = match sequence.filter(|_| keyframe) {
            Some(sequence) => Some(self.setup(&sequence).ok_or(BadPicture::NoSetup)?),
            None if keyframe => return Err(BadPicture::NoSetup),
            None => None,
        };
        Ok(Picture { keyframe, data: data.freeze(), setup })
    }

    /// The OBUs of one picture, with lengths of their own or without.
    ///
    /// # Errors
    /// When they are no picture.
    pub fn of_obus(&mut self, obus: &[Bytes], keyframe: bool) -> Result<Picture, BadPicture> {
        let mut data = BytesMut::new();
        let mut sequence = None;
        for obu in obus {
            if write_obu(obu, &mut data)? && sequence.is_none() {
                sequence = Some(obu);
            }
        }
        if data.is_empty() {
            return Err(BadPicture::Empty);
        }
        let setup = match (keyframe, sequence) {
            (true, Some(sequence)) => Some(self.setup(sequence).ok_or(BadPicture::NoSetup)?),
            (true, None) => return Err(BadPicture::NoSetup),
            (false, _) => None,
        };
        Ok(Picture { keyframe, data: data.freeze(), setup })
    }

    fn setup(&mut self, obu: &[u8]) -> Option<Arc<DecoderSetup>> {
        let header = SequenceHeader::of_obu(obu)?;
        let SequenceHeader { profile, level, tier, size, bit_depth, monochrome, subsampling, chroma_position } = header;
        const VERSION: u8 = 0x81;
        let mut configuration = BytesMut::from(&[VERSION, profile << 5 | level][..]);
        let flag = |flag: bool, bit: u8| u8::from(flag) << bit;
        let depth = flag(bit_depth > 8, 6) | flag(bit_depth == 12, 5);
        let chroma = flag(monochrome, 4) | flag(subsampling.0, 3) | flag(subsampling.1, 2) | chroma_position;
        configuration.extend_from_slice(&[tier << 7 | depth | chroma, 0]);
        write_obu(obu, &mut configuration).ok()?;
        let configuration = configuration.freeze();
        if self.setup.as_ref().is_none_or(|known| known.configuration != configuration) {
            let tier = if tier == 0 { 'M' } else { 'H' };
            self.setup = Some(Arc::new(DecoderSetup {
                entry: *b"av01",
                configuration_box: *b"av1C",
                configuration,
                size,
                codecs: format!("av01.{profile}.{level:02}{tier}.{bit_depth:02}"),
                frame_rate: None,
            }));
        }
        self.setup.clone()
    }
}

/// The OBU elements of a payload (section 4.4), whether the first goes on with one of the payload before, and whether the last goes on
/// in the next.
fn elements(payload: &[u8]) -> Result<(Vec<&[u8]>, bool, bool), BadPicture> {
    let (&aggregation, mut rest) = payload.split_first().ok_or(BadPicture::Truncated)?;
    let count = usize::from(aggregation >> 4 & 0x03);
    let mut elements = Vec::new();
    while !rest.is_empty() {
        // The last one of a payload that says how many there are has no length.
        if elements.len() + 1 == count {
            elements.push(std::mem::take(&mut rest));
            break;
        }
        let (length, after) = leb128(rest).ok_or(BadPicture::Truncated)?;
        let (element, after) = after.split_at_checked(length).ok_or(BadPicture::Truncated)?;
        elements.push(element);
        rest = after;
    }
    if elements.is_empty() || count > 0 && elements.len() != count {
        return Err(BadPicture::Truncated);
    }
    Ok((elements, aggregation & 0x80 != 0, aggregation & 0x40 != 0))
}

/// Writes an OBU with its length, if it belongs into samples. True when it is a sequence header.
fn write_obu(obu: &[u8], data: &mut BytesMut) -> Result<bool, BadPicture> {
    // An element of nothing occurs where a fragment ended with its packet.
    let Some((&header, mut body)) = obu.split_first() else { return Ok(false) };
    let kind = header >> 3 & 0x0f;
    let mut extension = None;
    if header & HAS_EXTENSION != 0 {
        let (&byte, after) = body.split_first().ok_or(BadPicture::Truncated)?;
        (extension, body) = (Some(byte), after);
    }
    if header & HAS_SIZE != 0 {
        let (length, after) = leb128(body).ok_or(BadPicture::Truncated)?;
        body = after.get(..length).ok_or(BadPicture::Truncated)?;
    }
    if matches!(kind, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
        return Ok(false);
    }
    data.extend_from_slice(&[header | HAS_SIZE]);
    data.extend_from_slice(extension.as_slice());
    let mut length = body.len();
    while length >= 0x80 {
        data.extend_from_slice(&[length as u8 | 0x80]);
        length >>= 7;
    }
    data.extend_from_slice(&[length as u8]);
    data.extend_from_slice(body);
    Ok(kind == SEQUENCE_HEADER)
}
