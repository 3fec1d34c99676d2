//! Settings: read once from file, environment and flags, checked, units in the names.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub http: HttpConfig,
    pub webrtc: WebrtcConfig,
    pub rtmp: RtmpConfig,
    pub auth: AuthConfig,
    pub publish: PublishConfig,
    pub log: LogConfig,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    pub listen: SocketAddr,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebrtcConfig {
    /// One UDP port for all sessions, and ICE-TCP on the same number.
    pub listen: SocketAddr,
    /// IP or IP:port put into candidates; empty: this machine's interfaces.
    pub advertise: Vec<String>,
    /// Threads that carry packets; 0: one per core.
    pub workers: u16,
    /// How fast a joining viewer is sent the pictures since the last keyframe, in Mb/s; 0 turns instant joins off.
    pub join_burst_mbps: u32,
    /// Sessions (publishers and viewers) at the most; further ones get 503.
    pub sessions_max: u32,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RtmpConfig {
    pub listen: SocketAddr,
    pub enabled: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    #[default]
    Open,
    Jwt,
}

/// The secret is a secret: no `Debug`, no `Serialize` of it may reach a log.
#[derive(Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    pub mode: AuthMode,
    /// At least 32 bytes.
    #[serde(skip_serializing)]
    pub hs256_secret: Option<String>,
    /// Listen publicly although anybody may publish and watch.
    pub allow_open: bool,
}

impl std::fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AuthConfig")
            .field("mode", &self.mode)
            .field("allow_open", &self.allow_open)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PublishConfig {
    pub on_conflict: OnConflict,
}

/// What happens when a second publisher comes to a live stream (`publish.on_conflict`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The newcomer replaces the publisher that is on.
    #[default]
    Takeover,
    /// The newcomer is refused.
    Reject,
}

#[derive(Debug, Clone, PartialEq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as `tracing` has it.
    pub level: String,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 8080)) }
    }
}

impl Default for WebrtcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0u16; 8], 8189)),
            advertise: Vec::new(),
            workers: 0,
            join_burst_mbps: 40,
            sessions_max: 10_000,
        }
    }
}

impl Default for RtmpConfig {
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 1935)), enabled: true }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}
