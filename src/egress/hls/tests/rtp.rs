//! WebRTC publishers: packets, sender reports, layers.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use opus::{Application, Channels, Encoder};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{
    flv::{at_ms, originals},
    player::{PICTURES, Player, wall},
};
use crate::{
    codec::{
        h264::{DecoderConfiguration, nal::split_lengths},
        packetize::packetize_avc,
    },
    egress::hls::{Packager, PackagerSettings, RenditionIndex, run::SOUND},
    media::{Codec, ExtendedSeq, MediaKind, TrackFormat},
    track::{
        Batch, ClockReference, Delivery, FrameDelivery, LayerIndex, LayerSnapshot, LayerState, OriginalFormat,
        Snapshot, TrackIndex, TrackPacket, TrackSnapshot,
    },
};

const IN_ORDER: &[u8] = include_bytes!("../../../../tests/fixtures/flv/in-order.flv");
pub const VIDEO: TrackIndex = TrackIndex(0);
pub const AUDIO: TrackIndex = TrackIndex(1);
/// Where the publisher's clocks stand at the beginning: near the end of what 32 bits hold, widened.
pub const VIDEO_TICKS: u64 = (2 << 32) - 90_000;
pub const AUDIO_TICKS: u64 = (2 << 32) - 24_000;

pub fn video() -> TrackFormat {
    TrackFormat { codec: Codec::H264, fmtp: String::new(), channels: 1 }
}

pub fn audio() -> TrackFormat {
    TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 }
}

/// A picture's packets, and when it is sent, in milliseconds.
pub type Sent = (u64, Vec<Arc<TrackPacket>>);

/// The test pictures as RTP, at times that `time_ms` gives for their number.
pub fn pictures(first_seq: u64, time_ms: impl Fn(u64) -> u64) -> Vec<Sent> {
    let units = originals(IN_ORDER);
    let units = units.iter().filter(|unit| unit.format.kind() == MediaKind::Video);
    let mut seq = first_seq;
    let mut sent = Vec::new();
    for (at, unit) in units.enumerate() {
        let OriginalFormat::Avc(record) = &*unit.format else { panic!("AVC") };
        let sets = DecoderConfiguration::parse(record).unwrap().parameter_sets;
        let nals = split_lengths(&unit.unit.data, 4).unwrap();
        let nals: Vec<_> = if unit.unit.keyframe { sets.into_iter().chain(nals).collect() } else { nals };
        let ms = time_ms(at as u64);
        let payloads = packetize_avc(&nals);
        let count = payloads.len();
        let packets = payloads.into_iter().enumerate().map(|(part, payload)| {
            seq += 1;
            Arc::new(TrackPacket {
                seq: ExtendedSeq(seq),
                time_ticks: VIDEO_TICKS + ms * 90,
                arrival: at_ms(ms),
                marker: part + 1 == count,
                capture: None,
                keyframe_start: unit.unit.keyframe && part == 0,
                payload,
            })
        });
        sent.push((ms, packets.collect()));
    }
    sent
}

fn at_30(at: u64) -> u64 {
    at * 100 / 3
}

/// Packets of Opus, 20 ms each.
pub fn sound(from_ms: u64, to_ms: u64) -> Vec<Sent> {
    let mut encoder = Encoder::new(48_000, Channels::Stereo, Application::Audio).unwrap();
    let of = |ms: u64| {
        let packet = TrackPacket {
            seq: ExtendedSeq(1_000 + ms / 20),
            time_ticks: AUDIO_TICKS + ms * 48,
            arrival: at_ms(ms),
            marker: false,
            capture: None,
            keyframe_start: false,
            payload: encoder.encode_vec(&[500; 1_920], 1_275).unwrap().into(),
        };
        (ms, vec![Arc::new(packet)])
    };
    (from_ms..to_ms).step_by(20).map(of).collect()
}

pub fn track(format: TrackFormat, layers: &[&str]) -> TrackSnapshot {
    let state = |rid: &&str| match rid.is_empty() {
        true => LayerState::only(),
        false => LayerState { active: true, ..LayerState::named(rid) },
    };
    let layer = |rid| LayerSnapshot { state: state(rid), clock: None, packets: Some(Vec::new()) };
    TrackSnapshot { epoch: 0, format, layers: layers.iter().map(layer).collect() }
}

pub fn snapshot(publication: u64, tracks: Vec<TrackSnapshot>) -> FrameDelivery {
    FrameDelivery::Rtp(Delivery::Snapshot(Arc::new(Snapshot { publication, sound_lags: false, tracks })))
}

pub fn reported(track: TrackIndex, layer: u8, at: Instant, time_ticks: u64) -> FrameDelivery {
    let reference = ClockReference { at, time_ticks, by_report: true };
    FrameDelivery::Rtp(Delivery::Clock { track, layer: LayerIndex(layer), reference })
}

/// Delivers several tracks' and layers' packets in order of time.
fn play(player: &mut Player, mut all: Vec<(TrackIndex, u8, Sent)>) {
    all.sort_by_key(|(_, _, (ms, _))| *ms);
    for (track, layer, (ms, packets)) in all {
        let batch = Batch { track, layer: LayerIndex(layer), packets };
        player.deliver(at_ms(ms), FrameDelivery::Rtp(Delivery::Packets(Arc::new([batch]))));
    }
}

pub fn of(track: TrackIndex, layer: u8, sent: Vec<Sent>) -> impl Iterator<Item = (TrackIndex, u8, Sent)> {
    sent.into_iter().map(move |sent| (track, layer, sent))
}

pub fn player(opus: bool) -> Player {
    Player::new(Packager::new(PackagerSettings { opus, ..PackagerSettings::default() }))
}

#[test]
fn pictures_and_sound_are_put_together_by_what_the_publisher_reports() {
    for opus in [false, true] {
        let mut player = player(opus);
        player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""]), track(audio(), &[""])]));
        // The pictures of a time come 80 ms later than its sound: the camera is slow.
        player.deliver(at_ms(0), reported(VIDEO, 0, at_ms(0), VIDEO_TICKS + 80 * 90));
        player.deliver(at_ms(0), reported(AUDIO, 0, at_ms(0), AUDIO_TICKS));
        play(&mut player, of(VIDEO, 0, pictures(9, at_30)).chain(of(AUDIO, 0, sound(0, 4_000))).collect());
        let (pictures, sound) = (player.pictures(), player.sound());
        assert_eq!(sound.description.codecs, if opus { "Opus" } else { "mp4a.40.2" });
        assert_eq!(pictures.description.codecs, "avc1.64000b");
        assert_eq!(pictures.segments_s().len(), 4);
        // The first picture was taken 80 ms before the first sound: at that sound's time, the third is shown.
        let frame = if opus { 960.0 } else { 1_024.0 } / 48_000.0;
        for (picture, sound) in pictures.segments_s().iter().zip(sound.segments_s()).skip(1) {
            assert!((picture - sound).abs() <= frame, "{picture} {sound}");
        }
        if opus {
            let first = sound.shown_s()[0];
            assert!((first - 0.080).abs() < 0.000_1, "{first}");
        }
        assert!(player.keyframes_asked <= 1, "they come by themselves: {}", player.keyframes_asked);
        let captured = pictures.parts[0].0.captured;
        assert!(captured == wall(at_ms(0)) - Duration::from_millis(80), "{captured:?}");
    }
}

#[test]
fn reports_that_come_later_move_the_pictures_little_by_little() {
    let mut player = player(true);
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""]), track(audio(), &[""])]));
    let pictures_sent = pictures(9, at_30);
    let (before, after): (Vec<_>, Vec<_>) = pictures_sent.into_iter().partition(|(ms, _)| *ms < 1_500);
    let (sound_before, sound_after): (Vec<_>, Vec<_>) = sound(0, 4_000).into_iter().partition(|(ms, _)| *ms < 1_500);
    play(&mut player, of(VIDEO, 0, before).chain(of(AUDIO, 0, sound_before)).collect());
    player.deliver(at_ms(1_500), reported(AUDIO, 0, at_ms(1_500), AUDIO_TICKS + 1_500 * 48));
    player.deliver(at_ms(1_500), reported(VIDEO, 0, at_ms(1_500), VIDEO_TICKS + 1_460 * 90));
    play(&mut player, of(VIDEO, 0, after).chain(of(AUDIO, 0, sound_after)).collect());
    let shown = player.pictures().shown_s();
    let steps: Vec<_> = shown.windows(2).map(|pair| pair[1] - pair[0]).collect();
    assert!(steps.iter().all(|step| (0.032..0.036).contains(step)), "{steps:?}");
    let moved = shown.last().unwrap() - (shown.len() - 1) as f64 / 30.0;
    assert!((moved - 0.040).abs() < 0.002, "{moved}");
}

#[test]
fn a_lost_picture_is_waited_for_and_then_the_next_keyframe_is() {
    let mut player = player(false);
    player.lenient = true;
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""])]));
    let mut sent = pictures(9, at_30);
    // The 21st picture is lost, the 41st comes 200 ms late.
    let late = sent.remove(40);
    sent.remove(20);
    let late = (late.0 + 200, late.1);
    play(&mut player, of(VIDEO, 0, sent).chain(of(VIDEO, 0, vec![late])).collect());
    player.poll_until(at_ms(5_000));
    let pictures = player.pictures();
    assert_eq!(pictures.samples().count(), 120 - 10, "those of a second after the loss, and no others");
    assert!(player.keyframes_asked > 0);
}

#[test]
fn pictures_that_were_left_out_make_no_part_too_short_and_move_no_other() {
    for seed in 0..40 {
        let mut random = StdRng::seed_from_u64(seed);
        let mut player = player(false);
        player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""])]));
        // After two seconds without a fault, one picture in six is missing, and now and then the one after it, too.
        let mut number = 0;
        let times: Vec<u64> = (0..120)
            .map(|at| {
                let missing = if at < 60 || random.random_range(0..6) > 0 { 0 } else { random.random_range(1..=2) };
                number += 1 + missing;
                at_30(number)
            })
            .collect();
        play(&mut player, of(VIDEO, 0, pictures(9, |at| times[at as usize])).collect());
        player.deliver(at_ms(times[119] + 40), snapshot(2, vec![]));
        // That no part is too short or too long is checked by the player.
        let shown = player.pictures().shown_s();
        assert_eq!(shown.len(), 120, "seed {seed}");
        for (shown, sent) in shown.iter().zip(&times) {
            let sent = (sent - times[0]) as f64 / 1_000.0;
            assert!((shown - sent).abs() < 0.001, "seed {seed}: shown at {shown}, not {sent}");
        }
    }
}

#[test]
fn sparse_pictures_get_parts_that_are_long_enough() {
    let mut player = player(false);
    // Its keyframes are 30 s apart: segments end without them.
    player.lenient = true;
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""])]));
    // A picture a second, all of them known when packaging begins: a screen that is shared.
    let sent = pictures(9, |at| at * 1_000);
    let (cached, live): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(ms, _)| *ms < 12_000);
    let batches = cached.into_iter().map(|(_, packets)| Batch { track: VIDEO, layer: LayerIndex(0), packets });
    let packets: Vec<_> = batches.flat_map(|batch| batch.packets).collect();
    let mut cached = track(video(), &[""]);
    cached.layers[0].packets = Some(packets);
    player.deliver(at_ms(12_000), snapshot(1, vec![cached]));
    play(&mut player, of(VIDEO, 0, live).collect());
    let target = player.pictures().part_target;
    assert!((1_000..1_100).contains(&target.as_millis()), "{target:?}");
}

#[test]
fn a_pause_is_filled_on_time_and_gone_on_after_without_a_hole() {
    let mut player = player(false);
    player.lenient = true;
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""])]));
    let pause = |at: u64| at_30(at) + if at >= 40 { 900 } else { 0 };
    let sent = pictures(9, pause);
    let (before, after): (Vec<_>, Vec<_>) = sent.into_iter().partition(|(ms, _)| *ms < 2_000);
    play(&mut player, of(VIDEO, 0, before).collect());
    player.poll_until(at_ms(1_900));
    let filled = player.pictures().end_s();
    assert!(filled >= 39.0 / 30.0 + 0.033, "what was there is published although nothing came: {filled}");
    play(&mut player, of(VIDEO, 0, after).collect());
    player.deliver(at_ms(5_000), snapshot(1, vec![]));
    let shown = player.pictures().shown_s();
    assert_eq!(shown.len(), 120);
    let last = shown.last().unwrap();
    assert!((last - (0.9 + 119.0 / 30.0)).abs() < 0.01, "back in time: {last}");
}

#[test]
fn layers_are_cut_together_whatever_their_keyframes() {
    let mut player = player(false);
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &["h", "l"])]));
    let low = pictures(9, at_30);
    // The other layer runs 50 ms behind.
    let mut high = pictures(5_000, at_30);
    high.iter_mut().for_each(|(ms, _)| *ms += 50);
    play(&mut player, of(VIDEO, 1, low).chain(of(VIDEO, 0, high)).collect());
    let [high, low] = [0, 1].map(|at| player.stretch(RenditionIndex(at)).clone());
    assert_eq!((high.description.rid.as_deref(), low.description.rid.as_deref()), (Some("h"), Some("l")));
    assert_eq!((high.segments_s().len(), low.segments_s().len()), (4, 4));
}

#[test]
fn a_layer_that_stops_ends_and_begins_again() {
    let mut player = player(false);
    player.lenient = true;
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &["h", "l"])]));
    let sent = pictures(9, at_30);
    let until = |to: u64, sent: &[Sent]| sent.iter().filter(|(ms, _)| *ms < to).cloned().collect::<Vec<_>>();
    play(&mut player, of(VIDEO, 0, until(1_500, &sent)).chain(of(VIDEO, 1, until(1_500, &sent))).collect());
    let states = |active| {
        let state = |rid, active| LayerState { active, ..LayerState::named(rid) };
        FrameDelivery::Rtp(Delivery::Layers { track: VIDEO, states: Arc::new([state("h", active), state("l", true)]) })
    };
    player.deliver(at_ms(1_500), states(false));
    assert_eq!(player.ended, [PICTURES]);
    player.deliver(at_ms(1_600), states(true));
    let rest: Vec<_> = sent.into_iter().filter(|(ms, _)| *ms >= 1_900).collect();
    play(&mut player, of(VIDEO, 0, rest.clone()).chain(of(VIDEO, 1, rest)).collect());
    assert_eq!(player.stretches[&PICTURES].len(), 2);
    assert_eq!(player.stretches[&RenditionIndex(1)].len(), 2, "discontinuities are common to all");
}

#[test]
fn another_publisher_goes_on_where_the_last_one_was() {
    let mut player = player(false);
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""])]));
    play(&mut player, of(VIDEO, 0, pictures(9, at_30)).collect());
    player.deliver(at_ms(5_000), snapshot(2, vec![track(video(), &[""])]));
    play(&mut player, of(VIDEO, 0, pictures(77, |at| 6_000 + at_30(at))).collect());
    player.deliver(at_ms(10_500), snapshot(2, vec![]));
    let [first, second] = &player.stretches[&PICTURES][..] else { panic!("two") };
    assert_eq!((first.samples().count(), second.samples().count()), (120, 120));
    let gap = second.start_s() - first.end_s();
    assert!((0.0..0.001).contains(&gap), "{gap}");
    assert_eq!(player.ended, [PICTURES; 2]);
}

#[test]
fn a_backup_that_takes_over_begins_with_its_last_keyframe() {
    let mut player = player(true);
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""]), track(audio(), &[""])]));
    let until = |to: u64, sent: Vec<Sent>| sent.into_iter().filter(move |(ms, _)| *ms < to).collect::<Vec<_>>();
    let before = [until(2_500, pictures(9, at_30)), sound(0, 2_500)];
    let [shown, heard] = before.clone();
    play(&mut player, of(VIDEO, 0, shown).chain(of(AUDIO, 0, heard)).collect());
    // Another one of the same has been there as long.
    let [pictures_track, sound_track] = [track(video(), &[""]), track(audio(), &[""])];
    let kept = [(pictures_track, pictures(7_000, at_30)), (sound_track, sound(0, 2_500))].map(|(mut track, sent)| {
        track.layers[0].packets = Some(until(2_500, sent).into_iter().flat_map(|(_, packets)| packets).collect());
        track
    });
    player.deliver(at_ms(2_500), snapshot(2, kept.into()));
    let after = pictures(7_000, at_30).into_iter().filter(|(ms, _)| *ms >= 2_500).collect();
    play(&mut player, of(VIDEO, 0, after).chain(of(AUDIO, 0, sound(2_500, 4_000))).collect());
    player.deliver(at_ms(4_500), snapshot(2, vec![]));
    let [[_, pictures], [_, sound]] = [PICTURES, SOUND].map(|of| &player.stretches[&of][..]) else {
        panic!("two each")
    };
    assert_eq!(pictures.samples().count(), 60, "those of the last two seconds");
    assert!(pictures.parts[0].0.captured >= wall(at_ms(2_000)));
    let begins_s = sound.start_s() - pictures.start_s();
    assert!(begins_s.abs() <= 0.011, "{begins_s}");
}

#[test]
fn a_backup_without_pictures_begins_with_what_came_last() {
    let mut player = player(true);
    player.deliver(at_ms(0), snapshot(1, vec![track(audio(), &[""])]));
    play(&mut player, of(TrackIndex(0), 0, sound(0, 2_500)).collect());
    let mut kept = track(audio(), &[""]);
    kept.layers[0].packets = Some(sound(0, 2_500).into_iter().flat_map(|(_, packets)| packets).collect());
    player.deliver(at_ms(2_500), snapshot(2, vec![kept]));
    play(&mut player, of(TrackIndex(0), 0, sound(2_500, 4_000)).collect());
    player.deliver(at_ms(4_500), snapshot(2, vec![]));
    let [_, second] = &player.stretches[&SOUND][..] else { panic!("two") };
    assert_eq!(second.samples().count(), 1 + 1_500 / 20);
}

#[test]
fn sound_that_appears_late_begins_beside_the_pictures() {
    let mut player = player(false);
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""]), track(audio(), &[""])]));
    play(&mut player, of(VIDEO, 0, pictures(9, at_30)).chain(of(AUDIO, 0, sound(2_400, 4_000))).collect());
    assert_eq!(player.pictures().parts.len(), 19);
    let begins = player.sound().start_s();
    assert!((begins - 2.4).abs() < 0.1, "{begins}");
    let segments = player.sound().segments_s();
    assert!((segments[1] - 3.0).abs() < 0.022, "{segments:?}");
}

#[test]
fn sound_alone_has_segments_of_its_own() {
    let mut player = player(false);
    player.deliver(at_ms(0), snapshot(1, vec![track(audio(), &[""])]));
    play(&mut player, of(TrackIndex(0), 0, sound(0, 9_000)).collect());
    let segments = player.sound().segments_s();
    assert!(segments.windows(2).all(|pair| (2.0..2.05).contains(&(pair[1] - pair[0]))), "{segments:?}");
    assert_eq!(player.sound().part_target, Duration::from_millis(192));
}

#[test]
fn sound_that_stops_goes_on_in_silence() {
    for opus in [false, true] {
        let mut player = player(opus);
        player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""]), track(audio(), &[""])]));
        let voice = sound(0, 1_000).into_iter().chain(sound(3_000, 4_000));
        play(&mut player, of(VIDEO, 0, pictures(9, at_30)).chain(of(AUDIO, 0, voice.collect())).collect());
        let (pictures, sound) = (player.pictures(), player.sound());
        assert!(sound.end_s() > pictures.end_s() - 0.4, "{} {}", sound.end_s(), pictures.end_s());
        let usual = if opus { 960 } else { 1_024 };
        assert!(sound.samples().filter(|sample| sample.duration != usual).count() <= 2);
    }
}

#[test]
fn another_size_is_a_discontinuity_of_everything() {
    let mut player = player(true);
    player.deliver(at_ms(0), snapshot(1, vec![track(video(), &[""]), track(audio(), &[""])]));
    let mut sent = pictures(9, at_30);
    // From the third second on the pictures have a different picture parameter set.
    for (_, packets) in sent.iter_mut().filter(|(ms, _)| *ms >= 2_000) {
        for packet in packets.iter_mut() {
            let mut payload = packet.payload.to_vec();
            if packet.keyframe_start {
                // An aggregation: a byte more for the unit of type 8.
                let mut at = 1;
                while payload[at + 2] & 0x1f != 8 {
                    at += 2 + usize::from(payload[at + 1]);
                }
                payload[at + 1] += 1;
                payload.insert(at + 1 + usize::from(payload[at + 1]), 0x80);
            }
            *packet = Arc::new(TrackPacket { payload: Bytes::from(payload), ..(**packet).clone() });
        }
    }
    play(&mut player, of(VIDEO, 0, sent).chain(of(AUDIO, 0, sound(0, 4_000))).collect());
    for rendition in [PICTURES, SOUND] {
        let [first, second] = &player.stretches[&rendition][..] else { panic!("two of {rendition:?}") };
        assert!((first.end_s() - second.start_s()).abs() < 0.000_1, "the timeline goes on");
        assert_eq!(first.initialization == second.initialization, rendition == SOUND);
    }
    let [pictures, sound] = [PICTURES, SOUND].map(|rendition| player.stretches[&rendition][1].start_s());
    assert!((pictures - sound).abs() <= 0.011, "{pictures} {sound}");
}

#[test]
fn pictures_that_hls_cannot_show_are_refused_with_the_reason() {
    let mut player = player(false);
    let vp8 = TrackFormat { codec: Codec::Vp8, ..video() };
    player.deliver(at_ms(0), snapshot(1, vec![track(audio(), &[""]), track(vp8, &[""])]));
    play(&mut player, of(VIDEO, 0, sound(0, 2_000)).collect());
    assert!(player.packager.refusal().is_some_and(|reason| reason.contains("VP8")));
    assert!(player.stretches.is_empty());
    player.deliver(at_ms(3_000), snapshot(2, vec![track(video(), &[""])]));
    assert_eq!(player.packager.refusal(), None);
}
