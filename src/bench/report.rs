//! The figures of a load test, as a table for people and one line of JSON for programs.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use serde_json::{Value, json};

use super::{
    audience::{JoinFigures, Shape, per_second},
    figures::{Summary, round},
    process::{Usage, cpu_model},
    reception::Counts,
};

#[derive(Debug)]
pub struct Figures {
    pub url: String,
    pub viewers: u32,
    /// Viewers with media, and with a keyframe of video, that were still watching at the end.
    pub playing: u32,
    /// Viewers that were not, by reason.
    pub failures: BTreeMap<String, u32>,
    pub joins: JoinFigures,
    /// The time measured, and what all viewers received in it.
    pub window: Duration,
    pub counts: Counts,
    /// Retransmission packets, since the first join.
    pub repairs: u64,
    /// Datagrams dropped at our own sockets, since the first join: the load generator was late, not the server.
    pub socket_drops: Option<u64>,
    pub published: bool,
    /// Viewers whose packets were looked into.
    pub sampled: usize,
    /// From the synthetic publisher to the viewer's socket.
    pub delay: Option<Summary>,
    /// Behind the earliest copy.
    pub spread: Option<Summary>,
    pub shape: Shape,
    /// Of the load generator, in the time measured.
    pub client_cpu: Duration,
    pub server: Option<ServerFigures>,
}

#[derive(Debug)]
pub struct ServerFigures {
    /// CPU in the time measured; the system's part of it.
    pub cpu: Duration,
    pub system: Duration,
    /// CPU per second without viewers.
    pub idle_share: f64,
    pub idle_rss_bytes: u64,
    pub rss_bytes: u64,
    /// CPU by thread, busiest first.
    pub threads: Vec<(String, Duration)>,
}

impl ServerFigures {
    pub fn new((idle_from, idle_to, idle_time): &(Usage, Usage, Duration), before: &Usage, after: &Usage) -> Self {
        let idle_cpu = idle_to.cpu.saturating_sub(idle_from.cpu);
        let since = |(name, cpu): (&String, &Duration)| {
            (name.clone(), cpu.saturating_sub(before.threads.get(name).copied().unwrap_or_default()))
        };
        let mut threads: Vec<_> = after.threads.iter().map(since).filter(|(_, cpu)| !cpu.is_zero()).collect();
        threads.sort_by_key(|(_, cpu)| std::cmp::Reverse(*cpu));
        Self {
            cpu: after.cpu.saturating_sub(before.cpu),
            system: after.system.saturating_sub(before.system),
            idle_share: idle_cpu.as_secs_f64() / idle_time.as_secs_f64().max(f64::EPSILON),
            idle_rss_bytes: idle_to.resident_bytes,
            rss_bytes: after.resident_bytes,
            threads,
        }
    }
}

impl Figures {
    /// Server CPU per packet that reached a viewer, in microseconds: all of it, and what is above the idle server's.
    fn cpu_us_per_packet(&self) -> Option<(f64, f64)> {
        let server = self.server.as_ref().filter(|_| self.counts.packets > 0)?;
        let packets = self.counts.packets as f64;
        let idle = server.idle_share * self.window.as_secs_f64();
        let all = server.cpu.as_secs_f64();
        Some((all * 1e6 / packets, (all - idle).max(0.0) * 1e6 / packets))
    }

    fn rss_per_viewer_bytes(&self) -> Option<i64> {
        let server = self.server.as_ref()?;
        let grown = server.rss_bytes.cast_signed() - server.idle_rss_bytes.cast_signed();
        grown.checked_div(i64::from(self.playing))
    }

    fn loss_percent(&self) -> f64 {
        100.0 * self.counts.lost() as f64 / self.counts.expected.max(1) as f64
    }
}

/// One line.
pub fn json(figures: &Figures) -> Value {
    let server = figures.server.as_ref().zip(figures.cpu_us_per_packet()).map(|(server, (all, above_idle))| {
        let seconds = figures.window.as_secs_f64();
        let threads: BTreeMap<_, _> =
            server.threads.iter().map(|(name, cpu)| (name, round(100.0 * cpu.as_secs_f64() / seconds, 2))).collect();
        json!({
            "cpu_us_per_packet": round(all, 3),
            "cpu_us_per_packet_above_idle": round(above_idle, 3),
            "cpu_percent": round(100.0 * server.cpu.as_secs_f64() / seconds, 2),
            "system_cpu_percent": round(100.0 * server.system.as_secs_f64() / seconds, 2),
            "idle_cpu_percent": round(100.0 * server.idle_share, 2),
            "rss_bytes": server.rss_bytes,
            "idle_rss_bytes": server.idle_rss_bytes,
            "rss_per_viewer_bytes": figures.rss_per_viewer_bytes(),
            "thread_cpu_percent": threads,
        })
    });
    json!({
        "url": figures.url,
        "viewers": figures.viewers,
        "playing": figures.playing,
        "failures": figures.failures,
        "join": figures.joins,
        "seconds": round(figures.window.as_secs_f64(), 3),
        "packets": figures.counts.packets,
        "packets_per_second": round(per_second(figures.counts.packets, figures.window), 1),
        "mbps": round(per_second(figures.counts.bytes, figures.window) * 8.0 / 1e6, 3),
        "expected": figures.counts.expected,
        "lost": figures.counts.lost(),
        "loss_percent": round(figures.loss_percent(), 4),
        "duplicates": figures.counts.duplicates,
        "retransmissions": figures.repairs,
        "own_socket_drops": figures.socket_drops,
        "sampled_viewers": figures.sampled,
        "one_way_delay": figures.delay,
        "behind_earliest_copy": figures.spread,
        "frames": figures.shape.frames(),
        "audio_packet_bytes": figures.shape.audio_bytes(),
        "audio_packets_per_second": round(per_second(figures.shape.audio_packets(), figures.window), 1),
        "client_cpu_percent": round(100.0 * per_second(figures.client_cpu.as_micros() as u64, figures.window) / 1e6, 2),
        "cpu_model": cpu_model(),
        "server": server,
    })
}

/// For people.
pub fn table(figures: &Figures) -> String {
    let mut out = String::new();
    let mut row = |name: &str, text: String| {
        // Writing to a `String` cannot fail.
        let _ = writeln!(out, "{name:<34} {text}");
    };
    row("viewers playing", format!("{} of {}", figures.playing, figures.viewers));
    for (reason, count) in &figures.failures {
        row("  not playing", format!("{count}: {reason}"));
    }
    let joins = &figures.joins;
    for (name, summary) in [
        ("POST to answer", &joins.answer),
        ("POST to connected (ICE, DTLS)", &joins.connected),
        ("POST to first packet", &joins.first_packet),
        ("POST to first keyframe packet", &joins.first_keyframe),
    ] {
        row(name, distribution(summary.as_ref()));
    }
    let counts = &figures.counts;
    row("measured", format!("{:.1} s", figures.window.as_secs_f64()));
    row(
        "received",
        format!(
            "{:.0} packets/s, {:.2} Mb/s",
            per_second(counts.packets, figures.window),
            per_second(counts.bytes, figures.window) * 8.0 / 1e6
        ),
    );
    row("lost", format!("{} of {} ({:.3} %)", counts.lost(), counts.expected, figures.loss_percent()));
    if let Some(drops) = figures.socket_drops.filter(|drops| *drops > 0) {
        row("  dropped at our own sockets", format!("{drops} since the first join: this load generator was too slow"));
    }
    row("duplicates, retransmissions", format!("{}, {}", counts.duplicates, figures.repairs));
    if figures.published {
        row("publisher to viewer, one way", distribution(figures.delay.as_ref()));
    }
    row("copy behind the earliest copy", distribution(figures.spread.as_ref()));
    row("", format!("({} viewers sampled; the second is a lower bound of the first)", figures.sampled));
    let seconds = figures.window.as_secs_f64();
    if let Some((server, (all, above_idle))) = figures.server.as_ref().zip(figures.cpu_us_per_packet()) {
        row("server CPU per forwarded packet", format!("{all:.2} us ({above_idle:.2} us above idle)"));
        let percent = |cpu: Duration| 100.0 * cpu.as_secs_f64() / seconds;
        row(
            "server CPU",
            format!(
                "{:.1} % of a core ({:.1} % in the kernel), {:.1} % without viewers",
                percent(server.cpu),
                percent(server.system),
                100.0 * server.idle_share
            ),
        );
        for (name, cpu) in server.threads.iter().take(8) {
            row(&format!("  thread {name}"), format!("{:.1} %", percent(*cpu)));
        }
        let kb = figures.rss_per_viewer_bytes().map_or_else(|| "-".to_owned(), |bytes| format!("{}", bytes / 1_024));
        let mb = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        row(
            "server RSS per viewer",
            format!("{kb} KiB ({:.1} MiB without, {:.1} with)", mb(server.idle_rss_bytes), mb(server.rss_bytes)),
        );
    }
    row("load generator CPU", format!("{:.1} % of a core", 100.0 * figures.client_cpu.as_secs_f64() / seconds));
    out
}

fn distribution(summary: Option<&Summary>) -> String {
    match summary {
        Some(s) => format!(
            "p50 {:>8.2} ms  p95 {:>8.2} ms  p99 {:>8.2} ms  max {:>8.2} ms  ({})",
            s.p50_ms, s.p95_ms, s.p99_ms, s.max_ms, s.count
        ),
        None => "-".to_owned(),
    }
}
