//! Publishers' times wrap on the wire, and what viewers of HLS are given does not show it: from what a publisher sends, through the
//! track tree, to parts that a strict reader takes.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use bytes::Bytes;
use parking_lot::Mutex;
use sluice_signaling::sdp::{AcceptedCodec, ExtensionIds, Feedback, Negotiated, NegotiatedMedia};

use crate::{
    config::OnConflict,
    egress::hls::{
        Packager, PackagerSettings,
        tests::{
            flv::{START_MS, at_ms, originals},
            player::{Player, wall},
            rtp,
        },
    },
    ingest::{rtmp::testing as rtmp, whip::WhipReceiver},
    media::{Codec, MediaKind, SessionId},
    rtp::rtcp::{NtpTime, SenderReport, write_sender_report},
    track::{
        EndReason, FrameDelivery, FrameInterest, FrameSink, LayerIndex, Original, OriginalFormat, Protocol,
        PublisherControl, PublisherInfo, Stream, Streams, TrackIndex,
    },
};

/// From the beginning of what is sent to where its times wrap.
const UNTIL_WRAP_MS: u32 = 1_500;
/// Times on the wire are whole milliseconds, and those of frames of sound are counted.
const ROUNDED_S: f64 = 0.002;
/// Where nobody notices that lips and voice are apart.
const LIPS_S: f64 = 0.040;

#[derive(Default)]
struct Lane(Mutex<VecDeque<FrameDelivery>>);

impl FrameSink for Lane {
    fn deliver(&self, delivery: FrameDelivery) -> bool {
        self.0.lock().push_back(delivery);
        true
    }
}

impl Lane {
    fn play(&self, player: &mut Player, now_ms: u64) {
        let delivered = std::mem::take(&mut *self.0.lock());
        delivered.into_iter().for_each(|delivery| player.deliver(at_ms(now_ms), delivery));
    }
}

/// An access unit as a message, and a format as the one that goes before.
fn message(unit: &Original) -> Vec<u8> {
    let composition = unit.unit.composition_offset_ticks.to_be_bytes();
    let head = match &*unit.format {
        OriginalFormat::Avc(_) => {
            vec![if unit.unit.keyframe { 0x17 } else { 0x27 }, 1, composition[1], composition[2], composition[3]]
        }
        OriginalFormat::Aac(_) => vec![0xaf, 1],
        other => panic!("{other:?}"),
    };
    [&head, &unit.unit.data[..]].concat()
}

fn configuration(format: &OriginalFormat) -> Vec<u8> {
    match format {
        OriginalFormat::Avc(record) => [&[0x17, 0, 0, 0, 0], &record[..]].concat(),
        OriginalFormat::Aac(config) => [&[0xaf, 0], &config[..]].concat(),
        other => panic!("{other:?}"),
    }
}

/// What ffmpeg sends, its times counted from `first_ms` in as many bits as `mask` has; `held_ms` more late in coming, pictures and sound.
fn published_by_rtmp(first_ms: u32, mask: u32, held_ms: [u64; 2]) -> (Player, Vec<Original>, Arc<Stream>) {
    let context = rtmp::open();
    let mut publisher = rtmp::live(&context, "cam1");
    let stream = context.streams.get(&"cam1".parse().unwrap()).unwrap();
    let lane = Arc::new(Lane::default());
    let _subscription = stream.subscribe_frames(FrameInterest::Publisher, lane.clone());
    let mut player = Player::new(Packager::new(PackagerSettings::default()));
    let units = originals(include_bytes!("../../tests/fixtures/flv/in-order.flv"));
    let is_picture = |unit: &&Original| unit.format.kind() == MediaKind::Video;
    let ms_of = |unit: &Original| unit.unit.decode_time_ticks - START_MS;
    // Their time is 0, whatever that of the first picture is: so muxers send them.
    publisher.video(at_ms(0), 0, configuration(&units.iter().find(is_picture).unwrap().format));
    publisher.audio(at_ms(0), 0, configuration(&units.iter().find(|unit| !is_picture(unit)).unwrap().format));
    let comes_ms = |unit: &Original| ms_of(unit) + held_ms[usize::from(!is_picture(&unit))];
    let mut sent: Vec<_> = units.iter().collect();
    sent.sort_by_key(|unit| comes_ms(unit));
    for unit in sent {
        let (now_ms, wire_ms) = (comes_ms(unit), first_ms.wrapping_add(ms_of(unit) as u32) & mask);
        if is_picture(&unit) {
            publisher.video(at_ms(now_ms), wire_ms, message(unit));
        } else {
            publisher.audio(at_ms(now_ms), wire_ms, message(unit));
        }
        lane.play(&mut player, now_ms);
    }
    player.poll_until(at_ms(6_000));
    (player, units, stream)
}

#[test]
fn rtmp_times_wrap_and_nothing_of_it_is_seen_or_heard() {
    // All 32 bits, and the 31 that FLV muxers write.
    for mask in [u32::MAX, i32::MAX as u32] {
        // Both lanes together, and one of them through the wrap while the other is before it for some messages more.
        for held_ms in [[0, 0], [0, 300], [300, 0]] {
            let (player, units, stream) = published_by_rtmp(mask - UNTIL_WRAP_MS, mask, held_ms);
            assert!(stream.state().notices.is_empty(), "{mask:#x} {held_ms:?}: {:?}", stream.state().notices);
            // One stretch of each, and every part begins where the one before ended: the player checks it.
            let (pictures, sound) = (player.pictures(), player.sound());
            let sent: Vec<_> = units.iter().filter(|unit| unit.format.kind() == MediaKind::Video).collect();
            let since_first_s = |unit: &Original| {
                (unit.unit.decode_time_ticks as f64 - sent[0].unit.decode_time_ticks as f64) / 1_000.0
            };
            let shown = pictures.shown_s();
            assert!(shown.len() >= sent.len() - 7, "{mask:#x} {held_ms:?}: {} shown", shown.len());
            for (shown, unit) in shown.iter().zip(&sent) {
                let expected = since_first_s(unit);
                assert!((shown - expected).abs() < ROUNDED_S, "{mask:#x} {held_ms:?}: {shown} {expected}");
            }
            assert!(sound.samples().count() > 150, "{mask:#x} {held_ms:?}: {}", sound.samples().count());
            // Frames of AAC are told by their bytes.
            for (heard, sample) in sound.shown_s().iter().zip(sound.samples()) {
                let unit = units.iter().find(|unit| unit.unit.data == sample.data).unwrap();
                let expected = since_first_s(unit);
                assert!((heard - expected).abs() < ROUNDED_S, "{mask:#x} {held_ms:?}: {heard} {expected}");
            }
        }
    }
}

struct Nobody;

impl PublisherControl for Nobody {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}

    fn end(&self, _: EndReason) {}
}

/// Payload type, SSRC and clock rate of each section.
const VIDEO: (u8, u32, u32) = (102, 0x1000, 90_000);
const AUDIO: (u8, u32, u32) = (111, 0x2000, 48_000);

fn section(mid: &str, codec: Codec, (payload_type, ssrc, _): (u8, u32, u32)) -> NegotiatedMedia {
    let is_h264 = codec == Codec::H264;
    let fmtp = if is_h264 { "packetization-mode=1;profile-level-id=64001f" } else { "" };
    let channels = if is_h264 { 1 } else { 2 };
    let feedback = Feedback::default();
    let codecs =
        vec![AcceptedCodec { codec, payload_type, fmtp: fmtp.into(), channels, rtx_payload_type: None, feedback }];
    let extensions = ExtensionIds::default();
    NegotiatedMedia { mid: mid.into(), kind: codec.kind(), codecs, extensions, remote_ssrcs: vec![ssrc], rids: vec![] }
}

/// A browser's packets; its clocks stand at `first` in the beginning, and reports tell them once a second.
fn published_by_whip(first: [u32; 2]) -> Player {
    let streams = Streams::default();
    let info = PublisherInfo {
        session: SessionId::random(),
        protocol: Protocol::Whip,
        priority: Default::default(),
        remote: ([127, 0, 0, 1], 9).into(),
        user_agent: String::new(),
        subject: None,
    };
    let (name, begin) = ("cam1".parse().unwrap(), wall(at_ms(0)));
    let publication =
        streams.publish(&name, info, Arc::new(Nobody), OnConflict::Takeover, SystemTime::UNIX_EPOCH).unwrap();
    let lane = Arc::new(Lane::default());
    let _subscription = publication.stream().subscribe_frames(FrameInterest::Publisher, lane.clone());
    let media = Negotiated { media: vec![section("0", Codec::H264, VIDEO), section("1", Codec::Opus, AUDIO)] };
    let mut receiver = WhipReceiver::new(at_ms(0), begin, &media, publication).unwrap();
    let mut player = Player::new(Packager::new(PackagerSettings { opus: true, ..PackagerSettings::default() }));
    let pictures = rtp::pictures(9, |at| at * 100 / 3).into_iter().map(|sent| (VIDEO, first[0], sent));
    let sound = rtp::sound(0, 4_000).into_iter().map(|sent| (AUDIO, first[1], sent));
    let mut sent: Vec<_> = pictures.chain(sound).collect();
    sent.sort_by_key(|(_, _, (ms, _))| *ms);
    // Some of them overtake each other.
    for at in (20..sent.len() - 1).step_by(7) {
        let (one, other) = (sent[at].2.0, sent[at + 1].2.0);
        sent.swap(at, at + 1);
        (sent[at].2.0, sent[at + 1].2.0) = (one, other);
    }
    let mut reported_ms = 0;
    for ((payload_type, ssrc, rate_hz), begins, (now_ms, packets)) in sent {
        for packet in packets {
            let ms = (packet.arrival - at_ms(0)).as_millis() as u32;
            let mut bytes = vec![0x80, u8::from(packet.marker) << 7 | payload_type];
            bytes.extend((packet.seq.0 as u16).to_be_bytes());
            bytes.extend(begins.wrapping_add(ms * (rate_hz / 1_000)).to_be_bytes());
            bytes.extend(ssrc.to_be_bytes());
            bytes.extend(&packet.payload);
            receiver.handle_rtp(at_ms(now_ms), bytes.into());
        }
        if now_ms >= reported_ms + 1_000 {
            reported_ms = now_ms;
            for ((_, ssrc, rate_hz), first) in [(VIDEO, first[0]), (AUDIO, first[1])] {
                let rtp_time = first.wrapping_add(now_ms as u32 * (rate_hz / 1_000));
                let ntp = NtpTime::from_system(wall(at_ms(now_ms)));
                let mut report = Vec::new();
                let of = SenderReport { ssrc, ntp, rtp_time, packets: 0, bytes: 0 };
                write_sender_report(&mut report, &of, &[]);
                receiver.handle_rtcp(at_ms(now_ms), Bytes::from(report));
            }
        }
        receiver.flush(at_ms(now_ms)).unwrap();
        lane.play(&mut player, now_ms);
    }
    player
}

#[test]
fn rtp_times_wrap_and_nothing_of_it_is_seen_or_heard() {
    let before_wrap = |ms: u32, rate_hz: u32| 0u32.wrapping_sub(ms * (rate_hz / 1_000));
    // The pictures' clock wraps first, the sound's does, both at once.
    for (pictures_ms, sound_ms) in [(1_500, 1_700), (1_700, 1_500), (1_600, 1_600), (20, 3_900)] {
        let player = published_by_whip([before_wrap(pictures_ms, 90_000), before_wrap(sound_ms, 48_000)]);
        let (pictures, sound) = (player.pictures(), player.sound());
        let shown = pictures.shown_s();
        assert!(shown.len() >= 112, "{} shown", shown.len());
        for (at, shown) in shown.iter().enumerate() {
            let expected = (at * 100 / 3) as f64 / 1_000.0;
            assert!((shown - expected).abs() < ROUNDED_S, "{pictures_ms} {sound_ms}: {shown} {expected}");
        }
        assert!(sound.samples().all(|sample| sample.duration == 960), "nothing had to be made up");
        let spoken = rtp::sound(0, 4_000);
        assert!(sound.samples().zip(&spoken).all(|(sample, (_, packets))| sample.data == packets[0].payload));
        // The same moment of both clocks is presented at the same time, before the wraps and behind them.
        for (at, heard) in sound.shown_s().iter().enumerate() {
            let expected = at as f64 * 0.020;
            assert!((heard - expected).abs() < LIPS_S, "{pictures_ms} {sound_ms}: {heard} {expected}");
        }
    }
}
