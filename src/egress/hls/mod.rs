//! HLS and Low-Latency HLS (RFC 8216 and draft-pantos-hls-rfc8216bis): a stream's access units become CMAF fragments once, whoever
//! and however many ask for them. Sans-I/O: frames and times in; parts, playlists and initializations out.

mod boundaries;
mod fmp4;
mod multivariant;
mod name;
mod original_pictures;
mod packager;
mod part;
mod pictures;
mod playlist;
mod run;
mod segmenter;
mod sound;
mod timeline;
mod window;

pub use multivariant::multivariant_playlist;
pub use name::{MediaNames, MediaObject};
pub use packager::{Packager, PackagerSettings};
pub use part::{Output, Part, RENDITIONS_MAX, RenditionDescription, RenditionIndex};
pub use playlist::{
    MEDIA_PREFIX, PlaylistForm, Rendered, advance_part_limit, media_playlist, playlist_name, playlist_rendition,
};
pub use window::{Edge, Found, RenditionWindow, Segment, Window, WindowSettings};

#[cfg(test)]
pub(crate) mod tests;
