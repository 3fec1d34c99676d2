//! A publisher's media on its way into the track tree: times onto one clock, pictures into packets, sound to the thread
//! that turns it into Opus and back from it.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use tracing::{info, warn};

use super::{
    clock::{Lane, MediaClock},
    flv::{AudioTag, TagTruncated, VideoTag},
    originals::Originals,
    together::Together,
    video::{self, VideoTrack},
};
use crate::{
    codec::{aac::AudioSpecificConfig, opus},
    media::{CaptureStamps, CaptureTime, Codec, ExtendedSeq, Growing, RTP_HEADER_BYTES, TrackFormat},
    rtp::rtcp::NtpTime,
    track::{
        AvcPackets, BadAvc, Batch, ClockReference, LayerIndex, Notice, Publication, Superseded, TrackIndex, TrackPacket,
    },
    transcode::{OpusPacket, SoundEvent, SoundInput},
};

/// Ticks of the sound track per millisecond.
const SOUND_TICKS_PER_MS: u64 = opus::CLOCK_HZ as u64 / 1_000;

/// The media clock counts milliseconds.
const MEDIA_CLOCK_HZ: u32 = 1_000;

/// What in OBS and ffmpeg keeps B-frames out of a stream.
const B_FRAME_SETTING: &str = "In OBS: Settings > Output > Output Mode: Advanced > Streaming; x264: \"bframes=0\" in x264 Options, or Tune: \
                               zerolatency; NVENC, QuickSync, AMF: Max B-frames 0. ffmpeg: -bf 0";

/// Why a publisher's media ends its session.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    #[error("another publisher took the stream over")]
    Superseded,
    #[error("video codec {0} is not taken over RTMP yet: publish H.264")]
    VideoCodec(String),
    #[error(transparent)]
    Tag(#[from] TagTruncated),
    #[error(transparent)]
    Picture(#[from] BadAvc),
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

/// What was said already: each warning once per publication.
#[derive(Default)]
struct Told {
    b_frames: bool,
    b_references: bool,
    undecodable: bool,
    sound: bool,
    sound_lags: bool,
    jumps: u32,
}

impl Media {
    /// `begin` has our two clocks at one moment, now or before.
    pub fn new(publication: Publication, begin: (Instant, SystemTime), reencodes: bool) -> Self {
        Self {
            publication,
            clock: MediaClock::default(),
            video: None,
            video_index: None,
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
        match VideoTag::parse(body)? {
            VideoTag::AvcConfiguration(record) => {
                match &mut self.video {
                    Some(video) => video.configure(&record)?,
                    None => self.video = Some(VideoTrack::new(&record)?),
                }
                self.clock.begin(now);
                self.originals.configure_pictures(&record, &mut self.publication)?;
                self.announce_video(now)
            }
            VideoTag::AvcPicture { composition_ms, data } => {
                let decode_ms = self.clock.map(now, Lane::Video, wire_ms);
                self.tell_jumps();
                let origin = self.origin();
                let captured = |time_ms| Some(origin?.after(time_ms, MEDIA_CLOCK_HZ));
                // Pictures before the configuration cannot be decoded by anybody.
                let Some(video) = &mut self.video else { return Ok(()) };
                let packets = video.handle_picture(now, decode_ms, composition_ms, &data, captured)?;
                let keyframe = video.is_keyframe(&data);
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
            VideoTag::Ignored => Ok(()),
            VideoTag::Unsupported(codec) => Err(MediaError::VideoCodec(codec)),
        }
    }

    /// A whole audio message; what it has for the sound thread.
    ///
    /// # Errors
    /// [`MediaError`]: the session ends. Sound that cannot be used does not end it, the picture goes on.
    pub fn handle_audio(&mut self, now: Instant, wire_ms: u32, body: &Bytes) -> Result<Option<SoundInput>, MediaError> {
        match AudioTag::parse(body)? {
            AudioTag::AacConfiguration(config) => {
                if let Err(error) = AudioSpecificConfig::parse(&config) {
                    self.tell_sound(&error);
                    return Ok(None);
                }
                self.clock.begin(now);
                if self.sound.index.is_none() {
                    let fmtp = opus::STEREO_FMTP.to_owned();
                    let format = TrackFormat { codec: Codec::Opus, fmtp, channels: 2 };
                    self.sound.index = Some(self.add_track(format, SOUND_TICKS_PER_MS)?);
                }
                self.originals.configure_sound(&config, &mut self.publication)?;
                // Some encoders repeat it with every keyframe; a decoder made anew would click.
                if self.sound.config.as_ref() == Some(&config) {
                    return Ok(None);
                }
                // Not a slice: the message it came in may be longer.
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
            AudioTag::Ignored => Ok(None),
            AudioTag::Unsupported(codec) => {
                self.tell_sound(&format_args!("{codec} is not taken over RTMP yet: publish AAC"));
                Ok(None)
            }
        }
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
        warn!(frames, "sound is dropped: turning AAC into Opus does not keep up");
        self.notice("audio-dropped", "Sound is dropped: this server is too busy to turn AAC into Opus".into());
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
            None => self.video_index = Some(self.add_track(format, AvcPackets::TICKS_PER_MS)?),
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

    fn tell_dropped(&mut self) -> Result<(), Superseded> {
        let Some(dropped) = self.video.as_ref().map(|video| video.dropped) else { return Ok(()) };
        if dropped.reordered + dropped.reordered_references > 0 && !self.told.b_frames {
            self.told.b_frames = true;
            self.publication.set_reordered()?;
            let done = if self.reencodes {
                "while somebody watches by WebRTC, the picture is encoded anew without them, which takes CPU time of this server and comes a \
                 little later"
            } else {
                "they are left out, motion is less smooth"
            };
            let code = if self.reencodes { "b-frames-reencoded" } else { "b-frames-dropped" };
            let text =
                format!("The stream has B-frames, which WebRTC viewers cannot be shown: {done}. {B_FRAME_SETTING}");
            self.warn(code, text);
        }
        if dropped.missing_references > 0 && !self.reencodes && !self.told.b_references {
            self.told.b_references = true;
            let text = format!(
                "Pictures of the stream refer to B-frames, which WebRTC viewers cannot be shown: without them the picture stands still \
                 until the next keyframe. {B_FRAME_SETTING}"
            );
            self.warn("b-frames-referenced", text);
        }
        if dropped.undecodable > 0 && !self.told.undecodable {
            self.told.undecodable = true;
            let text = "Pictures were left out because they cannot be decoded: they came before the first keyframe (IDR), \
                        or are damaged";
            self.warn("pictures-undecodable", text.into());
        }
        Ok(())
    }

    fn tell_sound(&mut self, cause: &dyn std::fmt::Display) {
        if !std::mem::replace(&mut self.told.sound, true) {
            self.warn("audio-unsupported", format!("The stream has no sound: {cause}"));
        }
    }

    fn tell_jumps(&mut self) {
        let jumps = self.clock.jumps();
        if jumps == self.told.jumps {
            return;
        }
        if self.told.jumps == 0 {
            let text = "The publisher's timestamps jump; playing goes on where it was";
            self.warn("timestamps-jump", text.into());
        }
        self.told.jumps = jumps;
    }

    fn warn(&mut self, code: &'static str, text: String) {
        warn!(code, "{text}");
        self.notice(code, text);
    }

    fn notice(&mut self, code: &'static str, text: String) {
        self.publication.notice(Notice { code, text });
    }
}
