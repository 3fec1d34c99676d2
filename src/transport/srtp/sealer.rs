//! What leaves: sealed in place.

use aws_lc_rs::{error::Unspecified, hmac};
use bytes::BytesMut;

use super::{
    MasterKey, RTCP_CLEAR_BYTES, RTCP_INDEX_BYTES, RTP_HEADER_BYTES, SrtpProfile,
    cipher::{CounterSha1, Protocol, SessionCipher, counter_context, gcm_nonce, seal_gcm},
};

/// The E flag: the packet is encrypted (RFC 3711 section 3.4).
const RTCP_ENCRYPTED: u32 = 1 << 31;

/// Seals outgoing RTP. The caller knows each stream's full packet index, so there is no state here and `&self` will do.
pub struct SrtpSealer {
    cipher: SessionCipher,
}

impl SrtpSealer {
    pub(in super::super) fn new(master: &MasterKey) -> Result<Self, Unspecified> {
        Ok(Self { cipher: SessionCipher::derive(master, Protocol::Rtp)? })
    }

    /// A seal of its own, for tests and measurements; a session's comes from its handshake. `None` unless key and salt
    /// have the profile's lengths.
    pub fn with_master(profile: SrtpProfile, key: &[u8], salt: &[u8]) -> Option<Self> {
        Self::new(&MasterKey::new(profile, key, salt)?).ok()
    }

    /// By how much a sealed packet is longer than its plain one: 16 (GCM) or 10 bytes (SHA1).
    pub fn overhead_bytes(&self) -> usize {
        self.cipher.tag_bytes()
    }

    /// Seals `packet` (header, payload, and [`Self::overhead_bytes`] of room for the tag) in place.
    ///
    /// `header_bytes` counts the fixed header, CSRCs and extensions. `index` is the 48-bit packet index ROC << 16 | SEQ (RFC 3711
    /// section 3.3.1), where SEQ is the header's. An SSRC and index must never be sealed twice with different content: under
    /// GCM that gives the key away. Costs no allocation.
    ///
    /// # Panics
    /// When `header_bytes` is no RTP header's length or the room for the tag is missing: the caller's mistake.
    pub fn seal(&self, packet: &mut [u8], header_bytes: usize, ssrc: u32, index: u64) {
        let sealed_bytes = packet.len();
        assert!(
            header_bytes >= RTP_HEADER_BYTES && header_bytes + self.overhead_bytes() <= sealed_bytes,
            "a packet of {sealed_bytes} bytes with a header of {header_bytes} has no room for the tag"
        );
        let (text, tag) = packet.split_at_mut(sealed_bytes - self.overhead_bytes());
        if self.try_seal(text, tag, header_bytes, ssrc, index).is_err() {
            // AES fails for no input of a datagram's size. Should it ever: nothing may leave in the clear.
            packet.fill(0);
        }
    }

    fn try_seal(
        &self,
        packet: &mut [u8],
        tag: &mut [u8],
        header_bytes: usize,
        ssrc: u32,
        index: u64,
    ) -> Result<(), Unspecified> {
        match &self.cipher {
            SessionCipher::Gcm { key, salt } => {
                let (header, payload) = packet.split_at_mut(header_bytes);
                seal_gcm(key, gcm_nonce(salt, ssrc, index), header, payload, tag)
            }
            SessionCipher::CounterSha1(keys) => {
                let CounterSha1 { key, salt, authentication } = &**keys;
                key.less_safe_encrypt(&mut packet[header_bytes..], counter_context(salt, ssrc, index))?;
                // RFC 3711 section 4.2: the tag covers the packet and the rollover counter.
                let rollover = (index >> 16) as u32;
                write_tag(authentication, &[packet, &rollover.to_be_bytes()], tag);
                Ok(())
            }
        }
    }
}

/// Seals outgoing RTCP and counts its index.
pub(in super::super) struct SrtcpSealer {
    cipher: SessionCipher,
    /// The next packet's index. One for all SSRCs: each SSRC's own only has to grow (RFC 3711 section 3.4).
    index: u32,
}

impl SrtcpSealer {
    pub fn new(master: &MasterKey) -> Result<Self, Unspecified> {
        Ok(Self { cipher: SessionCipher::derive(master, Protocol::Rtcp)?, index: 0 })
    }

    #[cfg(test)]
    pub fn skip_to(&mut self, index: u32) {
        self.index = index;
    }

    /// The compound packet, sealed. `None` if it is shorter than an RTCP header with its SSRC, or after 2^31 packets, when
    /// the key is used up (RFC 3711 section 9.2).
    pub fn seal(&mut self, compound: &[u8]) -> Option<BytesMut> {
        let [_, _, _, _, s0, s1, s2, s3, ..] = *compound else { return None };
        let ssrc = u32::from_be_bytes([s0, s1, s2, s3]);
        if self.index >= RTCP_ENCRYPTED {
            return None;
        }
        let index = u64::from(self.index);
        let word = (self.index | RTCP_ENCRYPTED).to_be_bytes();
        self.index += 1;
        let tag_bytes = self.cipher.tag_bytes();
        let mut sealed = BytesMut::with_capacity(compound.len() + tag_bytes + RTCP_INDEX_BYTES);
        sealed.extend_from_slice(compound);
        match &self.cipher {
            SessionCipher::Gcm { key, salt } => {
                let mut aad = [0; RTCP_CLEAR_BYTES + RTCP_INDEX_BYTES];
                aad[..RTCP_CLEAR_BYTES].copy_from_slice(&compound[..RTCP_CLEAR_BYTES]);
                aad[RTCP_CLEAR_BYTES..].copy_from_slice(&word);
                sealed.resize(compound.len() + tag_bytes, 0);
                let (text, tag) = sealed.split_at_mut(compound.len());
                seal_gcm(key, gcm_nonce(salt, ssrc, index), &aad, &mut text[RTCP_CLEAR_BYTES..], tag).ok()?;
                sealed.extend_from_slice(&word);
            }
            SessionCipher::CounterSha1(keys) => {
                let CounterSha1 { key, salt, authentication } = &**keys;
                let context = counter_context(salt, ssrc, index);
                key.less_safe_encrypt(&mut sealed[RTCP_CLEAR_BYTES..], context).ok()?;
                sealed.extend_from_slice(&word);
                let covered = sealed.len();
                sealed.resize(covered + tag_bytes, 0);
                let (text, tag) = sealed.split_at_mut(covered);
                write_tag(authentication, &[text], tag);
            }
        }
        Some(sealed)
    }
}

fn write_tag(key: &hmac::Key, parts: &[&[u8]], tag: &mut [u8]) {
    let mut context = hmac::Context::with_key(key);
    for part in parts {
        context.update(part);
    }
    // Truncated to the profile's length.
    for (to, from) in tag.iter_mut().zip(context.sign().as_ref()) {
        *to = *from;
    }
}
