//! FLV as ffmpeg's pipes carry it: pictures of H.264 to an encoder and back, each with its times in milliseconds.
//!
//! Nothing but a file's head and its video tags is known here (Adobe Flash Video File Format, version 10.1, annex E). Sans-I/O.

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// What a file with pictures only begins with.
pub(super) const FILE_HEAD: &[u8] = b"FLV\x01\x01\x00\x00\x00\x09\x00\x00\x00\x00";
/// Of what is read: signature, version, flags, and its own length.
const FILE_HEAD_BYTES: usize = 9;
/// Times are written in 31 bits (the sign is not used): 24 days.
pub(super) const TIME_MAX_MS: u32 = i32::MAX as u32;
/// Lengths of tags have 24 bits.
const BODY_MAX_BYTES: usize = (1 << 24) - 1;

const TAG_HEAD_BYTES: usize = 11;
/// Of a picture: frame type and codec, packet type, composition offset.
const PICTURE_HEAD_BYTES: usize = 5;
/// The length of the tag before.
const BACK_POINTER_BYTES: usize = 4;
const VIDEO: u8 = 9;
const SCRIPT: u8 = 18;
const AVC: u8 = 7;
const KEYFRAME: u8 = 1;
const INTER_FRAME: u8 = 2;

/// A tag of a video that ffmpeg made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Tag {
    /// An `AVCDecoderConfigurationRecord`.
    Configuration(Bytes),
    /// Decoded at `time_ms`, shown so much later; NAL units behind lengths.
    Picture { time_ms: u32, composition_ms: i32, data: Bytes },
}

/// This is no FLV with H.264.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("ffmpeg wrote what is no FLV with H.264: {0}")]
pub(super) struct BadFlv(&'static str);

/// Appends a tag that tells the frame rate, for bitrates are per picture to encoders: ffmpeg takes a thousand a second for granted where
/// neither this nor the publisher's parameter sets say one (section E.5, AMF 0).
pub(super) fn write_frame_rate(rate: f64, out: &mut BytesMut) {
    const STRING: u8 = 2;
    const ECMA_ARRAY: u8 = 8;
    const NUMBER: u8 = 0;
    const END: &[u8] = &[0, 0, 9];
    let mut body = BytesMut::new();
    let put_text = |body: &mut BytesMut, text: &str| {
        body.put_u16(text.len() as u16);
        body.put_slice(text.as_bytes());
    };
    body.put_u8(STRING);
    put_text(&mut body, "onMetaData");
    body.put_u8(ECMA_ARRAY);
    body.put_u32(1);
    put_text(&mut body, "framerate");
    body.put_u8(NUMBER);
    body.put_f64(rate);
    body.put_slice(END);
    write_tag(SCRIPT, 0, [&body, &[]], out);
}

/// Appends a tag with an `AVCDecoderConfigurationRecord`.
pub(super) fn write_configuration(record: &[u8], out: &mut BytesMut) -> bool {
    write_video(0, KEYFRAME, 0, 0, record, out)
}

/// Appends a tag with a picture. False, and nothing is written, when it is too long for one.
pub(super) fn write_picture(
    time_ms: u32,
    composition_ms: i32,
    keyframe: bool,
    data: &[u8],
    out: &mut BytesMut,
) -> bool {
    write_video(time_ms, if keyframe { KEYFRAME } else { INTER_FRAME }, 1, composition_ms, data, out)
}

fn write_video(time_ms: u32, frame: u8, packet: u8, composition_ms: i32, data: &[u8], out: &mut BytesMut) -> bool {
    if PICTURE_HEAD_BYTES + data.len() > BODY_MAX_BYTES {
        return false;
    }
    let mut head = [0; PICTURE_HEAD_BYTES];
    let mut rest = &mut head[..];
    rest.put_u8(frame << 4 | AVC);
    rest.put_u8(packet);
    rest.put_int(composition_ms.into(), 3);
    write_tag(VIDEO, time_ms, [&head, data], out);
    true
}

/// A tag with a body in two pieces, which fit one.
fn write_tag(kind: u8, time_ms: u32, body: [&[u8]; 2], out: &mut BytesMut) {
    let body_bytes = body.iter().map(|piece| piece.len()).sum::<usize>();
    out.reserve(TAG_HEAD_BYTES + body_bytes + BACK_POINTER_BYTES);
    out.put_u8(kind);
    out.put_uint(body_bytes as u64, 3);
    out.put_uint(u64::from(time_ms & 0xff_ffff), 3);
    out.put_u8((time_ms >> 24) as u8);
    out.put_uint(0, 3); // StreamID
    body.iter().for_each(|piece| out.put_slice(piece));
    out.put_u32((TAG_HEAD_BYTES + body_bytes) as u32);
}

/// Takes bytes as they come, and gives tags. What it holds is bounded by one tag and what was read with it, 16 MiB.
#[derive(Debug, Default)]
pub(super) struct FlvReader {
    /// Bytes that were read go in here.
    pub buffer: BytesMut,
    begun: bool,
}

impl FlvReader {
    /// The next tag that says something of pictures; `None` until more has come.
    ///
    /// # Errors
    /// [`BadFlv`]: nothing after it can be read.
    pub fn read(&mut self) -> Result<Option<Tag>, BadFlv> {
        if !self.begun {
            if self.buffer.len() < FILE_HEAD_BYTES + BACK_POINTER_BYTES {
                return Ok(None);
            }
            if !self.buffer.starts_with(b"FLV") {
                return Err(BadFlv("it has another signature"));
            }
            self.buffer.advance(FILE_HEAD_BYTES + BACK_POINTER_BYTES);
            self.begun = true;
        }
        loop {
            let Some(head) = self.buffer.first_chunk::<TAG_HEAD_BYTES>() else { return Ok(None) };
            let [kind, l0, l1, l2, t0, t1, t2, t3, ..] = *head;
            let body_bytes = u32::from_be_bytes([0, l0, l1, l2]) as usize;
            let time_ms = u32::from_be_bytes([t3, t0, t1, t2]);
            if self.buffer.len() < TAG_HEAD_BYTES + body_bytes + BACK_POINTER_BYTES {
                return Ok(None);
            }
            self.buffer.advance(TAG_HEAD_BYTES);
            let body = self.buffer.split_to(body_bytes).freeze();
            self.buffer.advance(BACK_POINTER_BYTES);
            if kind == VIDEO
                && let Some(tag) = read_video(time_ms, &body)?
            {
                return Ok(Some(tag));
            }
        }
    }
}

fn read_video(time_ms: u32, body: &Bytes) -> Result<Option<Tag>, BadFlv> {
    let Some((&[kind, packet, c0, c1, c2], _)) = body.split_first_chunk::<PICTURE_HEAD_BYTES>() else {
        return Err(BadFlv("a video tag is cut short"));
    };
    if kind & 0x0f != AVC {
        return Err(BadFlv("it has another codec"));
    }
    let data = body.slice(PICTURE_HEAD_BYTES..);
    // 24 bits with a sign.
    let composition_ms = i32::from_be_bytes([c0, c1, c2, 0]) >> 8;
    Ok(match packet {
        0 => Some(Tag::Configuration(data)),
        1 => Some(Tag::Picture { time_ms, composition_ms, data }),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read_whatever_comes_together() {
        let mut file = BytesMut::from(FILE_HEAD);
        write_frame_rate(29.97, &mut file);
        assert!(write_configuration(b"record", &mut file));
        assert!(write_picture(70_033, -40, true, b"key", &mut file));
        // A tag of sound, and an end of sequence: nothing to us.
        file.extend_from_slice(&[8, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0xaf, 0, 0, 0, 12]);
        file.extend_from_slice(&[9, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0x17, 2, 0, 0, 0, 0, 0, 0, 16]);
        assert!(write_picture(TIME_MAX_MS, 8_000_000, false, b"", &mut file));
        let expected = [
            Tag::Configuration(Bytes::from_static(b"record")),
            Tag::Picture { time_ms: 70_033, composition_ms: -40, data: Bytes::from_static(b"key") },
            Tag::Picture { time_ms: TIME_MAX_MS, composition_ms: 8_000_000, data: Bytes::new() },
        ];
        for piece_bytes in [1, 7, file.len()] {
            let mut reader = FlvReader::default();
            let mut read = Vec::new();
            for piece in file.chunks(piece_bytes) {
                reader.buffer.extend_from_slice(piece);
                while let Some(tag) = reader.read().unwrap() {
                    read.push(tag);
                }
            }
            assert_eq!(read, expected, "{piece_bytes} at a time");
            assert!(reader.buffer.is_empty());
        }
    }

    #[test]
    fn the_frame_rate_is_metadata_as_flv_has_it() {
        let mut out = BytesMut::new();
        write_frame_rate(29.97, &mut out);
        let body_bytes = u32::from_be_bytes([0, out[1], out[2], out[3]]) as usize;
        let body = &out[TAG_HEAD_BYTES..TAG_HEAD_BYTES + body_bytes];
        let named = [&b"\x02\0\x0aonMetaData\x08\0\0\0\x01\0\x09framerate\0"[..], &29.97f64.to_be_bytes(), b"\0\0\x09"];
        assert_eq!((out[0], body), (SCRIPT, &named.concat()[..]));
        assert_eq!(out.len(), TAG_HEAD_BYTES + body_bytes + BACK_POINTER_BYTES);
    }

    #[test]
    fn what_is_none_is_told() {
        let read = |bytes: &[u8]| {
            let mut reader = FlvReader { buffer: BytesMut::from(bytes), ..FlvReader::default() };
            reader.read()
        };
        assert!(read(b"RIFFxxxxxxxxxxxx").is_err());
        let with = |body: &[u8]| [FILE_HEAD, &[9, 0, 0, body.len() as u8, 0, 0, 0, 0, 0, 0, 0], body, &[0; 4]].concat();
        assert!(read(&with(&[0x12, 1, 0, 0, 0])).is_err(), "Sorenson H.263");
        assert!(read(&with(&[0x17, 1])).is_err());
        assert_eq!(read(&with(&[0x17, 1, 0, 0, 0])[..20]), Ok(None));
    }

    #[test]
    fn a_picture_that_is_too_long_for_a_tag_is_not_written() {
        let mut out = BytesMut::new();
        assert!(!write_picture(0, 0, true, &vec![0; BODY_MAX_BYTES - 4], &mut out));
        assert!(out.is_empty());
    }
}
