//! Tokens: a JWT (RFC 7519) and the time become a [`Grant`], or a reason why not.
//!
//! The same code answers for every door: WHIP, WHEP, RTMP, and whatever else takes a token. HS256 only, and the algorithm is pinned:
//! what the token's header asks for decides nothing (RFC 8725 section 3.1). Signatures are compared in constant time by
//! the library. Times are compared with `now` as given: `exp` strictly, for a session ends at it.

mod claims;
mod denied;
mod pattern;

use std::{
    fmt,
    net::IpAddr,
    str::FromStr,
    time::{Duration, SystemTime},
};

use ipnet::IpNet;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, errors::ErrorKind};
use serde::{Deserialize, Serialize};

pub use self::{
    claims::{Claims, OneOrMany, Rights},
    denied::Denied,
    pattern::matches as stream_matches,
};
use crate::{name::StreamName, priority::Priority};

/// The longest token that is looked at, in bytes: it must fit a header line, a query and an RTMP stream key.
pub const TOKEN_MAX_BYTES: usize = 8 * 1024;

/// The shortest HMAC secret, in bytes: the hash's own length (RFC 7518 section 3.2).
pub const SECRET_MIN_BYTES: usize = 32;

/// How far the signer's clock may be ahead of ours before `nbf` refuses a fresh token. `exp` has no such leeway.
pub const NOT_BEFORE_LEEWAY: Duration = Duration::from_secs(10);

/// What the bearer may do on one stream, already checked against that stream.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Grant {
    /// The token's `sub`.
    pub subject: Option<String>,
    /// The token's `jti`.
    pub token_id: Option<String>,
    /// When the session must end; `None` in open mode.
    pub expires: Option<SystemTime>,
    /// The token's `priority`.
    pub priority: Option<Priority>,
}

/// What a token lets its bearer do, as `can` names it. None includes another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Right {
    Publish,
    Subscribe,
    Admin,
}

impl Right {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publish => "publish",
            Self::Subscribe => "subscribe",
            Self::Admin => "admin",
        }
    }
}

impl fmt::Display for Right {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected publish, subscribe or admin")]
pub struct UnknownRight;

impl FromStr for Right {
    type Err = UnknownRight;

    fn from_str(text: &str) -> Result<Self, UnknownRight> {
        [Self::Publish, Self::Subscribe, Self::Admin]
            .into_iter()
            .find(|right| right.as_str() == text)
            .ok_or(UnknownRight)
    }
}

/// Who asks, and with what.
#[derive(Clone, Copy)]
pub struct Presenter<'a> {
    /// The JWT itself, out of its header, query or stream key.
    pub token: Option<&'a str>,
    pub ip: IpAddr,
    /// The page's `Origin`, where a browser sent one.
    pub origin: Option<&'a str>,
}

impl<'a> Presenter<'a> {
    /// From an `Authorization` header and a `token` in the query; the header wins (RFC 6750 section 2).
    pub fn new(
        authorization: Option<&'a str>,
        query_token: Option<&'a str>,
        ip: IpAddr,
        origin: Option<&'a str>,
    ) -> Self {
        Self { token: authorization.and_then(bearer).or(query_token), ip, origin }
    }
}

/// The token of a bearer header; the scheme's case does not matter (RFC 9110 section 11.1).
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    scheme.eq_ignore_ascii_case("Bearer").then_some(token.trim())
}

/// Without the token.
impl fmt::Debug for Presenter<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presenter").field("ip", &self.ip).field("origin", &self.origin).finish_non_exhaustive()
    }
}

/// A secret that is too short to sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the HS256 secret has {bytes} bytes, at least {SECRET_MIN_BYTES} are needed (try: openssl rand -hex 32)")]
pub struct WeakSecret {
    pub bytes: usize,
}

/// Why a token could not be signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    #[error("tokens are signed with auth.hs256_secret, and none is configured")]
    NoSecret,
    #[error("the token could not be signed: {0}")]
    Failed(String),
}

/// Decides who may do what. One per server, shared.
#[derive(Clone)]
pub struct Authenticator {
    mode: Mode,
}

#[derive(Clone)]
enum Mode {
    Open,
    Hs256 { verify: Box<DecodingKey>, sign: Box<EncodingKey>, rules: Box<Validation> },
}

/// Without the secret.
impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.mode {
            Mode::Open => "Authenticator(open)",
            Mode::Hs256 { .. } => "Authenticator(hs256)",
        })
    }
}

impl Authenticator {
    /// Lets everybody do everything; for doors on loopback.
    pub fn open() -> Self {
        Self { mode: Mode::Open }
    }

    /// Takes JWTs that were signed by HMAC-SHA256 with this secret.
    ///
    /// # Errors
    /// When the secret is shorter than [`SECRET_MIN_BYTES`].
    pub fn hs256(secret: &[u8]) -> Result<Self, WeakSecret> {
        if secret.len() < SECRET_MIN_BYTES {
            return Err(WeakSecret { bytes: secret.len() });
        }
        let mut rules = Validation::new(Algorithm::HS256);
        // The library compares with the system's clock; here the time comes in as an argument.
        rules.validate_exp = false;
        rules.required_spec_claims.clear();
        // No audience is configured, so a token's own says nothing about us.
        rules.validate_aud = false;
        let mode = Mode::Hs256 {
            verify: Box::new(DecodingKey::from_secret(secret)),
            sign: Box::new(EncodingKey::from_secret(secret)),
            rules: Box::new(rules),
        };
        Ok(Self { mode })
    }

    pub fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Open)
    }

    /// May the presenter do this on this stream?
    ///
    /// # Errors
    /// The first rule that the token breaks.
    pub fn authorise(
        &self,
        presenter: &Presenter<'_>,
        right: Right,
        stream: &StreamName,
        now: SystemTime,
    ) -> Result<Grant, Denied> {
        let Some(claims) = self.claims(presenter, now)? else { return Ok(Grant::default()) };
        if !claims.stream.0.iter().any(|pattern| pattern::matches(pattern, stream.as_str())) {
            return Err(Denied::WrongStream);
        }
        claims.grant(right)
    }

    /// May the presenter do what concerns the whole server? That takes `admin` on the stream `*`.
    ///
    /// # Errors
    /// The first rule that the token breaks.
    pub fn authorise_admin(&self, presenter: &Presenter<'_>, now: SystemTime) -> Result<Grant, Denied> {
        let Some(claims) = self.claims(presenter, now)? else { return Ok(Grant::default()) };
        if !claims.stream.0.iter().any(|pattern| pattern == "*") {
            return Err(Denied::WrongStream);
        }
        claims.grant(Right::Admin)
    }

    /// Signs a token that this authenticator will take.
    ///
    /// # Errors
    /// In open mode, which has no secret.
    pub fn sign(&self, claims: &Claims) -> Result<String, SignError> {
        match &self.mode {
            Mode::Open => Err(SignError::NoSecret),
            Mode::Hs256 { sign, .. } => jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, sign)
                .map_err(|error| SignError::Failed(error.to_string())),
        }
    }

    /// The claims of a token that is genuine, current, and used from where it may be; `None` in open mode.
    fn claims(&self, presenter: &Presenter<'_>, now: SystemTime) -> Result<Option<Claims>, Denied> {
        let Mode::Hs256 { verify, rules, .. } = &self.mode else { return Ok(None) };
        let token = presenter.token.filter(|token| !token.is_empty()).ok_or(Denied::Missing)?;
        if token.len() > TOKEN_MAX_BYTES {
            return Err(Denied::TooLong);
        }
        let decoded = jsonwebtoken::decode::<Claims>(token, verify, rules).map_err(|error| match error.kind() {
            ErrorKind::InvalidSignature => Denied::BadSignature,
            ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => Denied::WrongAlgorithm,
            _ => Denied::Malformed,
        })?;
        // An extension that must be understood, and is not (RFC 7515 section 4.1.11).
        if decoded.header.crit.is_some() {
            return Err(Denied::Malformed);
        }
        let claims = decoded.claims;
        claims.check_time(now)?;
        claims.check_place(presenter)?;
        Ok(Some(claims))
    }
}

impl Claims {
    /// `exp` as a time; `None` when it lies beyond what a time can hold.
    pub fn expires(&self) -> Option<SystemTime> {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.exp))
    }

    fn check_time(&self, now: SystemTime) -> Result<(), Denied> {
        if self.expires().ok_or(Denied::Malformed)? <= now {
            return Err(Denied::Expired);
        }
        let Some(not_before) = self.nbf else { return Ok(()) };
        let from = SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(not_before)).ok_or(Denied::NotYetValid)?;
        if now + NOT_BEFORE_LEEWAY < from { Err(Denied::NotYetValid) } else { Ok(()) }
    }

    fn check_place(&self, presenter: &Presenter<'_>) -> Result<(), Denied> {
        if let Some(origins) = &self.origin {
            // Scheme and host have no case (RFC 6454 section 4).
            let from_one = |origin: &str| origins.0.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin));
            if !presenter.origin.is_some_and(from_one) {
                return Err(Denied::WrongOrigin);
            }
        }
        if let Some(ranges) = &self.ip {
            let ip = presenter.ip.to_canonical();
            let mut inside = false;
            for range in &ranges.0 {
                // One that cannot be read makes the token useless: it may have been meant to narrow it.
                inside |= cidr(range).ok_or(Denied::Malformed)?.contains(&ip);
            }
            if !inside {
                return Err(Denied::WrongIp);
            }
        }
        Ok(())
    }

    fn grant(self, right: Right) -> Result<Grant, Denied> {
        if !self.can.0.contains(&right) {
            return Err(Denied::WrongRight);
        }
        Ok(Grant { expires: self.expires(), subject: self.sub, token_id: self.jti, priority: self.priority })
    }
}

/// A range (`203.0.113.0/24`), or one address.
fn cidr(text: &str) -> Option<IpNet> {
    text.parse().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

#[cfg(test)]
mod tests;
