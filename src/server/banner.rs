//! What a user sees first: the URLs to use.

use std::{
    fmt::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use serde::Serialize;

use crate::config::{AuthMode, Config};

/// Where the doors are open; real ports where 0 was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Addresses {
    pub http: SocketAddr,
    /// `None`: `rtmp.enabled` is false.
    pub rtmp: Option<SocketAddr>,
    /// UDP, and TCP on the same number.
    pub webrtc: SocketAddr,
}

impl Addresses {
    /// One line of JSON, for programs that start a server: `{"http":"127.0.0.1:8080","rtmp":...,"webrtc":...}`.
    pub fn to_json(&self) -> String {
        serde_json::json!({ "http": self.http, "rtmp": self.rtmp, "webrtc": self.webrtc }).to_string()
    }
}

/// The stream that the banner's URLs name; any other name does as well.
const STREAM: &str = "cam1";

/// The banner: addresses, and how to use them.
pub struct Banner<'a> {
    pub addresses: &'a Addresses,
    pub config: &'a Config,
    pub version: &'a str,
}

impl fmt::Display for Banner<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { addresses, config, version } = self;
        let web = format!("http://{}", as_a_client_writes(addresses.http));
        let key = match config.auth.mode {
            AuthMode::Open => STREAM.to_owned(),
            AuthMode::Jwt => format!("{STREAM}?token=JWT"),
        };
        writeln!(f, "Sluice {version}\n")?;
        writeln!(f, "  Dashboard          {web}/")?;
        writeln!(f, "  Publish (browser)  {web}/publish/{STREAM}")?;
        writeln!(f, "  Watch (browser)    {web}/watch/{STREAM}")?;
        writeln!(f, "  WHIP               {web}/whip/{STREAM}")?;
        writeln!(f, "  WHEP               {web}/whep/{STREAM}")?;
        if config.hls.enabled {
            let query = if config.auth.mode == AuthMode::Jwt { "?token=JWT" } else { "" };
            writeln!(f, "  HLS                {web}/hls/{STREAM}/index.m3u8{query}")?;
        }
        if let Some(rtmp) = addresses.rtmp {
            // Not every encoder tries both addresses of "localhost".
            let rtmp = as_a_client_writes(rtmp).replace("localhost", "127.0.0.1");
            let host = rtmp.strip_suffix(":1935").unwrap_or(&rtmp);
            writeln!(f, "  RTMP (OBS)         server rtmp://{host}/live, stream key {key}")?;
        }
        let port = addresses.webrtc.port();
        writeln!(f, "  WebRTC media       {}, UDP and TCP{}", addresses.webrtc, advertised(config, port))?;
        writeln!(f, "\n  {STREAM} may be any name. {}", self.who_may())
    }
}

impl Banner<'_> {
    fn who_may(&self) -> &'static str {
        match (self.config.auth.mode, self.config.auth.allow_open) {
            (AuthMode::Jwt, _) => "Every request needs a token: `sluice token --help`.",
            (AuthMode::Open, false) => "No tokens are asked for: only this machine can reach the doors.",
            (AuthMode::Open, true) => "No tokens are asked for: whoever reaches the doors may publish and watch.",
        }
    }
}

fn advertised(config: &Config, port: u16) -> String {
    let mut text = String::new();
    for (at, advertise) in config.webrtc.advertise.iter().enumerate() {
        let address = SocketAddr::new(advertise.ip, advertise.port.unwrap_or(port));
        // Writing to a string cannot fail.
        let _ = write!(text, "{}{address}", if at == 0 { "; advertised as " } else { ", " });
    }
    text
}

/// An address that listens everywhere, as a client on this machine would write it.
fn as_a_client_writes(address: SocketAddr) -> String {
    let ip = match address.ip().to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED | Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            return format!("localhost:{}", address.port());
        }
        ip => ip,
    };
    SocketAddr::new(ip, address.port()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn banner(http: &str, rtmp: Option<&str>, config: &Config) -> String {
        let addresses = Addresses {
            http: http.parse().unwrap(),
            rtmp: rtmp.map(|rtmp| rtmp.parse().unwrap()),
            webrtc: "[::]:8189".parse().unwrap(),
        };
        Banner { addresses: &addresses, config, version: "0.1.0" }.to_string()
    }

    #[test]
    fn urls_can_be_copied() {
        let text = banner("127.0.0.1:8080", Some("127.0.0.1:1935"), &Config::default());
        for part in [
            "http://localhost:8080/publish/cam1",
            "http://localhost:8080/watch/cam1",
            "http://localhost:8080/whip/cam1",
            "http://localhost:8080/whep/cam1",
            "http://localhost:8080/hls/cam1/index.m3u8\n",
            "server rtmp://127.0.0.1/live, stream key cam1\n",
            "[::]:8189, UDP and TCP\n",
        ] {
            assert!(text.contains(part), "{part:?} in {text}");
        }
    }

    #[test]
    fn what_differs_is_said() {
        let mut config = Config::default();
        config.auth.mode = AuthMode::Jwt;
        config.webrtc.advertise = vec!["203.0.113.7".parse().unwrap(), "[2001:db8::1]:443".parse().unwrap()];
        let text = banner("192.0.2.4:80", Some("[::]:1936"), &config);
        assert!(text.contains("http://192.0.2.4:80/"), "{text}");
        assert!(text.contains("server rtmp://127.0.0.1:1936/live, stream key cam1?token=JWT"), "{text}");
        assert!(text.contains("advertised as 203.0.113.7:8189, [2001:db8::1]:443"), "{text}");
        assert!(!banner("127.0.0.1:1", None, &config).contains("RTMP"));
    }

    #[test]
    fn programs_get_addresses_as_json() {
        let addresses =
            Addresses { http: "127.0.0.1:40001".parse().unwrap(), rtmp: None, webrtc: "[::]:40002".parse().unwrap() };
        let json: serde_json::Value = serde_json::from_str(&addresses.to_json()).unwrap();
        assert_eq!(json["http"], "127.0.0.1:40001");
        assert_eq!(json["rtmp"], serde_json::Value::Null);
        assert_eq!(json["webrtc"], "[::]:40002");
    }
}
