//! What one connection can be made to hold before its messages are whole: a counting allocator, and a peer that tries.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sluice::rtmp::ChunkReader;

/// Of one connection, whatever it declares and sends.
const MEMORY_MAX_BYTES: i64 = 4 << 20;
/// What reaches the server in one read.
const READ_BYTES: usize = 64 * 1024;
/// The largest picture that is taken.
const PICTURE_MAX_BYTES: usize = 5 * 512 * 1024;
const COMMAND: u8 = 20;
const AUDIO: u8 = 8;
const VIDEO: u8 = 9;

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
