//! What one connection can be made to hold before its messages are whole, and what of them it can keep in the track tree: a counting allocator,
//! and a peer that tries.

#![allow(clippy::disallowed_methods, reason = "a session wants to know when it began")]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::{Instant, SystemTime},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rml_rtmp::{
    handshake::{Handshake, HandshakeProcessResult, PeerType},
    rml_amf0::{self, Amf0Value},
};
use sluice::{
    config::OnConflict,
    ingest::rtmp::{RtmpContext, Session},
    media::SessionId,
    metrics::Metrics,
    rtmp::ChunkReader,
    track::{EndReason, LayerIndex, Notice, PublisherControl, Streams, TrackIndex},
};
use sluice_signaling::token::Authenticator;

#[path = "fixtures/h264/annex_b.rs"]
mod annex_b;

/// Of one connection, whatever it declares and sends.
const MEMORY_MAX_BYTES: i64 = 4 << 20;
/// What reaches the server in one read.
const READ_BYTES: usize = 64 * 1024;
/// The largest picture that is taken.
const PICTURE_MAX_BYTES: usize = 5 * 512 * 1024;
const COMMAND: u8 = 20;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;
/// What frame readers begin with, while there are none (`ARCHITECTURE.md`, "The way of a packet").
const PICTURES_MAX_BYTES: i64 = 16 << 20;
const SOUND_MAX_BYTES: i64 = 4 << 20;
/// What has the form of a filler NAL unit, and of whatever else nobody asked for.
const BALLAST_BYTES: usize = 2_400_000;

thread_local! {
    static LIVE_BYTES: Cell<i64> = const { Cell::new(0) };
    static PEAK_BYTES: Cell<i64> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: i64) {
    let live = LIVE_BYTES.get() + bytes;
    LIVE_BYTES.set(live);
    PEAK_BYTES.set(PEAK_BYTES.get().max(live));
}

// SAFETY: every call is the system allocator's; counting touches thread-locals without a destructor. Growing in place is not counted as
// such: the old and the new are there for a moment, as `realloc` does it by default.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What a peer does; made beforehand, so that nothing but the reader allocates while it is counted.
enum Step {
    Chunks(u32),
    GiveUp(u32),
    Send(Vec<u8>),
}

/// A message's first chunk: header and as much as is sent of it.
fn begun(id: u8, kind: u8, declared: usize, sent: usize) -> Step {
    let [.., l0, l1, l2] = (declared as u32).to_be_bytes();
    let header = [id, 0, 0, 0, l0, l1, l2, kind, 1, 0, 0, 0];
    Step::Send([&header[..], &vec![0xaa; sent]].concat())
}

/// A chunk more of it.
fn gone_on(id: u8, sent: usize) -> Step {
    Step::Send([&[0xc0 | id][..], &vec![0xaa; sent]].concat())
}

/// The most that the reader held, until the peer was refused or had done everything.
fn held(allowed: bool, steps: &[Step]) -> i64 {
    let before = LIVE_BYTES.get();
    PEAK_BYTES.set(before);
    let mut reader = ChunkReader::default();
    reader.media_allowed = allowed;
    'refused: for step in steps {
        match step {
            Step::Chunks(bytes) => reader.set_chunk_bytes(*bytes).unwrap(),
            Step::GiveUp(id) => reader.abort(*id),
            Step::Send(bytes) => {
                for mut read in bytes.chunks(READ_BYTES) {
                    // A message that is whole is let go of at once: what becomes of it is bounded elsewhere.
                    while match reader.read(&mut read) {
                        Ok(message) => message.is_some(),
                        Err(_) => break 'refused,
                    } {}
                }
            }
        }
    }
    PEAK_BYTES.get() - before
}

#[test]
fn a_connection_holds_less_than_4_mib_whatever_it_declares_and_sends() {
    let large_chunks = || Step::Chunks(i32::MAX as u32);
    let one = held(true, &[large_chunks(), begun(4, VIDEO, PICTURE_MAX_BYTES, PICTURE_MAX_BYTES - 1)]);
    assert!(one > PICTURE_MAX_BYTES as i64, "a picture can be as large as that: {one} bytes");
    assert!(one < MEMORY_MAX_BYTES, "{one} bytes");
    let declared: Vec<_> = (3..34).map(|id| begun(id, VIDEO, PICTURE_MAX_BYTES, 128)).collect();
    let declared = held(true, &declared);
    assert!(declared < 256 * 1024, "what is declared costs nothing: {declared} bytes");
    let refused = held(false, &[large_chunks(), begun(4, VIDEO, PICTURE_MAX_BYTES, PICTURE_MAX_BYTES - 1)]);
    assert!(refused < 64 * 1024, "nor does what nobody may send yet: {refused} bytes");

    let mut random = StdRng::seed_from_u64(7);
    let mut most = 0;
    for round in 0..300 {
        let steps: Vec<_> = (0..random.random_range(1..200))
            .flat_map(|_| {
                let piece = [128, 4_096, 65_536, 600_000][random.random_range(0..4)];
                let id = random.random_range(3..36u8);
                let kind = [COMMAND, AUDIO, VIDEO, VIDEO][random.random_range(0..4)];
                let declared = match random.random_range(0..4) {
                    0 => random.random_range(0..1 << 22),
                    1 => PICTURE_MAX_BYTES,
                    2 => 64 * 1024,
                    _ => 32 * 1024,
                };
                let step = match random.random_range(0..8) {
                    0 => Step::GiveUp(id.into()),
                    1..4 => begun(id, kind, declared, piece.min(declared)),
                    _ => gone_on(id, piece),
                };
                [Step::Chunks(piece as u32), step]
            })
            .collect();
        most = most.max(held(round % 8 > 0, &steps));
    }
    println!("at the most {most} bytes");
    assert!(most < MEMORY_MAX_BYTES, "{most} bytes");
    // A peer that knows what it does: everything but the last picture's quarter, and then that quarter.
    let careful: Vec<_> = [large_chunks()]
        .into_iter()
        .chain([Step::Chunks(60_000)])
        .chain((5..12).map(|id| begun(id, AUDIO, 64 * 1024, 60_000)))
        .chain([Step::Chunks(600_000), begun(4, VIDEO, PICTURE_MAX_BYTES, 600_000)])
        .chain((0..3).map(|_| gone_on(4, 600_000)))
        .collect();
    let careful = held(true, &careful);
    println!("carefully {careful} bytes");
    assert!((PICTURE_MAX_BYTES as i64..MEMORY_MAX_BYTES).contains(&careful), "{careful} bytes");
}

/// Wants nothing.
struct Control;

impl PublisherControl for Control {
    fn request_keyframe(&self, _: TrackIndex, _: LayerIndex) {}

    fn end(&self, _: EndReason) {}

    fn notice(&self, _: &Notice) {}
}

/// Someone who publishes, in chunks as large as messages.
struct Publisher {
    session: Session,
    now: Instant,
    before: i64,
}

impl Publisher {
    fn new() -> Self {
        let context = RtmpContext {
            streams: Arc::new(Streams::default()),
            authenticator: Arc::new(Authenticator::open()),
            metrics: Metrics::new(),
            on_conflict: OnConflict::Takeover,
            connections_max: 1,
            reconnect_to: None,
            reencodes: false,
        };
        let (now, time_of_day) = (Instant::now(), SystemTime::now());
        let peer = "192.0.2.7:4000".parse().unwrap();
        let session = Session::new(Arc::new(context), SessionId::random(), peer, Arc::new(Control), now, time_of_day);
        let mut publisher = Self { session, now, before: 0 };
        let mut handshake = Handshake::new(PeerType::Client);
        publisher.session.handle_bytes(now, &handshake.generate_outbound_p0_and_p1().unwrap());
        let Ok(HandshakeProcessResult::Completed { response_bytes, .. }) =
            handshake.process_bytes(&publisher.session.take_output())
        else {
            panic!("one answer finishes the client's handshake");
        };
        publisher.session.handle_bytes(now, &response_bytes);
        publisher.send(0, 1, &i32::MAX.to_be_bytes());
        let text = |text: &str| Amf0Value::Utf8String(text.into());
        let application = Amf0Value::Object([("app".to_owned(), text("live"))].into());
        for command in [
            vec![text("connect"), Amf0Value::Number(1.0), application],
            vec![text("createStream"), Amf0Value::Number(2.0), Amf0Value::Null],
            vec![text("publish"), Amf0Value::Number(3.0), Amf0Value::Null, text("cam1")],
        ] {
            publisher.send(0, COMMAND, &rml_amf0::serialize(&command).unwrap());
        }
        publisher.before = LIVE_BYTES.get();
        publisher
    }

    fn send(&mut self, ms: u16, kind: u8, body: &[u8]) {
        self.try_to_send(ms, kind, body);
        assert!(self.session.ending().is_none(), "{:?}", self.session.ending());
    }

    /// It may be refused.
    fn try_to_send(&mut self, ms: u16, kind: u8, body: &[u8]) {
        let [_, l0, l1, l2] = (body.len() as u32).to_be_bytes();
        let [t0, t1] = ms.to_be_bytes();
        let head = [3, 0, t0, t1, l0, l1, l2, kind, 1, 0, 0, 0];
        self.session.handle_bytes(self.now, &[&head, body].concat());
        while self.session.poll_sound().is_some() {}
        self.session.take_output();
    }

    /// What is held of all that was sent.
    fn held(&self) -> i64 {
        LIVE_BYTES.get() - self.before
    }
}

/// A message with an access unit of H.264.
fn avc(keyframe: bool, nals: &[&[u8]]) -> Vec<u8> {
    let mut body = vec![if keyframe { 0x17 } else { 0x27 }, 1, 0, 0, 0];
    for nal in nals {
        body.extend((nal.len() as u32).to_be_bytes());
        body.extend_from_slice(nal);
    }
    body
}

/// A configuration message of a real stream, and its slices: one of each picture.
fn real_stream() -> (Vec<u8>, Vec<&'static [u8]>) {
    annex_b::read(include_bytes!("fixtures/h264/in-order.264"))
}

/// A picture parameter set (ITU-T H.264 section 7.3.2.2), as plain as can be.
fn picture_set(id: u32) -> Vec<u8> {
    let mut bits = String::new();
    let unsigned = |bits: &mut String, value: u32| {
        let code = format!("{:b}", value + 1);
        bits.push_str(&"0".repeat(code.len() - 1));
        bits.push_str(&code);
    };
    unsigned(&mut bits, id);
    // The sequence set's id, two flags, three zeros, three bits of prediction, three zeros, three flags, and the end.
    bits.push_str("1 00 111 000 111 000 1");
    let bits: Vec<_> = bits.chars().filter(|bit| *bit != ' ').collect();
    let byte = |bits: &[char]| bits.iter().rev().fold(0, |byte, bit| byte >> 1 | if *bit == '1' { 0x80 } else { 0 });
    [0x68].into_iter().chain(bits.chunks(8).map(byte)).collect()
}

#[test]
fn what_stays_of_a_message_keeps_nothing_else_of_it() {
    let ballast = vec![0x0c; BALLAST_BYTES];
    let (configuration, slices) = real_stream();

    let mut sets = Publisher::new();
    sets.send(0, VIDEO, &configuration);
    (1..15).for_each(|id| sets.send(id as u16, VIDEO, &avc(false, &[&picture_set(id), &ballast])));
    let sets = sets.held();
    println!("parameter sets: {sets} bytes");
    assert!(sets < 1 << 20, "{sets} bytes of parameter sets");

    let mut pictures = Publisher::new();
    pictures.send(0, VIDEO, &configuration);
    for (at, slice) in slices.iter().enumerate() {
        pictures.send(33 * at as u16, VIDEO, &avc(slice[0] & 0x1f == 5, &[slice, &ballast]));
    }
    let pictures = pictures.held();
    println!("pictures: {pictures} bytes");
    assert!(pictures < PICTURES_MAX_BYTES + (2 << 20), "{pictures} bytes of pictures");

    let mut tracks = Publisher::new();
    let vp8 = |keyframe: bool| [if keyframe { 0x10 } else { 0x11 }, 2, 0, 0x9d, 1, 0x2a, 0x80, 2, 0x68, 1];
    for at in 0..60u16 {
        // Several tracks of several codecs: ours, and one that nobody knows.
        let first = if at == 0 { 0x96 } else { 0xa6 };
        let mut body = [&[first, 0x21][..], b"vp08\0", &[0, 0, 10], &vp8(at == 0), b"none\x01"].concat();
        body.extend(&(BALLAST_BYTES as u32).to_be_bytes()[1..]);
        tracks.send(33 * at, VIDEO, &[&body, &ballast[..]].concat());
    }
    let tracks = tracks.held();
    println!("tracks: {tracks} bytes");
    assert!(tracks < 1 << 20, "{tracks} bytes of one of two tracks");

    let mut modified = Publisher::new();
    for at in 0..200u16 {
        // Modifiers of 64 KiB that mean nothing.
        let mut body = vec![if at == 0 { 0x97 } else { 0xa7 }];
        for left in (0..16u8).rev() {
            body.extend([255, 0xff, 0xff]);
            body.extend_from_slice(&ballast[..65_536]);
            body.push(0xf0 | if left == 0 { 1 } else { 7 });
        }
        body.extend([&b"vp08"[..], &vp8(at == 0)].concat());
        modified.send(33 * at, VIDEO, &body);
    }
    let modified = modified.held();
    println!("behind modifiers: {modified} bytes");
    assert!(modified < 1 << 20, "{modified} bytes behind modifiers");
}

#[test]
fn sound_is_kept_by_its_bytes() {
    let ballast = vec![0; 60_000];
    let mut sound = Publisher::new();
    sound.send(0, AUDIO, &[0xaf, 0, 0x12, 0x10]);
    (0..2_000).for_each(|_| sound.send(20, AUDIO, &[&[0xaf, 1], &ballast[..]].concat()));
    let sound = sound.held();
    println!("sound: {sound} bytes");
    assert!((1 << 20..SOUND_MAX_BYTES + (1 << 20)).contains(&sound), "{sound} bytes of sound");

    // Configurations are kept with the frames that they are of.
    let mut configured = Publisher::new();
    for at in 0..2_000u16 {
        configured.send(0, AUDIO, &[&[0xaf, 0, 0x12, 0x10][..], &at.to_be_bytes(), &ballast].concat());
        configured.send(20, AUDIO, &[0xaf, 1, 1, 2, 3]);
    }
    let configured = configured.held();
    println!("configurations of sound: {configured} bytes");
    assert!(configured < 1 << 20, "{configured} bytes of configurations of sound");
}

#[test]
fn formats_are_kept_of_what_can_be_decoded_with_them() {
    let (configuration, slices) = real_stream();
    let ballast = vec![0; 60_000];
    let mut sides = Publisher::new();
    sides.send(0, VIDEO, &configuration);
    sides.send(0, VIDEO, &avc(true, &[slices[0]]));
    // A second track, which is configured anew before each picture.
    let head = |frame: u8, packet: u8| [&[frame, packet][..], b"avc1\x01"].concat();
    for at in 0..250u8 {
        let frame = if at == 0 { 0x96 } else { 0xa6 };
        sides.send(0, VIDEO, &[&head(0x96, 0)[..], &configuration[5..], &[at], &ballast[..]].concat());
        sides.send(0, VIDEO, &[&head(frame, 1)[..], &avc(false, &[slices[usize::from(at != 0)]])[2..]].concat());
    }
    let sides = sides.held();
    println!("formats of a side track: {sides} bytes");
    assert!(sides < 1 << 20, "{sides} bytes of formats");
}

#[test]
fn what_goes_before_every_keyframe_is_bounded() {
    let (configuration, slices) = real_stream();
    // By number, and by bytes: what is behind a set is no part of it, and is sent all the same.
    for (bytes, taken, why) in [(8, 14, "more than 16 parameter sets"), (4_096, 3, "more than 16384 bytes")] {
        let mut publisher = Publisher::new();
        publisher.send(0, VIDEO, &configuration);
        for id in 1..=taken + 1 {
            let mut set = picture_set(id);
            set.resize(bytes, 0x80);
            publisher.try_to_send(0, VIDEO, &avc(true, &[&set, slices[0]]));
            let ending = format!("{:?}", publisher.session.ending());
            assert_eq!(ending.contains(why), id > taken, "{id} sets of {bytes} bytes: {ending}");
            assert!(id > taken || ending == "None", "{ending}");
        }
    }
}
