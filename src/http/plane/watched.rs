//! A viewer's session as its event streams see it: what the tree and the session table say at this moment.

use std::{sync::Arc, time::SystemTime};

use sluice_signaling::{
    codec::MediaKind,
    events::{EventStreams, News},
    media_plane::{LayerInfo, WatchedSession},
};

use crate::{track::Streams, worker::SessionEntry};

pub struct Watched {
    pub streams: Arc<Streams>,
    pub entry: Arc<SessionEntry>,
}

impl WatchedSession for Watched {
    fn news(&self) -> News {
        if self.entry.is_gone() {
            return if self.entry.should_come_again(SystemTime::now()) { News::ComeAgain } else { News::Over };
        }
        let stream = self.streams.get(&self.entry.info.stream);
        News::Present {
            live: stream.as_ref().is_some_and(|stream| stream.formats().is_some()),
            viewers: stream.map_or(0, |stream| stream.viewer_count()),
            layers: layers(&self.streams, &self.entry),
        }
    }

    fn event_streams(&self) -> &EventStreams {
        self.entry.events()
    }
}

/// The encodings that the viewer can choose among.
pub fn layers(streams: &Streams, entry: &SessionEntry) -> Vec<LayerInfo> {
    let formats = streams.get(&entry.info.stream).and_then(|stream| stream.formats()).unwrap_or_default();
    let is_live = formats.iter().any(|format| format.codec.kind() == MediaKind::Video);
    let one =
        |media_id| LayerInfo { media_id, encoding_id: None, width: None, height: None, bitrate_bps: 0, active: true };
    entry.info.video_line.filter(|_| is_live).map(one).into_iter().collect()
}
