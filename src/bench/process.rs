//! What a process on this machine costs, from /proc (proc(5)): CPU time of it and of its threads, resident memory.

use std::{collections::BTreeMap, fs, io, time::Duration};

use super::error::BenchError;

/// A process that is measured from outside.
#[derive(Debug, Clone, Copy)]
pub struct Process {
    pid: u32,
    /// Of the kernel's clock for CPU times.
    ticks_per_second: u64,
}

/// One reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Usage {
    /// User and system time of all threads since the start.
    pub cpu: Duration,
    /// The system's part of it.
    pub system: Duration,
    pub resident_bytes: u64,
    /// CPU by thread name; threads of one name together.
    pub threads: BTreeMap<String, Duration>,
}

impl Process {
    /// # Errors
    /// When the process does not exist or may not be read.
    pub fn open(pid: u32) -> Result<Self, BenchError> {
        let ticks = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok().flatten();
        let process = Self { pid, ticks_per_second: ticks.and_then(|ticks| u64::try_from(ticks).ok()).unwrap_or(100) };
        process.usage().map(|_| process)
    }

    /// # Errors
    /// When the process is gone.
    pub fn usage(&self) -> Result<Usage, BenchError> {
        let failed = |source| BenchError::Process { pid: self.pid, source };
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid)).map_err(failed)?;
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).map_err(failed)?;
        let nonsense = || failed(io::Error::from(io::ErrorKind::InvalidData));
        let (_, user, system) = parse_stat(&stat).ok_or_else(nonsense)?;
        let resident_bytes = parse_rss(&status).ok_or_else(nonsense)?;
        let mut threads = BTreeMap::new();
        for thread in fs::read_dir(format!("/proc/{}/task", self.pid)).map_err(failed)?.flatten() {
            // A thread may end between listing and reading.
            let Ok(stat) = fs::read_to_string(thread.path().join("stat")) else { continue };
            if let Some((name, user, system)) = parse_stat(&stat) {
                *threads.entry(name.to_owned()).or_default() += self.time(user + system);
            }
        }
        Ok(Usage { cpu: self.time(user + system), system: self.time(system), resident_bytes, threads })
    }

    fn time(&self, ticks: u64) -> Duration {
        Duration::from_nanos(ticks.saturating_mul(1_000_000_000 / self.ticks_per_second.max(1)))
    }
}

/// Name, user and system ticks: fields 2, 14 and 15. The name is in brackets and may hold anything, brackets too.
fn parse_stat(stat: &str) -> Option<(&str, u64, u64)> {
    let (head, tail) = stat.rsplit_once(')')?;
    let (_, name) = head.split_once('(')?;
    let mut fields = tail.split_whitespace().skip(11);
    Some((name, fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn parse_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1_024)
}

/// Datagrams that the kernel dropped at sockets on these local ports, because the reader was late (`/proc/net/udp`, field
/// `drops`). `None` where the kernel does not tell.
pub fn socket_drops(ports: &[u16]) -> Option<u64> {
    let tables = ["/proc/net/udp", "/proc/net/udp6"].map(fs::read_to_string);
    let rows = tables.iter().flatten().flat_map(|table| table.lines().skip(1));
    let drops = rows.filter_map(parse_udp_row).filter(|(port, _)| ports.contains(port)).map(|(_, drops)| drops);
    tables.iter().any(Result::is_ok).then(|| drops.sum())
}

fn parse_udp_row(row: &str) -> Option<(u16, u64)> {
    let mut fields = row.split_whitespace();
    let (_, port) = fields.nth(1)?.rsplit_once(':')?;
    Some((u16::from_str_radix(port, 16).ok()?, fields.last()?.parse().ok()?))
}

/// The processor's name, for a report that is compared with others.
pub fn cpu_model() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    model.map_or_else(|| "unknown".to_owned(), |(_, name)| name.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_is_read_as_documented() {
        let stat = "7 (a) b) S 1 1 1 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 1 1 1 1";
        assert_eq!(parse_stat(stat), Some(("a) b", 150, 50)));
        assert_eq!(parse_rss("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
        let row = " 412: 0100007F:1F90 00000000:0000 07 00000000:00000000 00:00000000 00000000 0 0 21 2 000 17";
        assert_eq!(parse_udp_row(row), Some((8_080, 17)));
        assert_eq!(parse_stat("nonsense"), None);
    }

    #[test]
    fn this_process_can_be_measured_and_no_process_cannot() {
        let usage = Process::open(std::process::id()).unwrap().usage().unwrap();
        assert!(usage.resident_bytes > 100_000 && !usage.threads.is_empty());
        assert!(matches!(Process::open(u32::MAX), Err(BenchError::Process { .. })));
    }
}
