//! One SSRC that a layer is received from: what came, what is missing, how it goes.

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::{
    media::ExtendedSeq,
    rtp::{Arrival, MissingPackets, ReceiveWindow, Reception},
};

/// A source that is silent for longer may be replaced by another SSRC of its section: longer than any pause between a
/// layer's pictures, shorter than viewers' patience.
const SILENCE: Duration = Duration::from_secs(2);
/// Packets at the stream's beginning that may overtake each other: a picture of 80 kB.
const FIRST_PACKETS_MAX: u64 = 64;

#[derive(Debug)]
pub(super) struct Source {
    pub ssrc: u32,
    pub rid: Option<Bytes>,
    pub missing: MissingPackets,
    /// From the first packet on its own SSRC.
    pub reception: Option<Reception>,
    window: ReceiveWindow,
    /// Where the stream begins, as far as is known.
    lowest: Option<ExtendedSeq>,
    clock_rate_hz: u32,
    heard: Instant,
    /// It said goodbye.
    gone: bool,
}

/// A packet that is new and makes sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Accepted {
    pub seq: ExtendedSeq,
    /// The newest so far, not one from a gap.
    pub newest: bool,
    /// Numbering began anew with it.
    pub restarted: bool,
    /// Packets given up because of it.
    pub lost: u64,
}

impl Source {
    pub(super) fn new(now: Instant, ssrc: u32, rid: Option<Bytes>, retransmission: bool, clock_rate_hz: u32) -> Self {
        Self {
            ssrc,
            rid,
            missing: MissingPackets::new(retransmission),
            reception: None,
            window: ReceiveWindow::default(),
            lowest: None,
            clock_rate_hz,
            heard: now,
            gone: false,
        }
    }

    /// Another SSRC may take over.
    pub(super) fn is_replaceable(&self, now: Instant) -> bool {
        self.gone || now >= self.heard + SILENCE
    }

    pub(super) fn goodbye(&mut self) {
        self.gone = true;
    }

    /// Notes a packet by its original number; `None` for doubles and strays.
    pub(super) fn accept(&mut self, now: Instant, wire: u16, timestamp: u32, repaired: bool) -> Option<Accepted> {
        (self.heard, self.gone) = (now, false);
        let accepted = match self.window.insert(wire) {
            Arrival::Duplicate | Arrival::Stray => return None,
            Arrival::Newest { seq, skipped } => {
                let lost = if skipped == 0 { 0 } else { self.missing.skipped(now, ExtendedSeq(seq.0 - skipped), seq) };
                Accepted { seq, newest: true, restarted: false, lost }
            }
            Arrival::Late(seq) => {
                self.missing.arrived(now, seq);
                let lost = self.begins_earlier(now, seq);
                Accepted { seq, newest: false, restarted: false, lost }
            }
            Arrival::Restarted(seq) => {
                self.missing.clear();
                self.reception = None;
                self.lowest = None;
                Accepted { seq, newest: true, restarted: true, lost: 0 }
            }
        };
        self.lowest.get_or_insert(accepted.seq);
        if !repaired {
            let clock_rate_hz = self.clock_rate_hz;
            let reception = self.reception.get_or_insert_with(|| Reception::new(now, accepted.seq, clock_rate_hz));
            reception.received(now, accepted.seq, timestamp);
        }
        Some(accepted)
    }

    /// The stream's first packets came out of order: what lies between this one and the first that came is missing too.
    fn begins_earlier(&mut self, now: Instant, seq: ExtendedSeq) -> u64 {
        let Some(lowest) = self.lowest.filter(|lowest| seq < *lowest) else { return 0 };
        self.lowest = Some(seq);
        if lowest - seq > FIRST_PACKETS_MAX {
            return 0;
        }
        self.missing.skipped(now, seq.next(), lowest)
    }
}
