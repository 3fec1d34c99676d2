use std::sync::Arc;

use sluice_signaling::sdp::offered;

use super::*;
use crate::{
    codec::PictureSize,
    media::{Codec, testing::epoch},
    track::{Batch, ClockReference, LayerSnapshot, LayerState, Snapshot, TrackSnapshot},
};

const PICTURE: Duration = Duration::from_millis(40);
const PICTURE_TICKS: u64 = 3_600;

fn format(codec: Codec) -> TrackFormat {
    let fmtp = if codec == Codec::H264 { "packetization-mode=1;profile-level-id=42e01f" } else { "" };
    TrackFormat { codec, fmtp: fmtp.into(), channels: if codec == Codec::Opus { 2 } else { 1 } }
}

fn agreed(codecs: &[Codec]) -> Vec<NegotiatedMedia> {
    let formats: Vec<_> = codecs.iter().map(|codec| format(*codec)).collect();
    let mut media = offered(&formats).media;
    media.iter_mut().for_each(|section| section.codecs.truncate(1));
    media
}

/// A publisher of pictures, two packets each, and a feed of it.
struct Scene {
    feed: PacketFeed,
    now: Instant,
    publication: u64,
    seq: u64,
    ticks: u64,
    from_rtmp: bool,
    /// Numbers and times of what came out.
    sent: Vec<RtpOut>,
}

impl Scene {
    fn new(codecs: &[Codec]) -> Self {
        let feed = PacketFeed::new(epoch(), &agreed(codecs), || (32_000, 900_000));
        let (now, sent) = (epoch(), Vec::new());
        Self { feed, now, publication: 0, seq: 0, ticks: 0, from_rtmp: false, sent }
    }

    fn publish(&mut self, seq: u64, ticks: u64, codecs: &[Codec]) {
        (self.seq, self.ticks) = (seq, ticks);
        self.publication += 1;
        let tracks = codecs.iter().map(|codec| TrackSnapshot::single(format(*codec), Vec::new())).collect();
        let snapshot = Snapshot { publication: self.publication, sound_lags: self.from_rtmp, tracks };
        self.take(Delivery::Snapshot(Arc::new(snapshot)));
    }

    fn take(&mut self, delivery: Delivery) {
        self.feed.take(self.now, delivery);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(out) = self.feed.poll(self.now) {
            self.sent.push(out);
        }
    }

    fn packet(&self, seq: u64, keyframe_start: bool, marker: bool) -> Arc<TrackPacket> {
        Arc::new(TrackPacket {
            seq: ExtendedSeq(seq),
            time_ticks: self.ticks,
            arrival: self.now,
            marker,
            keyframe_start,
            capture: None,
            payload: Bytes::from_static(&[0; 1_000]),
        })
    }

    fn push(&mut self, packets: Vec<Arc<TrackPacket>>) {
        self.take(Delivery::Packets(Arc::new([Batch { track: TrackIndex(0), layer: LayerIndex(0), packets }])));
    }

    fn picture(&mut self, keyframe: bool) {
        self.now += PICTURE;
        self.ticks += PICTURE_TICKS;
        self.seq += 2;
        self.push(vec![self.packet(self.seq - 2, keyframe, false), self.packet(self.seq - 1, false, true)]);
    }

    fn misfits(&self) -> Vec<Codec> {
        self.feed.misfits().map(|format| format.codec).collect()
    }

    /// Numbers follow each other, and times do not go back.
    fn goes_on(&self) -> bool {
        let follows = |pair: &[RtpOut]| {
            let (seq, time) = (pair[1].seq.wrapping_sub(pair[0].seq), pair[1].time.wrapping_sub(pair[0].time));
            seq == 1 && time < 1 << 20
        };
        self.sent.windows(2).all(follows)
    }
}

#[test]
fn pictures_begin_at_a_keyframe_and_go_on_over_a_change_of_publisher() {
    let mut scene = Scene::new(&[Codec::H264]);
    scene.publish(5_000, 77_000_000, &[Codec::H264]);
    scene.picture(false);
    assert_eq!((scene.sent.len(), scene.feed.wants_keyframe()), (0, Some((TrackIndex(0), LayerIndex(0)))));
    scene.picture(true);
    (0..3).for_each(|_| scene.picture(false));
    assert_eq!((scene.sent.len(), scene.feed.wants_keyframe()), (8, None));
    scene.publish(60, 5, &[]);
    scene.publish(60, 5, &[Codec::H264]);
    scene.picture(false);
    assert_eq!(scene.sent.len(), 8);
    scene.picture(true);
    scene.picture(false);
    assert_eq!((scene.sent.len(), scene.sent[0].seq, scene.feed.misfits().count()), (12, 32_000, 0));
    assert!(scene.goes_on(), "{:?}", scene.sent);
}

#[test]
fn what_the_session_is_not_for_is_named() {
    let mut scene = Scene::new(&[Codec::H264]);
    scene.publish(5_000, 77_000_000, &[Codec::Vp8]);
    scene.picture(true);
    assert_eq!((scene.sent.len(), scene.misfits()), (0, vec![Codec::Vp8]));
    scene.publish(5_000, 77_000_000, &[Codec::H264, Codec::Opus]);
    assert_eq!(scene.misfits(), [Codec::Opus]);
    scene.publish(5_000, 77_000_000, &[Codec::Vp8, Codec::Opus]);
    assert_eq!(scene.misfits(), [Codec::Vp8, Codec::Opus], "each by itself");
}

#[test]
fn a_late_packet_fills_its_gap() {
    let mut scene = Scene::new(&[Codec::H264]);
    scene.publish(5_000, 77_000_000, &[Codec::H264]);
    scene.picture(true);
    let late = scene.packet(scene.seq, false, false);
    scene.seq += 1;
    scene.picture(false);
    scene.push(vec![late]);
    let numbers: Vec<_> = scene.sent.iter().map(|out| out.seq - 32_000).collect();
    assert_eq!(numbers, [0, 1, 3, 4, 2]);
}

#[test]
fn large_pictures_are_spread() {
    let mut scene = Scene::new(&[Codec::H264]);
    scene.publish(5_000, 77_000_000, &[Codec::H264]);
    let packets = (0..400).map(|at| scene.packet(5_000 + at, at == 0, at == 399)).collect();
    scene.push(packets);
    assert!(scene.sent.len() < 100, "{} at once", scene.sent.len());
    let begun = scene.now;
    while let Some(due) = scene.feed.poll_timeout() {
        scene.now = due;
        scene.drain();
    }
    assert_eq!(scene.sent.len(), 400);
    let lasted = scene.now - begun;
    assert!((60..120).contains(&lasted.as_millis()), "400 kB at 40 Mb/s are 80 ms: {lasted:?}");
}

#[test]
fn reports_say_the_time_of_the_live_edge_once_something_was_sent() {
    let mut scene = Scene::new(&[Codec::H264]);
    scene.publish(5_000, 77_000_000, &[Codec::H264]);
    assert_eq!(scene.feed.reports(scene.now).count(), 0);
    scene.picture(true);
    let reference = ClockReference { at: scene.now - PICTURE, time_ticks: scene.ticks, by_report: true };
    scene.take(Delivery::Clock { track: TrackIndex(0), layer: LayerIndex(0), reference });
    let report = scene.feed.reports(scene.now).next().unwrap();
    let last = scene.sent.last().unwrap();
    assert_eq!(report.rtp_time, last.time + PICTURE_TICKS as u32, "what was captured 40 ms ago was sent last");
    assert_eq!((report.kind, report.packets, report.bytes), (MediaKind::Video, 2, 2_000));
}

#[test]
fn a_browser_is_asked_for_keyframes_and_of_rtmp_the_last_one_is_sent_again() {
    let mut scene = Scene::new(&[Codec::H264]);
    scene.publish(5_000, 77_000_000, &[Codec::H264]);
    scene.picture(true);
    scene.picture(false);
    assert_eq!(scene.feed.keyframe_requested(scene.now), Some((TrackIndex(0), LayerIndex(0))));
    scene.drain();
    assert_eq!(scene.sent.len(), 4);

    scene.from_rtmp = true;
    scene.publish(9_000, 1_000, &[Codec::H264]);
    scene.picture(true);
    scene.picture(false);
    assert_eq!(scene.sent.len(), 8);
    for _ in 0..2 {
        assert_eq!(scene.feed.keyframe_requested(scene.now), None);
        scene.now += Duration::from_millis(5);
        scene.drain();
        assert_eq!(scene.sent.len(), 12, "once in two seconds");
    }
    assert!(scene.goes_on(), "{:?}", scene.sent);
}

#[test]
fn of_layers_the_highest_that_is_sent_is_sent_on_and_others_are_not_asked_for() {
    const LOW: LayerIndex = LayerIndex(0);
    const HIGH: LayerIndex = LayerIndex(1);
    let mut scene = Scene::new(&[Codec::H264]);
    let state = |rid: &str, width, active| LayerState {
        size: Some(PictureSize { width, height: width / 2 }),
        active,
        ..LayerState::named(rid)
    };
    let states = |high| [state("l", 320, true), state("h", 1_280, high)];
    let layers = states(true).map(|state| LayerSnapshot {
        packets: (state.rid == Some("h".into())).then(Vec::new),
        state,
        clock: None,
    });
    let track = TrackSnapshot { epoch: 0, format: format(Codec::H264), layers: layers.to_vec() };
    let snapshot = Snapshot { publication: 1, sound_lags: false, tracks: vec![track.clone()] };
    scene.take(Delivery::Snapshot(Arc::new(snapshot.clone())));
    (scene.seq, scene.ticks) = (5_000, 77_000_000);
    let picture = |scene: &mut Scene, layer, keyframe| {
        scene.now += PICTURE;
        scene.ticks += PICTURE_TICKS;
        scene.seq += 1;
        let packets = vec![scene.packet(scene.seq - 1, keyframe, true)];
        scene.take(Delivery::Packets(Arc::new([Batch { track: TrackIndex(0), layer, packets }])));
    };
    picture(&mut scene, HIGH, true);
    assert_eq!((scene.sent.len(), scene.feed.layers_wanted(scene.now)), (1, None));
    // The high one stops: the low one is asked for, and taken at its keyframe.
    scene.take(Delivery::Layers { track: TrackIndex(0), states: Arc::new(states(false)) });
    let both = [LOW, HIGH].into_iter().collect();
    assert_eq!(scene.feed.layers_wanted(scene.now), Some((1, TrackIndex(0), both)));
    assert_eq!(scene.feed.layers_wanted(scene.now), None, "once");
    let layers = states(false).map(|state| LayerSnapshot { packets: Some(Vec::new()), state, clock: None });
    let track = TrackSnapshot { layers: layers.to_vec(), ..track };
    scene.take(Delivery::Snapshot(Arc::new(Snapshot { tracks: vec![track], ..snapshot })));
    assert_eq!(scene.feed.wants_keyframe(), Some((TrackIndex(0), LOW)));
    picture(&mut scene, LOW, true);
    picture(&mut scene, LOW, false);
    assert_eq!(scene.sent.len(), 3);
    assert!(scene.goes_on(), "{:?}", scene.sent);
    scene.now += Duration::from_secs(3);
    assert_eq!(
        scene.feed.layers_wanted(scene.now),
        Some((1, TrackIndex(0), LayerSet::of(LOW))),
        "the other is let go of"
    );
}
