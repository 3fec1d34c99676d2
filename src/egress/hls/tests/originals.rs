//! RTMP publishers: access units as they came.

use std::{sync::Arc, time::Duration};

use super::{
    flv::{at_ms, originals},
    player::{PICTURES, Player, wall},
};
use crate::{
    egress::hls::{Packager, PackagerSettings, run::SOUND},
    media::MediaKind,
    track::{FrameDelivery, Original, Originals, OriginalsSnapshot},
};

pub const IN_ORDER: &[u8] = include_bytes!("../../../../tests/fixtures/flv/in-order.flv");
const B_FRAMES: &[u8] = include_bytes!("../../../../tests/fixtures/flv/b-frames.flv");

pub fn player() -> Player {
    Player::new(Packager::new(PackagerSettings::default()))
}

pub fn snapshot(publication: u64, units: &[Original]) -> FrameDelivery {
    let mut formats = Vec::new();
    for unit in units {
        if !formats.contains(&unit.format) {
            formats.push(unit.format.clone());
        }
    }
    let snapshot = OriginalsSnapshot { publication, formats, units: units.to_vec(), ..OriginalsSnapshot::default() };
    FrameDelivery::Originals(Originals::Snapshot(Arc::new(snapshot)))
}

pub fn one(unit: &Original) -> FrameDelivery {
    FrameDelivery::Originals(Originals::Units(Arc::new([unit.clone()])))
}

/// Everything live, from the first on, and the publisher's end.
pub fn play(player: &mut Player, units: &[Original]) {
    let begin = OriginalsSnapshot {
        publication: 1,
        formats: vec![
            units[0].format.clone(),
            units.iter().find(|u| u.format != units[0].format).unwrap().format.clone(),
        ],
        ..OriginalsSnapshot::default()
    };
    player.deliver(units[0].arrival, FrameDelivery::Originals(Originals::Snapshot(Arc::new(begin))));
    for unit in units {
        player.deliver(unit.arrival, one(unit));
    }
}

fn end(player: &mut Player, at: u64) {
    let nobody = crate::track::Snapshot { publication: 1, ..Default::default() };
    player.deliver(at_ms(at), FrameDelivery::Rtp(crate::track::Delivery::Snapshot(Arc::new(nobody))));
}

#[test]
fn pictures_and_sound_become_parts_and_segments_that_match() {
    for (flv, reordered) in [(IN_ORDER, false), (B_FRAMES, true)] {
        let mut player = player();
        let units = originals(flv);
        play(&mut player, &units);
        end(&mut player, 4_100);
        let (pictures, sound) = (player.pictures(), player.sound());
        assert_eq!(pictures.description.codecs, "avc1.64000b");
        assert_eq!((sound.description.codecs.as_str(), sound.description.channels), ("mp4a.40.2", Some(1)));
        assert_eq!(pictures.description.frame_rate, Some(30.0));
        assert_eq!(pictures.part_target, Duration::from_millis(202));
        let segments = pictures.segments_s();
        assert_eq!(segments.len(), 4, "{segments:?}");
        for (picture, sound) in segments.iter().zip(sound.segments_s()) {
            assert!((picture - sound).abs() <= 0.5 * 1_024.0 / 44_100.0 + 0.001, "{picture} {sound}");
        }
        // Nothing is lost, nothing comes twice, and every picture is shown when it was to be.
        let kept: Vec<_> = units.iter().filter(|unit| unit.format.kind() == MediaKind::Video).collect();
        assert!(kept.iter().map(|unit| &unit.unit.data[..]).eq(pictures.samples().map(|sample| &sample.data[..])));
        let mut shown: Vec<_> = kept
            .iter()
            .map(|unit| unit.unit.decode_time_ticks as i64 + i64::from(unit.unit.composition_offset_ticks))
            .collect();
        assert_eq!(!shown.is_sorted(), reordered);
        shown.sort_unstable();
        for (picture, shown) in pictures.shown_s().iter().zip(shown) {
            let expected = (shown - kept[0].unit.decode_time_ticks as i64) as f64 / 1_000.0;
            assert!((picture - expected).abs() < 0.000_1, "{picture} {expected}");
        }
        assert_eq!(player.ended.len(), 2);
    }
}

#[test]
fn b_frames_that_come_late_are_shown_in_their_order_and_at_their_times() {
    let mut player = player();
    player.lenient = true;
    let mut units = originals(B_FRAMES);
    // The network holds back what was sent for 0.4 s, twice.
    for unit in &mut units {
        for (from, to) in [(1_200, 1_600), (2_500, 2_900)] {
            if (at_ms(from)..at_ms(to)).contains(&unit.arrival) {
                unit.arrival = at_ms(to);
            }
        }
    }
    play(&mut player, &units);
    end(&mut player, 4_500);
    let kept: Vec<_> = units.iter().filter(|unit| unit.format.kind() == MediaKind::Video).collect();
    let pictures = player.pictures();
    assert_eq!(pictures.samples().count(), kept.len());
    let mut shown: Vec<_> = kept
        .iter()
        .map(|unit| unit.unit.decode_time_ticks as i64 + i64::from(unit.unit.composition_offset_ticks))
        .collect();
    shown.sort_unstable();
    for (picture, shown) in pictures.shown_s().iter().zip(shown) {
        let expected = (shown - kept[0].unit.decode_time_ticks as i64) as f64 / 1_000.0;
        assert!((picture - expected).abs() < 0.000_1, "{picture} {expected}");
    }
}

#[test]
fn sound_is_where_the_publisher_put_it() {
    let mut player = player();
    let units = originals(IN_ORDER);
    play(&mut player, &units);
    let first = units.iter().find(|unit| unit.unit.keyframe && unit.format.kind() == MediaKind::Video).unwrap();
    let sound = player.sound();
    // Frames of AAC are told by their bytes; rounded times differ by a millisecond.
    for (shown, sample) in sound.shown_s().iter().zip(sound.samples()) {
        let unit = units.iter().find(|unit| unit.unit.data == sample.data).unwrap();
        let expected = (unit.unit.decode_time_ticks - first.unit.decode_time_ticks) as f64 / 1_000.0;
        assert!((shown - expected).abs() < 0.002, "{shown} {expected}");
    }
    assert!(sound.samples().all(|sample| sample.duration == 1_024 && sample.sync));
}

#[test]
fn packaging_begins_at_once_with_what_is_kept() {
    let units = originals(B_FRAMES);
    let from = units
        .iter()
        .position(|unit| unit.arrival >= at_ms(2_000) && unit.unit.keyframe && unit.format.kind() == MediaKind::Video);
    let (from, to) = (from.unwrap() - 10, units.iter().position(|unit| unit.arrival > at_ms(2_900)).unwrap());
    let mut player = player();
    let mut out = Vec::new();
    let now = at_ms(2_900);
    player.packager.handle(now, wall(now), snapshot(1, &units[from..to]), &mut out);
    assert!(out.len() >= 9, "two initializations, and 800 ms of parts at once: {}", out.len());
    // The same again is no news.
    let mut again = Vec::new();
    player.packager.handle(now, wall(now), snapshot(1, &units[from..to]), &mut again);
    assert_eq!(again, []);
}

fn is_picture(unit: &&Original) -> bool {
    unit.format.kind() == MediaKind::Video
}

#[test]
fn after_a_loss_pictures_go_on_at_the_next_keyframe() {
    let units = originals(IN_ORDER);
    // The packaging task was behind for half a second, and of a group that is too long sound only is kept.
    let lost = at_ms(1_200)..at_ms(1_700);
    let kept: Vec<_> = units.iter().filter(|unit| !is_picture(unit) && unit.arrival < lost.end).cloned().collect();
    let (before, after) = units.split_at(units.iter().position(|unit| unit.arrival >= lost.start).unwrap());
    let mut player = player();
    player.lenient = true;
    player.deliver(units[0].arrival, snapshot(1, &[]));
    before.iter().for_each(|unit| player.deliver(unit.arrival, one(unit)));
    player.deliver(lost.end, snapshot(1, &kept));
    let after = after.iter().skip_while(|unit| unit.arrival < lost.end);
    after.clone().for_each(|unit| player.deliver(unit.arrival, one(unit)));
    end(&mut player, 4_100);
    let after = after.skip_while(|unit| !is_picture(unit) || !unit.unit.keyframe);
    let expected = before.iter().chain(after).filter(is_picture);
    assert!(expected.map(|unit| &unit.unit.data[..]).eq(player.pictures().samples().map(|sample| &sample.data[..])));
}

#[test]
fn sound_that_is_not_kept_takes_no_pictures_with_it() {
    let units = originals(IN_ORDER);
    let kept: Vec<_> = units.iter().filter(is_picture).cloned().collect();
    let mut player = player();
    player.deliver(at_ms(4_100), snapshot(1, &kept));
    end(&mut player, 4_200);
    assert_eq!(player.pictures().samples().count(), kept.len());
}

/// A publisher takes over after so many milliseconds, who has sent the same pictures and sound as the one before.
fn taken_over(units: &[Original], at: u64) -> Player {
    let mut player = player();
    player.deliver(units[0].arrival, snapshot(1, &units[..1]));
    let (before, after) = units.split_at(units.iter().position(|unit| unit.arrival >= at_ms(at)).unwrap());
    before.iter().for_each(|unit| player.deliver(unit.arrival, one(unit)));
    player.deliver(at_ms(at), snapshot(2, before));
    after.iter().for_each(|unit| player.deliver(unit.arrival, one(unit)));
    end(&mut player, 4_500);
    player
}

#[test]
fn a_backup_that_takes_over_begins_with_its_last_keyframe() {
    let units = originals(IN_ORDER);
    let player = taken_over(&units, 2_500);
    let last =
        units.iter().find(|unit| is_picture(unit) && unit.unit.keyframe && unit.arrival >= at_ms(2_000)).unwrap();
    let [[_, pictures], [_, sound]] = [PICTURES, SOUND].map(|of| &player.stretches[&of][..]) else {
        panic!("two each")
    };
    assert!(pictures.samples().next().unwrap().data == last.unit.data, "not with what is kept before it");
    assert!(pictures.parts[0].0.captured >= wall(last.arrival));
    let begins_s = sound.start_s() - pictures.start_s();
    assert!(begins_s.abs() <= 0.5 * 1_024.0 / 44_100.0 + 0.001, "{begins_s}");
}

#[test]
fn a_backup_without_pictures_begins_with_what_came_last() {
    let units: Vec<_> = originals(IN_ORDER).into_iter().filter(|unit| !is_picture(&unit)).collect();
    let player = taken_over(&units, 2_500);
    let [_, sound] = &player.stretches[&SOUND][..] else { panic!("two") };
    let last = units.iter().rfind(|unit| unit.arrival < at_ms(2_500)).unwrap();
    assert!(sound.samples().next().unwrap().data == last.unit.data);
}
