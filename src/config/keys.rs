//! Every setting by its key: how it is written as text, what is expected of it, and which field it sets.

use serde::Deserialize;
use toml::Value;

use super::Config;

/// How a setting's value is read from the text of a variable or a flag.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// Text that no message repeats, and that no flag takes (other users of the machine can read flags).
    Secret,
    Whole,
    Switch,
    /// Texts, separated by commas.
    List,
    /// Such texts, separated by commas. What is wrong with one is told without repeating it.
    Secrets,
}

/// One setting.
#[derive(Debug)]
pub struct Setting {
    /// `section.name`, as in the file.
    pub key: &'static str,
    pub kind: Kind,
    /// What a value looks like, fit to follow "expected".
    pub expected: &'static str,
    set: fn(&mut Config, Value) -> Result<(), toml::de::Error>,
    differs: fn(&Config, &Config) -> bool,
}

impl Setting {
    /// The setting of this key.
    pub fn find(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key == key)
    }

    /// Sets the field.
    ///
    /// # Errors
    /// Why the value is not what is expected; fit for the user, and without the value of a secret.
    pub fn set(&self, config: &mut Config, value: Value) -> Result<(), String> {
        let is_repeated = self.is_repeated_by_errors(&value);
        (self.set)(config, value).map_err(|error| if is_repeated { String::new() } else { error.message().to_owned() })
    }

    /// Serde's words on a value of another kind than expected have the value in them; our own on a text have not.
    fn is_repeated_by_errors(&self, value: &Value) -> bool {
        match self.kind {
            Kind::Secret => true,
            Kind::Secrets => !value.as_array().is_some_and(|items| items.iter().all(Value::is_str)),
            _ => false,
        }
    }

    /// The value that a variable's or a flag's text stands for. Text that cannot be one stays text, for `set` to refuse.
    pub fn value_of(&self, text: &str) -> Value {
        match self.kind {
            Kind::Text | Kind::Secret => Value::String(text.into()),
            Kind::Whole => text.trim().parse().map_or_else(|_| Value::String(text.into()), Value::Integer),
            Kind::Switch => text.trim().parse().map_or_else(|_| Value::String(text.into()), Value::Boolean),
            Kind::List | Kind::Secrets => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                Value::Array(items.map(|item| Value::String(item.into())).collect())
            }
        }
    }

    /// Whether two configurations differ in this setting.
    pub fn differs(&self, a: &Config, b: &Config) -> bool {
        (self.differs)(a, b)
    }

    /// `SLUICE_SECTION__NAME`.
    pub fn variable(&self) -> String {
        format!("SLUICE_{}", self.key.replacen('.', "__", 1).to_ascii_uppercase())
    }

    /// `section-name`, without the dashes in front.
    pub fn flag(&self) -> String {
        self.key.replace(['.', '_'], "-")
    }
}

macro_rules! settings {
    ($($section:ident . $name:ident: $kind:ident, $expected:literal;)*) => {
        /// Every setting, in the order of [`Config`]'s fields.
        pub const SETTINGS: &[Setting] = &[$(Setting {
            key: concat!(stringify!($section), ".", stringify!($name)),
            kind: Kind::$kind,
            expected: $expected,
            set: |config, value| {
                config.$section.$name = Deserialize::deserialize(value)?;
                Ok(())
            },
            differs: |a, b| a.$section.$name != b.$section.$name,
        }),*];
    };
}

settings! {
    http.listen: Text, "an address and port such as \"127.0.0.1:8080\"";
    http.connections_max: Whole, "a number of connections, 1 to 65536";
    http.trusted_proxies: List, "a list of addresses and CIDR ranges, such as [\"127.0.0.1\", \"10.0.0.0/8\"]";
    http.client_requests_per_s: Whole, "a number of requests, 0 (off) to 100000";
    http.client_requests_burst: Whole, "a number of requests, 1 to 100000";
    http.overflow_to: Text, "a URL such as \"https://b.example.net\"";
    webrtc.listen: Text, "an address and port such as \"[::]:8189\"";
    webrtc.advertise: List, "a list of addresses, each IP or IP:port, such as [\"203.0.113.7\"]";
    webrtc.workers: Whole, "a number of threads, 0 (one per core) to 256";
    webrtc.join_burst_mbps: Whole, "a rate in Mb/s, 0 (off) to 1000";
    webrtc.playout_delay_max_ms: Whole, "a time in ms, 10 to 10000";
    webrtc.sessions_max: Whole, "a number of sessions, 1 to 1000000";
    ice.servers: List, "a list of STUN and TURN URIs, such as [\"turn:turn.example.net:3478?transport=tcp\"]";
    ice.turn_secret: Secret, "a text, the same that the TURN servers have";
    ice.turn_ttl_s: Whole, "a time in s, 60 to 2592000";
    ice.turn_username: Text, "a user name that the TURN servers know";
    ice.turn_credential: Secret, "a text, the password of ice.turn_username";
    rtmp.listen: Text, "an address and port such as \"127.0.0.1:1935\"";
    rtmp.enabled: Switch, "true or false";
    rtmp.tls: List, "a list of PEM files, such as [\"/etc/ssl/live.pem\", \"/etc/ssl/live.key\"]";
    rtmp.plain: Switch, "true or false";
    rtmp.reconnect_to: Text, "a URL such as \"rtmp://b.example.net/live\"";
    rtmp.connections_max: Whole, "a number of connections, 1 to 65536";
    auth.mode: Text, "\"open\" or \"jwt\"";
    auth.hs256_secret: Secret, "a text of at least 32 bytes";
    auth.allow_open: Switch, "true or false";
    publish.on_conflict: Text, "\"takeover\" or \"reject\"";
    publish.hand_back_s: Whole, "a time in seconds, 0 to 3600";
    whep.not_live: Text, "\"reject\" or \"wait\"";
    whep.wait_max_s: Whole, "a time in seconds, 10 to 86400";
    hls.enabled: Switch, "true or false";
    hls.always_on: Switch, "true or false";
    hls.output: Text, "a place such as \"file:///srv/hls\" or \"s3://bucket/prefix\"";
    hls.part_ms: Whole, "a time in ms, 100 to 2000";
    hls.segment_s: Whole, "a time in seconds, 1 to 10";
    hls.window_segments: Whole, "a number of segments, 3 to 100";
    hls.dvr_s: Whole, "a time in seconds, 0 (none) to 86400";
    hls.window_max_mb: Whole, "a size in MB, 8 to 1000000";
    hls.opus: Switch, "true or false";
    hls.idle_s: Whole, "a time in seconds, 5 to 86400";
    hls.away_s: Whole, "a time in seconds, 1 to 86400";
    hls.streams_max: Whole, "a number of streams, 1 to 100000";
    hls.waiting_max: Whole, "a number of requests, 1 to 1000000";
    hls.client_waiting_max: Whole, "a number of requests, 1 to 1000000";
    relay.push: Secrets, "a list of streams and URLs, such as [\"cam1 rtmp://a.example.net/live2/KEY\", \"cam1 https://b.example.net/whip/cam1 bearer=TOKEN\"]";
    relay.pull: Secrets, "a list of streams and URLs, such as [\"cam1 rtmp://a.example.net/live/KEY on-demand\", \"cam2 https://b.example.net/whep/cam2 bearer=TOKEN\"]";
    transcode.b_frames: Switch, "true or false";
    transcode.ffmpeg: Text, "a program such as \"/usr/bin/ffmpeg\"";
    transcode.encoder: Text, "\"auto\", \"x264\", \"nvenc\", \"qsv\" or \"vaapi\"";
    transcode.streams_max: Whole, "a number of encoders, 1 to 1000";
    transcode.ladder: List, "a list of sizes, such as [\"720p\", \"480p 900k\"]";
    log.format: Text, "\"text\" or \"json\"";
    log.level: Text, "error, warn, info, debug, trace, or a filter such as \"info,sluice::worker=debug\"";
}
