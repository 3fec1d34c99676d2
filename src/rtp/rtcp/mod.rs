//! RTCP as Sluice reads and writes it: reports (RFC 3550 section 6), NACK and PLI (RFC 4585 section 6), FIR (RFC 5104
//! section 4.3.1), transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01), REMB
//! (draft-alvestrand-rmcat-remb-03).
//!
//! In: a decrypted compound packet, or what is to be said. Out: its meanings one by one, without allocation; or bytes
//! appended to a buffer. What Sluice does not read comes out as [`Rtcp::Other`]. Nothing here keeps state.

mod read;
#[cfg(test)]
mod wire_tests;
mod write;

use std::time::{Duration, SystemTime};

pub use read::{NackSequences, Rtcp, RtcpReader};
pub use write::{
    CNAME_BYTES_MAX, NACK_PAIRS_MAX, write_bye, write_cname, write_fir, write_nack, write_pli, write_receiver_report,
    write_sender_report, write_transport_cc,
};

/// Packet types (RFC 3550 section 12.1, RFC 4585 section 6.1).
mod packet_type {
    pub const SENDER_REPORT: u8 = 200;
    pub const RECEIVER_REPORT: u8 = 201;
    pub const SOURCE_DESCRIPTION: u8 = 202;
    pub const BYE: u8 = 203;
    pub const TRANSPORT_FEEDBACK: u8 = 205;
    pub const PAYLOAD_FEEDBACK: u8 = 206;
}

/// Feedback message types (RFC 4585 sections 6.2 and 6.3, RFC 5104 section 4.3.1).
mod feedback_type {
    pub const NACK: u8 = 1;
    pub const PLI: u8 = 1;
    pub const FIR: u8 = 4;
    /// Of payload-specific feedback (RFC 4585 section 6.4).
    pub const APPLICATION: u8 = 15;
    pub const TRANSPORT_CC: u8 = 15;
}

/// A moment as NTP writes it: seconds since 1900, 32.32 fixed point (RFC 3550 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NtpTime(pub u64);

/// From NTP's epoch, 1900, to Unix's, 1970.
const NTP_TO_UNIX_S: u64 = 2_208_988_800;

impl NtpTime {
    /// A clock before 1970 counts as 1970.
    pub fn from_system(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        // The seconds wrap in 2036, as NTP's do.
        let seconds = since.as_secs().wrapping_add(NTP_TO_UNIX_S);
        Self(seconds << 32 | u64::from(fraction_32(since)))
    }

    /// The middle 32 bits: 16.16 seconds, as LSR carries them (RFC 3550 section 6.4.1).
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// The part of a second, in 1/2^32 s.
fn fraction_32(time: Duration) -> u32 {
    ((u64::from(time.subsec_nanos()) << 32) / 1_000_000_000) as u32
}

/// A duration in 1/65536 s, as DLSR carries it; saturates after 18 hours.
pub fn to_ntp_short(duration: Duration) -> u32 {
    let seconds = u32::try_from(duration.as_secs()).unwrap_or(u32::MAX);
    if seconds > 0xffff { u32::MAX } else { seconds << 16 | fraction_32(duration) >> 16 }
}

/// The other way.
pub fn from_ntp_short(short: u32) -> Duration {
    Duration::from_nanos((u64::from(short) * 1_000_000_000) >> 16)
}

/// The sender information of a sender report (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SenderReport {
    pub ssrc: u32,
    pub ntp: NtpTime,
    /// The same moment on the stream's RTP clock.
    pub rtp_time: u32,
    /// Packets and payload bytes sent so far, wrapping.
    pub packets: u32,
    pub bytes: u32,
}

/// A report block: how one stream is received (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceptionReport {
    /// Whose packets it is about.
    pub ssrc: u32,
    /// Of the packets expected since the last report, in 1/256.
    pub fraction_lost: u8,
    /// Since the beginning; 24 bits, signed (duplicates can make it negative).
    pub lost: i32,
    /// Highest sequence number received, extended by its cycles.
    pub highest_sequence: u32,
    /// Interarrival jitter in ticks of the stream's clock.
    pub jitter_ticks: u32,
    /// Middle bits of the last sender report's NTP time; 0 when none came.
    pub last_sender_report: u32,
    /// From that report's arrival to this block, in 1/65536 s; 0 when none came.
    pub delay_since_last: u32,
}

impl ReceptionReport {
    /// The round trip that a report sender learns from the block's arrival (RFC 3550 section 6.4.1). `None` when the
    /// receiver has had no sender report yet, or its numbers contradict our clock.
    pub fn round_trip(&self, now: NtpTime) -> Option<Duration> {
        if self.last_sender_report == 0 {
            return None;
        }
        let elapsed = now.middle().wrapping_sub(self.last_sender_report).wrapping_sub(self.delay_since_last);
        // More than half the range is a negative number: the peer claims to have waited longer than time has passed.
        (elapsed < 1 << 31).then(|| from_ntp_short(elapsed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_time_has_the_right_epoch_and_fraction() {
        let time = NtpTime::from_system(SystemTime::UNIX_EPOCH + Duration::from_millis(1_500));
        assert_eq!(time.0 >> 32, NTP_TO_UNIX_S + 1);
        assert_eq!(time.0 as u32, 1 << 31);
        assert_eq!(time.middle(), ((NTP_TO_UNIX_S + 1) as u32) << 16 | 1 << 15);
    }

    #[test]
    fn short_durations_round_trip_and_saturate() {
        let short = to_ntp_short(Duration::from_millis(5_250));
        assert_eq!(short, 5 << 16 | 1 << 14);
        assert_eq!(from_ntp_short(short), Duration::from_millis(5_250));
        assert_eq!(to_ntp_short(Duration::from_secs(70_000)), u32::MAX);
    }

    #[test]
    fn round_trip_is_what_neither_side_waited() {
        let sent = NtpTime::from_system(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000));
        let now = NtpTime::from_system(SystemTime::UNIX_EPOCH + Duration::from_millis(1_002_080));
        let block = ReceptionReport {
            ssrc: 1,
            fraction_lost: 0,
            lost: 0,
            highest_sequence: 0,
            jitter_ticks: 0,
            last_sender_report: sent.middle(),
            delay_since_last: to_ntp_short(Duration::from_secs(2)),
        };
        let round_trip = block.round_trip(now).unwrap();
        assert!(round_trip.abs_diff(Duration::from_millis(80)) < Duration::from_millis(1), "{round_trip:?}");
        assert_eq!(ReceptionReport { last_sender_report: 0, ..block }.round_trip(now), None);
        let lie = ReceptionReport { delay_since_last: to_ntp_short(Duration::from_secs(9)), ..block };
        assert_eq!(lie.round_trip(now), None);
    }
}
