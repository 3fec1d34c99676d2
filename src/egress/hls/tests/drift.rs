//! A day of an RTMP publisher whose sound card is not the clock of its times: sound stays a count of samples, and pictures stay with it.
//!
//! A picture a second and frames of AAC at 8 kHz, eight bytes each: whole parts are written and read, but few of them, and what is decoded
//! by nobody.

use std::sync::Arc;

use bytes::Bytes;

use super::{
    flv::{START_MS, at_ms, originals},
    player::{PICTURES, Player, wall},
    read::read_part,
};
use crate::{
    egress::hls::{Output, Packager, PackagerSettings, run::SOUND},
    media::{AccessUnit, MediaKind},
    track::{FrameDelivery, Original, OriginalFormat, Originals, OriginalsSnapshot},
};

const RATE_HZ: f64 = 8_000.0;
const FRAME_TICKS: u64 = 1_024;
const DAY_S: u64 = 86_400;
/// As if a muxer had made room for B-frames in composition offsets only.
const COMPOSITION_MS: [i32; 4] = [0, 200, -100, -100];

fn unit(format: &Arc<OriginalFormat>, number: &mut u64, ms: u64, composition_ms: i32, data: Bytes) -> Original {
    *number += 1;
    let decode_time_ticks = START_MS + ms;
    let unit = AccessUnit { decode_time_ticks, composition_offset_ticks: composition_ms, keyframe: true, data };
    Original { number: *number, format: format.clone(), arrival: at_ms(ms), unit }
}

/// Plays a day; gives the most that a picture or a frame of sound was shown before or after its time, and the most that the two were apart.
fn day(card_ppm: f64) -> (f64, f64) {
    let fixture = originals(include_bytes!("../../../../tests/fixtures/flv/in-order.flv"));
    let keyframe = fixture.iter().find(|unit| unit.format.kind() == MediaKind::Video).unwrap();
    // An IDR slice that says nothing.
    let picture = |at: u64| Bytes::from([&[0, 0, 0, 9, 0x65][..], &at.to_be_bytes()].concat());
    let aac = Arc::new(OriginalFormat::Aac(Bytes::from_static(&[0x15, 0x88])));
    let settings = PackagerSettings { part: std::time::Duration::from_secs(2), ..PackagerSettings::default() };
    let mut packager = Packager::new(settings);
    let formats = vec![keyframe.format.clone(), aac.clone()];
    let begin = OriginalsSnapshot { publication: 1, formats, units: Vec::new(), ..OriginalsSnapshot::default() };
    let mut out = Vec::new();
    packager.handle(at_ms(0), wall(at_ms(0)), FrameDelivery::Originals(Originals::Snapshot(Arc::new(begin))), &mut out);
    let (mut number, mut frame) = (0, 0u64);
    let frame_ms = FRAME_TICKS as f64 * 1_000.0 / RATE_HZ * (1.0 - card_ppm / 1e6);
    let mut ends = [None; 2];
    let mut off_s: [f64; 2] = [0.0; 2];
    let mut apart_s: f64 = 0.0;
    for second in 0..DAY_S {
        let composition_ms = COMPOSITION_MS[(second % 4) as usize];
        let mut units = vec![unit(&keyframe.format, &mut number, second * 1_000, composition_ms, picture(second))];
        while (frame as f64) * frame_ms < (second + 1) as f64 * 1_000.0 {
            let ms = (frame as f64 * frame_ms).round() as u64;
            units.push(unit(&aac, &mut number, ms, 0, Bytes::copy_from_slice(&frame.to_be_bytes())));
            frame += 1;
        }
        let now = at_ms(second * 1_000 + 999);
        packager.handle(now, wall(now), FrameDelivery::Originals(Originals::Units(units.into())), &mut out);
        for output in out.drain(..) {
            let Output::Part { rendition, part } = output else { continue };
            let read = read_part(&part.bytes);
            let (at, rate) = if rendition == PICTURES { (0, 90_000.0) } else { (1, RATE_HZ) };
            assert!(rendition == PICTURES || rendition == SOUND);
            assert!(ends[at].is_none_or(|end| end == read.decode_ticks), "no hole and no overlap");
            ends[at] = Some(read.decode_ticks + read.duration());
            for (shown, sample) in read.presented().iter().zip(&read.samples) {
                let which = u64::from_be_bytes(*sample.data.last_chunk().unwrap());
                let captured_s = if at == 0 {
                    which as f64 + f64::from(COMPOSITION_MS[(which % 4) as usize]) / 1_000.0
                } else {
                    assert_eq!(u64::from(sample.duration), FRAME_TICKS, "a count of samples");
                    which as f64 * frame_ms / 1_000.0
                };
                off_s[at] = *shown as f64 / rate - captured_s;
                apart_s = apart_s.max((off_s[0] - off_s[1]).abs());
            }
        }
    }
    (off_s[1], apart_s)
}

#[test]
fn pictures_follow_a_day_of_sound_from_another_clock() {
    for card_ppm in [50.0, -50.0] {
        let (sound_off_s, apart_s) = day(card_ppm);
        assert!(apart_s < 0.010, "{card_ppm} ppm: {apart_s} s apart");
        // The count of samples has moved by what the two clocks differ.
        assert!((sound_off_s - card_ppm * 0.086_4).abs() < 0.01, "{card_ppm} ppm: {sound_off_s} s");
    }
}

#[test]
fn parts_keep_to_their_lengths_while_pictures_follow() {
    // Ten times what sound cards are off by, at usual rates: the player holds every part to the rules.
    for card_ppm in [500.0, -500.0] {
        let fixture = originals(include_bytes!("../../../../tests/fixtures/flv/in-order.flv"));
        let kept = |kind| fixture.iter().find(|unit| unit.format.kind() == kind && unit.unit.keyframe).unwrap();
        let (picture, sound) = (kept(MediaKind::Video), kept(MediaKind::Audio));
        let mut player = Player::new(Packager::new(PackagerSettings::default()));
        let formats = vec![picture.format.clone(), sound.format.clone()];
        let begin = OriginalsSnapshot { publication: 1, formats, units: Vec::new(), ..OriginalsSnapshot::default() };
        player.deliver(at_ms(0), FrameDelivery::Originals(Originals::Snapshot(Arc::new(begin))));
        let frame_ms = 1_024_000.0 / 44_100.0 * (1.0 - card_ppm / 1e6);
        let (mut number, mut frame) = (0, 0.0);
        for at in 0..60 * 30 {
            let ms = (at * 100 + 50) / 3;
            while frame * frame_ms < ms as f64 {
                let data = sound.unit.data.clone();
                let unit = unit(&sound.format, &mut number, (frame * frame_ms).round() as u64, 0, data);
                player.deliver(at_ms(ms), FrameDelivery::Originals(Originals::Units(Arc::new([unit]))));
                frame += 1.0;
            }
            // Keyframes every second.
            let slice = [0, 0, 0, 2, if at % 30 == 0 { 0x65 } else { 0x61 }, 0];
            let unit = unit(&picture.format, &mut number, ms, 0, Bytes::copy_from_slice(&slice));
            player.deliver(at_ms(ms), FrameDelivery::Originals(Originals::Units(Arc::new([unit]))));
        }
        let (pictures, sound) = (player.pictures(), player.sound());
        assert!(sound.samples().all(|sample| sample.duration == 1_024), "a count of samples");
        let lasted = |shown: Vec<f64>| (shown.len() as f64 - 1.0, shown.last().unwrap() - shown[0]);
        let ((pictures, pictures_s), (frames, frames_s)) = (lasted(pictures.shown_s()), lasted(sound.shown_s()));
        let drifted_s = pictures_s - frames_s - (pictures / 30.0 - frames * frame_ms / 1_000.0);
        assert!(drifted_s.abs() < 0.004, "{card_ppm} ppm: {drifted_s} s; without following 30 ms");
    }
}
