//! A simulated publisher behind a seeded network that loses, delays and reorders.

use std::collections::{BTreeMap, HashMap};

use super::*;

struct Network {
    loss_percent: u64,
    delay_ms: u64,
    jitter_ms: u64,
}

/// What is under way, by the time of arrival; the count keeps packets of one moment apart.
struct Link<T> {
    random: Random,
    network: Network,
    under_way: BTreeMap<(u64, u64), T>,
    sent: u64,
}

impl<T> Link<T> {
    fn new(seed: u64, network: Network) -> Self {
        Self { random: Random(seed), network, under_way: BTreeMap::new(), sent: 0 }
    }

    fn send(&mut self, now_ms: u64, what: T) {
        self.sent += 1;
        if self.random.below(100) < self.network.loss_percent {
            return;
        }
        let delay_ms = self.network.delay_ms + self.random.below(self.network.jitter_ms + 1);
        self.under_way.insert((now_ms + delay_ms, self.sent), what);
    }

    fn receive(&mut self, now_ms: u64) -> Option<T> {
        self.under_way.first_entry().filter(|first| first.key().0 <= now_ms).map(|first| first.remove())
    }
}

struct Outcome {
    sent: usize,
    packets: Vec<Arc<TrackPacket>>,
    counters: crate::ingest::whip::ReceiverCounters,
    keyframes_asked: usize,
}

/// Ten seconds of 30 pictures a second, 5 packets each, that wrap their sequence numbers and timestamps on the way. NACKs
/// are answered by RTX, or by the same packet again.
fn publish_through(seed: u64, loss_percent: u64, with_rtx: bool) -> Outcome {
    let mut bench = Bench::new(&browser());
    let network = |loss_percent| Network { loss_percent, delay_ms: 20, jitter_ms: 4 };
    let mut link = Link::new(seed, network(loss_percent));
    let mut back: Link<Bytes> = Link::new(seed + 1, network(loss_percent));
    let mut history: HashMap<u16, Rtp> = HashMap::new();
    let (mut sequence, mut rtx_sequence, mut timestamp) = (65_000u16, 0u16, u32::MAX - 90_000);
    let (mut sent, mut keyframes_asked, mut counters) = (0, 0, Default::default());
    for now_ms in 0..13_000 {
        let now = ms(now_ms);
        if now_ms < 10_000 && now_ms % 33 == 0 {
            for packet in 0..5 {
                let payload = [
                    if packet > 0 {
                        MORE
                    } else if now_ms == 0 {
                        KEY
                    } else {
                        DELTA
                    },
                    &[sent as u8; 90],
                ];
                let rtp = Rtp { marker: packet == 4, ..video(sequence, timestamp, &payload.concat()) };
                history.insert(sequence, rtp.clone());
                link.send(now_ms, rtp);
                sequence = sequence.wrapping_add(1);
                sent += 1;
            }
            timestamp = timestamp.wrapping_add(2_970);
        }
        while let Some(compound) = back.receive(now_ms) {
            for meaning in RtcpReader::new(&compound) {
                match meaning {
                    Rtcp::Nack { sequences, .. } => {
                        for asked in sequences {
                            let original = &history[&asked];
                            rtx_sequence = rtx_sequence.wrapping_add(1);
                            link.send(now_ms, if with_rtx { rtx(original, rtx_sequence) } else { original.clone() });
                        }
                    }
                    Rtcp::Pli { .. } => keyframes_asked += 1,
                    _ => {}
                }
            }
        }
        while let Some(packet) = link.receive(now_ms) {
            bench.receiver.handle_rtp(now, packet.write());
        }
        bench.receiver.flush(now).unwrap();
        for (at, compound) in bench.run_until(now) {
            back.send((at - epoch()).as_millis() as u64, compound);
        }
        counters = sum(counters, bench.receiver.counters());
    }
    Outcome { sent, packets: bench.packets(VIDEO), counters, keyframes_asked }
}

fn sum(
    a: crate::ingest::whip::ReceiverCounters,
    b: crate::ingest::whip::ReceiverCounters,
) -> crate::ingest::whip::ReceiverCounters {
    crate::ingest::whip::ReceiverCounters {
        packets: a.packets + b.packets,
        recovered: a.recovered + b.recovered,
        nacks_sent: a.nacks_sent + b.nacks_sent,
        lost: a.lost + b.lost,
        ..b
    }
}

fn check(outcome: &Outcome, seed: u64) {
    // The first packets may be lost before anything tells that they exist.
    let first = outcome.packets.iter().map(|packet| packet.seq).min().unwrap();
    let mut by_number: Vec<_> = outcome.packets.iter().map(|packet| (packet.seq, packet.clone())).collect();
    by_number.sort_by_key(|(seq, _)| *seq);
    by_number.dedup_by_key(|(seq, _)| *seq);
    assert_eq!(by_number.len(), outcome.packets.len(), "seed {seed}: a packet was handed on twice");
    let last = by_number.last().unwrap().0;
    assert_eq!(last - first + 1, by_number.len() as u64, "seed {seed}: a packet is missing");
    assert!(outcome.sent - by_number.len() <= 8, "seed {seed}: {} of {}", by_number.len(), outcome.sent);
    for pair in by_number.windows(2) {
        let step = pair[1].1.time_ticks - pair[0].1.time_ticks;
        assert_eq!(step, if pair[0].1.marker { 2_970 } else { 0 }, "seed {seed}");
        assert_eq!(pair[1].1.payload[10], pair[0].1.payload[10].wrapping_add(1), "seed {seed}");
    }
}

#[test]
fn everything_lost_is_recovered_by_retransmissions() {
    for seed in 0..6 {
        let outcome = publish_through(seed, 5, true);
        check(&outcome, seed);
        assert!(outcome.counters.recovered > 40, "{:?}", outcome.counters);
        // Nothing tells of the very first packet when it is lost, but then its keyframe is missed.
        let began_with_keyframe = outcome.packets[0].keyframe_start;
        assert_eq!((outcome.counters.lost, outcome.keyframes_asked == 0), (0, began_with_keyframe), "seed {seed}");
    }
}

#[test]
fn everything_lost_is_recovered_by_the_same_packets_again() {
    for seed in 10..13 {
        let outcome = publish_through(seed, 5, false);
        check(&outcome, seed);
        assert_eq!((outcome.counters.lost, outcome.counters.recovered), (0, 0));
    }
}

#[test]
fn heavy_loss_is_recovered_with_few_needless_requests() {
    for seed in 20..23 {
        let outcome = publish_through(seed, 20, true);
        check(&outcome, seed);
        // A packet is missing after 1/5 of sends; asking and answering succeed in 64 of 100 rounds: 1.6 requests each.
        let needed = outcome.sent as u64 / 5 * 16 / 10;
        assert!(outcome.counters.nacks_sent < needed * 3 / 2, "{} for {needed}", outcome.counters.nacks_sent);
    }
}

#[test]
fn a_network_that_only_reorders_within_the_grace_is_not_asked_for_much() {
    let outcome = publish_through(30, 0, true);
    check(&outcome, 30);
    assert!(outcome.counters.nacks_sent == 0, "{:?}", outcome.counters);
}
