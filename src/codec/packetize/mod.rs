//! Pictures become RTP payloads, codec by codec.

mod av1;
mod nal_units;
mod vpx;

use crate::media::RTP_HEADER_BYTES;

pub use av1::{Av1Payloads, BadTemporalUnit};
pub use nal_units::{packetize_avc, packetize_hevc};
pub use vpx::{packetize_vp8, packetize_vp9};

/// What a datagram should not exceed, in bytes of UDP payload: the size that WebRTC stacks use themselves, and that
/// passes tunnels and IPv6 (1280 - 48) with room to spare.
const DATAGRAM_TARGET_BYTES: usize = 1_200;
/// Room for a viewer's header extensions: 4 bytes of block header and, in one-byte form (RFC 8285), mid (1 + 2),
/// playout delay (1 + 3) and capture time (1 + 16), which is 24: whole words.
const EXTENSIONS_MAX_BYTES: usize = 4 + 24;
/// The original sequence number that a retransmission carries (RFC 4588 section 4).
const RTX_HEADER_BYTES: usize = 2;
/// The longer of the authentication tags: AES-GCM's (RFC 7714).
const SRTP_TAG_BYTES: usize = 16;

/// The longest payload made here, in bytes: 1142.
pub const PAYLOAD_MAX_BYTES: usize =
    DATAGRAM_TARGET_BYTES - RTP_HEADER_BYTES - EXTENSIONS_MAX_BYTES - RTX_HEADER_BYTES - SRTP_TAG_BYTES;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_datagram_holds_header_extensions_tag_and_payload() {
        assert_eq!(PAYLOAD_MAX_BYTES, 1_142);
        assert_eq!(12 + 28 + 2 + 16 + PAYLOAD_MAX_BYTES, 1_200);
    }
}
