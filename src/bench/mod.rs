//! `sluice bench`: load generators. Clients of a running server, over the network only.
//!
//! [`whep`] opens many viewers against any WHEP endpoint, and may publish too. One thread carries all media: the
//! protocol state of each viewer is sans-I/O ([`viewer`], [`publisher`], over [`peer`]), and one loop ([`load`]) drives
//! their sockets. HTTP has a thread of its own ([`signalling`]).
//! [`hls`] holds many blocking requests on one LL-HLS rendition, on a thread of its own kind.
//! Not here: decoding. A picture counts as arrived when the first packet of a keyframe has.

#![allow(clippy::disallowed_methods, reason = "an I/O room: it owns its clock, threads and sockets")]

mod answer;
mod audience;
mod checks;
mod error;
mod figures;
pub mod hls;
mod load;
mod offer;
mod peer;
mod process;
mod publisher;
mod reception;
mod report;
mod signalling;
mod spread;
mod stamp;
#[cfg(test)]
mod tests;
mod viewer;
mod wall;
pub mod whep;
pub mod wire;

pub use error::BenchError;
