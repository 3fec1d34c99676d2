//! Sound in, sound out: is it all there, and at its time?

use fdk_aac::enc::{
    AudioObjectType, BitRate, ChannelMode, Encoder as AacEncoder, EncoderParams, Transport as AacTransport,
};

use super::*;

/// A tone of 1 kHz that begins at `onset_s`, as AAC-LC frames with their times in milliseconds; and how late the encoder
/// makes it.
struct Tone {
    config: Vec<u8>,
    frames: Vec<(i64, Vec<u8>)>,
    encoder_delay_s: f64,
}

fn tone(rate_hz: u32, channels: usize, onset_s: f64, length_s: f64) -> Tone {
    tone_of(AudioObjectType::Mpeg4LowComplexity, rate_hz, channels, onset_s, length_s)
}

fn tone_of(object_type: AudioObjectType, rate_hz: u32, channels: usize, onset_s: f64, length_s: f64) -> Tone {
    // The high-efficiency profiles are for low rates.
    let bit_rate = if matches!(object_type, AudioObjectType::Mpeg4LowComplexity) { 64_000 } else { 20_000 };
    let encoder = AacEncoder::new(EncoderParams {
        bit_rate: BitRate::Cbr(bit_rate * channels as u32),
        sample_rate: rate_hz,
        transport: AacTransport::Raw,
        channels: if channels == 1 { ChannelMode::Mono } else { ChannelMode::Stereo },
        audio_object_type: object_type,
    })
    .unwrap();
    let info = encoder.info().unwrap();
    let config = info.confBuf[..info.confSize as usize].to_vec();
    let frame_samples = info.frameLength as usize;
    let rate = f64::from(rate_hz);
    let mut frames = Vec::new();
    for at in 0..(length_s * rate) as usize / frame_samples {
        let first = at * frame_samples;
        let pcm: Vec<i16> = (first..first + frame_samples)
            .flat_map(|sample| {
                let s = sample as f64 / rate;
                let value = if s < onset_s { 0.0 } else { (s * 1_000.0 * std::f64::consts::TAU).sin() * 16_000.0 };
                std::iter::repeat_n(value as i16, channels)
            })
            .collect();
        let mut out = vec![0; 4_096];
        let made = encoder.encode(&pcm, &mut out).unwrap().output_size;
        if made > 0 {
            out.truncate(made);
            let time_ms = (frames.len() * frame_samples) as f64 * 1_000.0 / rate;
            frames.push((time_ms.round() as i64, out));
        }
    }
    Tone { config, frames, encoder_delay_s: f64::from(info.nDelay) / rate }
}

/// What a listener hears: when the tone begins, in seconds of the media clock, and its mean power after that.
fn listen(packets: &[OpusPacket]) -> (f64, f64) {
    let mut decoder = opus::Decoder::new(CLOCK_HZ, Channels::Stereo).unwrap();
    let (mut onset, mut power, mut count) = (None, 0.0, 0u32);
    for packet in packets {
        let mut pcm = [0f32; FRAME_SAMPLES * CHANNELS];
        assert_eq!(decoder.decode_float(&packet.payload, &mut pcm, false).unwrap(), FRAME_SAMPLES);
        for (at, pair) in pcm.chunks(CHANNELS).enumerate() {
            if onset.is_none() && pair[0].abs() > 0.1 {
                onset = Some((packet.time_ticks + at as i64) as f64 / f64::from(CLOCK_HZ));
            }
            if onset.is_some() {
                power += f64::from(pair[0]).powi(2) + f64::from(pair[1]).powi(2);
                count += 2;
            }
        }
    }
    (onset.expect("a tone"), power / f64::from(count))
}

fn run(tone: &Tone) -> Vec<OpusPacket> {
    let mut codec = AacToOpus::new(&tone.config).unwrap();
    let mut packets = Vec::new();
    for (time_ms, frame) in &tone.frames {
        codec.push(frame, *time_ms, |packet| packets.push(packet)).unwrap();
    }
    packets
}

#[test]
fn sound_keeps_its_energy_and_its_time_at_every_rate() {
    for (rate_hz, channels) in [(48_000, 2), (44_100, 2), (44_100, 1), (32_000, 1), (22_050, 2), (16_000, 1)] {
        let tone = tone(rate_hz, channels, 1.0, 3.0);
        let packets = run(&tone);
        let (onset_s, power) = listen(&packets);
        let late_ms = (onset_s - 1.0 - tone.encoder_delay_s) * 1_000.0;
        assert!(late_ms.abs() < 3.0, "{rate_hz} Hz, {channels}: {late_ms} ms late");
        // A sine of amplitude 16,000 / 32,768 has the power 0.119.
        assert!((0.10..0.14).contains(&power), "{rate_hz} Hz, {channels}: {power}");
        for pair in packets.windows(2) {
            assert_eq!(pair[1].time_ticks - pair[0].time_ticks, FRAME_SAMPLES as i64, "rounded times make no steps");
        }
    }
}

#[test]
fn high_efficiency_is_heard_whole_and_in_time() {
    for (object_type, rate_hz, channels) in [
        (AudioObjectType::Mpeg4HeAac, 48_000, 2),
        (AudioObjectType::Mpeg4HeAac, 44_100, 1),
        (AudioObjectType::Mpeg4HeAacV2, 44_100, 2),
    ] {
        let tone = tone_of(object_type, rate_hz, channels, 1.0, 3.0);
        let packets = run(&tone);
        let (onset_s, power) = listen(&packets);
        let late_ms = (onset_s - 1.0 - tone.encoder_delay_s) * 1_000.0;
        assert!(late_ms.abs() < 30.0, "{rate_hz} Hz, {channels}: {late_ms} ms late");
        assert!((0.08..0.16).contains(&power), "{rate_hz} Hz, {channels}: {power}");
        assert!(packets.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks == FRAME_SAMPLES as i64));
    }
}

#[test]
fn frames_of_960_samples_keep_their_time() {
    // The encoder makes none; but frames of 1,024 read as such are the same tone, 1/15 higher and earlier.
    let mut tone = tone(48_000, 2, 1.0, 3.0);
    tone.config[1] |= 0x04; // frameLengthFlag
    let frame = AudioSpecificConfig::parse(&tone.config).unwrap().frame_samples;
    assert_eq!(frame, 960);
    for (at, (time_ms, _)) in tone.frames.iter_mut().enumerate() {
        *time_ms = 20 * at as i64;
    }
    let packets = run(&tone);
    assert!(packets.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks == FRAME_SAMPLES as i64));
    let last_ms = tone.frames.last().unwrap().0;
    let end_ms = (packets.last().unwrap().time_ticks + FRAME_SAMPLES as i64) / TICKS_PER_MS;
    assert!((0..45).contains(&(last_ms + 20 - end_ms)), "{end_ms} of {last_ms}");
    let (onset_s, power) = listen(&packets);
    let late_ms = (onset_s - (1.0 + tone.encoder_delay_s) * 960.0 / 1_024.0) * 1_000.0;
    assert!(late_ms.abs() < 5.0, "{late_ms} ms late");
    assert!((0.08..0.16).contains(&power), "{power}");
}

#[test]
fn a_frame_is_out_soon_after_it_came_in() {
    let tone = tone(44_100, 2, 0.0, 2.0);
    let mut codec = AacToOpus::new(&tone.config).unwrap();
    for (time_ms, frame) in &tone.frames {
        let mut latest = None;
        codec.push(frame, *time_ms, |packet| latest = Some(packet)).unwrap();
        let Some(packet) = latest else { continue };
        let end_ticks = packet.time_ticks + FRAME_SAMPLES as i64;
        let frame_end_ticks = time_ms * TICKS_PER_MS + 1_115;
        let behind_ms = (frame_end_ticks - end_ticks) as f64 / TICKS_PER_MS as f64;
        assert!(
            behind_ms < 45.0,
            "{behind_ms} ms of sound are inside: decoder 15, packet < 20, encoder 6.5, resampler 0.7"
        );
    }
}

#[test]
fn a_gap_is_a_gap_and_sound_from_the_past_is_left_out() {
    let mut tone = tone(48_000, 2, 0.0, 3.0);
    let half = tone.frames.len() / 2;
    for (time_ms, _) in &mut tone.frames[half..] {
        *time_ms += 1_000;
    }
    let packets = run(&tone);
    let gaps: Vec<_> =
        packets.windows(2).map(|pair| pair[1].time_ticks - pair[0].time_ticks).filter(|t| *t != 960).collect();
    assert_eq!(gaps.len(), 1);
    assert!((47_000..50_000).contains(&gaps[0]), "{gaps:?}");
    assert_eq!(packets.iter().filter(|packet| packet.after_gap).count(), 2, "the first, and the one after the gap");
    for (time_ms, _) in &mut tone.frames[half..] {
        *time_ms -= 1_400;
    }
    let packets = run(&tone);
    assert!(packets.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks == 960), "times never step back");
}

#[test]
fn a_drift_is_followed() {
    // A publisher whose times run 2 % faster than its samples.
    let mut tone = tone(48_000, 2, 0.0, 6.0);
    for (time_ms, _) in &mut tone.frames {
        *time_ms += *time_ms / 50;
    }
    let end_ms = tone.frames.last().unwrap().0;
    let last_ms = run(&tone).last().unwrap().time_ticks / TICKS_PER_MS;
    assert!((end_ms - last_ms).abs() < 100, "{last_ms} ms of {end_ms}");
}

#[test]
fn a_sample_clock_that_is_off_is_followed_without_a_hole() {
    // Half a thousandth, ten times what sound cards are off by: 10 ms in 20 s, as 50 ppm have in 200 s.
    for slow in [1.0005, 0.9995] {
        let mut tone = tone(44_100, 2, 30.0, 40.0);
        for (at, (time_ms, _)) in tone.frames.iter_mut().enumerate() {
            *time_ms = (at as f64 * 1_024_000.0 / 44_100.0 * slow).round() as i64;
        }
        let packets = run(&tone);
        assert!(packets.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks == FRAME_SAMPLES as i64));
        let (onset_s, power) = listen(&packets);
        let late_ms = (onset_s - (30.0 + tone.encoder_delay_s) * slow) * 1_000.0;
        assert!(late_ms.abs() < 9.0, "{slow}: {late_ms} ms late; 15 ms had drifted, and stretching goes on");
        assert!((0.117..0.121).contains(&power), "{slow}: {power}, of a tone that no silence and no step interrupts");
    }
}

#[test]
fn damaged_frames_become_silence() {
    let mut tone = tone(44_100, 2, 0.0, 2.0);
    for (_, frame) in tone.frames.iter_mut().skip(20).take(15) {
        frame.iter_mut().for_each(|byte| *byte ^= 0x5a);
    }
    let packets = run(&tone);
    assert!(packets.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks == 960));
    assert!(packets.len() > 85, "{} packets of 2 s", packets.len());
}

#[test]
fn configurations_that_make_no_sense_are_refused() {
    assert!(matches!(AacToOpus::new(&[]), Err(TranscodeError::Config(_))));
    assert!(matches!(AacToOpus::new(&[0x12; 300]), Err(TranscodeError::Config(BadAudioConfig::TooLong(300)))));
    assert!(AacToOpus::new(&[0xf9, 0x50, 0, 0]).is_err());
}
