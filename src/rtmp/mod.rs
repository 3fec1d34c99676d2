//! What both ends of an RTMP connection have in common (RTMP 1.0): chunks and AMF values that come in, messages that go out. Sans-I/O.
//!
//! `rml_rtmp` writes; what peers send is read by code of our own, because its readers trust declared lengths and nesting.

mod aggregate;
pub mod amf;
mod amf3;
mod caller;
mod chunk;
mod output;

pub use aggregate::{BadAggregate, messages_of};
pub use caller::{Caller, Heard, information};
pub use chunk::{BadChunk, ChunkReader, Message, PARTIAL_MAX_BYTES, kind};
pub use output::MessageWriter;
