//! Reading a compound packet.

use super::{NtpTime, ReceptionReport, SenderReport, feedback_type, packet_type};

/// One meaning of a compound packet. A packet with several report blocks, FIR entries or BYE sources comes out as
/// that many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rtcp<'a> {
    /// A sender's clock and counts; its report blocks follow as [`Rtcp::Reception`].
    SenderReport(SenderReport),
    /// A report block of `reporter`'s sender or receiver report.
    Reception { reporter: u32, report: ReceptionReport },
    /// Packets of `media_ssrc` that did not arrive.
    Nack { media_ssrc: u32, sequences: NackSequences<'a> },
    /// A picture of `media_ssrc` was lost; a keyframe is wanted.
    Pli { media_ssrc: u32 },
    /// A keyframe is wanted; a repeated `command` is the same wish.
    Fir { media_ssrc: u32, command: u8 },
    /// Transport-wide feedback: the message from the base sequence number on.
    TransportCc { message: &'a [u8] },
    /// What the receiver's path carries by its estimate, of all that it gets, in bits per second (draft-alvestrand-rmcat-remb-03
    /// section 2.2).
    Remb { bitrate_bps: u64 },
    /// The source leaves.
    Bye { ssrc: u32 },
    /// Well-formed, but nothing Sluice reads: source descriptions, extended reports, application data.
    Other,
}

/// The numbers a NACK names, in its order (RFC 4585 section 6.2.1). At most 17 per 4 bytes of the datagram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NackSequences<'a> {
    pairs: &'a [[u8; 4]],
    /// What the last pair's mask still has to give: the number of its bit 0, and the bits.
    base: u16,
    mask: u32,
}

impl Iterator for NackSequences<'_> {
    type Item = u16;

    fn next(&mut self) -> Option<u16> {
        while self.mask == 0 {
            let (&[p0, p1, m0, m1], rest) = self.pairs.split_first()?;
            self.pairs = rest;
            self.base = u16::from_be_bytes([p0, p1]);
            // Bit 0 is the packet itself, bit n the n-th after it.
            self.mask = u32::from(u16::from_be_bytes([m0, m1])) << 1 | 1;
        }
        let bit = self.mask.trailing_zeros();
        self.mask &= self.mask - 1;
        Some(self.base.wrapping_add(bit as u16))
    }
}

/// Walks a compound packet. It ends at the first malformed packet: what follows has no known beginning.
#[derive(Debug, Clone)]
pub struct RtcpReader<'a> {
    rest: &'a [u8],
    /// What the current packet still has to give.
    current: Entries<'a>,
}

#[derive(Debug, Clone)]
enum Entries<'a> {
    None,
    Reports { reporter: u32, blocks: &'a [[u8; 24]] },
    Firs(&'a [[u8; 8]]),
    Byes(&'a [[u8; 4]]),
}

impl<'a> RtcpReader<'a> {
    pub fn new(compound: &'a [u8]) -> Self {
        Self { rest: compound, current: Entries::None }
    }

    fn next_entry(&mut self) -> Option<Rtcp<'a>> {
        match &mut self.current {
            Entries::None => None,
            Entries::Reports { reporter, blocks } => {
                let (block, rest) = blocks.split_first()?;
                *blocks = rest;
                Some(Rtcp::Reception { reporter: *reporter, report: reception(block) })
            }
            Entries::Firs(entries) => {
                let (entry, rest) = entries.split_first()?;
                *entries = rest;
                Some(Rtcp::Fir { media_ssrc: word(entry), command: entry[4] })
            }
            Entries::Byes(sources) => {
                let (source, rest) = sources.split_first()?;
                *sources = rest;
                Some(Rtcp::Bye { ssrc: word(source) })
            }
        }
    }

    /// Takes the next packet off; `None` at the end or at a malformed one.
    fn next_packet(&mut self) -> Option<Rtcp<'a>> {
        let (&[first, packet_type, l0, l1], _) = self.rest.split_first_chunk()?;
        if first >> 6 != 2 {
            return None;
        }
        let packet_bytes = 4 * (usize::from(u16::from_be_bytes([l0, l1])) + 1);
        let (packet, rest) = self.rest.split_at_checked(packet_bytes)?;
        self.rest = rest;
        let mut body = &packet[4..];
        if first & 0x20 != 0 {
            let padding = usize::from(*body.last()?);
            body = body.get(..body.len().checked_sub(padding)?)?;
        }
        let count = first & 0x1f;
        match packet_type {
            packet_type::SENDER_REPORT => {
                let (info, blocks) = body.split_first_chunk::<24>()?;
                let report = sender_report(info);
                self.current = Entries::Reports { reporter: report.ssrc, blocks: chunks(blocks, count) };
                Some(Rtcp::SenderReport(report))
            }
            packet_type::RECEIVER_REPORT => {
                let (reporter, blocks) = body.split_first_chunk::<4>()?;
                self.current =
                    Entries::Reports { reporter: u32::from_be_bytes(*reporter), blocks: chunks(blocks, count) };
                Some(self.next_entry().unwrap_or(Rtcp::Other))
            }
            packet_type::BYE => {
                self.current = Entries::Byes(chunks(body, count));
                Some(self.next_entry().unwrap_or(Rtcp::Other))
            }
            packet_type::TRANSPORT_FEEDBACK => transport_feedback(count, body),
            packet_type::PAYLOAD_FEEDBACK if count == feedback_type::FIR => {
                self.current = Entries::Firs(body.get(8..)?.as_chunks().0);
                Some(self.next_entry().unwrap_or(Rtcp::Other))
            }
            packet_type::PAYLOAD_FEEDBACK if count == feedback_type::PLI => {
                Some(Rtcp::Pli { media_ssrc: word(body.get(4..)?.first_chunk::<4>()?) })
            }
            packet_type::PAYLOAD_FEEDBACK if count == feedback_type::APPLICATION => {
                Some(remb(body.get(8..)?).unwrap_or(Rtcp::Other))
            }
            _ => Some(Rtcp::Other),
        }
    }
}

impl<'a> Iterator for RtcpReader<'a> {
    type Item = Rtcp<'a>;

    fn next(&mut self) -> Option<Rtcp<'a>> {
        if let Some(entry) = self.next_entry() {
            return Some(entry);
        }
        self.current = Entries::None;
        let packet = self.next_packet();
        if packet.is_none() {
            self.rest = &[];
        }
        packet
    }
}

fn transport_feedback(format: u8, body: &[u8]) -> Option<Rtcp<'_>> {
    let (ssrcs, message) = body.split_first_chunk::<8>()?;
    let media_ssrc = word(&ssrcs[4..].first_chunk::<4>().copied()?);
    Some(match format {
        feedback_type::NACK => {
            Rtcp::Nack { media_ssrc, sequences: NackSequences { pairs: message.as_chunks().0, base: 0, mask: 0 } }
        }
        feedback_type::TRANSPORT_CC => Rtcp::TransportCc { message },
        _ => Rtcp::Other,
    })
}

/// Of application layer feedback, behind the SSRCs: four letters, a number of SSRCs, and the rate as 6 bits of exponent and 18 of mantissa.
fn remb(message: &[u8]) -> Option<Rtcp<'static>> {
    let &[b'R', b'E', b'M', b'B', _, high, middle, low] = message.first_chunk()? else { return None };
    let exponent = u32::from(high >> 2);
    let mantissa = u64::from(high & 3) << 16 | u64::from(middle) << 8 | u64::from(low);
    // What is beyond 64 bits is no bandwidth.
    Some(Rtcp::Remb { bitrate_bps: mantissa.checked_shl(exponent).filter(|rate| rate >> exponent == mantissa)? })
}

/// At most `count` entries of a fixed size; a packet that is shorter than its count says has fewer.
fn chunks<const N: usize>(bytes: &[u8], count: u8) -> &[[u8; N]] {
    let (chunks, _) = bytes.as_chunks();
    &chunks[..chunks.len().min(usize::from(count))]
}

/// The first four bytes of a fixed array as a number.
fn word<const N: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(N >= 4) };
    u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
}

fn sender_report(info: &[u8; 24]) -> SenderReport {
    let words = words(info);
    SenderReport {
        ssrc: words[0],
        ntp: NtpTime(u64::from(words[1]) << 32 | u64::from(words[2])),
        rtp_time: words[3],
        packets: words[4],
        bytes: words[5],
    }
}

fn reception(block: &[u8; 24]) -> ReceptionReport {
    let words = words(block);
    ReceptionReport {
        ssrc: words[0],
        fraction_lost: block[4],
        // 24 bits, signed: shifted up and back down with the sign.
        lost: (words[1] << 8) as i32 >> 8,
        highest_sequence: words[2],
        jitter_ticks: words[3],
        last_sender_report: words[4],
        delay_since_last: words[5],
    }
}

fn words(bytes: &[u8; 24]) -> [u32; 6] {
    let mut words = [0; 6];
    for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *word = u32::from_be_bytes(*bytes);
    }
    words
}
