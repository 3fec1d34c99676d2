//! Playlists as they are sent: written and packed once per change, shared by all who wait for them.

use std::{
    io::Write as _,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};

use crate::egress::hls::Rendered;

/// One version of one playlist.
#[derive(Debug)]
pub struct SharedPlaylist {
    rendered: Rendered,
    plain: Bytes,
    gzip: OnceLock<Bytes>,
    /// Tells it from every other version, without quotes.
    version: String,
    /// With `EXT-X-ENDLIST`: nothing will follow.
    pub is_ended: bool,
    pub target_duration_s: u64,
}

impl SharedPlaylist {
    pub(super) fn new(rendered: Rendered, version: String, is_ended: bool, target_duration_s: u64) -> Arc<Self> {
        let plain = Bytes::copy_from_slice(rendered.text().as_bytes());
        Arc::new(Self { rendered, plain, gzip: OnceLock::new(), version, is_ended, target_duration_s })
    }

    pub fn version(&self) -> &str {
        &self.version
    }

    pub fn plain(&self) -> Bytes {
        self.plain.clone()
    }

    /// Packed by the first who asks.
    pub fn gzip(&self) -> Bytes {
        self.gzip.get_or_init(|| gzip(&self.plain, Compression::default())).clone()
    }

    /// With a query behind every URI: for one viewer.
    pub fn with_query(&self, query: &str) -> Bytes {
        Bytes::from(self.rendered.with_query(query))
    }

    /// That, packed: at the level that costs least, for it is done for one viewer.
    pub fn gzip_with_query(&self, query: &str) -> Bytes {
        gzip(self.rendered.with_query(query).as_bytes(), Compression::fast())
    }
}

fn gzip(text: &[u8], level: Compression) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::with_capacity(text.len() / 4), level);
    // Writing to memory does not fail.
    let _ = encoder.write_all(text);
    encoder.finish().map(Bytes::from).unwrap_or_default()
}
