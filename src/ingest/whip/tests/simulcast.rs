//! Layers of one picture (RFC 8853), told apart by their rids (RFC 8852).

use super::*;
use crate::rtp::rtcp::{NtpTime, SenderReport, write_bye, write_sender_report};

const HIGH: LayerIndex = LayerIndex(0);
const LOW: LayerIndex = LayerIndex(1);
const HIGH_SSRC: u32 = VIDEO_SSRC;
const LOW_SSRC: u32 = 0x30;

fn bench() -> Bench {
    let mut media = browser();
    media.media[1].rids = vec!["h".into(), "l".into()];
    Bench::new(&media)
}

fn high(sequence: u16, timestamp: u32, payload: &[u8]) -> Rtp {
    Rtp { ssrc: HIGH_SSRC, ..video(sequence, timestamp, payload) }
}

fn low(sequence: u16, timestamp: u32, payload: &[u8]) -> Rtp {
    Rtp { ssrc: LOW_SSRC, ..video(sequence, timestamp, payload) }
}

/// Both layers have said their names.
fn begun() -> Bench {
    let mut bench = bench();
    bench.receive(ms(0), &Rtp { rid: Some("l"), mid: Some("1"), ..low(9, 500, KEY) });
    bench.receive(ms(1), &Rtp { rid: Some("h"), mid: Some("1"), ..high(1, 70_000, KEY) });
    bench
}

fn active(bench: &Bench) -> Vec<bool> {
    let state = bench.streams.get(&"cam1".parse().unwrap()).unwrap().state();
    state.tracks[usize::from(VIDEO.0)].layers.iter().map(|layer| layer.state.active).collect()
}

#[test]
fn each_layer_is_received_for_itself_and_its_name_is_remembered() {
    let mut bench = begun();
    bench.receive(ms(2), &high(2, 70_000, MORE));
    bench.receive(ms(3), &low(10, 500, MORE));
    // Browsers leave the names out once a report has told them that we know.
    bench.receive(ms(2_000), &high(3, 250_000, MORE));
    bench.receive(ms(2_001), &low(12, 180_500, MORE));
    assert_eq!(bench.numbers_of(VIDEO, HIGH), [0, 1, 2]);
    assert_eq!(bench.numbers_of(VIDEO, LOW), [0, 1, 3]);
    assert_eq!(bench.receiver.counters().useless, 0);
    bench.receive(ms(2_002), &Rtp { rid: Some("x"), ..video(12, 180_500, MORE) });
    bench.receive(ms(2_003), &Rtp { ssrc: 0x99, ..video(12, 180_500, MORE) });
    assert_eq!(bench.receiver.counters().useless, 2, "no layer is called so, or it does not say which it is");
}

#[test]
fn repairs_must_name_the_layer() {
    let mut bench = begun();
    bench.receive(ms(2), &high(4, 70_000, MORE));
    bench.receive(ms(3), &Rtp { ssrc: 0x32, rid: None, ..rtx(&video(2, 70_000, MORE), 2) });
    assert_eq!(bench.numbers_of(VIDEO, HIGH), [0, 3]);
    bench.receive(ms(4), &Rtp { repaired_rid: Some("h"), ..rtx(&video(2, 70_000, MORE), 3) });
    bench.receive(ms(5), &rtx(&video(3, 70_000, MORE), 4));
    bench.receive(ms(6), &Rtp { ssrc: 0x31, repaired_rid: Some("l"), ..rtx(&video(10, 500, MORE), 1) });
    assert_eq!(bench.numbers_of(VIDEO, HIGH), [0, 3, 1, 2]);
    assert_eq!(bench.numbers_of(VIDEO, LOW), [0, 1]);
}

#[test]
fn a_publisher_that_names_no_layer_is_taken_to_send_one() {
    let mut bench = bench();
    for at in 0..20 {
        bench.receive(ms(at * 100), &Rtp { ssrc: LOW_SSRC, ..video(at as u16, 0, MORE) });
    }
    assert_eq!(bench.packets_of(VIDEO, HIGH).len(), 10, "after a second");
}

#[test]
fn losses_and_reports_are_of_each_layers_ssrc() {
    let mut bench = begun();
    // The first keyframe requests are for the beginning: both had one.
    bench.run_until(ms(5));
    bench.receive(ms(10), &low(12, 500, MORE));
    bench.receive(ms(11), &high(3, 70_000, MORE));
    let sent = bench.run_until(ms(1_100));
    let nacks = said(&sent, |meaning| match meaning {
        Rtcp::Nack { media_ssrc, sequences } => Some((media_ssrc, sequences.collect::<Vec<_>>())),
        _ => None,
    });
    let first_of = |ssrc: u32| nacks.iter().find(|(_, (of, _))| *of == ssrc).map(|(_, (_, lost))| lost.clone());
    assert_eq!((first_of(HIGH_SSRC), first_of(LOW_SSRC)), (Some(vec![2]), Some(vec![10, 11])));
    let reported = said(&sent, |meaning| match meaning {
        Rtcp::Reception { report, .. } => Some(report.ssrc),
        _ => None,
    });
    for ssrc in [HIGH_SSRC, LOW_SSRC] {
        assert!(reported.iter().any(|(_, of)| *of == ssrc), "{ssrc:x} in {reported:?}");
    }
}

#[test]
fn a_keyframe_is_asked_of_the_layer_it_is_wanted_of() {
    let mut bench = begun();
    bench.run_until(ms(100));
    bench.receiver.request_keyframe(ms(100), VIDEO, LOW);
    let sent = bench.run_until(ms(101));
    let asked = said(&sent, |meaning| match meaning {
        Rtcp::Pli { media_ssrc } => Some(media_ssrc),
        _ => None,
    });
    assert_eq!(asked, [(100, LOW_SSRC)]);
}

/// Which layers keyframes are asked of until `until`.
fn asked(bench: &mut Bench, until: Instant) -> Vec<u32> {
    let sent = bench.run_until(until);
    let asked = said(&sent, |meaning| match meaning {
        Rtcp::Pli { media_ssrc } => Some(media_ssrc),
        _ => None,
    });
    asked.into_iter().map(|(_, ssrc)| ssrc).collect()
}

#[test]
fn a_broken_layer_is_made_whole_when_somebody_watches_it_and_not_before() {
    let mut bench = begun();
    let stream = bench.streams.get(&"cam1".parse().unwrap()).unwrap();
    let want = |layers: &[LayerIndex]| {
        stream.want_layers(WorkerIndex(0), 1, VIDEO, layers.iter().copied().collect());
    };
    want(&[LOW]);
    // Both lose a packet that never comes.
    bench.receive(ms(100), &high(3, 79_000, DELTA));
    bench.receive(ms(101), &low(11, 9_500, DELTA));
    let first = asked(&mut bench, ms(4_000));
    assert!(!first.is_empty() && first.iter().all(|ssrc| *ssrc == LOW_SSRC), "{first:?}");
    bench.receive(ms(4_000), &low(12, 360_500, KEY));
    assert!(asked(&mut bench, ms(8_000)).is_empty(), "the one is whole, the other not watched");
    want(&[HIGH]);
    assert_eq!(asked(&mut bench, ms(9_000)), [HIGH_SSRC]);
    bench.receive(ms(9_100), &high(4, 880_000, KEY));
    assert!(asked(&mut bench, ms(12_000)).is_empty());
    // Nobody is there: what the next one gets is kept whole.
    stream.unsubscribe(WorkerIndex(0));
    bench.receive(ms(12_100), &high(6, 1_150_000, DELTA));
    bench.receive(ms(12_101), &low(14, 1_080_500, DELTA));
    let last = asked(&mut bench, ms(15_000));
    assert!(!last.is_empty() && last.iter().all(|ssrc| *ssrc == HIGH_SSRC), "{last:?}");
}

#[test]
fn the_first_keyframe_of_a_layer_is_asked_for_whoever_watches() {
    let mut bench = bench();
    let stream = bench.streams.get(&"cam1".parse().unwrap()).unwrap();
    stream.want_layers(WorkerIndex(0), 1, VIDEO, LayerSet::of(HIGH));
    bench.receive(ms(0), &Rtp { rid: Some("l"), mid: Some("1"), ..low(9, 500, DELTA) });
    assert_eq!(asked(&mut bench, ms(500)), [LOW_SSRC], "it tells how large the layer is");
}

#[test]
fn more_lost_than_one_compound_names_is_asked_for_in_the_next() {
    let mut media = browser();
    media.media[1].rids = ["a", "b", "c", "d"].map(str::to_owned).to_vec();
    let mut bench = Bench::new(&media);
    for (at, rid) in ["a", "b", "c", "d"].into_iter().enumerate() {
        let of = |sequence| Rtp { ssrc: 0x40 + at as u32, rid: Some(rid), ..video(sequence, 0, KEY) };
        bench.receive(ms(0), &of(0));
        // Every second one of 200: more pairs than a NACK holds.
        for sequence in 1..100 {
            bench.receive(ms(1), &of(sequence * 2 + 20 * (sequence / 10)));
        }
    }
    let sent = bench.run_until(ms(60));
    let nacks = said(&sent, |meaning| match meaning {
        Rtcp::Nack { media_ssrc, .. } => Some(media_ssrc),
        _ => None,
    });
    for at in 0..4 {
        assert!(nacks.iter().any(|(_, ssrc)| *ssrc == 0x40 + at), "layer {at} in {nacks:?}");
    }
    assert!(sent.iter().all(|(_, compound)| compound.len() <= super::super::RTCP_BYTES_MAX));
}

#[test]
fn sender_reports_put_all_layers_on_one_clock() {
    let mut bench = begun();
    let report = |ssrc, at_ms: u64, rtp_time| {
        let ntp = NtpTime((4_000_000_000 << 32) + (at_ms << 32) / 1_000);
        let mut compound = Vec::new();
        write_sender_report(&mut compound, &SenderReport { ssrc, ntp, rtp_time, packets: 1, bytes: 1 }, &[]);
        Bytes::from(compound)
    };
    // What was captured at the publisher's 0 ms has 500 in one layer and 70,000 in the other; the second report is 90 ms late.
    bench.receiver.handle_rtcp(ms(40), report(LOW_SSRC, 30, 500 + 2_700));
    bench.receiver.handle_rtcp(ms(330), report(HIGH_SSRC, 230, 70_000 + 20_700));
    bench.receiver.flush(ms(330)).unwrap();
    let (low, high) = (bench.clocks_of(VIDEO, LOW), bench.clocks_of(VIDEO, HIGH));
    let (low, high) = (low.last().unwrap(), high.last().unwrap());
    assert!(low.by_report && high.by_report);
    let at = ms(1_000);
    let (first_low, first_high) = (bench.packets_of(VIDEO, LOW)[0].clone(), bench.packets_of(VIDEO, HIGH)[0].clone());
    let since_first =
        |clock: &ClockReference, first: &TrackPacket| clock.ticks_at(at, 90_000).wrapping_sub(first.time_ticks);
    let (low, high) = (since_first(low, &first_low), since_first(high, &first_high));
    assert!(low.abs_diff(high) <= 1, "{low} and {high} ticks since the same moment");
}

#[test]
fn a_layer_is_active_while_it_comes() {
    let mut bench = bench();
    assert_eq!(active(&bench), [false, false], "nothing has come");
    bench.receive(ms(0), &Rtp { rid: Some("l"), ..low(9, 500, KEY) });
    assert_eq!(active(&bench), [false, true]);
    bench.receive(ms(1), &Rtp { rid: Some("h"), ..high(1, 70_000, KEY) });
    assert_eq!(active(&bench), [true, true]);
    // The high one stops: a few pictures of the low one say so, and silence of all says nothing.
    for picture in 1..=15 {
        bench.receive(ms(picture * 33), &Rtp { marker: true, ..low(9 + picture as u16, 500, DELTA) });
    }
    bench.receive(ms(800), &Rtp { marker: true, ..low(25, 500, DELTA) });
    assert_eq!(active(&bench), [false, true]);
    bench.receive(ms(5_000), &Rtp { marker: true, ..low(26, 500, DELTA) });
    assert_eq!(active(&bench), [false, true]);
    bench.receive(ms(5_001), &high(2, 70_000, KEY));
    assert_eq!(active(&bench), [true, true]);
    let mut bye = Vec::new();
    write_bye(&mut bye, LOW_SSRC);
    bench.receiver.handle_rtcp(ms(5_002), bye.into());
    assert_eq!(active(&bench), [true, false], "it said goodbye");
}
