//! Smaller layers that are made of an RTMP publisher's pictures.

use std::{sync::Arc, time::Duration};

use super::{
    flv::{at_ms, originals},
    originals::{IN_ORDER, one, player, snapshot},
    player::Player,
};
use crate::{
    egress::hls::RenditionIndex,
    media::MediaKind,
    track::{FrameDelivery, LayerIndex, LayerSet, LayerUnit, Original, Originals, OriginalsSnapshot},
};

const LAYER: LayerIndex = LayerIndex(1);
const RUNG: RenditionIndex = RenditionIndex(1);
/// An encoder takes so long.
const LATER: Duration = Duration::from_millis(60);

/// What an encoder makes of the pictures from then on, if it made them as they are.
fn made(units: &[Original], from_ms: u64) -> Vec<Original> {
    let pictures = units.iter().filter(|unit| unit.format.kind() == MediaKind::Video && unit.arrival >= at_ms(from_ms));
    let numbered = (1..).zip(pictures);
    numbered.map(|(number, unit)| Original { number, arrival: unit.arrival + LATER, ..unit.clone() }).collect()
}

fn rung(unit: &Original) -> FrameDelivery {
    let unit = LayerUnit { layer: LAYER, rid: "90p".into(), unit: unit.clone() };
    FrameDelivery::Originals(Originals::Layers(Arc::new([unit])))
}

/// Both, live.
fn play(player: &mut Player, units: &[Original], made: &[Original]) {
    player.deliver(units[0].arrival, snapshot(1, &units[..1]));
    let mut all: Vec<_> = units.iter().map(|unit| (unit.arrival, one(unit))).collect();
    all.extend(made.iter().map(|unit| (unit.arrival, rung(unit))));
    all.sort_by_key(|(at, _)| *at);
    for (at, delivery) in all {
        player.deliver(at, delivery);
    }
}

#[test]
fn a_rung_that_begins_late_has_the_originals_segments_from_there_on() {
    let units = originals(IN_ORDER);
    let made = made(&units, 1_500);
    let mut player = player();
    play(&mut player, &units, &made);
    let (original, rung) = (player.pictures(), player.stretch(RUNG));
    assert_eq!(rung.description.rid.as_deref(), Some("90p"));
    let (all, late) = (original.segments_s(), rung.segments_s());
    assert_eq!(all.len(), 4, "{all:?}");
    assert_eq!((rung.boundary - original.boundary, &late[..]), (2, &all[2..]), "from the first keyframe on");
    assert_eq!(player.sound().boundary, original.boundary);
}

#[test]
fn after_a_loss_a_rung_goes_on_at_the_next_keyframe_and_when_its_encoder_stops_it_ends() {
    let units = originals(IN_ORDER);
    let mut made = made(&units, 0);
    let lost = made.iter().position(|unit| unit.arrival >= at_ms(1_300)).unwrap();
    made.remove(lost);
    let mut player = player();
    player.lenient = true;
    play(&mut player, &units, &made);
    let rung = player.stretch(RUNG);
    let kept: Vec<_> = rung.samples().map(|sample| sample.data.clone()).collect();
    let until = made.iter().position(|unit| unit.arrival >= at_ms(2_000) && unit.unit.keyframe).unwrap();
    let before = made[..lost].iter().chain(&made[until..]).map(|unit| &unit.unit.data[..]);
    assert!(kept[..].iter().map(|data| &data[..]).eq(before.take(kept.len())) && kept.len() > lost + 10);
    // The third one begins with the pause.
    let (all, cut) = (player.pictures().segments_s(), rung.segments_s());
    assert_eq!((cut[0], cut[1], cut[3]), (all[0], all[1], all[3]), "{cut:?}");
    assert_eq!(player.ended, []);
    let stopped = FrameDelivery::Originals(Originals::LayersStopped(LayerSet::of(LAYER)));
    player.deliver(at_ms(4_200), stopped);
    assert_eq!(player.ended, [RUNG]);
}

#[test]
fn a_rung_that_stopped_while_deliveries_were_lost_ends_with_the_snapshot() {
    let units = originals(IN_ORDER);
    let mut player = player();
    play(&mut player, &units, &made(&units, 0));
    assert_eq!(player.ended, []);
    let formats = vec![units[0].format.clone()];
    let brought_back =
        OriginalsSnapshot { publication: 1, formats, layers_stopped: LayerSet::of(LAYER), units: Vec::new() };
    player.deliver(at_ms(4_200), FrameDelivery::Originals(Originals::Snapshot(Arc::new(brought_back))));
    assert_eq!(player.ended, [RUNG]);
}

#[test]
fn sound_of_groups_that_are_kept_is_in_step_with_their_pictures() {
    let units = originals(IN_ORDER);
    let to = units.iter().position(|unit| unit.arrival > at_ms(3_500)).unwrap();
    let mut player = player();
    player.deliver(at_ms(3_500), snapshot(1, &units[..to]));
    let (pictures, sound) = (player.pictures(), player.sound());
    assert_eq!(pictures.segments_s().len(), 4);
    assert_eq!((sound.boundary, sound.segments_s().len()), (pictures.boundary, 4));
}

fn of_layer(layer: u8, unit: &Original) -> FrameDelivery {
    let unit = LayerUnit { layer: LayerIndex(layer), rid: format!("{layer}p").into(), unit: unit.clone() };
    FrameDelivery::Originals(Originals::Layers(Arc::new([unit])))
}

fn stopped() -> FrameDelivery {
    let layers = [LayerIndex(1), LayerIndex(2)].into_iter().collect();
    FrameDelivery::Originals(Originals::LayersStopped(layers))
}

/// The original with sound, and two rungs, each at its time; beside it what else is delivered.
fn play_two(player: &mut Player, units: &[Original], rungs: &[Original], others: Vec<(u64, FrameDelivery)>) {
    player.deliver(units[0].arrival, snapshot(1, &units[..1]));
    let mut all: Vec<_> = units.iter().map(|unit| (unit.arrival, one(unit))).collect();
    for unit in rungs {
        all.extend([1, 2].map(|layer| (unit.arrival, of_layer(layer, unit))));
    }
    all.extend(others.into_iter().map(|(ms, delivery)| (at_ms(ms), delivery)));
    all.sort_by_key(|(at, _)| *at);
    for (at, delivery) in all {
        player.deliver(at, delivery);
    }
}

#[test]
fn rungs_whose_encoder_is_replaced_come_back_where_the_original_is_and_leave_it_alone() {
    let units = originals(IN_ORDER);
    // The first encoder ends in the second group, the next one begins with the third.
    let first: Vec<_> = made(&units, 0).into_iter().filter(|unit| unit.arrival < at_ms(1_300)).collect();
    let rungs = [first, made(&units, 2_000)].concat();
    let mut player = player();
    player.lenient = true;
    play_two(&mut player, &units, &rungs, vec![(1_400, stopped())]);
    let (original, sound) = (player.pictures(), player.sound());
    assert_eq!((original.segments_s().len(), sound.segments_s().len()), (4, 4), "one stretch each");
    for rung in [RUNG, RenditionIndex(2)] {
        let stretches = &player.stretches[&rung];
        assert_eq!(stretches.len(), 2);
        assert_eq!(stretches[1].boundary, original.boundary + 2);
        assert_eq!(stretches[1].segments_s(), original.segments_s()[2..]);
    }
    assert_eq!(player.ended, [RUNG, RenditionIndex(2)]);
}

#[test]
fn a_rung_that_comes_back_within_the_segment_it_left_waits_for_the_next() {
    let units = originals(IN_ORDER);
    let first: Vec<_> = made(&units, 0).into_iter().filter(|unit| unit.arrival < at_ms(1_300)).collect();
    // Another encoder's first picture is a keyframe, wherever it is.
    let mut second = made(&units, 1_500);
    second[0].unit = made(&units, 1_000)[0].unit.clone();
    second[0].unit.decode_time_ticks += 500;
    let mut player = player();
    player.lenient = true;
    play_two(&mut player, &units, &[first, second].concat(), vec![(1_400, stopped())]);
    let original = player.pictures();
    for rung in [RUNG, RenditionIndex(2)] {
        let again = &player.stretches[&rung][1];
        assert_eq!((again.boundary, &again.segments_s()[..]), (original.boundary + 2, &original.segments_s()[2..]));
    }
}

#[test]
fn a_rung_that_was_late_goes_on_at_its_next_keyframe() {
    let units = originals(IN_ORDER);
    // Nothing of it for half a second, and then what was missing, all at once.
    let mut rungs = made(&units, 0);
    for unit in &mut rungs {
        if (at_ms(1_200)..at_ms(1_750)).contains(&unit.arrival) {
            unit.arrival = at_ms(1_750);
        }
    }
    let mut player = player();
    player.lenient = true;
    play_two(&mut player, &units, &rungs, vec![(1_700, stopped())]);
    let original = player.pictures();
    assert_eq!(original.segments_s().len(), 4);
    let again = &player.stretches[&RUNG][1];
    assert_eq!((again.boundary, &again.segments_s()[..]), (original.boundary + 2, &original.segments_s()[2..]));
}
