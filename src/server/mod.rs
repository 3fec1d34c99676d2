//! The server: doors opened, rooms wired, drained at the end.
//!
//! In: a checked [`Config`]. Out: a running [`Server`], whose [`Server::drain`] ends sessions cleanly and returns within
//! [`DRAIN_TIME`]. [`run`] is that for a whole process: logs, banner, signals. Holds no rule of any protocol.
#![allow(clippy::disallowed_methods, reason = "an I/O room: it owns the tasks and their clock")]

mod banner;
mod listen;
mod logs;
mod process;
mod reload;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use sluice_signaling::{
    endpoint::Settings,
    ice_server::{IceServers, TurnCredentials},
    token::{Authenticator, WeakSecret},
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    config::{AuthMode, Config, NotLive, PullSource},
    egress::{
        hls::{PackagerSettings, WindowSettings},
        whep::SenderSettings,
    },
    http::{self, EventPlaces, Rate, RateLimiter, Services, plane::Plane},
    ingest::rtmp::{self, Door, RtmpContext, Tls, TlsError},
    metrics::Metrics,
    packaging::{Output, OutputError, Packaging, PackagingSettings},
    relay::{Connector, Endpoints, Pulls, Relays},
    track::{HandOver, Streams},
    transcode::{Reencoding, ReencodingSettings, find_program},
    transport::{Certificate, TransportError},
    worker::{WorkerSettings, Workers},
};

pub use banner::{Addresses, Banner};
pub use listen::ListenError;
pub use process::{RunError, RunOptions, run};

/// Version and revision, as `sluice --version` prints them.
pub const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("SLUICE_REVISION"), ")");

/// From the wish to stop until [`Server::drain`] returns, at the most: sessions told, answers in flight written.
pub const DRAIN_TIME: Duration = Duration::from_millis(4_500);
/// Of that, what is kept for HTTP to write its last answers.
const HTTP_DRAIN_TIME: Duration = Duration::from_millis(500);
/// For how long clients whose session was just ended are still sent to another node. They come back within half a second.
const SENDING_ON_TIME: Duration = Duration::from_millis(1_000);
/// How often streams that nobody uses, and sessions whose client never came, are forgotten.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(1);

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Listen(#[from] ListenError),
    #[error("auth.hs256_secret: {0}")]
    Secret(#[from] WeakSecret),
    #[error("rtmp.tls: {0}")]
    Tls(#[from] TlsError),
    #[error("relay: no TLS to other servers: {0}")]
    RelayTls(#[from] tokio_rustls::rustls::Error),
    #[error("relay: no HTTP to other servers: {0}")]
    RelayHttp(#[from] reqwest::Error),
    #[error(transparent)]
    Output(#[from] OutputError),
    #[error("no certificate for DTLS: {0}")]
    Certificate(#[from] TransportError),
    #[error("an address that was just listened on is not known: {0}")]
    Address(#[from] std::io::Error),
}

/// A server that runs. Dropping it does not stop it: [`Server::drain`] does.
pub struct Server {
    addresses: Addresses,
    /// Cancelled first: no new sessions, those that are on end.
    drain: CancellationToken,
    /// Cancelled last: HTTP answers until the sessions are gone.
    http_stop: CancellationToken,
    /// Another node takes over.
    sends_on: bool,
    plane: Arc<Plane>,
    packaging: Arc<Packaging>,
    workers: Arc<Workers>,
    tls: Option<Arc<Tls>>,
    rtmp: Option<JoinHandle<()>>,
    reencoder: Option<JoinHandle<()>>,
    relay: JoinHandle<()>,
    pull: JoinHandle<()>,
    http: JoinHandle<()>,
    housekeeping: JoinHandle<()>,
}

impl Server {
    /// Opens the doors and serves.
    ///
    /// # Errors
    /// When a door cannot be opened, naming the setting; nothing is left running then.
    pub async fn start(config: &Config) -> Result<Self, StartError> {
        let http_listener = listen::tcp("http.listen", config.http.listen)?;
        let rtmp_listener = config.rtmp.enabled.then(|| listen::tcp("rtmp.listen", config.rtmp.listen)).transpose()?;
        let tls = (!config.rtmp.tls.is_empty()).then(|| Tls::load(&config.rtmp.tls).map(Arc::new)).transpose()?;
        let authenticator = Arc::new(authenticator(config)?);
        // A mark is enough: who is interested looks for itself.
        let (changed, changes) = watch::channel(());
        let metrics = Metrics::new();
        let hand_over = HandOver {
            back_after: Duration::from_secs(config.publish.hand_back_s.into()),
            to_primary: metrics.hand_overs_to("primary"),
            to_backup: metrics.hand_overs_to("backup"),
        };
        let streams = Arc::new(Streams::with_listener(hand_over, move || {
            changed.send_replace(());
        }));
        let drain = CancellationToken::new();
        let http_stop = CancellationToken::new();
        let certificate = Certificate::generate()?;
        let connector = Connector::new(config.relay.has_rtmps())?;
        let endpoints = Endpoints::new(config.relay.has_endpoints())?;
        let packaging = packaging(config)?;
        if let Some(place) = &config.hls.output {
            info!(%place, "HLS is stored, too: who can read there needs no token");
        }
        let (http_address, rtmp_address) =
            (http_listener.local_addr()?, rtmp_listener.as_ref().map(TcpListener::local_addr).transpose()?);
        // It starts threads, so nothing that can fail comes after it.
        let workers = workers(config, &streams, &metrics)?;
        let addresses = Addresses { http: http_address, rtmp: rtmp_address, webrtc: workers.local_addr() };
        let reencoding = reencoding(config, &streams, &metrics, &drain);
        let reencodes = config.transcode.b_frames && reencoding.is_some();
        let pulls = Pulls::new(
            config.relay.pull.clone(),
            (connector.clone(), endpoints.clone()),
            streams.clone(),
            metrics.clone(),
            reencodes,
            drain.child_token(),
        );
        let plane = Arc::new(Plane::new(
            streams.clone(),
            workers.clone(),
            certificate,
            config.publish.on_conflict,
            metrics.clone(),
            pulls.clone(),
        ));
        let packaging = Arc::new(Packaging::new(packaging, streams.clone(), metrics.clone(), drain.child_token()));
        let reencoder = reencoding.clone().map(|reencoding| tokio::spawn(reencoding.run(changes.clone())));
        let pull = tokio::spawn(pulls.clone().run(changes.clone()));
        let (targets, stop) = (config.relay.push.clone(), drain.child_token());
        let relays = Relays::new(targets, connector, endpoints, streams.clone(), metrics.clone(), stop);
        let relay = tokio::spawn(relays.clone().run(changes.clone()));
        let rtmp = rtmp_listener.map(|listener| {
            let door = Door { listener, tls: tls.clone(), plain: config.rtmp.plain };
            let context = RtmpContext {
                streams: streams.clone(),
                authenticator: authenticator.clone(),
                metrics: metrics.clone(),
                on_conflict: config.publish.on_conflict,
                connections_max: config.rtmp.connections_max as usize,
                reconnect_to: config.rtmp.reconnect_to.clone(),
                reencodes,
            };
            tokio::spawn(rtmp::serve(door, Arc::new(context), drain.clone()))
        });
        let router = http::router(Arc::new(Services {
            streams: streams.clone(),
            metrics,
            authenticator,
            plane: plane.clone(),
            packaging: packaging.clone(),
            reencoding,
            relays,
            pulls,
            sessions: workers.clone(),
            events: EventPlaces::new(changes, drain.clone(), config.http.connections_max),
            signalling: Settings {
                ice_servers: ice_servers(config),
                wait_until_live: config.whep.not_live == NotLive::Wait,
                overflow_to: config.http.overflow_to.clone(),
                ..Settings::default()
            },
            rate_limiter: RateLimiter::new(Rate {
                per_s: config.http.client_requests_per_s,
                burst: config.http.client_requests_burst,
            }),
            trusted_proxies: config.http.trusted_proxies.clone().into(),
            rtmp_port: rtmp_address.map(|address| address.port()),
            loopback_only: config.auth.mode == AuthMode::Open && !config.auth.allow_open,
        }));
        let http = http::serve(http_listener, router, config.http.connections_max, http_stop.clone());
        Ok(Self {
            addresses,
            tls,
            rtmp,
            reencoder,
            relay,
            pull,
            http: tokio::spawn(http),
            housekeeping: tokio::spawn(keep_house(
                streams,
                workers.clone(),
                plane.clone(),
                packaging.clone(),
                drain.clone(),
            )),
            drain,
            http_stop,
            sends_on: config.http.overflow_to.is_some(),
            plane,
            packaging,
            workers,
        })
    }

    /// Where it can be reached; real ports where 0 was asked for.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// Certificates may have been renewed.
    pub fn reload_certificates(&self) {
        match self.tls.as_ref().map(|tls| tls.reload()) {
            Some(Ok(())) => info!("certificate and key of rtmp.tls read again"),
            Some(Err(error)) => warn!(%error, "rtmp.tls: certificate and key stay as they are"),
            None => {}
        }
    }

    /// Ends everything cleanly, within [`DRAIN_TIME`].
    pub async fn drain(self) {
        self.plane.drain();
        self.drain.cancel();
        let workers = self.workers;
        let sessions = async {
            let tasks = async {
                for task in [self.rtmp, self.reencoder, Some(self.relay), Some(self.pull)].into_iter().flatten() {
                    let _ = task.await;
                }
            };
            // Joining threads blocks.
            let workers = tokio::task::spawn_blocking(move || workers.stop());
            let _ = tokio::join!(tasks, workers, self.packaging.finish(), self.housekeeping);
        };
        let sending_on = if self.sends_on { SENDING_ON_TIME } else { Duration::ZERO };
        if tokio::time::timeout(DRAIN_TIME - HTTP_DRAIN_TIME - sending_on, sessions).await.is_err() {
            warn!("some sessions did not end in time and are left as they are");
        }
        tokio::time::sleep(sending_on).await;
        self.http_stop.cancel();
        if tokio::time::timeout(HTTP_DRAIN_TIME, self.http).await.is_err() {
            debug!("some HTTP requests were still in flight");
        }
    }
}

fn workers(config: &Config, streams: &Arc<Streams>, metrics: &Arc<Metrics>) -> Result<Arc<Workers>, ListenError> {
    let webrtc = &config.webrtc;
    let settings = WorkerSettings {
        listen: webrtc.listen,
        advertise: webrtc.advertise.clone(),
        workers: webrtc.workers,
        sender: SenderSettings {
            join_burst_mbps: webrtc.join_burst_mbps,
            playout_delay_max_ms: webrtc.playout_delay_max_ms,
        },
        sessions_max: webrtc.sessions_max as usize,
        wait_max: Duration::from_secs(config.whep.wait_max_s.into()),
        on_conflict: config.publish.on_conflict,
    };
    let workers = Workers::start(&settings, streams.clone(), metrics.clone());
    workers.map(Arc::new).map_err(|source| ListenError::new("webrtc.listen", webrtc.listen, source))
}

/// What encodes streams with B-frames anew, where that is wished and can be.
fn reencoding(
    config: &Config,
    streams: &Arc<Streams>,
    metrics: &Arc<Metrics>,
    drain: &CancellationToken,
) -> Option<Arc<Reencoding>> {
    let transcode = &config.transcode;
    // B-frames come by RTMP only.
    let rtmp = config.rtmp.enabled || config.relay.pull.iter().any(PullSource::is_rtmp);
    let b_frames = transcode.b_frames && rtmp;
    if !b_frames && transcode.ladder.is_empty() {
        return None;
    }
    let Some(program) = find_program(&transcode.ffmpeg) else {
        let ffmpeg = &transcode.ffmpeg;
        warn!(
            ffmpeg,
            ladder = transcode.ladder.len(),
            "no ffmpeg is there (transcode.ffmpeg): of streams with B-frames, WebRTC viewers see those left out, and no smaller pictures are made"
        );
        return None;
    };
    let settings = ReencodingSettings {
        program,
        encoder: transcode.encoder,
        streams_max: transcode.streams_max as usize,
        b_frames,
        ladder: transcode.ladder.clone(),
    };
    Some(Reencoding::new(settings, streams.clone(), metrics.clone(), drain.child_token()))
}

fn packaging(config: &Config) -> Result<PackagingSettings, OutputError> {
    let hls = &config.hls;
    let segment = Duration::from_secs(hls.segment_s.into());
    Ok(PackagingSettings {
        enabled: hls.enabled,
        window: WindowSettings {
            segments: hls.window_segments as usize,
            dvr: Duration::from_secs(hls.dvr_s.into()),
            segment_target: segment,
            bytes_max: hls.window_max_mb as usize * 1_000_000,
        },
        packager: PackagerSettings {
            part: Duration::from_millis(hls.part_ms.into()),
            segment_min: segment / 2,
            segment_wanted: segment,
            opus: hls.opus,
            ..PackagerSettings::default()
        },
        always_on: hls.always_on,
        output: hls.output.as_ref().map(Output::open).transpose()?,
        idle: Duration::from_secs(hls.idle_s.into()),
        away: Duration::from_secs(hls.away_s.into()),
        streams_max: hls.streams_max as usize,
        waiting_max: hls.waiting_max as usize,
        client_waiting_max: hls.client_waiting_max as usize,
    })
}

fn authenticator(config: &Config) -> Result<Authenticator, WeakSecret> {
    match config.auth.mode {
        AuthMode::Open => Ok(Authenticator::open()),
        AuthMode::Jwt => Authenticator::hs256(config.auth.hs256_secret.as_deref().unwrap_or_default().as_bytes()),
    }
}

fn ice_servers(config: &Config) -> IceServers {
    let ice = &config.ice;
    let turn = match (&ice.turn_secret, &ice.turn_username, &ice.turn_credential) {
        (Some(secret), ..) => {
            TurnCredentials::TimeLimited { secret: secret.clone(), ttl: Duration::from_secs(ice.turn_ttl_s.into()) }
        }
        (None, Some(username), Some(credential)) => {
            TurnCredentials::Static { username: username.clone(), credential: credential.clone() }
        }
        _ => TurnCredentials::None,
    };
    IceServers { uris: ice.servers.clone(), turn }
}

async fn keep_house(
    streams: Arc<Streams>,
    workers: Arc<Workers>,
    plane: Arc<Plane>,
    packaging: Arc<Packaging>,
    drain: CancellationToken,
) {
    let mut tick = tokio::time::interval(HOUSEKEEPING_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while drain.run_until_cancelled(tick.tick()).await.is_some() {
        workers.sweep();
        plane.sweep();
        packaging.sweep();
        streams.prune();
    }
}
