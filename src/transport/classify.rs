//! What a datagram on the shared port is, by its first bytes (RFC 7983 section 7, RFC 5761 section 4).

/// The protocols that share one WebRTC port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DatagramKind {
    Stun,
    Dtls,
    Rtp,
    Rtcp,
    /// TURN channels, ZRTP, QUIC, or nothing at all: not spoken here.
    Unknown,
}

/// Looks at no more than two bytes; whether the datagram is sound is for its protocol to say.
///
/// RTP and RTCP share the range 128 to 191; RTCP is told apart by a packet type of 192 to 223, which is why RTP must not
/// use the payload types 64 to 95 (RFC 5761 section 4).
pub fn classify(datagram: &[u8]) -> DatagramKind {
    match *datagram {
        [0..=3, ..] => DatagramKind::Stun,
        [20..=63, ..] => DatagramKind::Dtls,
        [128..=191, 192..=223, ..] => DatagramKind::Rtcp,
        [128..=191, _, ..] => DatagramKind::Rtp,
        _ => DatagramKind::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_decide_as_rfc_7983_says() {
        for (first, kind) in [
            (0, DatagramKind::Stun),
            (3, DatagramKind::Stun),
            (4, DatagramKind::Unknown),
            (16, DatagramKind::Unknown),
            (19, DatagramKind::Unknown),
            (20, DatagramKind::Dtls),
            (63, DatagramKind::Dtls),
            (64, DatagramKind::Unknown),
            (127, DatagramKind::Unknown),
            (128, DatagramKind::Rtp),
            (191, DatagramKind::Rtp),
            (192, DatagramKind::Unknown),
            (255, DatagramKind::Unknown),
        ] {
            assert_eq!(classify(&[first, 96]), kind, "first byte {first}");
        }
        assert_eq!(classify(&[]), DatagramKind::Unknown);
    }

    #[test]
    fn rtcp_packet_types_are_told_from_rtp_payload_types() {
        for second in 0..=255u8 {
            let kind = if (192..=223).contains(&second) { DatagramKind::Rtcp } else { DatagramKind::Rtp };
            assert_eq!(classify(&[0x80, second]), kind, "second byte {second}");
        }
        assert_eq!(classify(&[0x80]), DatagramKind::Unknown);
    }
}
