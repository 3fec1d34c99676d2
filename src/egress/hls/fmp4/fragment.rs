//! A CMAF chunk: `moof`, which says where samples are and when, and `mdat`, which holds them (ISO/IEC 14496-12 section 8.8).

use bytes::Bytes;

use super::boxes::BoxWriter;

/// One access unit in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    pub duration_ticks: u32,
    /// Presentation time minus decode time.
    pub composition_ticks: i32,
    /// Decoding can begin with it.
    pub sync: bool,
    pub data: Bytes,
}

/// The only track's number.
pub(super) const TRACK_ID: u32 = 1;

/// `default-base-is-moof`: offsets count from the `moof`, whatever file the chunk ends up in.
const TFHD_BASE_IS_MOOF: u32 = 0x02_0000;
/// Data offset, and of each sample duration, size, flags and composition offset.
const TRUN_FLAGS: u32 = 0x000f01;
/// `sample_depends_on` 2: on no other.
const SYNC_SAMPLE_FLAGS: u32 = 0x0200_0000;
/// `sample_depends_on` 1, `sample_is_non_sync_sample`.
const OTHER_SAMPLE_FLAGS: u32 = 0x0101_0000;

/// Writes samples, the first of which is decoded at `decode_ticks`. `sequence` counts the chunks of a rendition, from 1.
pub fn write_fragment(sequence: u32, decode_ticks: u64, samples: &[Sample]) -> Bytes {
    let media_bytes: usize = samples.iter().map(|sample| sample.data.len()).sum();
    // 100 bytes of headers, 16 for each sample, and those of the `mdat`.
    let mut w = BoxWriter::with_capacity(128 + 16 * samples.len() + media_bytes);
    let mut offset_at = 0;
    w.within(b"moof", |w| {
        w.within_full(b"mfhd", 0, 0, |w| w.u32(sequence));
        w.within(b"traf", |w| {
            w.within_full(b"tfhd", 0, TFHD_BASE_IS_MOOF, |w| w.u32(TRACK_ID));
            w.within_full(b"tfdt", 1, 0, |w| w.u64(decode_ticks));
            w.within_full(b"trun", 1, TRUN_FLAGS, |w| {
                w.u32(samples.len() as u32);
                offset_at = w.len();
                w.u32(0);
                for sample in samples {
                    w.u32(sample.duration_ticks);
                    w.u32(sample.data.len() as u32);
                    w.u32(if sample.sync { SYNC_SAMPLE_FLAGS } else { OTHER_SAMPLE_FLAGS });
                    w.u32(sample.composition_ticks as u32);
                }
            });
        });
    });
    const MDAT_HEADER_BYTES: usize = 8;
    let data_offset = (w.len() + MDAT_HEADER_BYTES) as u32;
    w.set_u32(offset_at, data_offset);
    w.within(b"mdat", |w| samples.iter().for_each(|sample| w.raw(&sample.data)));
    w.into_bytes().into()
}
