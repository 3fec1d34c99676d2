//! How sound and picture belong together.

use super::*;
use crate::rtp::rtcp::{NtpTime, SenderReport, write_sender_report};

fn report(ssrc: u32, ntp_ms: u64, rtp_time: u32) -> Bytes {
    let ntp =
        NtpTime::from_system(SystemTime::UNIX_EPOCH + Duration::from_millis(SERVER_TIME.as_millis() as u64 + ntp_ms));
    let mut out = Vec::new();
    write_sender_report(&mut out, &SenderReport { ssrc, ntp, rtp_time, packets: 0, bytes: 0 }, &[]);
    out.into()
}

/// Where on our clock a tick of the track's is, in microseconds after the tests' origin.
fn local_us(reference: ClockReference, rate: i64, ticks_after: i64) -> i64 {
    (reference.at - epoch()).as_micros() as i64 + ticks_after * 1_000_000 / rate
}

#[test]
fn before_any_report_the_first_packets_arrival_is_the_reference() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(40), &video(1, 90_000, KEY));
    bench.receive(ms(73), &video(2, 93_000, DELTA));
    let first = bench.packets(VIDEO)[0].time_ticks;
    assert_eq!(bench.clocks(VIDEO), [ClockReference { at: ms(40), time_ticks: first, by_report: false }]);
}

#[test]
fn reports_of_both_tracks_share_one_offset() {
    let mut bench = Bench::new(&browser());
    // Captured at the same moment; the picture took 80 ms longer to get here.
    bench.receive(ms(20), &audio(1, 48_000));
    bench.receive(ms(100), &video(1, 90_000, KEY));
    bench.receiver.handle_rtcp(ms(150), report(AUDIO_SSRC, 1_000, 48_000));
    bench.receiver.handle_rtcp(ms(390), report(VIDEO_SSRC, 1_200, 90_000 + 18_000));
    bench.receiver.flush(ms(390)).unwrap();
    let (audio, video) = (*bench.clocks(AUDIO).last().unwrap(), *bench.clocks(VIDEO).last().unwrap());
    let (first_sound, first_picture) = (bench.packets(AUDIO)[0].time_ticks, bench.packets(VIDEO)[0].time_ticks);
    let sound = local_us(audio, 48_000, first_sound as i64 - audio.time_ticks as i64);
    let picture = local_us(video, 90_000, first_picture as i64 - video.time_ticks as i64);
    assert!(sound.abs_diff(picture) <= 2, "{sound} {picture}");
}

#[test]
fn a_publisher_that_sets_its_clock_keeps_its_tracks_together() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &audio(1, 0));
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receiver.handle_rtcp(ms(0), report(AUDIO_SSRC, 0, 0));
    bench.receiver.handle_rtcp(ms(0), report(VIDEO_SSRC, 0, 0));
    // An hour ahead, at once.
    bench.receiver.handle_rtcp(ms(1_000), report(AUDIO_SSRC, 3_601_000, 48_000));
    bench.receiver.handle_rtcp(ms(1_010), report(VIDEO_SSRC, 3_601_000, 90_000));
    bench.receiver.flush(ms(1_010)).unwrap();
    let (audio, video) = (*bench.clocks(AUDIO).last().unwrap(), *bench.clocks(VIDEO).last().unwrap());
    assert_eq!(audio.at, video.at);
}

#[test]
fn reports_that_cannot_be_right_or_come_too_often_are_ignored() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 3_000_000_000, KEY));
    bench.receiver.handle_rtcp(ms(10), report(VIDEO_SSRC, 0, 0));
    bench.receiver.handle_rtcp(ms(20), report(99, 0, 3_000_000_000));
    bench.receiver.flush(ms(20)).unwrap();
    assert_eq!(bench.clocks(VIDEO).len(), 1, "the first packet's");
    for at in 0..100 {
        bench.receiver.handle_rtcp(ms(30 + at), report(VIDEO_SSRC, at, 3_000_000_000));
        bench.receiver.flush(ms(30 + at)).unwrap();
    }
    assert_eq!(bench.clocks(VIDEO).len(), 2);
}

/// What packets of the pictures say of capture: milliseconds on the publisher's clock and on ours, after the tests' origin.
fn captured(bench: &Bench) -> Vec<(i64, i64)> {
    let origin = NtpTime::from_system(SystemTime::UNIX_EPOCH + SERVER_TIME);
    let ms = |units: u64| (i128::from(units as i64) * 1_000 + (1 << 31)) >> 32;
    let of = |capture: CaptureTime| {
        let theirs = capture.ntp.wrapping_sub(origin.0);
        (ms(theirs) as i64, ms(theirs.wrapping_sub(capture.clock_offset as u64)) as i64)
    };
    bench.packets(VIDEO).iter().filter_map(|packet| packet.capture).map(of).collect()
}

#[test]
fn what_the_publisher_says_of_capture_goes_on_with_what_its_clock_is_ahead_of_ours() {
    let mut bench = Bench::new(&browser());
    // The publisher's clock is 3 s ahead; all takes 20 ms on its way.
    bench.receive(ms(100), &video(1, 90_000, KEY));
    bench.receiver.handle_rtcp(ms(120), report(VIDEO_SSRC, 3_100, 90_000 + 9_000));
    let ntp = NtpTime::from_system(SystemTime::UNIX_EPOCH + SERVER_TIME + Duration::from_millis(3_170)).0;
    // Its camera's clock is half a second behind its own.
    let capture = Some(CaptureTime { ntp: ntp.wrapping_sub(1 << 31), clock_offset: -(1 << 31) });
    bench.receive(ms(200), &Rtp { capture, ..video(2, 99_000, DELTA) });
    bench.receive(ms(201), &video(3, 99_000, MORE));
    bench.receive(ms(1_190), &video(4, 99_000 + 89_100, DELTA));
    bench.receive(ms(1_210), &video(5, 99_000 + 90_900, DELTA));
    assert_eq!(
        captured(&bench),
        // A report's way is not known, so ours is late by it.
        [(2_670, 190), (2_670 + 1_010, 190 + 1_010)],
        "once a second, worked out where the publisher did not say it"
    );
}

#[test]
fn without_the_publishers_word_its_reports_tell_when_it_was_captured() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(100), &video(1, 90_000, KEY));
    bench.receive(ms(133), &video(2, 93_000, DELTA));
    assert_eq!(captured(&bench), [], "nothing is known yet");
    bench.receiver.handle_rtcp(ms(140), report(VIDEO_SSRC, 3_140, 90_000 + 4_500));
    bench.receive(ms(166), &video(3, 96_000, DELTA));
    let repaired = video(2, 93_000, MORE);
    bench.receive(ms(170), &rtx(&repaired, 1));
    assert_eq!(captured(&bench), [(3_140 + 17, 140 + 17)]);
    // It begins anew with times that have nothing to do with those before: a report must tell first.
    bench.receive(ms(3_500), &Rtp { ssrc: VIDEO_SSRC + 8, ..video(900, 5, KEY) });
    assert_eq!(captured(&bench).len(), 1);
    bench.receiver.handle_rtcp(ms(3_510), report(VIDEO_SSRC + 8, 6_510, 5 + 900));
    bench.receive(ms(3_533), &Rtp { ssrc: VIDEO_SSRC + 8, ..video(901, 3_005, DELTA) });
    assert_eq!(captured(&bench).last(), Some(&(6_500 + 33, 3_500 + 33)));
}
