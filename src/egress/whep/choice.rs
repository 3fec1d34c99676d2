//! Which layer a viewer is to have: what it chose, as far as the publisher sends that.

use sluice_signaling::media_plane::LayerChoice;

use crate::track::{LayerIndex, LayerState, ReplicaTrack};

/// The layer that a choice comes to at present. Without a choice it is the highest. When what was chosen is not being sent it is the
/// next lower, else the next higher; nothing is sent: what was chosen.
pub fn choose(choice: &LayerChoice, track: &ReplicaTrack) -> LayerIndex {
    let states = || track.layers().map(|(layer, of)| (layer, of.state()));
    let best = |fits: &dyn Fn(&LayerState) -> bool| {
        states().filter(|(_, state)| fits(state)).max_by_key(|(layer, state)| state.rank(*layer))
    };
    let chosen = match choice {
        LayerChoice::Automatic => None,
        LayerChoice::Encoding(rid) => states().find(|(_, state)| state.rid.as_ref() == Some(rid)),
        LayerChoice::Within { width_max, height_max } => {
            let within = |state: &LayerState| {
                state.size.is_some_and(|size| {
                    width_max.is_none_or(|max| size.width <= max) && height_max.is_none_or(|max| size.height <= max)
                })
            };
            // None is as small: the smallest is nearest to what was meant.
            best(&|state| state.active && within(state))
                .or_else(|| states().filter(|(_, state)| state.active).min_by_key(|(layer, state)| state.rank(*layer)))
        }
    };
    let Some((layer, state)) = chosen else {
        return track.best_active().or(best(&|_| true).map(|(layer, _)| layer)).unwrap_or_default();
    };
    if state.active {
        return layer;
    }
    let rank = state.rank(layer);
    let active = || states().filter(|(_, state)| state.active).map(|(layer, state)| (state.rank(layer), layer));
    let lower = active().filter(|(other, _)| *other < rank).max_by_key(|(other, _)| *other);
    let other = lower.or_else(|| active().min_by_key(|(other, _)| *other));
    other.map_or(layer, |(_, other)| other)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        codec::PictureSize,
        media::{Codec, MediaKind, TrackFormat},
        track::{Delivery, LayerSnapshot, News, Replica, Snapshot, TrackSnapshot},
    };

    /// Rids a, b, c of these widths; 0: not known yet. Negative: not being sent.
    fn chosen(widths: [i32; 3], choice: LayerChoice) -> u8 {
        let layer = |(rid, width): (&str, &i32)| {
            let side = width.unsigned_abs();
            let size = (side > 0).then_some(PictureSize { width: side, height: side / 2 });
            let state = LayerState { size, active: *width >= 0, ..LayerState::named(rid) };
            LayerSnapshot { state, clock: None, packets: None }
        };
        let format = TrackFormat { codec: Codec::H264, fmtp: String::new(), channels: 1 };
        let layers = ["a", "b", "c"].into_iter().zip(&widths).map(layer).collect();
        let snapshot =
            Snapshot { publication: 1, sound_lags: false, tracks: vec![TrackSnapshot { epoch: 0, format, layers }] };
        let mut replica = Replica::default();
        replica.apply(Delivery::Snapshot(Arc::new(snapshot)), &mut News::default());
        choose(&choice, replica.track(MediaKind::Video).unwrap()).0
    }

    fn rid(rid: &str) -> LayerChoice {
        LayerChoice::Encoding(rid.into())
    }

    #[test]
    fn without_a_choice_it_is_the_highest_that_is_sent() {
        assert_eq!(chosen([320, 1_280, 640], LayerChoice::Automatic), 1);
        assert_eq!(chosen([320, -1_280, 640], LayerChoice::Automatic), 2);
        assert_eq!(chosen([-320, -1_280, -640], LayerChoice::Automatic), 1, "it will come first");
        assert_eq!(chosen([0, 0, 0], LayerChoice::Automatic), 0);
    }

    #[test]
    fn a_rid_is_had_while_it_is_sent_and_the_next_lower_else() {
        assert_eq!(chosen([320, 1_280, 640], rid("a")), 0);
        assert_eq!(chosen([320, -1_280, 640], rid("b")), 2);
        assert_eq!(chosen([-320, 1_280, 640], rid("a")), 2, "nothing is lower");
        assert_eq!(chosen([-320, -1_280, -640], rid("c")), 2);
        assert_eq!(chosen([320, 1_280, 640], rid("z")), 1, "another publisher may not have it");
    }

    #[test]
    fn bounds_are_kept_where_anything_keeps_them() {
        let within = |width_max, height_max| LayerChoice::Within { width_max, height_max };
        assert_eq!(chosen([320, 1_280, 640], within(Some(640), None)), 2);
        assert_eq!(chosen([320, 1_280, 640], within(Some(640), Some(319))), 0);
        assert_eq!(chosen([320, 1_280, 640], within(None, None)), 1);
        assert_eq!(chosen([320, 1_280, 640], within(Some(100), None)), 0, "none is small enough");
        assert_eq!(chosen([-320, 1_280, -640], within(Some(640), None)), 1, "the only one");
    }
}
