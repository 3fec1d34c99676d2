//! AAC of every length of frames: its samples last as long as what a decoder makes of them.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::{
    flv::{START_MS, at_ms},
    player::Player,
};
use crate::{
    egress::hls::{Packager, PackagerSettings},
    media::AccessUnit,
    track::{FrameDelivery, Original, OriginalFormat, Originals, OriginalsSnapshot},
};

/// Twenty seconds of sound alone, its times rounded to milliseconds.
fn play(configuration: &'static [u8], frame_s: f64) -> Player {
    let format = Arc::new(OriginalFormat::Aac(Bytes::from_static(configuration)));
    let mut player = Player::new(Packager::new(PackagerSettings::default()));
    let begin = OriginalsSnapshot {
        publication: 1,
        formats: vec![format.clone()],
        units: Vec::new(),
        ..OriginalsSnapshot::default()
    };
    player.deliver(at_ms(0), FrameDelivery::Originals(Originals::Snapshot(Arc::new(begin))));
    for at in 0..(20.0 / frame_s) as u64 {
        let ms = (at as f64 * frame_s * 1_000.0).round() as u64;
        let unit = AccessUnit {
            decode_time_ticks: START_MS + ms,
            composition_offset_ticks: 0,
            keyframe: true,
            data: Bytes::copy_from_slice(&at.to_be_bytes()),
        };
        let original = Original { number: at + 1, format: format.clone(), arrival: at_ms(ms), unit };
        player.deliver(at_ms(ms), FrameDelivery::Originals(Originals::Units(Arc::new([original]))));
    }
    player.poll_until(at_ms(22_000));
    player
}

#[test]
fn samples_last_as_long_as_the_configuration_says() {
    for (configuration, codecs, rate_hz, duration) in [
        (&[0x11, 0x90][..], "mp4a.40.2", 48_000, 1_024),
        (&[0x11, 0x94], "mp4a.40.2", 48_000, 960),
        (&[0x12, 0x14], "mp4a.40.2", 44_100, 960),
        (&[0x2b, 0x11, 0x88, 0x00], "mp4a.40.5", 48_000, 2_048),
        (&[0x2b, 0x11, 0x8a, 0x00], "mp4a.40.5", 48_000, 1_920),
        (&[0xeb, 0x8a, 0x08, 0x00], "mp4a.40.29", 44_100, 2_048),
    ] {
        let frame_s = f64::from(duration) / f64::from(rate_hz);
        let player = play(configuration, frame_s);
        let sound = player.sound();
        assert_eq!((sound.timescale, sound.description.codecs.as_str()), (rate_hz, codecs));
        assert_eq!(sound.description.channels, Some(2));
        assert!(sound.samples().all(|sample| sample.duration == duration), "{configuration:x?}");
        let frames = sound.samples().count() as f64;
        assert!(frames * frame_s > 19.5, "none is left out: {frames}");
        for (at, (heard, sample)) in sound.shown_s().iter().zip(sound.samples()).enumerate() {
            assert_eq!(sample.data, (at as u64).to_be_bytes());
            assert!((heard - at as f64 * frame_s).abs() < 0.001, "{configuration:x?}: {heard}");
        }
        assert!(sound.part_target <= Duration::from_millis(201), "{:?}", sound.part_target);
    }
}
