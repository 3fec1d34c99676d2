//! A publisher's media on its way into the track tree: times onto one clock, pictures into packets, sound to the thread
//! that turns it into Opus and back from it.

mod told;

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use tracing::{info, warn};

use self::told::Told;
use super::{
    clock::{Lane, MediaClock},
    flv::{AudioTag, PictureTag, TagTruncated, Tagged, VideoTag},
    multitrack::MAIN_TRACK,
    originals::Originals,
    side_tracks::{SideTracks, Taken},
    together::Together,
    video::{self, BadPictures, Handled, VideoTrack},
};
use crate::{
    codec::{
        aac::AudioSpecificConfig,
        opus::{self, PacketTimes},
    },
    media::{CaptureStamps, CaptureTime, Codec, ExtendedSeq, Growing, MediaKind, RTP_HEADER_BYTES, TrackFormat},
    rtp::rtcp::NtpTime,
    track::{
        Batch, ClockReference, LayerIndex, OriginalFormat, PAYLOAD_BYTES_MAX, PicturePackets, Publication, Superseded,
        TrackIndex, TrackPacket,
    },
    transcode::{OpusPacket, SoundEvent, SoundInput},
};

/// Ticks of the sound track per millisecond.
const SOUND_TICKS_PER_MS: u64 = opus::CLOCK_HZ as u64 / 1_000;

/// The media clock counts milliseconds.
const MEDIA_CLOCK_HZ: u32 = 1_000;

/// Why a publisher's media ends its session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    #[error("another publisher took the stream over")]
    Superseded,
    #[error("video codec {0} is not taken over RTMP: publish H.264, H.265, AV1, VP9 or VP8")]
    VideoCodec(String),
    #[error(transparent)]
    Tag(#[from] TagTruncated),
    #[error(transparent)]
    Picture(#[from] BadPictures),
}

impl From<Superseded> for MediaError {
    fn from(_: Superseded) -> Self {
        Self::Superseded
    }
}

/// See the module. Dropping it takes the stream off.
pub struct Media {
    publication: Publication,
    clock: MediaClock,
    video: Option<VideoTrack>,
    video_index: Option<TrackIndex>,
    side: SideTracks,
    sound: Sound,
    together: Together,
    originals: Originals,
    made: Made,
    told: Told,
    /// Our two clocks at one moment before the first message.
    begin: (Instant, SystemTime),
    /// Streams with B-frames are encoded anew for WebRTC viewers.
    reencodes: bool,
}

/// RTP packets and their bytes, handed to the tree.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Made {
    pub packets: u64,
    pub bytes: u64,
}

#[derive(Default)]
struct Sound {
    index: Option<TrackIndex>,
    config: Option<Bytes>,
    opus: PacketTimes,
    next_seq: u64,
    ticks: Growing,
    stamps: CaptureStamps,
}

impl Sound {
    fn packet(&mut self, now: Instant, made: OpusPacket, origin: Option<CaptureTime>) -> TrackPacket {
        let seq = ExtendedSeq(self.next_seq);
        self.next_seq += 1;
        let time_ticks = self.ticks.after(made.time_ticks.max(0) as u64);
        let captured = || Some(origin?.after(time_ticks as i64, opus::CLOCK_HZ));
        TrackPacket {
            seq,
            time_ticks,
            arrival: now,
            marker: made.after_gap,
            keyframe_start: false,
            capture: self.stamps.stamp(now, time_ticks, captured),
            payload: made.payload,
        }
    }
}

impl Media {
    /// `begin` has our two clocks at one moment, now or before.
    pub fn new(publication: Publication, begin: (Instant, SystemTime), reencodes: bool) -> Self {
        Self {
            publication,
            clock: MediaClock::default(),
            video: None,
            video_index: None,
            side: SideTracks::default(),
            sound: Sound { next_seq: 1 << 16, ..Sound::default() },
            together: Together::default(),
            originals: Originals::default(),
            made: Made::default(),
            told: Told::default(),
            begin,
            reencodes,
        }
    }

    /// When the media clock's time 0 was captured: RTMP does not say, so it is when that would have arrived. The clock is ours.
    fn origin(&self) -> Option<CaptureTime> {
        let (at, time_ms) = self.clock.anchor()?;
        let NtpTime(ntp) = NtpTime::from_system(self.begin.1 + at.saturating_duration_since(self.begin.0));
        Some(CaptureTime { ntp, clock_offset: 0 }.after(-time_ms, MEDIA_CLOCK_HZ))
    }

    /// A whole video message.
    ///
    /// # Errors
    /// [`MediaError`]: the session ends.
    pub fn handle_video(&mut self, now: Instant, wire_ms: u32, body: &Bytes) -> Result<(), MediaError> {
        let Tagged { tags, left_out } = VideoTag::parse(body)?;
        self.tell_other_tracks(MediaKind::Video, left_out);
        // The main one first: the others' times are beside its.
        let (main, others): (Vec<_>, Vec<_>) = tags.into_iter().partition(|(track, _)| *track == MAIN_TRACK);
        for (_, tag) in main {
            match tag {
                VideoTag::Configuration(codec, record) => self.configure_video(now, codec, &record)?,
                VideoTag::Picture(picture) => self.handle_picture(now, wire_ms, picture)?,
                VideoTag::Ignored => {}
                VideoTag::Unsupported(codec) => return Err(MediaError::VideoCodec(codec)),
            }
        }
        for (track, tag) in others {
            match self.handle_side(now, wire_ms, track, tag)? {
                Taken::Not => self.tell_other_tracks(MediaKind::Video, true),
                Taken::Nothing => {}
                Taken::Packets(layer, packets) => {
                    if let Some(index) = self.video_index {
                        self.together.add_to(now, (index, layer), packets);
                    }
                }
            }
        }
        if self.together.is_full() {
            let batches = self.together.take_all();
            self.push(now, batches)?;
        }
        Ok(())
    }

    /// Of a track beside the main one.
    fn handle_side(&mut self, now: Instant, wire_ms: u32, track: u8, tag: VideoTag) -> Result<Taken, MediaError> {
        let main = self.video.as_ref().map(VideoTrack::codec);
        let picture = match tag {
            VideoTag::Configuration(codec, _) | VideoTag::Picture(PictureTag { codec, .. })
                if main.is_some_and(|main| main != codec) =>
            {
                return Ok(Taken::Not);
            }
            VideoTag::Configuration(codec, record) => return Ok(self.side.configure(track, codec, &record)?),
            VideoTag::Picture(picture) => picture,
            VideoTag::Ignored => return Ok(Taken::Nothing),
            VideoTag::Unsupported(_) => return Ok(Taken::Not),
        };
        let decode_ms = self.clock.beside(now, Lane::Video, wire_ms);
        let Some((index, decode_ms)) = self.video_index.zip(decode_ms) else { return Ok(Taken::Nothing) };
        let origin = self.origin();
        let captured = |time_ms| Some(origin?.after(time_ms, MEDIA_CLOCK_HZ));
        self.side.handle_picture(now, track, decode_ms, picture, captured, (index, &mut self.publication))
    }

    fn configure_video(&mut self, now: Instant, codec: Codec, record: &Bytes) -> Result<(), MediaError> {
        match &mut self.video {
            Some(video) if video.codec() == codec => video.configure(record)?,
            // Another codec begins anew, numbers and all: its format is another, and so the track's packets before are of no use.
            place => {
                *place = Some(VideoTrack::new(codec, record)?);
                (self.told.b_frames, self.told.b_references) = (false, false);
                self.side.keep(codec);
                self.publication.set_reordered(false)?;
            }
        }
        self.clock.begin(now);
        if let Some(video) = &self.video {
            self.originals.configure_pictures(video.original(record), &mut self.publication)?;
        }
        self.announce_video(now)
    }

    fn handle_picture(&mut self, now: Instant, wire_ms: u32, picture: PictureTag) -> Result<(), MediaError> {
        let decode_ms = self.clock.map(now, Lane::Video, wire_ms);
        self.tell_jumps();
        if self.video.as_ref().is_none_or(|video| video.codec() != picture.codec) {
            // These need no configuration; of others pictures before it cannot be decoded by anybody.
            if !matches!(picture.codec, Codec::Vp8 | Codec::Vp9) {
                return Ok(());
            }
            self.configure_video(now, picture.codec, &Bytes::new())?;
        }
        let origin = self.origin();
        let captured = |time_ms| Some(origin?.after(time_ms, MEDIA_CLOCK_HZ));
        let Some(video) = &mut self.video else { return Ok(()) };
        let Handled { packets, keyframe } = video.handle_picture(now, decode_ms, &picture, captured)?;
        if keyframe {
            self.tell_encoder();
        }
        let PictureTag { composition_ms, data, .. } = picture;
        self.originals.picture(now, decode_ms, composition_ms, keyframe, data, &mut self.publication)?;
        if packets.is_empty() {
            return Ok(self.tell_dropped()?);
        }
        if packets.iter().any(|packet| packet.keyframe_start) {
            self.announce_video(now)?;
        }
        if let Some(index) = self.video_index {
            self.together.add(now, index, packets);
        }
        Ok(())
    }

    /// A whole audio message; what it has for the sound thread.
    ///
    /// # Errors
    /// [`MediaError`]: the session ends. Sound that cannot be used does not end it, the picture goes on.
    pub fn handle_audio(&mut self, now: Instant, wire_ms: u32, body: &Bytes) -> Result<Option<SoundInput>, MediaError> {
        let Tagged { tags, left_out } = AudioTag::parse(body)?;
        let (main, others): (Vec<_>, Vec<_>) = tags.into_iter().partition(|(track, _)| *track == MAIN_TRACK);
        self.tell_other_tracks(MediaKind::Audio, left_out || !others.is_empty());
        let Some((_, tag)) = main.into_iter().next() else { return Ok(None) };
        match tag {
            AudioTag::AacConfiguration(config) => {
                if let Err(error) = AudioSpecificConfig::parse(&config) {
                    self.tell_sound(&error);
                    return Ok(None);
                }
                self.begin_sound(now)?;
                // Not a slice: the message it came in may be longer.
                let kept = OriginalFormat::Aac(Bytes::copy_from_slice(&config));
                self.originals.configure_sound(kept, &mut self.publication)?;
                // Some encoders repeat it with every keyframe; a decoder made anew would click.
                if self.sound.config.as_ref() == Some(&config) {
                    return Ok(None);
                }
                self.sound.config = Some(Bytes::copy_from_slice(&config));
                self.together.sound_begun();
                Ok(Some(SoundInput::Config(config)))
            }
            AudioTag::AacFrame(data) => {
                let time_ms = self.clock.map(now, Lane::Audio, wire_ms);
                self.tell_jumps();
                if self.sound.config.is_none() {
                    return Ok(None);
                }
                self.originals.sound(now, time_ms, data.clone(), &mut self.publication)?;
                self.together.sound_begun();
                Ok(Some(SoundInput::Frame { data, time_ms }))
            }
            AudioTag::OpusConfiguration(head) => {
                self.configure_opus(now, &head)?;
                Ok(None)
            }
            AudioTag::OpusPacket(packet) => {
                self.handle_opus(now, wire_ms, &packet)?;
                Ok(None)
            }
            AudioTag::Ignored => Ok(None),
            AudioTag::Unsupported(codec) => {
                self.tell_sound(&format_args!("{codec} is not taken over RTMP: publish AAC or Opus"));
                Ok(None)
            }
        }
    }

    /// Whichever codec comes, viewers by WebRTC get Opus.
    fn begin_sound(&mut self, now: Instant) -> Result<(), MediaError> {
        self.clock.begin(now);
        if self.sound.index.is_none() {
            let format = TrackFormat { codec: Codec::Opus, fmtp: opus::STEREO_FMTP.to_owned(), channels: 2 };
            self.sound.index = Some(self.add_track(format, SOUND_TICKS_PER_MS)?);
        }
        Ok(())
    }

    /// An identification header, of which the channels are of interest (RFC 7845 section 5.1).
    fn configure_opus(&mut self, now: Instant, head: &[u8]) -> Result<(), MediaError> {
        const CHANNELS_AT: usize = 9;
        let channels = head.get(CHANNELS_AT).copied().filter(|_| head.starts_with(b"OpusHead")).unwrap_or(2);
        if !(1..=2).contains(&channels) {
            self.tell_sound(&format_args!("{channels} channels of Opus, which WebRTC has not: publish stereo"));
            return Ok(());
        }
        self.begin_sound(now)?;
        // Frames of AAC that come now are of before.
        self.sound.config = None;
        Ok(self.originals.configure_sound(OriginalFormat::Opus { channels }, &mut self.publication)?)
    }

    /// Packets go on as they are.
    fn handle_opus(&mut self, now: Instant, wire_ms: u32, packet: &Bytes) -> Result<(), MediaError> {
        let time_ms = self.clock.map(now, Lane::Audio, wire_ms);
        self.tell_jumps();
        if !self.originals.has_opus() {
            // Refused, or not announced.
            return Ok(());
        }
        self.originals.sound(now, time_ms, packet.clone(), &mut self.publication)?;
        if packet.len() > PAYLOAD_BYTES_MAX {
            self.tell_sound(&"packets of Opus are too long");
            return Ok(());
        }
        let Some(placed) = self.sound.opus.place(time_ms * SOUND_TICKS_PER_MS as i64, packet) else { return Ok(()) };
        if let Some(index) = self.sound.index {
            let made =
                OpusPacket { time_ticks: placed.time_ticks, after_gap: placed.after_gap, payload: packet.clone() };
            let origin = self.origin();
            self.together.add(now, index, [Arc::new(self.sound.packet(now, made, origin))]);
        }
        Ok(())
    }

    /// What the sound thread made of one input.
    pub fn handle_sound(&mut self, now: Instant, event: SoundEvent) {
        self.together.sound_done(1);
        match event {
            SoundEvent::Made(made) => {
                let Some(index) = self.sound.index else { return };
                let origin = self.origin();
                for made in made {
                    self.together.add(now, index, [Arc::new(self.sound.packet(now, made, origin))]);
                }
            }
            SoundEvent::Failed(error) => self.tell_sound(&error),
        }
    }

    /// What came and what was made goes to the tree, unless it waits for sound.
    ///
    /// # Errors
    /// [`MediaError::Superseded`].
    pub fn flush(&mut self, now: Instant) -> Result<(), MediaError> {
        let batches = self.together.take(now);
        self.push(now, batches)
    }

    fn push(&mut self, now: Instant, batches: Vec<Batch>) -> Result<(), MediaError> {
        for packet in batches.iter().flat_map(|batch| &batch.packets) {
            self.made.packets += 1;
            self.made.bytes += (RTP_HEADER_BYTES + packet.payload.len()) as u64;
        }
        Ok(self.publication.push(now, batches)?)
    }

    /// What was made of the publisher's media since the last call.
    pub fn take_made(&mut self) -> Made {
        std::mem::take(&mut self.made)
    }

    /// When [`Self::flush`] is to be called at the latest.
    pub fn flush_due(&self) -> Option<Instant> {
        self.together.due()
    }

    /// The sound thread could not keep up.
    pub fn sound_lags(&mut self, frames: u64) {
        self.together.sound_done(u32::try_from(frames).unwrap_or(u32::MAX));
        if std::mem::replace(&mut self.told.sound_lags, true) {
            return;
        }
        warn!(frames, "sound is dropped: turning AAC into Opus does not keep up, or has no thread");
        let text = "Sound is dropped: this server is too busy to turn AAC into Opus, or its system gives it no more threads; its log says which";
        self.notice("audio-dropped", text.into());
    }

    /// What was left out and what was made good, for the session's end.
    pub fn log_dropped(&self) {
        let drifted_ms = self.clock.drifted_ms();
        if drifted_ms != 0 {
            info!(drifted_ms, "the sound's times fell behind the pictures'; pictures were moved");
        }
        if let Some(dropped) =
            self.video.as_ref().map(|video| video.dropped).filter(|d| *d != video::Dropped::default())
        {
            info!(
                reordered = dropped.reordered,
                reordered_references = dropped.reordered_references,
                missing_references = dropped.missing_references,
                undecodable = dropped.undecodable,
                "pictures that were not sent to WebRTC viewers"
            );
        }
    }

    /// Makes the video track, or follows a change of profile, level or size that its format shows.
    fn announce_video(&mut self, now: Instant) -> Result<(), MediaError> {
        let Some(format) = self.video.as_ref().and_then(VideoTrack::format) else { return Ok(()) };
        // What waits is of the old format.
        let batches = self.together.take_all();
        self.push(now, batches)?;
        match self.video_index {
            None => self.video_index = Some(self.add_track(format, PicturePackets::TICKS_PER_MS)?),
            Some(index) => self.publication.set_format(index, format)?,
        }
        Ok(())
    }

    /// Adds a track whose clock is the media clock: both tracks have the same anchor, so that sender reports keep picture
    /// and sound together.
    fn add_track(&mut self, format: TrackFormat, ticks_per_ms: u64) -> Result<TrackIndex, MediaError> {
        info!(codec = %format.codec, fmtp = format.fmtp, "track");
        let index = self.publication.add_track(format)?;
        if let Some((at, time_ms)) = self.clock.anchor() {
            let time_ticks = time_ms.max(0) as u64 * ticks_per_ms;
            self.publication.set_clock(index, LayerIndex(0), ClockReference { at, time_ticks, by_report: false })?;
        }
        Ok(index)
    }
}
