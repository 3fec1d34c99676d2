//! The vocabulary of media: wide sequence numbers and times, RTP packets, access units. Sans-I/O.

mod packet;
mod seq;
mod unit;

pub use packet::{ExtensionValues, MalformedRtp, RTP_HEADER_BYTES, RtpHeader, RtpPacket};
pub use seq::{ExtendedSeq, SeqExtender, TimeExtender};
pub use sluice_signaling::{
    codec::{Codec, MediaKind, TrackFormat},
    name::{SessionId, StreamName},
};
pub use unit::AccessUnit;
