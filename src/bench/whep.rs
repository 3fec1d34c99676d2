//! `sluice bench whep`: many viewers of one WHEP endpoint, and what they and the server had of it.

use std::{process::ExitCode, time::Duration};

use clap::{ValueHint, value_parser};
use reqwest::Url;

use super::{error::BenchError, load, report, stamp::StreamShape};

/// More viewers than this one thread could not serve honestly.
const VIEWERS_MAX: u32 = 5_000;
/// Where a token may be given without showing it to every process of the machine.
const TOKEN_VARIABLE: &str = "SLUICE_BENCH_TOKEN";

/// Opens many viewers against a WHEP endpoint and reports join times, loss, delay and what the server spends on them
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The WHEP endpoint, of any server: http://127.0.0.1:8080/whep/cam1
    #[arg(long, value_hint = ValueHint::Url)]
    pub url: Url,
    /// How many viewers
    #[arg(long, default_value_t = 10, value_parser = value_parser!(u32).range(1..=i64::from(VIEWERS_MAX)))]
    pub viewers: u32,
    /// How long to measure, once all have joined: 500ms, 20s, 2m
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Viewers that join per second
    #[arg(long, default_value_t = 50.0, value_parser = parse_rate)]
    pub join_rate: f64,
    /// How long a viewer may take from its request to its first keyframe
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub join_timeout: Duration,
    /// Process id of the server on this machine: its CPU time and memory are reported
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Bearer token; or in the environment as SLUICE_BENCH_TOKEN
    #[arg(long)]
    pub token: Option<String>,
    /// Ask for lost packets again, as browsers do
    #[arg(long)]
    pub nack: bool,
    /// Viewers, evenly spread, whose packets are decrypted throughout to measure delays
    #[arg(long, default_value_t = 32)]
    pub sample: u32,
    /// Publish a synthetic stream too (WHIP), whose packets carry the time they were sent: gives one-way delays
    #[arg(long)]
    pub publish: bool,
    /// Where to publish; without it, the WHEP URL with `whip` for `whep`
    #[arg(long, value_hint = ValueHint::Url, requires = "publish")]
    pub publish_url: Option<Url>,
    /// Bitrate of the synthetic video, in kb/s
    #[arg(long, default_value_t = 2_000, value_parser = value_parser!(u32).range(50..=50_000))]
    pub publish_kbps: u32,
    /// Pictures per second of the synthetic video
    #[arg(long, default_value_t = 30, value_parser = value_parser!(u32).range(1..=120))]
    pub publish_fps: u32,
    /// Pictures from keyframe to keyframe of the synthetic video
    #[arg(long, default_value_t = 60, value_parser = value_parser!(u32).range(1..=3_600))]
    pub publish_gop: u32,
    /// One line of JSON on standard output, instead of the table
    #[arg(long)]
    pub json: bool,
    /// No progress lines on standard error
    #[arg(long)]
    pub quiet: bool,
}

impl Args {
    pub(super) fn shape(&self) -> StreamShape {
        StreamShape { kbps: self.publish_kbps, fps: self.publish_fps, gop_frames: self.publish_gop }
    }

    pub(super) fn token(&self) -> Option<String> {
        self.token.clone().or_else(|| std::env::var(TOKEN_VARIABLE).ok()).filter(|token| !token.is_empty())
    }

    /// Where to publish, when asked to.
    pub(super) fn whip_url(&self) -> Result<Option<Url>, BenchError> {
        match (&self.publish_url, self.publish) {
            (_, false) => Ok(None),
            (Some(url), true) => Ok(Some(url.clone())),
            (None, true) if self.url.path().contains("whep") => {
                let mut url = self.url.clone();
                url.set_path(&self.url.path().replacen("whep", "whip", 1));
                Ok(Some(url))
            }
            (None, true) => Err(BenchError::Arguments(format!(
                "--publish cannot tell the WHIP endpoint from {}; give it with --publish-url",
                self.url
            ))),
        }
    }

    fn check(&self) -> Result<(), BenchError> {
        for url in [Some(&self.url), self.publish_url.as_ref()].into_iter().flatten() {
            if !matches!(url.scheme(), "http" | "https") {
                return Err(BenchError::Arguments(format!("{url} is no http:// or https:// URL")));
            }
        }
        Ok(())
    }
}

/// Runs the test and prints the report. The exit code is a failure when no viewer got media.
///
/// # Errors
/// When there are no figures to print: wrong arguments, a refusing server, a machine without sockets to give.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    args.check()?;
    let figures = load::Load::new(args)?.run()?;
    if args.json {
        println!("{}", report::json(&figures));
    } else {
        print!("{}", report::table(&figures));
    }
    Ok(if figures.playing > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// `500ms`, `20s`, `2m`, or seconds without a unit.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let number: f64 = digits.parse().map_err(|_| "expected a number with ms, s or m, such as 20s".to_owned())?;
    let seconds = match &text[digits.len()..] {
        "ms" => number / 1e3,
        "" | "s" => number,
        "m" => number * 60.0,
        unit => return Err(format!("unknown unit {unit:?}; use ms, s or m")),
    };
    match Duration::try_from_secs_f64(seconds) {
        Ok(duration) if !duration.is_zero() && seconds <= 86_400.0 => Ok(duration),
        _ => Err("expected more than nothing and at most a day".to_owned()),
    }
}

fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.1..=1_000.0).contains(&rate) => Ok(rate),
        _ => Err("expected viewers per second, 0.1 to 1000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        args: Args,
    }

    fn args(more: &[&str]) -> Result<Args, clap::Error> {
        let words = ["x", "--url", "http://h/whep/a"].iter().chain(more);
        Cli::try_parse_from(words).map(|cli| cli.args)
    }

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert_eq!(parse_duration("3"), Ok(Duration::from_secs(3)));
        for bad in ["", "s", "0s", "-1s", "1h", "inf", "nan"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_publishers_url_is_found_or_asked_for() {
        assert_eq!(args(&[]).unwrap().whip_url().unwrap(), None);
        assert_eq!(args(&["--publish"]).unwrap().whip_url().unwrap().unwrap().as_str(), "http://h/whip/a");
        let mut odd = args(&["--publish"]).unwrap();
        odd.url = Url::parse("http://h/play").unwrap();
        assert!(odd.whip_url().unwrap_err().to_string().contains("--publish-url"));
        assert!(args(&["--viewers", "0"]).is_err());
        assert!(args(&["--publish-url", "http://h/x"]).is_err(), "says nothing without --publish");
    }
}
