//! Tokens: a JWT (RFC 7519) and the time become a [`Grant`], or a reason why not.

use std::time::SystemTime;

/// What the bearer may do on one stream, already checked against that stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The token's `jti`.
    pub token_id: Option<String>,
    /// When the session must end; `None` in open mode.
    pub expires: Option<SystemTime>,
}
