//! Sound in, sound out: is it all there, and at its time?

use opus::{Application, Encoder as OpusEncoder};

use super::*;
use crate::{
    codec::opus::FRAME_SAMPLES,
    transcode::{aac_decoder::AacDecoder, resample::CHANNELS as STEREO},
};

/// Packets of 20 ms with a tone of 1 kHz that begins at `onset` samples; their times say when it is to be heard.
fn tone(onset: i64, packets: usize) -> Vec<(i64, Vec<u8>)> {
    let mut encoder = OpusEncoder::new(CLOCK_HZ, Channels::Stereo, Application::LowDelay).unwrap();
    let look_ahead = i64::from(encoder.get_lookahead().unwrap());
    let made = (0..packets as i64).map(|at| {
        let first = at * FRAME_SAMPLES as i64;
        let pcm: Vec<i16> = (first..first + FRAME_SAMPLES as i64)
            .flat_map(|sample| {
                let s = sample as f64 / f64::from(CLOCK_HZ);
                let value = if sample < onset { 0.0 } else { (s * 1_000.0 * std::f64::consts::TAU).sin() * 16_000.0 };
                [value as i16; STEREO]
            })
            .collect();
        (first - look_ahead, encoder.encode_vec(&pcm, 1_275).unwrap())
    });
    made.collect()
}

/// When a player hears the tone begin: in samples, on the clock of the frames' times.
fn heard(configuration: &[u8], frames: &[AacFrame]) -> i64 {
    let mut decoder = AacDecoder::open(configuration).unwrap();
    let mut pcm = vec![0; 4_096 * STEREO];
    for frame in frames {
        let decoded = decoder.decode(&frame.data, &mut pcm).unwrap();
        assert_eq!((decoded.samples, decoded.delay_samples), (AAC_FRAME_SAMPLES, 0));
        let loud = pcm[..decoded.samples * STEREO].chunks(STEREO).position(|values| values[0].abs() > 4_000);
        if let Some(loud) = loud {
            return frame.time_ticks + loud as i64;
        }
    }
    panic!("no tone");
}

fn pushed(packets: &[(i64, Vec<u8>)]) -> (Bytes, Vec<AacFrame>) {
    let mut transcoder = OpusToAac::new().unwrap();
    let mut frames = Vec::new();
    for (time, packet) in packets {
        transcoder.push(packet, *time, |frame| frames.push(frame)).unwrap();
    }
    (transcoder.configuration().clone(), frames)
}

fn follow(frames: &[AacFrame]) -> bool {
    frames.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks == AAC_FRAME_SAMPLES as i64)
}

#[test]
fn a_sound_is_heard_when_the_publisher_made_it() {
    const ONSET: i64 = 30_000;
    let (configuration, frames) = pushed(&tone(ONSET, 60));
    assert!(follow(&frames));
    assert!((50..60).contains(&frames.len()), "{}", frames.len());
    let off = heard(&configuration, &frames) - ONSET;
    // A quarter of a period to be loud, and what the codecs smear.
    assert!((-60..60).contains(&off), "{off} samples off");
}

#[test]
fn what_is_missing_is_made_good_and_the_rest_stays_in_its_place() {
    const ONSET: i64 = 60_000;
    for lost in [10..11, 10..13, 10..40] {
        let mut packets = tone(ONSET, 90);
        packets.drain(lost.clone());
        let (configuration, frames) = pushed(&packets);
        assert!(follow(&frames), "{lost:?}");
        let off = heard(&configuration, &frames) - ONSET;
        assert!((-60..60).contains(&off), "{lost:?}: {off} samples off");
    }
}

#[test]
fn silence_fills_and_what_comes_for_its_time_is_left_out() {
    const ONSET: i64 = 60_000;
    let packets = tone(ONSET, 90);
    let mut transcoder = OpusToAac::new().unwrap();
    let mut frames = Vec::new();
    for (time, packet) in &packets[..20] {
        transcoder.push(packet, *time, |frame| frames.push(frame)).unwrap();
    }
    transcoder.silence_until(50_000, |frame| frames.push(frame)).unwrap();
    assert_eq!(transcoder.end_ticks(), Some(50_000));
    for (time, packet) in &packets[45..] {
        transcoder.push(packet, *time, |frame| frames.push(frame)).unwrap();
    }
    assert!(follow(&frames));
    let off = heard(&transcoder.configuration().clone(), &frames) - ONSET;
    assert!((-60..60).contains(&off), "{off} samples off");
}

#[test]
fn a_jump_in_time_begins_anew_and_damage_does_no_harm() {
    let packets = tone(0, 20);
    let mut transcoder = OpusToAac::new().unwrap();
    let mut frames = Vec::new();
    for (time, packet) in &packets {
        transcoder.push(packet, *time, |frame| frames.push(frame)).unwrap();
    }
    let before = frames.len();
    let hour = 3_600 * i64::from(CLOCK_HZ);
    transcoder.push(&[0xff; 3], hour, |frame| frames.push(frame)).unwrap();
    for (time, packet) in &packets {
        transcoder.push(packet, hour + *time, |frame| frames.push(frame)).unwrap();
    }
    assert!(frames[before + 2].time_ticks > hour - 10_000);
    assert!(follow(&frames[..before]) && follow(&frames[before + 2..]));
}
