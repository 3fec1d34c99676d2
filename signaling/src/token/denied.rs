//! Why a token was refused, as a label for a counter, a problem for the client, and a challenge.

use crate::error::Problem;

/// Why a request was refused for its token. Says which rule, never what the token held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Denied {
    /// There is none.
    Missing,
    /// Longer than [`TOKEN_MAX_BYTES`](super::TOKEN_MAX_BYTES).
    TooLong,
    /// No JWT, no `exp`, or claims of the wrong form.
    Malformed,
    /// Signed in a way that is not configured.
    WrongAlgorithm,
    BadSignature,
    Expired,
    NotYetValid,
    /// Good, but for other streams.
    WrongStream,
    /// Good, but for something else.
    WrongRight,
    /// Good, but for other pages.
    WrongOrigin,
    /// Good, but for other addresses.
    WrongIp,
}

impl Denied {
    /// The counter's label: `sluice_auth_failures_total{reason}`.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::WrongAlgorithm => "wrong_algorithm",
            Self::BadSignature => "bad_signature",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::WrongStream => "wrong_stream",
            Self::WrongRight => "wrong_right",
            Self::WrongOrigin => "wrong_origin",
            Self::WrongIp => "wrong_ip",
        }
    }

    /// 401 without a good token, 403 with a good one that may not (RFC 9110 sections 15.5.2 and 15.5.4).
    pub fn status(self) -> u16 {
        match self {
            Self::WrongStream | Self::WrongRight | Self::WrongOrigin | Self::WrongIp => 403,
            _ => 401,
        }
    }

    /// What happened and what to change, for the client.
    pub fn detail(self) -> &'static str {
        match self {
            Self::Missing => "this server wants a token: send it as \"Authorization: Bearer ...\" or as ?token=...",
            Self::TooLong => "the token is longer than 8192 bytes: give it fewer claims",
            Self::Malformed => "the token is no JWT with a numeric exp and the claims this server knows",
            Self::WrongAlgorithm => "the token is not signed with HS256, which is what this server takes",
            Self::BadSignature => "the token's signature does not match: it was signed with another secret, or changed",
            Self::Expired => "the token has expired: get a new one",
            Self::NotYetValid => "the token is not valid yet: check its nbf and both clocks",
            Self::WrongStream => "the token is for other streams: see its claim \"stream\"",
            Self::WrongRight => "the token does not allow this: see its claim \"can\"",
            Self::WrongOrigin => "the token may not be used from this page: see its claim \"origin\"",
            Self::WrongIp => "the token may not be used from this address: see its claim \"ip\"",
        }
    }

    pub fn problem(self) -> Problem {
        match self.status() {
            401 => Problem::new(401, "unauthorized", "A valid token is needed", self.detail()),
            status => Problem::new(status, "forbidden", "The token does not allow this", self.detail()),
        }
    }

    /// The challenge for `WWW-Authenticate` (RFC 6750 section 3); none with 403. Without a token it names no error (section 3.1).
    pub fn www_authenticate(self) -> Option<String> {
        match self {
            Self::Missing => Some("Bearer realm=\"sluice\"".into()),
            _ if self.status() != 401 => None,
            _ => Some(format!(
                "Bearer realm=\"sluice\", error=\"invalid_token\", error_description=\"{}\"",
                self.reason()
            )),
        }
    }
}
