//! Ingest: publishers' protocols become tracks of the track tree. It knows nothing of egress.

mod pull_ending;
pub mod rtmp;
pub mod whip;

pub use pull_ending::PullEnding;
