//! The packager, from what the frame lane delivers to parts that a strict reader takes.

mod aac;
mod codecs;
mod disorder;
mod drift;
pub mod flv;
mod originals;
pub mod player;
mod read;
pub mod rtp;
mod rungs;
