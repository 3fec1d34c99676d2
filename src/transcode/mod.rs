//! Turns one codec into another, on threads of its own: AAC into Opus, for WebRTC viewers of RTMP streams.

mod aac_decoder;
mod aac_to_opus;
mod resample;
mod sound;

pub use aac_to_opus::{AacToOpus, OpusPacket, TranscodeError};
pub use sound::{SoundEvent, SoundInput, SoundThread};
