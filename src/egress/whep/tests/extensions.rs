//! What packets say in their header extensions, and for how long.

use super::*;
use rtc_rtcp::payload_feedbacks::receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate;
use rtc_shared::marshal::Marshal;

use crate::rtp::rtcp::{ReceptionReport, to_ntp_short, write_receiver_report};

const CAPTURE: CaptureTime = CaptureTime { ntp: 0x0102_0304_0506_0708, clock_offset: -2 };

fn agreed(rtx: bool) -> Bench {
    Bench::with_sections(vec![NegotiatedMedia { extensions: ALL_IDS, mid: "picture".into(), ..video(rtx) }])
}

/// The viewer says that it gets these.
fn reports_on(ssrcs: &[u32]) -> Vec<u8> {
    let report = |ssrc: &u32| ReceptionReport {
        ssrc: *ssrc,
        fraction_lost: 0,
        lost: 0,
        highest_sequence: 0,
        jitter_ticks: 0,
        last_sender_report: 0,
        delay_since_last: 0,
    };
    let mut compound = Vec::new();
    write_receiver_report(&mut compound, 1, &ssrcs.iter().map(report).collect::<Vec<_>>());
    compound
}

fn nack(missing: &[u16]) -> Vec<u8> {
    let mut compound = Vec::new();
    write_nack(&mut compound, 1, 1_000, missing);
    compound
}

#[test]
fn a_picture_says_when_it_was_captured_and_is_one_call_of_equal_segments_all_the_same() {
    let mut bench = agreed(true);
    bench.picture(true, &[1_100]);
    bench.send();
    bench.hear(&reports_on(&[1_000]));
    bench.browser.open();
    bench.capture = Some(CAPTURE);
    bench.picture(false, &[1_100, 1_099, 1_101, 300]);
    bench.send();
    let [call] = &bench.browser.calls[..] else { panic!("{:?}", bench.browser.calls) };
    let sizes: Vec<_> = call.iter().map(Vec::len).collect();
    let whole = 12 + 4 + (17 + 4 + 3) + 1_100 + 16;
    assert_eq!(sizes, [whole, whole, whole, 12 + 8 + 300 + 16]);
    let said: Vec<_> = bench.browser.open().into_iter().map(|packet| packet.extensions.abs_capture_time).collect();
    assert_eq!(said, [Some(CAPTURE), None, None, None]);
}

#[test]
fn a_picture_that_is_squeezed_into_a_join_says_nothing_of_its_capture() {
    let mut bench = agreed(true);
    for keyframe in [true, false, false] {
        bench.capture = Some(CAPTURE);
        bench.picture(keyframe, &[500]);
    }
    bench.send();
    bench.capture = Some(CAPTURE);
    bench.picture(false, &[500]);
    bench.send();
    let said: Vec<_> = bench.browser.open().iter().map(|packet| packet.extensions.abs_capture_time.is_some()).collect();
    assert_eq!(said, [false, false, false, true], "its time in RTP is not that of its capture");
}

#[test]
fn the_mid_is_said_until_the_viewer_reports_and_what_is_sent_again_is_the_same_bytes() {
    let mut bench = agreed(false);
    bench.capture = Some(CAPTURE);
    bench.picture(true, &[700, 700]);
    bench.send();
    bench.hear(&reports_on(&[77]));
    bench.picture(false, &[600]);
    bench.send();
    bench.hear(&reports_on(&[77, 1_000]));
    bench.picture(false, &[500]);
    bench.send();
    let first = bench.browser.calls.concat();
    let said = bench.browser.open();
    let mids: Vec<_> = said.iter().map(|packet| packet.extensions.mid.as_deref()).collect();
    assert_eq!(mids, [Some(&b"picture"[..]), Some(b"picture"), Some(b"picture"), None]);
    assert_eq!(said[0].extensions.abs_capture_time, Some(CAPTURE));

    bench.hear(&nack(&[100, 101, 102, 103]));
    assert_eq!(bench.browser.calls.concat(), first, "one number is sealed over one content only");
}

/// The times of sending that the headers of what came say, in 2^-18 s.
fn send_times(browser: &mut Browser) -> Vec<Option<u32>> {
    const ELEMENT: u8 = SEND_TIME_ID << 4 | 2;
    let said = |datagram: &Vec<u8>| {
        let words = usize::from(datagram[15]);
        // What is said first: its place in the block is ours to choose.
        let elements = (datagram[0] & 0x10 != 0).then(|| &datagram[16..16 + 4 * words])?;
        let [ELEMENT, a, b, c, ..] = *elements else { return None };
        Some(u32::from_be_bytes([0, a, b, c]))
    };
    std::mem::take(&mut browser.calls).into_iter().flatten().map(|datagram| said(&datagram)).collect()
}

const SEND_TIME_ID: u8 = 2;

#[test]
fn packets_say_when_they_are_sent_and_those_sent_again_when_that_was() {
    let ids = ExtensionIds { abs_send_time: Some(SEND_TIME_ID), ..ALL_IDS };
    let mut bench = Bench::with_sections(vec![NegotiatedMedia { extensions: ids, ..video(true) }]);
    bench.picture(true, &[700, 700]);
    bench.send();
    let first = send_times(&mut bench.browser);
    let after = |ms: u64| Some((ms << 18) as u32 / 1_000);
    assert_eq!(first, [after(33), after(33)]);
    // Across the wrap of 64 s.
    bench.now += Duration::from_secs(64);
    bench.picture(false, &[700]);
    bench.send();
    assert_eq!(send_times(&mut bench.browser), [after(66)]);
    bench.now += Duration::from_millis(20);
    bench.hear(&nack(&[100]));
    assert_eq!(send_times(&mut bench.browser), [after(86)], "in a stream of its own");
}

#[test]
fn what_may_be_sent_again_under_its_own_number_does_not_say_when_it_was_sent() {
    let ids = ExtensionIds { abs_send_time: Some(SEND_TIME_ID), ..ALL_IDS };
    let mut bench = Bench::with_sections(vec![NegotiatedMedia { extensions: ids, ..video(false) }]);
    bench.picture(true, &[700]);
    bench.send();
    let first = bench.browser.calls.concat();
    assert_eq!(send_times(&mut bench.browser), [None]);
    bench.now += Duration::from_millis(20);
    bench.hear(&nack(&[100]));
    assert_eq!(bench.browser.calls.concat(), first, "one number is sealed over one content only");
}

#[test]
fn what_a_viewer_tells_of_its_path_is_kept() {
    let mut bench = Bench::with_sound(true);
    assert_eq!(bench.viewer.path(), ViewerPath::default());
    // Our clock stands at 1970 here: 40 ms before that the viewer's last report of ours went out, and it kept none of them.
    let now = NtpTime::from_system(std::time::SystemTime::UNIX_EPOCH).middle();
    let sent = now - to_ntp_short(Duration::from_millis(40));
    let block = |ssrc, fraction_lost, last_sender_report| ReceptionReport {
        ssrc,
        fraction_lost,
        lost: 0,
        highest_sequence: 0,
        jitter_ticks: 0,
        last_sender_report,
        delay_since_last: 0,
    };
    let mut compound = Vec::new();
    write_receiver_report(&mut compound, 1, &[block(1_000, 64, sent), block(3_000, 128, 0), block(9, 255, 0)]);
    let estimate = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 4_200_000.0, ssrcs: vec![1_000] };
    compound.extend_from_slice(&estimate.marshal().unwrap());
    bench.hear(&compound);
    let path = bench.viewer.path();
    assert_eq!(path.lost_share, Some(0.25), "that of the pictures");
    assert!(path.bandwidth_bps.is_some_and(|bps| bps.abs_diff(4_200_000) < 100), "{path:?}");
    let round_trip = path.round_trip.expect("the viewer had a report of ours");
    assert!(round_trip.abs_diff(Duration::from_millis(40)) < Duration::from_millis(1), "{round_trip:?}");

    bench.hear(&reports_on(&[1_000]));
    assert_eq!(bench.viewer.path().lost_share, Some(0.0));
    let path = bench.viewer.path();
    assert!(path.bandwidth_bps.is_some() && path.round_trip.is_some(), "what a report lacks takes nothing back");
}

#[test]
fn a_viewer_that_never_reports_is_told_the_mid_for_a_while() {
    let mut bench = agreed(true);
    bench.picture(true, &[100; 40]);
    for _ in 0..10 {
        bench.send();
        bench.picture(false, &[100; 40]);
    }
    let mids = bench.browser.open().iter().filter(|packet| packet.extensions.mid.is_some()).count();
    assert_eq!(mids, 256);
}

#[test]
fn the_retransmission_stream_says_its_mid_until_the_viewer_reports_on_that() {
    let mut bench = agreed(true);
    bench.picture(true, &[700, 700, 700]);
    bench.send();
    bench.hear(&reports_on(&[1_000]));
    bench.browser.open();
    bench.hear(&nack(&[100, 101]));
    bench.hear(&reports_on(&[2_000]));
    bench.hear(&nack(&[102]));
    let again = bench.browser.open();
    let said: Vec<_> = again.iter().map(|packet| (packet.header.sequence, packet.extensions.mid.is_some())).collect();
    assert_eq!(said, [(5, true), (6, true), (7, false)]);
    assert!(again.iter().all(|packet| packet.header.ssrc == 2_000 && packet.payload.len() == 702));
}

#[test]
fn what_fits_no_element_is_not_said() {
    for (ids, mid) in [
        (ExtensionIds { mid: Some(1), ..IDS }, "seventeen letters"),
        (ExtensionIds { mid: Some(15), ..IDS }, "0"),
        (ExtensionIds { mid: Some(1), ..IDS }, ""),
        (ExtensionIds { abs_capture_time: Some(15), playout_delay: Some(0), ..IDS }, "0"),
    ] {
        let mut bench = Bench::with_sections(vec![NegotiatedMedia { extensions: ids, mid: mid.into(), ..video(true) }]);
        bench.capture = Some(CAPTURE);
        bench.picture(true, &[500]);
        bench.send();
        let said = bench.browser.open().remove(0).extensions;
        assert_eq!((said.mid, said.abs_capture_time), (None, None), "{mid:?}");
    }
}
