//! The bodies of RTMP's audio and video messages: FLV tags (FLV 10.1 annex E.4), and their extended form (Enhanced RTMP v1 and v2).

use arrayvec::ArrayVec;
use bytes::Bytes;

use super::multitrack::{self, Extended, MAIN_TRACK, TRACKS_MAX, Track};
use crate::media::Codec;

/// What a video message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoTag {
    /// What decoders are to be told: the codec's configuration record.
    Configuration(Codec, Bytes),
    Picture(PictureTag),
    /// End of sequence, metadata, seek commands: nothing to do.
    Ignored,
    /// A codec that is not taken: its name.
    Unsupported(String),
}

/// One picture, as its codec's mapping to MP4 has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PictureTag {
    pub codec: Codec,
    /// The publisher says that a decoder can begin with it.
    pub keyframe: bool,
    pub composition_ms: i32,
    /// To be added to the message's time, below a millisecond.
    pub offset_ns: u32,
    pub data: Bytes,
}

/// What an audio message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioTag {
    /// An `AudioSpecificConfig`.
    AacConfiguration(Bytes),
    /// One raw frame.
    AacFrame(Bytes),
    /// An identification header (RFC 7845 section 5.1), as far as it is there.
    OpusConfiguration(Bytes),
    /// One packet.
    OpusPacket(Bytes),
    Ignored,
    Unsupported(String),
}

/// A message: what it holds of each track, by the tracks' ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tagged<T> {
    pub tags: ArrayVec<(u8, T), TRACKS_MAX>,
    /// There are tracks beside these.
    pub left_out: bool,
}

impl<T> Tagged<T> {
    /// Of the main track.
    fn alone(tag: T) -> Self {
        Self { tags: ArrayVec::from_iter([(MAIN_TRACK, tag)]), left_out: false }
    }

    fn nothing() -> Self {
        Self { tags: ArrayVec::new(), left_out: false }
    }
}

/// The message is shorter than its own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {0} message shorter than its header")]
pub struct TagTruncated(pub(super) &'static str);

/// Packet types of both kinds of extended tag (Enhanced RTMP v2, "ExVideoTagHeader", "ExAudioTagHeader").
const SEQUENCE_START: u8 = 0;
const CODED_FRAMES: u8 = 1;
/// Of video: without a composition time.
const CODED_FRAMES_X: u8 = 3;
const MPEG2_TS_SEQUENCE_START: u8 = 5;

const KEYFRAME: u8 = 1;
const COMMAND: u8 = 5;

impl VideoTag {
    /// # Errors
    /// When the message ends within its header. An empty message is [`VideoTag::Ignored`]: some encoders send them.
    pub fn parse(body: &Bytes) -> Result<Tagged<Self>, TagTruncated> {
        let Some(&first) = body.first() else { return Ok(Tagged::alone(Self::Ignored)) };
        if first & 0x80 != 0 {
            return Self::parse_extended(first, body);
        }
        // A command to the player.
        if first >> 4 == COMMAND {
            return Ok(Tagged::alone(Self::Ignored));
        }
        let codec = match first & 0x0f {
            7 => Codec::H264,
            // Of before Enhanced RTMP, in the same form; some encoders in Asia still write it.
            12 => Codec::Hevc,
            codec => {
                let name = match codec {
                    2 => "Sorenson H.263".into(),
                    3 | 6 => "Screen video".into(),
                    4 | 5 => "On2 VP6".into(),
                    other => format!("FLV video codec {other}"),
                };
                return Ok(Tagged::alone(Self::Unsupported(name)));
            }
        };
        let &[_, packet, c0, c1, c2] = body.first_chunk().ok_or(TagTruncated("video"))?;
        let data = body.slice(5..);
        let (keyframe, composition_ms) = (first >> 4 == KEYFRAME, signed_24(c0, c1, c2));
        Ok(Tagged::alone(match packet {
            0 => Self::Configuration(codec, data),
            1 => Self::Picture(PictureTag { codec, keyframe, composition_ms, offset_ns: 0, data }),
            _ => Self::Ignored,
        }))
    }

    fn parse_extended(first: u8, body: &Bytes) -> Result<Tagged<Self>, TagTruncated> {
        let frame_type = first >> 4 & 0x07;
        let Some(extended) = multitrack::video(first & 0x0f, frame_type == COMMAND, body.slice(1..))? else {
            return Ok(Tagged::nothing());
        };
        let Extended { packet, offset_ns, tracks, left_out } = extended;
        let keyframe = frame_type == KEYFRAME;
        let tag = |Track { id, four_cc, data }| Ok((id, Self::of_track(packet, four_cc, keyframe, offset_ns, data)?));
        Ok(Tagged { tags: tracks.into_iter().map(tag).collect::<Result<_, _>>()?, left_out })
    }

    fn of_track(
        packet: u8,
        four_cc: [u8; 4],
        keyframe: bool,
        offset_ns: u32,
        mut data: Bytes,
    ) -> Result<Self, TagTruncated> {
        let Some(codec) = codec_of(&four_cc) else { return Ok(Self::Unsupported(four_cc_name(&four_cc))) };
        let mut composition_ms = 0;
        if packet == CODED_FRAMES && matches!(codec, Codec::H264 | Codec::Hevc) {
            let &[c0, c1, c2] = data.first_chunk().ok_or(TagTruncated("video"))?;
            composition_ms = signed_24(c0, c1, c2);
            data = data.slice(3..);
        }
        Ok(match packet {
            SEQUENCE_START => Self::Configuration(codec, data),
            CODED_FRAMES | CODED_FRAMES_X => {
                Self::Picture(PictureTag { codec, keyframe, composition_ms, offset_ns, data })
            }
            MPEG2_TS_SEQUENCE_START => Self::Unsupported(format!("{} in its MPEG-2 TS form", four_cc_name(&four_cc))),
            _ => Self::Ignored,
        })
    }
}

impl AudioTag {
    /// # Errors
    /// When the message ends within its header. An empty message is [`AudioTag::Ignored`].
    pub fn parse(body: &Bytes) -> Result<Tagged<Self>, TagTruncated> {
        let Some(&first) = body.first() else { return Ok(Tagged::alone(Self::Ignored)) };
        Ok(Tagged::alone(match first >> 4 {
            9 => return Self::parse_extended(first & 0x0f, body),
            10 => match *body.get(1).ok_or(TagTruncated("audio"))? {
                0 => Self::AacConfiguration(body.slice(2..)),
                1 if body.len() > 2 => Self::AacFrame(body.slice(2..)),
                _ => Self::Ignored,
            },
            format => Self::Unsupported(match format {
                0 | 3 => "PCM".into(),
                1 => "ADPCM".into(),
                2 | 14 => "MP3".into(),
                4..=6 => "Nellymoser".into(),
                7 | 8 => "G.711".into(),
                11 => "Speex".into(),
                other => format!("FLV sound format {other}"),
            }),
        }))
    }

    fn parse_extended(packet: u8, body: &Bytes) -> Result<Tagged<Self>, TagTruncated> {
        let Some(extended) = multitrack::audio(packet, body.slice(1..))? else { return Ok(Tagged::nothing()) };
        let Extended { packet, tracks, left_out, .. } = extended;
        let tags = tracks.into_iter().map(|Track { id, four_cc, data }| (id, Self::of_track(packet, four_cc, data)));
        Ok(Tagged { tags: tags.collect(), left_out })
    }

    fn of_track(packet: u8, four_cc: [u8; 4], data: Bytes) -> Self {
        match (&four_cc, packet) {
            (_, CODED_FRAMES) if data.is_empty() => Self::Ignored,
            (b"mp4a", SEQUENCE_START) => Self::AacConfiguration(data),
            (b"mp4a", CODED_FRAMES) => Self::AacFrame(data),
            (b"Opus", SEQUENCE_START) => Self::OpusConfiguration(data),
            (b"Opus", CODED_FRAMES) => Self::OpusPacket(data),
            (b"mp4a" | b"Opus", _) => Self::Ignored,
            (b".mp3", _) => Self::Unsupported("MP3".into()),
            (b"ac-3", _) => Self::Unsupported("AC-3".into()),
            (b"ec-3", _) => Self::Unsupported("E-AC-3".into()),
            (b"fLaC", _) => Self::Unsupported("FLAC".into()),
            (other, _) => Self::Unsupported(four_cc_name(other)),
        }
    }
}

/// FourCCs of pictures that are taken.
fn codec_of(four_cc: &[u8; 4]) -> Option<Codec> {
    match four_cc {
        b"avc1" => Some(Codec::H264),
        b"hvc1" => Some(Codec::Hevc),
        b"av01" => Some(Codec::Av1),
        b"vp08" => Some(Codec::Vp8),
        b"vp09" => Some(Codec::Vp9),
        _ => None,
    }
}

fn signed_24(a: u8, b: u8, c: u8) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

/// A FourCC fit for a log: `vvc1`, or its bytes where they are no letters.
fn four_cc_name(four_cc: &[u8]) -> String {
    four_cc.escape_ascii().to_string()
}

#[cfg(test)]
#[path = "flv_tests.rs"]
mod tests;
