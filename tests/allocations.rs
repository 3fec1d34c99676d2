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
    media::{Codec, ExtendedSeq, MediaKind, TrackFormat},
    track::{Delivery, LayerIndex, Replica, Snapshot, TrackIndex, TrackPacket, TrackSnapshot},
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
            payload: Bytes::from(vec![0; 1_100 - at as usize]),
        })
    };
    let packets: Vec<_> = (0..8).map(packet).collect();
    Delivery::Packets { track: TrackIndex(0), layer: LayerIndex(0), packets: packets.into() }
}

fn viewer(now: Instant) -> WhepSender {
    let codec = AcceptedCodec {
        codec: Codec::H264,
        payload_type: 102,
        fmtp: String::new(),
        channels: 1,
        rtx_payload_type: Some(103),
        feedback: Feedback::default(),
    };
    let section = NegotiatedMedia {
        mid: "0".into(),
        kind: MediaKind::Video,
        codecs: vec![codec],
        extensions: ExtensionIds { playout_delay: Some(5), ..Default::default() },
        remote_ssrcs: Vec::new(),
        rids: Vec::new(),
    };
    let ids = [SenderIds { ssrc: 7, rtx_ssrc: Some(8) }];
    let numbers = || StreamNumbers { first_seq: 0, first_rtx_seq: 0, time_offset_ticks: 0 };
    let settings = SenderSettings { join_burst_mbps: 40, playout_delay_max_ms: 500 };
    WhepSender::new(now, now, &Negotiated { media: vec![section] }, &ids, numbers, "name".into(), settings)
}

#[test]
#[allow(clippy::disallowed_methods, reason = "an `Instant` has no other origin")]
fn forwarding_a_picture_allocates_nothing() {
    let start = Instant::now();
    let format = TrackFormat { codec: Codec::H264, fmtp: String::new(), channels: 1 };
    let track = TrackSnapshot { epoch: 0, format, clock: None, layers: vec![Vec::new()] };
    let mut replica = Replica::default();
    replica.apply(
        Delivery::Snapshot(Arc::new(Snapshot { publication: 1, sound_lags: false, tracks: vec![track] })),
        &mut Vec::new(),
    );
    let sealer = SrtpSealer::with_master(SrtpProfile::AeadAes128Gcm, &[1; 16], &[2; 12]).unwrap();
    let mut scratch = Scratch::default();
    let mut out = Counted::default();
    let mut viewers: Vec<_> = (0..50).map(|_| viewer(start)).collect();
    let mut sent_packets = 0;
    for number in 1..200 {
        let now = start + Duration::from_millis(number * 33);
        replica.apply(picture(number, start), &mut Vec::new());
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
    assert_eq!(sent_packets, 50 * 199 * 8);
    assert_eq!(out.calls, 50 * 199, "one call carries a picture to a viewer");
}
