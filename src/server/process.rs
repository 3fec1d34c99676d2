//! The server as a whole process: logs, banner, signals.
//!
//! SIGTERM and SIGINT drain; a second one ends the process at once. SIGHUP reads the settings again.

use std::{io::Write, process};

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{error, info, warn};

use super::{Addresses, Banner, DRAIN_TIME, Server, StartError, VERSION, logs, reload};
use crate::config::Config;

/// Reads the settings again, from where they came.
pub type Reload = Box<dyn Fn() -> Result<Config, Box<dyn std::error::Error>>>;

/// What a process serves with.
pub struct RunOptions {
    pub config: Config,
    /// For SIGHUP.
    pub reload: Reload,
    /// One line of JSON on standard output instead of the banner.
    pub print_addresses: bool,
}

/// Why the process serves no (more).
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Log(#[from] logs::LogError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error("the runtime cannot be started: {0}")]
    Runtime(std::io::Error),
    #[error("signals cannot be received: {0}")]
    Signals(std::io::Error),
}

/// Serves until a signal ends it.
///
/// # Errors
/// When the server cannot start.
pub fn run(options: RunOptions) -> Result<(), RunError> {
    let level = logs::begin(&options.config.log)?;
    raise_file_limit();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(RunError::Runtime)?;
    runtime.block_on(serve(options, level))
}

async fn serve(options: RunOptions, level: logs::LogLevel) -> Result<(), RunError> {
    let RunOptions { mut config, reload, print_addresses } = options;
    // Before the doors open: a signal that comes early must not be lost.
    let mut signals = Signals::new().map_err(RunError::Signals)?;
    let server = Server::start(&config).await?;
    announce(server.addresses(), &config, print_addresses);
    loop {
        match signals.next().await {
            Wish::Stop => break,
            Wish::Reload => {
                match reload() {
                    Ok(read) => reload::apply(&mut config, &read, &level),
                    Err(error) => error!("settings not read again, the old ones stay: {error}"),
                }
                server.reload_certificates();
            }
        }
    }
    info!(within_s = DRAIN_TIME.as_secs_f32(), "stopping: ending all sessions (a second signal stops at once)");
    tokio::select! {
        () = server.drain() => info!("stopped"),
        () = signals.stop() => {
            warn!("stopped at once; sessions were not ended");
            process::exit(1);
        }
    }
    Ok(())
}

fn announce(addresses: &Addresses, config: &Config, as_json: bool) {
    let text = if as_json {
        format!("{}\n", addresses.to_json())
    } else {
        Banner { addresses, config, version: VERSION }.to_string()
    };
    // Nobody reading standard output is no reason not to serve.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    info!(
        version = VERSION,
        http = %addresses.http,
        rtmp = addresses.rtmp.map(tracing::field::display),
        webrtc = %addresses.webrtc,
        "serving"
    );
}

enum Wish {
    Stop,
    Reload,
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> Wish {
        tokio::select! {
            _ = self.terminate.recv() => Wish::Stop,
            _ = self.interrupt.recv() => Wish::Stop,
            _ = self.hangup.recv() => Wish::Reload,
        }
    }

    async fn stop(&mut self) {
        while let Wish::Reload = self.next().await {}
    }
}

/// As many open files as the system lets us: each TCP connection is one, and many systems begin with 1024.
fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(soft, hard)| if soft < hard { setrlimit(Resource::RLIMIT_NOFILE, hard, hard) } else { Ok(()) });
    if let Err(error) = raised {
        warn!(%error, "the limit of open files stays as it is");
    }
}
