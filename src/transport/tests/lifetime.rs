//! After the handshake: consent, path changes, the end.

use super::{super::*, network::*};

const TICK: Duration = Duration::from_nanos(1);

#[test]
fn consent_expires_exactly_at_the_timeout() {
    let mut network = Network::connected(1);
    let now = network.now;
    network.ends[0].handle_check(now, path(1), Check::of_first(false));
    network.run_for(CONSENT_TIMEOUT - TICK);
    assert!(network.events[0].is_empty());
    network.run_for(TICK);
    assert_eq!(network.events[0], [TransportEvent::ConsentExpired]);
    assert!(!network.ends[0].is_connected());
    assert_eq!(network.ends[0].poll_timeout(), None);
}

#[test]
fn a_session_that_nobody_comes_to_expires_too() {
    let mut network = Network::new([transport(DtlsRole::Server), transport(DtlsRole::Client)], 1, 0.0);
    network.run_for(CONSENT_TIMEOUT);
    assert_eq!(network.events, [[TransportEvent::ConsentExpired], [TransportEvent::ConsentExpired]]);
}

#[test]
fn authentic_packets_refresh_consent_and_forged_ones_do_not() {
    let mut network = Network::connected(1);
    for second in 0..60 {
        let sealed = seal(&network.ends[1], &rtp(7, second, b"x"), 7, u64::from(second));
        network.ends[0].handle_datagram(network.now, path(1), sealed);
        network.run_for(Duration::from_secs(1));
    }
    assert!(network.ends[0].is_connected());
    for second in 0..29 {
        network.ends[0].handle_datagram(network.now, path(1), BytesMut::from(&rtp(7, 60 + second, &[0; 40])[..]));
        network.run_for(Duration::from_secs(1));
    }
    assert_eq!(network.events[0], [TransportEvent::ConsentExpired]);
}

#[test]
fn a_nominated_check_from_elsewhere_moves_the_session_and_an_ordinary_one_does_not() {
    let mut network = Network::connected(1);
    let now = network.now;
    network.ends[0].handle_check(now, path(2), Check::of_first(false));
    assert_eq!(network.ends[0].path(), Some(path(1)));
    network.ends[0].handle_check(now, path(2), Check::of_first(true));
    assert_eq!(network.ends[0].path(), Some(path(2)));
    let plain = rtp(7, 1, b"x");
    let sealed = seal(&network.ends[1], &plain, 7, 1);
    assert_eq!(network.ends[0].handle_datagram(now, path(2), sealed), Received::Rtp(plain.into()));
    network.ends[0].close(now);
    assert_eq!(network.ends[0].poll_transmit().unwrap().path, path(2));
}

#[test]
fn close_notify_is_understood_both_ways_freshly_connected_and_settled() {
    for settled in [false, true] {
        for closing in [0, 1] {
            let mut network = Network::connected(1);
            if settled {
                network.settle();
            }
            let now = network.now;
            network.ends[closing].close(now);
            network.run_for(Duration::from_millis(100));
            assert_eq!(
                network.events[1 - closing],
                [TransportEvent::PeerClosed],
                "{closing} closes, settled: {settled}"
            );
            assert!(network.events[closing].is_empty());
            assert!(network.ends.iter().all(|end| !end.is_connected()));
        }
    }
}

#[test]
fn a_session_without_traffic_settles_by_itself_and_still_closes() {
    let mut network = Network::connected(1);
    for _ in 0..7 {
        network.check();
        network.run_for(Duration::from_secs(10));
    }
    assert!(network.ends.iter().all(Transport::is_settled));
    let now = network.now;
    network.ends[0].close(now);
    network.run_for(Duration::from_millis(100));
    assert_eq!(network.events[1], [TransportEvent::PeerClosed]);
}

#[test]
fn plaintext_alerts_do_not_end_a_connected_session() {
    for settled in [false, true] {
        let mut network = Network::connected(1);
        if settled {
            network.settle();
        }
        let now = network.now;
        for body in [[1, 0], [2, 40], [2, 0]] {
            for epoch in 0..3 {
                for sequence in [0, 1, 100] {
                    let record = [21, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, sequence, 0, 2, body[0], body[1]];
                    network.ends[0].handle_datagram(now, path(1), BytesMut::from(&record[..]));
                }
            }
        }
        network.run_for(Duration::from_millis(100));
        assert!(network.events.iter().all(Vec::is_empty));
        assert!(network.ends.iter().all(Transport::is_connected));
    }
}

#[test]
fn nothing_is_taken_or_sealed_after_the_end() {
    let mut network = Network::connected(1);
    let now = network.now;
    let sealed = seal(&network.ends[1], &rtp(7, 1, b"x"), 7, 1);
    network.ends[0].close(now);
    assert_eq!(network.ends[0].handle_datagram(now, path(1), sealed), Received::Nothing);
    assert_eq!(network.ends[0].seal_rtcp(&[0x80, 201, 0, 1, 0, 0, 0, 9]), None);
    network.ends[0].handle_check(now, path(2), Check::of_first(true));
    assert_eq!(network.ends[0].path(), Some(path(1)));
}

#[test]
fn a_settled_session_is_small() {
    let mut network = Network::connected(1);
    network.settle();
    for end in &network.ends {
        assert!(end.settled_bytes() < 1500, "{} bytes", end.settled_bytes());
    }
}
