//! Which packet is the first of a picture that a decoder can begin with.

use crate::{
    codec::{av1, h264::depacketize, hevc, vp8, vp9},
    media::{Codec, ExtendedSeq},
};

/// Marks keyframe starts of one layer.
#[derive(Debug, Default)]
pub(super) struct KeyframeMarker {
    /// The H.264 or H.265 stream carries its parameter sets. Then an IDR slice whose parameter set is missing (or still on
    /// its way) is nothing to begin with.
    parameter_sets_in_band: bool,
    /// The last such keyframe's time and first packet: one mark per picture.
    marked: Option<(u64, ExtendedSeq)>,
}

/// What a packet means to whoever joins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Mark {
    pub keyframe_start: bool,
    /// The profile that an H.264 parameter set in the packet names.
    pub profile: Option<depacketize::ProfileLevelId>,
}

impl KeyframeMarker {
    pub(super) fn inspect(&mut self, codec: Codec, seq: ExtendedSeq, time_ticks: u64, payload: &[u8]) -> Mark {
        match codec {
            Codec::H264 => self.inspect_h264(seq, time_ticks, payload),
            Codec::Hevc => {
                let hevc::Contents { parameter_set, random_access } = hevc::inspect(payload);
                Mark { keyframe_start: self.begins(seq, time_ticks, parameter_set, random_access), profile: None }
            }
            Codec::Vp8 => Mark { keyframe_start: vp8::starts_keyframe(payload), profile: None },
            Codec::Vp9 => Mark { keyframe_start: vp9::starts_keyframe(payload), profile: None },
            Codec::Av1 => Mark { keyframe_start: av1::starts_keyframe(payload), profile: None },
            Codec::Opus => Mark::default(),
        }
    }

    fn inspect_h264(&mut self, seq: ExtendedSeq, time_ticks: u64, payload: &[u8]) -> Mark {
        let contents = depacketize::inspect(payload);
        let keyframe_start = self.begins(seq, time_ticks, contents.parameter_set.is_some(), contents.idr);
        Mark { keyframe_start, profile: contents.parameter_set }
    }

    /// Whether a packet with these contents is the first that a decoder can begin with.
    fn begins(&mut self, seq: ExtendedSeq, time_ticks: u64, parameter_set: bool, random_access: bool) -> bool {
        self.parameter_sets_in_band |= parameter_set;
        let begins = parameter_set || (random_access && !self.parameter_sets_in_band);
        // An earlier packet of the same picture may come late; then that one is marked too.
        let first = self.marked.is_none_or(|(time, marked)| time != time_ticks || seq < marked);
        if begins && first {
            self.marked = Some((time_ticks, seq));
        }
        begins && first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPS: &[u8] = &[0x67, 0x42, 0xe0, 0x1f];
    const PPS: &[u8] = &[0x68, 0xce];
    const IDR_START: &[u8] = &[0x7c, 0x85, 0x88];
    const IDR_REST: &[u8] = &[0x7c, 0x45, 0x88];

    fn marks(marker: &mut KeyframeMarker, packets: &[(u64, u64, &[u8])]) -> Vec<bool> {
        let mark = |&(seq, time, payload): &(u64, u64, &[u8])| {
            marker.inspect(Codec::H264, ExtendedSeq(seq), time, payload).keyframe_start
        };
        packets.iter().map(mark).collect()
    }

    #[test]
    fn the_parameter_set_begins_the_picture_and_its_slices_do_not() {
        let mut marker = KeyframeMarker::default();
        let picture = [(1, 9, SPS), (2, 9, PPS), (3, 9, IDR_START), (4, 9, IDR_REST), (5, 10, SPS)];
        assert_eq!(marks(&mut marker, &picture), [true, false, false, false, true]);
    }

    #[test]
    fn hevc_begins_at_its_first_parameter_set_too() {
        let mut marker = KeyframeMarker::default();
        let (vps, sps, idr, delta) = ([0x40, 1, 0], [0x42, 1, 0], [0x62, 1, 0x93], [0x02, 1, 0]);
        let mut begins =
            |seq, time, payload: &[u8]| marker.inspect(Codec::Hevc, ExtendedSeq(seq), time, payload).keyframe_start;
        assert!(begins(1, 9, &vps));
        assert!(!begins(2, 9, &sps) && !begins(3, 9, &idr) && !begins(4, 10, &delta));
        assert!(!begins(5, 11, &idr), "its parameter sets are lost, or on their way");
        assert!(begins(6, 12, &sps));
    }

    #[test]
    fn a_parameter_set_that_comes_late_begins_the_picture() {
        let mut marker = KeyframeMarker::default();
        let pictures = [(1, 9, SPS), (2, 9, IDR_START), (4, 10, IDR_START), (3, 10, SPS)];
        assert_eq!(marks(&mut marker, &pictures), [true, false, false, true]);
    }

    #[test]
    fn without_parameter_sets_in_band_the_first_slice_begins_the_picture() {
        let mut marker = KeyframeMarker::default();
        let pictures = [(1, 9, IDR_START), (2, 9, IDR_REST), (3, 9, IDR_START), (4, 10, IDR_START)];
        assert_eq!(marks(&mut marker, &pictures), [true, false, false, true]);
    }
}
