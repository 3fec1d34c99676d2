//! A picture's NAL units become RTP payloads (RFC 6184, packetization mode 1): single NAL units, STAP-A where several fit
//! one packet, FU-A where one does not fit. Sequence numbers, times and markers are not its business.
//!
//! One system call carries a picture's packets to a viewer when they are of equal size (UDP GSO), so fragments are cut
//! as equal as they can be: one size per NAL unit, the last fragment shorter by less than the number of fragments; and where
//! a picture has several long units (slices), their sizes are brought close enough for RTP padding to make up the rest.

use bytes::{BufMut, Bytes, BytesMut};

use super::nal::{kind, unit_type};
use crate::media::RTP_HEADER_BYTES;

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

/// FU indicator and FU header (section 5.8).
const FU_HEADER_BYTES: usize = 2;
/// STAP-A NAL header, and the size before each unit in it (section 5.7.1).
const STAP_HEADER_BYTES: usize = 1;
const STAP_SIZE_BYTES: usize = 2;

/// What RTP padding can make up, 255 bytes (RFC 3550 section 5.1), less the bytes by which a unit's last fragment is shorter.
const EQUAL_WITHIN_BYTES: usize = 240;
/// Fragments added to a picture to make sizes equal: five cost a viewer about as much as the call that they save.
const EXTRA_FRAGMENTS_MAX: usize = 4;

/// Units shorter than this are left as they are: to cut the others as short would cost more than it saves.
const EQUALIZED_MIN_BYTES: usize = 400;

/// Cuts one access unit into payloads, in decoding order. Empty NAL units are left out.
pub fn packetize(nals: &[Bytes]) -> Vec<Bytes> {
    let groups = group(nals);
    let counts = fragment_counts(&groups);
    let mut payloads = Vec::with_capacity(counts.iter().sum());
    for (group, count) in groups.iter().zip(counts) {
        match group {
            [nal] if count == 1 => payloads.push(nal.clone()),
            [nal] => fragment(nal, count, &mut payloads),
            together => payloads.push(aggregate(together)),
        }
    }
    payloads
}

/// The units that share a packet, as many as fit; one that is too long stands alone.
fn group(nals: &[Bytes]) -> Vec<&[Bytes]> {
    let mut groups = Vec::with_capacity(nals.len());
    let mut rest = nals;
    while let Some(nal) = rest.first() {
        let (group, later) = rest.split_at(aggregable(rest));
        if !nal.is_empty() {
            groups.push(group);
        }
        rest = later;
    }
    groups
}

/// How many of the first units fit one packet together: at least 1, whether it fits or not.
fn aggregable(nals: &[Bytes]) -> usize {
    let mut bytes = STAP_HEADER_BYTES;
    let fitting = nals.iter().take_while(|nal| {
        bytes += STAP_SIZE_BYTES + nal.len();
        !nal.is_empty() && bytes <= PAYLOAD_MAX_BYTES
    });
    fitting.count().max(1)
}

fn aggregate(nals: &[Bytes]) -> Bytes {
    let bytes = STAP_HEADER_BYTES + nals.iter().map(|nal| STAP_SIZE_BYTES + nal.len()).sum::<usize>();
    let mut payload = BytesMut::with_capacity(bytes);
    // F is the or of all, NRI the maximum (section 5.7).
    let forbidden = nals.iter().fold(0, |bit, nal| bit | nal[0] & 0x80);
    let importance = nals.iter().map(|nal| nal[0] & 0x60).max().unwrap_or(0);
    payload.put_u8(forbidden | importance | kind::STAP_A);
    for nal in nals {
        payload.put_u16(nal.len() as u16);
        payload.put_slice(nal);
    }
    payload.freeze()
}

/// Into how many packets each group goes: 1 but for units that stand alone and are too long, or longer than the others.
fn fragment_counts(groups: &[&[Bytes]]) -> Vec<usize> {
    let room_bytes = PAYLOAD_MAX_BYTES - FU_HEADER_BYTES;
    let fewest: Vec<_> = groups
        .iter()
        .map(|group| match group {
            [nal] if nal.len() > PAYLOAD_MAX_BYTES => (nal.len() - 1).div_ceil(room_bytes),
            _ => 1,
        })
        .collect();
    let equalized: Vec<_> = groups
        .iter()
        .enumerate()
        .filter_map(|(at, group)| match group {
            [nal] if nal.len() >= EQUALIZED_MIN_BYTES => Some((at, nal.len())),
            _ => None,
        })
        .collect();
    let mut counts = fewest.clone();
    for _ in 0..=EXTRA_FRAGMENTS_MAX {
        let sizes = || equalized.iter().map(|(at, bytes)| (bytes.div_ceil(counts[*at]), *at));
        let (Some((largest_bytes, largest)), Some((smallest_bytes, _))) = (sizes().max(), sizes().min()) else { break };
        if largest_bytes - smallest_bytes <= EQUAL_WITHIN_BYTES {
            return counts;
        }
        counts[largest] += 1;
    }
    fewest
}

/// All fragments of one unit are slices of one buffer.
fn fragment(nal: &Bytes, count: usize, payloads: &mut Vec<Bytes>) {
    let body = &nal[1..];
    let fragment_bytes = body.len().div_ceil(count);
    let mut buffer = BytesMut::with_capacity(body.len() + count * FU_HEADER_BYTES);
    let mut fragments = body.chunks(fragment_bytes).peekable();
    let mut first = true;
    while let Some(fragment) = fragments.next() {
        let last = fragments.peek().is_none();
        buffer.put_u8(nal[0] & 0xe0 | kind::FU_A);
        buffer.put_u8(u8::from(first) << 7 | u8::from(last) << 6 | unit_type(nal));
        buffer.put_slice(fragment);
        payloads.push(buffer.split().freeze());
        first = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nal(kind: u8, bytes: usize) -> Bytes {
        let mut nal = vec![0x60 | kind];
        nal.extend((1..bytes).map(|at| (at * 7 + bytes) as u8));
        nal.into()
    }

    /// What a receiver makes of the payloads (RFC 6184 sections 5.6 to 5.8).
    fn depacketize(payloads: &[Bytes]) -> Vec<Bytes> {
        let mut nals = Vec::new();
        let mut fragments: Option<Vec<u8>> = None;
        for payload in payloads {
            match unit_type(payload) {
                kind::STAP_A => {
                    let mut rest = &payload[1..];
                    while let Some((size, after)) = rest.split_first_chunk() {
                        let (nal, after) = after.split_at(usize::from(u16::from_be_bytes(*size)));
                        nals.push(Bytes::copy_from_slice(nal));
                        rest = after;
                    }
                }
                kind::FU_A => {
                    let header = payload[1];
                    if header & 0x80 != 0 {
                        assert!(fragments.replace(vec![payload[0] & 0xe0 | header & 0x1f]).is_none());
                    }
                    fragments.as_mut().unwrap().extend_from_slice(&payload[2..]);
                    if header & 0x40 != 0 {
                        nals.push(fragments.take().unwrap().into());
                    }
                }
                _ => nals.push(payload.clone()),
            }
        }
        assert!(fragments.is_none());
        nals
    }

    #[test]
    fn a_datagram_holds_header_extensions_tag_and_payload() {
        assert_eq!(PAYLOAD_MAX_BYTES, 1_142);
        assert_eq!(12 + 28 + 2 + 16 + PAYLOAD_MAX_BYTES, 1_200);
    }

    #[test]
    fn every_access_unit_comes_back_whole() {
        for sizes in [
            &[1][..],
            &[PAYLOAD_MAX_BYTES],
            &[1_151],
            &[30, 8, 9_000],
            &[30, 8, PAYLOAD_MAX_BYTES, PAYLOAD_MAX_BYTES + 1, 2],
            &[500, 500, 500, 5, 5, 5],
            &[1_145, 1, 1, 1],
            &[2_297, 2_298, 100_000],
        ] {
            let nals: Vec<_> = sizes.iter().map(|&bytes| nal(kind::SLICE, bytes)).collect();
            let payloads = packetize(&nals);
            assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_MAX_BYTES), "{sizes:?}");
            assert_eq!(depacketize(&payloads), nals, "{sizes:?}");
        }
    }

    #[test]
    fn fragments_are_of_one_size_but_the_last() {
        for bytes in 1_151..12_000 {
            let payloads = packetize(&[nal(kind::IDR_SLICE, bytes)]);
            let (last, others) = payloads.split_last().unwrap();
            let size = others[0].len();
            assert!(others.iter().all(|payload| payload.len() == size));
            assert!(last.len() <= size && size - last.len() < payloads.len(), "{bytes}: {} of {size}", last.len());
        }
    }

    #[test]
    fn slices_of_one_picture_are_cut_alike_where_that_is_cheap() {
        let cut = |sizes: &[usize]| -> Vec<usize> {
            let nals: Vec<_> = sizes.iter().map(|&bytes| nal(kind::SLICE, bytes)).collect();
            let payloads = packetize(&nals);
            assert_eq!(depacketize(&payloads), nals);
            payloads.iter().map(Bytes::len).collect()
        };
        for sizes in [[1_200, 8_000], [8_000, 1_400], [3_500, 4_700], [700, 4_500], [1_100, 500], [5_500, 800]] {
            let cut = cut(&sizes);
            let (largest, smallest) = (cut.iter().max().unwrap(), cut.iter().min().unwrap());
            assert!(largest - smallest <= 255, "{sizes:?}: {cut:?}");
        }
        // A hundred fragments would have to become two hundred: they stay as few as they can be.
        assert_eq!(cut(&[1_200, 114_000]).len(), 2 + 100);
    }

    #[test]
    fn parameter_sets_share_a_packet() {
        let nals = [nal(kind::SPS, 30), nal(kind::PPS, 6), nal(kind::IDR_SLICE, 5_000)];
        let payloads = packetize(&nals);
        assert_eq!(payloads.len(), 1 + 5);
        assert_eq!(unit_type(&payloads[0]), kind::STAP_A);
        assert!(payloads[1..].iter().all(|payload| unit_type(payload) == kind::FU_A));
    }

    #[test]
    fn empty_units_are_left_out() {
        assert!(packetize(&[Bytes::new()]).is_empty());
        assert_eq!(packetize(&[Bytes::new(), nal(1, 9), Bytes::new(), nal(1, 8)]).len(), 2);
    }
}
