//! What the publisher is told.

use rtc_rtcp::transport_feedbacks::transport_layer_cc::TransportLayerCc;

use super::*;
use crate::{
    ingest::whip::RTCP_BYTES_MAX,
    rtp::rtcp::{NtpTime, SenderReport, write_sender_report},
};

#[test]
fn nothing_is_said_before_the_first_packet() {
    let mut bench = Bench::new(&browser());
    assert!(bench.run_until(ms(60_000)).is_empty());
    bench.receiver.request_keyframe(ms(60_000), VIDEO, LayerIndex(0));
    assert!(bench.run_until(ms(61_000)).is_empty(), "there is nobody to ask");
}

#[test]
fn every_compound_begins_with_a_report_and_a_name() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &Rtp { transport_sequence: Some(1), ..video(1, 0, DELTA) });
    bench.receive(ms(1), &video(9, 0, MORE));
    let sent = bench.run_until(ms(3_000));
    assert!(sent.len() > 3);
    for (_, compound) in sent {
        assert_eq!(compound[1], 201, "receiver report");
        let second = 4 * (usize::from(u16::from_be_bytes([compound[2], compound[3]])) + 1);
        assert_eq!(compound[second + 1], 202, "source description");
        assert!(compound.len() <= RTCP_BYTES_MAX);
        rtc_rtcp::packet::unmarshal(&mut &compound[..]).expect("well-formed");
    }
}

#[test]
fn reports_come_every_second_with_loss_and_the_senders_clock() {
    let mut bench = Bench::new(&browser());
    for sequence in [0, 1, 2, 4] {
        bench.receive(ms(0), &video(sequence, 0, KEY));
    }
    bench.receive(ms(0), &audio(7, 0));
    let mut report = Vec::new();
    let sender = SenderReport { ssrc: VIDEO_SSRC, ntp: NtpTime(5 << 32), rtp_time: 0, packets: 4, bytes: 9 };
    write_sender_report(&mut report, &sender, &[]);
    bench.receiver.handle_rtcp(ms(500), report.into());
    let sent = bench.run_until(ms(2_000));
    let blocks = said(&sent, |meaning| match meaning {
        Rtcp::Reception { report, .. } => Some(report),
        _ => None,
    });
    assert_eq!(blocks.iter().map(|(at, _)| *at).collect::<Vec<_>>(), [1_000, 1_000, 2_000, 2_000]);
    let (_, video) = blocks.iter().find(|(_, block)| block.ssrc == VIDEO_SSRC).unwrap();
    assert_eq!((video.lost, video.fraction_lost, video.highest_sequence), (1, 51, 4));
    assert_eq!((video.last_sender_report, video.delay_since_last), (5 << 16, 32_768));
    let (_, audio) = blocks.iter().find(|(_, block)| block.ssrc == AUDIO_SSRC).unwrap();
    assert_eq!((audio.lost, audio.last_sender_report), (0, 0));
}

#[test]
fn a_gap_in_sound_is_asked_for_only_if_that_was_agreed() {
    for agreed in [false, true] {
        let mut media = browser();
        media.media[0].codecs[0].feedback.nack = agreed;
        let mut bench = Bench::new(&media);
        bench.receive(ms(0), &audio(1, 0));
        bench.receive(ms(20), &audio(3, 1_920));
        let sent = bench.run_until(ms(5_000));
        let nacks = said(&sent, |meaning| matches!(meaning, Rtcp::Nack { media_ssrc: AUDIO_SSRC, .. }).then_some(()));
        assert_eq!(!nacks.is_empty(), agreed);
        assert_eq!(bench.receiver.counters().lost, 1);
        assert!(bench.watcher.keyframe_requests.lock().is_empty());
    }
}

#[test]
fn a_keyframe_is_asked_for_until_the_first_comes() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, DELTA));
    assert_eq!(plis(&bench.run_until(ms(2_500))), [0, 1_000, 2_000]);
    bench.receive(ms(2_600), &video(2, 0, KEY));
    assert!(plis(&bench.run_until(ms(9_000))).is_empty());
    assert_eq!(bench.receiver.counters().plis_sent, 3);
}

#[test]
fn a_stream_that_begins_with_a_keyframe_is_not_asked() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(33), &video(2, 3_000, DELTA));
    assert!(plis(&bench.run_until(ms(5_000))).is_empty());
}

#[test]
fn packets_given_up_need_a_keyframe_unless_one_came_since() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(10), &video(3, 3_000, MORE));
    let sent = bench.run_until(ms(3_000));
    let asked = nacked(&sent).len();
    assert_eq!(asked, 10, "tries are bounded");
    let wishes = plis(&sent);
    assert!(!wishes.is_empty() && wishes.len() <= 3, "{wishes:?}");
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(10), &video(3, 3_000, MORE));
    bench.receive(ms(20), &video(4, 6_000, KEY));
    assert!(plis(&bench.run_until(ms(5_000))).is_empty());
    assert_eq!(bench.receiver.counters().lost, 1);
}

#[test]
fn more_loss_than_can_be_asked_for_needs_a_keyframe() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(10), &video(1_000, 3_000, MORE));
    let sent = bench.run_until(ms(500));
    assert_eq!(plis(&sent), [10]);
    assert!(nacked(&sent).is_empty());
    assert_eq!(bench.receiver.counters().lost, 998);
}

#[test]
fn the_request_that_was_agreed_is_used() {
    for (pli, fir) in [(false, true), (false, false)] {
        let mut media = browser();
        for codec in &mut media.media[1].codecs {
            (codec.feedback.pli, codec.feedback.fir) = (pli, fir);
        }
        let mut bench = Bench::new(&media);
        bench.receive(ms(0), &video(1, 0, DELTA));
        let sent = bench.run_until(ms(1_500));
        assert!(plis(&sent).is_empty());
        let firs = said(&sent, |meaning| match meaning {
            Rtcp::Fir { media_ssrc: VIDEO_SSRC, command } => Some(command),
            _ => None,
        });
        let commands: Vec<_> = firs.into_iter().map(|(_, command)| command).collect();
        assert_eq!(commands, if fir { vec![1, 2] } else { vec![] }, "each wish has its own number");
    }
}

#[test]
fn arrivals_are_fed_back_for_all_streams_of_the_transport() {
    let mut bench = Bench::new(&browser());
    for at in 0..60u16 {
        let sequence = 65_500u16.wrapping_add(at);
        let packet = match at % 3 {
            0 => audio(at, 0),
            1 => video(at, 0, MORE),
            _ => Rtp { payload_type: VP8_RTX, ssrc: RTX_SSRC, ..probe(at) },
        };
        bench.receive(ms(u64::from(at)), &Rtp { transport_sequence: Some(sequence), ..packet });
    }
    let sent = bench.run_until(ms(900));
    let mut reported = 0;
    for (_, compound) in &sent {
        for packet in rtc_rtcp::packet::unmarshal(&mut &compound[..]).unwrap() {
            if let Some(feedback) = packet.as_any().downcast_ref::<TransportLayerCc>() {
                assert_eq!(feedback.base_sequence_number, 65_500u16.wrapping_add(reported));
                assert_eq!(feedback.recv_deltas.len(), usize::from(feedback.packet_status_count));
                reported += feedback.packet_status_count;
            }
        }
    }
    assert_eq!(reported, 60);
}

#[test]
fn arrivals_are_not_fed_back_when_that_was_not_agreed() {
    let mut media = browser();
    for codec in media.media.iter_mut().flat_map(|section| &mut section.codecs) {
        codec.feedback.transport_cc = false;
    }
    let mut bench = Bench::new(&media);
    bench.receive(ms(0), &Rtp { transport_sequence: Some(1), ..video(1, 0, KEY) });
    assert!(bench.run_until(ms(900)).is_empty());
}
