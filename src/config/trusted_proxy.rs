//! Whose word on where a request comes from is believed: an address, or a CIDR range.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, de::Error};

/// One entry of `http.trusted_proxies`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedProxy(IpNet);

/// Why a text names no proxies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTrustedProxy {
    #[error("{0:?} is neither an IP address nor a CIDR range such as 10.0.0.0/8")]
    Syntax(String),
    #[error("{0} is every address there is: anybody could claim to be anybody")]
    Everybody(IpNet),
}

impl TrustedProxy {
    /// `ip` in its canonical form: IPv4 is never written as IPv6.
    pub fn has(&self, ip: IpAddr) -> bool {
        self.0.contains(&ip)
    }
}

impl FromStr for TrustedProxy {
    type Err = InvalidTrustedProxy;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let one = || text.parse::<IpAddr>().ok().map(|ip| IpNet::from(ip.to_canonical()));
        let range = text.parse().ok().or_else(one).ok_or_else(|| InvalidTrustedProxy::Syntax(text.into()))?;
        if range.prefix_len() == 0 {
            return Err(InvalidTrustedProxy::Everybody(range));
        }
        Ok(Self(range))
    }
}

impl fmt::Display for TrustedProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<'de> Deserialize<'de> for TrustedProxy {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_addresses_or_ranges() {
        for (text, inside, outside) in [
            ("127.0.0.1", "127.0.0.1", "127.0.0.2"),
            (" 10.0.0.0/8 ", "10.255.0.1", "11.0.0.1"),
            ("2001:db8::/32", "2001:db8::9", "2001:db9::9"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("::1", "::1", "127.0.0.1"),
        ] {
            let proxy: TrustedProxy = text.parse().unwrap();
            assert!(proxy.has(inside.parse().unwrap()), "{text}");
            assert!(!proxy.has(outside.parse().unwrap()), "{text}");
        }
    }

    #[test]
    fn nonsense_and_everybody_are_refused() {
        for text in ["", "proxy.example", "10.0.0.0/33", "10.0.0.1:80", "[::1]"] {
            assert!(matches!(text.parse::<TrustedProxy>(), Err(InvalidTrustedProxy::Syntax(_))), "{text}");
        }
        for text in ["0.0.0.0/0", "::/0"] {
            assert!(matches!(text.parse::<TrustedProxy>(), Err(InvalidTrustedProxy::Everybody(_))), "{text}");
        }
    }
}
