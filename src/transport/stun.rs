//! STUN connectivity checks (RFC 8489, RFC 8445 section 7), the way a lite agent needs them: stateless.
//!
//! In: a datagram, and the password of the session that its user name names. Out: the answer's bytes. A [`BindingRequest`]
//! borrows the datagram and nothing is kept, so any worker can answer any check. The peer's half (sending checks, reading
//! answers) is here as well, for clients of ours and for tests. Long-term credentials, TURN and anything but the Binding
//! method are not spoken.

mod attributes;
mod client;

use std::net::SocketAddr;

use self::attributes::{Attributes, Class, Message, MessageWriter, attribute};
pub use self::client::{BindingAnswer, CheckRequest, TRANSACTION_ID_BYTES};

/// A check is about 100 bytes, 150 with what browsers add; the minimum IPv6 MTU is what RFC 8489 section 6.1 lets us expect at most.
pub const STUN_MAX_BYTES: usize = 1280;

/// Why a datagram is no usable Binding request. The peer gets no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StunError {
    #[error("not a STUN message: the header, the magic cookie or the length is wrong")]
    NotStun,
    #[error("a STUN message, but not of the kind expected")]
    NotExpected,
    #[error("an attribute ends behind the message or has an impossible length")]
    MalformedAttribute,
    #[error("USERNAME is missing or is not two ICE user name fragments joined by a colon")]
    UserName,
    #[error("MESSAGE-INTEGRITY is missing")]
    NoIntegrity,
    #[error("FINGERPRINT is missing or wrong")]
    Fingerprint,
    #[error("attribute {0:#06x} must be understood, and is not")]
    UnknownAttribute(u16),
}

/// A parsed connectivity check; trust nothing in it until [`Self::verify`] has said yes.
#[derive(Debug, Clone, Copy)]
pub struct BindingRequest<'a> {
    /// The receiver's user name fragment: it names the session.
    pub local_ufrag: &'a str,
    /// The sender's user name fragment.
    pub remote_ufrag: &'a str,
    /// The peer nominates this pair. Never set when [`Self::role_conflict`] is.
    pub use_candidate: bool,
    /// PRIORITY, when the peer sent one.
    pub priority: Option<u32>,
    /// The peer believes it is controlled. We are lite and always controlled, so the answer is an error 487 that makes it
    /// take the controlling role (RFC 8445 section 7.3.1.1); such a check validates nothing.
    pub role_conflict: bool,
    message: Message<'a>,
    attributes: Attributes<'a>,
}

impl<'a> BindingRequest<'a> {
    /// Parses a Binding request and checks its FINGERPRINT.
    ///
    /// # Errors
    /// Anything that is not a well-formed ICE check; see [`StunError`].
    pub fn parse(datagram: &'a [u8]) -> Result<Self, StunError> {
        let message = Message::parse(datagram)?;
        if message.class != Class::Request {
            return Err(StunError::NotExpected);
        }
        let attributes = Attributes::parse(&message)?;
        if let Some(unknown) = attributes.unknown_required {
            return Err(StunError::UnknownAttribute(unknown));
        }
        let (local_ufrag, remote_ufrag) =
            attributes.user_name.and_then(|name| name.split_once(':')).ok_or(StunError::UserName)?;
        // RFC 8839 section 5.4: 4 to 256 characters each.
        if [local_ufrag, remote_ufrag].iter().any(|ufrag| !(4..=256).contains(&ufrag.len())) {
            return Err(StunError::UserName);
        }
        if attributes.integrity_at.is_none() {
            return Err(StunError::NoIntegrity);
        }
        let role_conflict = attributes.controlled;
        Ok(Self {
            local_ufrag,
            remote_ufrag,
            use_candidate: attributes.use_candidate && !role_conflict,
            priority: attributes.priority,
            role_conflict,
            message,
            attributes,
        })
    }

    /// Whether MESSAGE-INTEGRITY was made with `pwd`, the receiver's ICE password (RFC 8489 section 14.5).
    #[must_use]
    pub fn verify(&self, pwd: &str) -> bool {
        self.attributes.verify(&self.message, pwd)
    }

    /// Puts the answer for a verified check into `out`, whatever was in it: a success response with XOR-MAPPED-ADDRESS, or
    /// error 487 for a role conflict; with MESSAGE-INTEGRITY and FINGERPRINT.
    pub fn answer(&self, from: SocketAddr, pwd: &str, out: &mut Vec<u8>) {
        let class = if self.role_conflict { Class::Error } else { Class::Success };
        let mut writer = MessageWriter::begin(out, class, &self.message.transaction_id);
        if self.role_conflict {
            writer.attribute(attribute::ERROR_CODE, b"\0\0\x04\x57Role Conflict");
        } else {
            writer.xor_mapped_address(from);
        }
        writer.finish(pwd);
    }
}

#[cfg(test)]
mod tests;
