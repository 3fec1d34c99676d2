//! A picture's NAL units become RTP payloads: single NAL units, an aggregation where several fit one packet, fragments where one does
//! not fit. H.264 by RFC 6184 (packetization mode 1: STAP-A, FU-A), H.265 by RFC 7798 (AP, FU, no decoding order numbers). Sequence numbers,
//! times and markers are not its business.
//!
//! One system call carries a picture's packets to a viewer when they are of equal size (UDP GSO), so fragments are cut
//! as equal as they can be: one size per NAL unit, the last fragment shorter by less than the number of fragments; and where
//! a picture has several long units (slices), their sizes are brought close enough for RTP padding to make up the rest.

use bytes::{BufMut, Bytes, BytesMut};

use super::PAYLOAD_MAX_BYTES;
use crate::codec::h264::nal::{kind, unit_type};

/// Before each unit in an aggregation.
const AGGREGATED_SIZE_BYTES: usize = 2;

/// What RTP padding can make up, 255 bytes (RFC 3550 section 5.1), less the bytes by which a unit's last fragment is shorter.
const EQUAL_WITHIN_BYTES: usize = 240;
/// Fragments added to a picture to make sizes equal: five cost a viewer about as much as the call that they save.
const EXTRA_FRAGMENTS_MAX: usize = 4;

/// Units shorter than this are left as they are: to cut the others as short would cost more than it saves.
const EQUALIZED_MIN_BYTES: usize = 400;

/// How a codec writes its units into payloads.
trait Form {
    /// Of a NAL unit; an aggregation begins with as many.
    const HEADER_BYTES: usize;
    /// Of a fragment, in place of the unit's own.
    const FRAGMENT_HEADER_BYTES: usize;

    /// `nals` are long enough.
    fn aggregation_header(nals: &[Bytes], payload: &mut BytesMut);
    fn fragment_header(nal: &[u8], first: bool, last: bool, payload: &mut BytesMut);
}

struct Avc;

impl Form for Avc {
    const HEADER_BYTES: usize = 1;
    const FRAGMENT_HEADER_BYTES: usize = 2;

    /// STAP-A (RFC 6184 section 5.7.1): F is the or of all, NRI the maximum (section 5.7).
    fn aggregation_header(nals: &[Bytes], payload: &mut BytesMut) {
        let forbidden = nals.iter().fold(0, |bit, nal| bit | nal[0] & 0x80);
        let importance = nals.iter().map(|nal| nal[0] & 0x60).max().unwrap_or(0);
        payload.put_u8(forbidden | importance | kind::STAP_A);
    }

    /// FU indicator and FU header (section 5.8).
    fn fragment_header(nal: &[u8], first: bool, last: bool, payload: &mut BytesMut) {
        payload.put_u8(nal[0] & 0xe0 | kind::FU_A);
        payload.put_u8(u8::from(first) << 7 | u8::from(last) << 6 | unit_type(nal));
    }
}

struct Hevc;

impl Form for Hevc {
    const HEADER_BYTES: usize = 2;
    const FRAGMENT_HEADER_BYTES: usize = 3;

    /// AP (RFC 7798 section 4.4.2): F is the or of all, layer and temporal id the least.
    fn aggregation_header(nals: &[Bytes], payload: &mut BytesMut) {
        const AGGREGATION: u8 = 48;
        let forbidden = nals.iter().fold(0, |bit, nal| bit | nal[0] & 0x80);
        let ids = |nal: &Bytes| u16::from_be_bytes([nal[0] & 1, nal[1]]);
        let layer = nals.iter().map(|nal| ids(nal) >> 3).min().unwrap_or(0);
        let temporal = nals.iter().map(|nal| ids(nal) & 7).min().unwrap_or(1);
        payload.put_u16(u16::from(forbidden | AGGREGATION << 1) << 8 | layer << 3 | temporal);
    }

    /// Payload header and FU header (section 4.4.3).
    fn fragment_header(nal: &[u8], first: bool, last: bool, payload: &mut BytesMut) {
        const FRAGMENT: u8 = 49;
        payload.put_slice(&[nal[0] & 0x81 | FRAGMENT << 1, nal[1]]);
        payload.put_u8(u8::from(first) << 7 | u8::from(last) << 6 | nal[0] >> 1 & 0x3f);
    }
}

/// Cuts one access unit of H.264 into payloads, in decoding order. NAL units without content are left out.
pub fn packetize_avc(nals: &[Bytes]) -> Vec<Bytes> {
    packetize::<Avc>(nals)
}

/// The same of H.265.
pub fn packetize_hevc(nals: &[Bytes]) -> Vec<Bytes> {
    packetize::<Hevc>(nals)
}

fn packetize<F: Form>(nals: &[Bytes]) -> Vec<Bytes> {
    let groups = group::<F>(nals);
    let counts = fragment_counts::<F>(&groups);
    let mut payloads = Vec::with_capacity(counts.iter().sum());
    for (group, count) in groups.iter().zip(counts) {
        match group {
            // A copy, of a packet at the most: payloads are kept and counted by their own length, and the access unit that this is a slice of
            // may be two thousand times as long.
            [nal] if count == 1 => payloads.push(Bytes::copy_from_slice(nal)),
            [nal] => fragment::<F>(nal, count, &mut payloads),
            together => payloads.push(aggregate::<F>(together)),
        }
    }
    payloads
}

fn is_empty<F: Form>(nal: &Bytes) -> bool {
    nal.len() < F::HEADER_BYTES
}

/// The units that share a packet, as many as fit; one that is too long stands alone.
fn group<F: Form>(nals: &[Bytes]) -> Vec<&[Bytes]> {
    let mut groups = Vec::with_capacity(nals.len());
    let mut rest = nals;
    while let Some(nal) = rest.first() {
        let (group, later) = rest.split_at(aggregable::<F>(rest));
        if !is_empty::<F>(nal) {
            groups.push(group);
        }
        rest = later;
    }
    groups
}

/// How many of the first units fit one packet together: at least 1, whether it fits or not.
fn aggregable<F: Form>(nals: &[Bytes]) -> usize {
    let mut bytes = F::HEADER_BYTES;
    let fitting = nals.iter().take_while(|nal| {
        bytes += AGGREGATED_SIZE_BYTES + nal.len();
        !is_empty::<F>(nal) && bytes <= PAYLOAD_MAX_BYTES
    });
    fitting.count().max(1)
}

fn aggregate<F: Form>(nals: &[Bytes]) -> Bytes {
    let bytes = F::HEADER_BYTES + nals.iter().map(|nal| AGGREGATED_SIZE_BYTES + nal.len()).sum::<usize>();
    let mut payload = BytesMut::with_capacity(bytes);
    F::aggregation_header(nals, &mut payload);
    for nal in nals {
        payload.put_u16(nal.len() as u16);
        payload.put_slice(nal);
    }
    payload.freeze()
}

/// Into how many packets each group goes: 1 but for units that stand alone and are too long, or longer than the others.
fn fragment_counts<F: Form>(groups: &[&[Bytes]]) -> Vec<usize> {
    let room_bytes = PAYLOAD_MAX_BYTES - F::FRAGMENT_HEADER_BYTES;
    let fewest: Vec<_> = groups
        .iter()
        .map(|group| match group {
            [nal] if nal.len() > PAYLOAD_MAX_BYTES => (nal.len() - F::HEADER_BYTES).div_ceil(room_bytes),
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
fn fragment<F: Form>(nal: &Bytes, count: usize, payloads: &mut Vec<Bytes>) {
    let body = &nal[F::HEADER_BYTES..];
    let fragment_bytes = body.len().div_ceil(count);
    let mut buffer = BytesMut::with_capacity(body.len() + count * F::FRAGMENT_HEADER_BYTES);
    let mut fragments = body.chunks(fragment_bytes).peekable();
    let mut first = true;
    while let Some(fragment) = fragments.next() {
        let last = fragments.peek().is_none();
        F::fragment_header(nal, first, last, &mut buffer);
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
            let payloads = packetize_avc(&nals);
            assert!(payloads.iter().all(|payload| payload.len() <= PAYLOAD_MAX_BYTES), "{sizes:?}");
            assert_eq!(depacketize(&payloads), nals, "{sizes:?}");
        }
    }

    #[test]
    fn fragments_are_of_one_size_but_the_last() {
        for bytes in 1_151..12_000 {
            let payloads = packetize_avc(&[nal(kind::IDR_SLICE, bytes)]);
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
            let payloads = packetize_avc(&nals);
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
        let payloads = packetize_avc(&nals);
        assert_eq!(payloads.len(), 1 + 5);
        assert_eq!(unit_type(&payloads[0]), kind::STAP_A);
        assert!(payloads[1..].iter().all(|payload| unit_type(payload) == kind::FU_A));
    }

    #[test]
    fn empty_units_are_left_out() {
        assert!(packetize_avc(&[Bytes::new()]).is_empty());
        assert_eq!(packetize_avc(&[Bytes::new(), nal(1, 9), Bytes::new(), nal(1, 8)]).len(), 2);
    }
}
