//! Why a session's transport cannot be, or ended.

use std::time::Duration;

/// Each names the cause; all are the end of the session they happen to, and of no other.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    #[error("no certificate could be made for DTLS: {cause}")]
    Certificate { cause: String },
    #[error(
        "the offer has no usable certificate fingerprint ({offered}): the client must send sha-256, sha-384 or sha-512 in a=fingerprint"
    )]
    NoUsableFingerprint { offered: String },
    #[error("DTLS cannot be set up: {cause}")]
    Setup { cause: String },
    #[error(
        "the peer's certificate has none of the fingerprints in its SDP: somebody is in between, or the SDP belongs to another connection"
    )]
    FingerprintMismatch,
    #[error("the DTLS handshake failed: {cause}")]
    Handshake { cause: String },
    #[error("the DTLS handshake did not finish within {} s: datagrams get lost, or the peer never began it", after.as_secs_f32())]
    HandshakeTimeout { after: Duration },
    #[error("the peer agreed to no SRTP profile of ours (AEAD_AES_128_GCM, AEAD_AES_256_GCM, AES128_CM_HMAC_SHA1_80)")]
    NoSrtpProfile,
    #[error("SRTP keys could not be derived: {cause}")]
    Keys { cause: String },
}
