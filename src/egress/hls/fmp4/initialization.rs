//! The CMAF header: `ftyp` and a `moov` without samples (ISO/IEC 14496-12 section 8.2, 23000-19 section 7.3).

use bytes::Bytes;

use super::{boxes::BoxWriter, fragment::TRACK_ID, sample_entry::SampleFormat};
use crate::media::MediaKind;

/// What a header says beside the codec's own words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackHeader {
    pub timescale_hz: u32,
    pub format: SampleFormat,
}

/// 1.0 as 16.16 fixed point.
const ONE: u32 = 0x0001_0000;
/// `und`, in five bits each.
const LANGUAGE_UNDETERMINED: u16 = 0x55c4;

pub fn write_initialization(track: &TrackHeader) -> Bytes {
    let mut w = BoxWriter::with_capacity(1_024);
    w.within(b"ftyp", |w| {
        w.raw(b"iso6");
        w.u32(0);
        for brand in [b"iso6", b"cmfc", b"mp41"] {
            w.raw(brand);
        }
    });
    w.within(b"moov", |w| {
        w.within_full(b"mvhd", 0, 0, |w| {
            w.zeros(8);
            w.u32(1_000);
            w.u32(0);
            w.u32(ONE);
            w.u16(0x0100);
            w.zeros(10);
            matrix(w);
            w.zeros(24);
            w.u32(TRACK_ID + 1);
        });
        w.within(b"trak", |w| write_track(w, track));
        w.within(b"mvex", |w| {
            w.within_full(b"trex", 0, 0, |w| {
                w.u32(TRACK_ID);
                w.u32(1);
                w.zeros(12);
            });
        });
    });
    w.into_bytes().into()
}

fn write_track(w: &mut BoxWriter, track: &TrackHeader) {
    let kind = track.format.kind();
    const ENABLED_IN_MOVIE: u32 = 3;
    w.within_full(b"tkhd", 0, ENABLED_IN_MOVIE, |w| {
        w.zeros(8);
        w.u32(TRACK_ID);
        w.zeros(8);
        w.zeros(8);
        w.u16(0);
        // Tracks of one group are alternatives; picture and sound are not.
        w.u16(u16::from(kind == MediaKind::Audio));
        w.u16(if kind == MediaKind::Audio { 0x0100 } else { 0 });
        w.u16(0);
        matrix(w);
        let size = track.format.size();
        w.u32(size.map_or(0, |size| size.width << 16));
        w.u32(size.map_or(0, |size| size.height << 16));
    });
    w.within(b"mdia", |w| {
        w.within_full(b"mdhd", 0, 0, |w| {
            w.zeros(8);
            w.u32(track.timescale_hz);
            w.u32(0);
            w.u16(LANGUAGE_UNDETERMINED);
            w.u16(0);
        });
        w.within_full(b"hdlr", 0, 0, |w| {
            w.u32(0);
            w.raw(if kind == MediaKind::Audio { b"soun" } else { b"vide" });
            w.zeros(12);
            w.raw(if kind == MediaKind::Audio { b"sound\0" } else { b"pictures\0" });
        });
        w.within(b"minf", |w| {
            match kind {
                MediaKind::Video => w.within_full(b"vmhd", 0, 1, |w| w.zeros(8)),
                MediaKind::Audio => w.within_full(b"smhd", 0, 0, |w| w.zeros(4)),
            }
            w.within(b"dinf", |w| {
                w.within_full(b"dref", 0, 0, |w| {
                    w.u32(1);
                    const SELF_CONTAINED: u32 = 1;
                    w.within_full(b"url ", 0, SELF_CONTAINED, |_| {});
                });
            });
            w.within(b"stbl", |w| {
                w.within_full(b"stsd", 0, 0, |w| {
                    w.u32(1);
                    track.format.write(w);
                });
                for name in [b"stts", b"stsc", b"stco"] {
                    w.within_full(name, 0, 0, |w| w.u32(0));
                }
                w.within_full(b"stsz", 0, 0, |w| w.zeros(8));
            });
        });
    });
}

fn matrix(w: &mut BoxWriter) {
    for value in [ONE, 0, 0, 0, ONE, 0, 0, 0, 0x4000_0000] {
        w.u32(value);
    }
}
