//! The player: counts whole pictures, keyframes and frames of sound that can be decoded.

use std::sync::Arc;

use rtc::rtp_transceiver::{RTCRtpTransceiverDirection, RTCRtpTransceiverInit, rtp_sender::RtpCodecKind};
use webrtc::{
    media_stream::track_remote::{TrackRemote, TrackRemoteEvent},
    peer_connection::PeerConnection,
};

use crate::{Failure, TRACKS, connection, negotiate, patiently};

/// What came of one track.
#[derive(Debug)]
struct Heard {
    kind: RtpCodecKind,
    codec: String,
    /// Pictures that ended, or frames of sound that decoded.
    units: u64,
    /// The level of the sound, as the mean square of its samples.
    energy: f64,
}

pub async fn run(url: &reqwest::Url, pictures: u64, sounds: u64) -> Result<String, Failure> {
    let (peer, handler, mut tracks) = connection().await?;
    for kind in [RtpCodecKind::Video, RtpCodecKind::Audio] {
        let only = RTCRtpTransceiverInit { direction: RTCRtpTransceiverDirection::Recvonly, ..Default::default() };
        peer.add_transceiver_from_kind(kind, Some(only)).await?;
    }
    let session = negotiate(&peer, &handler, url).await?;
    let mut readers = tokio::task::JoinSet::new();
    for _ in 0..TRACKS {
        let track =
            patiently("track of pictures and one of sound", tracks.recv()).await?.ok_or("the connection ended")?;
        readers.spawn(read(track, pictures, sounds));
    }
    let mut report = serde_json::Map::new();
    while let Some(read) = patiently("pictures and sound", readers.join_next()).await? {
        let heard = read??;
        let name = if heard.kind == RtpCodecKind::Video { "video" } else { "audio" };
        let value = serde_json::json!({ "codec": heard.codec, "units": heard.units, "energy": heard.energy });
        report.insert(name.to_owned(), value);
    }
    let left = reqwest::Client::new().delete(session).send().await?;
    report.insert("left".to_owned(), left.status().as_u16().into());
    peer.close().await?;
    Ok(serde_json::Value::Object(report).to_string())
}

/// Reads until enough has come.
async fn read(track: Arc<dyn TrackRemote>, pictures: u64, sounds: u64) -> Result<Heard, Failure> {
    let kind = track.kind().await;
    let ssrc = *track.ssrcs().await.first().ok_or("a track without an SSRC")?;
    let codec = track.codec(ssrc).await.ok_or("a track without a codec")?;
    let mut heard = Heard { kind, codec: codec.mime_type, units: 0, energy: 0.0 };
    let mut decoder = opus::Decoder::new(48_000, opus::Channels::Stereo)?;
    let enough = if kind == RtpCodecKind::Video { pictures } else { sounds };
    let mut samples = [0.0f32; 5_760 * 2];
    let mut sum = 0.0;
    while heard.units < enough {
        let packet = match track.poll().await {
            Some(TrackRemoteEvent::OnRtpPacket(packet)) => packet,
            Some(_) => continue,
            None => return Err("the track ended early".into()),
        };
        if kind == RtpCodecKind::Video {
            heard.units += u64::from(packet.header.marker);
        } else {
            let decoded = decoder.decode_float(&packet.payload, &mut samples, false)?;
            let square: f32 = samples[..decoded * 2].iter().map(|sample| sample * sample).sum();
            sum += f64::from(square) / (decoded * 2) as f64;
            heard.units += 1;
            heard.energy = sum / heard.units as f64;
        }
    }
    Ok(heard)
}
