//! SIGHUP: settings are read again, and those that can change live do. The log says which did, and which wait for a restart.

use tracing::{info, warn};

use super::logs::LogLevel;
use crate::config::{Config, SETTINGS};

/// The only setting that can change while the server runs; all others are wired in at its start.
const LIVE: &str = "log.level";

/// What becomes of each setting that differs between the running configuration and the one just read.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    live: Vec<&'static str>,
    at_restart: Vec<&'static str>,
}

fn changes(running: &Config, read: &Config) -> Changes {
    let mut changes = Changes::default();
    for setting in SETTINGS.iter().filter(|setting| setting.differs(running, read)) {
        let list = if setting.key == LIVE { &mut changes.live } else { &mut changes.at_restart };
        list.push(setting.key);
    }
    changes
}

/// Puts what can change live into force in `running`.
pub fn apply(running: &mut Config, read: &Config, level: &LogLevel) {
    let changes = changes(running, read);
    if !changes.live.is_empty() {
        match level.change(&read.log.level) {
            Ok(()) => running.log.level.clone_from(&read.log.level),
            Err(error) => warn!(%error, "the log level stays as it is"),
        }
    }
    let at_restart = changes.at_restart.join(", ");
    match (changes.live.is_empty(), at_restart.is_empty()) {
        (true, true) => info!("settings read again: nothing changed (log.level can change live)"),
        (false, true) => info!(log.level = running.log.level, "settings read again"),
        (_, false) => {
            warn!(%at_restart, "settings read again; these wait for a restart: only log.level can change live")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let running = Config::default();
        let mut read = Config::default();
        assert_eq!(changes(&running, &read), Changes::default());
        read.log.level = "debug".into();
        read.rtmp.enabled = false;
        read.auth.hs256_secret = Some("0123456789abcdef0123456789abcdef".into());
        let expected = Changes { live: vec!["log.level"], at_restart: vec!["rtmp.enabled", "auth.hs256_secret"] };
        assert_eq!(changes(&running, &read), expected);
    }
}
