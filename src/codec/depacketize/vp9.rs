//! VP9 (RFC 9628): frames without their payload descriptors; several spatial layers of a picture as a superframe.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};

use super::{BadPicture, DecoderSetup, Picture};
use crate::codec::vp9;

/// Frames that one picture may have: what a superframe's index can tell of (VP9 bitstream specification, annex B).
const FRAMES_MAX: usize = 8;

/// See the module.
#[derive(Debug, Default)]
pub struct Vp9Pictures {
    setup: Option<Arc<DecoderSetup>>,
}

impl Vp9Pictures {
    pub(crate) fn of_payloads(&mut self, payloads: &[Bytes]) -> Result<Picture, BadPicture> {
        let mut data = BytesMut::new();
        let mut sizes: Vec<usize> = Vec::new();
        let may_begin = payloads.first().is_some_and(|payload| vp9::starts_keyframe(payload));
        for payload in payloads {
            let (begins, frame) = vp9::frame_part(payload).ok_or(BadPicture::Truncated)?;
            if begins {
                sizes.push(0);
            }
            *sizes.last_mut().ok_or(BadPicture::LoneFragment)? += frame.len();
            data.extend_from_slice(frame);
        }
        if data.is_empty() || sizes.contains(&0) {
            return Err(BadPicture::Empty);
        }
        // ffmpeg (up to 9.0) sends all pictures as if they referred to no other: the frame itself knows better.
        let header = if may_begin { vp9::frame_header(&data) } else { None };
        let setup = header.map(|header| {
            // Of layers the highest is shown.
            let size = payloads.first().and_then(|payload| vp9::picture_size(payload)).unwrap_or(header.size);
            self.setup(&vp9::FrameHeader { size, ..header })
        });
        match sizes.len() {
            1 => {}
            2..=FRAMES_MAX => write_index(&sizes, &mut data),
            _ => return Err(BadPicture::Structure),
        }
        Ok(Picture { keyframe: setup.is_some(), data: data.freeze(), setup })
    }

    /// A whole frame, or superframe.
    ///
    /// # Errors
    /// When it is empty.
    pub fn of_frame(&mut self, data: &Bytes) -> Result<Picture, BadPicture> {
        if data.is_empty() {
            return Err(BadPicture::Empty);
        }
        let setup = vp9::frame_header(data).map(|header| self.setup(&header));
        Ok(Picture { keyframe: setup.is_some(), data: data.clone(), setup })
    }

    fn setup(&mut self, header: &vp9::FrameHeader) -> Arc<DecoderSetup> {
        let level = header.level();
        let vp9::FrameHeader { profile, bit_depth, size, .. } = *header;
        let mut configuration = vec![1, 0, 0, 0, profile, level];
        configuration.push(bit_depth << 4 | header.subsampling << 1 | u8::from(header.full_range));
        configuration.extend(header.colours());
        configuration.extend([0, 0]); // codecInitializationDataSize
        let codecs = format!("vp09.{profile:02}.{level:02}.{bit_depth:02}");
        let setup = DecoderSetup {
            entry: *b"vp09",
            configuration_box: *b"vpcC",
            configuration: configuration.into(),
            size,
            codecs,
            frame_rate: None,
        };
        match &self.setup {
            Some(known) if **known == setup => known.clone(),
            _ => self.setup.insert(Arc::new(setup)).clone(),
        }
    }
}

/// A superframe's index: how long its frames are, in four bytes each.
fn write_index(sizes: &[usize], data: &mut BytesMut) {
    let marker = 0b110 << 5 | 3 << 3 | (sizes.len() - 1) as u8;
    data.extend_from_slice(&[marker]);
    sizes.iter().for_each(|size| data.extend_from_slice(&(*size as u32).to_le_bytes()));
    data.extend_from_slice(&[marker]);
}
