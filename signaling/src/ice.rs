//! ICE as signalling sees it: credentials, entity tags (RFC 9725 section 4.3.1), trickle fragments (RFC 8840 section 4.4).

use std::fmt;

use rand::distr::{Alphanumeric, SampleString};

use crate::sdp::{IceCandidate, MalformedSdp, SDP_LINES_MAX, parse_candidate};

/// Letters in a user name fragment of ours: 71 bits, for it also names the session to whoever reads the packets.
const UFRAG_LETTERS: usize = 12;
/// Letters in a password of ours: 190 bits; RFC 8445 section 5.3 wants 128.
const PWD_LETTERS: usize = 32;

/// Remote candidates that are kept of one description or fragment. Chromium gathers two per interface and address.
pub const CANDIDATES_MAX: usize = 64;

/// One side's ICE user name fragment and password (RFC 8445 section 5.3).
#[derive(Clone, PartialEq, Eq)]
pub struct IceCredentials {
    pub ufrag: String,
    pub pwd: String,
}

impl IceCredentials {
    /// Fresh ones, from a cryptographic generator that the system seeds.
    pub fn random() -> Self {
        let mut rng = rand::rng();
        Self {
            ufrag: Alphanumeric.sample_string(&mut rng, UFRAG_LETTERS),
            pwd: Alphanumeric.sample_string(&mut rng, PWD_LETTERS),
        }
    }

    /// Whether a peer may use these: lengths of RFC 8839 section 5.4, and nothing that breaks a STUN user name or a log line.
    /// Other letters than its `ice-char` are let through: peers send them.
    pub(crate) fn is_sound(&self) -> bool {
        let graphic = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        (4..=256).contains(&self.ufrag.len())
            && (22..=256).contains(&self.pwd.len())
            && graphic(&self.ufrag)
            && graphic(&self.pwd)
            && !self.ufrag.contains(':')
    }
}

/// The password never reaches a log.
impl fmt::Debug for IceCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceCredentials").field("ufrag", &self.ufrag).finish_non_exhaustive()
    }
}

/// The strong entity tag of an ICE session, quotes included: our user name fragment, which changes with every restart.
pub fn entity_tag(local: &IceCredentials) -> String {
    format!("\"{}\"", local.ufrag)
}

/// What an `If-Match` header asks for (RFC 9110 section 13.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IfMatch {
    /// `*`; also `"*"`, as RFC 9725's example of an ICE restart writes it.
    Any,
    /// The tag is listed.
    Matches,
    /// It is not. Weak tags never match.
    Differs,
}

impl IfMatch {
    pub fn compare(header: &str, current: &str) -> Self {
        match header.trim() {
            "*" | "\"*\"" => Self::Any,
            // Our tags hold no comma.
            list if list.split(',').any(|tag| tag.trim() == current) => Self::Matches,
            _ => Self::Differs,
        }
    }
}

/// A fragment (RFC 8840 section 4.4): candidates for the ICE session it names, or a new session's credentials.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TrickleFragment {
    /// What follows `a=group:`, `m=` and `a=mid:` where they first stand, for the fragment that answers.
    pub group: Option<String>,
    pub media: Option<String>,
    pub mid: Option<String>,
    /// The client's credentials; `None` when it sent none, which means the current ones.
    pub credentials: Option<IceCredentials>,
    /// Those that we can use; names (mDNS) and unknown transports are left out.
    pub candidates: Vec<IceCandidate>,
    pub end_of_candidates: bool,
}

impl TrickleFragment {
    /// Reads the `a=` lines of RFC 8840 section 9. Media sections are all one transport here (max-bundle), so which one a
    /// line stands in does not matter; contradicting credentials do.
    ///
    /// # Errors
    /// The first line that is no SDP, or credentials that are incomplete or contradict each other.
    pub fn parse(text: &str) -> Result<Self, MalformedSdp> {
        let mut fragment = Self::default();
        let (mut ufrag, mut pwd): (Option<&str>, Option<&str>) = (None, None);
        for (index, line) in text.lines().enumerate() {
            let number = index + 1;
            let line = line.trim_end();
            if index >= SDP_LINES_MAX {
                return Err(MalformedSdp::new(number, format!("there are more than {SDP_LINES_MAX} lines")));
            }
            if line.is_empty() {
                continue;
            }
            let Some((kind, value)) = line.split_once('=').filter(|(kind, _)| kind.len() == 1) else {
                return Err(MalformedSdp::new(number, "a line is <letter>=<value>"));
            };
            if kind == "m" {
                fragment.media.get_or_insert_with(|| value.into());
            }
            if kind != "a" {
                continue;
            }
            let (name, value) = value.split_once(':').unwrap_or((value, ""));
            let seen = match name {
                "group" => {
                    fragment.group.get_or_insert_with(|| value.into());
                    continue;
                }
                "mid" => {
                    fragment.mid.get_or_insert_with(|| value.into());
                    continue;
                }
                "ice-ufrag" => &mut ufrag,
                "ice-pwd" => &mut pwd,
                "candidate" => {
                    let candidate = parse_candidate(value).map_err(|reason| MalformedSdp::new(number, reason))?;
                    if fragment.candidates.len() < CANDIDATES_MAX {
                        fragment.candidates.extend(candidate);
                    }
                    continue;
                }
                "end-of-candidates" => {
                    fragment.end_of_candidates = true;
                    continue;
                }
                _ => continue,
            };
            if seen.replace(value).is_some_and(|before| before != value) {
                return Err(MalformedSdp::new(number, format!("a second {name} differs from the first")));
            }
        }
        fragment.credentials = match (ufrag, pwd) {
            (None, None) => None,
            (Some(ufrag), Some(pwd)) => Some(IceCredentials { ufrag: ufrag.into(), pwd: pwd.into() }),
            _ => return Err(MalformedSdp::new(0, "ice-ufrag and ice-pwd go together")),
        };
        if fragment.credentials.as_ref().is_some_and(|credentials| !credentials.is_sound()) {
            return Err(MalformedSdp::new(0, "ice-ufrag or ice-pwd is too short, too long or not plain text"));
        }
        Ok(fragment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: &str = "a=group:BUNDLE 0 1\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
        a=mid:0\r\n\
        a=ice-ufrag:EsAw\r\n\
        a=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=candidate:3471623853 1 udp 2122194687 0a1b.local 61765 typ host generation 0 ufrag EsAw network-id 2\r\n\
        a=candidate:473322822 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active generation 0 ufrag EsAw\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_trickle_fragment_is_read() {
        let fragment = TrickleFragment::parse(FRAGMENT).unwrap();
        assert_eq!(fragment.credentials.unwrap().ufrag, "EsAw");
        assert_eq!(fragment.group.as_deref(), Some("BUNDLE 0 1"));
        assert_eq!(fragment.media.as_deref(), Some("audio 9 UDP/TLS/RTP/SAVPF 111"));
        assert_eq!(fragment.mid.as_deref(), Some("0"));
        assert_eq!(fragment.candidates.len(), 2, "the mDNS name cannot be resolved, and is no error");
        assert!(fragment.end_of_candidates);
        assert_eq!(TrickleFragment::parse("").unwrap(), TrickleFragment::default());
    }

    #[test]
    fn malformed_fragments_are_refused() {
        for text in [
            "garbage",
            "a",
            "ab=c",
            "a=ice-ufrag:EsAw",
            "a=ice-ufrag:EsAw\na=ice-pwd:short",
            "a=ice-ufrag:EsAw\na=ice-ufrag:other",
            "a=candidate:1 1 udp",
            "a=candidate:1 1 udp x 192.0.2.1 9 typ host",
        ] {
            assert!(TrickleFragment::parse(text).is_err(), "{text}");
        }
        assert!(TrickleFragment::parse(&"a=x\n".repeat(SDP_LINES_MAX + 1)).is_err());
    }

    #[test]
    fn fragments_are_fuzzed() {
        crate::sdp::fuzz::mutate(FRAGMENT, 5_000, 11, |text| drop(TrickleFragment::parse(text)));
    }

    #[test]
    fn candidates_are_bounded() {
        let line = "a=candidate:1 1 udp 1 192.0.2.1 9 typ host\n";
        let fragment = TrickleFragment::parse(&line.repeat(CANDIDATES_MAX + 5)).unwrap();
        assert_eq!(fragment.candidates.len(), CANDIDATES_MAX);
    }

    #[test]
    fn if_match_compares_strongly() {
        let tag = entity_tag(&IceCredentials { ufrag: "abcd".into(), pwd: "x".repeat(22) });
        assert_eq!(tag, "\"abcd\"");
        for (header, expected) in [
            ("\"abcd\"", IfMatch::Matches),
            ("\"x\", \"abcd\"", IfMatch::Matches),
            ("*", IfMatch::Any),
            ("\"*\"", IfMatch::Any),
            ("W/\"abcd\"", IfMatch::Differs),
            ("abcd", IfMatch::Differs),
            ("\"old\"", IfMatch::Differs),
            ("", IfMatch::Differs),
        ] {
            assert_eq!(IfMatch::compare(header, &tag), expected, "{header}");
        }
    }

    #[test]
    fn our_credentials_are_sound_fresh_and_not_shown() {
        let (one, other) = (IceCredentials::random(), IceCredentials::random());
        assert!(one.is_sound());
        assert_ne!(one, other);
        assert!(!format!("{one:?}").contains(&one.pwd));
    }
}
