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
