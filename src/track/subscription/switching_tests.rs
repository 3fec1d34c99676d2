//! Going from layer to layer: numbers and time go on, no picture comes twice, none is cut.

mod testing;

use std::sync::Arc;

use bytes::Bytes;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;
use crate::track::{LAYERS_MAX, LayerRole};
use testing::{Camera, FRAME_TICKS, HIGH, LOW, Watcher, shown};

/// A viewer at the live edge of the low layer, ten pictures in.
fn watching_low() -> (Camera, Watcher) {
    let mut camera = Camera::new(2);
    let mut watcher = Watcher::new();
    for picture in 0..10 {
        camera.take_picture(if picture == 0 { &[LOW, HIGH] } else { &[] });
        watcher.follow(&camera, LOW);
        watcher.take_all(&camera);
    }
    (camera, watcher)
}

#[test]
fn the_old_layer_goes_on_until_the_new_ones_keyframe_and_no_picture_is_missed() {
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    for _ in 0..5 {
        camera.take_picture(&[]);
        assert_eq!(watcher.take_all(&camera), Some(SwitchWait::Keyframe(HIGH)), "the cached one is too old");
    }
    camera.take_picture(&[HIGH]);
    assert_eq!(watcher.take_all(&camera), None);
    (0..5).for_each(|_| camera.take_picture(&[]));
    watcher.take_all(&camera);
    watcher.assert_sound();
    // The low layer's picture 16 was there, and not sent: the high one's is.
    let expected: Vec<_> = (1..=15).map(|at| (0, at)).chain((16..=21).map(|at| (1, at))).collect();
    assert_eq!(watcher.pictures(), expected);
    let times: Vec<_> = watcher.got.iter().map(|((_, picture), out)| out.time_ticks - picture * FRAME_TICKS).collect();
    assert!(times.windows(2).all(|pair| pair[0].abs_diff(pair[1]) <= 1), "on one clock: {times:?}");
    assert_eq!(watcher.subscription.phase(), Phase::Live);
    assert_eq!(watcher.subscription.layer(), HIGH);
}

#[test]
fn a_keyframe_that_comes_after_the_same_picture_of_the_old_layer_takes_a_time_of_its_own() {
    // The high layer's encoder takes longer: by 50 ms, and the low layer is two pictures ahead.
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    let mut held_back = Vec::new();
    for picture in 0..8 {
        camera.next_picture();
        let low = camera.encode(LOW, false);
        camera.deliver(LOW, low);
        watcher.take_all(&camera);
        held_back.push(camera.encode(HIGH, picture == 2));
        if picture >= 2 {
            let packets = held_back[picture - 2].clone();
            camera.deliver(HIGH, packets);
            watcher.take_all(&camera);
        }
    }
    watcher.assert_sound();
    let switched = watcher.got.iter().position(|((layer, _), _)| *layer == 1).unwrap();
    let (before, after) = watcher.got.split_at(switched);
    assert_eq!((before.last().unwrap().0, after[0].0), ((0, 15), (1, 13)), "as far back as its encoder is behind");
    let step = after[0].1.time_ticks - before.last().unwrap().1.time_ticks;
    assert!(step < 100, "{step} ticks");
    let clock = |got: &((u8, u64), Outgoing)| got.1.time_ticks as i64 - (got.0.1 * FRAME_TICKS) as i64;
    assert!((clock(after.last().unwrap()) - clock(&before[0])).abs() <= 1, "time has caught up");
    assert_eq!(watcher.subscription.phase(), Phase::Live);
}

#[test]
fn a_rung_that_its_encoder_makes_late_is_gone_over_to_at_its_next_keyframe() {
    for late in [3, 15, 60] {
        let (mut camera, mut watcher) = watching_low();
        camera.encoders[1].role = LayerRole::Rung;
        camera.set_active(HIGH, true);
        watcher.follow(&camera, HIGH);
        let mut made = VecDeque::new();
        let mut waits = Vec::new();
        for picture in 0..200 {
            camera.next_picture();
            let keyframe = picture == 30;
            let low = camera.encode(LOW, keyframe);
            camera.deliver(LOW, low);
            made.push_back(camera.encode(HIGH, keyframe));
            if made.len() > late {
                // As its encoder hands it over: now.
                let arrival = camera.now;
                let packets = made.pop_front().unwrap().into_iter();
                let packets = packets.map(|packet| Arc::new(TrackPacket { arrival, ..(*packet).clone() })).collect();
                camera.deliver(HIGH, packets);
            }
            waits.push(watcher.take_all(&camera));
        }
        let (waited, after) = waits.split_at(30 + late);
        assert!(
            waited.iter().all(|wait| *wait == Some(SwitchWait::Keyframe(HIGH))),
            "{late}: what is old is not shown again"
        );
        assert!(after.iter().all(Option::is_none), "{late}: nothing is asked for any more");
        watcher.assert_sound();
        let switched = watcher.got.iter().position(|((layer, _), _)| *layer == 1).unwrap();
        let (before, after) = watcher.got.split_at(switched);
        let newest = 40 + late as u64;
        assert_eq!((before.last().unwrap().0, after[0].0), ((0, newest), (1, 41)));
        let step = after[0].1.time_ticks - before.last().unwrap().1.time_ticks;
        assert!(step < 100, "{late}: {step} ticks");
        let clock = |got: &((u8, u64), Outgoing)| got.1.time_ticks as i64 - (got.0.1 * FRAME_TICKS) as i64;
        assert!((clock(after.last().unwrap()) - clock(&before[0])).abs() <= 1, "{late}: time has caught up");
        assert_eq!(watcher.subscription.phase(), Phase::Live);
    }
}

#[test]
fn a_rung_that_is_too_late_to_be_live_is_not_gone_over_to() {
    let (mut camera, mut watcher) = watching_low();
    camera.encoders[1].role = LayerRole::Rung;
    camera.set_active(HIGH, true);
    watcher.follow(&camera, HIGH);
    let keyframe = camera.encode(HIGH, true);
    // Three seconds.
    (0..90).for_each(|_| {
        camera.next_picture();
        let low = camera.encode(LOW, false);
        camera.deliver(LOW, low);
        watcher.take_all(&camera);
    });
    camera.deliver(HIGH, keyframe);
    assert_eq!(watcher.take_all(&camera), Some(SwitchWait::Keyframe(HIGH)));
    assert_eq!(watcher.subscription.layer(), LOW);
}

#[test]
fn a_picture_that_is_half_sent_is_finished_first() {
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    camera.take_picture(&[HIGH]);
    watcher.take_all(&camera);
    // Now from the high one to the low one, in the middle of a picture of two packets.
    watcher.follow(&camera, LOW);
    camera.next_picture();
    let mut high = camera.encode(HIGH, false);
    let rest = high.split_off(1);
    camera.deliver(HIGH, high);
    watcher.take_all(&camera);
    let low = camera.encode(LOW, false);
    camera.deliver(LOW, low);
    camera.next_picture();
    let low = camera.encode(LOW, true);
    camera.deliver(LOW, low);
    assert_eq!(watcher.take_all(&camera), Some(SwitchWait::Pictures));
    camera.deliver(HIGH, rest.clone());
    assert_eq!(watcher.take_all(&camera), None);
    watcher.assert_sound();
    let last: Vec<_> = watcher.got.iter().rev().take(3).map(|(shown, _)| *shown).collect();
    assert_eq!(last, [(0, 13), (1, 12), (1, 12)]);
}

#[test]
fn the_rest_of_a_picture_is_not_waited_for_for_ever() {
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    camera.take_picture(&[HIGH]);
    watcher.take_all(&camera);
    watcher.follow(&camera, LOW);
    camera.next_picture();
    let high = camera.encode(HIGH, false);
    camera.deliver(HIGH, high[..1].to_vec());
    watcher.take_all(&camera);
    let low = camera.encode(LOW, true);
    camera.deliver(LOW, low);
    assert_eq!(watcher.take_all(&camera), Some(SwitchWait::Pictures));
    camera.now += PICTURE_PATIENCE;
    assert_eq!(watcher.take_all(&camera), None);
    assert_eq!(watcher.subscription.layer(), LOW);
    watcher.assert_sound();
}

#[test]
fn a_viewer_that_lags_has_the_old_pictures_up_to_the_keyframe() {
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    // Pacing holds it back: five pictures come, of which the third is the high layer's keyframe.
    for picture in 0..5 {
        camera.take_picture(if picture == 2 { &[HIGH] } else { &[] });
    }
    watcher.take(&camera, 1);
    assert_eq!(watcher.got.last().unwrap().0, (0, 11));
    watcher.take_all(&camera);
    watcher.assert_sound();
    assert_eq!(watcher.pictures()[10..], [(0, 11), (0, 12), (1, 13), (1, 14), (1, 15)]);
}

#[test]
fn a_layer_that_stops_is_left_for_what_is_cached_of_the_other() {
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    camera.take_picture(&[HIGH]);
    watcher.take_all(&camera);
    camera.set_active(HIGH, false);
    (0..20).for_each(|_| camera.take_picture(&[]));
    // The policy names another.
    watcher.follow(&camera, LOW);
    assert_eq!(watcher.subscription.phase(), Phase::CatchingUp);
    watcher.take_all(&camera);
    watcher.assert_sound();
    assert_eq!(watcher.pictures().last(), Some(&(0, 31)), "at the live edge at once");
    // And back when it comes again, with its own clock still known.
    camera.set_active(HIGH, true);
    watcher.follow(&camera, HIGH);
    camera.take_picture(&[HIGH]);
    watcher.take_all(&camera);
    watcher.assert_sound();
    assert_eq!(watcher.pictures().last(), Some(&(1, 32)));
}

#[test]
fn a_layer_that_stopped_is_left_at_the_next_keyframe_where_nothing_is_cached() {
    let mut camera = Camera::new(2);
    let mut watcher = Watcher::new();
    camera.take_picture(&[HIGH]);
    watcher.follow(&camera, HIGH);
    watcher.take_all(&camera);
    camera.set_active(HIGH, false);
    watcher.follow(&camera, LOW);
    camera.take_picture(&[]);
    assert_eq!(watcher.take_all(&camera), Some(SwitchWait::Keyframe(LOW)));
    camera.take_picture(&[LOW]);
    watcher.take_all(&camera);
    watcher.assert_sound();
    assert_eq!(watcher.pictures(), [(1, 1), (0, 3)]);
}

#[test]
fn a_layer_that_stopped_is_left_for_a_late_one_where_joins_are_not_instant_too() {
    let (mut camera, mut watcher) = watching_low();
    camera.set_active(LOW, false);
    watcher.subscription.follow(camera.now, camera.track(), HIGH, false);
    // Its keyframe is 300 ms behind: while the old one went on, a later one would be waited for.
    assert_eq!(watcher.take_all(&camera), None);
    watcher.assert_sound();
    assert_eq!(watcher.pictures().last(), Some(&(1, 10)), "at the live edge");
}

#[test]
fn what_was_sent_is_found_again_on_both_sides_of_a_switch() {
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    camera.take_picture(&[HIGH]);
    (0..5).for_each(|_| camera.take_picture(&[]));
    watcher.take_all(&camera);
    watcher.follow(&camera, LOW);
    camera.take_picture(&[LOW]);
    watcher.take_all(&camera);
    for (what, outgoing) in &watcher.got {
        let (packet, again) = watcher.subscription.sent(outgoing.seq.wire(), camera.track()).unwrap();
        assert_eq!((shown(packet), again), (*what, *outgoing));
    }
    let needed = watcher.subscription.layers_needed(camera.now);
    assert!(needed.contains(HIGH) && needed.contains(LOW), "the one that was left may be asked for");
    let needed = watcher.subscription.layers_needed(camera.now + LEFT_KEPT);
    assert_eq!(needed, LayerSet::of(LOW));
}

#[test]
fn a_change_of_mind_before_the_keyframe_changes_nothing() {
    let (mut camera, mut watcher) = watching_low();
    watcher.follow(&camera, HIGH);
    camera.take_picture(&[]);
    watcher.take_all(&camera);
    watcher.follow(&camera, LOW);
    camera.take_picture(&[HIGH]);
    assert_eq!(watcher.take_all(&camera), None);
    assert_eq!(watcher.pictures().last(), Some(&(0, 12)));
    watcher.assert_sound();
}

#[test]
fn a_joiner_takes_the_cache_of_the_layer_it_is_to_have() {
    let mut camera = Camera::new(2);
    camera.take_picture(&[LOW, HIGH]);
    (0..20).for_each(|_| camera.take_picture(&[]));
    let mut watcher = Watcher::new();
    watcher.follow(&camera, HIGH);
    watcher.take_all(&camera);
    watcher.assert_sound();
    assert_eq!(watcher.pictures(), (1..=21).map(|at| (1, at)).collect::<Vec<_>>());
}

/// A bad network on both sides: packets of layers are lost or late, deliveries to the worker are lost and made good by a
/// snapshot, the viewer is served now and then, changes its mind, and layers come and go.
#[test]
fn no_sequence_of_losses_lags_and_choices_breaks_numbers_or_time() {
    let mut all_switches = 0;
    for seed in 0..60 {
        let mut random = StdRng::seed_from_u64(seed);
        let layers = 2 + seed as usize % (LAYERS_MAX - 1);
        let mut camera = Camera::new(layers);
        let mut watcher = Watcher::new();
        let mut wish = LOW;
        let mut late: Vec<(u64, LayerIndex, Arc<TrackPacket>)> = Vec::new();
        let mut kept: Vec<Vec<Arc<TrackPacket>>> = vec![Vec::new(); layers];
        let mut switches = 0;
        for picture in 0..900u64 {
            camera.next_picture();
            let is_lagging = random.random_bool(0.01);
            for (at, kept) in kept.iter_mut().enumerate() {
                let layer = LayerIndex(at as u8);
                if !camera.encoders[at].active {
                    continue;
                }
                let keyframe = picture == 0 || random.random_bool(0.03);
                let mut packets = camera.encode(layer, keyframe);
                if keyframe {
                    kept.clear();
                }
                packets.retain(|packet| {
                    let lost = random.random_bool(0.01);
                    if lost && random.random_bool(0.7) {
                        late.push((picture + random.random_range(1..4), layer, packet.clone()));
                    }
                    !lost
                });
                kept.extend(packets.iter().cloned());
                if !is_lagging {
                    camera.deliver(layer, packets);
                }
            }
            if is_lagging {
                // As the tree does it: a snapshot with what it has since each layer's last keyframe.
                let kept = kept.clone();
                camera.snapshot(0, |at| kept[at].clone());
            }
            for (_, layer, packet) in late.extract_if(.., |(due, ..)| *due <= picture).collect::<Vec<_>>() {
                camera.deliver(layer, vec![packet]);
            }
            if random.random_bool(0.02) {
                let layer = LayerIndex(random.random_range(0..layers as u8));
                let active = camera.encoders[usize::from(layer.0)].active;
                // The low one always comes.
                if layer != LOW {
                    camera.set_active(layer, !active);
                }
            }
            if random.random_bool(0.05) {
                wish = LayerIndex(random.random_range(0..layers as u8));
            }
            let chosen = if camera.encoders[usize::from(wish.0)].active { wish } else { LOW };
            let before = watcher.subscription.layer();
            watcher.follow(&camera, chosen);
            if random.random_bool(0.8) {
                let most = if random.random_bool(0.2) { random.random_range(0..4) } else { usize::MAX };
                watcher.take(&camera, most);
            }
            switches += u32::from(watcher.subscription.layer() != before);
        }
        all_switches += switches;
        for pair in watcher.got.windows(2) {
            let ((was, before), (is, after)) = (pair[0], pair[1]);
            // Gaps are what a layer lost; within one layer there is no other.
            assert!(after.seq > before.seq, "seed {seed}: {pair:?}");
            assert!(was.0 == is.0 || after.seq == before.seq.next(), "seed {seed}, a gap at a switch: {pair:?}");
            let later =
                if was == is { after.time_ticks == before.time_ticks } else { after.time_ticks > before.time_ticks };
            assert!(later, "seed {seed}: {pair:?}");
        }
        for (what, outgoing) in watcher.got.iter().rev().take(100) {
            // What is gone is gone; what is there is the same.
            if let Some((packet, again)) = watcher.subscription.sent(outgoing.seq.wire(), camera.track()) {
                assert_eq!((shown(packet), again), (*what, *outgoing), "seed {seed}");
            }
        }
        let live: Vec<_> = watcher.got.iter().filter(|(_, outgoing)| outgoing.playout != Playout::AtOnce).collect();
        let clock = |got: &&((u8, u64), Outgoing)| got.1.time_ticks as i64 - (got.0.1 * FRAME_TICKS) as i64;
        let (first, last) = (clock(live.first().unwrap()), clock(live.last().unwrap()));
        assert!((last - first).abs() < 9_000 * 10, "seed {seed}: the viewer's clock ran {} ticks away", last - first);
    }
    assert!(all_switches > 300, "{all_switches} switches were tried");
}

#[test]
fn picture_numbers_of_vp8_go_on_across_a_switch() {
    let (mut camera, mut watcher) = watching_low();
    let numbered = |packets: Vec<Arc<TrackPacket>>, picture_id: u8, base_index: u8| -> Vec<Arc<TrackPacket>> {
        let payload = Bytes::from(vec![0x90, 0xc0, 0x80, picture_id, base_index, 0x50]);
        packets.iter().map(|packet| Arc::new(TrackPacket { payload: payload.clone(), ..(**packet).clone() })).collect()
    };
    let mut sent = Vec::new();
    for picture in 0..4u8 {
        camera.next_picture();
        let low = numbered(camera.encode(LOW, false), 100 + picture, 50 + picture);
        camera.deliver(LOW, low);
        let high = numbered(camera.encode(HIGH, picture == 2), 90 + picture, 45 + picture);
        camera.deliver(HIGH, high);
        watcher.follow(&camera, HIGH);
        loop {
            watcher.subscription.switch(camera.now, camera.track());
            let Some((packet, outgoing)) = watcher.subscription.take(camera.now, camera.track()) else { break };
            sent.push(PictureNumbers::of(&packet.payload).unwrap().shifted(outgoing.vp8_shift));
        }
    }
    sent.dedup();
    let numbers: Vec<_> = sent.iter().map(|numbers| (numbers.picture_id, numbers.base_index)).collect();
    assert_eq!(numbers, [(100, 50), (101, 51), (102, 52), (103, 53)]);
}
