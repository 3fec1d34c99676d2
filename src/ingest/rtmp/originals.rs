//! A publisher's access units on their way to frame readers: untouched, B-frames and all, on the media clock.

use std::{sync::Arc, time::Instant};

use bytes::Bytes;

use crate::{
    media::AccessUnit,
    track::{Original, OriginalFormat, Publication, Superseded},
};

/// The formats in use.
#[derive(Debug, Default)]
pub struct Originals {
    pictures: Option<Arc<OriginalFormat>>,
    sound: Option<Arc<OriginalFormat>>,
}

impl Originals {
    /// A format of pictures that was found to make sense.
    ///
    /// # Errors
    /// [`Superseded`].
    pub fn configure_pictures(
        &mut self,
        format: OriginalFormat,
        publication: &mut Publication,
    ) -> Result<(), Superseded> {
        configure(&mut self.pictures, format, publication)
    }

    /// A format of sound that was found to make sense.
    ///
    /// # Errors
    /// [`Superseded`].
    pub fn configure_sound(&mut self, format: OriginalFormat, publication: &mut Publication) -> Result<(), Superseded> {
        configure(&mut self.sound, format, publication)
    }

    /// Sound is Opus.
    pub fn has_opus(&self) -> bool {
        matches!(self.sound.as_deref(), Some(OriginalFormat::Opus { .. }))
    }

    /// # Errors
    /// [`Superseded`].
    pub fn picture(
        &mut self,
        now: Instant,
        decode_ms: i64,
        composition_ms: i32,
        keyframe: bool,
        data: Bytes,
        publication: &mut Publication,
    ) -> Result<(), Superseded> {
        let Some(format) = &self.pictures else { return Ok(()) };
        let decode_time_ticks = decode_ms.max(0) as u64;
        let unit = AccessUnit { decode_time_ticks, composition_offset_ticks: composition_ms, keyframe, data };
        publication.push_original(Original { number: 0, format: format.clone(), arrival: now, unit })
    }

    /// # Errors
    /// [`Superseded`].
    pub fn sound(
        &mut self,
        now: Instant,
        time_ms: i64,
        data: Bytes,
        publication: &mut Publication,
    ) -> Result<(), Superseded> {
        let Some(format) = &self.sound else { return Ok(()) };
        let decode_time_ticks = time_ms.max(0) as u64;
        let unit = AccessUnit { decode_time_ticks, composition_offset_ticks: 0, keyframe: true, data };
        publication.push_original(Original { number: 0, format: format.clone(), arrival: now, unit })
    }
}

/// Encoders repeat their configuration; only another one is news.
fn configure(
    known: &mut Option<Arc<OriginalFormat>>,
    format: OriginalFormat,
    publication: &mut Publication,
) -> Result<(), Superseded> {
    if known.as_deref() == Some(&format) {
        return Ok(());
    }
    let format = Arc::new(format);
    *known = Some(format.clone());
    publication.announce_original(format)
}

#[cfg(test)]
#[path = "originals_tests.rs"]
mod tests;
