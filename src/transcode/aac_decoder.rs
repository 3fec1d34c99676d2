//! `libfdk-aac`'s decoder, set for low delay: raw AAC frames in, stereo out.
//!
//! The crate `fdk-aac` cannot set what matters here. As it comes, the library looks ahead 15 ms to limit peaks, and a whole
//! frame (21 ms) to conceal damage by interpolation: both are delay that every listener would have. Peaks are clipped
//! instead, and damage is filled with noise.

use std::{ffi::c_int, ptr::NonNull};

use fdk_aac_sys as sys;

use super::resample::CHANNELS;

/// A code of the library's (`AAC_DECODER_ERROR`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum DecodeError {
    #[error("no memory for a decoder")]
    OutOfMemory,
    #[error("libfdk-aac says {0:#06x}")]
    Library(u32),
    #[error("the frame is longer than the decoder's buffer")]
    FrameTooLong,
}

/// What a decoded frame is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct DecodedFrame {
    pub rate_hz: u32,
    /// Samples per channel.
    pub samples: usize,
    pub channels: usize,
    /// Samples by which what comes out is behind what went in.
    pub delay_samples: u32,
}

pub(super) struct AacDecoder {
    handle: NonNull<sys::AAC_DECODER_INSTANCE>,
}

// SAFETY: the library keeps no state outside of the instance, and an instance is used through `&mut self` only.
unsafe impl Send for AacDecoder {}

impl AacDecoder {
    /// A decoder for frames of this `AudioSpecificConfig`. It gives stereo whatever goes in: mono is doubled, more channels
    /// are mixed down.
    ///
    /// # Errors
    /// When the library does not take the configuration.
    pub(super) fn open(config: &[u8]) -> Result<Self, DecodeError> {
        // SAFETY: takes two numbers; null means that it failed.
        let handle = unsafe { sys::aacDecoder_Open(sys::TRANSPORT_TYPE_TT_MP4_RAW, 1) };
        let mut decoder = Self { handle: NonNull::new(handle).ok_or(DecodeError::OutOfMemory)? };
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_MIN_OUTPUT_CHANNELS, CHANNELS as c_int)?;
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_MAX_OUTPUT_CHANNELS, CHANNELS as c_int)?;
        decoder.set(sys::AACDEC_PARAM_AAC_PCM_LIMITER_ENABLE, 0)?;
        const NOISE_SUBSTITUTION: c_int = 1;
        decoder.set(sys::AACDEC_PARAM_AAC_CONCEAL_METHOD, NOISE_SUBSTITUTION)?;
        let mut bytes = config.as_ptr().cast_mut();
        let length = config.len() as u32;
        // SAFETY: the library reads `length` bytes from `bytes` during the call, and writes none of them.
        check(unsafe { sys::aacDecoder_ConfigRaw(decoder.handle.as_ptr(), &raw mut bytes, &raw const length) })?;
        Ok(decoder)
    }

    fn set(&mut self, parameter: sys::AACDEC_PARAM, value: c_int) -> Result<(), DecodeError> {
        // SAFETY: the instance is alive; the rest are numbers.
        check(unsafe { sys::aacDecoder_SetParam(self.handle.as_ptr(), parameter, value) })
    }

    /// Decodes one frame into `pcm`, interleaved.
    ///
    /// # Errors
    /// When the frame is damaged or does not fit; the decoder stays usable.
    pub(super) fn decode(&mut self, frame: &[u8], pcm: &mut [i16]) -> Result<DecodedFrame, DecodeError> {
        let handle = self.handle.as_ptr();
        let mut bytes = frame.as_ptr().cast_mut();
        let length = frame.len() as u32;
        let mut left = length;
        // SAFETY: the library copies at most `left` bytes from `bytes` into its own buffer during the call.
        check(unsafe { sys::aacDecoder_Fill(handle, &raw mut bytes, &raw const length, &raw mut left) })?;
        if left > 0 {
            return Err(DecodeError::FrameTooLong);
        }
        let room = c_int::try_from(pcm.len()).unwrap_or(c_int::MAX);
        // SAFETY: the library writes at most `room` samples to `pcm`, and refuses frames that need more.
        check(unsafe { sys::aacDecoder_DecodeFrame(handle, pcm.as_mut_ptr(), room, 0) })?;
        // SAFETY: the result points into the instance, which is alive and not changed while it is read.
        let info = unsafe { sys::aacDecoder_GetStreamInfo(handle).as_ref() }.ok_or(DecodeError::OutOfMemory)?;
        Ok(DecodedFrame {
            rate_hz: u32::try_from(info.sampleRate).unwrap_or(0),
            samples: usize::try_from(info.frameSize).unwrap_or(0),
            channels: usize::try_from(info.numChannels).unwrap_or(0),
            delay_samples: info.outputDelay,
        })
    }
}

impl Drop for AacDecoder {
    fn drop(&mut self) {
        // SAFETY: the instance came from `aacDecoder_Open`, and is not used after this.
        unsafe { sys::aacDecoder_Close(self.handle.as_ptr()) };
    }
}

fn check(code: sys::AAC_DECODER_ERROR) -> Result<(), DecodeError> {
    if code == sys::AAC_DECODER_ERROR_AAC_DEC_OK { Ok(()) } else { Err(DecodeError::Library(code)) }
}
