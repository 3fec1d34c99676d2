//! The headers of extended tags (Enhanced RTMP v2): modifiers, several tracks in one message, FourCCs.
//!
//! The track of id 0 is the main one: what there was before there were several.

use arrayvec::ArrayVec;
use bytes::Bytes;

use super::flv::TagTruncated;

/// Tracks of one message that are read; further ones are left out.
pub const TRACKS_MAX: usize = 8;
/// The id of the main track.
pub const MAIN_TRACK: u8 = 0;

/// A message of one or several tracks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extended {
    pub packet: u8,
    /// Of a `TimestampOffsetNano` modifier; below a millisecond.
    pub offset_ns: u32,
    /// Each id once.
    pub tracks: ArrayVec<Track, TRACKS_MAX>,
    /// There were more.
    pub left_out: bool,
}

/// What a message has of a track.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Track {
    pub id: u8,
    pub four_cc: [u8; 4],
    pub data: Bytes,
}

/// Packet types that have the same meaning in several kinds of tag, but not the same number.
struct Types {
    what: &'static str,
    multitrack: u8,
    modifier: u8,
    /// Those that carry nothing of the stream.
    ignored: [u8; 2],
}

const VIDEO: Types = Types { what: "video", multitrack: 6, modifier: 7, ignored: [2, 4] };
const AUDIO: Types = Types { what: "audio", multitrack: 5, modifier: 7, ignored: [2, 4] };
const OFFSET_NS: u8 = 0;
const OFFSET_MAX_NS: u32 = 999_999;
/// Modifiers before one packet; one kind is known so far.
const MODIFIERS_MAX: usize = 16;
/// Bytes that a message may have beside what is kept of it: the headers of all that has one track and an offset.
const BESIDE_MAX_BYTES: usize = 32;
/// How tracks lie in a message: these two, and several of one codec between them.
const ONE_TRACK: u8 = 0;
const MANY_TRACKS_MANY_CODECS: u8 = 2;

/// What follows the first byte of a video tag, whose packet type this is; `None` for what says nothing of the stream.
///
/// # Errors
/// When it ends within its header.
pub fn video(packet: u8, is_command: bool, rest: Bytes) -> Result<Option<Extended>, TagTruncated> {
    read(&VIDEO, packet, is_command, rest)
}

/// The same of an audio tag.
///
/// # Errors
/// When it ends within its header.
pub fn audio(packet: u8, rest: Bytes) -> Result<Option<Extended>, TagTruncated> {
    read(&AUDIO, packet, false, rest)
}

fn read(types: &Types, mut packet: u8, is_command: bool, rest: Bytes) -> Result<Option<Extended>, TagTruncated> {
    let message_bytes = rest.len();
    // What is kept of a track is counted by its length, and should not keep other tracks, or modifiers, that nobody counts.
    let kept = |data: Bytes| match message_bytes - data.len() {
        0..=BESIDE_MAX_BYTES => data,
        _ => Bytes::copy_from_slice(&data),
    };
    let mut reader = Reader { rest, what: types.what };
    let mut offset_ns = 0;
    let mut modifiers = 0;
    while packet == types.modifier {
        modifiers += 1;
        if modifiers > MODIFIERS_MAX {
            return Err(TagTruncated(types.what));
        }
        let mut bytes = usize::from(reader.byte()?) + 1;
        if bytes == 256 {
            bytes = usize::from(u16::from_be_bytes(reader.array()?)) + 1;
        }
        let data = reader.take(bytes)?;
        let next = reader.byte()?;
        if let (OFFSET_NS, Some(&[a, b, c])) = (next >> 4, data.first_chunk()) {
            offset_ns = u32::from_be_bytes([0, a, b, c]).min(OFFSET_MAX_NS);
        }
        packet = next & 0x0f;
    }
    if is_command || types.ignored.contains(&packet) {
        return Ok(None);
    }
    if packet != types.multitrack {
        let four_cc = reader.array()?;
        let tracks = ArrayVec::from_iter([Track { id: MAIN_TRACK, four_cc, data: kept(reader.rest) }]);
        return Ok(Some(Extended { packet, offset_ns, tracks, left_out: false }));
    }
    let head = reader.byte()?;
    let (layout, packet) = (head >> 4, head & 0x0f);
    if layout > MANY_TRACKS_MANY_CODECS {
        return Ok(None);
    }
    let common = if layout == MANY_TRACKS_MANY_CODECS { None } else { Some(reader.array()?) };
    let mut tracks = ArrayVec::<Track, TRACKS_MAX>::new();
    let mut left_out = false;
    // Each takes two bytes at least.
    while !reader.rest.is_empty() {
        let four_cc = match common {
            Some(four_cc) => four_cc,
            None => reader.array()?,
        };
        let id = reader.byte()?;
        let data = if layout == ONE_TRACK {
            std::mem::take(&mut reader.rest)
        } else {
            let [a, b, c] = reader.array()?;
            reader.take(u32::from_be_bytes([0, a, b, c]) as usize)?
        };
        let is_new = tracks.iter().all(|track| track.id != id);
        if is_new && !tracks.is_full() {
            tracks.push(Track { id, four_cc, data: kept(data) });
        } else {
            left_out = true;
        }
    }
    Ok((!tracks.is_empty()).then_some(Extended { packet, offset_ns, tracks, left_out }))
}

struct Reader {
    rest: Bytes,
    what: &'static str,
}

impl Reader {
    fn take(&mut self, bytes: usize) -> Result<Bytes, TagTruncated> {
        if bytes > self.rest.len() { Err(TagTruncated(self.what)) } else { Ok(self.rest.split_to(bytes)) }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TagTruncated> {
        let taken = *self.rest.first_chunk().ok_or(TagTruncated(self.what))?;
        let _ = self.rest.split_to(N);
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, TagTruncated> {
        self.array().map(|[byte]| byte)
    }
}
