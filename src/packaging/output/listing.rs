//! What a store is to have of a packaged stream at one moment.

use std::time::Duration;

use bytes::Bytes;

use crate::egress::hls::{
    PlaylistForm, RenditionIndex, RenditionWindow, Segment, Window, media_playlist, multivariant_playlist,
};

/// See the module.
pub struct Listing {
    /// Those with news.
    pub renditions: Vec<ListedRendition>,
    /// The playlist that names the others; `None` without news, and while one of them has no whole segment.
    pub multivariant: Option<String>,
    /// For so long may be asked for what is listed no more (RFC 8216bis section 6.2.2): as long as a playlist lasts, and a target duration.
    pub hold: Duration,
    /// There will be nothing more.
    pub is_ended: bool,
}

/// A rendition's whole segments.
pub struct ListedRendition {
    pub index: RenditionIndex,
    /// The media sequence number of the first that is listed.
    pub first: u64,
    /// Those that are to be stored, oldest first.
    pub segments: Vec<ListedSegment>,
    /// Of all that are listed.
    pub playlist: String,
}

/// Media, and what initializes its decoder: names and bytes, as many runs one behind the other.
pub struct ListedSegment {
    pub number: u64,
    pub name: String,
    pub runs: Vec<Bytes>,
    pub initialization: (String, Bytes),
}

impl Listing {
    /// `next` tells from which media sequence number on a rendition's segments are wanted. A rendition without any is left out, unless
    /// the stream has ended, which its playlist then says.
    pub fn of(window: &Window, next: impl Fn(RenditionIndex) -> u64) -> Self {
        let is_ended = window.is_ended();
        let listed = |rendition: &RenditionWindow| -> Option<ListedRendition> {
            let index = rendition.index();
            let from = next(index);
            let first = whole(rendition).next()?.number;
            if !is_ended && whole(rendition).next_back().is_none_or(|last| last.number < from) {
                return None;
            }
            Some(ListedRendition {
                index,
                first,
                segments: whole(rendition).filter(|segment| segment.number >= from).map(ListedSegment::of).collect(),
                playlist: media_playlist(window, rendition, PlaylistForm::Stored).text().to_owned(),
            })
        };
        let renditions: Vec<_> = window.renditions().filter_map(listed).collect();
        let all_begun = window
            .renditions()
            .filter(|rendition| !rendition.is_ended())
            .all(|going_on| whole(going_on).next().is_some());
        let multivariant =
            (!renditions.is_empty() && all_begun).then(|| multivariant_playlist(window).text().to_owned());
        let lasts = |rendition: &RenditionWindow| rendition.listed().map(|segment| segment.duration).sum();
        let hold = window.renditions().map(lasts).max().unwrap_or(Duration::ZERO) + window.target_duration();
        Self { renditions, multivariant, hold, is_ended }
    }
}

impl ListedSegment {
    fn of(segment: &Segment) -> Self {
        Self {
            number: segment.number,
            name: segment.name.clone(),
            runs: segment.parts.iter().map(|part| part.bytes.clone()).collect(),
            initialization: (segment.initialization.name.clone(), segment.initialization.bytes.clone()),
        }
    }
}

fn whole(rendition: &RenditionWindow) -> impl DoubleEndedIterator<Item = &Segment> {
    rendition.listed().filter(|segment| segment.complete)
}
