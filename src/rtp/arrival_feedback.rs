//! Transport-wide feedback: when each packet of a transport arrived, told to its sender for its bandwidth estimate
//! (draft-holmer-rmcat-transport-wide-cc-extensions-01). Sans-I/O.
//!
//! In: transport-wide sequence numbers as they arrive. Out: feedback packets, appended to a compound.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use crate::{
    media::{ExtendedSeq, SeqExtender},
    rtp::rtcp,
};

/// Between two reports: the low end of what senders are used to (50 to 250 ms); 20 reports of about 100 bytes a second
/// are 16 kb/s.
const INTERVAL: Duration = Duration::from_millis(50);
/// Arrivals that are remembered, reported or not: half a second at 4,000 packets/s, so that a late packet is reported
/// among its neighbours.
const ARRIVALS_MAX: usize = 2_048;
/// Statuses in one report: at worst 37 chunks of 2 bytes for them, 128 deltas of 2 bytes and 20 bytes of header are 350
/// bytes, so that the report fits beside others into one datagram.
const STATUSES_MAX: usize = 256;
const RECEIVED_MAX: usize = 128;

/// Ticks of the wire's arrival times: 250 us, and 64 ms for the reference time.
const TICK_US: i64 = 250;
const REFERENCE_TICKS: i64 = 256;

/// A packet's status symbol (section 3.1.1 of the draft).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    NotReceived = 0,
    SmallDelta = 1,
    LargeDelta = 2,
}

/// Arrivals of one transport.
#[derive(Debug)]
pub struct ArrivalFeedback {
    /// Zero of the arrival times on the wire.
    origin: Instant,
    extender: SeqExtender,
    /// Number of the first slot.
    first: ExtendedSeq,
    /// Arrival times in ticks since the origin; `None`: not received.
    arrivals: VecDeque<Option<i64>>,
    /// Where the next report begins.
    next: ExtendedSeq,
    due: Option<Instant>,
    reports: u8,
    media_ssrc: u32,
}

impl ArrivalFeedback {
    pub fn new(now: Instant) -> Self {
        Self {
            origin: now,
            extender: SeqExtender::default(),
            first: ExtendedSeq(0),
            arrivals: VecDeque::new(),
            next: ExtendedSeq(0),
            due: None,
            reports: 0,
            media_ssrc: 0,
        }
    }

    /// A packet arrived. Doubles count the first time only.
    pub fn arrived(&mut self, now: Instant, ssrc: u32, transport_sequence: u16) {
        let ticks = now.saturating_duration_since(self.origin).as_micros() as i64 / TICK_US;
        let seq = self.extender.extend(transport_sequence);
        if self.arrivals.is_empty() || seq.0 >= self.end().0 + ARRIVALS_MAX as u64 {
            // The beginning, or a jump beyond anything that could be reported as lost.
            self.arrivals.clear();
            (self.first, self.next) = (seq, seq);
        }
        let Some(at) = seq.0.checked_sub(self.first.0).map(|at| at as usize) else { return };
        if at >= self.arrivals.len() {
            self.arrivals.resize(at + 1, None);
        }
        if self.arrivals[at].is_some() {
            return;
        }
        self.arrivals[at] = Some(ticks);
        self.media_ssrc = ssrc;
        self.next = self.next.min(seq);
        self.due.get_or_insert(now + INTERVAL);
        while self.arrivals.len() > ARRIVALS_MAX {
            self.arrivals.pop_front();
            self.first = self.first.next();
        }
        self.next = self.next.max(self.first);
    }

    /// When a report is due; `None` while nothing came since the last one.
    pub fn next_due(&self) -> Option<Instant> {
        self.due
    }

    /// Appends a report if one is due; call until it returns false.
    pub fn write_due(&mut self, now: Instant, sender_ssrc: u32, out: &mut Vec<u8>) -> bool {
        if self.due.is_none_or(|due| now < due) {
            return false;
        }
        let from = (self.next - self.first) as usize;
        let Some(first_ticks) = self.arrivals.range(from..).find_map(|arrival| *arrival) else {
            self.due = None;
            return false;
        };
        let reference = first_ticks / REFERENCE_TICKS;
        let mut before = reference * REFERENCE_TICKS;
        let mut statuses = Vec::with_capacity(STATUSES_MAX);
        let mut deltas = Vec::with_capacity(2 * RECEIVED_MAX);
        let mut received = 0;
        // Ends with the last received packet that fits: what is missing after it may still come.
        let mut reported = 0;
        for arrival in self.arrivals.range(from..).take(STATUSES_MAX) {
            let Some(ticks) = *arrival else {
                statuses.push(Status::NotReceived);
                continue;
            };
            let Ok(delta) = i16::try_from(ticks - before) else { break };
            if received == RECEIVED_MAX {
                break;
            }
            if let Ok(small) = u8::try_from(delta) {
                statuses.push(Status::SmallDelta);
                deltas.push(small);
            } else {
                statuses.push(Status::LargeDelta);
                deltas.extend_from_slice(&delta.to_be_bytes());
            }
            received += 1;
            reported = statuses.len();
            before = ticks;
        }
        if received == 0 {
            // More are missing in a row than one report holds: they are passed over, untold.
            self.next = self.next + self.arrivals.range(from..).take_while(|arrival| arrival.is_none()).count() as u64;
            return self.write_due(now, sender_ssrc, out);
        }
        statuses.truncate(reported);
        let header = Header { base: self.next.wire(), reference, count: self.reports, media_ssrc: self.media_ssrc };
        header.write(out, sender_ssrc, &statuses, &deltas);
        self.reports = self.reports.wrapping_add(1);
        self.next = self.next + reported as u64;
        if self.next >= self.end() {
            self.due = None;
        }
        true
    }

    fn end(&self) -> ExtendedSeq {
        self.first + self.arrivals.len() as u64
    }
}

struct Header {
    base: u16,
    /// In 64 ms.
    reference: i64,
    count: u8,
    media_ssrc: u32,
}

impl Header {
    fn write(&self, out: &mut Vec<u8>, sender_ssrc: u32, statuses: &[Status], deltas: &[u8]) {
        rtcp::write_transport_cc(out, sender_ssrc, self.media_ssrc, |out| {
            out.extend_from_slice(&self.base.to_be_bytes());
            out.extend_from_slice(&(statuses.len() as u16).to_be_bytes());
            // The reference time has 24 bits and wraps.
            let reference_and_count = (self.reference as u32) << 8 | u32::from(self.count);
            out.extend_from_slice(&reference_and_count.to_be_bytes());
            write_chunks(out, statuses);
            out.extend_from_slice(deltas);
        });
    }
}

/// Packs statuses into run-length chunks and vectors of 14 one-bit or 7 two-bit symbols (sections 3.1.3 and 3.1.4 of the
/// draft). The last vector's unused symbols are 0.
fn write_chunks(out: &mut Vec<u8>, mut statuses: &[Status]) {
    const RUN_MAX: usize = 0x1fff;
    while let Some(&first) = statuses.first() {
        let run = statuses.iter().take(RUN_MAX).take_while(|status| **status == first).count();
        let one_bit = statuses.iter().take(14).take_while(|status| **status != Status::LargeDelta).count();
        let all = statuses.len();
        let (chunk, taken) = if run > 14 || run == all || (run >= 7 && one_bit <= run) {
            ((first as u16) << 13 | run as u16, run)
        } else if one_bit == 14 || one_bit == all {
            (vector(0x8000, 1, &statuses[..one_bit]), one_bit)
        } else {
            let taken = all.min(7);
            (vector(0xc000, 2, &statuses[..taken]), taken)
        };
        out.extend_from_slice(&chunk.to_be_bytes());
        statuses = &statuses[taken..];
    }
}

fn vector(kind: u16, bits: usize, statuses: &[Status]) -> u16 {
    statuses.iter().enumerate().fold(kind, |chunk, (at, status)| chunk | (*status as u16) << (14 - bits * (at + 1)))
}

#[cfg(test)]
mod tests {
    use rtc_rtcp::transport_feedbacks::transport_layer_cc::{PacketStatusChunk, SymbolTypeTcc, TransportLayerCc};

    use super::*;
    use crate::media::testing::epoch;

    fn us(us: u64) -> Instant {
        epoch() + Duration::from_micros(us)
    }

    /// What `rtc-rtcp` reads: (sequence, arrival in us) of the received, and all numbers covered.
    fn decode(report: &[u8]) -> (Vec<(u16, i64)>, Vec<u16>, u8) {
        let packets = rtc_rtcp::packet::unmarshal(&mut &report[..]).expect("well-formed");
        let report = packets[0].as_any().downcast_ref::<TransportLayerCc>().expect("transport-wide feedback");
        let mut symbols = Vec::new();
        for chunk in &report.packet_chunks {
            match chunk {
                PacketStatusChunk::RunLengthChunk(run) => {
                    symbols.extend(std::iter::repeat_n(run.packet_status_symbol, usize::from(run.run_length)));
                }
                PacketStatusChunk::StatusVectorChunk(vector) => symbols.extend(&vector.symbol_list),
            }
        }
        assert!(symbols.len() >= usize::from(report.packet_status_count));
        symbols.truncate(usize::from(report.packet_status_count));
        let mut time = i64::from(report.reference_time) * 64_000;
        let mut deltas = report.recv_deltas.iter();
        let mut received = Vec::new();
        let mut covered = Vec::new();
        for (at, symbol) in symbols.into_iter().enumerate() {
            let sequence = report.base_sequence_number.wrapping_add(at as u16);
            covered.push(sequence);
            if symbol != SymbolTypeTcc::PacketNotReceived {
                time += deltas.next().expect("a delta per received packet").delta;
                received.push((sequence, time));
            }
        }
        (received, covered, report.fb_pkt_count)
    }

    fn reports(feedback: &mut ArrivalFeedback, now: Instant) -> Vec<Vec<u8>> {
        let mut reports = Vec::new();
        loop {
            let mut out = Vec::new();
            if !feedback.write_due(now, 1, &mut out) {
                return reports;
            }
            assert!(out.len() <= 350, "{}", out.len());
            reports.push(out);
        }
    }

    #[test]
    fn arrivals_and_gaps_are_reported_once_per_interval() {
        let mut feedback = ArrivalFeedback::new(epoch());
        assert_eq!(feedback.next_due(), None);
        let arrivals = [(65_533, 100_000), (65_534, 100_250), (0, 300_000), (2, 299_000), (1, 301_000)];
        for (sequence, at) in arrivals {
            feedback.arrived(us(at), 77, sequence);
        }
        assert_eq!(feedback.next_due(), Some(us(150_000)));
        assert!(reports(&mut feedback, us(149_999)).is_empty());
        let reports = reports(&mut feedback, us(350_000));
        assert_eq!(reports.len(), 1);
        let (received, covered, _) = decode(&reports[0]);
        let expected = [(65_533, 100_000), (65_534, 100_250), (0, 300_000), (1, 301_000), (2, 299_000)];
        assert_eq!(received, expected);
        assert_eq!(covered, [65_533, 65_534, 65_535, 0, 1, 2]);
        assert_eq!(feedback.next_due(), None);
    }

    #[test]
    fn a_late_packet_is_reported_again_with_its_neighbours() {
        let mut feedback = ArrivalFeedback::new(epoch());
        for sequence in [10, 12] {
            feedback.arrived(us(1_000), 77, sequence);
        }
        assert_eq!(reports(&mut feedback, us(60_000)).len(), 1);
        feedback.arrived(us(61_000), 77, 11);
        let reports = reports(&mut feedback, us(120_000));
        let (received, covered, count) = decode(&reports[0]);
        assert_eq!(received, [(11, 61_000), (12, 1_000)]);
        assert_eq!((covered.as_slice(), count), (&[11, 12][..], 1));
    }

    #[test]
    fn every_pattern_of_loss_and_delay_survives_the_encoding() {
        let mut seed = 3u64;
        let mut random = move |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for round in 0..200 {
            let mut feedback = ArrivalFeedback::new(epoch());
            let mut sent = Vec::new();
            let (mut at, loss, slow) = (0, random(100), random(3));
            let first = random(65_536) as u16;
            for packet in 0..600u16 {
                at += 250 * random(if slow == 0 { 2_000 } else { 20 });
                if packet == 0 || random(100) >= loss {
                    sent.push((first.wrapping_add(packet), at as i64));
                    feedback.arrived(us(at), 77, first.wrapping_add(packet));
                }
            }
            let mut told = Vec::new();
            for report in reports(&mut feedback, us(at + 50_000)) {
                told.extend(decode(&report).0);
            }
            assert_eq!(told, sent, "round {round}");
        }
    }

    #[test]
    fn jumps_and_floods_stay_bounded() {
        let mut feedback = ArrivalFeedback::new(epoch());
        for packet in 0..20_000u32 {
            feedback.arrived(us(u64::from(packet)), 77, packet.wrapping_mul(977) as u16);
            assert!(feedback.arrivals.len() <= ARRIVALS_MAX);
        }
        assert!(reports(&mut feedback, us(900_000)).len() <= ARRIVALS_MAX);
    }
}
