//! Further tracks of pictures (Enhanced RTMP v2, multitrack): the same pictures in other sizes. They become layers beside the main track's, for
//! WebRTC viewers to choose among, and variants of HLS. Their times are on the main track's timeline.

use std::{sync::Arc, time::Instant};

use arrayvec::ArrayVec;
use bytes::Bytes;

use super::{
    flv::PictureTag,
    media::MediaError,
    video::{BadPictures, Handled, VideoTrack},
};
use crate::{
    media::{AccessUnit, CaptureTime, Codec},
    track::{LAYERS_MAX, LayerIndex, Original, OriginalFormat, Publication, TrackIndex, TrackPacket},
};

/// Beside the main one.
const SIDE_TRACKS_MAX: usize = LAYERS_MAX - 1;

/// What becomes of something that came of a track.
#[derive(Debug)]
pub enum Taken {
    /// It is left out: there are too many tracks, or it has another codec than the main one.
    Not,
    /// There is nothing to be sent.
    Nothing,
    /// A picture's packets, of its layer.
    Packets(LayerIndex, Vec<Arc<TrackPacket>>),
}

/// See the module.
#[derive(Debug, Default)]
pub struct SideTracks {
    tracks: ArrayVec<SideTrack, SIDE_TRACKS_MAX>,
}

#[derive(Debug)]
struct SideTrack {
    id: u8,
    video: VideoTrack,
    format: Arc<OriginalFormat>,
    /// The layer's name.
    rid: Arc<str>,
    /// From its first keyframe on.
    layer: Option<LayerIndex>,
    /// Of the last picture.
    number: u64,
}

impl SideTracks {
    pub fn is_empty(&self) -> bool {
        self.tracks.is_empty()
    }

    /// The main track has this codec from now on, and layers of one track have one codec.
    pub fn keep(&mut self, codec: Codec) {
        self.tracks.retain(|track| track.video.codec() == codec);
        // Their layers begin anew with their next keyframes.
        self.tracks.iter_mut().for_each(|track| track.layer = None);
    }

    /// A decoder configuration came, the first or another.
    ///
    /// # Errors
    /// When it makes no sense.
    pub fn configure(&mut self, id: u8, codec: Codec, record: &Bytes) -> Result<Taken, BadPictures> {
        if let Some(known) = self.tracks.iter_mut().find(|track| track.id == id && track.video.codec() == codec) {
            known.video.configure(record)?;
            // Encoders repeat their configuration; only another one is news.
            let format = known.video.original(record);
            if *known.format != format {
                known.format = Arc::new(format);
            }
            return Ok(Taken::Nothing);
        }
        self.tracks.retain(|track| track.id != id);
        let video = VideoTrack::new(codec, record)?;
        let format = Arc::new(video.original(record));
        let rid = format!("track-{id}").into();
        let track = SideTrack { id, video, format, rid, layer: None, number: 0 };
        Ok(if self.tracks.try_push(track).is_ok() { Taken::Nothing } else { Taken::Not })
    }

    /// A picture of a track: the packets of its layer, which begins with a keyframe.
    ///
    /// # Errors
    /// [`MediaError`]: the session ends.
    pub fn handle_picture(
        &mut self,
        now: Instant,
        id: u8,
        decode_ms: i64,
        picture: PictureTag,
        captured: impl FnOnce(i64) -> Option<CaptureTime>,
        (main, publication): (TrackIndex, &mut Publication),
    ) -> Result<Taken, MediaError> {
        let is_known = |track: &SideTrack| track.id == id && track.video.codec() == picture.codec;
        if !self.tracks.iter().any(is_known) {
            // These need no configuration; of others pictures before it cannot be decoded by anybody.
            if !matches!(picture.codec, Codec::Vp8 | Codec::Vp9) {
                return Ok(Taken::Nothing);
            }
            self.configure(id, picture.codec, &Bytes::new())?;
        }
        let Some(track) = self.tracks.iter_mut().find(|track| track.id == id) else { return Ok(Taken::Not) };
        let Handled { packets, keyframe } = track.video.handle_picture(now, decode_ms, &picture, captured)?;
        let layer = match track.layer {
            Some(layer) => layer,
            None if !keyframe => return Ok(Taken::Nothing),
            None => match publication.add_layer(main, &track.rid)? {
                Some(layer) => *track.layer.insert(layer),
                None => return Ok(Taken::Not),
            },
        };
        let PictureTag { composition_ms, data, .. } = picture;
        track.number += 1;
        let decode_time_ticks = decode_ms.max(0) as u64;
        let unit = AccessUnit { decode_time_ticks, composition_offset_ticks: composition_ms, keyframe, data };
        let original = Original { number: track.number, format: track.format.clone(), arrival: now, unit };
        publication.push_layer_original(main, layer, &track.rid, original)?;
        Ok(if packets.is_empty() { Taken::Nothing } else { Taken::Packets(layer, packets) })
    }
}
