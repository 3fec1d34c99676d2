use std::{sync::Arc, time::Duration};

use bytes::Bytes;

use super::*;
use crate::{
    media::{Codec, TrackFormat, testing::epoch},
    track::{Batch, Delivery, LayerIndex, News, Replica, Snapshot, TrackIndex, TrackPacket, TrackSnapshot},
};

/// A publisher of 30 pictures a second, two packets each, on a virtual clock, and a worker's replica of it.
struct Source {
    replica: Replica,
    publication: u64,
    now: Instant,
    seq: u64,
    ticks: u64,
}

const ONLY: LayerIndex = LayerIndex(0);
const FRAME: Duration = Duration::from_micros(33_333);
const FRAME_TICKS: u64 = 3_000;

impl Source {
    fn new() -> Self {
        let mut source = Self { replica: Replica::default(), publication: 0, now: epoch(), seq: 0, ticks: 0 };
        source.publish(5_000, 77_000_000);
        source
    }

    /// A publisher comes, with numbers of its own.
    fn publish(&mut self, seq: u64, ticks: u64) {
        (self.seq, self.ticks) = (seq, ticks);
        self.publication += 1;
        let format = TrackFormat { codec: Codec::H264, fmtp: String::new(), channels: 1 };
        let track = TrackSnapshot::single(format, Vec::new());
        let snapshot = Snapshot { publication: self.publication, sound_lags: false, tracks: vec![track] };
        self.replica.apply(Delivery::Snapshot(Arc::new(snapshot)), &mut News::default());
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

    fn push(&mut self, packets: Vec<Arc<TrackPacket>>) -> Vec<ExtendedSeq> {
        let mut news = News::default();
        let batch = Batch { track: TrackIndex(0), layer: LayerIndex(0), packets };
        self.replica.apply(Delivery::Packets(Arc::new([batch])), &mut news);
        news.late.into_iter().map(|(_, _, seq)| seq).collect()
    }

    /// One picture comes, a frame's time after the last.
    fn picture(&mut self, keyframe: bool) {
        self.now += FRAME;
        self.ticks += FRAME_TICKS;
        let packets = vec![self.packet(self.seq, keyframe, false), self.packet(self.seq + 1, false, true)];
        self.seq += 2;
        self.push(packets);
    }

    fn group(&mut self, pictures: usize) {
        self.picture(true);
        (1..pictures).for_each(|_| self.picture(false));
    }

    fn track(&self) -> &ReplicaTrack {
        self.replica.track(MediaKind::Video).unwrap()
    }
}

fn viewer() -> Subscription {
    Subscription::new(MediaKind::Video, 32_000, 900_000)
}

/// Takes all there is, one packet per 200 us, as pacing would; what went out, and when the last did.
fn drain(viewer: &mut Subscription, source: &Source, mut now: Instant) -> (Vec<Outgoing>, Instant) {
    let mut out = Vec::new();
    while let Some((_, outgoing)) = viewer.take(now, source.track()) {
        out.push(outgoing);
        now += Duration::from_micros(200);
    }
    (out, now)
}

fn assert_contiguous(out: &[Outgoing]) {
    for pair in out.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq.next());
        assert!(pair[1].time_ticks >= pair[0].time_ticks, "time never runs back: {pair:?}");
    }
}

#[test]
fn a_joiner_gets_the_group_of_pictures_squeezed_up_to_the_live_edge() {
    let mut source = Source::new();
    source.group(45);
    let mut viewer = viewer();
    let joined = source.now + Duration::from_millis(10);
    viewer.follow(joined, source.track(), ONLY, true);
    assert_eq!(viewer.phase(), Phase::CatchingUp);
    let (out, done) = drain(&mut viewer, &source, joined);
    assert_eq!(out.len(), 90);
    assert_eq!(viewer.phase(), Phase::Live);
    assert_contiguous(&out);
    assert!(out.iter().all(|outgoing| outgoing.playout == Playout::AtOnce));
    let pictures: Vec<_> = out.chunks(2).map(|picture| (picture[0].time_ticks, picture[1].time_ticks)).collect();
    assert!(pictures.iter().all(|(first, last)| first == last), "a picture has one time");
    assert!(pictures.windows(2).all(|pair| pair[0].0 < pair[1].0), "and no two pictures share it");
    let span = pictures[44].0 - pictures[0].0;
    assert!(span < 45 * FRAME_TICKS / 4, "{span} ticks: the 1.5 s are squeezed into the 18 ms that sending took");

    source.picture(false);
    let (live, _) = drain(&mut viewer, &source, source.now.max(done));
    assert_eq!(live.len(), 2);
    assert_contiguous(&[&out[88..], &live].concat());
    assert!(live.iter().all(|outgoing| outgoing.playout == Playout::Live));
    assert_eq!(live[0].time_ticks, source.ticks + 900_000, "the live edge has the publisher's clock");
}

#[test]
fn how_to_play_is_said_for_a_while_from_the_live_edge_on() {
    let mut source = Source::new();
    source.group(10);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    drain(&mut viewer, &source, source.now);
    (0..40).for_each(|_| source.picture(false));
    let (live, _) = drain(&mut viewer, &source, source.now);
    let said = live.iter().take_while(|outgoing| outgoing.playout == Playout::Live).count();
    assert_eq!(said, 64);
    assert!(live[64..].iter().all(|outgoing| outgoing.playout == Playout::Unsaid));
}

#[test]
fn pictures_that_come_while_catching_up_are_in_order() {
    let mut source = Source::new();
    source.group(30);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let mut out = Vec::new();
    while viewer.phase() == Phase::CatchingUp {
        // Seven packets per picture's time: it takes nine more pictures to get to the edge.
        for _ in 0..7 {
            out.extend(viewer.take(source.now, source.track()).map(|(_, outgoing)| outgoing));
        }
        source.picture(false);
    }
    let (rest, _) = drain(&mut viewer, &source, source.now);
    out.extend(rest);
    assert_contiguous(&out);
    assert!(out.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks <= 2 * FRAME_TICKS));
}

#[test]
fn a_picture_cut_by_the_live_edge_keeps_one_time() {
    let mut source = Source::new();
    source.group(3);
    source.ticks += FRAME_TICKS;
    source.now += FRAME;
    let first = source.packet(source.seq, false, false);
    source.push(vec![first]);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let (out, now) = drain(&mut viewer, &source, source.now);
    assert_eq!(viewer.phase(), Phase::CatchingUp, "the picture is not whole");
    let last = source.packet(source.seq + 1, false, true);
    source.push(vec![last]);
    let (rest, _) = drain(&mut viewer, &source, now + FRAME / 2);
    assert_eq!(rest[0].time_ticks, out.last().unwrap().time_ticks);
    assert_eq!(viewer.phase(), Phase::Live);
}

#[test]
fn a_viewer_at_the_first_keyframe_is_live_at_once() {
    let mut source = Source::new();
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    assert_eq!(viewer.phase(), Phase::Waiting);
    source.picture(true);
    viewer.follow(source.now, source.track(), ONLY, true);
    let (out, _) = drain(&mut viewer, &source, source.now);
    assert_eq!((out.len(), out[0].playout), (2, Playout::Live));
}

#[test]
fn without_instant_join_the_next_keyframe_is_waited_for() {
    let mut source = Source::new();
    source.group(10);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, false);
    assert_eq!(viewer.phase(), Phase::Waiting);
    source.picture(true);
    viewer.follow(source.now, source.track(), ONLY, false);
    assert_eq!(viewer.phase(), Phase::Live);
}

#[test]
fn a_cache_with_a_hole_is_not_shown() {
    let mut source = Source::new();
    source.group(5);
    source.seq += 1;
    source.picture(false);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    assert_eq!(viewer.phase(), Phase::Waiting);
    source.picture(true);
    viewer.follow(source.now, source.track(), ONLY, true);
    assert_eq!(viewer.phase(), Phase::Live);
}

#[test]
fn another_publisher_continues_numbers_and_clock() {
    let mut source = Source::new();
    source.group(10);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let (before, _) = drain(&mut viewer, &source, source.now);
    let last_sent = source.now;
    source.publish(60_000, 5);
    source.now += Duration::from_millis(700);
    viewer.follow(source.now, source.track(), ONLY, true);
    assert_eq!(viewer.phase(), Phase::Waiting);
    assert!(viewer.peek(source.track()).is_none());
    source.picture(true);
    viewer.follow(source.now, source.track(), ONLY, true);
    let (after, _) = drain(&mut viewer, &source, source.now);
    assert_eq!(after[0].seq, before.last().unwrap().seq.next());
    let passed_ticks = ((source.now - last_sent).as_micros() * 90 / 1_000) as u64;
    let step = after[0].time_ticks - before.last().unwrap().time_ticks;
    assert!(step.abs_diff(passed_ticks) < 500, "the clock went on while nobody published: {step} of {passed_ticks}");
}

#[test]
fn packets_are_found_again_exactly_as_they_went_out() {
    let mut source = Source::new();
    source.group(40);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let (squeezed, now) = drain(&mut viewer, &source, source.now);
    source.picture(false);
    let (live, _) = drain(&mut viewer, &source, now);
    source.publish(1, 1);
    for outgoing in squeezed.iter().chain(&live) {
        assert!(viewer.sent(outgoing.seq.wire(), source.track()).is_none(), "that publisher's packets are gone");
    }
    let mut source = Source::new();
    source.group(40);
    let mut viewer = self::viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let (mut all, now) = drain(&mut viewer, &source, source.now);
    (0..5).for_each(|_| source.picture(false));
    all.extend(drain(&mut viewer, &source, now).0);
    for outgoing in &all {
        let (_, again) = viewer.sent(outgoing.seq.wire(), source.track()).unwrap();
        assert_eq!(again, *outgoing);
    }
    assert!(viewer.sent(all.last().unwrap().seq.next().wire(), source.track()).is_none(), "not sent yet");
    viewer.forget_squeezed();
    assert!(viewer.sent(all[0].seq.wire(), source.track()).is_none());
    assert!(viewer.sent(all.last().unwrap().seq.wire(), source.track()).is_some());
}

#[test]
fn a_late_packet_goes_out_in_its_gap() {
    let mut source = Source::new();
    source.group(2);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let (before, now) = drain(&mut viewer, &source, source.now);
    let missing = source.packet(source.seq, false, false);
    source.seq += 1;
    source.picture(false);
    let (after, _) = drain(&mut viewer, &source, now);
    assert_eq!(after[0].seq, before.last().unwrap().seq + 2, "the gap stays open");
    let late = source.push(vec![missing]);
    assert_eq!(late.len(), 1);
    let (_, outgoing) = viewer.late(ONLY, late[0], source.track()).unwrap();
    assert_eq!(outgoing.seq, before.last().unwrap().seq.next());
    assert!(viewer.late(ONLY, ExtendedSeq(late[0].0 + 100), source.track()).is_none(), "still ahead");
}

#[test]
fn a_late_packet_from_before_the_join_goes_nowhere() {
    let mut source = Source::new();
    source.group(2);
    let missing = source.packet(source.seq, false, false);
    source.seq += 1;
    source.picture(false);
    source.group(2);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let (joined, _) = drain(&mut viewer, &source, source.now);
    assert_eq!(joined.len(), 4, "since the last keyframe");
    let late = source.push(vec![missing]);
    assert_eq!(late.len(), 1);
    assert!(viewer.late(ONLY, late[0], source.track()).is_none());
}

#[test]
fn a_broken_picture_is_mended_from_the_cache_with_new_numbers() {
    let mut source = Source::new();
    source.group(20);
    let mut viewer = viewer();
    viewer.follow(source.now, source.track(), ONLY, true);
    let (first, now) = drain(&mut viewer, &source, source.now);
    assert!(viewer.rejoin(now, source.track()));
    let (second, _) = drain(&mut viewer, &source, now);
    assert_eq!(second.len(), first.len());
    assert_contiguous(&[first, second].concat());
}

#[test]
fn sound_begins_at_the_live_edge() {
    let format = TrackFormat { codec: Codec::Opus, fmtp: String::new(), channels: 2 };
    let packet = |n: u64| {
        Arc::new(TrackPacket {
            seq: ExtendedSeq(n),
            time_ticks: n * 960,
            arrival: epoch() + Duration::from_millis(20 * n),
            marker: false,
            keyframe_start: false,
            capture: None,
            payload: Bytes::from_static(&[0; 80]),
        })
    };
    let track = TrackSnapshot::single(format, (0..50).map(packet).collect());
    let mut replica = Replica::default();
    let snapshot = Snapshot { publication: 1, sound_lags: false, tracks: vec![track] };
    replica.apply(Delivery::Snapshot(Arc::new(snapshot)), &mut News::default());
    let track = replica.track(MediaKind::Audio).unwrap();
    let mut viewer = Subscription::new(MediaKind::Audio, 0, 0);
    let now = epoch() + Duration::from_millis(990);
    viewer.follow(now, track, ONLY, true);
    let (packet, outgoing) = viewer.take(now, track).unwrap();
    assert_eq!((packet.seq.0, outgoing.playout), (49, Playout::Live));
    assert!(viewer.take(now, track).is_none());
    assert_eq!(viewer.live_time_ticks(now, track), Some(49 * 960 + 480));
}
