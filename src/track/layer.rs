//! A track's layers: the same pictures in several sizes (simulcast, RFC 8853), of which a viewer gets one at a time.
//!
//! Layers are numbered as the publisher offered them. Which is higher is told by their pictures: more samples are better;
//! where that is equal or not known yet, the one that the publisher offered first, as it prefers that (RFC 8853 section 5.2).

use std::cmp::Reverse;

use sluice_signaling::sdp;

use crate::{codec::PictureSize, config::LADDER_MAX_RUNGS};

/// Smaller layers that may be made here of a publisher's only one: as many as a ladder has.
pub const RUNGS_MAX: usize = LADDER_MAX_RUNGS;
/// Layers of a track at the most: a publisher's only one, what is made to take its place, and those made smaller.
pub const LAYERS_MAX: usize = 2 + RUNGS_MAX;
const _: () = assert!(LAYERS_MAX >= sdp::LAYERS_MAX, "as many as answers accept");
const _: () = assert!(LAYERS_MAX <= u8::BITS as usize, "a set has a bit for each");

/// A layer's place in its track; 0 where there is one only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct LayerIndex(pub u8);

/// Some of a track's layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LayerSet(u8);

impl LayerSet {
    pub const ALL: Self = Self(u8::MAX);

    pub fn of(layer: LayerIndex) -> Self {
        Self(1u8.checked_shl(layer.0.into()).unwrap_or(0))
    }

    pub fn contains(self, layer: LayerIndex) -> bool {
        self.0 & Self::of(layer).0 != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    pub fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = LayerIndex> {
        (0..LAYERS_MAX as u8).map(LayerIndex).filter(move |layer| self.contains(*layer))
    }
}

impl FromIterator<LayerIndex> for LayerSet {
    fn from_iter<I: IntoIterator<Item = LayerIndex>>(layers: I) -> Self {
        layers.into_iter().fold(Self::default(), |all, layer| all.union(Self::of(layer)))
    }
}

/// Where a layer's pictures come from, and whether viewers get them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LayerRole {
    /// The publisher sends it.
    #[default]
    Sent,
    /// The publisher sends it, but viewers get what is made of it here instead.
    Replaced,
    /// Made here of the publisher's pictures, in their place.
    Made,
    /// Made here of the publisher's pictures, smaller, beside them.
    Rung,
}

impl LayerRole {
    /// Not the publisher's own.
    pub fn is_made_here(self) -> bool {
        matches!(self, Self::Made | Self::Rung)
    }
}

/// What is known of a layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerState {
    /// The publisher's name for it (RFC 8852), or ours for a smaller one that is made here; `None` where there is one encoding without a
    /// name.
    pub rid: Option<String>,
    /// As the last keyframe that named it said.
    pub size: Option<PictureSize>,
    /// Viewers can have it at present.
    pub active: bool,
    pub role: LayerRole,
}

impl LayerState {
    /// The layer of a track that has one only.
    pub fn only() -> Self {
        Self { rid: None, size: None, active: true, role: LayerRole::Sent }
    }

    /// A simulcast layer, of which nothing has come yet.
    pub fn named(rid: &str) -> Self {
        Self { rid: Some(rid.to_owned()), size: None, active: false, role: LayerRole::Sent }
    }

    /// A layer that is made here in place of the publisher's, of which nothing has come yet.
    pub fn made() -> Self {
        Self { rid: None, size: None, active: false, role: LayerRole::Made }
    }

    /// A smaller layer that is made here, of which nothing has come yet.
    pub fn rung(rid: &str) -> Self {
        Self { role: LayerRole::Rung, ..Self::named(rid) }
    }

    /// The greater, the better.
    pub fn rank(&self, layer: LayerIndex) -> impl Ord + Copy + use<> {
        let samples = self.size.map_or(0, |size| u64::from(size.width) * u64::from(size.height));
        (samples, Reverse(layer))
    }
}

/// The highest layer that is being sent.
pub fn best_active<'a>(layers: impl Iterator<Item = (LayerIndex, &'a LayerState)>) -> Option<LayerIndex> {
    let active = layers.filter(|(_, state)| state.active);
    active.max_by_key(|(layer, state)| state.rank(*layer)).map(|(layer, _)| layer)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layer(width: u32, active: bool) -> LayerState {
        let size = (width > 0).then_some(PictureSize { width, height: width / 2 });
        LayerState { rid: None, size, active, role: LayerRole::Sent }
    }

    fn best(layers: &[LayerState]) -> Option<u8> {
        best_active(layers.iter().enumerate().map(|(at, state)| (LayerIndex(at as u8), state))).map(|layer| layer.0)
    }

    #[test]
    fn more_samples_are_better_whatever_the_order() {
        assert_eq!(best(&[layer(320, true), layer(1_280, true), layer(640, true)]), Some(1));
        assert_eq!(best(&[layer(320, true), layer(1_280, false), layer(640, true)]), Some(2));
        assert_eq!(best(&[layer(320, false)]), None);
    }

    #[test]
    fn what_is_not_known_yet_goes_by_the_publishers_preference() {
        assert_eq!(best(&[layer(0, true), layer(0, true)]), Some(0));
        assert_eq!(best(&[layer(640, true), layer(640, true)]), Some(0));
        assert_eq!(best(&[layer(0, true), layer(320, true)]), Some(1));
    }

    #[test]
    fn sets_hold_what_was_put_in() {
        let set: LayerSet = [LayerIndex(0), LayerIndex(3)].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [LayerIndex(0), LayerIndex(3)]);
        assert!(set.contains(LayerIndex(3)) && !set.contains(LayerIndex(1)) && !set.contains(LayerIndex(200)));
        assert_eq!(set.without(LayerSet::of(LayerIndex(0))), LayerSet::of(LayerIndex(3)));
        assert!(set.without(set).is_empty() && set.intersects(LayerSet::of(LayerIndex(0))));
    }
}
