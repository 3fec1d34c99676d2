//! Whose packet is it.

use super::*;

#[test]
fn a_payload_type_that_one_section_uses_says_enough() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(0), &audio(1, 0));
    assert_eq!((bench.packets(VIDEO).len(), bench.packets(AUDIO).len()), (1, 1));
}

#[test]
fn the_mid_decides_and_is_remembered_for_the_ssrc() {
    let mut media = browser();
    // The same payload type in both sections: it says nothing.
    media.media[0].codecs[0].payload_type = VP8;
    let mut bench = Bench::new(&media);
    bench.receive(ms(0), &video(1, 0, KEY));
    assert_eq!(bench.receiver.counters().unusable, 1);
    bench.receive(ms(1), &Rtp { mid: Some("1"), ..video(2, 0, KEY) });
    bench.receive(ms(2), &video(3, 0, MORE));
    bench.receive(ms(3), &Rtp { mid: Some("0"), ssrc: AUDIO_SSRC, ..video(1, 0, MORE) });
    bench.receive(ms(4), &Rtp { mid: Some("7"), ..video(4, 0, MORE) });
    assert_eq!((bench.packets(VIDEO).len(), bench.packets(AUDIO).len()), (2, 1));
    assert_eq!(bench.receiver.counters().unusable, 1, "no section has that mid");
}

#[test]
fn announced_ssrcs_need_no_mid() {
    let mut media = browser();
    media.media[0].codecs[0].payload_type = VP8;
    media.media[1].remote_ssrcs = vec![VIDEO_SSRC, RTX_SSRC];
    let mut bench = Bench::new(&media);
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(0), &video(3, 0, MORE));
    bench.receive(ms(1), &rtx(&video(2, 0, MORE), 1));
    assert_eq!(bench.numbers(VIDEO), [0, 2, 1]);
}

#[test]
fn one_ssrc_is_the_layer_and_others_are_not_mixed_in() {
    let mut bench = Bench::new(&browser());
    bench.receive(ms(0), &video(1, 0, KEY));
    bench.receive(ms(1), &Rtp { ssrc: 77, ..video(500, 0, KEY) });
    bench.receive(ms(2), &video(2, 0, MORE));
    assert_eq!(bench.numbers(VIDEO), [0, 1]);
    assert_eq!(bench.receiver.counters().useless, 1);
}

#[test]
fn any_number_of_ssrcs_costs_bounded_memory_and_no_media() {
    let mut bench = Bench::new(&browser());
    for at in 0..2_000 {
        bench.receive(ms(at), &video(at as u16, 0, MORE));
        bench.receive(ms(at), &Rtp { ssrc: 0x10_0000 + at as u32, ..video(1, 0, MORE) });
    }
    assert_eq!(bench.numbers(VIDEO), (0..2_000).collect::<Vec<_>>());
}

#[test]
fn a_source_that_said_goodbye_or_fell_silent_is_replaced_and_numbering_goes_on() {
    for goodbye in [true, false] {
        let mut bench = Bench::new(&browser());
        bench.receive(ms(0), &video(60_000, 1_000_000, KEY));
        bench.receive(ms(100), &video(60_001, 1_009_000, MORE));
        let mut now = 2_200;
        if goodbye {
            let mut bye = Vec::new();
            crate::rtp::rtcp::write_bye(&mut bye, VIDEO_SSRC);
            bench.receiver.handle_rtcp(ms(150), bye.into());
            now = 200;
        }
        bench.receive(ms(now), &Rtp { ssrc: 77, ..video(5, 42, KEY) });
        bench.receive(ms(now), &Rtp { ssrc: 77, ..video(4, 42, MORE) });
        bench.receive(ms(now), &Rtp { ssrc: 77, ..video(6, 3_042, MORE) });
        assert_eq!(bench.numbers(VIDEO), [0, 1, 2, 3], "what comes from before the new beginning has no place");
        let times: Vec<_> = bench.packets(VIDEO).iter().map(|packet| packet.time_ticks).collect();
        assert_eq!(times[2] - times[1], (now - 100) * 90, "time goes on at the clock's rate");
        assert_eq!(times[3] - times[2], 3_000);
    }
}
