//! The publisher: a file of pictures over and over, and a sine for the sound.

use std::{
    io::Cursor,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rtc::{
    media::{Sample, io::h26x_reader::H26xSampleReader},
    media_stream::MediaStreamTrack,
    peer_connection::configuration::media_engine::{MIME_TYPE_H264, MIME_TYPE_OPUS},
    rtp_transceiver::{
        SSRC,
        rtp_sender::{RTCRtpCodec, RTCRtpCodingParameters, RTCRtpEncodingParameters, RtpCodecKind},
    },
};
use webrtc::{
    media_stream::{
        Track,
        track_local::{TrackLocal, static_sample::TrackLocalStaticSample},
    },
    peer_connection::PeerConnection,
    rtp_transceiver::RtpSender,
};

use crate::{Failure, connection, negotiate};

const PICTURE: Duration = Duration::from_nanos(1_000_000_000 / 30);
const SOUND: Duration = Duration::from_millis(20);
const SOUND_HZ: u32 = 48_000;
const SOUND_SAMPLES: usize = 960;
const HUM_HZ: f32 = 440.0;
/// A NAL unit of the canned streams has a few hundred bytes.
const NAL_BYTES_MAX: usize = 1 << 20;

pub async fn run(url: &reqwest::Url, video: &Path) -> Result<String, Failure> {
    let film = std::fs::read(video)?;
    let (peer, handler, _tracks) = connection().await?;
    let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    let pictures = track(RtpCodecKind::Video, 1, codec(MIME_TYPE_H264, 90_000, 0, h264))?;
    let sound = track(RtpCodecKind::Audio, 2, codec(MIME_TYPE_OPUS, SOUND_HZ, 2, "minptime=10;useinbandfec=1"))?;
    let video_sender = peer.add_track(pictures.clone() as Arc<dyn TrackLocal>).await?;
    let audio_sender = peer.add_track(sound.clone() as Arc<dyn TrackLocal>).await?;
    negotiate(&peer, &handler, url).await?;
    let pictures = send_pictures(pictures, payload_type(video_sender).await?, film);
    let sound = send_sound(sound, payload_type(audio_sender).await?);
    tokio::try_join!(pictures, sound)?;
    Ok(String::new())
}

fn codec(mime_type: &str, clock_rate: u32, channels: u16, parameters: &str) -> RTCRtpCodec {
    RTCRtpCodec {
        mime_type: mime_type.to_owned(),
        clock_rate,
        channels,
        sdp_fmtp_line: parameters.to_owned(),
        rtcp_feedback: vec![],
    }
}

fn track(kind: RtpCodecKind, ssrc: SSRC, codec: RTCRtpCodec) -> Result<Arc<TrackLocalStaticSample>, Failure> {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters { ssrc: Some(ssrc), ..Default::default() },
        codec,
        ..Default::default()
    };
    let track = MediaStreamTrack::new("stream".to_owned(), kind.to_string(), kind.to_string(), kind, vec![encoding]);
    Ok(Arc::new(TrackLocalStaticSample::new(Instant::now(), track)?))
}

/// The one that the answer chose.
async fn payload_type(sender: Arc<dyn RtpSender>) -> Result<u8, Failure> {
    let parameters = sender.get_parameters().await?.rtp_parameters;
    Ok(parameters.codecs.first().ok_or("the answer has no codec for what is sent")?.payload_type)
}

async fn send_pictures(track: Arc<TrackLocalStaticSample>, payload_type: u8, film: Vec<u8>) -> Result<(), Failure> {
    let ssrc = *track.ssrcs().await.first().ok_or("a track without an SSRC")?;
    let mut ticker = tokio::time::interval(PICTURE);
    loop {
        let mut reader = H26xSampleReader::new(Cursor::new(film.clone()), NAL_BYTES_MAX, false);
        while let Ok(unit) = reader.next_sample() {
            let duration = if unit.timed { PICTURE } else { Duration::ZERO };
            let sample = Sample { data: unit.data, duration, ..Sample::new(Instant::now()) };
            track.sample_writer(ssrc, payload_type).write_sample(&sample).await?;
            if unit.timed {
                ticker.tick().await;
            }
        }
    }
}

async fn send_sound(track: Arc<TrackLocalStaticSample>, payload_type: u8) -> Result<(), Failure> {
    let ssrc = *track.ssrcs().await.first().ok_or("a track without an SSRC")?;
    let mut encoder = opus::Encoder::new(SOUND_HZ, opus::Channels::Stereo, opus::Application::Audio)?;
    let mut ticker = tokio::time::interval(SOUND);
    let mut at = 0u32;
    loop {
        let mut samples = [0.0; SOUND_SAMPLES * 2];
        for pair in samples.chunks_exact_mut(2) {
            pair.fill((at as f32 * HUM_HZ * std::f32::consts::TAU / SOUND_HZ as f32).sin() * 0.3);
            // A whole number of hums.
            at = (at + 1) % SOUND_HZ;
        }
        let frame = encoder.encode_vec_float(&samples, 1_000)?;
        let sample = Sample { data: frame.into(), duration: SOUND, ..Sample::new(Instant::now()) };
        track.sample_writer(ssrc, payload_type).write_sample(&sample).await?;
        ticker.tick().await;
    }
}
