//! H.265. Pictures that come in another order than that in which they are shown are left out: where nothing refers to one, nobody misses it;
//! where something may, what follows would be damaged, and is left out up to the next picture that decoding can begin with.

use std::time::Instant;

use bytes::Bytes;

use super::{BadPictures, Dropped, FIRST_SEQ, Handled, Times};
use crate::{
    codec::{
        h264::nal::split_lengths,
        hevc::{HevcConfiguration, ParameterSets, is_disposable, is_parameter_set, is_random_access, is_slice},
        packetize::packetize_hevc,
    },
    ingest::rtmp::flv::PictureTag,
    media::{CaptureTime, Codec, TrackFormat},
    track::PicturePackets,
};

/// FLV counts milliseconds: how much later than decoded pictures are shown differs by as much from one to the next.
const ROUNDING_MS: i64 = 2;

#[derive(Debug)]
pub struct HevcTrack {
    configuration: HevcConfiguration,
    sets: ParameterSets,
    packets: PicturePackets,
    /// The latest time to be decoded since the last picture that decoding can begin with.
    decode_ms: i64,
    /// The latest time to be shown of what was sent since then, with decode times that do not go back.
    shown_ms: Option<i64>,
    /// Something that others may refer to was left out since then, or nothing has come to begin with.
    broken: bool,
}

impl HevcTrack {
    pub fn new(record: &Bytes) -> Result<Self, BadPictures> {
        let configuration = HevcConfiguration::parse(record)?;
        let mut sets = ParameterSets::default();
        sets.configure(&configuration.parameter_sets);
        Ok(Self {
            configuration,
            sets,
            packets: PicturePackets::new(FIRST_SEQ),
            decode_ms: 0,
            shown_ms: None,
            broken: true,
        })
    }

    pub fn configure(&mut self, record: &Bytes) -> Result<(), BadPictures> {
        self.configuration = HevcConfiguration::parse(record)?;
        self.sets.configure(&self.configuration.parameter_sets);
        Ok(())
    }

    pub fn format(&self) -> TrackFormat {
        TrackFormat { codec: Codec::Hevc, fmtp: self.configuration.fmtp(), channels: 1 }
    }

    pub fn handle_picture(
        &mut self,
        now: Instant,
        times: Times,
        tag: &PictureTag,
        capture: impl FnOnce() -> Option<CaptureTime>,
        dropped: &mut Dropped,
    ) -> Result<Handled, BadPictures> {
        let nals = split_lengths(&tag.data, self.configuration.length_bytes).map_err(BadPictures::HevcPicture)?;
        nals.iter().for_each(|nal| self.sets.insert(nal));
        let keyframe = is_random_access(&nals);
        if keyframe {
            (self.broken, self.decode_ms, self.shown_ms) = (false, times.decode_ms, None);
        }
        // Pictures come in the order in which they are decoded. Where a publisher's times go back for a moment nothing is shown in another
        // order: how much later than decoded each is shown tells that.
        self.decode_ms = self.decode_ms.max(times.decode_ms);
        let shown_ms = self.decode_ms + (times.shown_ms - times.decode_ms);
        let rounding_ms = if times.decode_ms < self.decode_ms { ROUNDING_MS } else { 0 };
        let is_late = self.shown_ms.is_some_and(|latest| shown_ms + rounding_ms < latest);
        let counter = match (self.broken, is_late, is_disposable(&nals)) {
            (false, false, _) => {
                self.shown_ms = self.shown_ms.max(Some(shown_ms));
                let packets = self.packets.packets(now, times.shown_ticks, keyframe, self.payloads(nals), capture);
                return Ok(Handled { packets, keyframe });
            }
            (false, true, true) => &mut dropped.reordered,
            (false, true, false) => {
                self.broken = true;
                &mut dropped.reordered_references
            }
            // Before the first keyframe nothing was there to be missed.
            (true, ..) if self.shown_ms.is_none() => &mut dropped.undecodable,
            (true, ..) => &mut dropped.missing_references,
        };
        *counter += 1;
        Ok(Handled { packets: Vec::new(), keyframe })
    }

    /// Slices, and parameter sets: before what decoding begins with all that are in use, whether it brings some of them itself or not;
    /// elsewhere those that the encoder sent.
    fn payloads(&self, nals: Vec<Bytes>) -> Vec<Bytes> {
        let sets: Vec<_> = self.sets.nals().filter(|_| is_random_access(&nals)).cloned().collect();
        let is_kept = |nal: &Bytes| is_slice(nal) || is_parameter_set(nal) && !sets.contains(nal);
        let kept: Vec<_> = nals.into_iter().filter(is_kept).collect();
        packetize_hevc(&[sets, kept].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{codec::hevc, media::testing::epoch};

    const TRAIL_N: u8 = 0;
    const TRAIL_R: u8 = 1;
    const IDR: u8 = 19;

    fn record() -> Bytes {
        let mut record =
            vec![1, 1, 0x60, 0, 0, 0, 0x90, 0, 0, 0, 0, 0, 93, 0xf0, 0, 0xfc, 0xfd, 0xf8, 0xf8, 0, 0, 0x0f, 3];
        for kind in [32, 33, 34u8] {
            record.extend([0x80 | kind, 0, 1, 0, 3, kind << 1, 1, 7]);
        }
        record.into()
    }

    /// Sends pictures of these types, shown at these times and decoded one after the other; gives what was sent of them.
    fn sent(track: &mut HevcTrack, pictures: &[(u8, i64)]) -> (Vec<i64>, Dropped) {
        let decoded: Vec<_> =
            (0..).zip(pictures).map(|(decode_ms, &(kind, shown_ms))| (kind, decode_ms, shown_ms)).collect();
        sent_at(track, &decoded)
    }

    /// The same of pictures that are decoded, and shown, at these times.
    fn sent_at(track: &mut HevcTrack, pictures: &[(u8, i64, i64)]) -> (Vec<i64>, Dropped) {
        let mut dropped = Dropped::default();
        let mut sent = Vec::new();
        for &(kind, decode_ms, shown_ms) in pictures {
            let data = Bytes::from(vec![0, 0, 0, 4, kind << 1, 1, 9, 9]);
            let tag = PictureTag { codec: Codec::Hevc, keyframe: false, composition_ms: 0, offset_ns: 0, data };
            let times = Times { decode_ms, shown_ms, shown_ticks: shown_ms as u64 * 90 };
            let handled = track.handle_picture(epoch(), times, &tag, || None, &mut dropped).unwrap();
            assert_eq!(handled.keyframe, kind == IDR);
            if let Some(first) = handled.packets.first() {
                assert_eq!(first.keyframe_start, kind == IDR);
                assert_eq!(hevc::inspect(&first.payload).parameter_set, kind == IDR, "with what it needs");
                sent.push(shown_ms);
            }
        }
        (sent, dropped)
    }

    #[test]
    fn pictures_that_nothing_refers_to_are_left_out_where_they_come_late() {
        let mut track = HevcTrack::new(&record()).unwrap();
        assert_eq!(track.format().fmtp, "level-id=93;profile-id=1;tier-flag=0;tx-mode=SRST");
        let early = sent(&mut track, &[(TRAIL_R, 5)]);
        assert_eq!(early, (vec![], Dropped { undecodable: 1, ..Dropped::default() }));
        let (shown, dropped) =
            sent(&mut track, &[(IDR, 10), (TRAIL_R, 40), (TRAIL_N, 20), (TRAIL_N, 30), (TRAIL_R, 70), (TRAIL_N, 60)]);
        assert_eq!((shown, dropped), (vec![10, 40, 70], Dropped { reordered: 3, ..Dropped::default() }));
    }

    #[test]
    fn nothing_is_sent_that_may_refer_to_what_was_left_out() {
        let mut track = HevcTrack::new(&record()).unwrap();
        let pictures =
            [(IDR, 10), (TRAIL_R, 50), (TRAIL_R, 30), (TRAIL_N, 20), (TRAIL_R, 90), (IDR, 130), (TRAIL_R, 140)];
        let (shown, dropped) = sent(&mut track, &pictures);
        assert_eq!(shown, [10, 50, 130, 140]);
        assert_eq!(dropped, Dropped { reordered_references: 1, missing_references: 2, ..Dropped::default() });
    }

    #[test]
    fn times_that_go_back_are_no_other_order() {
        let mut track = HevcTrack::new(&record()).unwrap();
        let without =
            [(IDR, 500, 500), (TRAIL_R, 540, 540), (TRAIL_R, 240, 240), (TRAIL_R, 280, 280), (TRAIL_R, 580, 580)];
        let (shown, dropped) = sent_at(&mut track, &without);
        assert_eq!((shown, dropped), (vec![500, 540, 240, 280, 580], Dropped::default()));
        // With B-frames, there too, whichever way times are rounded.
        let with = [
            (IDR, 0, 80),
            (TRAIL_R, 540, 660),
            (TRAIL_N, 580, 580),
            (TRAIL_R, 300, 419),
            (TRAIL_N, 340, 340),
            (TRAIL_R, 380, 500),
        ];
        let (shown, dropped) = sent_at(&mut track, &with);
        assert_eq!((shown, dropped), (vec![80, 660, 419, 500], Dropped { reordered: 2, ..Dropped::default() }));
    }

    #[test]
    fn a_keyframe_goes_out_with_all_parameter_sets_whichever_it_brings() {
        let mut track = HevcTrack::new(&record()).unwrap();
        let set = |kind: u8, letter: u8| [kind << 1, 1, letter];
        let mut sent_of = |sets: &[[u8; 3]]| {
            let nals = sets.iter().map(|set| &set[..]).chain([&[IDR << 1, 1, 9, 9][..]]);
            let data: Vec<_> = nals.flat_map(|nal| [&[0, 0, 0, nal.len() as u8][..], nal].concat()).collect();
            let tag =
                PictureTag { codec: Codec::Hevc, keyframe: true, composition_ms: 0, offset_ns: 0, data: data.into() };
            let times = Times { decode_ms: 0, shown_ms: 0, shown_ticks: 0 };
            let handled = track.handle_picture(epoch(), times, &tag, || None, &mut Dropped::default()).unwrap();
            // One packet: an aggregation, of lengths and units.
            let (mut rest, mut units) = (&handled.packets[0].payload[2..], Vec::new());
            while let Some((&[_, length], after)) = rest.split_first_chunk() {
                let (unit, after) = after.split_at(length.into());
                units.push(unit.to_vec());
                rest = after;
            }
            assert_eq!((handled.packets.len(), units.pop()), (1, Some(vec![IDR << 1, 1, 9, 9])));
            units
        };
        let (vps, sps, pps) = (set(32, 7), set(33, 7), set(34, 7));
        assert_eq!(sent_of(&[]), [vps, sps, pps], "those of the configuration");
        assert_eq!(sent_of(&[set(33, 8)]), [vps, set(33, 8), pps], "where one is brought, the others all the same");
        assert_eq!(sent_of(&[]), [vps, set(33, 8), pps], "and it stays");
        assert_eq!(sent_of(&[vps, sps, pps]), [vps, sps, pps], "once each");
    }
}
