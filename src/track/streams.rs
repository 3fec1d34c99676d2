//! The table of streams, by name.

use std::{collections::HashMap, fmt, sync::Arc, time::SystemTime};

use parking_lot::RwLock;

use crate::{
    config::OnConflict,
    media::StreamName,
    track::{EndReason, Publication, PublisherControl, PublisherInfo, Stream, stream::OnChange},
};

/// The stream has a publisher, and conflicts are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream already has a publisher, and publish.on_conflict is \"reject\"")]
pub struct StreamBusy;

/// Every stream that is published or watched.
#[derive(Default)]
pub struct Streams {
    /// Called whenever a publisher came or went, or its tracks changed.
    on_change: OnChange,
    by_name: RwLock<HashMap<StreamName, Arc<Stream>>>,
}

impl fmt::Debug for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Streams").field("by_name", &self.by_name).finish_non_exhaustive()
    }
}

impl Streams {
    /// With somebody who wants to know when a stream's publication or tracks have changed. It is called from any thread, under the
    /// stream's lock: it must not block, nor call the stream back.
    pub fn with_listener(listener: impl Fn() + Send + Sync + 'static) -> Self {
        Self { on_change: OnChange(Some(Arc::new(listener))), by_name: RwLock::default() }
    }

    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.by_name.read().get(name).cloned()
    }

    /// For a viewer, who may come before the publisher.
    pub fn get_or_create(&self, name: &StreamName) -> Arc<Stream> {
        let create = || Arc::new(Stream::new(name.clone(), self.on_change.clone()));
        self.get(name).unwrap_or_else(|| self.by_name.write().entry(name.clone()).or_insert_with(create).clone())
    }

    /// All of them, sorted by name.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.by_name.read().values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Begins a publication. A publisher that is on is told that it was superseded, unless conflicts are rejected.
    ///
    /// # Errors
    /// [`StreamBusy`] when there is one and `on_conflict` rejects.
    pub fn publish(
        &self,
        name: &StreamName,
        info: PublisherInfo,
        control: Arc<dyn PublisherControl>,
        on_conflict: OnConflict,
        since: SystemTime,
    ) -> Result<Publication, StreamBusy> {
        let (publication, replaced) = {
            let mut by_name = self.by_name.write();
            let stream = by_name
                .entry(name.clone())
                .or_insert_with(|| Arc::new(Stream::new(name.clone(), self.on_change.clone())));
            if on_conflict == OnConflict::Reject && stream.is_live() {
                return Err(StreamBusy);
            }
            stream.publish(info, control, since)
        };
        if let Some(replaced) = replaced {
            replaced.end(EndReason::Superseded);
        }
        Ok(publication)
    }

    /// Forgets streams that nobody publishes or watches; to be called every second or so.
    pub fn prune(&self) {
        self.by_name.write().retain(|_, stream| Arc::strong_count(stream) > 1 || !stream.is_abandoned());
    }
}
