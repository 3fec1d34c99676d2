//! What packets say in their header extensions, and for how long.

use super::*;
use crate::rtp::rtcp::{ReceptionReport, write_receiver_report};

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
