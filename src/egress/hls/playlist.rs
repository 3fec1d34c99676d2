//! Playlists as text: a rendition's media playlist, whole or as a delta update (RFC 8216bis sections 4.4.3 to 4.4.5).
//!
//! In: a [`Window`]. Out: a [`Rendered`] text, the same for all who ask; what a viewer's URIs carry is put in afterwards.
//! `EXT-X-ENDLIST` stands only in the playlists of a window that was [ended](Window::end): a player that has seen it never asks again.

#[cfg(test)]
mod tests;

use std::{fmt::Write as _, time::Duration};

use super::{
    MediaObject, RenditionIndex,
    window::{PartEntry, RenditionWindow, Segment, Window},
};

/// Playlists with `EXT-X-SKIP` are of this version (RFC 8216bis section 8).
pub(super) const VERSION: u32 = 9;
/// Players stay this many part targets behind: three are the least that is recommended; two more are there for a round trip and a
/// connection that falters.
const HOLD_BACK_PARTS: u32 = 5;
/// The skip boundary, and for how long parts are listed, in target durations.
const SKIP_TARGETS: u32 = 6;
const PARTS_LISTED_TARGETS: u32 = 3;

/// Where media is found, relative to the playlists.
pub const MEDIA_PREFIX: &str = "media/";

/// A rendition's playlist, relative to the multivariant one.
pub fn playlist_name(rendition: RenditionIndex) -> String {
    format!("r{}.m3u8", rendition.0)
}

/// What [`playlist_name`] says.
pub fn playlist_rendition(name: &str) -> Option<RenditionIndex> {
    let index = name.strip_prefix('r')?.strip_suffix(".m3u8")?.parse().ok().map(RenditionIndex)?;
    (playlist_name(index) == name).then_some(index)
}

/// A playlist, and the places behind its URIs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rendered {
    text: String,
    uri_ends: Vec<usize>,
}

impl Rendered {
    /// As it stands.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// With a query behind every URI.
    pub fn with_query(&self, query: &str) -> String {
        let mut text = String::with_capacity(self.text.len() + self.uri_ends.len() * query.len());
        let mut from = 0;
        for &end in &self.uri_ends {
            text.push_str(self.text.get(from..end).unwrap_or_default());
            text.push_str(query);
            from = end;
        }
        text.push_str(self.text.get(from..).unwrap_or_default());
        text
    }

    pub(super) fn line(&mut self, line: std::fmt::Arguments<'_>) {
        self.put(line);
        self.text.push('\n');
    }

    /// Writing to a string cannot fail.
    pub(super) fn put(&mut self, text: std::fmt::Arguments<'_>) {
        let _ = self.text.write_fmt(text);
    }

    pub(super) fn uri(&mut self, uri: std::fmt::Arguments<'_>) {
        self.put(uri);
        self.uri_ends.push(self.text.len());
    }
}

/// How a rendition's playlist is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PlaylistForm {
    /// All of it, by this server, which lets requests wait.
    Whole,
    /// What is new in that (RFC 8216bis section 6.2.5.1).
    Delta,
    /// Whole segments alone, for a place where nothing can be waited for: a store of files.
    Stored,
}

/// The playlist of a rendition.
pub fn media_playlist(window: &Window, rendition: &RenditionWindow, form: PlaylistForm) -> Rendered {
    let mut out = Rendered::default();
    head(&mut out, window, rendition, form);
    let skipped = if form == PlaylistForm::Delta && !window.is_ended() { skipped(window, rendition) } else { 0 };
    if skipped > 0 {
        out.line(format_args!("#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}"));
    }
    let is_stored = form == PlaylistForm::Stored;
    let mut before: Option<&Segment> = None;
    for (at, segment) in rendition.listed().filter(|segment| segment.complete || !is_stored).enumerate() {
        if at >= skipped {
            write_segment(&mut out, window, rendition, segment, before, form);
        }
        before = Some(segment);
    }
    if !is_stored {
        write_outlook(&mut out, window, rendition);
    }
    if window.is_ended() {
        out.line(format_args!("#EXT-X-ENDLIST"));
    }
    out
}

fn head(out: &mut Rendered, window: &Window, rendition: &RenditionWindow, form: PlaylistForm) {
    let target = window.target_duration();
    out.line(format_args!("#EXTM3U"));
    out.line(format_args!("#EXT-X-VERSION:{VERSION}"));
    out.line(format_args!("#EXT-X-TARGETDURATION:{}", target.as_secs()));
    if form != PlaylistForm::Stored {
        let hold_back = Seconds(HOLD_BACK_PARTS * window.part_target());
        let skip_until = Seconds(SKIP_TARGETS * target);
        out.line(format_args!(
            "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,PART-HOLD-BACK={hold_back},CAN-SKIP-UNTIL={skip_until}"
        ));
        out.line(format_args!("#EXT-X-PART-INF:PART-TARGET={}", Seconds(rendition.part_target())));
    }
    let first = rendition.listed().next().map_or(0, |segment| segment.number);
    out.line(format_args!("#EXT-X-MEDIA-SEQUENCE:{first}"));
    out.line(format_args!("#EXT-X-DISCONTINUITY-SEQUENCE:{}", rendition.passed_discontinuities()));
}

/// Segments that lie wholly beyond the skip boundary.
fn skipped(window: &Window, rendition: &RenditionWindow) -> usize {
    let complete = |segment: &&Segment| segment.complete;
    let Some(last) = rendition.listed().rev().find(complete).map(Segment::ends) else { return 0 };
    let boundary = SKIP_TARGETS * window.target_duration();
    rendition.listed().take_while(|segment| last.saturating_sub(segment.ends()) > boundary).count()
}

fn write_segment(
    out: &mut Rendered,
    window: &Window,
    rendition: &RenditionWindow,
    segment: &Segment,
    before: Option<&Segment>,
    form: PlaylistForm,
) {
    for _ in 0..segment.discontinuities {
        out.line(format_args!("#EXT-X-DISCONTINUITY"));
    }
    if before.is_none_or(|before| before.initialization != segment.initialization) {
        out.put(format_args!("#EXT-X-MAP:URI=\""));
        out.uri(format_args!("{MEDIA_PREFIX}{}", segment.initialization.name));
        out.line(format_args!("\""));
    }
    let time = humantime::format_rfc3339_millis(segment.program_time);
    out.line(format_args!("#EXT-X-PROGRAM-DATE-TIME:{time}"));
    let from_live = rendition.live().saturating_sub(segment.begins);
    let lists_parts = !segment.complete || from_live <= PARTS_LISTED_TARGETS * window.target_duration();
    if lists_parts && form != PlaylistForm::Stored {
        segment.parts.iter().for_each(|part| write_part(out, part));
    }
    if segment.complete {
        out.line(format_args!("#EXTINF:{},", Seconds(segment.duration)));
        out.uri(format_args!("{MEDIA_PREFIX}{}", segment.name));
        out.line(format_args!(""));
    }
}

fn write_part(out: &mut Rendered, part: &PartEntry) {
    out.put(format_args!("#EXT-X-PART:DURATION={},URI=\"", Seconds(part.duration)));
    out.uri(format_args!("{MEDIA_PREFIX}{}", part.name));
    out.line(format_args!("\"{}", if part.independent { ",INDEPENDENT=YES" } else { "" }));
}

/// What comes next, and where the other renditions are.
fn write_outlook(out: &mut Rendered, window: &Window, rendition: &RenditionWindow) {
    if !rendition.is_ended() {
        let next = window.names().name(rendition.index(), MediaObject::Part(rendition.next_part()));
        out.put(format_args!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\""));
        out.uri(format_args!("{MEDIA_PREFIX}{next}"));
        out.line(format_args!("\""));
    }
    for other in window.renditions().filter(|other| other.index() != rendition.index()) {
        let Some((segment, part)) = other.last_part() else { continue };
        out.put(format_args!("#EXT-X-RENDITION-REPORT:URI=\""));
        out.uri(format_args!("{}", playlist_name(other.index())));
        out.line(format_args!("\",LAST-MSN={segment},LAST-PART={part}"));
    }
}

/// How far ahead of the playlist a request may be (RFC 8216bis section 6.2.5.2), in parts.
pub fn advance_part_limit(part_target: Duration) -> u64 {
    match part_target.as_secs_f64() {
        target if target > 0.0 && target < 1.0 => (3.0 / target).ceil() as u64,
        _ => 3,
    }
}

/// As decimal-floating-point, to the 10 us that a part's length is told in.
struct Seconds(Duration);

impl std::fmt::Display for Seconds {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.5}", self.0.as_secs_f64())
    }
}
