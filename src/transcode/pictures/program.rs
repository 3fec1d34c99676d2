//! The ffmpeg program: where it is, what it can do, and how it is started.

use std::{
    env,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, time::timeout};
use tracing::{debug, info};

use super::arguments::{BY_PREFERENCE, trial};
use crate::config::Encoder;

/// How long an encoder may take to show that it works: drivers take a second to wake.
const TRIAL_MAX: Duration = Duration::from_secs(10);
/// Viewers come first: encoders get the cores that forwarding leaves.
const NICENESS: &str = "10";
/// Names of variables that begin so may be secrets, and are none of a child's business.
const KEPT_FROM_CHILDREN: [&str; 2] = ["SLUICE_", "AWS_"];

/// Where a program is: itself, if its name has a folder, else in the folders of `PATH`.
pub fn find_program(name: &str) -> Option<PathBuf> {
    let is_program = |path: &PathBuf| path.is_file();
    if name.contains('/') {
        return Some(PathBuf::from(name)).filter(is_program);
    }
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(is_program)
}

/// A command that ends when it is dropped, with pipes to all its streams.
pub(super) fn command(program: &Path, arguments: Vec<String>) -> Command {
    let mut command = match find_program("nice") {
        Some(nice) => {
            let mut command = Command::new(nice);
            command.args(["-n", NICENESS]).arg(program);
            command
        }
        None => Command::new(program),
    };
    for (name, _) in env::vars_os() {
        if KEPT_FROM_CHILDREN.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

/// The encoder to be used: the wished one, or the first that works.
///
/// # Errors
/// What each of them said.
pub(super) async fn choose_encoder(program: &Path, wished: Encoder) -> Result<Encoder, String> {
    let tried: &[Encoder] = if wished == Encoder::Auto { &BY_PREFERENCE } else { &[wished] };
    let mut refusals = Vec::new();
    for encoder in tried {
        match try_encoder(program, *encoder).await {
            Ok(()) => {
                info!(%encoder, "pictures of streams with B-frames are encoded by it");
                return Ok(*encoder);
            }
            Err(refusal) => {
                debug!(%encoder, refusal, "no encoder");
                refusals.push(format!("{encoder}: {refusal}"));
            }
        }
    }
    Err(refusals.join("; "))
}

async fn try_encoder(program: &Path, encoder: Encoder) -> Result<(), String> {
    let output = timeout(TRIAL_MAX, command(program, trial(encoder)).output()).await;
    let output = output.map_err(|_| format!("no answer in {} s", TRIAL_MAX.as_secs()))?;
    let output = output.map_err(|error| format!("{}: {error}", program.display()))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rev().find(|line| !line.trim().is_empty());
    Err(last.map_or_else(|| output.status.to_string(), |line| line.trim().to_owned()))
}
