//! The ways out: what turns the track tree's packets into what viewers take. Never looks at ingest.

pub mod hls;
pub mod rtmp;
pub mod whep;
pub mod whip;
