//! The header extensions that go to a viewer, one block of one-byte elements (RFC 8285 section 4.2): which packet says what, and in
//! how many bytes.
//!
//! What a packet says must be the same whenever it is asked, for a packet that is sent again must be the same bytes: it depends on the
//! packet, on how it goes out, and on its number. Only the time of sending is another each time; it is said to viewers alone that get
//! in a stream of its own what is sent again.

use std::time::Instant;

use crate::{
    media::{CaptureTime, ExtendedSeq},
    track::{Outgoing, Playout, TrackPacket},
};

/// Profile 0xBEDE and the length in words.
const BLOCK_HEADER_BYTES: usize = 4;
/// Id and length of an element.
const ELEMENT_HEADER_BYTES: usize = 1;
/// What an element carries at the most, and so the longest mid that is said.
const VALUE_BYTES_MAX: usize = 16;
/// The longest block: mid, time of sending, playout delay and capture time, rounded up to whole words.
pub const BLOCK_BYTES_MAX: usize = BLOCK_HEADER_BYTES
    + (4 * ELEMENT_HEADER_BYTES + VALUE_BYTES_MAX + SEND_TIME_BYTES + DELAY_BYTES + CaptureTime::BYTES)
        .next_multiple_of(4);

/// Seconds, 6.18 fixed point.
const SEND_TIME_BYTES: usize = 3;
const SEND_TIME_FRACTION_BITS: u32 = 18;

/// Two numbers of 12 bits, in units of 10 ms.
const DELAY_BYTES: usize = 3;
const DELAY_UNIT_MS: u16 = 10;
const DELAY_MAX: u16 = 0xfff;
/// Minimum and maximum 0: browsers then show a picture as soon as it is decoded.
const DELAY_NONE: [u8; DELAY_BYTES] = [0; DELAY_BYTES];
/// 10 ms, which browsers take to render anyway. With a minimum of 0 and a maximum below 500 ms Chromium shows every picture
/// as soon as it is decoded, whatever jitter and the sound ask for.
const DELAY_WAITING_MIN: u16 = 1;

/// Packets from the first on that say which `m=` line they are of (RFC 9143 section 15), unless the viewer reports before that it gets
/// them: five seconds of sound, after which browsers report on it; of pictures they do so after one.
const MID_PACKETS_MAX: u64 = 256;

/// Elements must have an id from 1 to 14.
fn usable(id: u8) -> bool {
    (1..15).contains(&id)
}

/// How the playout-delay extension is written to one viewer.
#[derive(Debug, Clone, Copy)]
struct PlayoutDelay {
    id: u8,
    /// Minimum and maximum for pictures that wait for a sound that lags.
    waiting: [u8; DELAY_BYTES],
}

impl PlayoutDelay {
    fn new(id: u8, waiting_max_ms: u16) -> Self {
        let max = (waiting_max_ms / DELAY_UNIT_MS).min(DELAY_MAX).to_be_bytes();
        // Two numbers of 12 bits.
        let waiting = [(DELAY_WAITING_MIN >> 4) as u8, (DELAY_WAITING_MIN << 4) as u8 | max[0], max[1]];
        Self { id, waiting }
    }
}

/// When packets are sent (abs-send-time), by a clock of the session's own: receivers look at differences.
#[derive(Debug, Clone, Copy)]
struct SendClock {
    id: u8,
    began: Instant,
}

impl SendClock {
    fn said(self, now: Instant) -> (u8, [u8; SEND_TIME_BYTES]) {
        let since = now.saturating_duration_since(self.began);
        let fraction = (u64::from(since.subsec_nanos()) << SEND_TIME_FRACTION_BITS) / 1_000_000_000;
        // It wraps after 64 s.
        let [_, value @ ..] = ((since.as_secs() as u32) << SEND_TIME_FRACTION_BITS | fraction as u32).to_be_bytes();
        (self.id, value)
    }
}

/// The section's name, said by packets whose number is below `until`.
#[derive(Debug, Clone, Copy)]
struct Mid {
    id: u8,
    value: [u8; VALUE_BYTES_MAX],
    bytes: u8,
}

/// Whom packets belong to is said until they are known to arrive.
#[derive(Debug, Clone, Copy)]
pub struct SaysMid {
    /// No packet from this number on says it.
    until: ExtendedSeq,
}

impl SaysMid {
    pub fn from(first: ExtendedSeq) -> Self {
        Self { until: first + MID_PACKETS_MAX }
    }

    /// The viewer reports on the stream: what is numbered `next` and later need not say it. What was numbered before still does.
    pub fn acknowledged(&mut self, next: ExtendedSeq) {
        self.until = self.until.min(next);
    }

    fn covers(self, seq: ExtendedSeq) -> bool {
        seq < self.until
    }
}

/// The extensions that were agreed on for one stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Extensions {
    send_clock: Option<SendClock>,
    playout_delay: Option<PlayoutDelay>,
    capture_time: Option<u8>,
    mid: Option<Mid>,
}

/// What one packet says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Said {
    mid: Option<Mid>,
    send_time: Option<(u8, [u8; SEND_TIME_BYTES])>,
    playout: Option<(u8, [u8; DELAY_BYTES])>,
    capture: Option<(u8, CaptureTime)>,
}

impl Extensions {
    /// Those of `ids` that are written here. An id or a mid that does not fit an element is not. The session begins now.
    pub fn new(now: Instant, ids: &sluice_signaling::sdp::ExtensionIds, mid: &str, waiting_max_ms: u16) -> Self {
        let [send_time, playout_delay, capture_time, mid_id] =
            [ids.abs_send_time, ids.playout_delay, ids.abs_capture_time, ids.mid].map(|id| id.filter(|id| usable(*id)));
        let mid = mid_id.and_then(|id| {
            let mut value = [0; VALUE_BYTES_MAX];
            value.get_mut(..mid.len()).filter(|room| !room.is_empty())?.copy_from_slice(mid.as_bytes());
            Some(Mid { id, value, bytes: mid.len() as u8 })
        });
        Self {
            send_clock: send_time.map(|id| SendClock { id, began: now }),
            playout_delay: playout_delay.map(|id| PlayoutDelay::new(id, waiting_max_ms)),
            capture_time,
            mid,
        }
    }

    /// Without the time of sending: for packets that may be sent again under their own numbers.
    pub fn without_send_time(self) -> Self {
        Self { send_clock: None, ..self }
    }

    /// What a packet of media says. A picture on its way up to the live edge goes out with a time that says nothing of its capture.
    pub fn said(
        &self,
        now: Instant,
        packet: &TrackPacket,
        outgoing: &Outgoing,
        sound_lags: bool,
        says_mid: SaysMid,
    ) -> Said {
        let delay = |of: PlayoutDelay| {
            let waits = sound_lags && outgoing.playout == Playout::Live;
            (of.id, if waits { of.waiting } else { DELAY_NONE })
        };
        let is_squeezed = outgoing.playout == Playout::AtOnce;
        Said {
            mid: self.mid.filter(|_| says_mid.covers(outgoing.seq)),
            send_time: self.send_clock.map(|clock| clock.said(now)),
            playout: self.playout_delay.filter(|_| outgoing.playout != Playout::Unsaid).map(delay),
            capture: self.capture_time.zip(packet.capture).filter(|_| !is_squeezed),
        }
    }

    /// The most that a packet's block takes, however it goes out.
    pub fn bytes_max(&self, packet: &TrackPacket, next: ExtendedSeq, says_mid: SaysMid) -> usize {
        let said = Said {
            mid: self.mid.filter(|_| says_mid.covers(next)),
            send_time: self.send_clock.map(|clock| (clock.id, [0; SEND_TIME_BYTES])),
            playout: self.playout_delay.map(|of| (of.id, DELAY_NONE)),
            capture: self.capture_time.zip(packet.capture),
        };
        said.bytes()
    }

    /// What a retransmission says in its own header: what it repeats it says in nobody's.
    pub fn said_again(&self, now: Instant, seq: ExtendedSeq, says_mid: SaysMid) -> Said {
        Said {
            mid: self.mid.filter(|_| says_mid.covers(seq)),
            send_time: self.send_clock.map(|clock| clock.said(now)),
            ..Said::default()
        }
    }
}

impl Said {
    /// What the block takes in the header: nothing, where nothing is said.
    pub fn bytes(&self) -> usize {
        let mid = self.mid.map_or(0, |mid| ELEMENT_HEADER_BYTES + usize::from(mid.bytes));
        let playout = if self.playout.is_some() { ELEMENT_HEADER_BYTES + DELAY_BYTES } else { 0 };
        let capture = if self.capture.is_some() { ELEMENT_HEADER_BYTES + CaptureTime::BYTES } else { 0 };
        let send_time = if self.send_time.is_some() { ELEMENT_HEADER_BYTES + SEND_TIME_BYTES } else { 0 };
        let elements = mid + send_time + playout + capture;
        if elements == 0 { 0 } else { BLOCK_HEADER_BYTES + elements.next_multiple_of(4) }
    }

    /// Writes the block into as many bytes as it takes.
    pub fn write(&self, block: &mut [u8]) {
        let Some((header, elements)) = block.split_first_chunk_mut::<BLOCK_HEADER_BYTES>() else { return };
        let words = (elements.len() / 4) as u8;
        *header = [0xbe, 0xde, 0, words];
        let mut rest = elements;
        if let Some((id, time)) = self.send_time {
            rest = element(rest, id, &time);
        }
        if let Some((id, delay)) = self.playout {
            rest = element(rest, id, &delay);
        }
        if let Some((id, capture)) = self.capture {
            rest = element(rest, id, &capture.to_bytes());
        }
        if let Some(Mid { id, value, bytes }) = self.mid {
            rest = element(rest, id, &value[..usize::from(bytes)]);
        }
        rest.fill(0);
    }
}

/// Writes one element, and gives the room behind it.
fn element<'a>(room: &'a mut [u8], id: u8, value: &[u8]) -> &'a mut [u8] {
    let (element, rest) = room.split_at_mut(ELEMENT_HEADER_BYTES + value.len());
    element[0] = id << 4 | (value.len() as u8 - 1);
    element[ELEMENT_HEADER_BYTES..].copy_from_slice(value);
    rest
}
