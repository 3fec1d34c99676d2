//! A round's counts, handed in to the shared metrics once per round: the packet path touches nothing shared.

use std::time::Duration;

use crate::{egress::whep::Sent, metrics::Metrics};

/// Joins and forwarding delays remembered within one round; further ones of the same round are left out.
const SAMPLES_MAX: usize = 256;

#[derive(Debug, Default)]
pub struct Totals {
    pub received_packets: u64,
    pub received_bytes: u64,
    pub sent_packets: u64,
    pub sent_bytes: u64,
    pub nacks_received: u64,
    pub nacks_sent: u64,
    pub rtx_packets: u64,
    pub plis_received: u64,
    pub plis_sent: u64,
    joins: Vec<Duration>,
    forwards: Vec<Duration>,
}

impl Totals {
    pub fn sent(&mut self, sent: Sent) {
        self.sent_packets += u64::from(sent.packets);
        self.sent_bytes += u64::from(sent.bytes);
    }

    pub fn joined(&mut self, after: Duration) {
        if self.joins.len() < SAMPLES_MAX {
            self.joins.push(after);
        }
    }

    pub fn forwarded(&mut self, after: Duration) {
        if self.forwards.len() < SAMPLES_MAX {
            self.forwards.push(after);
        }
    }

    pub fn hand_in(&mut self, metrics: &Metrics) {
        let counters = [
            (&mut self.received_packets, &metrics.rtp_packets.received),
            (&mut self.received_bytes, &metrics.rtp_bytes.received),
            (&mut self.sent_packets, &metrics.rtp_packets.sent),
            (&mut self.sent_bytes, &metrics.rtp_bytes.sent),
            (&mut self.nacks_received, &metrics.nack.received),
            (&mut self.nacks_sent, &metrics.nack.sent),
            (&mut self.rtx_packets, &metrics.rtx_packets),
            (&mut self.plis_received, &metrics.pli.received),
            (&mut self.plis_sent, &metrics.pli.sent),
        ];
        for (count, counter) in counters {
            if *count > 0 {
                counter.inc_by(std::mem::take(count));
            }
        }
        for (samples, histogram) in
            [(&mut self.joins, &metrics.join_seconds), (&mut self.forwards, &metrics.forward_seconds)]
        {
            samples.drain(..).for_each(|sample| histogram.observe(sample.as_secs_f64()));
        }
    }
}
