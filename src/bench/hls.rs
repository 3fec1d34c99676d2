//! `sluice bench hls`: many players that hold a blocking request for the next part of a rendition each, all the time, and how long
//! after the part was there they had their answer.
//!
//! That the part is there shows by the first answer that any of them gets; the others are measured from it. One more player reads the
//! playlists and says what is to be asked for next. One thread, HTTP/1.1, a connection per player, as players behind a proxy have none
//! of their own; each is a round trip away, and asks again so much later. With `--every` nothing is waited for: all ask for the URL at
//! the same moments, of any web server, for comparison.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    io,
    process::ExitCode,
    rc::Rc,
    time::{Duration, Instant},
};

use clap::{ValueHint, value_parser};
use reqwest::Url;
use serde::Serialize;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    task::LocalSet,
};

use super::{
    error::BenchError,
    figures::{Delays, Summary, round},
    process::{Process, Usage},
    whep::parse_duration,
};

const VIEWERS_MAX: u32 = 20_000;
/// Connections are opened so many at a time, so that no listener's backlog overflows.
const OPEN_AT_A_TIME: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(50);
/// A playlist, or a problem.
const ANSWER_MAX_BYTES: usize = 4 * 1024 * 1024;

/// Holds many blocking LL-HLS requests and reports how soon they are answered and what the server spends on them
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// The multivariant playlist: http://127.0.0.1:8080/hls/cam1/index.m3u8
    #[arg(long, value_hint = ValueHint::Url)]
    pub url: Url,
    /// How many players
    #[arg(long, default_value_t = 100, value_parser = value_parser!(u32).range(1..=i64::from(VIEWERS_MAX)))]
    pub viewers: u32,
    /// How long to measure, once all are connected: 500ms, 20s, 2m
    #[arg(long, default_value = "20s", value_parser = parse_duration)]
    pub duration: Duration,
    /// Process id of the server on this machine: its CPU time and memory are reported
    #[arg(long)]
    pub server_pid: Option<u32>,
    /// Ask for the URL itself this often, instead of for what comes next: what a server of files costs
    #[arg(long, value_parser = parse_duration)]
    pub every: Option<Duration>,
    /// One line of JSON on standard output, instead of a table
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Serialize)]
struct Figures {
    viewers: u32,
    seconds: f64,
    answers: u64,
    failures: u64,
    parts: u64,
    delay: Option<Summary>,
    server_cpu_percent: Option<f64>,
    server_rss_mb: Option<f64>,
}

/// What is asked for next; in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Wanted {
    segment: u64,
    part: u64,
}

#[derive(Debug, Default)]
struct Measured {
    /// Of answers within the measured time, by what they were to.
    arrivals: BTreeMap<(u64, u64), Vec<Instant>>,
    failures: u64,
    is_on: bool,
}

/// Runs the test and prints the report. The exit code is a failure when nothing was answered.
///
/// # Errors
/// When there is nothing to measure: no such stream, no connections to be had.
pub fn run(args: &Args) -> Result<ExitCode, BenchError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(BenchError::system("a runtime"))?;
    let figures = LocalSet::new().block_on(&runtime, measure(args))?;
    if args.json {
        println!("{}", serde_json::json!(figures));
    } else {
        print!("{}", table(&figures));
    }
    Ok(if figures.answers > 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn measure(args: &Args) -> Result<Figures, BenchError> {
    let process = args.server_pid.map(Process::open).transpose()?;
    let mut leader = Client::connect(&args.url).await?;
    let (path, first) = match args.every {
        Some(_) => (path_and_query(&args.url), Wanted { segment: 0, part: 0 }),
        None => leader.find_rendition(&args.url).await?,
    };
    let (tell, wanted) = watch::channel(first);
    let measured = Rc::new(RefCell::new(Measured::default()));
    for number in 0..args.viewers {
        let client = Client::connect(&args.url).await?;
        tokio::task::spawn_local(follow(client, path.clone(), args.every, wanted.clone(), measured.clone()));
        if number % OPEN_AT_A_TIME == OPEN_AT_A_TIME - 1 {
            tokio::time::sleep(OPEN_PAUSE).await;
        }
    }
    tokio::task::spawn_local(lead(leader, path, args.every, tell));
    // All wait for the same by then.
    tokio::time::sleep(Duration::from_secs(2)).await;
    let (began, before) = (Instant::now(), usage(process.as_ref())?);
    measured.borrow_mut().is_on = true;
    tokio::time::sleep(args.duration).await;
    measured.borrow_mut().is_on = false;
    let (took, after) = (began.elapsed(), usage(process.as_ref())?);
    let measured = measured.borrow();
    Ok(figures(args, &measured, took, before.zip(after)))
}

fn usage(process: Option<&Process>) -> Result<Option<Usage>, BenchError> {
    process.map(Process::usage).transpose()
}

fn figures(args: &Args, measured: &Measured, took: Duration, usage: Option<(Usage, Usage)>) -> Figures {
    let mut delays = Delays::default();
    for arrivals in measured.arrivals.values() {
        if let Some(first) = arrivals.iter().min() {
            arrivals.iter().for_each(|arrival| delays.note(arrival.saturating_duration_since(*first)));
        }
    }
    let cpu = |(before, after): &(Usage, Usage)| after.cpu.saturating_sub(before.cpu).as_secs_f64();
    Figures {
        viewers: args.viewers,
        seconds: round(took.as_secs_f64(), 1),
        answers: delays.count(),
        failures: measured.failures,
        parts: measured.arrivals.len() as u64,
        delay: delays.summary(),
        server_cpu_percent: usage.as_ref().map(|usage| round(100.0 * cpu(usage) / took.as_secs_f64(), 1)),
        server_rss_mb: usage.map(|(_, after)| round(after.resident_bytes as f64 / 1e6, 1)),
    }
}

fn table(figures: &Figures) -> String {
    let mut rows = vec![
        ("players", figures.viewers.to_string()),
        ("measured", format!("{} s", figures.seconds)),
        ("answers", format!("{} to {} parts, {} failed", figures.answers, figures.parts, figures.failures)),
    ];
    if let Some(delay) = figures.delay {
        let Summary { p50_ms, p95_ms, p99_ms, max_ms, .. } = delay;
        rows.push(("after the first answer", format!("p50 {p50_ms}, p95 {p95_ms}, p99 {p99_ms}, max {max_ms} ms")));
    }
    if let (Some(cpu), Some(rss)) = (figures.server_cpu_percent, figures.server_rss_mb) {
        rows.push(("server", format!("{cpu} % of a core, {rss} MB")));
    }
    rows.iter().map(|(what, value)| format!("{what:<24}{value}\n")).collect()
}

/// Reads what there is and says what comes next; or, of files, that it is time to ask.
async fn lead(mut client: Client, path: String, every: Option<Duration>, tell: watch::Sender<Wanted>) {
    loop {
        let wanted = *tell.borrow();
        let next = match every {
            Some(every) => {
                tokio::time::sleep(every).await;
                Wanted { segment: wanted.segment + 1, part: 0 }
            }
            None => match client.get(&blocking(&path, wanted)).await {
                Ok((200, body)) => next_of(&body).unwrap_or(wanted),
                _ => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        tell.send_replace(next);
    }
}

/// How long a player takes to ask for the next part: a round trip of the networks that players are in. Without it all of them would ask
/// again within microseconds, and half of what is measured would be how soon this one thread does so.
const ROUND_TRIP_MS: std::ops::RangeInclusive<u64> = 10..=100;

/// One player: asks for what is wanted until it is there, then, a round trip later, for the next.
async fn follow(
    mut client: Client,
    path: String,
    every: Option<Duration>,
    mut wanted: watch::Receiver<Wanted>,
    measured: Rc<RefCell<Measured>>,
) {
    let round_trip = Duration::from_millis(rand::random_range(ROUND_TRIP_MS));
    loop {
        let asked = *wanted.borrow_and_update();
        let uri = if every.is_some() { path.clone() } else { blocking(&path, asked) };
        let answered = client.get(&uri).await;
        let now = Instant::now();
        {
            let mut measured = measured.borrow_mut();
            match answered {
                _ if !measured.is_on => {}
                Ok((200, _)) => measured.arrivals.entry((asked.segment, asked.part)).or_default().push(now),
                _ => measured.failures += 1,
            }
        }
        // The answer may be here before its reader has said what comes next.
        if wanted.changed().await.is_err() {
            return;
        }
        if every.is_none() {
            tokio::time::sleep(round_trip).await;
        }
    }
}

fn blocking(path: &str, Wanted { segment, part }: Wanted) -> String {
    let mark = if path.contains('?') { '&' } else { '?' };
    format!("{path}{mark}_HLS_msn={segment}&_HLS_part={part}")
}

fn path_and_query(url: &Url) -> String {
    let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
    format!("{}{query}", url.path())
}

/// The part behind a playlist's last; `None` of what is no playlist.
fn next_of(playlist: &str) -> Option<Wanted> {
    let number = |tag: &str| playlist.lines().find_map(|line| line.strip_prefix(tag)?.parse::<u64>().ok());
    let mut wanted = Wanted { segment: number("#EXT-X-MEDIA-SEQUENCE:")?, part: 0 };
    for line in playlist.lines() {
        if line.starts_with("#EXT-X-PART:") {
            wanted.part += 1;
        } else if !line.is_empty() && !line.starts_with('#') {
            wanted = Wanted { segment: wanted.segment + 1, part: 0 };
        }
    }
    Some(wanted)
}

/// A connection of HTTP/1.1 that is kept.
struct Client {
    stream: TcpStream,
    host: String,
    read: Vec<u8>,
}

impl Client {
    async fn connect(url: &Url) -> Result<Self, BenchError> {
        let (host, port) = url.host_str().zip(url.port_or_known_default()).unwrap_or_default();
        if url.scheme() != "http" || host.is_empty() {
            return Err(BenchError::Arguments(format!("{url} is no http:// URL")));
        }
        let address = (host.trim_matches(['[', ']']), port);
        let stream = TcpStream::connect(address).await.map_err(BenchError::system("a connection"))?;
        stream.set_nodelay(true).map_err(BenchError::system("TCP_NODELAY"))?;
        Ok(Self { stream, host: format!("{host}:{port}"), read: Vec::new() })
    }

    /// The first rendition's playlist, and what of it is to be asked for.
    async fn find_rendition(&mut self, url: &Url) -> Result<(String, Wanted), BenchError> {
        let refused = |what: String| BenchError::Refused(what);
        let (status, index) = self.get(&path_and_query(url)).await.map_err(|error| refused(error.to_string()))?;
        let named = index.lines().find(|line| !line.is_empty() && !line.starts_with('#'));
        let named = named.filter(|_| status == 200).ok_or_else(|| refused(format!("{status} {index}")))?;
        let rendition = url.join(named).map_err(|error| refused(error.to_string()))?;
        let path = path_and_query(&rendition);
        let (status, playlist) = self.get(&path).await.map_err(|error| refused(error.to_string()))?;
        let next = next_of(&playlist).ok_or_else(|| refused(format!("{status} {playlist}")))?;
        Ok((path, next))
    }

    async fn get(&mut self, uri: &str) -> io::Result<(u16, String)> {
        let request =
            format!("GET {uri} HTTP/1.1\r\nHost: {}\r\nUser-Agent: Mozilla/5.0 (sluice bench)\r\n\r\n", self.host);
        self.stream.write_all(request.as_bytes()).await?;
        self.read.clear();
        loop {
            if let Some(answer) = answer(&self.read)? {
                return Ok(answer);
            }
            if self.stream.read_buf(&mut self.read).await? == 0 || self.read.len() > ANSWER_MAX_BYTES {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

/// Status and body of an answer that is whole.
fn answer(read: &[u8]) -> io::Result<Option<(u16, String)>> {
    let Some(head_len) = read.windows(4).position(|four| four == b"\r\n\r\n").map(|at| at + 4) else {
        return Ok(None);
    };
    let (head, body) = read.split_at(head_len);
    let head = String::from_utf8_lossy(head).to_ascii_lowercase();
    let len = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let (Some(len), Some(status)) = (len, status) else { return Err(io::ErrorKind::InvalidData.into()) };
    Ok(body.get(..len).map(|body| (status, String::from_utf8_lossy(body).into_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_next_is_read_from_a_playlist() {
        let head = "#EXTM3U\n#EXT-X-MEDIA-SEQUENCE:7\n";
        let part = "#EXT-X-PART:DURATION=0.2,URI=\"a\"\n";
        assert_eq!(next_of(head), Some(Wanted { segment: 7, part: 0 }));
        assert_eq!(next_of(&format!("{head}{part}{part}")), Some(Wanted { segment: 7, part: 2 }));
        assert_eq!(
            next_of(&format!("{head}{part}#EXTINF:2,\ns7\n{part}#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"b\"\n")),
            Some(Wanted { segment: 8, part: 1 })
        );
        assert_eq!(next_of("<html>"), None);
        assert_eq!(
            blocking("/r0.m3u8?token=x", Wanted { segment: 7, part: 2 }),
            "/r0.m3u8?token=x&_HLS_msn=7&_HLS_part=2"
        );
    }

    #[test]
    fn an_answer_is_whole_when_its_body_is() {
        let whole = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        for len in 0..whole.len() {
            assert_eq!(answer(&whole[..len]).unwrap(), None, "{len}");
        }
        assert_eq!(answer(whole).unwrap(), Some((200, "hello".into())));
        assert!(answer(b"HTTP/1.1 200 OK\r\n\r\n").is_err(), "of unknown length");
    }

    #[test]
    fn answers_are_measured_from_the_first_to_the_same_part() {
        let at = |ms| crate::media::testing::epoch() + Duration::from_millis(ms);
        let mut measured = Measured::default();
        measured.arrivals.insert((1, 0), vec![at(10), at(12), at(11)]);
        measured.arrivals.insert((1, 1), vec![at(210), at(240)]);
        let args = Args {
            url: Url::parse("http://h/hls/a/index.m3u8").unwrap(),
            viewers: 3,
            duration: Duration::from_secs(1),
            server_pid: None,
            every: None,
            json: false,
        };
        let figures = figures(&args, &measured, Duration::from_secs(1), None);
        assert_eq!((figures.answers, figures.parts), (5, 2));
        assert!((figures.delay.unwrap().max_ms - 30.0).abs() < 0.1);
        assert!(table(&figures).contains("5 to 2 parts, 0 failed"));
    }
}
