//! The codecs: what Sluice reads of their bitstreams and of their RTP payload formats. Sans-I/O.

pub mod aac;
pub mod av1;
mod bits;
pub mod depacketize;
pub mod h264;
pub mod hevc;
pub mod opus;
pub mod packetize;
mod picture_size;
pub mod vp8;
pub mod vp9;

pub use picture_size::{PictureSize, picture_size};
