//! The table of streams, by name.

use std::{collections::HashMap, sync::Arc, time::SystemTime};

use parking_lot::RwLock;

use crate::{
    config::OnConflict,
    media::StreamName,
    track::{EndReason, Publication, PublisherControl, PublisherInfo, Stream},
};

/// The stream has a publisher, and conflicts are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stream already has a publisher, and publish.on_conflict is \"reject\"")]
pub struct StreamBusy;

/// Every stream that is published or watched.
#[derive(Debug, Default)]
pub struct Streams {
    by_name: RwLock<HashMap<StreamName, Arc<Stream>>>,
}

impl Streams {
    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.by_name.read().get(name).cloned()
    }

    /// For a viewer, who may come before the publisher.
    pub fn get_or_create(&self, name: &StreamName) -> Arc<Stream> {
        let create = || Arc::new(Stream::new(name.clone()));
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
            let stream = by_name.entry(name.clone()).or_insert_with(|| Arc::new(Stream::new(name.clone())));
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
