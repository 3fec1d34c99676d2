//! An access unit: one picture or one audio frame, whole, as encoders make and decoders take them.

use bytes::Bytes;

/// One coded picture or audio frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccessUnit {
    /// Decode time, in ticks of the track's clock, widened.
    pub decode_time_ticks: u64,
    /// Presentation time minus decode time, in ticks; 0 without B-frames. Negative values occur (Enhanced RTMP, FLV).
    pub composition_offset_ticks: i32,
    pub keyframe: bool,
    /// Codec data: H.264 as NAL units with 4-byte lengths, audio as one raw frame.
    pub data: Bytes,
}
