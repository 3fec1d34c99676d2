mod extensions;

use std::sync::Arc;

use bytes::Bytes;
use rtc_crypto::RTCCryptoProvider;
use rtc_srtp::{context::Context, protection_profile::ProtectionProfile};
use sluice_signaling::sdp::{AcceptedCodec, ExtensionIds, NegotiatedMedia};

use super::*;
use crate::{
    media::{CaptureTime, Codec, RtpPacket, TrackFormat, testing::epoch},
    rtp::rtcp::{write_nack, write_pli},
    track::{Batch, Delivery, LayerIndex, News, PAYLOAD_BYTES_MAX, Snapshot, TrackPacket, TrackSnapshot},
    transport::SrtpProfile,
};

const KEY: [u8; 16] = [7; 16];
const SALT: [u8; 12] = [9; 12];
const IDS: ExtensionIds = ExtensionIds {
    mid: None,
    rid: None,
    repaired_rid: None,
    abs_send_time: None,
    transport_cc: None,
    playout_delay: Some(5),
    abs_capture_time: None,
};

/// What a browser may agree on besides.
const ALL_IDS: ExtensionIds = ExtensionIds { mid: Some(1), abs_capture_time: Some(3), ..IDS };

/// Keeps each call's datagrams, and opens them as a browser would.
struct Browser {
    context: Context,
    calls: Vec<Vec<Vec<u8>>>,
}

impl DatagramOut for Browser {
    fn send(&mut self, contents: &[u8], segment_bytes: usize) {
        self.calls.push(contents.chunks(segment_bytes).map(<[u8]>::to_vec).collect());
    }
}

impl Browser {
    fn new() -> Self {
        let crypto = rtc_crypto::providers::AwsLcRsProvider::default();
        let profile = ProtectionProfile::AeadAes128Gcm;
        let context = Context::new(&KEY, &SALT, profile, None, None, crypto.crypto()).unwrap();
        Self { context, calls: Vec::new() }
    }

    /// Everything that came since the last call of this.
    fn open(&mut self) -> Vec<RtpPacket> {
        let datagrams: Vec<_> = std::mem::take(&mut self.calls).into_iter().flatten().collect();
        let mut opened = |datagram: &Vec<u8>| self.context.decrypt_rtp(datagram).unwrap().freeze();
        datagrams.iter().map(|datagram| RtpPacket::parse(opened(datagram), &ALL_IDS).unwrap()).collect()
    }
}

fn video(rtx: bool) -> NegotiatedMedia {
    let codec = AcceptedCodec {
        codec: Codec::H264,
        payload_type: 102,
        fmtp: String::new(),
        channels: 1,
        rtx_payload_type: rtx.then_some(103),
        feedback: Default::default(),
    };
    NegotiatedMedia {
        mid: "0".into(),
        kind: MediaKind::Video,
        codecs: vec![codec],
        extensions: IDS,
        remote_ssrcs: Vec::new(),
        rids: Vec::new(),
    }
}

fn sound() -> NegotiatedMedia {
    let codec = AcceptedCodec { codec: Codec::Opus, payload_type: 111, channels: 2, ..video(false).codecs.remove(0) };
    let extensions = ExtensionIds { playout_delay: None, ..IDS };
    NegotiatedMedia { mid: "1".into(), kind: MediaKind::Audio, codecs: vec![codec], extensions, ..video(false) }
}

/// A viewer of an H.264 stream, with the replica it reads and the browser it sends to.
struct Bench {
    now: Instant,
    replica: Replica,
    viewer: WhepSender,
    browser: Browser,
    sealer: SrtpSealer,
    scratch: Scratch,
    seq: u64,
    sound_seq: u64,
    /// What the next picture's first packet says.
    capture: Option<CaptureTime>,
}

impl Bench {
    /// A stream of pictures alone.
    fn new(rtx: bool) -> Self {
        Self::with_sections(vec![video(rtx)])
    }

    /// With sound, which the offer names first, as some do.
    fn with_sound(rtx: bool) -> Self {
        Self::with_sections(vec![sound(), video(rtx)])
    }

    fn with_sections(sections: Vec<NegotiatedMedia>) -> Self {
        let ids: Vec<_> = sections
            .iter()
            .map(|section| match section.kind {
                MediaKind::Video => {
                    SenderIds { ssrc: 1_000, rtx_ssrc: section.codecs[0].rtx_payload_type.map(|_| 2_000) }
                }
                MediaKind::Audio => SenderIds { ssrc: 3_000, rtx_ssrc: None },
            })
            .collect();
        let numbers = || StreamNumbers { first_seq: 100, first_rtx_seq: 5, time_offset_ticks: 0 };
        let settings = SenderSettings { join_burst_mbps: 40, playout_delay_max_ms: 500 };
        let media = Negotiated { media: sections };
        let mut bench = Self {
            now: epoch(),
            replica: Replica::default(),
            viewer: WhepSender::new(epoch(), epoch(), &media, &ids, numbers, "name".into(), settings),
            browser: Browser::new(),
            sealer: SrtpSealer::with_master(SrtpProfile::AeadAes128Gcm, &KEY, &SALT).unwrap(),
            scratch: Scratch::default(),
            seq: 0,
            sound_seq: 0,
            capture: None,
        };
        bench.publisher(1, Codec::H264);
        bench
    }

    /// Another publisher takes the stream.
    fn publisher(&mut self, publication: u64, codec: Codec) {
        let track =
            |codec, channels| TrackSnapshot::single(TrackFormat { codec, fmtp: String::new(), channels }, Vec::new());
        let tracks = vec![track(codec, 1), track(Codec::Opus, 2)];
        let snapshot = Snapshot { publication, sound_lags: true, tracks };
        self.replica.apply(Delivery::Snapshot(Arc::new(snapshot)), &mut News::default());
    }

    /// A picture of packets of these sizes comes.
    fn picture(&mut self, keyframe: bool, sizes: &[usize]) {
        self.now += Duration::from_millis(33);
        let time_ticks = self.now.saturating_duration_since(epoch()).as_millis() as u64 * 90;
        let capture = self.capture.take();
        let packet = |(at, size): (usize, &usize)| {
            Arc::new(TrackPacket {
                seq: ExtendedSeq(self.seq + at as u64),
                time_ticks,
                arrival: self.now,
                marker: at + 1 == sizes.len(),
                keyframe_start: keyframe && at == 0,
                capture: capture.filter(|_| at == 0),
                payload: Bytes::from(vec![at as u8 + 1; *size]),
            })
        };
        let packets: Vec<_> = sizes.iter().enumerate().map(packet).collect();
        self.seq += sizes.len() as u64;
        let batch = Batch { track: TrackIndex(0), layer: LayerIndex(0), packets };
        self.replica.apply(Delivery::Packets(Arc::new([batch])), &mut News::default());
    }

    /// Sound comes, of packets of these sizes.
    fn sound(&mut self, sizes: &[usize]) {
        let packet = |(at, size): (usize, &usize)| {
            Arc::new(TrackPacket {
                seq: ExtendedSeq(self.sound_seq + at as u64),
                time_ticks: (self.sound_seq + at as u64) * 960,
                arrival: self.now,
                marker: false,
                keyframe_start: false,
                capture: None,
                payload: Bytes::from(vec![0xaa; *size]),
            })
        };
        let packets: Vec<_> = sizes.iter().enumerate().map(packet).collect();
        self.sound_seq += sizes.len() as u64;
        let batch = Batch { track: TrackIndex(1), layer: LayerIndex(0), packets };
        self.replica.apply(Delivery::Packets(Arc::new([batch])), &mut News::default());
    }

    fn send(&mut self) -> Round {
        self.viewer.follow(self.now, &self.replica);
        let mut output = Output { sealer: &self.sealer, scratch: &mut self.scratch, out: &mut self.browser };
        self.viewer.send(self.now, &self.replica, None, &mut output)
    }

    fn hear(&mut self, compound: &[u8]) -> Feedback {
        let mut output = Output { sealer: &self.sealer, scratch: &mut self.scratch, out: &mut self.browser };
        let ntp = NtpTime::from_system(std::time::SystemTime::UNIX_EPOCH);
        self.viewer.handle_rtcp(self.now, ntp, compound, &self.replica, &mut output)
    }
}

#[test]
fn a_picture_of_nearly_equal_packets_is_one_call_of_equal_segments() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[1_100, 1_099, 1_101, 1_100, 300]);
    let round = bench.send();
    assert_eq!(bench.browser.calls.len(), 1);
    let sizes: Vec<_> = bench.browser.calls[0].iter().map(Vec::len).collect();
    assert_eq!(sizes, [1_137, 1_137, 1_137, 1_137, 336]);
    assert_eq!((round.sent.packets, round.sent.payload_bytes), (5, 4_700));
    assert_eq!(round.joined_after, Some(Duration::from_millis(33)));
    let packets = bench.browser.open();
    let payloads: Vec<_> = packets.iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(payloads, [1_100, 1_099, 1_101, 1_100, 300], "padding is gone after opening");
    assert!(packets.iter().all(|packet| packet.header.ssrc == 1_000 && packet.header.payload_type == 102));
    assert_eq!(packets.iter().map(|packet| packet.header.sequence).collect::<Vec<_>>(), [100, 101, 102, 103, 104]);
    assert_eq!(packets.iter().filter(|packet| packet.header.marker).count(), 1);
}

#[test]
fn a_packet_too_short_to_pad_ends_its_call() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[1_100, 30, 1_100, 1_100]);
    bench.send();
    assert_eq!(bench.browser.calls.iter().map(Vec::len).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(bench.browser.open().len(), 4);
}

#[test]
fn the_longest_packets_of_the_tree_go_out_too() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[PAYLOAD_BYTES_MAX; 20]);
    let mut sent = 0;
    while sent < 20 {
        bench.now += Duration::from_millis(10);
        sent += bench.send().sent.packets;
    }
    assert!(bench.browser.open().iter().all(|packet| packet.payload.len() == PAYLOAD_BYTES_MAX));
}

#[test]
fn without_retransmission_stream_nothing_is_padded_and_a_resend_is_the_same_bytes() {
    let mut bench = Bench::new(false);
    bench.picture(true, &[1_100, 1_099, 1_101]);
    bench.send();
    let calls = std::mem::take(&mut bench.browser.calls);
    assert_eq!(calls.iter().flatten().map(Vec::len).collect::<Vec<_>>(), [1_136, 1_135, 1_137]);
    let mut nack = Vec::new();
    write_nack(&mut nack, 1, 1_000, &[101]);
    let feedback = bench.hear(&nack);
    assert_eq!((feedback.nacked_packets, feedback.resent.packets), (1, 1));
    let first = calls.into_iter().flatten().nth(1).unwrap();
    assert_eq!(bench.browser.calls, [[first]], "one number is sealed over one content only");
}

#[test]
fn a_lost_packet_comes_again_in_the_retransmission_stream() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[1_100, 1_099, 1_101]);
    bench.send();
    bench.browser.open();
    let mut nack = Vec::new();
    write_nack(&mut nack, 1, 1_000, &[101, 101, 4_000]);
    let feedback = bench.hear(&nack);
    assert_eq!(
        (feedback.nacked_packets, feedback.resent.packets),
        (3, 1),
        "once per round trip, and only what there was"
    );
    let again = bench.browser.open();
    assert_eq!((again[0].header.ssrc, again[0].header.payload_type, again[0].header.sequence), (2_000, 103, 5));
    assert_eq!(again[0].payload[..2], 101u16.to_be_bytes());
    assert_eq!(again[0].payload[2..], [2; 1_099]);
}

#[test]
fn squeezed_pictures_are_shown_at_once_and_live_ones_wait_for_a_sound_that_lags() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[500]);
    bench.picture(false, &[500]);
    bench.send();
    let squeezed = bench.browser.calls[0][0].clone();
    assert_eq!(squeezed[12..20], [0xbe, 0xde, 0, 1, 5 << 4 | 2, 0, 0, 0]);
    bench.browser.open();
    bench.picture(false, &[500]);
    bench.send();
    let live = bench.browser.calls[0][0].clone();
    assert_eq!(live[12..20], [0xbe, 0xde, 0, 1, 5 << 4 | 2, 0, 0x10, 50], "10 to 500 ms");
}

#[test]
fn a_join_is_paced() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[1_100; 40]);
    (0..10).for_each(|_| bench.picture(false, &[1_100; 8]));
    let mut millis = 0;
    while bench.send().backlog {
        let bytes: usize = bench.browser.calls.iter().flatten().map(Vec::len).sum();
        assert!(bytes <= 14 * 1_200, "{bytes} bytes at once");
        bench.browser.calls.clear();
        bench.now += Duration::from_millis(1);
        millis += 1;
    }
    // 135 kB at 40 Mb/s, less the first burst.
    assert!((20..30).contains(&millis), "took {millis} ms");
}

#[test]
fn a_broken_picture_is_mended_from_the_cache_before_the_publisher_is_asked() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[500]);
    bench.send();
    bench.picture(false, &[500]);
    bench.send();
    let mut pli = Vec::new();
    write_pli(&mut pli, 1, 1_000);
    assert_eq!(bench.hear(&pli).wants_keyframe, None);
    bench.browser.calls.clear();
    bench.send();
    let mended = bench.browser.open();
    assert_eq!(mended.iter().map(|packet| packet.header.sequence).collect::<Vec<_>>(), [102, 103]);
    assert_eq!(
        bench.hear(&pli).wants_keyframe,
        Some((TrackIndex(0), LayerIndex(0))),
        "it did not help: a new keyframe must"
    );
}

#[test]
fn after_an_outage_pictures_begin_anew_rather_than_all_come_again() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[1_100; 10]);
    bench.send();
    bench.browser.calls.clear();
    for _ in 0..20 {
        bench.picture(false, &[1_100; 5]);
        bench.send();
    }
    bench.browser.calls.clear();
    let missing = |range: std::ops::Range<u16>| {
        let mut nack = Vec::new();
        write_nack(&mut nack, 1, 1_000, &range.collect::<Vec<_>>());
        nack
    };
    let feedback = bench.hear(&missing(110..150));
    assert_eq!((feedback.resent.packets, feedback.mended), (40, false), "some packets come again");
    bench.browser.open();

    bench.now += Duration::from_secs(1);
    let feedback = bench.hear(&missing(110..210));
    assert_eq!((feedback.nacked_packets, feedback.resent.packets), (100, 0));
    assert!(feedback.mended && feedback.wants_keyframe.is_none() && feedback.keyframe_requests == 0);
    while bench.send().backlog {
        bench.now += Duration::from_millis(1);
    }
    let anew = bench.browser.open();
    let numbers = anew.iter().map(|packet| packet.header.sequence);
    assert_eq!(numbers.collect::<Vec<_>>(), (210..320).collect::<Vec<_>>(), "from the keyframe on, under new numbers");

    let feedback = bench.hear(&missing(110..210));
    assert_eq!((feedback.resent.packets, feedback.mended), (0, false), "what came before it is of no use");
    let feedback = bench.hear(&missing(230..290));
    assert!((40..60).contains(&feedback.resent.packets) && !feedback.mended, "it has just begun anew");
}

#[test]
fn sender_reports_tell_the_live_clock() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[500]);
    bench.send();
    let mut compound = Vec::new();
    let ntp = NtpTime(5 << 32);
    let due = bench.viewer.report_due().unwrap();
    let at = due.max(bench.now) + Duration::from_millis(10);
    assert!(bench.viewer.poll_report(at, ntp, &bench.replica, &mut compound));
    let Some(Rtcp::SenderReport(report)) = RtcpReader::new(&compound).next() else { panic!("no sender report") };
    assert_eq!((report.ssrc, report.packets, report.bytes, report.ntp), (1_000, 1, 500, ntp));
    let ticks = at.saturating_duration_since(epoch()).as_micros() as u32 * 90 / 1_000;
    assert_eq!(report.rtp_time, ticks);
    assert!(!bench.viewer.poll_report(at, ntp, &bench.replica, &mut compound), "once a second");
}

#[test]
fn a_publisher_that_the_viewer_cannot_decode_is_named_once_and_never_sent() {
    let mut bench = Bench::new(true);
    bench.picture(true, &[500]);
    bench.send();
    bench.browser.open();
    bench.publisher(2, Codec::Av1);
    let named = bench.viewer.follow(bench.now, &bench.replica);
    assert_eq!(named.iter().map(ToString::to_string).collect::<Vec<_>>(), ["AV1 is sent, H264 can be decoded"]);
    assert!(bench.viewer.came_for(named[0].format.codec.kind()));
    bench.picture(true, &[500]);
    assert_eq!(bench.viewer.follow(bench.now, &bench.replica), [], "once is enough");
    assert_eq!(bench.send(), Round::default(), "nothing goes out, and no keyframe is asked for");
    let mut asks = Vec::new();
    write_nack(&mut asks, 1, 1_000, &[100]);
    assert_eq!(bench.hear(&asks).resent, Sent::default());

    bench.publisher(3, Codec::H264);
    bench.picture(true, &[500]);
    bench.send();
    let resumed = bench.browser.open();
    assert_eq!(resumed.iter().map(|packet| packet.header.sequence).collect::<Vec<_>>(), [101], "where it left off");
}

#[test]
fn sound_that_cannot_be_decoded_takes_no_picture_along() {
    let section = |kind, codec| NegotiatedMedia {
        mid: "0".into(),
        kind,
        codecs: vec![AcceptedCodec {
            codec,
            payload_type: 96,
            fmtp: String::new(),
            channels: 1,
            rtx_payload_type: None,
            feedback: Default::default(),
        }],
        extensions: IDS,
        remote_ssrcs: Vec::new(),
        rids: Vec::new(),
    };
    let came_for = |media: Vec<NegotiatedMedia>, kind| {
        let ids = vec![SenderIds { ssrc: 1, rtx_ssrc: None }; media.len()];
        let numbers = || StreamNumbers { first_seq: 0, first_rtx_seq: 0, time_offset_ticks: 0 };
        let settings = SenderSettings { join_burst_mbps: 40, playout_delay_max_ms: 500 };
        let media = Negotiated { media };
        WhepSender::new(epoch(), epoch(), &media, &ids, numbers, "name".into(), settings).came_for(kind)
    };
    let (sound, picture) = (section(MediaKind::Audio, Codec::Opus), section(MediaKind::Video, Codec::H264));
    assert!(came_for(vec![sound.clone(), picture.clone()], MediaKind::Video));
    assert!(!came_for(vec![sound.clone(), picture], MediaKind::Audio));
    assert!(came_for(vec![sound], MediaKind::Audio), "all it came for");
}

/// Each call's datagrams by payload type and size.
fn calls(browser: &mut Browser) -> Vec<Vec<(u8, usize)>> {
    let shape = |datagram: &Vec<u8>| (datagram[1] & 0x7f, datagram.len());
    browser.calls.iter().map(|call| call.iter().map(shape).collect()).collect()
}

#[test]
fn sound_goes_with_a_picture_as_the_last_segment_of_its_call() {
    let mut bench = Bench::with_sound(true);
    bench.picture(true, &[1_000, 1_002, 990]);
    bench.sound(&[160]);
    let round = bench.send();
    assert_eq!(round.sent.packets, 4);
    assert_eq!(round.sent.payload_bytes, 1_000 + 1_002 + 990 + 160);
    let [call] = &calls(&mut bench.browser)[..] else { panic!("one call: {:?}", calls(&mut bench.browser)) };
    let whole = call[1].1;
    assert_eq!(call[..3], [(102, whole), (102, whole), (102, whole)], "only the last segment may be shorter");
    assert_eq!(call[3], (111, 12 + 160 + 16));
    let sizes: Vec<_> = bench.browser.open().iter().map(|packet| packet.payload.len()).collect();
    assert_eq!(sizes, [1_000, 1_002, 990, 160], "padding is no payload");
}

#[test]
fn further_sound_goes_in_calls_of_its_own() {
    let mut bench = Bench::with_sound(true);
    bench.picture(true, &[1_000, 1_000]);
    bench.sound(&[160]);
    bench.send();
    bench.browser.open();
    bench.picture(false, &[1_000, 1_000]);
    bench.sound(&[161, 160]);
    bench.send();
    let shapes: Vec<Vec<u8>> =
        calls(&mut bench.browser).iter().map(|call| call.iter().map(|(kind, _)| *kind).collect()).collect();
    assert_eq!(shapes, [vec![102, 102, 111], vec![111]]);
    assert_eq!(bench.browser.open().len(), 4);
}

#[test]
fn sound_that_fits_no_picture_goes_alone() {
    // Larger than the picture's packets, which are therefore not padded for it.
    let mut bench = Bench::with_sound(true);
    bench.picture(true, &[100]);
    bench.sound(&[300]);
    bench.send();
    assert_eq!(calls(&mut bench.browser).len(), 2);
    assert_eq!(bench.browser.open().len(), 2);
    // Nothing may be padded where packets can be sent again under their own number.
    let mut bench = Bench::with_sound(false);
    bench.picture(true, &[1_000, 1_000, 900]);
    bench.sound(&[160]);
    bench.send();
    let sizes: Vec<_> = calls(&mut bench.browser).iter().map(Vec::len).collect();
    assert_eq!(sizes, [3, 1]);
}

#[test]
fn sound_waits_for_no_picture() {
    let mut bench = Bench::with_sound(true);
    bench.sound(&[160]);
    assert_eq!(bench.send().sent.packets, 1);
    assert_eq!(calls(&mut bench.browser), [[(111, 12 + 160 + 16)]]);
}
