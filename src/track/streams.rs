//! The table of streams, by name.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, atomic::Ordering},
    time::SystemTime,
};

use parking_lot::RwLock;
use sluice_signaling::priority::Priority;

use crate::{
    config::OnConflict,
    media::StreamName,
    track::{EndReason, HandOver, Publication, PublisherControl, PublisherInfo, Stream, stream::Shared},
};

/// The stream has a publisher, and conflicts are rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum StreamBusy {
    #[error("the stream already has a publisher, and publish.on_conflict is \"reject\"")]
    Primary,
    #[error("the stream already has a backup publisher, and publish.on_conflict is \"reject\"")]
    Backup,
}

impl StreamBusy {
    /// Over the place of that priority.
    pub fn with(priority: Priority) -> Self {
        match priority {
            Priority::Primary => Self::Primary,
            Priority::Backup => Self::Backup,
        }
    }
}

/// Every stream that is published or watched.
#[derive(Default)]
pub struct Streams {
    shared: Arc<Shared>,
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
    pub fn with_listener(hand_over: HandOver, listener: impl Fn() + Send + Sync + 'static) -> Self {
        let shared = Shared { on_change: Some(Box::new(listener)), hand_over, ..Shared::default() };
        Self { shared: Arc::new(shared), by_name: RwLock::default() }
    }

    /// From now on the listener is told, too, of every stream that the first one comes to watch or read, or the last one goes.
    pub fn tell_of_audiences(&self) {
        self.shared.tells_of_audiences.store(true, Ordering::Relaxed);
    }

    pub fn get(&self, name: &StreamName) -> Option<Arc<Stream>> {
        self.by_name.read().get(name).cloned()
    }

    /// For a viewer, who may come before the publisher.
    pub fn get_or_create(&self, name: &StreamName) -> Arc<Stream> {
        let create = || Arc::new(Stream::new(name.clone(), self.shared.clone()));
        self.get(name).unwrap_or_else(|| self.by_name.write().entry(name.clone()).or_insert_with(create).clone())
    }

    /// All of them, sorted by name.
    pub fn all(&self) -> Vec<Arc<Stream>> {
        let mut all: Vec<_> = self.by_name.read().values().cloned().collect();
        all.sort_by(|a, b| a.name().cmp(b.name()));
        all
    }

    /// Begins a publication. A publisher of the same priority is told that it was superseded, unless conflicts are rejected; one of the other
    /// priority stays, and of the two one stands by.
    ///
    /// # Errors
    /// [`StreamBusy`] when there is one of the same priority and `on_conflict` rejects.
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
            let stream =
                by_name.entry(name.clone()).or_insert_with(|| Arc::new(Stream::new(name.clone(), self.shared.clone())));
            if on_conflict == OnConflict::Reject && stream.has_publisher(info.priority) {
                return Err(StreamBusy::with(info.priority));
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
