//! The streams that this worker's viewers watch: one replica each, and who reads it.

use std::{collections::HashMap, sync::Arc};

use slab::Slab;

use super::inbox::Inbox;
use crate::{
    media::MediaKind,
    track::{LayerSet, News, Replica, Stream, WorkerIndex},
};

/// A stream with viewers on this worker.
#[derive(Debug)]
pub struct LocalStream {
    pub stream: Arc<Stream>,
    pub replica: Replica,
    /// What the replica has that its viewers were not served yet.
    pub news: News,
    /// Slab indices of the sessions that watch.
    pub viewers: Vec<usize>,
    /// Layers of the picture that were asked for and have not come yet.
    awaited: LayerSet,
}

impl LocalStream {
    /// A viewer needs these layers of the picture; those that the replica has not got are asked for.
    pub fn need_layers(&mut self, worker: WorkerIndex, needed: LayerSet) {
        let Some(track) = self.replica.track(MediaKind::Video) else { return };
        let here = track.kept().union(self.awaited);
        if !needed.without(here).is_empty() {
            self.awaited = self.awaited.union(needed);
            self.stream.want_layers(worker, self.replica.publication(), track.index(), here.union(needed));
        }
    }

    /// No viewer needs others than these: what the replica has of others is let go of.
    pub fn need_only(&mut self, worker: WorkerIndex, needed: LayerSet) {
        let Some(track) = self.replica.track(MediaKind::Video) else { return };
        let (index, publication) = (track.index(), self.replica.publication());
        if track.layers().count() > 1 && !track.kept().without(needed).is_empty() {
            self.stream.want_layers(worker, publication, index, needed);
            self.replica.keep_only(index, needed);
        }
    }

    /// The replica was brought up to date, with the layers that were asked for.
    pub fn was_updated(&mut self) {
        self.awaited = LayerSet::default();
    }
}

#[derive(Debug, Default)]
pub struct LocalStreams {
    slab: Slab<LocalStream>,
    /// By the stream's address, which its deliveries carry.
    by_address: HashMap<usize, usize>,
}

fn address(stream: &Arc<Stream>) -> usize {
    Arc::as_ptr(stream).addr()
}

impl LocalStreams {
    /// Adds a viewer; the first one subscribes the worker.
    pub fn add_viewer(
        &mut self,
        stream: &Arc<Stream>,
        viewer: usize,
        worker: WorkerIndex,
        inbox: &Arc<Inbox>,
    ) -> usize {
        let index = *self.by_address.entry(address(stream)).or_insert_with(|| {
            let local = LocalStream {
                stream: stream.clone(),
                replica: Replica::default(),
                news: News::default(),
                viewers: Vec::new(),
                awaited: LayerSet::default(),
            };
            let index = self.slab.insert(local);
            stream.subscribe(worker, inbox.clone());
            index
        });
        self.slab[index].viewers.push(viewer);
        index
    }

    /// Takes a viewer out; after the last one the worker unsubscribes.
    pub fn remove_viewer(&mut self, index: usize, viewer: usize, worker: WorkerIndex) {
        let Some(local) = self.slab.get_mut(index) else { return };
        local.viewers.retain(|watching| *watching != viewer);
        if local.viewers.is_empty() {
            local.stream.unsubscribe(worker);
            self.by_address.remove(&address(&local.stream));
            self.slab.remove(index);
        }
    }

    pub fn find(&self, stream: &Arc<Stream>) -> Option<usize> {
        self.by_address.get(&address(stream)).copied()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut LocalStream> {
        self.slab.iter_mut().map(|(_, local)| local)
    }

    pub fn get(&self, index: usize) -> Option<&LocalStream> {
        self.slab.get(index)
    }

    pub fn get_mut(&mut self, index: usize) -> Option<&mut LocalStream> {
        self.slab.get_mut(index)
    }
}
