//! Codecs whose pictures come in the order in which they are shown: AV1, VP8, VP9.

use std::time::Instant;

use bytes::Bytes;

use super::{BadPictures, FIRST_SEQ, Handled, Times};
use crate::{
    codec::{
        av1::SequenceHeader,
        packetize::{Av1Payloads, packetize_vp8, packetize_vp9},
        vp9,
    },
    ingest::rtmp::flv::PictureTag,
    media::{CaptureTime, Codec, TrackFormat},
    track::PicturePackets,
};

/// Of an `AV1CodecConfigurationRecord` ("AV1 Codec ISO Media File Format Binding", section 2.3.3), before its OBUs.
const AV1_HEAD_BYTES: usize = 4;

#[derive(Debug)]
pub struct FramesTrack {
    codec: Codec,
    packets: PicturePackets,
    av1: Av1Payloads,
    fmtp: Option<String>,
    /// Pictures sent so far.
    number: u64,
    /// A keyframe has come.
    begun: bool,
}

/// The OBUs of a record.
pub fn av1_obus(record: &[u8]) -> &[u8] {
    record.get(AV1_HEAD_BYTES..).unwrap_or_default()
}

impl FramesTrack {
    pub fn new(codec: Codec, record: &Bytes) -> Result<Self, BadPictures> {
        let mut track = Self {
            codec,
            packets: PicturePackets::new(FIRST_SEQ),
            av1: Av1Payloads::default(),
            fmtp: (codec == Codec::Vp8).then(String::new),
            number: 0,
            begun: false,
        };
        track.configure(record)?;
        Ok(track)
    }

    /// Of VP8 and VP9 the pictures say what is needed.
    pub fn configure(&mut self, record: &Bytes) -> Result<(), BadPictures> {
        if self.codec != Codec::Av1 {
            return Ok(());
        }
        // ffmpeg's is empty where its encoder has no sequence header yet: that comes with the first keyframe then.
        self.av1.configure(av1_obus(record))?;
        self.learn_av1();
        Ok(())
    }

    /// AOM's "RTP Payload Format For AV1", section 7.2.
    fn learn_av1(&mut self) {
        let header = self.av1.sequence_header().and_then(|obu| SequenceHeader::of_obu(obu));
        if let Some(SequenceHeader { profile, level, tier, .. }) = header {
            self.fmtp = Some(format!("level-idx={level};profile={profile};tier={tier}"));
        }
    }

    pub fn format(&self) -> Option<TrackFormat> {
        Some(TrackFormat { codec: self.codec, fmtp: self.fmtp.clone()?, channels: 1 })
    }

    pub fn handle_picture(
        &mut self,
        now: Instant,
        times: Times,
        tag: &PictureTag,
        capture: impl FnOnce() -> Option<CaptureTime>,
    ) -> Result<Handled, BadPictures> {
        let (payloads, keyframe) = match self.codec {
            Codec::Av1 => {
                let made = self.av1.packetize(&tag.data, tag.keyframe)?;
                if made.1 {
                    self.learn_av1();
                }
                made
            }
            Codec::Vp8 => {
                let keyframe = tag.data.first().is_some_and(|header| header & 1 == 0);
                (packetize_vp8(&tag.data, self.number), keyframe)
            }
            _ => {
                let header = vp9::frame_header(&tag.data);
                if let Some(header) = &header {
                    self.fmtp = Some(format!("profile-id={}", header.profile));
                }
                (packetize_vp9(&tag.data, header.is_some(), self.number), header.is_some())
            }
        };
        self.begun |= keyframe;
        if !self.begun {
            return Ok(Handled { packets: Vec::new(), keyframe });
        }
        self.number += 1;
        Ok(Handled { packets: self.packets.packets(now, times.shown_ticks, keyframe, payloads, capture), keyframe })
    }
}
