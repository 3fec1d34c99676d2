//! RTMP egress: a stream is sent on to another server, as an encoder would send it. Sans-I/O; the connections are in [`crate::relay`].

mod client;
mod feed;
mod metadata;
mod packets;

pub use client::{PublishClient, PublishState};
pub use feed::{Feed, Outgoing};
