//! The codecs: what Sluice reads of their bitstreams and of their RTP payload formats. Sans-I/O.

pub mod aac;
pub mod av1;
pub mod h264;
pub mod opus;
pub mod vp8;
pub mod vp9;
