//! One direction's session keys of one protocol (RTP or RTCP), ready to seal with.

use aws_lc_rs::{
    aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    cipher::{EncryptingKey, EncryptionContext},
    error::Unspecified,
    hmac,
};

use super::{Label, MasterKey, SALT_BYTES, SrtpProfile, counter_mode};

const GCM_SALT_BYTES: usize = 12;
/// The full HMAC-SHA1 key (RFC 3711 section 5.2).
const AUTHENTICATION_KEY_BYTES: usize = 20;

/// Key material of RTP or of RTCP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Rtp,
    Rtcp,
}

pub(super) enum SessionCipher {
    Gcm {
        key: LessSafeKey,
        salt: [u8; GCM_SALT_BYTES],
    },
    /// Boxed: its keys are nearly 2 KB, and most sessions have GCM.
    CounterSha1(Box<CounterSha1>),
}

pub(super) struct CounterSha1 {
    pub key: EncryptingKey,
    pub salt: [u8; SALT_BYTES],
    pub authentication: hmac::Key,
}

impl SessionCipher {
    pub fn derive(master: &MasterKey, protocol: Protocol) -> Result<Self, Unspecified> {
        let (key_label, authentication_label, salt_label) = match protocol {
            Protocol::Rtp => (Label::RtpKey, Label::RtpAuthentication, Label::RtpSalt),
            Protocol::Rtcp => (Label::RtcpKey, Label::RtcpAuthentication, Label::RtcpSalt),
        };
        let mut key = master.key;
        let key = &mut key[..master.profile.key_bytes()];
        master.derive(key_label, key)?;
        let mut salt = [0; SALT_BYTES];
        let salt = &mut salt[..master.profile.salt_bytes()];
        master.derive(salt_label, salt)?;
        let mut authentication = [0; AUTHENTICATION_KEY_BYTES];
        master.derive(authentication_label, &mut authentication)?;
        Self::new(master.profile, key, salt, &authentication)
    }

    /// From session keys (not master keys). `authentication` is for the SHA1 profile only.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8], authentication: &[u8]) -> Result<Self, Unspecified> {
        match profile {
            SrtpProfile::AeadAes128Gcm | SrtpProfile::AeadAes256Gcm => {
                let algorithm = if profile == SrtpProfile::AeadAes128Gcm { &AES_128_GCM } else { &AES_256_GCM };
                let key = LessSafeKey::new(UnboundKey::new(algorithm, key)?);
                Ok(Self::Gcm { key, salt: salt.try_into()? })
            }
            SrtpProfile::Aes128CmHmacSha1_80 => Ok(Self::CounterSha1(Box::new(CounterSha1 {
                key: counter_mode(key)?,
                salt: salt.try_into()?,
                authentication: hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, authentication),
            }))),
        }
    }

    pub fn tag_bytes(&self) -> usize {
        match self {
            Self::Gcm { .. } => SrtpProfile::AeadAes128Gcm.tag_bytes(),
            Self::CounterSha1(_) => SrtpProfile::Aes128CmHmacSha1_80.tag_bytes(),
        }
    }
}

/// RFC 7714 section 8.1 (RTP: two zero bytes, SSRC, ROC, sequence number) and section 9.1 (RTCP: two zero bytes, SSRC,
/// two zero bytes, SRTCP index); with `index` of 48 and 31 bits both are the same sum.
pub(super) fn gcm_nonce(salt: &[u8; GCM_SALT_BYTES], ssrc: u32, index: u64) -> Nonce {
    let value = u128::from(ssrc) << 48 | u128::from(index & 0xffff_ffff_ffff);
    let mut nonce = [0; GCM_SALT_BYTES];
    for ((to, value), salt) in nonce.iter_mut().zip(&value.to_be_bytes()[4..]).zip(salt) {
        *to = value ^ salt;
    }
    Nonce::assume_unique_for_key(nonce)
}

/// RFC 3711 section 4.1.1: salt * 2^16 XOR SSRC * 2^64 XOR index * 2^16.
pub(super) fn counter_context(salt: &[u8; SALT_BYTES], ssrc: u32, index: u64) -> EncryptionContext {
    let mut counter = (u128::from(ssrc) << 64 | u128::from(index & 0xffff_ffff_ffff) << 16).to_be_bytes();
    for (to, salt) in counter.iter_mut().zip(salt) {
        *to ^= salt;
    }
    EncryptionContext::Iv128(counter.into())
}

/// Encrypts `text` and writes the tag of `aad` and it.
pub(super) fn seal_gcm(
    key: &LessSafeKey,
    nonce: Nonce,
    aad: &[u8],
    text: &mut [u8],
    tag: &mut [u8],
) -> Result<(), Unspecified> {
    key.seal_in_place_scatter(nonce, Aad::from(aad), text, &[], tag)
}
