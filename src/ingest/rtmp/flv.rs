//! The bodies of RTMP's audio and video messages: FLV tags (FLV 10.1 annex E.4) and their Enhanced RTMP form.

use bytes::Bytes;

/// What a video message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VideoTag {
    /// An `AVCDecoderConfigurationRecord`.
    AvcConfiguration(Bytes),
    /// NAL units with lengths before them.
    AvcPicture { composition_ms: i32, data: Bytes },
    /// End of sequence, metadata, seek commands: nothing to do.
    Ignored,
    /// A codec that is not taken: its name.
    Unsupported(String),
}

/// What an audio message holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AudioTag {
    /// An `AudioSpecificConfig`.
    AacConfiguration(Bytes),
    /// One raw frame.
    AacFrame(Bytes),
    Ignored,
    Unsupported(String),
}

/// The message is shorter than its own header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a {0} message shorter than its header")]
pub struct TagTruncated(&'static str);

impl VideoTag {
    /// # Errors
    /// When the message ends within its header. An empty message is [`VideoTag::Ignored`]: some encoders send them.
    pub fn parse(body: &Bytes) -> Result<Self, TagTruncated> {
        let Some(&first) = body.first() else { return Ok(Self::Ignored) };
        if first & 0x80 != 0 {
            return Self::parse_enhanced(first & 0x0f, body);
        }
        // Frame type 5 is a command to the player.
        match (first >> 4, first & 0x0f) {
            (5, _) => Ok(Self::Ignored),
            (_, 7) => {
                let &[_, packet, c0, c1, c2] = body.first_chunk().ok_or(TagTruncated("video"))?;
                Ok(match packet {
                    0 => Self::AvcConfiguration(body.slice(5..)),
                    1 => Self::AvcPicture { composition_ms: signed_24(c0, c1, c2), data: body.slice(5..) },
                    _ => Self::Ignored,
                })
            }
            (_, codec) => Ok(Self::Unsupported(match codec {
                2 => "Sorenson H.263".into(),
                3 | 6 => "Screen video".into(),
                4 | 5 => "On2 VP6".into(),
                12 => "HEVC by codec id 12".into(),
                other => format!("FLV video codec {other}"),
            })),
        }
    }

    /// Enhanced RTMP v1: a packet type and a FourCC.
    fn parse_enhanced(packet: u8, body: &Bytes) -> Result<Self, TagTruncated> {
        let &[_, ref four_cc @ ..] = body.first_chunk::<5>().ok_or(TagTruncated("video"))?;
        match packet {
            // Metadata, and a signal of this codec's end.
            2 | 4 => return Ok(Self::Ignored),
            6 | 7 => return Ok(Self::Unsupported("Enhanced RTMP multitrack video".into())),
            _ => {}
        }
        if four_cc != b"avc1" {
            return Ok(Self::Unsupported(four_cc_name(four_cc)));
        }
        Ok(match packet {
            0 => Self::AvcConfiguration(body.slice(5..)),
            1 => {
                let &[_, _, _, _, _, c0, c1, c2] = body.first_chunk().ok_or(TagTruncated("video"))?;
                Self::AvcPicture { composition_ms: signed_24(c0, c1, c2), data: body.slice(8..) }
            }
            3 => Self::AvcPicture { composition_ms: 0, data: body.slice(5..) },
            _ => Self::Ignored,
        })
    }
}

impl AudioTag {
    /// # Errors
    /// When the message ends within its header. An empty message is [`AudioTag::Ignored`].
    pub fn parse(body: &Bytes) -> Result<Self, TagTruncated> {
        let Some(&first) = body.first() else { return Ok(Self::Ignored) };
        match first >> 4 {
            9 => Self::parse_enhanced(first & 0x0f, body),
            10 => Ok(match *body.get(1).ok_or(TagTruncated("audio"))? {
                0 => Self::AacConfiguration(body.slice(2..)),
                1 if body.len() > 2 => Self::AacFrame(body.slice(2..)),
                _ => Self::Ignored,
            }),
            format => Ok(Self::Unsupported(match format {
                0 | 3 => "PCM".into(),
                1 => "ADPCM".into(),
                2 | 14 => "MP3".into(),
                4..=6 => "Nellymoser".into(),
                7 | 8 => "G.711".into(),
                11 => "Speex".into(),
                other => format!("FLV sound format {other}"),
            })),
        }
    }

    fn parse_enhanced(packet: u8, body: &Bytes) -> Result<Self, TagTruncated> {
        let &[_, ref four_cc @ ..] = body.first_chunk::<5>().ok_or(TagTruncated("audio"))?;
        match packet {
            2 | 4 => return Ok(Self::Ignored),
            5 | 7 => return Ok(Self::Unsupported("Enhanced RTMP multitrack sound".into())),
            _ => {}
        }
        if four_cc != b"mp4a" {
            return Ok(Self::Unsupported(four_cc_name(four_cc)));
        }
        Ok(match packet {
            0 => Self::AacConfiguration(body.slice(5..)),
            1 if body.len() > 5 => Self::AacFrame(body.slice(5..)),
            _ => Self::Ignored,
        })
    }
}

fn signed_24(a: u8, b: u8, c: u8) -> i32 {
    i32::from_be_bytes([a, b, c, 0]) >> 8
}

/// A FourCC fit for a log: `hvc1`, or its bytes where they are no letters.
fn four_cc_name(four_cc: &[u8]) -> String {
    four_cc.escape_ascii().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn video(body: &'static [u8]) -> VideoTag {
        VideoTag::parse(&Bytes::from_static(body)).unwrap()
    }

    #[test]
    fn avc_is_read_in_both_forms() {
        let data = Bytes::from_static(b"x");
        assert_eq!(video(b"\x17\0\0\0\0x"), VideoTag::AvcConfiguration(data.clone()));
        let picture = |composition_ms| VideoTag::AvcPicture { composition_ms, data: data.clone() };
        assert_eq!(video(b"\x27\x01\xff\xff\xfex"), picture(-2));
        assert_eq!(video(b"\x90avc1x"), VideoTag::AvcConfiguration(data.clone()));
        assert_eq!(video(b"\xa1avc1\0\0\x50x"), picture(80));
        assert_eq!(video(b"\xa3avc1x"), picture(0));
        assert_eq!(video(b"\x57\0"), VideoTag::Ignored);
    }

    #[test]
    fn other_codecs_are_named() {
        assert_eq!(video(b"\x90hvc1x"), VideoTag::Unsupported("hvc1".into()));
        assert_eq!(video(b"\x12abc"), VideoTag::Unsupported("Sorenson H.263".into()));
        let audio = |body: &'static [u8]| AudioTag::parse(&Bytes::from_static(body)).unwrap();
        assert_eq!(audio(b"\x2fabc"), AudioTag::Unsupported("MP3".into()));
        assert_eq!(audio(b"\x91Opusx"), AudioTag::Unsupported("Opus".into()));
        assert_eq!(audio(b"\xaf\x01"), AudioTag::Ignored, "a frame of nothing");
    }

    #[test]
    fn a_tag_cut_within_its_header_is_refused() {
        for body in [&b"\x17\0\0"[..], b"\x90avc", b"\xa1avc1\0\0"] {
            assert!(VideoTag::parse(&Bytes::copy_from_slice(body)).is_err());
        }
        assert!(AudioTag::parse(&Bytes::from_static(b"\xaf")).is_err());
    }
}
