//! The fan-out: what the tree delivers goes to this worker's viewers of the stream.

use std::{sync::Arc, time::Instant};

use super::{event_loop::Worker, session::Role, timers::Slot};
use crate::{
    egress::whep::{Output, Round},
    media::{ExtendedSeq, MediaKind},
    track::{Applied, Delivery, Stream},
};

impl Worker {
    /// Takes a delivery into the replica and sends every viewer what is new to it.
    pub(super) fn deliver(&mut self, now: Instant, stream: &Arc<Stream>, delivery: Delivery) {
        let Some(place) = self.local.find(stream) else { return };
        let Some(local) = self.local.get_mut(place) else { return };
        let arrival = match &delivery {
            Delivery::Packets { packets, .. } => packets.first().map(|packet| packet.arrival),
            Delivery::Snapshot(_) | Delivery::Clock { .. } => None,
        };
        let mut late = Vec::new();
        let applied = local.replica.apply(delivery, &mut late);
        // A copy of the list, in room that is kept: serving one viewer may end it, which changes the list.
        let mut viewers = std::mem::take(&mut self.viewers);
        viewers.extend_from_slice(&local.viewers);
        for slot in viewers.drain(..) {
            match applied {
                Applied::Tracks => self.follow_and_send(now, slot),
                Applied::Packets(kind) => self.send_news(now, slot, kind, &late),
                Applied::Nothing => {}
            }
        }
        self.viewers = viewers;
        if let Some(arrival) = arrival {
            self.totals.forwarded(Instant::now().saturating_duration_since(arrival));
        }
    }

    fn send_news(&mut self, now: Instant, slot: usize, kind: MediaKind, late: &[ExtendedSeq]) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Role::Viewer(viewer) = &mut session.role else { return };
        let Some(local) = self.local.get(viewer.stream) else { return };
        if viewer.sender.is_waiting() {
            let undecodable = viewer.sender.follow(now, &local.replica);
            if !undecodable.is_empty() {
                return self.cannot_decode(now, slot, &undecodable);
            }
        }
        if !late.is_empty()
            && let (Some(sealer), Some(path)) = (session.transport.sealer(), session.transport.path())
        {
            let mut output = Output { sealer, scratch: &mut self.scratch, out: &mut self.links.to(path) };
            let sent = viewer.sender.send_late(&local.replica, kind, late, &mut output);
            session.entry.count(sent.packets, sent.bytes);
            self.totals.sent(sent);
        }
        self.send_to_viewer(now, slot, Some(kind));
    }

    /// After the replica's tracks changed, or when a viewer comes.
    pub(super) fn follow_and_send(&mut self, now: Instant, slot: usize) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Role::Viewer(viewer) = &mut session.role else { return };
        let Some(local) = self.local.get(viewer.stream) else { return };
        let undecodable = viewer.sender.follow(now, &local.replica);
        if !undecodable.is_empty() {
            self.cannot_decode(now, slot, &undecodable);
        }
        self.send_to_viewer(now, slot, None);
        self.service(now, slot);
    }

    /// Sends a viewer what is due, as far as pacing allows.
    pub(super) fn send_to_viewer(&mut self, now: Instant, slot: usize, only: Option<MediaKind>) {
        let Some(session) = self.sessions.get_mut(slot) else { return };
        let Role::Viewer(viewer) = &mut session.role else { return };
        let Some(local) = self.local.get(viewer.stream) else { return };
        let (Some(sealer), Some(path)) = (session.transport.sealer(), session.transport.path()) else { return };
        let mut output = Output { sealer, scratch: &mut self.scratch, out: &mut self.links.to(path) };
        let Round { sent, backlog, joined_after, wants_keyframe } =
            viewer.sender.send(now, &local.replica, only, &mut output);
        session.entry.count(sent.packets, sent.bytes);
        self.totals.sent(sent);
        if let Some(after) = joined_after {
            self.totals.joined(after);
        }
        if let Some(track) = wants_keyframe {
            local.stream.request_keyframe(now, track, Default::default());
        }
        if backlog && !session.is_paced {
            session.is_paced = true;
            self.paced.push(Slot { index: slot, tenant: session.tenant });
        }
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
