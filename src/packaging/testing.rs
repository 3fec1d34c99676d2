//! Made-up media for tests of what serves it.

use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::{PackagedStream, PackagingSettings};
use crate::{
    egress::hls::{Output, PackagerSettings, Part, RenditionDescription, RenditionIndex, WindowSettings},
    media::MediaKind,
};

pub const VIDEO: RenditionIndex = RenditionIndex(0);
pub const AUDIO: RenditionIndex = RenditionIndex(1);
const PART: Duration = Duration::from_millis(200);

pub fn settings() -> PackagingSettings {
    PackagingSettings {
        enabled: true,
        window: WindowSettings {
            segments: 6,
            dvr: Duration::ZERO,
            segment_target: Duration::from_secs(2),
            bytes_max: 1_000_000,
        },
        packager: PackagerSettings::default(),
        always_on: false,
        output: None,
        idle: Duration::from_secs(30),
        away: Duration::from_secs(20),
        streams_max: 2,
        waiting_max: 8,
        client_waiting_max: 4,
    }
}

/// Pictures and sound begin, one part each.
pub fn begin(packaged: &PackagedStream) {
    let mut outputs = vec![initialization(VIDEO), initialization(AUDIO)];
    packaged.take(&mut outputs, None);
    part(packaged, VIDEO, true);
    part(packaged, AUDIO, true);
}

/// One of them begins, with one part.
pub fn begin_alone(packaged: &PackagedStream, rendition: RenditionIndex) {
    packaged.take(&mut vec![initialization(rendition)], None);
    part(packaged, rendition, true);
}

fn initialization(rendition: RenditionIndex) -> Output {
    let (kind, codecs) =
        if rendition == VIDEO { (MediaKind::Video, "avc1.64001f") } else { (MediaKind::Audio, "mp4a.40.2") };
    let description =
        RenditionDescription { kind, codecs: codecs.into(), size: None, frame_rate: None, channels: None, rid: None };
    Output::Initialization {
        rendition,
        boundary: 0,
        joins: false,
        description,
        bytes: Bytes::from_static(b"initialization"),
        part_target: PART,
    }
}

pub fn part(packaged: &PackagedStream, rendition: RenditionIndex, begins_segment: bool) {
    let part = Part {
        bytes: Bytes::from_static(b"moof and mdat"),
        duration: PART,
        independent: begins_segment,
        begins_segment,
        captured: SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000),
    };
    packaged.take(&mut vec![Output::Part { rendition, part }], None);
}

/// So many whole segments, and the first part of the next.
pub fn segments(packaged: &PackagedStream, rendition: RenditionIndex, count: usize) {
    for at in 0..count * 10 {
        part(packaged, rendition, at % 10 == 9);
    }
}

/// Nothing is to come of either.
pub fn leave(packaged: &PackagedStream) {
    packaged.take(&mut vec![Output::Ended { rendition: VIDEO }, Output::Ended { rendition: AUDIO }], None);
}

/// As a server does that is stopping.
pub fn stop(packaged: &PackagedStream) {
    packaged.stop("the server is stopping");
}
