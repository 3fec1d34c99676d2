//! The wire form of STUN messages (RFC 8489 sections 5 and 14): read without copying, written into a caller's buffer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use aws_lc_rs::{constant_time, hmac};

use super::{STUN_MAX_BYTES, StunError};

pub(super) mod attribute {
    pub const USERNAME: u16 = 0x0006;
    pub const MESSAGE_INTEGRITY: u16 = 0x0008;
    pub const ERROR_CODE: u16 = 0x0009;
    pub const MESSAGE_INTEGRITY_SHA256: u16 = 0x001c;
    pub const XOR_MAPPED_ADDRESS: u16 = 0x0020;
    pub const PRIORITY: u16 = 0x0024;
    pub const USE_CANDIDATE: u16 = 0x0025;
    pub const FINGERPRINT: u16 = 0x8028;
    pub const ICE_CONTROLLED: u16 = 0x8029;
    pub const ICE_CONTROLLING: u16 = 0x802a;
}

pub(super) const HEADER_BYTES: usize = 20;
const ATTRIBUTE_HEADER_BYTES: usize = 4;
const INTEGRITY_BYTES: usize = 20;
const FINGERPRINT_BYTES: usize = 4;
const MAGIC_COOKIE: u32 = 0x2112_a442;
/// RFC 8489 section 14.7.
const FINGERPRINT_XOR: u32 = 0x5354_554e;
/// RFC 8489 section 14.3: fewer than 509 bytes of user name.
const USERNAME_MAX_BYTES: usize = 513;

/// The classes of the Binding method, as they stand in the message type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    Request = 0x0001,
    Success = 0x0101,
    Error = 0x0111,
}

/// A datagram with a sound STUN header, and a length that fits it exactly.
#[derive(Debug, Clone, Copy)]
pub(super) struct Message<'a> {
    pub class: Class,
    pub transaction_id: [u8; 12],
    datagram: &'a [u8],
}

impl<'a> Message<'a> {
    pub fn parse(datagram: &'a [u8]) -> Result<Self, StunError> {
        let (header, body) = datagram.split_first_chunk::<HEADER_BYTES>().ok_or(StunError::NotStun)?;
        let [type_high, type_low, length_high, length_low, c0, c1, c2, c3, transaction_id @ ..] = *header;
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        if u32::from_be_bytes([c0, c1, c2, c3]) != MAGIC_COOKIE
            || length != body.len()
            || !length.is_multiple_of(4)
            || datagram.len() > STUN_MAX_BYTES
        {
            return Err(StunError::NotStun);
        }
        let class = match u16::from_be_bytes([type_high, type_low]) {
            0x0001 => Class::Request,
            0x0101 => Class::Success,
            0x0111 => Class::Error,
            _ => return Err(StunError::NotExpected),
        };
        Ok(Self { class, transaction_id, datagram })
    }

    /// The header as it was when the attribute that ends at `end` was computed: its length counts up to there.
    fn header_ending_at(&self, end: usize) -> [u8; HEADER_BYTES] {
        let mut header = [0; HEADER_BYTES];
        for (to, from) in header.iter_mut().zip(self.datagram) {
            *to = *from;
        }
        // `end` is inside a datagram of at most `STUN_MAX_BYTES`.
        let [high, low] = ((end - HEADER_BYTES) as u16).to_be_bytes();
        (header[2], header[3]) = (high, low);
        header
    }
}

/// What ICE reads out of a message. Everything behind MESSAGE-INTEGRITY but FINGERPRINT is ignored, as RFC 8489 section 14.5 demands.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Attributes<'a> {
    pub user_name: Option<&'a str>,
    pub priority: Option<u32>,
    pub use_candidate: bool,
    pub controlled: bool,
    pub error_code: Option<u16>,
    pub mapped: Option<SocketAddr>,
    /// Where MESSAGE-INTEGRITY begins in the datagram.
    pub integrity_at: Option<usize>,
    integrity: &'a [u8],
    /// The first attribute that must be understood and is not.
    pub unknown_required: Option<u16>,
}

impl<'a> Attributes<'a> {
    /// Reads all attributes; FINGERPRINT must be the last and must be right (RFC 8445 section 7.1: every check carries it).
    pub fn parse(message: &Message<'a>) -> Result<Self, StunError> {
        let mut attributes = Self::default();
        let mut at = HEADER_BYTES;
        let mut rest = message.datagram.get(HEADER_BYTES..).unwrap_or_default();
        while !rest.is_empty() {
            let (header, body) =
                rest.split_first_chunk::<ATTRIBUTE_HEADER_BYTES>().ok_or(StunError::MalformedAttribute)?;
            let kind = u16::from_be_bytes([header[0], header[1]]);
            let length = usize::from(u16::from_be_bytes([header[2], header[3]]));
            let value = body.get(..length).ok_or(StunError::MalformedAttribute)?;
            let after = body.get(length.next_multiple_of(4)..).ok_or(StunError::MalformedAttribute)?;
            if kind == attribute::FINGERPRINT {
                let end = at + ATTRIBUTE_HEADER_BYTES + FINGERPRINT_BYTES;
                let stated: [u8; FINGERPRINT_BYTES] = value.try_into().map_err(|_| StunError::Fingerprint)?;
                let covered = message.datagram.get(HEADER_BYTES..at).unwrap_or_default();
                let computed = fingerprint(&[&message.header_ending_at(end), covered]);
                return if after.is_empty() && u32::from_be_bytes(stated) == computed {
                    Ok(attributes)
                } else {
                    Err(StunError::Fingerprint)
                };
            }
            if attributes.integrity_at.is_none() {
                attributes.take(message, kind, value, at)?;
            }
            at += rest.len() - after.len();
            rest = after;
        }
        Err(StunError::Fingerprint)
    }

    fn take(&mut self, message: &Message<'a>, kind: u16, value: &'a [u8], at: usize) -> Result<(), StunError> {
        match kind {
            // The first of each counts (RFC 8489 section 14).
            attribute::USERNAME if self.user_name.is_none() => {
                if value.len() > USERNAME_MAX_BYTES {
                    return Err(StunError::UserName);
                }
                self.user_name = Some(std::str::from_utf8(value).map_err(|_| StunError::UserName)?);
            }
            attribute::MESSAGE_INTEGRITY => {
                if value.len() != INTEGRITY_BYTES {
                    return Err(StunError::MalformedAttribute);
                }
                self.integrity_at = Some(at);
                self.integrity = value;
            }
            attribute::PRIORITY => {
                let bytes: [u8; 4] = value.try_into().map_err(|_| StunError::MalformedAttribute)?;
                self.priority.get_or_insert(u32::from_be_bytes(bytes));
            }
            attribute::USE_CANDIDATE => self.use_candidate = true,
            attribute::ICE_CONTROLLED => self.controlled = true,
            attribute::ERROR_CODE => {
                let [_, _, class, number, ..] = *value else { return Err(StunError::MalformedAttribute) };
                self.error_code = Some(u16::from(class & 7) * 100 + u16::from(number));
            }
            attribute::XOR_MAPPED_ADDRESS => {
                self.mapped = Some(read_xor_address(value, &message.transaction_id)?);
            }
            attribute::USERNAME | attribute::MESSAGE_INTEGRITY_SHA256 => {}
            // Below 0x8000 an attribute must be understood (RFC 8489 section 14).
            other if other < 0x8000 => self.unknown_required = self.unknown_required.or(Some(other)),
            _ => {}
        }
        Ok(())
    }

    pub fn verify(&self, message: &Message<'_>, pwd: &str) -> bool {
        let Some(at) = self.integrity_at else { return false };
        let end = at + ATTRIBUTE_HEADER_BYTES + INTEGRITY_BYTES;
        let covered = message.datagram.get(HEADER_BYTES..at).unwrap_or_default();
        let tag = integrity(pwd, &[&message.header_ending_at(end), covered]);
        constant_time::verify_slices_are_equal(tag.as_ref(), self.integrity).is_ok()
    }
}

fn read_xor_address(value: &[u8], transaction_id: &[u8; 12]) -> Result<SocketAddr, StunError> {
    let (&[_, family, port_high, port_low], address) =
        value.split_first_chunk::<4>().ok_or(StunError::MalformedAttribute)?;
    let port = u16::from_be_bytes([port_high, port_low]) ^ (MAGIC_COOKIE >> 16) as u16;
    let ip = match (family, address.len()) {
        (1, 4) => {
            let bits: [u8; 4] = address.try_into().map_err(|_| StunError::MalformedAttribute)?;
            IpAddr::V4(Ipv4Addr::from_bits(u32::from_be_bytes(bits) ^ MAGIC_COOKIE))
        }
        (2, 16) => {
            let bits: [u8; 16] = address.try_into().map_err(|_| StunError::MalformedAttribute)?;
            IpAddr::V6(Ipv6Addr::from_bits(u128::from_be_bytes(bits) ^ v6_mask(transaction_id)))
        }
        _ => return Err(StunError::MalformedAttribute),
    };
    Ok(SocketAddr::new(ip, port))
}

/// The magic cookie followed by the transaction id (RFC 8489 section 14.2).
fn v6_mask(transaction_id: &[u8; 12]) -> u128 {
    let id = transaction_id.iter().fold(0u128, |mask, byte| mask << 8 | u128::from(*byte));
    u128::from(MAGIC_COOKIE) << 96 | id
}

fn integrity(pwd: &str, parts: &[&[u8]]) -> hmac::Tag {
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes());
    let mut context = hmac::Context::with_key(&key);
    for part in parts {
        context.update(part);
    }
    context.sign()
}

/// CRC-32 (ITU-T V.42), XORed so that another protocol's CRC does not pass for it.
fn fingerprint(parts: &[&[u8]]) -> u32 {
    let crc = parts.iter().copied().flatten().fold(!0u32, |crc, byte| {
        let index = usize::from((crc as u8) ^ byte);
        crc >> 8 ^ CRC_TABLE[index]
    });
    !crc ^ FINGERPRINT_XOR
}

const CRC_TABLE: [u32; 256] = {
    let mut table = [0u32; 256];
    let mut index = 0;
    while index < table.len() {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 { value >> 1 ^ 0xedb8_8320 } else { value >> 1 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// Writes one message; the length in the header is kept right as attributes come.
pub(super) struct MessageWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> MessageWriter<'a> {
    pub fn begin(out: &'a mut Vec<u8>, class: Class, transaction_id: &[u8; 12]) -> Self {
        out.clear();
        out.extend_from_slice(&(class as u16).to_be_bytes());
        out.extend_from_slice(&[0, 0]);
        out.extend_from_slice(&MAGIC_COOKIE.to_be_bytes());
        out.extend_from_slice(transaction_id);
        Self { out }
    }

    pub fn attribute(&mut self, kind: u16, value: &[u8]) {
        self.out.extend_from_slice(&kind.to_be_bytes());
        self.out.extend_from_slice(&(value.len() as u16).to_be_bytes());
        self.out.extend_from_slice(value);
        self.out.resize(self.out.len().next_multiple_of(4), 0);
        self.state_length(self.out.len());
    }

    pub fn xor_mapped_address(&mut self, address: SocketAddr) {
        let port = address.port() ^ (MAGIC_COOKIE >> 16) as u16;
        let mut value = [0u8; 20];
        value[2..4].copy_from_slice(&port.to_be_bytes());
        match address.ip() {
            IpAddr::V4(ip) => {
                value[1] = 1;
                value[4..8].copy_from_slice(&(ip.to_bits() ^ MAGIC_COOKIE).to_be_bytes());
                self.attribute(attribute::XOR_MAPPED_ADDRESS, &value[..8]);
            }
            IpAddr::V6(ip) => {
                let mut id = [0u8; 12];
                id.copy_from_slice(&self.out[8..HEADER_BYTES]);
                value[1] = 2;
                value[4..].copy_from_slice(&(ip.to_bits() ^ v6_mask(&id)).to_be_bytes());
                self.attribute(attribute::XOR_MAPPED_ADDRESS, &value);
            }
        }
    }

    /// Adds MESSAGE-INTEGRITY and FINGERPRINT, each computed with the header's length counting itself.
    pub fn finish(mut self, pwd: &str) {
        self.state_length(self.out.len() + ATTRIBUTE_HEADER_BYTES + INTEGRITY_BYTES);
        let tag = integrity(pwd, &[self.out]);
        self.attribute(attribute::MESSAGE_INTEGRITY, tag.as_ref());
        self.state_length(self.out.len() + ATTRIBUTE_HEADER_BYTES + FINGERPRINT_BYTES);
        let crc = fingerprint(&[self.out]);
        self.attribute(attribute::FINGERPRINT, &crc.to_be_bytes());
    }

    fn state_length(&mut self, end: usize) {
        let [high, low] = ((end - HEADER_BYTES) as u16).to_be_bytes();
        (self.out[2], self.out[3]) = (high, low);
    }
}
