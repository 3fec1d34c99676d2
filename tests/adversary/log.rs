//! The server's log as it comes: what waits for the server waits for its next line.

use std::{
    io::{BufRead, BufReader, Read},
    sync::{Arc, Condvar, Mutex, MutexGuard},
    thread::{self, JoinHandle},
    time::Instant,
};

/// What is kept before lines are left out: a flood of lines would itself be a fault, and is seen long before.
const KEPT_BYTES_MAX: usize = 16 << 20;

#[derive(Default)]
pub struct Log {
    text: Mutex<String>,
    grown: Condvar,
}

impl Log {
    /// Takes a pipe's lines in until its writer closes it.
    pub fn collect(self: &Arc<Self>, pipe: impl Read + Send + 'static) -> JoinHandle<()> {
        let log = self.clone();
        thread::spawn(move || {
            for line in BufReader::new(pipe).lines().map_while(Result::ok) {
                let mut text = log.text();
                if text.len() < KEPT_BYTES_MAX {
                    text.push_str(&line);
                    text.push('\n');
                }
                log.grown.notify_all();
            }
            log.grown.notify_all();
        })
    }

    pub fn text(&self) -> MutexGuard<'_, String> {
        self.text.lock().expect("no collector panics")
    }

    /// Waits until `enough` says so of the text; false when it does not before `until`.
    pub fn wait(&self, until: Instant, mut enough: impl FnMut(&str) -> bool) -> bool {
        let mut text = self.text();
        loop {
            if enough(&text) {
                return true;
            }
            let Some(left) = until.checked_duration_since(Instant::now()) else { return false };
            text = self.grown.wait_timeout(text, left).expect("no collector panics").0;
        }
    }

    /// The last lines, for a failure's message.
    pub fn tail(&self) -> String {
        let text = self.text();
        let lines: Vec<_> = text.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
