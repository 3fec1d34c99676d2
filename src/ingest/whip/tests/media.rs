//! What becomes of media packets.

use super::*;

const SPS: &[u8] = &[0x67, 0x64, 0x00, 0x1f, 1];

#[test]
fn packets_are_handed_on_in_order_of_arrival_and_doubles_once() {
    let mut bench = Bench::new(&browser());
    for sequence in [10, 12, 11, 12, 10, 13] {
        bench.receive(ms(u64::from(sequence)), &video(sequence, 0, DELTA));
    }
    assert_eq!(bench.numbers(VIDEO), [0, 2, 1, 3]);
    assert_eq!(bench.packets(VIDEO)[2].arrival, ms(11));
    assert_eq!(bench.receiver.counters().useless, 2);
}

#[test]
fn what_arrives_together_is_one_batch() {
    let mut bench = Bench::new(&browser());
    for sequence in 0..5 {
        bench.receiver.handle_rtp(ms(0), video(sequence, 0, MORE).write());
    }
    assert!(bench.packets(VIDEO).is_empty(), "nothing is handed on before the socket is drained");
    bench.receiver.flush(ms(0)).unwrap();
    let deliveries = bench.watcher.deliveries.lock();
    let batches = deliveries.iter().filter(|delivery| matches!(delivery, Delivery::Packets(_))).count();
    assert_eq!(batches, 1);
}

#[test]
fn a_kept_packet_does_not_keep_its_receive_buffer() {
    let mut bench = Bench::new(&browser());
    let datagram = video(1, 0, KEY).write();
    bench.receiver.handle_rtp(ms(0), datagram.clone());
    bench.receiver.flush(ms(0)).unwrap();
    assert!(datagram.is_unique());
    assert_eq!(&bench.packets(VIDEO)[0].payload[..], KEY);
}

#[test]
fn keyframes_begin_where_the_codec_says() {
    let mut bench = Bench::new(&browser());
    for (sequence, payload) in [(1, DELTA), (2, KEY), (3, MORE), (4, DELTA)] {
        bench.receive(ms(0), &video(sequence, u32::from(sequence), payload));
    }
    let starts: Vec<_> = bench.packets(VIDEO).iter().map(|packet| packet.keyframe_start).collect();
    assert_eq!(starts, [false, true, false, false]);
}

#[test]
fn retransmissions_fill_gaps_with_their_original_number() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(65_535, 90, KEY));
    bench.receive(ms(1), &Rtp { marker: true, ..video(1, 90, MORE) });
    let lost = Rtp { marker: true, padding: 3, ..video(0, 90, MORE) };
    bench.receive(ms(9), &rtx(&lost, 1));
    bench.receive(ms(9), &rtx(&lost, 2));
    assert_eq!(bench.numbers(VIDEO), [0, 2, 1]);
    let packets = bench.packets(VIDEO);
    assert_eq!((&packets[2].payload[..], packets[2].marker), (MORE, true));
    assert_eq!(packets[2].time_ticks, packets[0].time_ticks);
    let counters = bench.receiver.counters();
    assert_eq!((counters.recovered, counters.useless), (1, 1));
}

#[test]
fn probes_on_the_retransmission_stream_are_nobodys_gap() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(0), &Rtp { payload_type: VP8_RTX, ssrc: RTX_SSRC, ..probe(1) });
    bench.receive(ms(0), &rtx(&video(1, 0, KEY), 2));
    bench.receive(ms(0), &video(2, 0, MORE));
    assert_eq!(bench.numbers(VIDEO), [0, 1]);
    assert!(nacked(&bench.run_until(ms(900))).is_empty());
}

#[test]
fn probes_vanish_from_the_numbering() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(0), &probe(2));
    bench.receive(ms(0), &Rtp { payload_type: 120, ..video(3, 0, MORE) });
    bench.receive(ms(0), &probe(5));
    bench.receive(ms(0), &video(6, 0, MORE));
    bench.receive(ms(1), &video(4, 0, MORE));
    assert_eq!(bench.numbers(VIDEO), [0, 2, 1], "an unknown payload type closes up like a probe");
    assert!(nacked(&bench.run_until(ms(900))).is_empty());
}

#[test]
fn requests_for_missing_packets_use_the_publishers_numbers() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(100, 0, KEY));
    bench.receive(ms(0), &probe(101));
    bench.receive(ms(0), &video(104, 0, MORE));
    assert_eq!(nacked(&bench.run_until(ms(20)))[0], (5, vec![102, 103]));
    bench.receive(ms(30), &rtx(&probe(102), 1));
    bench.receive(ms(30), &rtx(&video(103, 0, MORE), 2));
    assert_eq!(bench.numbers(VIDEO), [0, 3, 1, 2]);
    assert!(bench.packets(VIDEO)[2].payload.is_empty(), "a probe behind the newest is passed on empty");
}

#[test]
fn the_format_follows_the_payload_type() {
    let mut bench = Bench::new(&browser());
    assert_eq!(bench.format(VIDEO).codec, Codec::Vp8, "the offer's first");
    let h264 = |sequence, payload: &[u8]| Rtp { payload_type: H264, ..video(sequence, 0, payload) };
    bench.receive(ms(0), &h264(1, &[0x41, 1]));
    assert_eq!(bench.format(VIDEO), TrackFormat { codec: Codec::H264, ..format_h264("42e01f") });
    bench.receive(ms(0), &video(0, 0, DELTA));
    bench.receive(ms(100), &video(2, 0, DELTA));
    assert_eq!(bench.format(VIDEO).codec, Codec::H264, "neither a late packet nor one right after changes it back");
    assert_eq!(bench.numbers(VIDEO), [0]);
    bench.receive(ms(600), &video(3, 0, KEY));
    assert_eq!(bench.format(VIDEO).codec, Codec::Vp8);
}

fn format_h264(profile: &str) -> TrackFormat {
    let fmtp = format!("packetization-mode=1;profile-level-id={profile}");
    TrackFormat { codec: Codec::H264, fmtp, channels: 1 }
}

#[test]
fn the_parameter_set_names_the_profile() {
    let mut bench = Bench::new(&browser());
    let h264 = |sequence, payload: &[u8]| Rtp { payload_type: H264, ..video(sequence, sequence.into(), payload) };
    bench.receive(ms(0), &h264(1, &[0x67, 0x42, 0xc0, 0x1e, 1]));
    assert_eq!(bench.format(VIDEO), format_h264("42e01f"), "what was agreed covers it");
    bench.receive(ms(600), &h264(2, SPS));
    assert_eq!(bench.format(VIDEO), format_h264("64001f"));
    let starts: Vec<_> = bench.packets(VIDEO).iter().map(|packet| packet.keyframe_start).collect();
    assert_eq!(starts, [true, true]);
}

#[test]
fn numbers_and_times_grow_through_their_wraps() {
    let mut bench = Bench::new(&browser());
    let (mut sequence, mut timestamp) = (65_000u16, u32::MAX - 500_000);
    for at in 0..2_000 {
        bench.receive(ms(at * 33), &video(sequence, timestamp, MORE));
        (sequence, timestamp) = (sequence.wrapping_add(1), timestamp.wrapping_add(3_000));
    }
    assert_eq!(bench.numbers(VIDEO), (0..2_000).collect::<Vec<_>>());
    let packets = bench.packets(VIDEO);
    assert!(packets.windows(2).all(|pair| pair[1].time_ticks - pair[0].time_ticks == 3_000));
}

#[test]
fn a_restarted_numbering_goes_on_where_it_was() {
    let mut bench = Bench::new(&browser());
    for sequence in 100..110 {
        bench.receive(ms(0), &video(sequence, 0, MORE));
    }
    for sequence in 40_000..40_010 {
        bench.receive(ms(10), &video(sequence, 777, MORE));
    }
    assert_eq!(bench.numbers(VIDEO), (0..19).collect::<Vec<_>>(), "one packet makes sure that it is no stray");
}

#[test]
fn a_superseded_publication_ends_the_session() {
    let mut bench = Bench::new(&browser());
    let _newcomer = publish(&bench.streams, Arc::new(Watcher::default()));
    bench.receiver.handle_rtp(ms(0), video(1, 0, KEY).write());
    assert!(bench.receiver.flush(ms(0)).is_err());
}

#[test]
fn sections_without_codecs_have_no_track() {
    let mut media = browser();
    media.media[0].codecs.clear();
    let mut bench = Bench::new(&media);
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(0), &audio(1, 0));
    assert_eq!(bench.packets(TrackIndex(0)).len(), 1);
    assert_eq!(bench.receiver.counters().unusable, 1);
}
