//! Logs: structured lines to standard error, text or JSON, each with the spans it happened in (stream, session). The
//! level can change while the server runs.

use std::io::IsTerminal;

use tracing_subscriber::{EnvFilter, Registry, layer::SubscriberExt, reload, util::SubscriberInitExt};

use crate::config::{LogConfig, LogFormat};

/// Changes the level of the running process.
pub struct LogLevel(reload::Handle<EnvFilter, Registry>);

/// Why logs cannot be written as configured.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log.level: {0}")]
    Level(#[from] tracing_subscriber::filter::ParseError),
    #[error("logs are already being written elsewhere in this process: {0}")]
    Taken(#[from] tracing_subscriber::util::TryInitError),
    #[error("the level cannot be changed: {0}")]
    Reload(#[from] reload::Error),
}

/// Begins to log; once per process.
///
/// # Errors
/// When the level is no filter, or the process logs already.
pub fn begin(config: &LogConfig) -> Result<LogLevel, LogError> {
    let (filter, handle) = reload::Layer::new(filter(&config.level)?);
    let registry = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match config.format {
        LogFormat::Text => registry.with(lines.with_ansi(std::io::stderr().is_terminal())).try_init()?,
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init()?,
    }
    Ok(LogLevel(handle))
}

/// Crates that are quiet unless the filter names them. `rtc-dtls` (0.21) warns of every browser's hello, whose DTLS 1.3 extensions it does not know;
/// the others, which connections to other servers are made of, have a line for whatever a datagram may be wrong about.
const QUIET: [(&str, &str); 3] = [("rtc_dtls", "error"), ("rtc", "off"), ("webrtc::", "off")];

fn filter(level: &str) -> Result<EnvFilter, tracing_subscriber::filter::ParseError> {
    let unnamed = QUIET.iter().filter(|(name, _)| !level.contains(name));
    let quiet = unnamed.map(|(name, level)| format!(",{}={level}", name.trim_end_matches(':'))).collect::<String>();
    EnvFilter::try_new(format!("{level}{quiet}"))
}

impl LogLevel {
    /// From now on, this level.
    ///
    /// # Errors
    /// When it is no filter.
    pub fn change(&self, level: &str) -> Result<(), LogError> {
        Ok(self.0.reload(filter(level)?)?)
    }
}
