//! Who watches by HLS: nobody has a session, so whoever has read a playlist lately counts.

use std::{collections::HashMap, net::IpAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    metrics::{Metrics, ProtocolLabel},
    track::{Stream, ViewerCount},
};

/// Players ask once per target duration at the least, and are patient with a server that is late.
const GONE_AFTER: Duration = Duration::from_secs(15);
/// Viewers counted per stream, 48 bytes each: 3 MB. Further ones are served and not counted.
const VIEWERS_MAX: usize = 65_536;
const PROTOCOL: &str = "hls";

/// What tells viewers apart: their address, their player, and their token where they have one. Kept as a hash.
#[derive(Debug, Clone, Copy, Hash)]
pub struct ViewerKey<'a> {
    pub ip: IpAddr,
    pub user_agent: &'a str,
    pub token: Option<&'a str>,
}

/// Recent readers of one stream's playlists.
pub(super) struct Viewers {
    stream: Arc<Stream>,
    metrics: Arc<Metrics>,
    hasher: std::hash::RandomState,
    by_key: HashMap<u64, Viewer>,
}

struct Viewer {
    seen: Instant,
    _count: ViewerCount,
}

impl Viewers {
    pub fn new(stream: Arc<Stream>, metrics: Arc<Metrics>) -> Self {
        Self { stream, metrics, hasher: std::hash::RandomState::new(), by_key: HashMap::new() }
    }

    /// A playlist was asked for.
    pub fn saw(&mut self, now: Instant, key: ViewerKey<'_>) {
        use std::hash::BuildHasher;
        let key = self.hasher.hash_one(key);
        if let Some(viewer) = self.by_key.get_mut(&key) {
            viewer.seen = now;
        } else if self.by_key.len() < VIEWERS_MAX {
            self.by_key.insert(key, Viewer { seen: now, _count: self.stream.count_viewer() });
            self.gauge(1);
        }
    }

    pub fn count(&self) -> usize {
        self.by_key.len()
    }

    pub fn forget_gone(&mut self, now: Instant) {
        let before = self.by_key.len();
        self.by_key.retain(|_, viewer| now.saturating_duration_since(viewer.seen) < GONE_AFTER);
        self.count_out(before - self.by_key.len());
    }

    fn count_out(&self, gone: usize) {
        self.gauge(-i64::try_from(gone).unwrap_or(0));
        (0..gone).for_each(|_| self.metrics.count_session(PROTOCOL, "ended"));
    }

    fn gauge(&self, by: i64) {
        self.metrics.viewers.get_or_create(&ProtocolLabel { protocol: PROTOCOL }).inc_by(by);
    }
}

impl Drop for Viewers {
    fn drop(&mut self) {
        self.count_out(self.by_key.len());
    }
}
