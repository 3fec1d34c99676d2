//! Enhanced RTMP, AMF3 and the handshake with digests, as a whole session.

use std::collections::HashMap;

use aws_lc_rs::hmac;
use rml_rtmp::rml_amf0::{self, Amf0Value};

use super::*;
use crate::{
    media::Codec,
    track::{FrameDelivery, FrameInterest, OriginalFormat, Originals},
};

pub(super) fn text(text: &str) -> Amf0Value {
    Amf0Value::Utf8String(text.into())
}

/// A message in one chunk, on chunk stream 3.
pub(super) fn message(kind: u8, stream_id: u8, body: &[u8]) -> Vec<u8> {
    message_at(0, kind, stream_id, body)
}

fn message_at(ms: u8, kind: u8, stream_id: u8, body: &[u8]) -> Vec<u8> {
    let [_, l0, l1, l2] = (body.len() as u32).to_be_bytes();
    let head = [3, 0, 0, ms, l0, l1, l2, kind, stream_id, 0, 0, 0];
    let mut chunks = head.to_vec();
    for (at, piece) in body.chunks(128).enumerate() {
        if at > 0 {
            chunks.push(0xc3);
        }
        chunks.extend_from_slice(piece);
    }
    chunks
}

fn command(values: Vec<Amf0Value>) -> Vec<u8> {
    message(20, 0, &rml_amf0::serialize(&values).unwrap())
}

/// Has shaken hands and connected; what it was answered.
pub(super) fn connected(context: &Arc<RtmpContext>, properties: &[(&str, Amf0Value)]) -> (Session, Vec<u8>) {
    let (mut session, _) = session(context);
    shake_hands(&mut session);
    session.take_output();
    let mut object: HashMap<_, _> = properties.iter().map(|(name, value)| ((*name).into(), value.clone())).collect();
    object.insert("app".into(), text("live"));
    session.handle_bytes(epoch(), &command(vec![text("connect"), Amf0Value::Number(1.0), Amf0Value::Object(object)]));
    let answer = session.take_output();
    (session, answer)
}

pub(super) fn publish(session: &mut Session) {
    session.handle_bytes(epoch(), &command(vec![text("createStream"), Amf0Value::Number(2.0), Amf0Value::Null]));
    let body =
        rml_amf0::serialize(&vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("cam1")]).unwrap();
    session.handle_bytes(epoch(), &message(20, 1, &body));
    assert!(session.is_publishing(), "{:?}", session.ending());
    session.take_output();
}

fn says(output: &[u8], text: &str) -> bool {
    output.windows(text.len()).any(|window| window == text.as_bytes())
}

#[test]
fn the_answer_to_connect_tells_which_codecs_are_taken() {
    let (session, answer) = connected(&open(), &[("fourCcList", Amf0Value::StrictArray(vec![text("av01")]))]);
    assert_eq!(session.ending(), None);
    for said in ["fourCcList", "videoFourCcInfoMap", "audioFourCcInfoMap", "capsEx", "av01", "hvc1", "vp09", "Opus"] {
        assert!(says(&answer, said), "{said}");
    }
}

#[test]
fn av1_and_opus_go_on_as_they_came() {
    let context = open();
    let (mut session, _) = connected(&context, &[]);
    publish(&mut session);
    let stream = context.streams.get(&"cam1".parse().unwrap()).unwrap();
    let formats = Arc::new(Mutex::new(Vec::new()));
    let seen = formats.clone();
    let _reader = stream.subscribe_frames(
        FrameInterest::Publisher,
        Arc::new(move |delivery| {
            if let FrameDelivery::Originals(Originals::Units(units)) = delivery {
                seen.lock().extend(units.iter().map(|unit| unit.format.clone()));
            }
            true
        }),
    );
    const SEQUENCE: [u8; 13] = [0x0a, 0x0b, 0x00, 0x00, 0x00, 0x0c, 0xc4, 0xff, 0x67, 0x3e, 0xbe, 0x60, 0x10];
    let record = [&b"\x90av01\x81\x05\x0c\0"[..], &SEQUENCE].concat();
    session.handle_bytes(epoch(), &message(9, 1, &record));
    session.handle_bytes(epoch(), &message(8, 1, b"\x90OpusOpusHead\x01\x02\x38\x01\x80\xbb\0\0\0\0\0"));
    for at in 0..4u64 {
        // The keyframe has no sequence header of its own.
        let frame = [if at == 0 { &b"\x91av01"[..] } else { b"\xa1av01" }, &[0x32, 2, 7, 7]].concat();
        session.handle_bytes(ms(20 * at), &message_at(20 * at as u8, 9, 1, &frame));
        session.handle_bytes(
            ms(20 * at),
            &message_at(20 * at as u8, 8, 1, &[&b"\x91Opus"[..], &[31 << 3, 1, 2]].concat()),
        );
        assert!(session.poll_sound().is_none(), "nothing is transcoded");
    }
    assert_eq!(session.ending(), None);
    let tracks = stream.state().tracks;
    let video = tracks.iter().find(|track| track.format.codec == Codec::Av1).unwrap();
    assert_eq!((video.format.fmtp.as_str(), video.packets, video.keyframes), ("level-idx=1;profile=0;tier=0", 4, 1));
    assert_eq!(video.size.map(|size| (size.width, size.height)), Some((640, 360)));
    let sound = tracks.iter().find(|track| track.format.codec == Codec::Opus).unwrap();
    assert_eq!(sound.packets, 4);
    let formats = formats.lock();
    assert!(formats.iter().any(|format| **format == OriginalFormat::Opus { channels: 2 }));
    assert!(formats.iter().any(|format| **format == OriginalFormat::Av1(Bytes::from_static(&SEQUENCE))));
}

#[test]
fn a_codec_may_change_and_further_tracks_of_it_become_layers() {
    let context = open();
    let (mut session, _) = connected(&context, &[]);
    publish(&mut session);
    let stream = context.streams.get(&"cam1".parse().unwrap()).unwrap();
    let vp9 = [0x82, 0x49, 0x83, 0x42, 0x00, 0x27, 0xf0, 0x16, 0x76, 0x04];
    let vp8 = [0x10, 2, 0, 0x9d, 0x01, 0x2a, 0x80, 2, 0x68, 1];
    session.handle_bytes(ms(0), &message(9, 1, &[&b"\x91vp09"[..], &vp9].concat()));
    assert_eq!(stream.state().tracks[0].format.codec, Codec::Vp9);
    // The second track in a message of its own; a third one, which does not begin with a keyframe.
    let of_track = |frame: u8, id: u8| [&[frame, 0x01][..], b"vp09", &[id], &vp9].concat();
    session.handle_bytes(ms(10), &message(9, 1, &of_track(0x96, 1)));
    session.handle_bytes(ms(10), &message(9, 1, &of_track(0x96, 1)));
    session.handle_bytes(ms(20), &message(9, 1, &[&b"\xa6\x01vp09\x02"[..], &[0x86, 0, 0]].concat()));
    let layers = || {
        let layers = stream.state().tracks.remove(0).layers.into_iter().map(|layer| layer.state);
        layers.map(|layer| (layer.rid, layer.active, layer.size.map(|size| size.width))).collect::<Vec<_>>()
    };
    assert_eq!(layers(), [(None, true, Some(640)), (Some("track-1".into()), true, Some(640))]);
    assert_eq!(stream.state().notices, []);
    // Layers of a track have one codec.
    session.handle_bytes(ms(40), &message(9, 1, &[&b"\x91vp08"[..], &vp8].concat()));
    session.handle_bytes(ms(40), &message(9, 1, &of_track(0x96, 1)));
    let state = stream.state();
    assert_eq!((state.tracks[0].format.codec, state.tracks[0].packets), (Codec::Vp8, 4));
    assert_eq!(state.notices.iter().map(|notice| notice.code).collect::<Vec<_>>(), ["video-tracks-ignored"]);
    assert_eq!(session.ending(), None);
}

#[test]
fn who_can_is_asked_to_connect_again_and_served_meanwhile() {
    let mut context = open();
    Arc::get_mut(&mut context).unwrap().reconnect_to = Some("rtmp://b.example.net/live".into());
    let (mut able, _) = connected(&context, &[("capsEx", Amf0Value::Number(3.0))]);
    publish(&mut able);
    able.handle_drain(epoch());
    let output = able.take_output();
    assert!(says(&output, "NetConnection.Connect.ReconnectRequest") && says(&output, "rtmp://b.example.net/live"));
    assert_eq!(able.ending(), None);
    able.handle_timeout(ms(1_999));
    assert_eq!(able.ending(), None);
    assert_eq!(able.poll_timeout(), ms(2_000));
    able.handle_timeout(ms(2_000));
    assert_eq!(able.ending(), Some(&Ending::Ended(EndReason::Draining)));

    for capabilities in [Amf0Value::Number(2.0), Amf0Value::Number(f64::NAN), text("1")] {
        let (mut unable, _) = connected(&open(), &[("capsEx", capabilities)]);
        publish(&mut unable);
        unable.handle_drain(epoch());
        assert_eq!(unable.ending(), Some(&Ending::Ended(EndReason::Draining)));
    }
}

#[test]
fn commands_in_amf3_are_understood() {
    let context = open();
    let (mut session, _) = session(&context);
    shake_hands(&mut session);
    // AMF0 behind a zero byte; the object changes over to AMF3.
    let mut connect = vec![0];
    connect.extend(rml_amf0::serialize(&vec![text("connect"), Amf0Value::Number(1.0)]).unwrap());
    connect.extend(b"\x11\x0a\x0b\x01\x07app\x06\x09live\x1dobjectEncoding\x04\x03\x01");
    session.handle_bytes(epoch(), &message(17, 0, &connect));
    let mut publish = vec![0];
    publish.extend(rml_amf0::serialize(&vec![text("publish"), Amf0Value::Number(0.0)]).unwrap());
    publish.extend(b"\x11\x01\x11\x06\x09cam1\x11\x06\x09live");
    session.handle_bytes(epoch(), &message(17, 1, &publish));
    assert!(session.is_publishing(), "{:?}", session.ending());
}

const PLAYER_KEY: &[u8] = b"Genuine Adobe Flash Player 001";
const SERVER_KEY: &[u8] = b"Genuine Adobe Flash Media Server 001\
    \xf0\xee\xc2\x4a\x80\x68\xbe\xe8\x2e\x00\xd0\xd1\x02\x9e\x7e\x57\x6e\xec\x5d\x2d\x29\x80\x6f\xab\x93\xb8\xe6\x36\xcf\xeb\x31\xae";
const SERVER_KEY_TEXT_BYTES: usize = 36;
const DIGEST_BYTES: usize = 32;

fn digest(key: &[u8], bytes: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), bytes).as_ref().to_vec()
}

/// Where the digest lies in a handshake's packet; four bytes from `offset_at` on say where.
fn digest_at(packet: &[u8], offset_at: usize) -> usize {
    let offset: usize = packet[offset_at..offset_at + 4].iter().map(|byte| usize::from(*byte)).sum();
    offset % 728 + offset_at + 4
}

fn without_digest(packet: &[u8], at: usize) -> Vec<u8> {
    [&packet[..at], &packet[at + DIGEST_BYTES..]].concat()
}

#[test]
fn a_handshake_with_digests_is_answered_with_digests() {
    // In either of the two places where a client may put it.
    for offset_at in [8, 772] {
        let mut c1: Vec<u8> = (0..1_536).map(|at| (at * 7 + offset_at) as u8).collect();
        c1[..8].copy_from_slice(&[0, 0, 0, 9, 0x80, 0, 7, 2]);
        let at = digest_at(&c1, offset_at);
        let sent = digest(PLAYER_KEY, &without_digest(&c1, at));
        c1[at..at + DIGEST_BYTES].copy_from_slice(&sent);
        let (mut session, _) = session(&open());
        session.handle_bytes(epoch(), &[&[3], &c1[..]].concat());
        let answer = session.take_output();
        assert_eq!(answer.len(), 1 + 2 * 1_536, "{offset_at}");
        let (s1, s2) = answer[1..].split_at(1_536);
        let proves = |offset_at: usize| {
            let at = digest_at(s1, offset_at);
            digest(&SERVER_KEY[..SERVER_KEY_TEXT_BYTES], &without_digest(s1, at)) == s1[at..at + DIGEST_BYTES]
        };
        assert!(proves(8) || proves(772), "its own packet has a digest");
        let (body, signature) = s2.split_at(1_536 - DIGEST_BYTES);
        assert_eq!(digest(&digest(SERVER_KEY, &sent), body), signature, "and it has read ours, at {offset_at}");
    }
}

#[test]
fn a_handshake_without_digests_is_answered_plainly() {
    let (mut session, _) = session(&open());
    let c1: Vec<u8> = [0, 0, 0, 9, 0, 0, 0, 0].into_iter().chain((8..1_536).map(|at| at as u8)).collect();
    session.handle_bytes(epoch(), &[&[3], &c1[..]].concat());
    let answer = session.take_output();
    assert_eq!((answer.len(), &answer[1 + 1_536 + 8..]), (1 + 2 * 1_536, &c1[8..]), "its bytes come back");
    session.handle_bytes(epoch(), &answer[1..=1_536]);
    assert_eq!(session.ending(), None);
}
