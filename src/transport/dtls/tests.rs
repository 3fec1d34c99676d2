use super::*;
use crate::media::testing::epoch;

/// Both ends' outcomes of a handshake in which a client offers these profiles to us.
fn agreed(offered: &[SrtpProfile]) -> [Option<SrtpProfile>; 2] {
    let [own, other] = [(); 2].map(|()| Arc::new(Certificate::generate().unwrap()));
    let server = Dtls::new(DtlsRole::Server, Arc::clone(&own), vec![other.fingerprint()]).unwrap();
    let client = Dtls::client(&other, vec![own.fingerprint()], offered).unwrap();
    let (mut ends, mut profiles, now) = ([server, client], [None; 2], epoch());
    ends[1].start(now);
    // One after the other, until neither has anything to say.
    while let Some(from) = ends.iter().position(|end| !end.transmits.is_empty()) {
        let datagram = ends[from].poll_transmit().unwrap();
        let to = 1 - from;
        match ends[to].handle_datagram(now, &datagram) {
            Outcome::Connected(_, profile) => profiles[to] = Some(profile),
            Outcome::Nothing | Outcome::Failed(_) | Outcome::PeerClosed => {}
        }
    }
    profiles
}

#[test]
fn a_client_gets_the_profile_that_costs_least_of_those_it_has_in_whatever_order() {
    use SrtpProfile::{AeadAes128Gcm, AeadAes256Gcm, Aes128CmHmacSha1_80};
    let cases: [(&[SrtpProfile], SrtpProfile); 5] = [
        (&[AeadAes128Gcm, Aes128CmHmacSha1_80], AeadAes128Gcm),
        // As Chromium 156 has them.
        (&[Aes128CmHmacSha1_80, AeadAes256Gcm, AeadAes128Gcm], AeadAes128Gcm),
        (&[Aes128CmHmacSha1_80, AeadAes256Gcm], AeadAes256Gcm),
        (&[AeadAes256Gcm], AeadAes256Gcm),
        (&[Aes128CmHmacSha1_80], Aes128CmHmacSha1_80),
    ];
    for (offered, expected) in cases {
        assert_eq!(agreed(offered), [Some(expected); 2], "{offered:?}");
    }
}
