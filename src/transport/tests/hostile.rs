//! Mutated datagrams by the hundred thousand: nothing panics, nothing grows, a connected session lives on.

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{super::*, network::*};

fn mutate(random: &mut StdRng, original: &[u8]) -> BytesMut {
    let mut datagram = original.to_vec();
    for _ in 0..random.random_range(1..5) {
        let at = random.random_range(0..datagram.len());
        match random.random_range(0..7) {
            0 => datagram[at] = random.random(),
            1 => datagram[at] ^= 1 << random.random_range(0..8),
            2 => datagram.truncate(at.max(1)),
            3 => datagram.insert(at, random.random()),
            4 => datagram.extend_from_within(at..),
            // Lengths and offsets are where parsers fall.
            5 => datagram[at] = [0, 1, 0x7f, 0x80, 0xff][random.random_range(0..5)],
            _ => {
                datagram.remove(at);
                datagram.push(0);
            }
        }
    }
    BytesMut::from(&datagram[..])
}

/// Every datagram of a whole handshake, by direction.
fn handshake_datagrams() -> [Vec<BytesMut>; 2] {
    let mut ends = [transport(DtlsRole::Server), transport(DtlsRole::Client)];
    let now = crate::media::testing::epoch();
    let mut datagrams: [Vec<BytesMut>; 2] = Default::default();
    for end in &mut ends {
        end.handle_check(now, path(1), Check::of_first(true));
    }
    for _ in 0..20 {
        for from in [0, 1] {
            while let Some(transmit) = ends[from].poll_transmit() {
                datagrams[1 - from].push(transmit.datagram.clone());
                ends[1 - from].handle_datagram(now, path(1), transmit.datagram);
            }
        }
    }
    assert!(ends.iter().all(Transport::is_connected));
    datagrams
}

#[test]
fn a_connected_session_survives_a_flood_of_mutants() {
    let mut random = StdRng::seed_from_u64(6347);
    let recorded = handshake_datagrams();
    let mut network = Network::connected(1);
    let now = network.now;
    let report = network.ends[1].seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 9]).unwrap();
    let close = [21, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 9, 0, 26].into_iter().chain([0; 26]).collect::<Vec<u8>>();
    for round in 0..200_000u32 {
        // From the middle on, as one that has put its handshake away.
        if round == 100_000 {
            network.settle();
        }
        let datagram = match random.random_range(0..5) {
            0 => mutate(&mut random, &seal(&network.ends[1], &rtp(7, 1, b"payload"), 7, 1)),
            1 => mutate(&mut random, &report),
            2 => mutate(&mut random, &close),
            _ => {
                let original = &recorded[0][random.random_range(0..recorded[0].len())];
                mutate(&mut random, original)
            }
        };
        network.ends[0].handle_datagram(now, path(1), datagram);
        while network.ends[0].poll_transmit().is_some() {}
        assert_eq!(network.ends[0].poll_event(), None, "round {round}");
    }
    let plain = rtp(7, 2, b"payload");
    let sealed = seal(&network.ends[1], &plain, 7, 2);
    assert_eq!(network.ends[0].handle_datagram(now, path(1), sealed), Received::Rtp(plain.into()));
}

#[test]
fn handshakes_fed_with_mutants_end_without_a_panic() {
    let recorded = handshake_datagrams();
    let mut random = StdRng::seed_from_u64(5246);
    for round in 0..1500 {
        let role = if round % 2 == 0 { DtlsRole::Server } else { DtlsRole::Client };
        let mut end = transport(role);
        let now = crate::media::testing::epoch();
        end.handle_check(now, path(1), Check::of_first(true));
        let originals = &recorded[usize::from(role == DtlsRole::Client)];
        for step in 0..40 {
            let original = &originals[random.random_range(0..originals.len())];
            let datagram = if random.random_bool(0.3) { original.clone() } else { mutate(&mut random, original) };
            end.handle_datagram(now + Duration::from_millis(50 * step), path(1), datagram);
            while end.poll_transmit().is_some() {}
        }
        while let Some(event) = end.poll_event() {
            let TransportEvent::Failed(error) = event else { panic!("round {round} gave {event:?}") };
            assert!(!error.to_string().contains("panicked"), "round {round}: {error}");
        }
    }
}
