//! Turns one codec into another, on threads of its own: AAC into Opus, for WebRTC viewers of RTMP streams; and on its reader's
//! thread, Opus into AAC, for HLS. Pictures are encoded anew in processes (`pictures`).

mod aac_decoder;
mod aac_to_opus;
mod opus_to_aac;
mod pictures;
mod resample;
mod sample_count;
mod sound;

pub use aac_to_opus::{AacToOpus, OpusPacket, TranscodeError};
pub use opus_to_aac::{AAC_FRAME_SAMPLES, AacFrame, EncodeError, OpusToAac};
pub use pictures::{EncodingPurpose, Reencoding, ReencodingSettings, ReencodingState, find_program};
pub use sample_count::{Place, SampleCount};
pub use sound::{LazySoundThread, SoundEvent, SoundInput};
