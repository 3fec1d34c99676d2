//! The fan-out: what the tree delivers goes to this worker's viewers of the stream.

use std::{sync::Arc, time::Instant};

use super::{
    event_loop::Worker,
    links::Links,
    local_streams::LocalStream,
    session::{Role, Session},
    timers::Slot,
    totals::Totals,
};
use crate::{
    egress::whep::{Output, Round, Scratch},
    media::MediaKind,
    track::{Delivery, LayerSet, News, Stream},
};

/// What a worker lends for sending to one viewer after the other.
struct Sending<'a> {
    links: &'a mut Links,
    scratch: &'a mut Scratch,
    totals: &'a mut Totals,
    paced: &'a mut Vec<Slot>,
}

impl Worker {
    /// Takes a delivery into the replica; its stream's viewers are served by [`Self::serve_touched`].
    pub(super) fn deliver(&mut self, stream: &Arc<Stream>, delivery: Delivery) {
        let Some(place) = self.local.find(stream) else { return };
        let Some(local) = self.local.get_mut(place) else { return };
        let untouched = local.news.is_empty();
        local.take(delivery);
        if untouched && !local.news.is_empty() {
            self.touched.push(place);
        }
    }

    /// Sends every viewer what the round's deliveries brought: all that came for it at once, in as few sends as may be.
    pub(super) fn serve_touched(&mut self, now: Instant) {
        let mut touched = std::mem::take(&mut self.touched);
        for place in touched.drain(..) {
            let Some(local) = self.local.get_mut(place) else { continue };
            let mut news = std::mem::take(&mut local.news);
            if news.tracks {
                self.follow_and_send_all(now, place);
            } else {
                self.send_news(now, place, &news);
            }
            if let Some(arrival) = news.arrival {
                self.totals.forwarded(Instant::now().saturating_duration_since(arrival));
            }
            news.clear();
            if let Some(local) = self.local.get_mut(place) {
                local.news = news;
            }
        }
        self.touched = touched;
    }

    fn send_news(&mut self, now: Instant, place: usize, news: &News) {
        let only = news.only();
        let Some(local) = self.local.get(place) else { return };
        let mut sending = Sending {
            links: &mut self.links,
            scratch: &mut self.scratch,
            totals: &mut self.totals,
            paced: &mut self.paced,
        };
        // Empty but for a change of codecs: nothing is allocated.
        let mut cannot_decode = Vec::new();
        let mut needed = LayerSet::default();
        for &slot in &local.viewers {
            let Some(session) = self.sessions.get_mut(slot) else { continue };
            let Role::Viewer(viewer) = &mut session.role else { continue };
            if viewer.sender.is_waiting() {
                needed = needed.union(viewer.sender.layers_needed(now));
                let undecodable = viewer.sender.follow(now, &local.replica);
                if !undecodable.is_empty() {
                    cannot_decode.push((slot, undecodable));
                }
            }
            if !viewer.sender.is_concerned(now, news) {
                continue;
            }
            if !news.late.is_empty() {
                sending.send_late(now, local, session, news);
            }
            sending.send(now, local, slot, session, only);
        }
        if let Some(local) = self.local.get_mut(place) {
            local.need_layers(self.index, needed);
        }
        for (slot, undecodable) in cannot_decode {
            self.cannot_decode(now, slot, &undecodable);
        }
    }

    /// The tracks changed.
    fn follow_and_send_all(&mut self, now: Instant, place: usize) {
        let Some(local) = self.local.get(place) else { return };
        // A copy of the list, in room that is kept: serving one viewer may end it, which changes the list.
        let mut viewers = std::mem::take(&mut self.viewers);
        viewers.extend_from_slice(&local.viewers);
        for slot in viewers.drain(..) {
            self.follow_and_send(now, slot);
        }
        self.viewers = viewers;
    }

    /// After the replica's tracks changed, or when a viewer comes.
    pub(super) fn follow_and_send(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Role::Viewer(viewer) = &mut session.role else { return };
        let Some(local) = self.local.get_mut(viewer.stream) else { return };
        let undecodable = viewer.sender.follow(now, &local.replica);
        local.need_layers(self.index, viewer.sender.layers_needed(now));
        if !undecodable.is_empty() {
            self.cannot_decode(now, slot, &undecodable);
        }
        self.send_to_viewer(now, slot, None);
        self.service(now, slot);
    }

    /// A viewer chose among the layers of the picture.
    pub(super) fn select_layer(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Role::Viewer(viewer) = &mut session.role else { return };
        viewer.sender.select_layer(session.entry.layer_choice());
        self.follow_and_send(now, slot);
    }

    /// Lets go of layers that no viewer needs any more.
    pub(super) fn forget_layers(&mut self, now: Instant) {
        for local in self.local.iter_mut() {
            let viewers = local.viewers.iter().filter_map(|slot| match &self.sessions.get(*slot)?.role {
                Role::Viewer(viewer) => Some(viewer.sender.layers_needed(now)),
                _ => None,
            });
            let needed = viewers.fold(LayerSet::default(), LayerSet::union);
            local.need_only(self.index, needed);
        }
    }

    /// Sends a viewer what is due, as far as pacing allows.
    pub(super) fn send_to_viewer(&mut self, now: Instant, slot: usize, only: Option<MediaKind>) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Role::Viewer(viewer) = &mut session.role else { return };
        let Some(local) = self.local.get(viewer.stream) else { return };
        let mut sending = Sending {
            links: &mut self.links,
            scratch: &mut self.scratch,
            totals: &mut self.totals,
            paced: &mut self.paced,
        };
        sending.send(now, local, slot, session, only);
    }

    /// Gives viewers that pacing held back their next share.
    pub(super) fn serve_paced(&mut self, now: Instant) {
        let mut held_back = std::mem::take(&mut self.held_back);
        std::mem::swap(&mut held_back, &mut self.paced);
        for slot in held_back.drain(..) {
            let Some(session) = self.sessions.get_mut(slot.index).filter(|s| s.tenant == slot.tenant) else { continue };
            session.is_paced = false;
            self.send_to_viewer(now, slot.index, Some(MediaKind::Video));
        }
        self.held_back = held_back;
    }
}

impl Sending<'_> {
    fn send(&mut self, now: Instant, local: &LocalStream, slot: usize, session: &mut Session, only: Option<MediaKind>) {
        let Role::Viewer(viewer) = &mut session.role else { return };
        let (Some(sealer), Some(path)) = (session.transport.sealer(), session.transport.path()) else { return };
        let mut output = Output { sealer, scratch: self.scratch, out: &mut self.links.to(path) };
        let Round { sent, backlog, joined_after, wants_keyframe } =
            viewer.sender.send(now, &local.replica, only, &mut output);
        session.entry.count(sent.packets, sent.bytes);
        self.totals.sent(sent);
        if let Some(after) = joined_after {
            self.totals.joined(after);
        }
        if let Some((track, layer)) = wants_keyframe {
            local.stream.request_keyframe(now, track, layer);
        }
        if backlog && !session.is_paced {
            session.is_paced = true;
            self.paced.push(Slot { index: slot, tenant: session.tenant });
        }
    }

    fn send_late(&mut self, now: Instant, local: &LocalStream, session: &mut Session, news: &News) {
        let Role::Viewer(viewer) = &mut session.role else { return };
        let (Some(sealer), Some(path)) = (session.transport.sealer(), session.transport.path()) else { return };
        let mut output = Output { sealer, scratch: self.scratch, out: &mut self.links.to(path) };
        let sent = viewer.sender.send_late(now, &local.replica, &news.late, &mut output);
        session.entry.count(sent.packets, sent.bytes);
        self.totals.sent(sent);
    }
}
