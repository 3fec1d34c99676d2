//! STUN and TURN servers that clients are told of, as `Link` values (RFC 9725 section 4.6), and the credentials for TURN.
//!
//! Time-limited credentials follow the scheme that TURN servers call a shared or static authentication secret
//! (draft-uberti-behave-turn-rest, coturn's `use-auth-secret`): the user name says until when it is good, the password is its
//! HMAC-SHA1 under a secret that the TURN server has too. The two never speak with each other.

use std::{
    fmt::{self, Write},
    str::FromStr,
    time::{Duration, SystemTime},
};

use aws_lc_rs::hmac;
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, de::Error};

use crate::token::Grant;

/// Letters of a token's subject that go into a user name: for the TURN server's log, and its quotas per user.
const SUBJECT_MAX_LETTERS: usize = 64;

/// A server's URI: `stun:` or `stuns:` (RFC 7064), `turn:` or `turns:` (RFC 7065).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceServerUri {
    text: String,
    is_turn: bool,
}

/// Why a text is no URI of a STUN or TURN server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidIceServer {
    #[error("{0:?} does not begin with stun:, stuns:, turn: or turns:")]
    Scheme(String),
    #[error(
        "{0:?} has no host (a name, an IPv4 address, or an IPv6 address in brackets) after its scheme, without slashes"
    )]
    Host(String),
    #[error("{0:?} has a port that is none; expected 1 to 65535")]
    Port(String),
    #[error(
        "{0:?} ends with something else than ?transport=udp or ?transport=tcp, which only turn: and turns: may have"
    )]
    Query(String),
}

impl IceServerUri {
    /// It relays, so it takes credentials.
    pub fn is_turn(&self) -> bool {
        self.is_turn
    }
}

impl FromStr for IceServerUri {
    type Err = InvalidIceServer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let told = || text.to_owned();
        let (scheme, rest) = text.split_once(':').ok_or_else(|| InvalidIceServer::Scheme(told()))?;
        let is_turn = match scheme {
            "turn" | "turns" => true,
            "stun" | "stuns" => false,
            _ => return Err(InvalidIceServer::Scheme(told())),
        };
        let authority = match rest.split_once('?') {
            Some((authority, "transport=udp" | "transport=tcp")) if is_turn => authority,
            Some(_) => return Err(InvalidIceServer::Query(told())),
            None => rest,
        };
        let (host, port) = split_port(authority).ok_or_else(|| InvalidIceServer::Host(told()))?;
        if !is_host(host) {
            return Err(InvalidIceServer::Host(told()));
        }
        if port.is_some_and(|port| !port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Err(InvalidIceServer::Port(told()));
        }
        Ok(Self { text: told(), is_turn })
    }
}

fn split_port(authority: &str) -> Option<(&str, Option<&str>)> {
    if authority.starts_with('[') {
        let (host, rest) = authority.split_at(authority.find(']')? + 1);
        return if rest.is_empty() { Some((host, None)) } else { Some((host, Some(rest.strip_prefix(':')?))) };
    }
    Some(authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))))
}

fn is_host(host: &str) -> bool {
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(v6) => v6.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte)),
    }
}

impl fmt::Display for IceServerUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl<'de> Deserialize<'de> for IceServerUri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

/// How clients prove to the TURN servers that they may use them. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum TurnCredentials {
    /// No TURN server, or one that asks for none.
    #[default]
    None,
    /// The same for everybody.
    Static { username: String, credential: String },
    /// Fresh ones for every session, good for `ttl` and no longer than its token.
    TimeLimited { secret: String, ttl: Duration },
}

impl fmt::Debug for TurnCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "None",
            Self::Static { .. } => "Static",
            Self::TimeLimited { .. } => "TimeLimited",
        })
    }
}

impl TurnCredentials {
    /// User name and password for whom the grant is about.
    fn issue(&self, grant: &Grant, now: SystemTime) -> Option<(String, String)> {
        match self {
            Self::None => None,
            Self::Static { username, credential } => Some((username.clone(), credential.clone())),
            Self::TimeLimited { secret, ttl } => {
                let until = grant.expires.map_or(now + *ttl, |expires| expires.min(now + *ttl));
                let until_s = until.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
                let mut username = until_s.to_string();
                let letters = |letter: &char| letter.is_ascii_alphanumeric() || "-._~@".contains(*letter);
                let subject: String = grant
                    .subject
                    .iter()
                    .flat_map(|subject| subject.chars())
                    .filter(letters)
                    .take(SUBJECT_MAX_LETTERS)
                    .collect();
                if !subject.is_empty() {
                    let _ = write!(username, ":{subject}");
                }
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret.as_bytes());
                let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
                Some((username, credential))
            }
        }
    }
}

/// What clients are told.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IceServers {
    pub uris: Vec<IceServerUri>,
    /// For all TURN servers among them.
    pub turn: TurnCredentials,
}

impl IceServers {
    /// One `Link` value per server (RFC 9725 section 4.6, RFC 8288), in the order of the settings.
    pub(crate) fn links(&self, grant: &Grant, now: SystemTime) -> Vec<String> {
        let credentials = self.turn.issue(grant, now);
        let link = |server: &IceServerUri| {
            let mut link = format!("<{server}>; rel=\"ice-server\"");
            if let Some((username, credential)) = credentials.as_ref().filter(|_| server.is_turn) {
                let (username, credential) = (quoted(username), quoted(credential));
                let _ = write!(link, "; username={username}; credential={credential}; credential-type=\"password\"");
            }
            link
        };
        self.uris.iter().map(link).collect()
    }
}

/// A quoted-string (RFC 9110 section 5.6.4).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(s: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(s)
    }

    fn servers(turn: TurnCredentials) -> IceServers {
        let uris = ["stun:stun.example.net", "turn:turn.example.net?transport=tcp"];
        IceServers { uris: uris.iter().map(|uri| uri.parse().unwrap()).collect(), turn }
    }

    #[test]
    fn uris_are_those_of_rfc_7064_and_rfc_7065() {
        for (text, is_turn) in [
            ("stun:stun.example.net", false),
            ("stuns:203.0.113.7:5349", false),
            ("turn:[2001:db8::1]:3478?transport=udp", true),
            ("turns:turn.example.net:443?transport=tcp", true),
            (" turn:turn_1.example.net ", true),
        ] {
            let uri: IceServerUri = text.parse().unwrap();
            assert_eq!((uri.to_string(), uri.is_turn()), (text.trim().to_owned(), is_turn));
        }
        for (text, says) in [
            ("turn.example.net:3478", "turns:"),
            ("https://turn.example.net", "turns:"),
            ("turn:", "no host"),
            ("turn://turn.example.net", "no host"),
            ("turn:user@turn.example.net", "no host"),
            ("turn:2001:db8::1", "port"),
            ("turn:[2001:db8::1", "no host"),
            ("turn:[turn.example.net]", "no host"),
            ("turn:a b", "no host"),
            ("turn:a>; rel=x", "no host"),
            ("turn:turn.example.net:0", "port"),
            ("turn:turn.example.net:70000", "port"),
            ("turn:turn.example.net?transport=sctp", "transport"),
            ("stun:stun.example.net?transport=udp", "transport"),
        ] {
            let error = text.parse::<IceServerUri>().unwrap_err().to_string();
            assert!(error.contains(says) && error.contains(&format!("{text:?}")), "{text}: {error}");
        }
    }

    #[test]
    fn rfc_9725_section_4_6_a_link_names_the_server_and_what_it_takes() {
        let turn = TurnCredentials::Static { username: "user".into(), credential: "my\"Pass\\word".into() };
        assert_eq!(
            servers(turn).links(&Grant::default(), at(0)),
            [
                "<stun:stun.example.net>; rel=\"ice-server\"",
                "<turn:turn.example.net?transport=tcp>; rel=\"ice-server\"; username=\"user\"; \
                 credential=\"my\\\"Pass\\\\word\"; credential-type=\"password\"",
            ]
        );
    }

    #[test]
    fn time_limited_credentials_are_those_that_coturn_computes() {
        // printf 1700003600:alice | openssl dgst -sha1 -hmac north -binary | base64
        let turn = TurnCredentials::TimeLimited { secret: "north".into(), ttl: Duration::from_secs(3_600) };
        let grant = Grant { subject: Some("alice".into()), ..Grant::default() };
        let (username, credential) = turn.issue(&grant, at(1_700_000_000)).unwrap();
        assert_eq!((username.as_str(), credential.as_str()), ("1700003600:alice", "wjwSXO2ch1B6VaLTLMy2Avn5O9o="));
    }

    #[test]
    fn time_limited_credentials_outlive_no_token() {
        let turn = TurnCredentials::TimeLimited { secret: "north".into(), ttl: Duration::from_secs(3_600) };
        let until = |expires| turn.issue(&Grant { expires, ..Grant::default() }, at(1_000)).unwrap().0;
        assert_eq!(until(None), "4600");
        assert_eq!(until(Some(at(1_060))), "1060");
        assert_eq!(until(Some(at(9_999))), "4600");
    }

    #[test]
    fn a_subject_cannot_break_out_of_a_user_name() {
        let turn = TurnCredentials::TimeLimited { secret: "north".into(), ttl: Duration::ZERO };
        let subject = format!("a\"; rel=\"b:\r\nc\u{e9}{}", "x".repeat(100));
        let grant = Grant { subject: Some(subject), ..Grant::default() };
        let (username, _) = turn.issue(&grant, at(7)).unwrap();
        assert!(username.starts_with("7:arelbcxxx") && username.len() == 2 + SUBJECT_MAX_LETTERS, "{username}");
    }

    #[test]
    fn no_secret_is_shown() {
        let turn = TurnCredentials::TimeLimited { secret: "north".into(), ttl: Duration::ZERO };
        let fixed = TurnCredentials::Static { username: "user".into(), credential: "north".into() };
        assert!(!format!("{:?} {:?}", servers(turn), servers(fixed)).contains("north"));
    }
}
