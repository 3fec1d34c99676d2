use super::{super::*, network::*};

#[test]
fn a_handshake_agrees_on_aes_128_gcm_and_packets_flow_both_ways() {
    let mut network = Network::connected(1);
    let now = network.now;
    for (from, to) in [(0, 1), (1, 0)] {
        let plain = rtp(7, 65_535, b"payload");
        let sealed = seal(&network.ends[from], &plain, 7, 65_535);
        assert_eq!(network.ends[to].handle_datagram(now, path(1), sealed.clone()), Received::Rtp(plain.into()));
        assert_eq!(network.ends[to].handle_datagram(now, path(1), sealed), Received::Nothing, "a replay");

        let report = [0x80, 201, 0, 1, 0, 0, 0, 9];
        let sealed = network.ends[from].seal_rtcp(&report).unwrap();
        let received = network.ends[to].handle_datagram(now, path(1), sealed);
        assert_eq!(received, Received::Rtcp(Bytes::copy_from_slice(&report)));
    }
}

fn network(seed: u64, loss: f64) -> Network {
    let mut network = Network::new([transport(DtlsRole::Server), transport(DtlsRole::Client)], seed, loss);
    network.check();
    network
}

#[test]
fn a_handshake_survives_loss_of_a_third_of_its_datagrams() {
    let mut failed = 0;
    for seed in 0..100 {
        let mut network = network(seed, 0.33);
        network.run_for(Duration::from_secs(9));
        let connected = network.ends.iter().filter(|end| end.is_connected()).count();
        if connected != 2 {
            failed += 1;
        }
        assert!(network.sent.iter().all(|sent| *sent < 100), "seed {seed} sends {:?} datagrams", network.sent);
    }
    assert!(failed <= 2, "{failed} of 100 did not connect");
}

#[test]
fn a_handshake_without_loss_takes_three_round_trips_and_few_datagrams() {
    let mut network = network(1, 0.0);
    network.run_for(Duration::from_millis(65));
    assert!(network.ends.iter().all(Transport::is_connected));
    network.run_for(Duration::from_secs(20));
    assert!(network.sent.iter().sum::<usize>() <= 10, "{:?}", network.sent);
}

#[test]
fn a_peer_with_another_certificate_is_refused_in_either_role() {
    let stranger = Certificate::generate().unwrap();
    let [server, client] = certificates();
    for distrusting in [DtlsRole::Server, DtlsRole::Client] {
        let expected = |role, right: &Arc<Certificate>| {
            vec![if role == distrusting { stranger.fingerprint() } else { right.fingerprint() }]
        };
        let ends = [
            transport_expecting(DtlsRole::Server, server, expected(DtlsRole::Server, client)),
            transport_expecting(DtlsRole::Client, client, expected(DtlsRole::Client, server)),
        ];
        let mut network = Network::new(ends, 1, 0.0);
        network.check();
        network.run_for(Duration::from_secs(5));
        let index = usize::from(distrusting == DtlsRole::Client);
        assert_eq!(network.events[index], [TransportEvent::Failed(TransportError::FingerprintMismatch)]);
        assert!(!network.ends[index].is_connected());
        assert!(network.ends[index].sealer().is_none());
        let other = &network.events[1 - index];
        assert!(matches!(other[..], [TransportEvent::Failed(TransportError::Handshake { .. })]), "{other:?}");
    }
}

#[test]
fn one_right_fingerprint_among_several_is_enough() {
    let [server, client] = certificates();
    let wrong = Fingerprint { algorithm: "sha-256".to_owned(), digest: vec![0; 32] };
    let ends =
        [transport_expecting(DtlsRole::Server, server, vec![wrong, client.fingerprint()]), transport(DtlsRole::Client)];
    let mut network = Network::new(ends, 1, 0.0);
    network.check();
    network.run_for(Duration::from_secs(1));
    assert!(network.ends.iter().all(Transport::is_connected));
}

#[test]
fn an_offer_without_a_usable_fingerprint_is_refused_at_once() {
    let config = TransportConfig {
        role: DtlsRole::Server,
        remote_fingerprints: vec![Fingerprint { algorithm: "md5".to_owned(), digest: vec![0; 16] }],
        certificate: Arc::clone(&certificates()[0]),
        consent_timeout: CONSENT_TIMEOUT,
    };
    let Err(error) = Transport::new(config, crate::media::testing::epoch()) else { panic!("it was taken") };
    assert_eq!(error, TransportError::NoUsableFingerprint { offered: "md5".to_owned() });
}

#[test]
fn a_handshake_that_gets_no_answer_fails_after_ten_seconds() {
    let mut network = network(1, 1.0);
    network.run_for(Duration::from_secs(10) - Duration::from_nanos(1));
    assert!(network.events.iter().all(Vec::is_empty));
    network.run_for(Duration::from_nanos(1));
    let timeout = TransportError::HandshakeTimeout { after: Duration::from_secs(10) };
    assert_eq!(network.events[1], [TransportEvent::Failed(timeout.clone())]);
    assert_eq!(network.events[0], [TransportEvent::Failed(timeout)]);
    assert!(network.ends.iter().all(|end| end.poll_timeout().is_none()));
}

#[test]
fn nothing_is_taken_from_a_path_without_a_check() {
    let mut client = transport(DtlsRole::Client);
    let mut server = transport(DtlsRole::Server);
    let now = crate::media::testing::epoch();
    client.handle_check(now, path(1), Check::of_first(true));
    let hello = client.poll_transmit().unwrap().datagram;
    server.handle_datagram(now, path(1), hello.clone());
    assert!(server.poll_transmit().is_none());
    server.handle_check(now, path(2), Check::of_first(true));
    server.handle_datagram(now, path(1), hello.clone());
    assert!(server.poll_transmit().is_none());
    server.handle_datagram(now, path(2), hello);
    assert_eq!(server.poll_transmit().unwrap().path, path(2));
}

#[test]
fn a_lost_last_flight_is_answered_again_until_the_peer_is_known_to_be_connected() {
    let mut network = network(1, 0.0);
    // Until the server is done and its last flight is on its way, which is then lost.
    while !network.ends[0].is_connected() {
        network.run_for(Duration::from_millis(10));
    }
    network.lose_everything_in_flight();
    assert!(!network.ends[1].is_connected());
    network.run_for(Duration::from_secs(3));
    assert!(network.ends[1].is_connected());
}

#[test]
fn a_peer_that_only_ever_checks_fails_after_thirty_seconds() {
    let mut server = transport(DtlsRole::Server);
    let start = crate::media::testing::epoch();
    for second in 0..30 {
        server.handle_check(start + Duration::from_secs(second), path(1), Check::of_first(false));
        assert_eq!(server.poll_event(), None);
    }
    server.handle_check(start + Duration::from_secs(30), path(1), Check::of_first(false));
    let timeout = TransportError::HandshakeTimeout { after: Duration::from_secs(30) };
    assert_eq!(server.poll_event(), Some(TransportEvent::Failed(timeout)));
}
