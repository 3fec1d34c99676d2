//! Sluice: a WebRTC-first live media server. Publishers come in by WHIP or RTMP, become one track tree, go out by WHEP and HLS.
//!
//! The rooms, in layers; imports point downwards only (`tests/house` checks it). `ARCHITECTURE.md` is the map.

// What comes from the network is no reason to panic; what cannot fail is written so that it cannot.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::unreachable, clippy::unimplemented, clippy::todo)]

pub mod bench;
pub mod codec;
pub mod config;
pub mod egress;
pub mod http;
pub mod ingest;
pub mod media;
pub mod metrics;
pub mod packaging;
pub mod relay;
pub mod rtmp;
pub mod rtp;
pub mod server;
pub mod track;
pub mod transcode;
pub mod transport;
pub mod worker;
