//! The vocabulary of media: wide sequence numbers and times, RTP packets, access units. Sans-I/O.

mod capture;
mod growing;
mod packet;
mod seq;
mod unit;

pub use capture::{CaptureStamps, CaptureTime};
pub use growing::Growing;
pub use packet::{ExtensionValues, MalformedRtp, RTP_HEADER_BYTES, RtpHeader, RtpPacket};
pub use seq::{ExtendedSeq, SeqExtender, TimeExtender};
pub use sluice_signaling::{
    codec::{Codec, MediaKind, TrackFormat},
    name::{SessionId, StreamName},
};
pub use unit::AccessUnit;

/// A fixed beginning for tests on a virtual clock.
#[cfg(test)]
pub mod testing {
    use std::{sync::OnceLock, time::Instant};

    /// The same instant for the whole test run.
    #[expect(clippy::disallowed_methods, reason = "an `Instant` has no other origin")]
    pub fn epoch() -> Instant {
        static EPOCH: OnceLock<Instant> = OnceLock::new();
        *EPOCH.get_or_init(Instant::now)
    }
}
