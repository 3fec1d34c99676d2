//! A publisher that means ill harms itself only.

use super::*;
use crate::track::PAYLOAD_BYTES_MAX;

fn any_capture(random: &mut Random) -> CaptureTime {
    let mut any = || (random.below(1 << 32) << 32) | random.below(1 << 32);
    CaptureTime { ntp: any(), clock_offset: any() as i64 }
}

/// Packets that are nearly right: the right SSRCs, payload types and extensions, with everything else at random.
fn nearly_right(random: &mut Random) -> Bytes {
    let mut pick = |from: &[u32]| from[random.below(from.len() as u64) as usize];
    let ssrc = pick(&[VIDEO_SSRC, RTX_SSRC, AUDIO_SSRC, 77]);
    let payload_type = pick(&[VP8.into(), VP8_RTX.into(), H264.into(), H264_RTX.into(), OPUS.into(), 120]) as u8;
    let payload_bytes = pick(&[0, 1, 2, 3, 5, 40]);
    let payload: Vec<u8> = (0..payload_bytes).map(|_| random.below(256) as u8).collect();
    let step = if random.below(20) == 0 { 65_536 } else { 40 };
    let packet = Rtp {
        payload_type,
        ssrc,
        sequence: (65_500 + random.below(step)) as u16,
        timestamp: random.below(1 << 32) as u32,
        marker: random.below(2) == 0,
        payload,
        mid: [None, None, None, Some("0"), Some("1"), Some("x")][random.below(6) as usize],
        rid: [None, None, None, Some("h"), Some("l")][random.below(5) as usize],
        repaired_rid: [None, None, Some("h")][random.below(3) as usize],
        capture: (random.below(3) == 0).then(|| any_capture(random)),
        transport_sequence: (random.below(2) == 0).then(|| random.below(65_536) as u16),
        padding: [0, 0, 7][random.below(3) as usize],
    };
    let mut bytes = packet.write().to_vec();
    if random.below(4) == 0 {
        let at = random.below(bytes.len() as u64) as usize;
        bytes[at] ^= random.below(256) as u8;
    }
    bytes.truncate(bytes.len() - random.below(3) as usize);
    bytes.into()
}

fn any_compound(random: &mut Random) -> Bytes {
    let mut bytes: Vec<u8> = (0..random.below(120)).map(|_| random.below(256) as u8).collect();
    if let Some(header) = bytes.first_chunk_mut::<8>() {
        *header = [0x80 | header[0] & 0x3f, 200 + header[1] % 8, 0, header[3] % 30, 0, 0, 0x10, 0];
    }
    bytes.into()
}

#[test]
fn no_sequence_of_packets_makes_the_receiver_panic_spin_or_grow() {
    for (seed, rids) in [(1, vec![]), (2, ["h", "l", "a", "b"].map(str::to_owned).to_vec())] {
        let mut media = browser();
        media.media[1].rids = rids;
        let mut bench = Bench::new(&media);
        let mut random = Random(seed);
        let (mut now_ms, mut sent) = (0, 0);
        for round in 0..60_000 {
            now_ms += random.below(8);
            let now = ms(now_ms);
            match random.below(8) {
                0 => bench.receiver.handle_rtcp(now, any_compound(&mut random)),
                1 => bench.receiver.request_keyframe(
                    now,
                    TrackIndex(random.below(4) as u8),
                    LayerIndex(random.below(6) as u8),
                ),
                _ => bench.receiver.handle_rtp(now, nearly_right(&mut random)),
            }
            bench.receiver.flush(now).unwrap();
            sent += bench.run_until(now).len();
            if round % 1_000 == 0 {
                bench.watcher.deliveries.lock().clear();
            }
        }
        // 20 arrival reports a second are most of it; gaps everywhere may ask as often again, per track.
        let seconds = now_ms as usize / 1_000;
        assert!(sent < seconds * 300, "{sent} compounds in {seconds} s");
        let counters = bench.receiver.counters();
        assert!(counters.packets > counters.unusable + counters.useless, "{counters:?}");
    }
}

#[test]
fn a_datagram_too_large_to_be_sent_on_goes_no_further() {
    let mut bench = Bench::new(&browser());
    // As much as UDP over IPv4 carries, less header and tag; it would not fit into a viewer's datagram.
    for (sequence, payload_bytes) in [(1, 65_479), (2, PAYLOAD_BYTES_MAX + 1), (3, PAYLOAD_BYTES_MAX)] {
        bench.receive(ms(1), &video(sequence, 0, &vec![0x10; payload_bytes]));
    }
    bench.receiver.flush(ms(1)).unwrap();
    let lengths: Vec<_> = bench.packets(TrackIndex(1)).iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(lengths, [PAYLOAD_BYTES_MAX]);
    assert_eq!(bench.receiver.counters().unusable, 2);
}
