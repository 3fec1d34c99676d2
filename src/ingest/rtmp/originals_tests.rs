//! What a publisher sends reaches frame readers as it was: B-frames, sound and all.

use std::sync::Arc;

use parking_lot::Mutex;

use super::super::session::tests::{avc, live, ms, open};
use crate::{
    media::MediaKind,
    track::{FrameDelivery, FrameInterest, FrameSink, Original, Originals},
};

#[derive(Default)]
struct Reader(Mutex<Vec<Original>>);

impl FrameSink for Reader {
    fn deliver(&self, delivery: FrameDelivery) -> bool {
        match delivery {
            FrameDelivery::Originals(Originals::Units(units)) => self.0.lock().extend_from_slice(&units),
            FrameDelivery::Originals(Originals::Snapshot(snapshot)) => self.0.lock().extend_from_slice(&snapshot.units),
            _ => {}
        }
        true
    }
}

#[test]
fn a_frame_reader_gets_every_access_unit_as_it_was_sent() {
    let context = open();
    let mut pair = live(&context, "cam1");
    let stream = context.streams.get(&"cam1".parse().unwrap()).unwrap();
    let reader = Arc::new(Reader::default());
    let _subscription = stream.subscribe_frames(FrameInterest::Publisher, reader.clone());
    let (configuration, pictures) = avc(include_bytes!("../../../tests/fixtures/h264/b-frames.264"));
    pair.video(ms(0), 5_000, configuration);
    pair.audio(ms(0), 5_000, vec![0xaf, 0, 0x11, 0x90]);
    let sent = pictures.clone();
    for (at, picture) in pictures.into_iter().enumerate() {
        pair.video(ms(33 * at as u64), 5_000 + 33 * at as u32, picture);
    }
    pair.audio(ms(2_000), 7_000, vec![0xaf, 1, 0x21, 0x10]);
    let read = reader.0.lock();
    let (pictures, sound): (Vec<_>, Vec<_>) =
        read.iter().partition(|original| original.format.kind() == MediaKind::Video);
    assert_eq!(pictures.len(), 60, "B-frames among them");
    assert!(pictures.iter().zip(&sent).all(|(original, tag)| original.unit.data == tag[5..]));
    let keyframes: Vec<_> = (0..60).filter(|at| pictures[*at].unit.keyframe).collect();
    assert_eq!(keyframes, [0, 30]);
    assert_eq!(&sound[0].unit.data[..], [0x21, 0x10]);
    let apart = sound[0].unit.decode_time_ticks - pictures[0].unit.decode_time_ticks;
    assert_eq!(apart, 2_000, "on one clock");
    assert!(read.iter().map(|original| original.number).eq(1..=61));
}
