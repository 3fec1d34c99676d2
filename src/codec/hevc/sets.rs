//! The parameter sets that a stream uses now, as sent (ITU-T H.265 sections 7.3.2.1 to 7.3.2.3).

use bytes::Bytes;

use super::{PPS, SPS, VPS, nal_type, skip_profile_tier_level};
use crate::codec::{
    bits::BitReader,
    h264::{escape::unescape, parameter_sets::PARAMETER_SET_MAX_BYTES},
};

/// Of one kind. Encoders use one; a few more for several sizes.
const SETS_MAX: usize = 16;
/// Of all of them together, since they go before every keyframe.
const SETS_MAX_BYTES: usize = 16 * 1024;
/// How far into a set its id can be: behind the profiles of seven sub-layers.
const HEAD_BYTES_MAX: usize = 128;

/// Video, sequence and picture parameter sets by id. At most [`SETS_MAX`] of each kind, and [`SETS_MAX_BYTES`].
#[derive(Debug, Clone, Default)]
pub struct ParameterSets {
    sets: [Vec<(Option<u32>, Bytes)>; 3],
}

impl ParameterSets {
    /// Those of a decoder configuration, in place of what was known; one without any leaves that.
    pub fn configure(&mut self, sets: &[Bytes]) {
        if !sets.is_empty() {
            *self = Self::default();
        }
        sets.iter().for_each(|set| self.insert(set));
    }

    /// Takes in a set, in place of the one with its id. Other NAL units are none, and sets that are too long, or too long together with the
    /// others, are not kept.
    pub fn insert(&mut self, nal: &Bytes) {
        let Some(kind @ VPS..=PPS) = nal_type(nal) else { return };
        if nal.len() > PARAMETER_SET_MAX_BYTES {
            return;
        }
        let id = id(kind, nal);
        let others = self.others_bytes(kind, id);
        let Some(sets) = self.sets.get_mut(usize::from(kind - VPS)) else { return };
        if others + nal.len() > SETS_MAX_BYTES {
            return;
        }
        match sets.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) if known == nal => {}
            // A copy: it stays, and what it came in should not.
            Some((_, known)) => *known = Bytes::copy_from_slice(nal),
            None => {
                if sets.len() == SETS_MAX {
                    sets.remove(0);
                }
                sets.push((id, Bytes::copy_from_slice(nal)));
            }
        }
    }

    /// Of all but the one with this id.
    fn others_bytes(&self, kind: u8, id: Option<u32>) -> usize {
        let of_kinds = (VPS..).zip(&self.sets).flat_map(|(of, sets)| sets.iter().map(move |set| (of, set)));
        of_kinds.filter(|(of, (known, _))| (*of, *known) != (kind, id)).map(|(_, (_, nal))| nal.len()).sum()
    }

    /// In the order in which they refer to each other, the ones referred to first.
    pub fn nals(&self) -> impl Iterator<Item = &Bytes> {
        self.sets.iter().flatten().map(|(_, nal)| nal)
    }
}

/// `None` when it cannot be read.
fn id(kind: u8, nal: &[u8]) -> Option<u32> {
    let payload = unescape(nal.get(2..)?, HEAD_BYTES_MAX);
    let mut r = BitReader::new(&payload);
    match kind {
        VPS => r.bits(4),
        SPS => {
            r.bits(4)?; // sps_video_parameter_set_id
            let sub_layers = r.bits(3)?;
            r.flag()?; // sps_temporal_id_nesting_flag
            skip_profile_tier_level(&mut r, sub_layers)?;
            r.unsigned_up_to(15)
        }
        _ => r.unsigned_up_to(63),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A picture parameter set with this id, of 0 to 2.
    fn pps(id: u8, rest: u8) -> Bytes {
        Bytes::from(vec![PPS << 1, 1, [0x80, 0x40, 0x60][usize::from(id)] | rest])
    }

    #[test]
    fn sets_take_the_place_of_those_with_their_ids() {
        let (vps, sps) = (Bytes::from_static(&[VPS << 1, 1, 0]), Bytes::from_static(&[SPS << 1, 1, 7]));
        let mut sets = ParameterSets::default();
        for set in [&pps(0, 1), &pps(1, 1), &sps, &vps, &pps(0, 2), &Bytes::from_static(&[19 << 1, 1, 9])] {
            sets.insert(set);
        }
        assert_eq!(sets.nals().collect::<Vec<_>>(), [&vps, &sps, &pps(0, 2), &pps(1, 1)]);
        sets.configure(&[]);
        assert_eq!(sets.nals().count(), 4);
        sets.configure(&[pps(2, 0)]);
        assert_eq!(sets.nals().collect::<Vec<_>>(), [&pps(2, 0)]);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut sets = ParameterSets::default();
        sets.insert(&vec![PPS << 1; PARAMETER_SET_MAX_BYTES + 1].into());
        assert_eq!(sets.nals().count(), 0);
        // All ids from 31 to 62, of eleven bits each.
        (32..=63u8).for_each(|code| sets.insert(&vec![PPS << 1, 1, code >> 3, code << 5 | 1].into()));
        assert_eq!(sets.nals().count(), SETS_MAX);
        let long = |id: u8| Bytes::from([&[VPS << 1, 1, id << 4][..], &[7; PARAMETER_SET_MAX_BYTES - 3]].concat());
        let bytes = |sets: &ParameterSets| sets.nals().map(Bytes::len).sum::<usize>();
        (0..4).for_each(|id| sets.insert(&long(id)));
        assert_eq!(bytes(&sets), 3 * PARAMETER_SET_MAX_BYTES + 4 * SETS_MAX, "there is no room for the fourth");
        sets.insert(&long(1));
        assert_eq!(sets.nals().count(), SETS_MAX + 3, "one that is there is taken for itself");
    }
}
