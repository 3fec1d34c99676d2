//! The controlling side: checks sent, answers read. For the load test and for tests; the server itself only answers.

use std::net::SocketAddr;

use super::{
    BindingRequest, StunError,
    attributes::{Attributes, Class, Message, MessageWriter, attribute},
};

/// A transaction id's length (RFC 8489 section 5).
pub const TRANSACTION_ID_BYTES: usize = 12;

/// A connectivity check to send as the controlling agent (RFC 8445 section 7.1).
#[derive(Debug, Clone, Copy)]
pub struct CheckRequest<'a> {
    /// Random, new for each check, kept to recognise the answer.
    pub transaction_id: [u8; TRANSACTION_ID_BYTES],
    /// The receiver's user name fragment.
    pub remote_ufrag: &'a str,
    /// The sender's.
    pub local_ufrag: &'a str,
    pub priority: u32,
    /// Drawn once per agent; only matters when both want to control.
    pub tie_breaker: u64,
    pub use_candidate: bool,
}

impl CheckRequest<'_> {
    /// Puts the check into `out`, whatever was in it, signed with the receiver's password.
    pub fn write(&self, remote_pwd: &str, out: &mut Vec<u8>) {
        let mut writer = MessageWriter::begin(out, Class::Request, &self.transaction_id);
        writer.attribute(attribute::USERNAME, format!("{}:{}", self.remote_ufrag, self.local_ufrag).as_bytes());
        writer.attribute(attribute::PRIORITY, &self.priority.to_be_bytes());
        writer.attribute(attribute::ICE_CONTROLLING, &self.tie_breaker.to_be_bytes());
        if self.use_candidate {
            writer.attribute(attribute::USE_CANDIDATE, &[]);
        }
        writer.finish(remote_pwd);
    }
}

impl BindingRequest<'_> {
    /// Puts the controlling agent's answer for a verified check into `out`: success. A full agent, which is controlled,
    /// checks its peer too before it sends.
    pub fn answer_as_controlling(&self, from: SocketAddr, pwd: &str, out: &mut Vec<u8>) {
        let mut writer = MessageWriter::begin(out, Class::Success, &self.message.transaction_id);
        writer.xor_mapped_address(from);
        writer.finish(pwd);
    }
}

/// The answer to a check.
#[derive(Debug, Clone, Copy)]
pub struct BindingAnswer<'a> {
    pub transaction_id: [u8; TRANSACTION_ID_BYTES],
    /// Where the check came from as the answerer saw it; `None` in an error.
    pub mapped: Option<SocketAddr>,
    /// ERROR-CODE, if it is an error.
    pub error_code: Option<u16>,
    message: Message<'a>,
    attributes: Attributes<'a>,
}

impl<'a> BindingAnswer<'a> {
    /// # Errors
    /// Anything but a well-formed success or error response to a Binding request.
    pub fn parse(datagram: &'a [u8]) -> Result<Self, StunError> {
        let message = Message::parse(datagram)?;
        if message.class == Class::Request {
            return Err(StunError::NotExpected);
        }
        let attributes = Attributes::parse(&message)?;
        Ok(Self {
            transaction_id: message.transaction_id,
            mapped: attributes.mapped.filter(|_| message.class == Class::Success),
            error_code: attributes.error_code.filter(|_| message.class == Class::Error),
            message,
            attributes,
        })
    }

    /// Whether it was signed with `remote_pwd`, the password the check was sent with.
    #[must_use]
    pub fn verify(&self, remote_pwd: &str) -> bool {
        self.attributes.verify(&self.message, remote_pwd)
    }
}
