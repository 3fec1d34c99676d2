//! An RTP packet as it comes off the wire, decrypted (RFC 3550 section 5.1), with the header extensions Sluice reads (RFC 8285).

use bytes::Bytes;
use sluice_signaling::sdp::ExtensionIds;

use super::CaptureTime;

/// The fixed header's size in bytes.
pub const RTP_HEADER_BYTES: usize = 12;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    pub marker: bool,
    pub payload_type: u8,
    pub sequence: u16,
    /// In ticks of the payload type's clock.
    pub timestamp: u32,
    pub ssrc: u32,
}

/// Values of the header extensions that were negotiated.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExtensionValues {
    pub mid: Option<Bytes>,
    pub rid: Option<Bytes>,
    pub repaired_rid: Option<Bytes>,
    pub transport_sequence: Option<u16>,
    pub abs_capture_time: Option<CaptureTime>,
}

/// One parsed packet; the payload has its padding removed and shares the datagram's buffer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RtpPacket {
    pub header: RtpHeader,
    pub extensions: ExtensionValues,
    pub payload: Bytes,
}

/// The bytes are no RTP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MalformedRtp {
    #[error("{0} bytes are too few for the RTP header they announce")]
    Truncated(usize),
    #[error("RTP version {0}, expected 2")]
    Version(u8),
    #[error("{padding} bytes of padding in a payload of {payload}")]
    Padding { padding: usize, payload: usize },
}

impl RtpPacket {
    /// Parses a decrypted packet.
    ///
    /// # Errors
    /// When the header, its extension or the padding claims more bytes than there are. Malformed elements inside a
    /// well-formed extension block are skipped: they cost their values, not the packet.
    pub fn parse(bytes: Bytes, ids: &ExtensionIds) -> Result<Self, MalformedRtp> {
        let len = bytes.len();
        if len < RTP_HEADER_BYTES {
            return Err(MalformedRtp::Truncated(len));
        }
        let version = bytes[0] >> 6;
        if version != 2 {
            return Err(MalformedRtp::Version(version));
        }
        let header = RtpHeader {
            marker: bytes[1] & 0x80 != 0,
            payload_type: bytes[1] & 0x7f,
            sequence: u16::from_be_bytes([bytes[2], bytes[3]]),
            timestamp: u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
            ssrc: u32::from_be_bytes([bytes[8], bytes[9], bytes[10], bytes[11]]),
        };
        let mut at = RTP_HEADER_BYTES + 4 * usize::from(bytes[0] & 0x0f);
        let mut extensions = ExtensionValues::default();
        if bytes[0] & 0x10 != 0 {
            let Some(&[p0, p1, l0, l1]) = bytes.get(at..at + 4).and_then(|b| b.first_chunk()) else {
                return Err(MalformedRtp::Truncated(len));
            };
            let block_bytes = 4 * usize::from(u16::from_be_bytes([l0, l1]));
            let block = at + 4..at + 4 + block_bytes;
            if block.end > len {
                return Err(MalformedRtp::Truncated(len));
            }
            at = block.end;
            let profile = u16::from_be_bytes([p0, p1]);
            extensions = ExtensionValues::parse(profile, bytes.slice(block), ids);
        }
        if at > len {
            return Err(MalformedRtp::Truncated(len));
        }
        let mut end = len;
        if bytes[0] & 0x20 != 0 {
            let padding = usize::from(bytes[len - 1]);
            if padding == 0 || at + padding > len {
                return Err(MalformedRtp::Padding { padding, payload: len - at });
            }
            end -= padding;
        }
        Ok(Self { header, extensions, payload: bytes.slice(at..end) })
    }
}

impl ExtensionValues {
    fn parse(profile: u16, block: Bytes, ids: &ExtensionIds) -> Self {
        let mut values = Self::default();
        let two_byte = profile & 0xfff0 == 0x1000;
        if profile != 0xbede && !two_byte {
            return values;
        }
        let mut at = 0;
        while at < block.len() {
            if block[at] == 0 {
                at += 1;
                continue;
            }
            let (id, len, start) = if two_byte {
                let Some(&len) = block.get(at + 1) else { break };
                (block[at], usize::from(len), at + 2)
            } else {
                let id = block[at] >> 4;
                if id == 15 {
                    break;
                }
                (id, usize::from(block[at] & 0x0f) + 1, at + 1)
            };
            if start + len > block.len() {
                break;
            }
            values.set(id, block.slice(start..start + len), ids);
            at = start + len;
        }
        values
    }

    fn set(&mut self, id: u8, value: Bytes, ids: &ExtensionIds) {
        let id = Some(id);
        if id == ids.mid {
            self.mid = Some(value);
        } else if id == ids.rid {
            self.rid = Some(value);
        } else if id == ids.repaired_rid {
            self.repaired_rid = Some(value);
        } else if id == ids.transport_cc {
            self.transport_sequence = value.first_chunk().map(|b| u16::from_be_bytes(*b));
        } else if id == ids.abs_capture_time {
            self.abs_capture_time = CaptureTime::parse(&value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDS: ExtensionIds = ExtensionIds {
        mid: Some(4),
        rid: None,
        repaired_rid: None,
        abs_send_time: None,
        transport_cc: Some(3),
        playout_delay: None,
        abs_capture_time: None,
    };

    fn packet(first: u8, rest: &[u8]) -> Bytes {
        let mut bytes = vec![first, 0x80 | 96, 0, 7, 0, 0, 0, 9, 1, 2, 3, 4];
        bytes.extend_from_slice(rest);
        bytes.into()
    }

    #[test]
    fn one_byte_extensions_padding_and_contributors_are_read() {
        let bytes = packet(
            0xb1, // padding, extension, one contributing source
            &[9, 9, 9, 9, 0xbe, 0xde, 0, 2, 0x31, 0, 5, 0x40, b'0', 0, 0, 0, 0xaa, 0xbb, 0, 2],
        );
        let parsed = RtpPacket::parse(bytes, &IDS).unwrap();
        assert!(parsed.header.marker);
        assert_eq!((parsed.header.payload_type, parsed.header.sequence), (96, 7));
        assert_eq!((parsed.header.timestamp, parsed.header.ssrc), (9, 0x0102_0304));
        assert_eq!(parsed.extensions.transport_sequence, Some(5));
        assert_eq!(parsed.extensions.mid.as_deref(), Some(&b"0"[..]));
        assert_eq!(&parsed.payload[..], [0xaa, 0xbb]);
    }

    #[test]
    fn two_byte_extensions_are_read() {
        let bytes = packet(0x90, &[0x10, 0, 0, 1, 3, 2, 0, 6, 0xaa]);
        let parsed = RtpPacket::parse(bytes, &IDS).unwrap();
        assert_eq!(parsed.extensions.transport_sequence, Some(6));
        assert_eq!(&parsed.payload[..], [0xaa]);
    }

    #[test]
    fn lengths_that_lie_are_refused() {
        assert_eq!(RtpPacket::parse(Bytes::from_static(&[0x80; 11]), &IDS), Err(MalformedRtp::Truncated(11)));
        assert_eq!(RtpPacket::parse(packet(0x40, &[]), &IDS), Err(MalformedRtp::Version(1)));
        assert_eq!(RtpPacket::parse(packet(0x8f, &[]), &IDS), Err(MalformedRtp::Truncated(12)));
        assert_eq!(RtpPacket::parse(packet(0x90, &[0xbe, 0xde, 0, 9]), &IDS), Err(MalformedRtp::Truncated(16)));
        assert_eq!(
            RtpPacket::parse(packet(0xa0, &[1, 2, 9]), &IDS),
            Err(MalformedRtp::Padding { padding: 9, payload: 3 })
        );
    }

    #[test]
    fn no_bytes_make_the_parser_panic() {
        let mut seed = 1u64;
        for _ in 0..200_000 {
            let mut bytes = [0u8; 48];
            for byte in &mut bytes {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                *byte = (seed >> 33) as u8;
            }
            bytes[0] = bytes[0] & 0x3f | 0x80;
            let len = usize::from(bytes[47]) % 48;
            let _ = RtpPacket::parse(Bytes::copy_from_slice(&bytes[..len]), &IDS);
        }
    }
}
