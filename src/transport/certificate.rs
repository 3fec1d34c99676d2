//! Our DTLS certificate, and the comparison of the peer's with the fingerprints of its offer (RFC 8122, RFC 8827 section 6.5).

use std::{fmt, sync::Arc};

use aws_lc_rs::digest;
use rtc_crypto::{RTCCryptoProvider, providers::AwsLcRsProvider};
use rtc_dtls::crypto::Certificate as DtlsCertificate;
use sluice_signaling::sdp::Fingerprint;

use super::TransportError;

/// The cryptography that every session uses.
pub(super) fn provider() -> &'static Arc<dyn RTCCryptoProvider> {
    use std::sync::OnceLock;
    static PROVIDER: OnceLock<Arc<dyn RTCCryptoProvider>> = OnceLock::new();
    PROVIDER.get_or_init(|| Arc::new(AwsLcRsProvider::new()))
}

/// A self-signed ECDSA P-256 certificate with its key. Made once per process, shared by all sessions.
pub struct Certificate {
    pub(super) dtls: DtlsCertificate,
    fingerprint: Fingerprint,
}

/// The key never reaches a log.
impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("fingerprint", &self.fingerprint).finish_non_exhaustive()
    }
}

impl Certificate {
    /// # Errors
    /// [`TransportError::Certificate`] when the system has no randomness to give.
    pub fn generate() -> Result<Arc<Self>, TransportError> {
        // The name tells a peer nothing about this machine.
        let dtls = DtlsCertificate::generate_self_signed(vec!["sluice".to_owned()], provider().crypto())
            .map_err(|error| TransportError::Certificate { cause: error.to_string() })?;
        let der = dtls.certificate.first().map(|der| der.as_ref()).unwrap_or_default();
        let fingerprint = Fingerprint {
            algorithm: "sha-256".to_owned(),
            digest: digest::digest(&digest::SHA256, der).as_ref().to_vec(),
        };
        Ok(Arc::new(Self { dtls, fingerprint }))
    }

    /// SHA-256 of the certificate, for `a=fingerprint`.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint.clone()
    }
}

/// The hash functions of RFC 8122 section 5 that still hide anything; a peer that has only MD5 or SHA-1 is refused.
fn hash(algorithm: &str) -> Option<&'static digest::Algorithm> {
    [
        ("sha-256", &digest::SHA256),
        ("sha-384", &digest::SHA384),
        ("sha-512", &digest::SHA512),
        ("sha-224", &digest::SHA224),
    ]
    .into_iter()
    .find_map(|(name, hash)| name.eq_ignore_ascii_case(algorithm).then_some(hash))
}

/// Whether a peer with these fingerprints can be verified at all.
pub(super) fn any_usable(fingerprints: &[Fingerprint]) -> bool {
    fingerprints
        .iter()
        .any(|stated| hash(&stated.algorithm).is_some_and(|hash| hash.output_len() == stated.digest.len()))
}

/// Whether the certificate (DER) has one of the fingerprints.
pub(super) fn matches_any(certificate: &[u8], fingerprints: &[Fingerprint]) -> bool {
    fingerprints.iter().any(|stated| {
        hash(&stated.algorithm).is_some_and(|hash| digest::digest(hash, certificate).as_ref() == stated.digest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_the_certificates_sha_256() {
        let certificate = Certificate::generate().unwrap();
        let der = certificate.dtls.certificate[0].as_ref();
        assert!(matches_any(der, &[certificate.fingerprint()]));
        assert!(!matches_any(&der[1..], &[certificate.fingerprint()]));
    }

    #[test]
    fn any_of_several_fingerprints_will_do_and_weak_ones_will_not() {
        let der = b"certificate";
        let of = |algorithm: &str, hash: &'static digest::Algorithm| Fingerprint {
            algorithm: algorithm.to_owned(),
            digest: digest::digest(hash, der).as_ref().to_vec(),
        };
        let wrong = Fingerprint { algorithm: "sha-256".to_owned(), digest: vec![0; 32] };
        assert!(matches_any(der, &[wrong.clone(), of("SHA-512", &digest::SHA512)]));
        assert!(!matches_any(der, &[wrong]));
        let weak = of("sha-1", &digest::SHA1_FOR_LEGACY_USE_ONLY);
        assert!(!matches_any(der, std::slice::from_ref(&weak)));
        assert!(!any_usable(&[weak]));
        assert!(!any_usable(&[Fingerprint { algorithm: "sha-256".to_owned(), digest: vec![0; 20] }]));
        assert!(!any_usable(&[]));
    }
}
