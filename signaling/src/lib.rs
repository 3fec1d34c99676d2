//! WHIP and WHEP signalling, sans-I/O: an HTTP request goes in, a decision and an HTTP response come out.
//!
//! Nothing here opens a socket, reads a clock or knows what media is: the caller hands in the time, and whatever
//! carries packets stands behind the [`MediaPlane`](media_plane::MediaPlane) trait.
//! Rules: RFC 9725 (WHIP), draft-ietf-wish-whep (WHEP), RFC 8866 (SDP), RFC 8840 (trickle ICE), RFC 7519 (JWT).

// What comes from the network is no reason to panic; what cannot fail is written so that it cannot.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::unreachable, clippy::unimplemented, clippy::todo)]

pub mod codec;
mod counter_offer;
pub mod endpoint;
pub mod error;
pub mod events;
pub mod extensions;
pub mod http;
pub mod ice;
pub mod ice_server;
mod layers;
pub mod media_plane;
pub mod name;
mod patch;
pub mod priority;
pub mod redirect;
pub mod sdp;
pub mod token;
pub mod whep;
pub mod whip;
