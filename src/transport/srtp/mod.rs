//! SRTP and SRTCP with the keys that DTLS gave (RFC 3711, RFC 5764, RFC 7714).
//!
//! Going out, [`SrtpSealer`] and [`SrtcpSealer`] are ours: in place, without allocation, without state per SSRC. Coming in,
//! [`SrtpOpener`] is `rtc-srtp` behind a guard that keeps unauthenticated datagrams from growing or upsetting its state.
//! MKI, key derivation rates and rekeying are not spoken (WebRTC uses none of them).

mod cipher;
mod opener;
mod sealer;

use std::fmt;

use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_srtp::protection_profile::ProtectionProfile;

pub use self::sealer::SrtpSealer;
pub(super) use self::{opener::SrtpOpener, sealer::SrtcpSealer};

/// The shortest RTP header (RFC 3550 section 5.1).
const RTP_HEADER_BYTES: usize = 12;
/// The part of an RTCP packet that SRTCP leaves in the clear (RFC 3711 section 3.4).
const RTCP_CLEAR_BYTES: usize = 8;
/// The word with the E flag and the SRTCP index (RFC 3711 section 3.4).
const RTCP_INDEX_BYTES: usize = 4;
/// The longest SRTP master key, of AES-256.
const KEY_MAX_BYTES: usize = 32;
/// The salt that key derivation works with (RFC 3711 section 4.3.1); GCM's 12 bytes are padded with zeros behind.
const SALT_BYTES: usize = 14;

/// An SRTP protection profile (RFC 5764 section 4.1.2, RFC 7714 section 14.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SrtpProfile {
    AeadAes128Gcm,
    AeadAes256Gcm,
    Aes128CmHmacSha1_80,
}

impl SrtpProfile {
    /// In the order we prefer them: GCM costs a fifth of the SHA1 profile, and 128 bits are enough.
    pub const PREFERRED: [Self; 3] = [Self::AeadAes128Gcm, Self::AeadAes256Gcm, Self::Aes128CmHmacSha1_80];

    /// The name in the IANA registry of DTLS-SRTP protection profiles.
    pub fn name(self) -> &'static str {
        match self {
            Self::AeadAes128Gcm => "SRTP_AEAD_AES_128_GCM",
            Self::AeadAes256Gcm => "SRTP_AEAD_AES_256_GCM",
            Self::Aes128CmHmacSha1_80 => "SRTP_AES128_CM_HMAC_SHA1_80",
        }
    }

    pub(super) fn key_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::Aes128CmHmacSha1_80 => 16,
            Self::AeadAes256Gcm => KEY_MAX_BYTES,
        }
    }

    pub(super) fn salt_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 12,
            Self::Aes128CmHmacSha1_80 => SALT_BYTES,
        }
    }

    pub(super) fn tag_bytes(self) -> usize {
        match self {
            Self::AeadAes128Gcm | Self::AeadAes256Gcm => 16,
            Self::Aes128CmHmacSha1_80 => 10,
        }
    }

    /// How much keying material DTLS has to export: two keys, two salts (RFC 5764 section 4.2).
    pub(super) fn material_bytes(self) -> usize {
        2 * (self.key_bytes() + self.salt_bytes())
    }

    pub(super) fn to_dtls(self) -> SrtpProtectionProfile {
        match self {
            Self::AeadAes128Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm,
            Self::AeadAes256Gcm => SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm,
            Self::Aes128CmHmacSha1_80 => SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80,
        }
    }

    pub(super) fn from_dtls(profile: SrtpProtectionProfile) -> Option<Self> {
        Self::PREFERRED.into_iter().find(|ours| ours.to_dtls() == profile)
    }

    fn to_srtp(self) -> ProtectionProfile {
        match self {
            Self::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
            Self::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
            Self::Aes128CmHmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        }
    }
}

/// One direction's master key and salt.
#[derive(Clone)]
pub(super) struct MasterKey {
    pub profile: SrtpProfile,
    key: [u8; KEY_MAX_BYTES],
    salt: [u8; SALT_BYTES],
}

/// The key never reaches a log.
impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MasterKey").field("profile", &self.profile).finish_non_exhaustive()
    }
}

/// The master keys of both directions.
pub(super) struct MasterKeys {
    pub client_writes: MasterKey,
    pub server_writes: MasterKey,
}

impl MasterKeys {
    /// Splits what DTLS exported: client's key, server's key, client's salt, server's salt (RFC 5764 section 4.2).
    /// `None` if there is not enough of it.
    pub fn from_material(profile: SrtpProfile, material: &[u8]) -> Option<Self> {
        let (client_key, rest) = material.split_at_checked(profile.key_bytes())?;
        let (server_key, rest) = rest.split_at_checked(profile.key_bytes())?;
        let (client_salt, rest) = rest.split_at_checked(profile.salt_bytes())?;
        let (server_salt, _) = rest.split_at_checked(profile.salt_bytes())?;
        Some(Self {
            client_writes: MasterKey::new(profile, client_key, client_salt)?,
            server_writes: MasterKey::new(profile, server_key, server_salt)?,
        })
    }
}

/// Which of the six session keys is derived (RFC 3711 section 4.3.2); `u8` is its label.
#[derive(Debug, Clone, Copy)]
enum Label {
    RtpKey = 0,
    RtpAuthentication = 1,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpAuthentication = 4,
    RtcpSalt = 5,
}

impl MasterKey {
    /// `None` unless both have the profile's lengths.
    pub fn new(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Option<Self> {
        if key.len() != profile.key_bytes() || salt.len() != profile.salt_bytes() {
            return None;
        }
        let mut master = Self { profile, key: [0; KEY_MAX_BYTES], salt: [0; SALT_BYTES] };
        master.key.get_mut(..key.len())?.copy_from_slice(key);
        master.salt.get_mut(..salt.len())?.copy_from_slice(salt);
        Some(master)
    }

    fn key(&self) -> &[u8] {
        &self.key[..self.profile.key_bytes()]
    }

    fn salt(&self) -> &[u8] {
        &self.salt[..self.profile.salt_bytes()]
    }

    /// Fills `out` with a session key: the AES counter mode key stream that begins at the salt with the label XORed in
    /// (RFC 3711 section 4.3.3; with AES-256 for the 256-bit profile, RFC 7714 section 11). The derivation rate is zero.
    fn derive(&self, label: Label, out: &mut [u8]) -> Result<(), aws_lc_rs::error::Unspecified> {
        let mut counter = [0u8; 16];
        counter[..SALT_BYTES].copy_from_slice(&self.salt);
        counter[7] ^= label as u8;
        out.fill(0);
        counter_mode(self.key())?.less_safe_encrypt(out, EncryptionContext::Iv128(counter.into()))?;
        Ok(())
    }
}

/// AES counter mode with a key of 16 or 32 bytes.
fn counter_mode(key: &[u8]) -> Result<EncryptingKey, aws_lc_rs::error::Unspecified> {
    let algorithm = if key.len() == KEY_MAX_BYTES { &AES_256 } else { &AES_128 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key)?)
}

#[cfg(test)]
mod tests;
