//! How one SSRC is received, for its report blocks (RFC 3550 section 6.4.1, appendices A.3 and A.8). Sans-I/O.

use std::time::Instant;

use crate::{
    media::ExtendedSeq,
    rtp::rtcp::{NtpTime, ReceptionReport, to_ntp_short},
};

/// Counts since the stream's beginning and since the last report.
#[derive(Debug)]
pub struct Reception {
    clock_rate_hz: u32,
    origin: Instant,
    /// Of the widened numbers, what the first packet's cycle begins with: the wire counts cycles from there.
    cycle: u64,
    first: ExtendedSeq,
    highest: ExtendedSeq,
    received: u64,
    expected_before: u64,
    received_before: u64,
    /// Transit time of the last packet, in ticks, wrapping; only differences mean something.
    transit_ticks: Option<u32>,
    /// Jitter times 16, so that the estimate keeps its fraction.
    jitter_16th_ticks: u64,
    sender_report: Option<(NtpTime, Instant)>,
}

impl Reception {
    /// A stream begins with the packet `first`, which is still to be counted by [`Self::received`].
    pub fn new(now: Instant, first: ExtendedSeq, clock_rate_hz: u32) -> Self {
        Self {
            clock_rate_hz,
            origin: now,
            cycle: first.0 & !0xffff,
            first,
            highest: first,
            received: 0,
            expected_before: 0,
            received_before: 0,
            transit_ticks: None,
            jitter_16th_ticks: 0,
            sender_report: None,
        }
    }

    /// A packet came on the stream's own SSRC (not by RTX).
    pub fn received(&mut self, now: Instant, seq: ExtendedSeq, timestamp: u32) {
        self.received += 1;
        self.first = self.first.min(seq);
        self.highest = self.highest.max(seq);
        let since = now.saturating_duration_since(self.origin);
        let arrival_ticks = (since.as_micros() * u128::from(self.clock_rate_hz) / 1_000_000) as u32;
        let transit = arrival_ticks.wrapping_sub(timestamp);
        if let Some(before) = self.transit_ticks.replace(transit) {
            let difference = u64::from((transit.wrapping_sub(before) as i32).unsigned_abs());
            self.jitter_16th_ticks = self.jitter_16th_ticks + difference - self.jitter_16th_ticks.div_ceil(16);
        }
    }

    /// The stream's sender report came.
    pub fn sender_report(&mut self, now: Instant, ntp: NtpTime) {
        self.sender_report = Some((ntp, now));
    }

    /// The report block for what came since the last one.
    pub fn report(&mut self, now: Instant, ssrc: u32) -> ReceptionReport {
        let expected = self.highest - self.first + 1;
        let expected_now = expected - self.expected_before.min(expected);
        let received_now = self.received - self.received_before;
        (self.expected_before, self.received_before) = (expected, self.received);
        let lost_now = expected_now.saturating_sub(received_now);
        let fraction = (lost_now * 256).checked_div(expected_now).unwrap_or(0);
        let (last_sender_report, delay_since_last) = self
            .sender_report
            .map_or((0, 0), |(ntp, at)| (ntp.middle(), to_ntp_short(now.saturating_duration_since(at))));
        ReceptionReport {
            ssrc,
            fraction_lost: fraction.min(255) as u8,
            lost: (expected as i64 - self.received as i64).clamp(-(1 << 23), (1 << 23) - 1) as i32,
            highest_sequence: self.highest.0.saturating_sub(self.cycle) as u32,
            jitter_ticks: (self.jitter_16th_ticks / 16).min(u64::from(u32::MAX)) as u32,
            last_sender_report,
            delay_since_last,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::media::testing::epoch;

    #[test]
    fn losses_are_counted_since_the_last_report_and_since_the_beginning() {
        let start = epoch();
        let mut reception = Reception::new(start, ExtendedSeq(65_536), 90_000);
        for seq in (0..100).filter(|seq| seq % 4 != 3) {
            reception.received(start, ExtendedSeq(65_536 + seq), 0);
        }
        reception.received(start, ExtendedSeq(65_536 + 100), 0);
        let report = reception.report(start, 5);
        assert_eq!((report.ssrc, report.lost, report.highest_sequence), (5, 25, 100));
        assert_eq!(report.fraction_lost, 63, "25 of 101");
        assert_eq!(reception.report(start, 5).fraction_lost, 0, "nothing expected since");
        for seq in 101..111 {
            reception.received(start, ExtendedSeq(65_536 + seq), 0);
        }
        let report = reception.report(start, 5);
        assert_eq!((report.fraction_lost, report.lost), (0, 25));
    }

    #[test]
    fn duplicates_make_the_loss_negative_and_the_fraction_zero() {
        let start = epoch();
        let mut reception = Reception::new(start, ExtendedSeq(1), 90_000);
        for _ in 0..3 {
            reception.received(start, ExtendedSeq(1), 0);
        }
        let report = reception.report(start, 5);
        assert_eq!((report.fraction_lost, report.lost), (0, -2));
    }

    #[test]
    fn jitter_converges_on_the_mean_deviation_and_ignores_a_constant_delay() {
        let start = epoch();
        let mut reception = Reception::new(start, ExtendedSeq(0), 90_000);
        for packet in 0..500u32 {
            let at = start + Duration::from_millis(u64::from(packet) * 10 + 77);
            reception.received(at, ExtendedSeq(u64::from(packet)), u32::MAX.wrapping_add(packet.wrapping_mul(900)));
        }
        assert_eq!(reception.report(start, 1).jitter_ticks, 0);
        for packet in 500..1_000u32 {
            // Every other packet comes 2 ms late: neighbours differ by 180 ticks.
            let at = start + Duration::from_millis(u64::from(packet) * 10 + u64::from(packet % 2) * 2);
            reception.received(at, ExtendedSeq(u64::from(packet)), u32::MAX.wrapping_add(packet.wrapping_mul(900)));
        }
        let jitter = reception.report(start, 1).jitter_ticks;
        assert!((170..=180).contains(&jitter), "{jitter}");
    }

    #[test]
    fn the_last_sender_report_and_the_wait_since_are_told() {
        let start = epoch();
        let mut reception = Reception::new(start, ExtendedSeq(0), 48_000);
        assert_eq!(reception.report(start, 1).last_sender_report, 0);
        reception.sender_report(start, NtpTime(0x1111_2222_3333_4444));
        let report = reception.report(start + Duration::from_millis(500), 1);
        assert_eq!(report.last_sender_report, 0x2222_3333);
        assert_eq!(report.delay_since_last, 32_768);
    }
}
