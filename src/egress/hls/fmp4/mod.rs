//! Fragmented MP4 as CMAF has it (ISO/IEC 14496-12 and 23000-19), one track per file: what initializes a decoder, and chunks of
//! samples. Only written, never read.

mod boxes;
mod fragment;
mod initialization;
mod sample_entry;

pub use fragment::{Sample, write_fragment};
pub use initialization::{TrackHeader, write_initialization};
pub use sample_entry::SampleFormat;
