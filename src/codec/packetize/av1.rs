//! Temporal units of AV1 become RTP payloads (AOM's "RTP Payload Format For AV1", version 1.0.0).
//!
//! In: OBUs that say their length, as MP4 and FLV have them ("AV1 Codec ISO Media File Format Binding", section 2.4); the last one need not.
//! Delimiters, tile lists and padding are not sent (section 5). Payloads are of one size, but the last.

use bytes::{BufMut, Bytes, BytesMut};

use super::PAYLOAD_MAX_BYTES;
use crate::codec::av1::leb128;

const SEQUENCE_HEADER: u8 = 1;
const TEMPORAL_DELIMITER: u8 = 2;
const TILE_LIST: u8 = 8;
const PADDING: u8 = 15;
/// Of an OBU's header.
const HAS_EXTENSION: u8 = 0x04;
const HAS_SIZE: u8 = 0x02;
/// Of an aggregation header (section 4.4): the first element goes on from the packet before, the last goes on in the next, there is one
/// element and so no length, a new coded video sequence begins.
const CONTINUES: u8 = 0x80;
const GOES_ON: u8 = 0x40;
const ONE_ELEMENT: u8 = 0x10;
const NEW_SEQUENCE: u8 = 0x08;
const AGGREGATION_HEADER_BYTES: usize = 1;
/// Before an element: lengths below 16 KiB, since packets are shorter.
const LENGTH_MAX_BYTES: usize = 2;
/// OBUs of a temporal unit at the most; encoders write a handful.
const OBUS_MAX: usize = 512;
/// Of a sequence header, which has some 12; it is kept, and sent before keyframes that come without.
const SEQUENCE_HEADER_MAX_BYTES: usize = 4_096;

/// The OBUs make no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a temporal unit of AV1 that cannot be taken apart, or has a sequence header of more than {SEQUENCE_HEADER_MAX_BYTES} bytes"
)]
pub struct BadTemporalUnit;

/// See the module. Knows the sequence header, which a decoder needs before a keyframe.
#[derive(Debug, Default)]
pub struct Av1Payloads {
    /// Without its length.
    sequence_header: Option<Bytes>,
}

impl Av1Payloads {
    /// What an `AV1CodecConfigurationRecord` has behind its head of four bytes: OBUs.
    ///
    /// # Errors
    /// [`BadTemporalUnit`].
    pub fn configure(&mut self, config_obus: &[u8]) -> Result<(), BadTemporalUnit> {
        let header = obus(config_obus)?.into_iter().find(|obu| kind(obu) == SEQUENCE_HEADER);
        self.sequence_header = header.or(self.sequence_header.take());
        Ok(())
    }

    /// The sequence header in use.
    pub fn sequence_header(&self) -> Option<&Bytes> {
        self.sequence_header.as_ref()
    }

    /// Payloads of one picture, and whether a decoder can begin with it.
    ///
    /// # Errors
    /// [`BadTemporalUnit`].
    pub fn packetize(&mut self, unit: &[u8], said_keyframe: bool) -> Result<(Vec<Bytes>, bool), BadTemporalUnit> {
        let (obus, keyframe) = self.obus(unit, said_keyframe)?;
        Ok((packets(&obus, keyframe), keyframe))
    }

    /// The OBUs of one picture that are sent, without their lengths; and whether a decoder can begin with it: it has a sequence header, or
    /// its publisher says so, and then it is given the one that is known.
    ///
    /// # Errors
    /// [`BadTemporalUnit`].
    pub fn obus(&mut self, unit: &[u8], said_keyframe: bool) -> Result<(Vec<Bytes>, bool), BadTemporalUnit> {
        let mut obus = obus(unit)?;
        match obus.iter().find(|obu| kind(obu) == SEQUENCE_HEADER) {
            Some(header) => self.sequence_header = Some(header.clone()),
            None if said_keyframe && !obus.is_empty() => obus.splice(0..0, self.sequence_header.clone()).for_each(drop),
            None => {}
        }
        let keyframe = obus.first().is_some_and(|obu| kind(obu) == SEQUENCE_HEADER);
        Ok((obus, keyframe))
    }
}

fn kind(obu: &[u8]) -> u8 {
    obu.first().map_or(u8::MAX, |header| header >> 3 & 0x0f)
}

/// Those that are sent, without their lengths.
fn obus(mut unit: &[u8]) -> Result<Vec<Bytes>, BadTemporalUnit> {
    let mut obus = Vec::new();
    while let Some((&header, rest)) = unit.split_first() {
        let extension_bytes = usize::from(header & HAS_EXTENSION != 0);
        let (extension, rest) = rest.split_at_checked(extension_bytes).ok_or(BadTemporalUnit)?;
        let (body, after) = if header & HAS_SIZE != 0 {
            let (length, rest) = leb128(rest).ok_or(BadTemporalUnit)?;
            rest.split_at_checked(length).ok_or(BadTemporalUnit)?
        } else {
            (rest, &[][..])
        };
        unit = after;
        if matches!(header >> 3 & 0x0f, TEMPORAL_DELIMITER | TILE_LIST | PADDING) {
            continue;
        }
        let is_long_header = header >> 3 & 0x0f == SEQUENCE_HEADER && body.len() > SEQUENCE_HEADER_MAX_BYTES;
        if obus.len() == OBUS_MAX || is_long_header {
            return Err(BadTemporalUnit);
        }
        obus.push([&[header & !HAS_SIZE][..], extension, body].concat().into());
    }
    Ok(obus)
}

fn packets(obus: &[Bytes], new_sequence: bool) -> Vec<Bytes> {
    let total: usize = obus.iter().map(|obu| LENGTH_MAX_BYTES + obu.len()).sum();
    if total == 0 {
        return Vec::new();
    }
    let count = total.div_ceil(PAYLOAD_MAX_BYTES - AGGREGATION_HEADER_BYTES - LENGTH_MAX_BYTES);
    // Each packet repeats the length of what it goes on with.
    let room = total.div_ceil(count) + LENGTH_MAX_BYTES;
    let mut payloads = Vec::with_capacity(count);
    let mut packet = Packet::default();
    for obu in obus {
        let mut rest = &obu[..];
        while !rest.is_empty() {
            if packet.bytes + LENGTH_MAX_BYTES >= room {
                payloads.push(packet.write(false, new_sequence && payloads.is_empty()));
                packet = Packet::default();
            }
            let (piece, later) = rest.split_at(rest.len().min(room - packet.bytes - LENGTH_MAX_BYTES));
            packet.bytes += LENGTH_MAX_BYTES + piece.len();
            packet.elements.push(piece);
            rest = later;
            if !rest.is_empty() {
                payloads.push(packet.write(true, new_sequence && payloads.is_empty()));
                packet = Packet { continues: true, ..Packet::default() };
            }
        }
    }
    if !packet.elements.is_empty() {
        payloads.push(packet.write(false, new_sequence && payloads.is_empty()));
    }
    payloads
}

/// Elements of one packet.
#[derive(Default)]
struct Packet<'a> {
    elements: Vec<&'a [u8]>,
    /// Lengths included.
    bytes: usize,
    continues: bool,
}

impl Packet<'_> {
    fn write(&self, goes_on: bool, new_sequence: bool) -> Bytes {
        let flag = |is: bool, flag: u8| if is { flag } else { 0 };
        let one = self.elements.len() == 1;
        let mut payload = BytesMut::with_capacity(AGGREGATION_HEADER_BYTES + self.bytes);
        payload.put_u8(
            flag(self.continues, CONTINUES)
                | flag(goes_on, GOES_ON)
                | flag(one, ONE_ELEMENT)
                | flag(new_sequence, NEW_SEQUENCE),
        );
        for element in &self.elements {
            if !one {
                put_length(element.len(), &mut payload);
            }
            payload.put_slice(element);
        }
        payload.freeze()
    }
}

fn put_length(length: usize, payload: &mut BytesMut) {
    if length >= 0x80 {
        payload.put_u8(length as u8 | 0x80);
        payload.put_u8((length >> 7) as u8);
    } else {
        payload.put_u8(length as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::{av1, depacketize::Av1Pictures};

    /// Of libaom, 640 x 360, with its length.
    const SEQUENCE: [u8; 13] = [0x0a, 0x0b, 0x00, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x3e, 0xbe, 0x60, 0x10];

    fn frame_obu(bytes: usize) -> Vec<u8> {
        let mut obu = vec![0x32];
        let mut length = BytesMut::new();
        let mut left = bytes;
        while left >= 0x80 {
            length.put_u8(left as u8 | 0x80);
            left >>= 7;
        }
        length.put_u8(left as u8);
        obu.extend(length);
        obu.extend((0..bytes).map(|at| (at * 7) as u8));
        obu
    }

    #[test]
    fn temporal_units_come_back_whole() {
        for sizes in
            [&[1][..], &[1_100], &[1_130], &[1_150], &[5_000, 3, 700], &[300, 300, 300, 300, 9_000], &[100_000]]
        {
            let frames: Vec<u8> = sizes.iter().flat_map(|&bytes| frame_obu(bytes)).collect();
            let unit = [&[0x12, 0][..], &SEQUENCE, &frames].concat();
            let (payloads, keyframe) = Av1Payloads::default().packetize(&unit, false).unwrap();
            assert!(keyframe && payloads.iter().all(|payload| payload.len() <= PAYLOAD_MAX_BYTES), "{sizes:?}");
            assert!(av1::starts_keyframe(&payloads[0]));
            assert!(av1::picture_size(&payloads[0]).is_some());
            let picture = Av1Pictures::default().of_payloads(&payloads).unwrap();
            assert_eq!(picture.data, unit[2..], "{sizes:?}: without the delimiter");
            let longest = payloads.iter().map(Bytes::len).max().unwrap();
            let (_, others) = payloads.split_last().unwrap();
            assert!(others.iter().all(|payload| longest - payload.len() <= 4), "{sizes:?}");
        }
    }

    #[test]
    fn a_keyframe_gets_the_sequence_header_that_it_lacks() {
        let mut payloads = Av1Payloads::default();
        let (first, keyframe) = payloads.packetize(&frame_obu(50), true).unwrap();
        assert!(!keyframe && first.len() == 1, "nothing is known yet");
        payloads.configure(&SEQUENCE).unwrap();
        let (later, keyframe) = payloads.packetize(&frame_obu(50), true).unwrap();
        assert!(keyframe && av1::picture_size(&later[0]).is_some());
        let (between, keyframe) = payloads.packetize(&frame_obu(50), false).unwrap();
        assert!(!keyframe && !av1::starts_keyframe(&between[0]));
    }

    #[test]
    fn the_last_obu_need_not_say_its_length_and_others_must_not_lie() {
        let unit = [&SEQUENCE[..], &[0x30, 1, 2, 3]].concat();
        let (payloads, _) = Av1Payloads::default().packetize(&unit, true).unwrap();
        let picture = Av1Pictures::default().of_payloads(&payloads).unwrap();
        assert_eq!(picture.data, [&SEQUENCE[..], &[0x32, 3, 1, 2, 3]].concat());
        for unit in [&[0x32, 5, 1][..], &[0x36], &[0x32, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(Av1Payloads::default().packetize(unit, false), Err(BadTemporalUnit));
        }
        assert_eq!(Av1Payloads::default().packetize(&[], true), Ok((Vec::new(), false)));
        let long = [&[0x08][..], &[0; SEQUENCE_HEADER_MAX_BYTES + 1]].concat();
        assert_eq!(
            Av1Payloads::default().packetize(&long, false),
            Err(BadTemporalUnit),
            "it would be sent again and again"
        );
    }
}
