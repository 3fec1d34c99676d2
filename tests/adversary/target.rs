//! The server under attack, and its audience: the program's own load generator, which publishes and watches.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::attack::Addresses;

const PATIENCE: Duration = Duration::from_secs(30);
/// What the log may hold before lines are left out: a flood of lines would itself be a fault, and is seen long before.
const LOG_BYTES_MAX: usize = 16 << 20;
const VIEWERS: &str = "4";

pub struct Target {
    process: Mutex<Child>,
    pub addresses: Addresses,
    log: Arc<Mutex<String>>,
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
        let log = Arc::new(Mutex::new(String::new()));
        collect(process.stderr.take().expect("piped"), log.clone());
        let mut line = String::new();
        stdout.read_line(&mut line).expect("the server prints its addresses");
        let printed: Value =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line:?}\n{}", log.lock().unwrap()));
        collect(stdout.into_inner(), log.clone());
        let address =
            |name: &str| -> SocketAddr { printed[name].as_str().and_then(|a| a.parse().ok()).expect("an address") };
        let addresses = Addresses { http: address("http"), rtmp: address("rtmp"), webrtc: address("webrtc") };
        Self { process: Mutex::new(process), addresses, log }
    }

    fn pid(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    pub fn is_alive(&self) -> bool {
        self.process.lock().unwrap().try_wait().is_ok_and(|ended| ended.is_none())
    }

    /// A plain request still gets its answer.
    pub fn answers(&self) -> bool {
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect_timeout(&self.addresses.http, PATIENCE)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// Memory that is really there.
    pub fn resident_bytes(&self) -> u64 {
        let statm = fs::read_to_string(format!("/proc/{}/statm", self.pid())).unwrap_or_default();
        statm.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4096
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }

    pub fn stop(self) {
        self.signal("-TERM");
        let mut process = self.process.lock().unwrap();
        let until = Instant::now() + PATIENCE;
        let status = loop {
            match process.try_wait().expect("its own child") {
                Some(status) => break status,
                None if Instant::now() > until => panic!("the server does not end:\n{}", self.log_tail()),
                None => thread::sleep(Duration::from_millis(20)),
            }
        };
        assert!(status.success(), "{status}:\n{}", self.log_tail());
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.pid().to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "no signal {name} could be sent");
    }
}

impl Drop for Target {
    /// When an assertion failed nobody has stopped it yet.
    fn drop(&mut self) {
        if let Ok(mut process) = self.process.lock() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn collect(pipe: impl Read + Send + 'static, log: Arc<Mutex<String>>) {
    thread::spawn(move || {
        for line in BufReader::new(pipe).lines().map_while(Result::ok) {
            let mut log = log.lock().unwrap();
            if log.len() < LOG_BYTES_MAX {
                log.push_str(&line);
                log.push('\n');
            }
        }
    });
}

/// A publisher and viewers who count what they miss.
pub struct Audience(Child);

impl Audience {
    /// Returns once they watch.
    pub fn seat(target: &Target, lasting: Duration) -> Self {
        let url = format!("http://{}/whep/live", target.addresses.http);
        let measured = format!("{}s", lasting.as_secs() + 2);
        let process = program()
            .args(["bench", "whep", "--url", &url, "--publish", "--publish-kbps", "500", "--viewers", VIEWERS])
            .args(["--duration", &measured, "--nack", "--json", "--quiet"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the audience starts");
        let seated = Self(process);
        let until = Instant::now() + PATIENCE;
        while viewers_now(target) != VIEWERS.parse().ok() {
            assert!(Instant::now() < until, "the audience is not seated:\n{}", target.log_tail());
            thread::sleep(Duration::from_millis(100));
        }
        seated
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

/// By the server's own count.
fn viewers_now(target: &Target) -> Option<u64> {
    let mut stream = TcpStream::connect(target.addresses.http).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let line = answer.lines().find(|line| line.starts_with("sluice_viewers{"))?;
    line.rsplit(' ').next()?.parse().ok()
}
