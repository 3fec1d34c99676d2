//! A viewer's packets on the wire: header, payload copied once, sealed in place, as many to one system call as segments of
//! equal size allow (UDP GSO). Nothing here allocates.
//!
//! Packets of one picture differ by a few bytes, so the shorter ones get RTP padding (RFC 3550 section 5.1) up to the
//! largest. A packet that may be sent again under its own number is never padded: what AES-GCM sealed once under a number
//! must be the same bytes the second time (RFC 7714 section 8.1), and padding depends on its neighbours.

use std::time::Instant;

use super::extensions::{BLOCK_BYTES_MAX, Extensions, Said, SaysMid};
use crate::{
    codec::vp8::PictureNumbers,
    media::{ExtendedSeq, RTP_HEADER_BYTES},
    track::{Outgoing, PAYLOAD_BYTES_MAX, TrackPacket},
    transport::SrtpSealer,
};

/// Segments in one call: below the least `UDP_MAX_SEGMENTS` that Linux has had, 64, and what `CALL_BYTES_MAX` holds of 1,350 bytes.
pub const SEGMENTS_MAX: usize = 48;
/// What one UDP call may carry: 65,535 less the IP and UDP headers of IPv6.
const CALL_BYTES_MAX: usize = 65_535 - 48;
const _: () = assert!(
    RTP_HEADER_BYTES + BLOCK_BYTES_MAX + OSN_BYTES + PAYLOAD_BYTES_MAX + 16 <= CALL_BYTES_MAX,
    "every packet of the tree fits into a call, with the longest tag"
);
/// RTP padding's length is one byte (RFC 3550 section 5.1).
const PADDING_BYTES_MAX: usize = 255;
/// The original sequence number in front of a retransmission (RFC 4588 section 4).
const OSN_BYTES: usize = 2;

/// Where sealed datagrams go.
pub trait DatagramOut {
    /// `contents` is one datagram, or several of `segment_bytes` each of which the last may be shorter.
    fn send(&mut self, contents: &[u8], segment_bytes: usize);
}

/// Room to write one call's datagrams in; one per worker.
#[derive(Debug)]
pub struct Scratch {
    bytes: Box<[u8]>,
    open: Option<OpenCall>,
}

/// A call that is written and not sent yet: one more datagram, not larger than the others, may go with it as its last.
#[derive(Debug, Clone, Copy)]
struct OpenCall {
    written_bytes: usize,
    segment_bytes: usize,
}

impl Default for Scratch {
    fn default() -> Self {
        Self { bytes: vec![0; CALL_BYTES_MAX].into_boxed_slice(), open: None }
    }
}

impl Scratch {
    /// Sends the call that was left open, if nothing has gone with it.
    pub fn finish(&mut self, out: &mut impl DatagramOut) {
        if let Some(OpenCall { written_bytes, segment_bytes }) = self.open.take() {
            out.send(&self.bytes[..written_bytes], segment_bytes);
        }
    }
}

/// What is the same for all packets of one outgoing RTP stream.
#[derive(Clone, Copy)]
pub struct Wire<'a> {
    /// When it goes out.
    pub now: Instant,
    pub sealer: &'a SrtpSealer,
    pub ssrc: u32,
    pub payload_type: u8,
    pub extensions: Extensions,
    pub says_mid: SaysMid,
    /// Pictures at the live edge wait for the sound.
    pub sound_lags: bool,
    /// Whether packets may be padded to equal size.
    pub pad: bool,
}

/// What went out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Sent {
    pub packets: u32,
    /// On the wire, without UDP and IP.
    pub bytes: u32,
    /// Payload only, as sender reports count.
    pub payload_bytes: u32,
}

impl Sent {
    pub fn add(&mut self, other: Self) {
        self.packets = self.packets.wrapping_add(other.packets);
        self.bytes = self.bytes.wrapping_add(other.bytes);
        self.payload_bytes = self.payload_bytes.wrapping_add(other.payload_bytes);
    }

    fn count(&mut self, packet: &TrackPacket, bytes: usize) {
        self.add(Self { packets: 1, bytes: bytes as u32, payload_bytes: packet.payload.len() as u32 });
    }
}

impl Wire<'_> {
    /// Sealed size without padding.
    pub fn packet_bytes(&self, packet: &TrackPacket, outgoing: &Outgoing) -> usize {
        let block = self.said(packet, outgoing).bytes();
        RTP_HEADER_BYTES + block + packet.payload.len() + self.sealer.overhead_bytes()
    }

    /// The most that a packet takes which is sent as `next` or later.
    pub fn packet_bytes_max(&self, packet: &TrackPacket, next: ExtendedSeq) -> usize {
        let block = self.extensions.bytes_max(packet, next, self.says_mid);
        RTP_HEADER_BYTES + block + packet.payload.len() + self.sealer.overhead_bytes()
    }

    /// Sends packets in order, in as few calls as their sizes allow. The first of them goes with the call that was left open,
    /// if there is one and it fits. When a datagram of `follows` bytes at most comes right after this run, the last call is
    /// left open for it: see [`Scratch::finish`].
    pub fn send(
        &self,
        run: &[(&TrackPacket, Outgoing)],
        follows: Option<usize>,
        scratch: &mut Scratch,
        out: &mut impl DatagramOut,
    ) -> Sent {
        let mut sent = Sent::default();
        let mut rest = run;
        if let (Some(open), Some(((packet, outgoing), later))) = (scratch.open, rest.split_first()) {
            let own = self.packet_bytes(packet, outgoing);
            let end = open.written_bytes + own;
            if own <= open.segment_bytes && end <= CALL_BYTES_MAX {
                self.write(&mut scratch.bytes[open.written_bytes..end], packet, outgoing, 0);
                scratch.open = Some(OpenCall { written_bytes: end, ..open });
                sent.count(packet, own);
                rest = later;
            }
            scratch.finish(out);
        }
        while !rest.is_empty() {
            let (count, segment_bytes) = self.plan(rest);
            let (call, later) = rest.split_at(count);
            let is_open = later.is_empty() && self.has_room(call, segment_bytes, follows);
            let mut at = 0;
            for (index, (packet, outgoing)) in call.iter().enumerate() {
                let own = self.packet_bytes(packet, outgoing);
                let bytes = if index + 1 < count || is_open { segment_bytes } else { own };
                self.write(&mut scratch.bytes[at..at + bytes], packet, outgoing, bytes - own);
                sent.count(packet, bytes);
                at += bytes;
            }
            scratch.open = Some(OpenCall { written_bytes: at, segment_bytes });
            if !is_open {
                scratch.finish(out);
            }
            rest = later;
        }
        sent
    }

    /// Whether a datagram of `follows` bytes can go behind these: only a call's last segment may be shorter than the others.
    fn has_room(&self, call: &[(&TrackPacket, Outgoing)], segment_bytes: usize, follows: Option<usize>) -> bool {
        let (Some(follows), Some((packet, outgoing))) = (follows, call.last()) else { return false };
        let missing = segment_bytes - self.packet_bytes(packet, outgoing);
        follows <= segment_bytes
            && missing <= self.padding_max()
            && call.len() < SEGMENTS_MAX
            && segment_bytes * call.len() + follows <= CALL_BYTES_MAX
    }

    fn padding_max(&self) -> usize {
        if self.pad { PADDING_BYTES_MAX } else { 0 }
    }

    /// Sends one packet again, as a retransmission stream's `seq`.
    pub fn send_rtx(
        &self,
        packet: &TrackPacket,
        original: &Outgoing,
        index: ExtendedSeq,
        scratch: &mut Scratch,
        out: &mut impl DatagramOut,
    ) -> Sent {
        let payload = &packet.payload;
        let said = self.extensions.said_again(self.now, index, self.says_mid);
        let header = RTP_HEADER_BYTES + said.bytes();
        let body = header + OSN_BYTES;
        let bytes = body + payload.len() + self.sealer.overhead_bytes();
        let Some(buffer) = scratch.bytes.get_mut(..bytes) else { return Sent::default() };
        self.write_header(buffer, packet.marker, false, said, index.wire(), original.time_ticks as u32);
        buffer[header..body].copy_from_slice(&original.seq.wire().to_be_bytes());
        copy(packet, original, &mut buffer[body..body + payload.len()]);
        self.sealer.seal(buffer, header, self.ssrc, index.0);
        out.send(buffer, bytes);
        Sent { packets: 1, bytes: bytes as u32, payload_bytes: payload.len() as u32 }
    }

    /// How many of the first packets go in one call, and their segment size.
    fn plan(&self, run: &[(&TrackPacket, Outgoing)]) -> (usize, usize) {
        let size = |at: usize| self.packet_bytes(run[at].0, &run[at].1);
        let room = self.padding_max();
        let mut segment = size(0);
        let mut smallest = segment;
        let mut count = 1;
        while count < run.len().min(SEGMENTS_MAX) {
            let next = size(count);
            let larger = segment.max(next);
            // All before this one become inner segments: they must reach the size of the largest.
            if larger - smallest > room || larger * (count + 1) > CALL_BYTES_MAX {
                break;
            }
            segment = larger;
            smallest = smallest.min(next);
            count += 1;
        }
        (count, segment)
    }

    fn said(&self, packet: &TrackPacket, outgoing: &Outgoing) -> Said {
        self.extensions.said(self.now, packet, outgoing, self.sound_lags, self.says_mid)
    }

    fn write(&self, buffer: &mut [u8], packet: &TrackPacket, outgoing: &Outgoing, padding: usize) {
        let said = self.said(packet, outgoing);
        let header = RTP_HEADER_BYTES + said.bytes();
        self.write_header(buffer, packet.marker, padding > 0, said, outgoing.seq.wire(), outgoing.time_ticks as u32);
        let end = header + packet.payload.len();
        copy(packet, outgoing, &mut buffer[header..end]);
        if padding > 0 {
            buffer[end..end + padding - 1].fill(0);
            buffer[end + padding - 1] = padding as u8;
        }
        self.sealer.seal(buffer, header, self.ssrc, outgoing.seq.0);
    }

    fn write_header(&self, buffer: &mut [u8], marker: bool, padding: bool, said: Said, seq: u16, time: u32) {
        let block_bytes = said.bytes();
        buffer[0] = 0x80 | u8::from(padding) << 5 | u8::from(block_bytes > 0) << 4;
        buffer[1] = u8::from(marker) << 7 | self.payload_type;
        buffer[2..4].copy_from_slice(&seq.to_be_bytes());
        buffer[4..8].copy_from_slice(&time.to_be_bytes());
        buffer[8..RTP_HEADER_BYTES].copy_from_slice(&self.ssrc.to_be_bytes());
        if block_bytes > 0 {
            said.write(&mut buffer[RTP_HEADER_BYTES..RTP_HEADER_BYTES + block_bytes]);
        }
    }
}

/// The payload as this viewer gets it.
fn copy(packet: &TrackPacket, outgoing: &Outgoing, to: &mut [u8]) {
    to.copy_from_slice(&packet.payload);
    if outgoing.vp8_shift != PictureNumbers::default() {
        outgoing.vp8_shift.add_to(to);
    }
}
