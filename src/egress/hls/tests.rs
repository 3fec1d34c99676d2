//! The packager, from what the frame lane delivers to parts that a strict reader takes.

mod codecs;
mod disorder;
mod flv;
mod originals;
mod player;
mod read;
mod rtp;
