//! Writing: each function appends one packet, so that calls in a row make a compound. A full compound begins with a
//! report and has a CNAME (RFC 3550 section 6.1); reduced-size packets (RFC 5506) need neither.

use super::{ReceptionReport, SenderReport, feedback_type, packet_type};

/// The length of an SDES item is one byte.
pub const CNAME_BYTES_MAX: usize = 255;
/// Pairs one NACK packet carries here: 64 x 4 bytes, so that reports, NACKs and feedback fit in one datagram.
pub const NACK_PAIRS_MAX: usize = 64;
/// The count of blocks has 5 bits.
const REPORT_BLOCKS_MAX: usize = 31;

/// A sender report (RFC 3550 section 6.4.1); blocks beyond 31 are left out.
pub fn write_sender_report(out: &mut Vec<u8>, report: &SenderReport, blocks: &[ReceptionReport]) {
    let blocks = &blocks[..blocks.len().min(REPORT_BLOCKS_MAX)];
    packet(out, packet_type::SENDER_REPORT, blocks.len() as u8, |out| {
        out.extend_from_slice(&report.ssrc.to_be_bytes());
        out.extend_from_slice(&report.ntp.0.to_be_bytes());
        for word in [report.rtp_time, report.packets, report.bytes] {
            out.extend_from_slice(&word.to_be_bytes());
        }
        write_blocks(out, blocks);
    });
}

/// A receiver report (RFC 3550 section 6.4.2); blocks beyond 31 are left out.
pub fn write_receiver_report(out: &mut Vec<u8>, reporter: u32, blocks: &[ReceptionReport]) {
    let blocks = &blocks[..blocks.len().min(REPORT_BLOCKS_MAX)];
    packet(out, packet_type::RECEIVER_REPORT, blocks.len() as u8, |out| {
        out.extend_from_slice(&reporter.to_be_bytes());
        write_blocks(out, blocks);
    });
}

/// A source description with the canonical name only (RFC 3550 section 6.5.1), cut at [`CNAME_BYTES_MAX`].
pub fn write_cname(out: &mut Vec<u8>, ssrc: u32, cname: &str) {
    const CNAME: u8 = 1;
    let name = &cname.as_bytes()[..cname.len().min(CNAME_BYTES_MAX)];
    packet(out, packet_type::SOURCE_DESCRIPTION, 1, |out| {
        out.extend_from_slice(&ssrc.to_be_bytes());
        out.push(CNAME);
        out.push(name.len() as u8);
        out.extend_from_slice(name);
        // The list ends with at least one null byte, and the chunk on a word.
        let ssrc_and_item_bytes = 4 + 2 + name.len();
        out.resize(out.len() + 4 - ssrc_and_item_bytes % 4, 0);
    });
}

/// A goodbye of one source, without a reason (RFC 3550 section 6.6).
pub fn write_bye(out: &mut Vec<u8>, ssrc: u32) {
    packet(out, packet_type::BYE, 1, |out| out.extend_from_slice(&ssrc.to_be_bytes()));
}

/// A generic NACK (RFC 4585 section 6.2.1) for the numbers given in ascending order. Returns how many of them it
/// names; the rest did not fit into [`NACK_PAIRS_MAX`] pairs. Nothing is written for no numbers.
pub fn write_nack(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, sequences: &[u16]) -> usize {
    if sequences.is_empty() {
        return 0;
    }
    let mut named = 0;
    packet(out, packet_type::TRANSPORT_FEEDBACK, feedback_type::NACK, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        out.extend_from_slice(&media_ssrc.to_be_bytes());
        for _ in 0..NACK_PAIRS_MAX {
            let Some((&first, rest)) = sequences.get(named..).and_then(<[u16]>::split_first) else { break };
            let mut mask = 0u16;
            named += 1;
            for &sequence in rest {
                let after = sequence.wrapping_sub(first);
                if !(1..=16).contains(&after) {
                    break;
                }
                mask |= 1 << (after - 1);
                named += 1;
            }
            out.extend_from_slice(&first.to_be_bytes());
            out.extend_from_slice(&mask.to_be_bytes());
        }
    });
    named
}

/// A picture loss indication (RFC 4585 section 6.3.1).
pub fn write_pli(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32) {
    packet(out, packet_type::PAYLOAD_FEEDBACK, feedback_type::PLI, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        out.extend_from_slice(&media_ssrc.to_be_bytes());
    });
}

/// A full intra request (RFC 5104 section 4.3.1). `command` grows by one with each new wish, and stays when it is repeated.
pub fn write_fir(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, command: u8) {
    packet(out, packet_type::PAYLOAD_FEEDBACK, feedback_type::FIR, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        // The media source of the common header is not used, and 0.
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&media_ssrc.to_be_bytes());
        out.extend_from_slice(&[command, 0, 0, 0]);
    });
}

/// Transport-wide feedback (draft-holmer-rmcat-transport-wide-cc-extensions-01 section 3.1); `message` appends what comes
/// after the SSRCs, and may end anywhere: it is padded to a word with zeros, counted as padding.
pub fn write_transport_cc(out: &mut Vec<u8>, sender_ssrc: u32, media_ssrc: u32, message: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    packet(out, packet_type::TRANSPORT_FEEDBACK, feedback_type::TRANSPORT_CC, |out| {
        out.extend_from_slice(&sender_ssrc.to_be_bytes());
        out.extend_from_slice(&media_ssrc.to_be_bytes());
        message(out);
        let padding = (4 - (out.len() - start) % 4) % 4;
        if padding > 0 {
            out.resize(out.len() + padding, 0);
            if let Some(last) = out.last_mut() {
                *last = padding as u8;
            }
            out[start] |= 0x20;
        }
    });
}

/// One packet around a body that must end on a 32-bit word.
fn packet(out: &mut Vec<u8>, packet_type: u8, count: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0x80 | count, packet_type, 0, 0]);
    body(out);
    let packet_bytes = out.len() - start;
    debug_assert_eq!(packet_bytes % 4, 0, "an RTCP packet ends on a 32-bit word");
    let words_after_first = (packet_bytes / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words_after_first.to_be_bytes());
}

fn write_blocks(out: &mut Vec<u8>, blocks: &[ReceptionReport]) {
    for block in blocks {
        let lost = block.lost.clamp(-(1 << 23), (1 << 23) - 1) as u32 & 0x00ff_ffff;
        let words = [
            block.ssrc,
            u32::from(block.fraction_lost) << 24 | lost,
            block.highest_sequence,
            block.jitter_ticks,
            block.last_sender_report,
            block.delay_since_last,
        ];
        for word in words {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}
