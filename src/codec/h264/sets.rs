//! The parameter sets a stream uses now, as sent and as read.

use bytes::Bytes;

use super::{
    nal::{kind, unit_type},
    parameter_sets::{BadParameterSet, Pps, Sps},
};

/// Parameter sets by id. Bounded by their ids: 32 sequence sets and 256 picture sets of at most
/// [`PARAMETER_SET_MAX_BYTES`](super::parameter_sets::PARAMETER_SET_MAX_BYTES) each, 1.2 MB.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ParameterSets {
    sps: Vec<(Sps, Bytes)>,
    pps: Vec<(Pps, Bytes)>,
}

impl ParameterSets {
    /// Takes in a NAL unit of type 7 or 8, in place of the one with the same id; true when that changed something.
    ///
    /// A sequence set whose stream may have B-frames that others refer to is kept, and later sent, with gaps in frame numbers allowed: see
    /// [`DisplayOrder`](super::DisplayOrder).
    ///
    /// # Errors
    /// When the set makes no sense; the known one stays.
    pub fn insert(&mut self, nal: &Bytes) -> Result<bool, BadParameterSet> {
        if unit_type(nal) == kind::SPS {
            let mut nal = nal.clone();
            let mut sps = Sps::parse(&nal)?;
            if sps.may_have_b_references() && !sps.gaps_in_frame_num_allowed {
                nal = sps.with_gaps_allowed(&nal);
                sps.gaps_in_frame_num_allowed = true;
            }
            let id = sps.id;
            Ok(put(&mut self.sps, (sps, nal), |known| known.id == id))
        } else {
            let pps = Pps::parse(nal)?;
            let id = pps.id;
            Ok(put(&mut self.pps, (pps, nal.clone()), |known| known.id == id))
        }
    }

    /// The sequence set that came first: the one that describes the stream when there is one only.
    pub fn first_sps(&self) -> Option<&Sps> {
        self.sps.first().map(|(sps, _)| sps)
    }

    /// The sets that a slice naming this picture set is read with.
    pub(super) fn of_picture(&self, pps_id: u8) -> Option<(&Sps, &Pps)> {
        let (pps, _) = self.pps.iter().find(|(pps, _)| pps.id == pps_id)?;
        let (sps, _) = self.sps.iter().find(|(sps, _)| sps.id == pps.sps_id)?;
        Some((sps, pps))
    }

    /// As NAL units, sequence sets first.
    pub fn nals(&self) -> impl Iterator<Item = &Bytes> {
        self.sps.iter().map(|(_, nal)| nal).chain(self.pps.iter().map(|(_, nal)| nal))
    }

    pub fn is_complete(&self) -> bool {
        !self.sps.is_empty() && !self.pps.is_empty()
    }
}

fn put<T: PartialEq>(sets: &mut Vec<(T, Bytes)>, set: (T, Bytes), same_id: impl Fn(&T) -> bool) -> bool {
    match sets.iter_mut().find(|(known, _)| same_id(known)) {
        Some(known) if *known == set => false,
        Some(known) => {
            *known = kept(set);
            true
        }
        None => {
            sets.push(kept(set));
            true
        }
    }
}

/// A copy: it stays, and what it came in should not.
fn kept<T>((set, nal): (T, Bytes)) -> (T, Bytes) {
    (set, Bytes::copy_from_slice(&nal))
}
