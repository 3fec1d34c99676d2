//! HLS and Low-Latency HLS (RFC 8216 and draft-pantos-hls-rfc8216bis): a stream's access units become CMAF fragments once, whoever
//! and however many ask for them. Sans-I/O: frames and times in; parts, playlists and initializations out.

mod packager;
mod part;

pub use packager::{Packager, PackagerSettings};
pub use part::{Output, Part, RENDITIONS_MAX, RenditionDescription, RenditionIndex};
