//! What is there of a packaged stream, and the playlists written of it: once per change.

use std::{array, sync::Arc};

use tokio::time::Instant;

use super::{
    output::Listing,
    playlists::SharedPlaylist,
    stream::{Asked, PlaylistRefusal},
};
use crate::egress::hls::{
    Output, PlaylistForm, RENDITIONS_MAX, RenditionIndex, Window, advance_part_limit, media_playlist,
    multivariant_playlist,
};

/// Playlists of the present state, where somebody has asked for them.
#[derive(Default)]
struct Written {
    whole: Option<Arc<SharedPlaylist>>,
    delta: Option<Arc<SharedPlaylist>>,
}

/// See the module.
pub(super) struct State {
    pub window: Window,
    pub refusal: Option<String>,
    /// When the first part came.
    pub first_part: Option<Instant>,
    written: [Written; RENDITIONS_MAX],
    multivariant: Option<Arc<SharedPlaylist>>,
    /// Counts changes, for versions.
    changes: u64,
}

/// What a change changed.
pub(super) struct Taken {
    /// The renditions with another playlist.
    pub touched: [bool; RENDITIONS_MAX],
    /// Now it cannot be packaged.
    pub refused: bool,
}

impl State {
    pub fn new(window: Window) -> Self {
        Self {
            window,
            refusal: None,
            first_part: None,
            written: array::from_fn(|_| Written::default()),
            multivariant: None,
            changes: 0,
        }
    }

    /// What the packager gave goes into the window.
    pub fn take(&mut self, now: Instant, outputs: &mut Vec<Output>, refusal: Option<&str>) -> Taken {
        let mut touched = [false; RENDITIONS_MAX];
        let refused_before = self.refusal.is_some();
        if self.refusal.as_deref() != refusal {
            self.refusal = refusal.map(str::to_owned);
        }
        let refused = self.refusal.is_some() && !refused_before;
        let target = self.window.target_duration();
        for output in outputs.drain(..) {
            let run = self.window.run();
            let changed = self.window.take(output);
            if self.window.run() != run {
                // The others of a new publisher are waited for anew.
                self.first_part = None;
            }
            let Some(rendition) = changed else { continue };
            self.changes += 1;
            self.multivariant = None;
            let at = usize::from(rendition.0);
            if let (Some(written), Some(touched)) = (self.written.get_mut(at), touched.get_mut(at)) {
                *written = Written::default();
                *touched = true;
            }
            self.first_part.get_or_insert(now);
        }
        if self.window.target_duration() != target {
            self.forget_written();
        }
        Taken { touched, refused }
    }

    /// Nothing will follow.
    pub fn end(&mut self) {
        self.window.end();
        self.forget_written();
    }

    /// What a store is to have of it: see [`Listing`].
    pub fn listing(&self, next: impl Fn(RenditionIndex) -> u64) -> Listing {
        Listing::of(&self.window, next)
    }

    /// Whether a rendition's playlist has what is asked for.
    pub fn has(&self, rendition: RenditionIndex, asked: Asked) -> Result<bool, PlaylistRefusal> {
        let window = self.window.rendition(rendition).ok_or(PlaylistRefusal::NoRendition)?;
        if self.window.is_ended() {
            return Ok(true);
        }
        if self.window.has_stopped(window) {
            return Err(PlaylistRefusal::NoRendition);
        }
        match asked {
            Asked::Any { whole_segment } => {
                Ok(!whole_segment || window.listed().next().is_some_and(|first| first.complete))
            }
            Asked::From { segment, part } => {
                let too_far = |last_segment| Err(PlaylistRefusal::TooFarAhead { last_segment });
                let Some(edge) = window.edge() else { return Ok(false) };
                // The last whole segment, plus two.
                let last_segment = if edge.part.is_some() { edge.segment.saturating_sub(1) } else { edge.segment };
                if segment > last_segment.saturating_add(2) {
                    return too_far(last_segment);
                }
                let limit = advance_part_limit(window.part_target());
                let part_edge = match edge.part {
                    Some(part) if segment == edge.segment => Some(part as u64),
                    _ => None,
                };
                let furthest = part_edge.map_or(limit, |part| part.saturating_add(limit));
                if segment > last_segment && part.is_some_and(|part| part > furthest) {
                    return too_far(last_segment);
                }
                Ok(window.has(segment, part))
            }
        }
    }

    pub fn playlist(&mut self, id: u64, rendition: RenditionIndex, delta: bool) -> Option<Arc<SharedPlaylist>> {
        let window = self.window.rendition(rendition)?;
        let written = self.written.get_mut(usize::from(rendition.0))?;
        let place = if delta { &mut written.delta } else { &mut written.whole };
        let write = || {
            let letter = if delta { "d" } else { "w" };
            let version = format!("{id:016x}-{}-{}-{letter}", rendition.0, self.changes);
            let form = if delta { PlaylistForm::Delta } else { PlaylistForm::Whole };
            let rendered = media_playlist(&self.window, window, form);
            let target_s = self.window.target_duration().as_secs();
            SharedPlaylist::new(rendered, version, self.window.is_ended(), target_s)
        };
        Some(place.get_or_insert_with(write).clone())
    }

    pub fn multivariant(&mut self, id: u64) -> Arc<SharedPlaylist> {
        let write = || {
            let version = format!("{id:016x}-{}", self.changes);
            let target_s = self.window.target_duration().as_secs();
            SharedPlaylist::new(multivariant_playlist(&self.window), version, self.window.is_ended(), target_s)
        };
        self.multivariant.get_or_insert_with(write).clone()
    }

    fn forget_written(&mut self) {
        self.changes += 1;
        self.written.iter_mut().for_each(|written| *written = Written::default());
        self.multivariant = None;
    }
}
