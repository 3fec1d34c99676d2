//! WHIP (RFC 9725): how publishers come in by HTTP.

use crate::{endpoint::Door, media_plane::Direction, sdp::negotiate_ingest, token::Right};

/// `/whip/{stream}` and its sessions.
pub const WHIP: Door = Door {
    prefix: "/whip",
    direction: Direction::Ingest,
    right: Right::Publish,
    discoverable: false,
    negotiate: |call, stream, offer| negotiate_ingest(offer, call.plane.viewer_codecs(stream).as_deref()),
};
