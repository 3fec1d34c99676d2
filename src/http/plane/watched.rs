//! A viewer's session as its event streams see it: what the tree and the session table say at this moment.

use std::{cmp::Reverse, sync::Arc, time::SystemTime};

use sluice_signaling::{
    codec::MediaKind,
    events::{EventStreams, News},
    media_plane::{LayerInfo, WatchedSession},
};

use crate::{
    track::{LayerIndex, LayerReport, LayerRole, LayerState, Streams},
    worker::SessionEntry,
};

pub struct Watched {
    pub streams: Arc<Streams>,
    pub entry: Arc<SessionEntry>,
}

impl WatchedSession for Watched {
    fn news(&self) -> News {
        if self.entry.is_gone() {
            return if self.entry.should_come_again(SystemTime::now()) { News::ComeAgain(None) } else { News::Over };
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

/// The encodings that the viewer can choose among, best first.
pub fn layers(streams: &Streams, entry: &SessionEntry) -> Vec<LayerInfo> {
    let Some(media_id) = entry.info.video_line else { return Vec::new() };
    let state = streams.get(&entry.info.stream).map(|stream| stream.state());
    let tracks = state.into_iter().flat_map(|state| state.tracks);
    let pictures = tracks.filter(|track| track.format.codec.kind() == MediaKind::Video);
    let all = pictures.flat_map(|track| track.layers).enumerate();
    // What is made here of a layer is that layer to viewers: there is nothing to choose.
    let is_choice = |state: &LayerState| match state.role {
        LayerRole::Sent => true,
        LayerRole::Replaced => false,
        LayerRole::Made | LayerRole::Rung => state.active,
    };
    let mut layers: Vec<_> = all.filter(|(_, layer)| is_choice(&layer.state)).collect();
    layers.sort_by_key(|(at, layer)| Reverse(layer.state.rank(LayerIndex(*at as u8))));
    let info = |(_, LayerReport { state, bitrate_bps }): (usize, LayerReport)| LayerInfo {
        media_id,
        encoding_id: state.rid,
        width: state.size.map(|size| size.width),
        height: state.size.map(|size| size.height),
        bitrate_bps,
        active: state.active,
    };
    layers.into_iter().map(info).collect()
}
