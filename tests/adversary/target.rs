//! The server under attack, and its audience: the program's own load generator, which publishes and watches.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{
        Arc,
        mpsc::{Receiver, TryRecvError, channel},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{attack::Addresses, log::Log};

const PATIENCE: Duration = Duration::from_secs(30);
/// Sessions whose client never came, or fell silent, are let go after 30 s, at the next sweep of a second.
const SETTLED_WITHIN: Duration = Duration::from_secs(60);
/// A look at the server when no line of its log said that something had ended.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const VIEWERS: usize = 4;

pub struct Target {
    pid: Pid,
    /// Says once that the process has ended.
    ended: Receiver<ExitStatus>,
    pub addresses: Addresses,
    pub log: Arc<Log>,
}

/// What the server holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Holdings {
    /// Sessions of WHIP and WHEP in its tables, and publishers of any protocol.
    pub sessions: u64,
    /// Open descriptors: a connection each, beside the few that a server has for itself.
    pub descriptors: usize,
    pub threads: usize,
    /// Memory that is really there.
    pub resident_bytes: u64,
}

fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sluice"));
    command.stdin(Stdio::null());
    command
}

impl Target {
    pub fn start() -> Self {
        let mut process = program()
            .args(["serve", "--print-addresses"])
            .env("SLUICE_HTTP__LISTEN", "127.0.0.1:0")
            .env("SLUICE_RTMP__LISTEN", "127.0.0.1:0")
            .env("SLUICE_WEBRTC__LISTEN", "127.0.0.1:0")
            .env("SLUICE_WEBRTC__ADVERTISE", "127.0.0.1")
            .env("RUST_BACKTRACE", "1")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut stdout = BufReader::new(process.stdout.take().expect("piped"));
        let log = Arc::new(Log::default());
        log.collect(process.stderr.take().expect("piped"));
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the server prints its addresses");
        let printed: Value = serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}\n{}", log.tail()));
        log.collect(stdout.into_inner());
        let address =
            |name: &str| -> SocketAddr { printed[name].as_str().and_then(|a| a.parse().ok()).expect("an address") };
        let addresses = Addresses { http: address("http"), rtmp: address("rtmp"), webrtc: address("webrtc") };
        let pid = Pid::from_raw(process.id().cast_signed());
        let (tell, ended) = channel();
        thread::spawn(move || tell.send(process.wait().expect("its own child")));
        Self { pid, ended, addresses, log }
    }

    pub fn is_alive(&self) -> bool {
        self.ended.try_recv() == Err(TryRecvError::Empty)
    }

    /// A plain request still gets its answer.
    pub fn answers(&self) -> bool {
        self.get("/healthz").is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    fn get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect_timeout(&self.addresses.http, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    }

    pub fn holdings(&self) -> Holdings {
        let metrics = self.get("/metrics").unwrap_or_else(|error| panic!("no metrics: {error}\n{}", self.log.tail()));
        let sum = |name: &str| -> u64 {
            let samples = metrics.lines().filter(|line| line.starts_with(name));
            samples
                .map(|line| line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok()).expect("a count"))
                .sum()
        };
        let entries = |folder: &str| fs::read_dir(format!("/proc/{}/{folder}", self.pid)).map_or(0, Iterator::count);
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap_or_default();
        let pages = statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0);
        Holdings {
            sessions: sum("sluice_webrtc_sessions ") + sum("sluice_publishers{"),
            descriptors: entries("fd"),
            threads: entries("task"),
            resident_bytes: pages * 4096,
        }
    }

    /// What it holds once everything that came has gone: as many sessions, descriptors and threads as at `rest`. What it still
    /// holds when it does not come down to that.
    pub fn settle(&self, rest: &Holdings) -> Holdings {
        let until = Instant::now() + SETTLED_WITHIN;
        loop {
            let now = self.holdings();
            let gone =
                now.sessions <= rest.sessions && now.descriptors <= rest.descriptors && now.threads <= rest.threads;
            if gone || Instant::now() >= until {
                return now;
            }
            // Ends of sessions are logged, ends of connections are not.
            let logged_bytes = self.log.text().len();
            self.log.wait(Instant::now() + LOOK_EVERY, |text| text.len() > logged_bytes);
        }
    }

    pub fn stop(self) {
        kill(self.pid, Signal::SIGTERM).expect("it is there");
        let status = self.ended.recv_timeout(PATIENCE);
        let status = status.unwrap_or_else(|_| panic!("the server does not end:\n{}", self.log.tail()));
        assert!(status.success(), "{status}:\n{}", self.log.tail());
    }
}

impl Drop for Target {
    /// When an assertion failed nobody has stopped it yet.
    fn drop(&mut self) {
        if self.ended.try_recv() == Err(TryRecvError::Empty) {
            let _ = kill(self.pid, Signal::SIGKILL);
        }
    }
}

/// A publisher and viewers who count what they miss.
pub struct Audience(Child);

impl Audience {
    /// Returns once they watch.
    pub fn seat(target: &Target, lasting: Duration) -> Self {
        let url = format!("http://{}/whep/live", target.addresses.http);
        let measured = format!("{}s", lasting.as_secs() + 2);
        let seated_before = seated(&target.log.text());
        let process = program()
            .args(["bench", "whep", "--url", &url, "--publish", "--publish-kbps", "500"])
            .args(["--viewers", &VIEWERS.to_string(), "--duration", &measured, "--nack", "--json", "--quiet"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the audience starts");
        let audience = Self(process);
        let enough = |log: &str| seated(log) == seated_before + VIEWERS;
        let all = target.log.wait(Instant::now() + PATIENCE, enough);
        assert!(all, "the audience is not seated:\n{}", target.log.tail());
        audience
    }

    /// What they report when their time is over: one line of JSON.
    pub fn verdict(mut self) -> Value {
        let mut out = String::new();
        let mut err = String::new();
        let _ = self.0.stdout.take().map(|mut pipe| pipe.read_to_string(&mut out));
        let _ = self.0.stderr.take().map(|mut pipe| pipe.read_to_string(&mut err));
        let _ = self.0.wait();
        serde_json::from_str(out.trim()).unwrap_or_else(|e| panic!("the audience reports nothing: {e}\n{out}\n{err}"))
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Viewers who connected, by the server's log.
fn seated(log: &str) -> usize {
    log.lines().filter(|line| line.contains(" connected session=") && line.contains("protocol=\"whep\"")).count()
}
