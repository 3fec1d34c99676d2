//! Settings: read once from file, environment and flags, checked, units in the names.
//!
//! In: a TOML text, environment variables, flags, in rising precedence. Out: a [`Config`] that makes sense, or every
//! reason why there is none, each with the key, where it was set, and what is expected. Opens no file and reads no
//! environment itself: the caller hands both in ([`Sources`]).
//!
//! A setting is a field here and a line in [`keys`]; a test keeps the two together.

mod advertise;
mod check;
mod endpoint_url;
mod keys;
mod load;
mod output_place;
mod pull;
mod relay;
mod secrets;
#[cfg(test)]
mod tests;
mod transcode;
mod trusted_proxy;

use std::{fmt, net::SocketAddr, path::PathBuf};

use serde::Deserialize;
use sluice_signaling::{ice_server::IceServerUri, redirect::NodeUrl};

pub use advertise::{Advertise, InvalidAdvertise};
pub use check::{HS256_SECRET_MIN_BYTES, LADDER_MAX_RUNGS};
pub use endpoint_url::{EndpointUrl, InvalidEndpoint};
pub use keys::{Kind, SETTINGS, Setting};
pub use load::{ConfigErrors, ConfigProblem, Origin, Sources};
pub use output_place::{InvalidOutputPlace, OutputPlace};
pub use pull::{InvalidPullSource, PullSource, SourceUrl};
pub use relay::{InvalidPushTarget, PushTarget, PushUrl, RelayConfig, RtmpUrl};
pub use secrets::without_secrets;
pub use transcode::{Encoder, InvalidRung, Rung, TranscodeConfig};
pub use trusted_proxy::{InvalidTrustedProxy, TrustedProxy};

/// Everything that can be set.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Config {
    pub http: HttpConfig,
    pub webrtc: WebrtcConfig,
    pub ice: IceConfig,
    pub rtmp: RtmpConfig,
    pub auth: AuthConfig,
    pub publish: PublishConfig,
    pub whep: WhepConfig,
    pub hls: HlsConfig,
    pub relay: RelayConfig,
    pub transcode: TranscodeConfig,
    pub log: LogConfig,
}

/// The HTTP door: WHIP, WHEP, API, pages, metrics.
#[derive(Debug, Clone, PartialEq)]
pub struct HttpConfig {
    /// Address and port. Default: `127.0.0.1:8080`. Port 0 takes any free one. Beyond loopback it needs tokens (see
    /// [`AuthConfig::mode`]).
    pub listen: SocketAddr,
    /// TCP connections served at one time; further ones wait in the system's backlog. Default: 1024. Each costs a file
    /// descriptor and up to 100 KB while it sends us a request.
    pub connections_max: u32,
    /// Reverse proxies, as addresses or CIDR ranges, whose `X-Forwarded-For` is believed: the address it names is the client's in
    /// logs, in the API and for the `ip` claim of tokens. Default: none; whoever connects is the client. List no address that
    /// clients can have themselves.
    pub trusted_proxies: Vec<TrustedProxy>,
    /// POST, PATCH and DELETE requests on WHIP and WHEP that one client address (IPv6: one /64) may make per second in the long run, each
    /// method by itself; further ones get 429. Default: 50, which lets a hundred viewers behind one address wait for a stream. 0
    /// turns it off. Each costs up to a millisecond of a core. Not for this machine's own addresses.
    pub client_requests_per_s: u32,
    /// How many of those may come at once after a quiet time. Default: 500, an auditorium that joins at the same moment.
    pub client_requests_burst: u32,
    /// Base URL of another node, such as `https://b.example.net`: publishers and viewers are sent there by 307 while this one is full
    /// (`webrtc.sessions_max`) or draining. Default: none, they get 503.
    pub overflow_to: Option<NodeUrl>,
}

/// All WebRTC media, of publishers and viewers.
#[derive(Debug, Clone, PartialEq)]
pub struct WebrtcConfig {
    /// One UDP port for all sessions, and ICE-TCP on the same number. Default: `[::]:8189` (both IP versions). Answers
    /// nobody without a session made over HTTP, so it may be public whatever `auth.mode` is.
    pub listen: SocketAddr,
    /// Addresses put into candidates, each IP or IP:port: what clients reach this machine by when it is behind 1:1 NAT or
    /// a load balancer. Default: none, which means the addresses of this machine's interfaces. Each one costs every
    /// joining client a connectivity check.
    pub advertise: Vec<Advertise>,
    /// Threads that carry packets. Default: 0, one per core. Each keeps its own references to the packets of the streams
    /// that its viewers watch.
    pub workers: u16,
    /// How fast a joining viewer is sent the pictures since the last keyframe, in Mb/s. Default: 40. Higher shows the
    /// live edge sooner and risks overflowing a client's socket; 0 turns instant joins off, and each join then asks the
    /// publisher for a keyframe.
    pub join_burst_mbps: u32,
    /// How long a viewer's browser may hold pictures of an RTMP stream back, in ms, to wait for the sound, which comes later.
    /// Less is sooner; more keeps lips and voice closer. Pictures of WHIP streams are shown at once.
    pub playout_delay_max_ms: u16,
    /// Sessions (publishers and viewers) at the most; further ones get 503. Default: 10000. Each costs tens of KB.
    pub sessions_max: u32,
}

/// STUN and TURN servers that clients are told of (RFC 9725 section 4.6). The server itself needs none. No secret reaches a log:
/// `Debug` leaves them out.
#[derive(Clone, PartialEq)]
pub struct IceConfig {
    /// URIs such as `turn:turn.example.net:3478?transport=tcp`. Default: none. Each one is a header more in the answers, and lets
    /// a client gather candidates more.
    pub servers: Vec<IceServerUri>,
    /// The secret shared with all TURN servers of the list (coturn: `use-auth-secret`, `static-auth-secret`), of which every session
    /// gets credentials that are good for a time. Default: none. Whoever has it can relay through the servers.
    pub turn_secret: Option<String>,
    /// For how long those are good, in seconds, and no longer than the session's token. Default: 86400. A session that restarts ICE
    /// later has to do without TURN.
    pub turn_ttl_s: u32,
    /// A fixed user name and password for all TURN servers of the list, instead of a secret. Default: none. Every client sees them.
    pub turn_username: Option<String>,
    pub turn_credential: Option<String>,
}

impl fmt::Debug for IceConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IceConfig")
            .field("servers", &self.servers)
            .field("turn_ttl_s", &self.turn_ttl_s)
            .finish_non_exhaustive()
    }
}

/// The RTMP door.
#[derive(Debug, Clone, PartialEq)]
pub struct RtmpConfig {
    /// Address and port. Default: `127.0.0.1:1935`. Port 0 takes any free one. Beyond loopback it needs tokens (see
    /// [`AuthConfig::mode`]).
    pub listen: SocketAddr,
    /// Whether RTMP is listened for at all. Default: true. Idle it costs nothing but the port.
    pub enabled: bool,
    /// PEM files with the certificate, its chain and its key: one with all, or several. Default: none. With them RTMPS is taken on the
    /// same port; they are read again on SIGHUP.
    pub tls: Vec<PathBuf>,
    /// Whether RTMP without TLS is taken, too, where there is [`RtmpConfig::tls`]. Default: true. Tokens in it can be read on the way.
    pub plain: bool,
    /// Connections at one time. Default: 1024. Those that publish may hold 4 MiB each at the worst, a session of some KiB as a rule, and a
    /// thread for sound. When there are so many, newcomers get the place of the one that has been there longest without publishing.
    pub connections_max: u32,
    /// Where publishers that can (Enhanced RTMP v2) are asked to connect when this server stops: `rtmp://host/app` or `rtmps://host/app`.
    /// Default: none: to the address that they have.
    pub reconnect_to: Option<String>,
}

/// `auth.mode`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AuthMode {
    /// Anybody who reaches a door may publish, watch and administer.
    #[default]
    Open,
    /// Every request shows a signed token.
    Jwt,
}

/// Who may do what. The secret reaches no log: `Debug` leaves it out.
#[derive(Clone, Default, PartialEq)]
pub struct AuthConfig {
    /// `open` or `jwt`. Default: `open`, with which the HTTP and RTMP doors must be loopback unless
    /// [`AuthConfig::allow_open`]. `jwt` costs a signature check per request, none per packet.
    pub mode: AuthMode,
    /// The secret that tokens are signed with (HS256), at least [`HS256_SECRET_MIN_BYTES`] bytes. Default: none; `jwt`
    /// needs it. Whoever has it can make tokens.
    pub hs256_secret: Option<String>,
    /// Listen publicly although anybody may publish, watch and administer. Default: false.
    pub allow_open: bool,
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuthConfig")
            .field("mode", &self.mode)
            .field("allow_open", &self.allow_open)
            .finish_non_exhaustive()
    }
}

/// What publishers may do.
#[derive(Debug, Clone, PartialEq)]
pub struct PublishConfig {
    /// `takeover` or `reject`. Default: `takeover`, so that a publisher that lost its network can come back at once; the
    /// cost is that anybody with the right to publish can push another off.
    pub on_conflict: OnConflict,
    /// For how long, in seconds, a primary publisher that comes back must send without a break before its backup hands over to it.
    /// Default: 2. Longer means that a bad network is changed to less often.
    pub hand_back_s: u32,
}

/// What happens when a second publisher comes to a live stream (`publish.on_conflict`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnConflict {
    /// The newcomer replaces the publisher that is on.
    #[default]
    Takeover,
    /// The newcomer is refused.
    Reject,
}

/// What viewers get by WHEP.
#[derive(Debug, Clone, PartialEq)]
pub struct WhepConfig {
    /// `reject` or `wait`. Default: `reject`: 409 with `Retry-After`, and clients ask again. With `wait` they get a session at once and the
    /// picture from the publisher's first keyframe on; each waiting viewer costs a session (`webrtc.sessions_max`).
    pub not_live: NotLive,
    /// How long a session waits for its first picture or sound, in seconds. Default: 3600. Then it ends, and its client may ask again.
    pub wait_max_s: u32,
}

/// What happens when a viewer comes to a stream that is not live (`whep.not_live`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NotLive {
    /// It is told to come again.
    #[default]
    Reject,
    /// It waits in its session.
    Wait,
}

/// What players get by HLS. Nothing of it costs anything until somebody asks for a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct HlsConfig {
    /// Whether streams are served by HLS at all. Default: true.
    pub enabled: bool,
    /// Package every stream from its publisher's first picture on, so that the first viewer waits for nothing. Default: false: from the
    /// first request on. Costs some percent of a core and `window_max_mb` of memory at the most per stream.
    pub always_on: bool,
    /// Where whole segments and playlists of them are put, for a CDN to fetch: `file:///a/folder` or `s3://bucket/prefix`. Default: nowhere.
    /// Every stream is packaged then. Whoever can read that place can watch: tokens are not asked for there.
    pub output: Option<OutputPlace>,
    /// The length of parts, in ms. Default: 200. Players stay five parts behind; each costs a viewer two requests.
    pub part_ms: u32,
    /// What segments are to last, in seconds. Default: 2. WebRTC publishers are asked for a keyframe that often; others decide themselves,
    /// and segments end at their keyframes.
    pub segment_s: u32,
    /// Segments that a playlist lists. Default: 6.
    pub window_segments: u32,
    /// How far back viewers may go, in seconds. Default: 0: as far as `window_segments` reaches. Costs memory: 450 MB an hour for each
    /// megabit per second.
    pub dvr_s: u32,
    /// Media that is kept of one stream, in MB, all its layers together. Default: 128. Where it does not suffice, what is oldest goes.
    pub window_max_mb: u32,
    /// Sound that comes as Opus stays Opus. Default: false: it becomes AAC, which every player has.
    pub opus: bool,
    /// Packaging stops when nobody has asked for so long, in seconds. Default: 30.
    pub idle_s: u32,
    /// Playlists end when the publisher has been away for so long, in seconds; a publisher that is back sooner continues them. Default:
    /// 20, the patience that hls.js has by default.
    pub away_s: u32,
    /// Streams packaged at one time; further ones get 503. Default: 256.
    pub streams_max: u32,
    /// Requests that wait for what is not there yet, at one time; further ones get 503. Default: 20000. Each costs some KB.
    pub waiting_max: u32,
    /// Of these, how many may come from one client address (IPv6: one /64); further ones get 429. Default: 1000. Not for this machine's own
    /// addresses.
    pub client_waiting_max: u32,
}

/// What is logged, to standard error.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `text` or `json`. Default: `text`.
    pub format: LogFormat,
    /// `error`, `warn`, `info`, `debug`, `trace`, or a filter as `tracing` has it (`info,sluice::worker=debug`).
    /// Default: `info`. `debug` costs a line per request, `trace` more. Can change live (SIGHUP).
    pub level: String,
}

/// `log.format`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            connections_max: 1_024,
            trusted_proxies: Vec::new(),
            client_requests_per_s: 50,
            client_requests_burst: 500,
            overflow_to: None,
        }
    }
}

impl Default for WebrtcConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0u16; 8], 8189)),
            advertise: Vec::new(),
            workers: 0,
            join_burst_mbps: 40,
            playout_delay_max_ms: 100,
            sessions_max: 10_000,
        }
    }
}

impl Default for IceConfig {
    fn default() -> Self {
        Self { servers: Vec::new(), turn_secret: None, turn_ttl_s: 86_400, turn_username: None, turn_credential: None }
    }
}

impl Default for RtmpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 1935)),
            enabled: true,
            tls: Vec::new(),
            plain: true,
            reconnect_to: None,
            connections_max: 1_024,
        }
    }
}

impl Default for PublishConfig {
    fn default() -> Self {
        Self { on_conflict: OnConflict::default(), hand_back_s: 2 }
    }
}

impl Default for WhepConfig {
    fn default() -> Self {
        Self { not_live: NotLive::Reject, wait_max_s: 3_600 }
    }
}

impl Default for HlsConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            always_on: false,
            output: None,
            part_ms: 200,
            segment_s: 2,
            window_segments: 6,
            dvr_s: 0,
            window_max_mb: 128,
            opus: false,
            idle_s: 30,
            away_s: 20,
            streams_max: 256,
            waiting_max: 20_000,
            client_waiting_max: 1_000,
        }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, level: "info".into() }
    }
}
