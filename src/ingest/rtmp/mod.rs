//! RTMP ingest: a publisher's bytes come in, and its pictures and sound go into the track tree as WebRTC viewers can be
//! sent them. Pictures are repacketized as they are; AAC becomes Opus, and Opus stays.
//!
//! Server `rtmp://host/live`, or `rtmps://` where there is a certificate (any application is taken), stream key
//! `{stream}?token=JWT`. `rml_rtmp` does the handshake and writes what we say; reading is our own, because its reader trusts
//! the peer too much (see [`crate::rtmp`]). The session is sans-I/O; [`serve`] is its shell, one task per connection. It
//! does not play, record or relay. [`PullSession`] is the other way to come by a stream: it asks another server for it.
//!
//! B-frames are left out, because WebRTC shows pictures as they are decoded: see [`DisplayOrder`]. Where they are H.264's, the tree is told of
//! them, so that the stream can be encoded anew while somebody watches: see [`transcode`].
//!
//! [`DisplayOrder`]: crate::codec::h264::DisplayOrder
//! [`transcode`]: crate::transcode

mod clock;
mod command;
mod drift;
mod ending;
mod enhanced;
mod flv;
mod key;
mod listener;
mod media;
mod multitrack;
mod originals;
mod places;
mod play;
mod pull;
mod reply;
mod session;
mod side_tracks;
mod tls;
mod together;
mod video;

use std::sync::Arc;

use sluice_signaling::token::Authenticator;

#[cfg(test)]
pub(crate) use self::session::tests as testing;
pub use self::{
    ending::Ending,
    listener::{Door, serve},
    pull::{PullContext, PullSession},
    session::Session,
    tls::{Tls, TlsError},
};
use crate::{config::OnConflict, metrics::Metrics, track::Streams};

/// What every RTMP session needs of the server.
#[derive(Debug)]
pub struct RtmpContext {
    pub streams: Arc<Streams>,
    pub authenticator: Arc<Authenticator>,
    pub metrics: Arc<Metrics>,
    pub on_conflict: OnConflict,
    /// At a time, on this door. Each may hold a message in progress (`rtmp::PARTIAL_MAX_BYTES`, 3 MiB, once it may publish; below 1 MiB
    /// before), a read buffer, and a thread for its sound.
    pub connections_max: usize,
    /// Where publishers are asked to connect when the server stops, if not to the same address; a URL.
    pub reconnect_to: Option<String>,
    /// Streams with B-frames are encoded anew for WebRTC viewers.
    pub reencodes: bool,
}
