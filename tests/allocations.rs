//! The packet path of egress allocates nothing: a counting allocator says so.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use sluice::{
    egress::whep::{DatagramOut, Output, Scratch, SenderSettings, StreamNumbers, WhepSender},
    media::{CaptureTime, Codec, ExtendedSeq, TrackFormat},
    track::{Batch, Delivery, LayerIndex, News, Replica, Snapshot, TrackIndex, TrackPacket, TrackSnapshot},
    transport::{SrtpProfile, SrtpSealer},
};
use sluice_signaling::{
    media_plane::SenderIds,
    sdp::{AcceptedCodec, ExtensionIds, Feedback, Negotiated, NegotiatedMedia},
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is the system allocator's; counting touches a thread-local without a destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations() -> u64 {
    ALLOCATIONS.with(Cell::get)
}

#[derive(Default)]
struct Counted {
    calls: u64,
    bytes: u64,
}

impl DatagramOut for Counted {
    fn send(&mut self, contents: &[u8], _segment_bytes: usize) {
        self.calls += 1;
        self.bytes += contents.len() as u64;
    }
}

fn picture(number: u64, start: Instant) -> Delivery {
    let packet = |at: u64| {
        Arc::new(TrackPacket {
            seq: ExtendedSeq(number * 8 + at),
            time_ticks: number * 3_000,
            arrival: start + Duration::from_millis(number * 33),
            marker: at == 7,
            keyframe_start: number % 60 == 1 && at == 0,
            capture: (number.is_multiple_of(30) && at == 0).then_some(CaptureTime { ntp: number, clock_offset: 0 }),
            payload: Bytes::from(vec![0; 1_100 - at as usize]),
        })
    };
    let sound = Arc::new(TrackPacket {
        seq: ExtendedSeq(number),
        time_ticks: number * 960,
        arrival: start + Duration::from_millis(number * 33),
        marker: false,
        keyframe_start: false,
        capture: None,
        payload: Bytes::from(vec![0; 160]),
    });
    let batch = |track, packets| Batch { track: TrackIndex(track), layer: LayerIndex(0), packets };
    Delivery::Packets(Arc::new([batch(0, (0..8).map(packet).collect()), batch(1, vec![sound])]))
}

fn viewer(now: Instant) -> WhepSender {
    let section = |codec: Codec, payload_type, rtx_payload_type| {
        let codec = AcceptedCodec {
            codec,
            payload_type,
            fmtp: String::new(),
            channels: 1,
            rtx_payload_type,
            feedback: Feedback::default(),
        };
        NegotiatedMedia {
            mid: payload_type.to_string(),
            kind: codec.codec.kind(),
            codecs: vec![codec],
            extensions: ExtensionIds {
                mid: Some(1),
                playout_delay: Some(5),
                abs_capture_time: Some(3),
                ..Default::default()
            },
            remote_ssrcs: Vec::new(),
            rids: Vec::new(),
        }
    };
    let media = vec![section(Codec::H264, 102, Some(103)), section(Codec::Opus, 111, None)];
    let ids = [SenderIds { ssrc: 7, rtx_ssrc: Some(8) }, SenderIds { ssrc: 9, rtx_ssrc: None }];
    let numbers = || StreamNumbers { first_seq: 0, first_rtx_seq: 0, time_offset_ticks: 0 };
    let settings = SenderSettings { join_burst_mbps: 40, playout_delay_max_ms: 500 };
    WhepSender::new(now, now, &Negotiated { media }, &ids, numbers, "name".into(), settings)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "an `Instant` has no other origin")]
fn forwarding_a_picture_allocates_nothing() {
    let start = Instant::now();
    let track = |codec| TrackSnapshot::single(TrackFormat { codec, fmtp: String::new(), channels: 1 }, Vec::new());
    let tracks = vec![track(Codec::H264), track(Codec::Opus)];
    let mut replica = Replica::default();
    replica.apply(
        Delivery::Snapshot(Arc::new(Snapshot { publication: 1, sound_lags: false, tracks })),
        &mut News::default(),
    );
    let sealer = SrtpSealer::with_master(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]).unwrap();
    let mut scratch = Scratch::default();
    let mut out = Counted::default();
    let mut viewers: Vec<_> = (0..50).map(|_| viewer(start)).collect();
    let mut sent_packets = 0;
    for number in 1..200 {
        let now = start + Duration::from_millis(number * 33);
        replica.apply(picture(number, start), &mut News::default());
        let before = allocations();
        for viewer in &mut viewers {
            if viewer.is_waiting() {
                viewer.follow(now, &replica);
            }
            let mut output = Output { sealer: &sealer, scratch: &mut scratch, out: &mut out };
            sent_packets += u64::from(viewer.send(now, &replica, None, &mut output).sent.packets);
        }
        // The first picture makes each viewer's place; from then on nothing is made.
        if number > 1 {
            assert_eq!(allocations() - before, 0, "picture {number}");
        }
    }
    assert_eq!(sent_packets, 50 * 199 * 9);
    assert_eq!(out.calls, 50 * 199, "one call carries a picture and its sound to a viewer");
}
