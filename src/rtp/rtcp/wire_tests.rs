//! What is written is read by ourselves and by `rtc-rtcp`; hostile bytes are read without harm.

use rtc_rtcp::{
    goodbye::Goodbye,
    packet::{Packet, unmarshal},
    payload_feedbacks::{
        full_intra_request::FullIntraRequest, picture_loss_indication::PictureLossIndication,
        receiver_estimated_maximum_bitrate::ReceiverEstimatedMaximumBitrate,
    },
    receiver_report::ReceiverReport,
    sender_report,
    source_description::{SdesType, SourceDescription},
    transport_feedbacks::transport_layer_nack::TransportLayerNack,
};
use rtc_shared::marshal::Marshal;

use super::*;

const BLOCK: ReceptionReport = ReceptionReport {
    ssrc: 0x0102_0304,
    fraction_lost: 64,
    lost: -3,
    highest_sequence: 0x0001_fffe,
    jitter_ticks: 90,
    last_sender_report: 0xaabb_ccdd,
    delay_since_last: 65_536,
};

fn read(compound: &[u8]) -> Vec<Rtcp<'_>> {
    RtcpReader::new(compound).collect()
}

fn read_by_others(compound: &[u8]) -> Vec<Box<dyn Packet>> {
    unmarshal(&mut &compound[..]).expect("well-formed")
}

fn only<T: Clone + 'static>(packet: &dyn Packet) -> T {
    packet.as_any().downcast_ref::<T>().expect("the expected packet").clone()
}

#[test]
fn a_sender_report_with_cname_is_read_by_us_and_by_others() {
    let report =
        SenderReport { ssrc: 7, ntp: NtpTime(0x1122_3344_5566_7788), rtp_time: 90_000, packets: 5, bytes: 600 };
    for cname in ["", "a", "ab", "abc", "sluice@host"] {
        let mut out = Vec::new();
        write_sender_report(&mut out, &report, &[BLOCK]);
        write_cname(&mut out, 7, cname);
        assert_eq!(
            read(&out),
            [Rtcp::SenderReport(report), Rtcp::Reception { reporter: 7, report: BLOCK }, Rtcp::Other]
        );
        let packets = read_by_others(&out);
        let theirs: sender_report::SenderReport = only(&*packets[0]);
        assert_eq!((theirs.ssrc, theirs.ntp_time, theirs.rtp_time), (7, report.ntp.0, 90_000));
        assert_eq!((theirs.packet_count, theirs.octet_count), (5, 600));
        let sdes: SourceDescription = only(&*packets[1]);
        assert_eq!(sdes.chunks[0].source, 7);
        assert_eq!(sdes.chunks[0].items[0].sdes_type, SdesType::SdesCname);
        assert_eq!(&sdes.chunks[0].items[0].text[..], cname.as_bytes());
    }
}

#[test]
fn a_receiver_report_keeps_every_field_and_a_negative_loss() {
    let mut out = Vec::new();
    write_receiver_report(&mut out, 9, &[BLOCK, ReceptionReport { lost: i32::MAX, ..BLOCK }]);
    let most = ReceptionReport { lost: (1 << 23) - 1, ..BLOCK };
    assert_eq!(
        read(&out),
        [Rtcp::Reception { reporter: 9, report: BLOCK }, Rtcp::Reception { reporter: 9, report: most }]
    );
    let theirs: ReceiverReport = only(&*read_by_others(&out)[0]);
    assert_eq!(theirs.ssrc, 9);
    assert_eq!(theirs.reports[0].total_lost, 0x00ff_fffd);
    assert_eq!(theirs.reports[0].fraction_lost, 64);
    assert_eq!(theirs.reports[0].last_sequence_number, 0x0001_fffe);
    assert_eq!((theirs.reports[0].jitter, theirs.reports[0].delay), (90, 65_536));
}

#[test]
fn a_receivers_estimate_is_read_and_what_only_looks_like_one_is_not() {
    for bitrate in [0.0_f32, 310_000.0, 4_200_000.0, 1e12] {
        let theirs = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate, ssrcs: vec![7, 8] };
        let bytes = theirs.marshal().unwrap();
        let [Rtcp::Remb { bitrate_bps }] = read(&bytes)[..] else { panic!("{bitrate}") };
        // 18 bits of mantissa.
        assert!((bitrate_bps as f32 - bitrate).abs() <= bitrate / 131_072.0, "{bitrate}: {bitrate_bps}");
    }
    let mut bytes = ReceiverEstimatedMaximumBitrate { sender_ssrc: 1, bitrate: 1e6, ssrcs: vec![7] }.marshal().unwrap();
    for (at, byte) in [(12, b'X'), (17, 0xff)] {
        let mut other = bytes.to_vec();
        other[at] = byte;
        assert_eq!(read(&other), [Rtcp::Other], "other application data, or more than there can be");
    }
    // Cut off behind the letters, with a length that says so.
    bytes.truncate(16);
    let mut short = bytes.to_vec();
    short[3] = 3;
    assert_eq!(read(&short), [Rtcp::Other]);
}

#[test]
fn a_nack_names_each_number_once_through_the_wrap() {
    let lost = [65_530, 65_531, 65_535, 0, 10, 11, 27, 28, 500];
    let mut out = Vec::new();
    assert_eq!(write_nack(&mut out, 1, 2, &lost), lost.len());
    let [Rtcp::Nack { media_ssrc: 2, sequences }] = read(&out)[..] else { panic!("{:?}", read(&out)) };
    assert_eq!(sequences.collect::<Vec<_>>(), lost);
    let theirs: TransportLayerNack = only(&*read_by_others(&out)[0]);
    assert_eq!((theirs.sender_ssrc, theirs.media_ssrc), (1, 2));
    let named: Vec<u16> = theirs.nacks.iter().flat_map(|pair| pair.packet_list()).collect();
    assert_eq!(named, lost);
}

#[test]
fn a_nack_has_a_bound_and_says_what_did_not_fit() {
    let lost: Vec<u16> = (0..1_000).map(|at| at * 20).collect();
    let mut out = Vec::new();
    assert_eq!(write_nack(&mut out, 1, 2, &lost), NACK_PAIRS_MAX);
    assert_eq!(out.len(), 12 + 4 * NACK_PAIRS_MAX);
    assert_eq!(write_nack(&mut Vec::new(), 1, 2, &[]), 0);
}

#[test]
fn keyframe_requests_and_goodbyes_are_read_by_us_and_by_others() {
    let mut out = Vec::new();
    write_pli(&mut out, 1, 2);
    write_fir(&mut out, 1, 3, 200);
    write_bye(&mut out, 4);
    assert_eq!(
        read(&out),
        [Rtcp::Pli { media_ssrc: 2 }, Rtcp::Fir { media_ssrc: 3, command: 200 }, Rtcp::Bye { ssrc: 4 }]
    );
    let packets = read_by_others(&out);
    assert_eq!(only::<PictureLossIndication>(&*packets[0]).media_ssrc, 2);
    let fir: FullIntraRequest = only(&*packets[1]);
    assert_eq!((fir.fir[0].ssrc, fir.fir[0].sequence_number), (3, 200));
    assert_eq!(only::<Goodbye>(&*packets[2]).sources, [4]);
}

#[test]
fn padding_of_the_last_packet_is_no_entry() {
    let mut out = Vec::new();
    write_nack(&mut out, 1, 2, &[5]);
    out[0] |= 0x20;
    out[3] += 1;
    out.extend_from_slice(&[0, 0, 0, 4]);
    let [Rtcp::Nack { sequences, .. }] = read(&out)[..] else { panic!("{:?}", read(&out)) };
    assert_eq!(sequences.collect::<Vec<_>>(), [5]);
}

#[test]
fn reading_ends_at_the_first_malformed_packet() {
    let mut out = Vec::new();
    write_pli(&mut out, 1, 2);
    let whole = out.len();
    write_pli(&mut out, 1, 3);
    for len in whole..out.len() {
        assert_eq!(read(&out[..len]), [Rtcp::Pli { media_ssrc: 2 }]);
    }
    out[whole] = 0x41;
    assert_eq!(read(&out), [Rtcp::Pli { media_ssrc: 2 }]);
}

#[test]
fn counts_that_lie_give_what_is_there() {
    let mut out = Vec::new();
    write_receiver_report(&mut out, 9, &[BLOCK]);
    out[0] |= 0x1f;
    assert_eq!(read(&out), [Rtcp::Reception { reporter: 9, report: BLOCK }]);
    let mut empty = Vec::new();
    write_receiver_report(&mut empty, 9, &[]);
    assert_eq!(read(&empty), [Rtcp::Other]);
}

#[test]
fn no_bytes_make_the_reader_panic_or_run_on() {
    let mut seed = 7u64;
    let mut random = move || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    for _ in 0..100_000 {
        let mut bytes = [0u8; 96];
        bytes.fill_with(&mut random);
        bytes[0] = bytes[0] & 0x3f | 0x80;
        bytes[1] = 200 + bytes[1] % 8;
        (bytes[2], bytes[3]) = (0, bytes[3] % 24);
        let bytes = &bytes[..usize::from(random()) % 97];
        let mut meanings = 0;
        for meaning in RtcpReader::new(bytes) {
            meanings += 1;
            if let Rtcp::Nack { sequences, .. } = meaning {
                assert!(sequences.count() <= bytes.len() / 4 * 17);
            }
        }
        assert!(meanings <= bytes.len() / 4 + 1);
    }
}
