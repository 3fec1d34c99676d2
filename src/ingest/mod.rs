//! Ingest: publishers' protocols become tracks of the track tree. It knows nothing of egress.

pub mod rtmp;
pub mod whip;
