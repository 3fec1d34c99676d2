//! An address to advertise in ICE candidates: `IP` or `IP:port`.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use serde::{Deserialize, Deserializer, de::Error};

/// One entry of `webrtc.advertise`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Advertise {
    pub ip: IpAddr,
    /// `None`: the port that `webrtc.listen` has.
    pub port: Option<u16>,
}

/// Why a text is no address to advertise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidAdvertise {
    #[error("{0:?} is neither an IP address nor IP:port (write IPv6 with a port as [2001:db8::1]:8189)")]
    Syntax(String),
    #[error("{0} is not the address of one machine, so no client can send to it")]
    NotAHost(IpAddr),
    #[error("port 0 cannot be sent to; leave the port out to use that of webrtc.listen")]
    PortZero,
}

impl FromStr for Advertise {
    type Err = InvalidAdvertise;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let advertise = if let Ok(address) = text.parse::<SocketAddr>() {
            Self { ip: address.ip(), port: Some(address.port()) }
        } else {
            let ip = text.parse().map_err(|_| InvalidAdvertise::Syntax(text.into()))?;
            Self { ip, port: None }
        };
        let ip = advertise.ip.to_canonical();
        let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
        if ip.is_unspecified() || ip.is_multicast() || broadcast {
            return Err(InvalidAdvertise::NotAHost(ip));
        }
        if advertise.port == Some(0) {
            return Err(InvalidAdvertise::PortZero);
        }
        Ok(Self { ip, ..advertise })
    }
}

impl fmt::Display for Advertise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => SocketAddr::new(self.ip, port).fmt(f),
            None => self.ip.fmt(f),
        }
    }
}

impl<'de> Deserialize<'de> for Advertise {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_an_ip_with_or_without_a_port() {
        for (text, ip, port) in [
            ("203.0.113.7", "203.0.113.7", None),
            ("203.0.113.7:443", "203.0.113.7", Some(443)),
            ("2001:db8::1", "2001:db8::1", None),
            ("[2001:db8::1]:8189", "2001:db8::1", Some(8189)),
            ("::ffff:203.0.113.7", "203.0.113.7", None),
        ] {
            assert_eq!(text.parse(), Ok(Advertise { ip: ip.parse().unwrap(), port }), "{text}");
        }
    }

    #[test]
    fn what_no_client_can_send_to_is_refused() {
        for text in ["", "example.org", "203.0.113.7:", "203.0.113.7:99999", "2001:db8::1]:1"] {
            assert!(matches!(text.parse::<Advertise>(), Err(InvalidAdvertise::Syntax(_))), "{text}");
        }
        for text in ["0.0.0.0", "::", "224.0.0.1:1", "255.255.255.255"] {
            assert!(matches!(text.parse::<Advertise>(), Err(InvalidAdvertise::NotAHost(_))), "{text}");
        }
        assert_eq!("203.0.113.7:0".parse::<Advertise>(), Err(InvalidAdvertise::PortZero));
    }
}
