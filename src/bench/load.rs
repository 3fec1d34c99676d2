//! The load test itself: one loop that drives all sockets and sessions, through the phases publish, idle, join, settle,
//! measure, leave.

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Token, Waker};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use sluice_signaling::ice::IceCredentials;

use super::{
    answer::Answer,
    audience::{self, JoinFigures, Sample},
    error::BenchError,
    offer::{self, Purpose},
    process::{Process, Usage, socket_drops},
    publisher::Publisher,
    reception::Counts,
    report::{Figures, ServerFigures},
    signalling::{Accepted, Outcome, Signalling},
    stamp::Pictures,
    viewer::Viewer,
    wall::Wall,
    whep::Args,
    wire::{Reader, Wire},
};
use crate::transport::Certificate;

/// Timers of all sessions are looked at so often.
const TICK: Duration = Duration::from_millis(5);
/// The server is measured for so long before the first viewer comes: 4 s, for the kernel counts CPU time in ticks of 10 ms,
/// and an idle server uses some 3 % of a core.
const IDLE: Duration = Duration::from_secs(4);
/// After the last join, before measuring: join bursts are over.
const SETTLE: Duration = Duration::from_secs(1);
/// The publisher may take so long to connect, and sends for so long before viewers come: a keyframe is at the server.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(10);
const PUBLISH_LEAD: Duration = Duration::from_secs(1);
/// Descriptors besides the viewers' sockets: HTTP connections (one per viewer at the worst), queues, standard streams.
const OTHER_DESCRIPTORS: u64 = 64;

/// One viewer, its socket and session URL.
struct Seat {
    viewer: Viewer,
    wire: Option<Wire>,
    session: Option<reqwest::Url>,
    asked: Instant,
}

struct Publishing {
    local: IceCredentials,
    ssrcs: (u32, u32),
    started: Option<(Publisher, Wire)>,
    session: Option<reqwest::Url>,
    refused: Option<String>,
}

pub struct Load<'a> {
    args: &'a Args,
    epoch: Instant,
    certificate: Arc<Certificate>,
    poll: Poll,
    events: Events,
    signalling: Signalling,
    reader: Reader,
    seats: Vec<Seat>,
    publishing: Option<Publishing>,
    sample: Sample,
    server: Option<Process>,
    next_tick: Instant,
    progress: Progress,
    accepted: u32,
    refused: Option<String>,
}

/// What the progress line compares with.
struct Progress {
    next_at: Instant,
    counts: Counts,
    cpu: Option<Duration>,
}

/// Tokens after the viewers' own.
const PUBLISHER: Token = Token(usize::MAX - 1);
const WAKER: Token = Token(usize::MAX - 2);

impl<'a> Load<'a> {
    /// # Errors
    /// When the machine or the arguments do not allow the test.
    pub fn new(args: &'a Args) -> Result<Self, BenchError> {
        allow_descriptors(u64::from(args.viewers))?;
        let epoch = Instant::now();
        let poll = Poll::new().map_err(BenchError::system("an event queue"))?;
        let waker = Waker::new(poll.registry(), WAKER).map_err(BenchError::system("an event"))?;
        let certificate = Certificate::generate()
            .map_err(|error| BenchError::Arguments(format!("no DTLS certificate could be made: {error}")))?;
        Ok(Self {
            args,
            epoch,
            certificate,
            poll,
            events: Events::with_capacity(512),
            signalling: Signalling::start(args.token(), Arc::new(waker))?,
            reader: Reader::default(),
            seats: Vec::with_capacity(args.viewers as usize),
            publishing: None,
            sample: Sample::new(epoch),
            server: args.server_pid.map(Process::open).transpose()?,
            next_tick: epoch,
            progress: Progress { next_at: epoch + Duration::from_secs(1), counts: Counts::default(), cpu: None },
            accepted: 0,
            refused: None,
        })
    }

    /// # Errors
    /// When the publisher cannot go live, or the server refuses the first viewer.
    pub fn run(mut self) -> Result<Figures, BenchError> {
        self.publish()?;
        let idle = self.idle()?;
        self.join()?;
        self.pass(SETTLE)?;
        let joins = JoinFigures::of(self.viewers());
        let window = self.measure()?;
        let failures = audience::failures(self.viewers());
        let playing = self.viewers().filter(|viewer| viewer.is_playing() && viewer.failure().is_none()).count();
        let repairs = self.viewers().map(Viewer::repairs).sum();
        let sampled = (self.args.sample.min(self.args.viewers)) as usize;
        let ports: Vec<u16> = self.seats.iter().filter_map(|seat| seat.wire.as_ref()?.local_port().ok()).collect();
        let socket_drops = socket_drops(&ports);
        self.leave()?;
        self.signalling.finish();
        let (delay, spread, shape) = self.sample.finish();
        Ok(Figures {
            url: self.args.url.to_string(),
            viewers: self.args.viewers,
            playing: playing as u32,
            failures,
            joins,
            window: window.time,
            counts: window.counts,
            repairs,
            socket_drops,
            published: self.args.publish,
            sampled,
            delay,
            spread,
            shape,
            client_cpu: window.client_cpu,
            server: idle.zip(window.server).map(|(idle, (before, after))| ServerFigures::new(&idle, &before, &after)),
        })
    }

    fn viewers(&self) -> impl Iterator<Item = &Viewer> + Clone {
        self.seats.iter().map(|seat| &seat.viewer)
    }

    fn pass(&mut self, time: Duration) -> Result<(), BenchError> {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.turn(until)?;
        }
        Ok(())
    }

    // Phases.

    fn publish(&mut self) -> Result<(), BenchError> {
        let Some(url) = self.args.whip_url()? else { return Ok(()) };
        let (local, ssrcs) = (IceCredentials::random(), (rand::random(), rand::random()));
        let purpose = Purpose::Publish { video: ssrcs.0, audio: ssrcs.1 };
        let offer = offer::write(purpose, &local, &self.certificate.fingerprint(), u64::from(ssrcs.0));
        self.signalling.open(PUBLISHER.0, url, offer);
        self.publishing = Some(Publishing { local, ssrcs, started: None, session: None, refused: None });
        let give_up = Instant::now() + PUBLISH_TIMEOUT;
        loop {
            self.turn(give_up)?;
            let Some(publishing) = &self.publishing else { return Ok(()) };
            let publisher = publishing.started.as_ref().map(|(publisher, _)| publisher);
            let ended = publisher.and_then(Publisher::ended).map(str::to_owned);
            if let Some(reason) = publishing.refused.clone().or(ended) {
                return Err(BenchError::Publisher(reason));
            }
            match publisher.and_then(Publisher::live_since) {
                Some(since) if since.elapsed() >= PUBLISH_LEAD => return Ok(()),
                None if Instant::now() >= give_up => {
                    let reason = format!("not connected after {} s (ICE or DTLS)", PUBLISH_TIMEOUT.as_secs());
                    return Err(BenchError::Publisher(reason));
                }
                _ => {}
            }
        }
    }

    /// The server's usage over some seconds without viewers.
    fn idle(&mut self) -> Result<Option<(Usage, Usage, Duration)>, BenchError> {
        let Some(server) = self.server else { return Ok(None) };
        let (before, since) = (server.usage()?, Instant::now());
        self.pass(IDLE)?;
        Ok(Some((before, server.usage()?, since.elapsed())))
    }

    fn join(&mut self) -> Result<(), BenchError> {
        let start = Instant::now();
        let due = |n: usize, rate: f64| start + Duration::from_secs_f64(n as f64 / rate);
        loop {
            let now = Instant::now();
            while self.seats.len() < self.args.viewers as usize && due(self.seats.len(), self.args.join_rate) <= now {
                self.seat(now);
            }
            if let (0, Some(reason)) = (self.accepted, &self.refused) {
                return Err(BenchError::Refused(reason.clone()));
            }
            let all = self.seats.len() == self.args.viewers as usize;
            let timeout = self.args.join_timeout;
            let waiting = |seat: &Seat| {
                !seat.viewer.is_playing()
                    && seat.viewer.failure().is_none()
                    && now.saturating_duration_since(seat.asked) < timeout
            };
            if all && !self.seats.iter().any(waiting) {
                return Ok(());
            }
            self.turn(if all { now + TICK } else { due(self.seats.len(), self.args.join_rate) })?;
        }
    }

    /// A viewer comes: its offer is on its way.
    fn seat(&mut self, now: Instant) {
        let id = self.seats.len();
        let local = IceCredentials::random();
        let offer = offer::write(Purpose::Watch, &local, &self.certificate.fingerprint(), id as u64 + 1);
        self.signalling.open(id, self.args.url.clone(), offer);
        let sampled = is_sampled(id as u64, u64::from(self.args.viewers), u64::from(self.args.sample));
        let viewer = Viewer::new(local, sampled, self.args.nack);
        self.seats.push(Seat { viewer, wire: None, session: None, asked: now });
    }

    fn measure(&mut self) -> Result<Window, BenchError> {
        let own = Process::open(std::process::id())?;
        let read = |process: Process| process.usage();
        let (server_before, own_before) = (self.server.map(read).transpose()?, own.usage()?);
        let (counts_before, since) = (audience::total(self.viewers()), Instant::now());
        self.sample.open();
        self.pass(self.args.duration)?;
        self.sample.close();
        let (counts, time) = (audience::total(self.viewers()).since(&counts_before), since.elapsed());
        let (server_after, own_after) = (self.server.map(read).transpose()?, own.usage()?);
        Ok(Window {
            time,
            counts,
            client_cpu: own_after.cpu.saturating_sub(own_before.cpu),
            server: server_before.zip(server_after),
        })
    }

    fn leave(&mut self) -> Result<(), BenchError> {
        let now = Instant::now();
        for seat in &mut self.seats {
            seat.viewer.close(now);
            if let Some(session) = seat.session.take() {
                self.signalling.close(session);
            }
        }
        if let Some(publishing) = &mut self.publishing {
            if let Some((publisher, _)) = &mut publishing.started {
                publisher.close(now);
            }
            if let Some(session) = publishing.session.take() {
                self.signalling.close(session);
            }
        }
        self.next_tick = now;
        self.turn(now)
    }

    // One turn of the loop.

    fn turn(&mut self, until: Instant) -> Result<(), BenchError> {
        let now = Instant::now();
        let publisher_due = self.publisher().and_then(|(publisher, _)| publisher.poll_timeout());
        let next = self.next_tick.min(until).min(publisher_due.unwrap_or(until));
        match self.poll.poll(&mut self.events, Some(next.saturating_duration_since(now))) {
            Err(error) if error.kind() != io::ErrorKind::Interrupted => {
                return Err(BenchError::System { what: "waiting for packets", source: error });
            }
            _ => {}
        }
        self.receive();
        while let Some(outcome) = self.signalling.poll() {
            self.answered(outcome);
        }
        let now = Instant::now();
        if let Some((publisher, wire)) = self.publishing.as_mut().and_then(|publishing| publishing.started.as_mut())
            && (now >= self.next_tick || publisher.poll_timeout().is_some_and(|due| due <= now))
        {
            publisher.handle_timeout(now);
            flush(wire, || publisher.poll_transmit());
        }
        if now >= self.next_tick {
            self.next_tick = now + TICK;
            for seat in &mut self.seats {
                seat.viewer.handle_timeout(now);
                seat.flush();
            }
            self.show_progress(now);
        }
        Ok(())
    }

    fn publisher(&self) -> Option<&(Publisher, Wire)> {
        self.publishing.as_ref()?.started.as_ref()
    }

    fn receive(&mut self) {
        for event in &self.events {
            if event.token() == PUBLISHER {
                let started = self.publishing.as_mut().and_then(|publishing| publishing.started.as_mut());
                let Some((publisher, wire)) = started else { continue };
                let now = Instant::now();
                self.reader.drain(wire, |batch| {
                    batch.datagrams().for_each(|datagram| publisher.handle_datagram(now, batch.from, datagram));
                });
                flush(wire, || publisher.poll_transmit());
                continue;
            }
            let Some(Seat { viewer, wire: Some(wire), .. }) = self.seats.get_mut(event.token().0) else { continue };
            let wall = Wall::read();
            let sample = &mut self.sample;
            self.reader.drain(wire, |batch| {
                let arrived = wall.arrival(batch.kernel_time);
                for datagram in batch.datagrams() {
                    viewer.handle_datagram(wall.now, arrived, batch.from, datagram, sample);
                }
            });
            flush(wire, || viewer.poll_transmit());
        }
    }

    fn answered(&mut self, outcome: Outcome) {
        let Outcome { id, asked, answered, result } = outcome;
        if id == PUBLISHER.0 {
            if let Some(publishing) = &mut self.publishing {
                let started = result.and_then(|accepted| {
                    publishing.session = accepted.session.clone();
                    let (answer, wire) = connect(&self.poll, &self.args.url, PUBLISHER, &accepted)?;
                    let pictures = Pictures::new(self.args.shape(), self.epoch);
                    let local = publishing.local.clone();
                    Publisher::new(answered, local, &answer, &self.certificate, publishing.ssrcs, pictures)
                        .map(|publisher| (publisher, wire))
                });
                match started {
                    Ok(started) => publishing.started = Some(started),
                    Err(reason) => publishing.refused = Some(reason),
                }
            }
            self.next_tick = answered;
            return;
        }
        let Some(seat) = self.seats.get_mut(id) else { return };
        let started = result.and_then(|accepted| {
            self.accepted += 1;
            seat.session = accepted.session.clone();
            let (answer, wire) = connect(&self.poll, &self.args.url, Token(id), &accepted)?;
            seat.wire = Some(wire);
            seat.viewer.start(asked, answered, &answer, &self.certificate)
        });
        match started {
            Ok(()) => {
                // The first check goes at once, not at the next tick.
                seat.viewer.handle_timeout(answered);
                seat.flush();
            }
            Err(reason) => {
                self.refused.get_or_insert_with(|| reason.clone());
                seat.viewer.fail(Some(asked), reason);
            }
        }
    }

    fn show_progress(&mut self, now: Instant) {
        if now < self.progress.next_at {
            return;
        }
        self.progress.next_at += Duration::from_secs(1);
        if self.args.quiet {
            return;
        }
        let playing = self.viewers().filter(|viewer| viewer.is_playing()).count();
        let counts = audience::total(self.viewers());
        let last = counts.since(&self.progress.counts);
        let cpu = self.server.and_then(|server| server.usage().ok());
        let server = cpu.as_ref().zip(self.progress.cpu).map_or_else(String::new, |(usage, before)| {
            let percent = usage.cpu.saturating_sub(before).as_secs_f64() * 100.0;
            format!("  server {percent:.0} % CPU, {} MB", usage.resident_bytes / 1_000_000)
        });
        eprintln!(
            "{:>4} s  {}/{} playing  {} packets/s  {:.1} Mb/s  lost {}{server}",
            now.saturating_duration_since(self.epoch).as_secs(),
            playing,
            self.args.viewers,
            last.packets,
            last.bytes as f64 * 8.0 / 1e6,
            last.lost(),
        );
        self.progress.counts = counts;
        self.progress.cpu = cpu.map(|usage| usage.cpu);
    }
}

/// What was measured while everybody watched.
struct Window {
    time: Duration,
    counts: Counts,
    client_cpu: Duration,
    server: Option<(Usage, Usage)>,
}

impl Seat {
    fn flush(&mut self) {
        if let Some(wire) = &self.wire {
            flush(wire, || self.viewer.poll_transmit());
        }
    }
}

/// Sends what is queued. A datagram that the system does not take is lost, as on any network: timers repeat it.
fn flush(wire: &Wire, mut next: impl FnMut() -> Option<(SocketAddr, Vec<u8>)>) {
    while let Some((to, datagram)) = next() {
        let _ = wire.send(&datagram, to);
    }
}

/// Reads an answer, and opens a socket towards its candidates.
fn connect(poll: &Poll, url: &reqwest::Url, token: Token, accepted: &Accepted) -> Result<(Answer, Wire), String> {
    let unusable = |error: &dyn std::fmt::Display| format!("{url} gave an answer that cannot be used: {error}");
    let mut answer = Answer::parse(&accepted.answer).map_err(|error| unusable(&error))?;
    // One socket has one address family: that of the URL, if the server has candidates of it, else IPv4 first.
    let prefers_v6 = url.host_str().is_some_and(|host| host.starts_with('['));
    let (preferred, others): (Vec<_>, Vec<_>) =
        answer.candidates.iter().partition(|candidate| candidate.is_ipv6() == prefers_v6);
    answer.candidates = if preferred.is_empty() { others } else { preferred };
    let first = *answer.candidates.first().ok_or_else(|| unusable(&"no candidates"))?;
    let mut wire = Wire::towards(first).map_err(|error| format!("this machine has no socket to give: {error}"))?;
    wire.register(poll.registry(), token).map_err(|error| format!("a socket cannot be watched: {error}"))?;
    Ok((answer, wire))
}

/// Spreads `sample` of `viewers` evenly, the first and the last among them: servers send in the order of joining.
fn is_sampled(id: u64, viewers: u64, sample: u64) -> bool {
    match sample {
        0 => false,
        1 => id == 0,
        _ if sample >= viewers => true,
        _ => (0..sample).any(|n| n * (viewers - 1) / (sample - 1) == id),
    }
}

/// Raises the limit of open files to what so many viewers need.
fn allow_descriptors(viewers: u64) -> Result<(), BenchError> {
    let failed =
        |errno: nix::Error| BenchError::System { what: "a look at its limit of open files", source: errno.into() };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    let needed = 2 * viewers + OTHER_DESCRIPTORS;
    if soft >= needed {
        return Ok(());
    }
    if hard < needed {
        return Err(BenchError::Arguments(format!(
            "{viewers} viewers need {needed} open files, and the limit is {hard}; raise it (ulimit -Hn) or ask for fewer"
        )));
    }
    setrlimit(Resource::RLIMIT_NOFILE, needed, hard).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sample_is_spread_from_the_first_to_the_last_viewer() {
        for (viewers, sample, expected) in [(200, 32, 32), (10, 32, 10), (7, 2, 2), (5, 1, 1), (5, 0, 0), (1, 1, 1)] {
            let sampled: Vec<u64> = (0..viewers).filter(|id| is_sampled(*id, viewers, sample)).collect();
            assert_eq!(sampled.len(), expected);
            if expected > 1 {
                assert_eq!((sampled.first(), sampled.last()), (Some(&0), Some(&(viewers - 1))));
            }
        }
    }
}
