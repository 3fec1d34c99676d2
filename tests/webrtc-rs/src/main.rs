//! A real WHIP and WHEP client for the end-to-end tests: the `webrtc` crate's async `PeerConnection`, non-trickle. Publishes
//! a canned H.264 stream in a loop with a hum beside it, or plays and counts what came. One line of JSON at the end.

#![allow(clippy::disallowed_methods, reason = "a client: it owns its clock")]

mod play;
mod publish;

use std::{process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, Subcommand};
use rtc::peer_connection::{
    configuration::{
        RTCConfigurationBuilder, interceptor_registry::register_default_interceptors, media_engine::MediaEngine,
    },
    sdp::RTCSessionDescription,
};
use tokio::sync::{Notify, mpsc};
use webrtc::{
    media_stream::track_remote::TrackRemote,
    peer_connection::{
        PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler, RTCIceGatheringState,
        RTCPeerConnectionState, Registry,
    },
    runtime::TokioRuntime,
};

/// A server that takes longer to answer, to connect or to send has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// Tracks that a session can have: one of pictures, one of sound.
const TRACKS: usize = 2;

type Failure = Box<dyn std::error::Error + Send + Sync>;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Publish by WHIP until killed
    Publish {
        url: reqwest::Url,
        /// H.264 in Annex B, without B-frames
        #[arg(long)]
        video: std::path::PathBuf,
    },
    /// Play by WHEP until so many pictures and packets of sound have come, then leave
    Play {
        url: reqwest::Url,
        #[arg(long, default_value_t = 60)]
        pictures: u64,
        #[arg(long, default_value_t = 100)]
        sounds: u64,
    },
}

/// What the connection tells.
struct Handler {
    gathered: Notify,
    connected: Notify,
    tracks: mpsc::Sender<Arc<dyn TrackRemote>>,
}

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.gathered.notify_one();
        }
    }

    async fn on_connection_state_change(&self, state: RTCPeerConnectionState) {
        if state == RTCPeerConnectionState::Connected {
            self.connected.notify_one();
        }
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        // A session has no more tracks than there is room for.
        let _ = self.tracks.try_send(track);
    }
}

/// A connection with the crate's default codecs and interceptors, and what it will tell.
async fn connection() -> Result<(impl PeerConnection, Arc<Handler>, mpsc::Receiver<Arc<dyn TrackRemote>>), Failure> {
    let mut media = MediaEngine::default();
    media.register_default_codecs()?;
    let registry = register_default_interceptors(Registry::new(), &mut media)?;
    let (tracks, arrived) = mpsc::channel(TRACKS);
    let handler = Arc::new(Handler { gathered: Notify::new(), connected: Notify::new(), tracks });
    let peer = PeerConnectionBuilder::new()
        .with_configuration(RTCConfigurationBuilder::new().build())
        .with_media_engine(media)
        .with_interceptor_registry(registry)
        .with_handler(handler.clone())
        .with_runtime(Arc::new(TokioRuntime))
        .with_udp_addrs(vec!["127.0.0.1:0".to_owned()])
        .build()
        .await?;
    Ok((peer, handler, arrived))
}

/// POSTs the offer with all its candidates, applies the answer, waits for the connection. Returns the session's URL.
async fn negotiate(
    peer: &impl PeerConnection,
    handler: &Handler,
    endpoint: &reqwest::Url,
) -> Result<reqwest::Url, Failure> {
    let offer = peer.create_offer(None).await?;
    peer.set_local_description(offer).await?;
    patiently("candidates", handler.gathered.notified()).await?;
    let offer = peer.local_description().await.ok_or("the connection has no local description")?;
    let response = reqwest::Client::new()
        .post(endpoint.clone())
        .header("content-type", "application/sdp")
        .body(offer.sdp.clone())
        .send()
        .await?;
    let status = response.status();
    let location = response.headers().get("location").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let answer = response.text().await?;
    if status != reqwest::StatusCode::CREATED {
        return Err(format!("{status}: {answer}\nfor this offer:\n{}", offer.sdp).into());
    }
    peer.set_remote_description(RTCSessionDescription::answer(answer)?).await?;
    patiently("a connection", handler.connected.notified()).await?;
    Ok(endpoint.join(&location.ok_or("the answer has no Location")?)?)
}

async fn patiently<T>(what: &str, wait: impl Future<Output = T>) -> Result<T, Failure> {
    tokio::time::timeout(PATIENCE, wait).await.map_err(|_| format!("no {what} within {} s", PATIENCE.as_secs()).into())
}

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Publish { url, video } => publish::run(&url, &video).await,
        Command::Play { url, pictures, sounds } => play::run(&url, pictures, sounds).await,
    };
    match outcome {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
