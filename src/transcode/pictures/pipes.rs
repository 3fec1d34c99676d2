//! A process's ends of the pipes.

use std::{
    collections::VecDeque, future::poll_fn, io, path::Path, pin::Pin, process::Stdio, task::Poll, time::Duration,
};

use command_fds::{CommandFdExt, FdMapping};
use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    net::unix::pipe,
    process::{Child, ChildStderr, ChildStdin},
};
use tokio_util::io::poll_read_buf;

use super::{
    arguments::OUTPUT_FD,
    flv::{BadFlv, FlvReader, Tag},
    program::command,
};

/// Lines of an encoder's complaints that are kept.
const COMPLAINTS_MAX: usize = 4;
/// Of a complaint.
const COMPLAINT_MAX_CHARS: usize = 300;
/// Read at a time.
const READ_BYTES: usize = 64 * 1024;

/// A process and its ends of the pipes; it ends when this is dropped.
pub(super) struct Pipes {
    child: Child,
    pub stdin: ChildStdin,
    pub outputs: Outputs,
    pub stderr: Complaints,
}

/// What a process writes, on one pipe for each thing that it makes.
pub(super) struct Outputs(Vec<(pipe::Receiver, FlvReader)>);

/// What a process says is wrong.
pub(super) struct Complaints {
    lines: Lines<BufReader<ChildStderr>>,
    last: VecDeque<String>,
}

impl Pipes {
    /// Starts the program, with so many pipes from [`OUTPUT_FD`] on.
    ///
    /// # Errors
    /// Why it does not start, in words.
    pub fn open(program: &Path, arguments: Vec<String>, outputs: usize) -> Result<Self, String> {
        Self::try_open(program, arguments, outputs).map_err(|error| format!("{}: {error}", program.display()))
    }

    fn try_open(program: &Path, arguments: Vec<String>, outputs: usize) -> io::Result<Self> {
        let mut command = command(program, arguments);
        let mut readers = Vec::with_capacity(outputs);
        let mut mappings = Vec::with_capacity(outputs);
        for child_fd in (OUTPUT_FD..).take(outputs) {
            let (sender, receiver) = pipe::pipe()?;
            // Programs write and wait.
            mappings.push(FdMapping { parent_fd: sender.into_blocking_fd()?, child_fd });
            readers.push((receiver, FlvReader::default()));
        }
        command.stdout(Stdio::null()).fd_mappings(mappings).map_err(io::Error::other)?;
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stderr.take());
        let (Some(stdin), Some(stderr)) = pipes else { return Err(io::Error::other("it has no pipes")) };
        let stderr = Complaints { lines: BufReader::new(stderr).lines(), last: VecDeque::new() };
        // With the command our copies of its ends of the pipes go, so that the end of the process is seen.
        Ok(Self { child, stdin, outputs: Outputs(readers), stderr })
    }

    /// Of the process.
    pub fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// How the process ended, in its own words where it had any.
    pub async fn last_words(self) -> String {
        const PATIENCE: Duration = Duration::from_secs(1);
        let Self { mut child, stdin, outputs, mut stderr } = self;
        drop((stdin, outputs));
        let _ = tokio::time::timeout(PATIENCE, async { while stderr.next().await.is_some() {} }).await;
        let status = tokio::time::timeout(PATIENCE, child.wait()).await;
        let status =
            status.ok().and_then(Result::ok).map_or_else(|| "it hangs".to_owned(), |status| status.to_string());
        let words: Vec<_> = stderr.last.into_iter().collect();
        if words.is_empty() {
            format!("ffmpeg ended: {status}")
        } else {
            format!("ffmpeg ended: {status}: {}", words.join("; "))
        }
    }
}

impl Outputs {
    /// Reads what one of them has. Gives its number, and how much that was: nothing at its end.
    pub async fn read(&mut self) -> (usize, io::Result<usize>) {
        poll_fn(|context| {
            for (at, (pipe, reader)) in self.0.iter_mut().enumerate() {
                reader.buffer.reserve(READ_BYTES);
                if let Poll::Ready(read) = poll_read_buf(Pin::new(pipe), context, &mut reader.buffer) {
                    return Poll::Ready((at, read));
                }
            }
            Poll::Pending
        })
        .await
    }

    /// The next tag of that one, if it has come.
    ///
    /// # Errors
    /// [`BadFlv`].
    pub fn next(&mut self, at: usize) -> Result<Option<Tag>, BadFlv> {
        self.0.get_mut(at).map_or(Ok(None), |(_, reader)| reader.read())
    }
}

impl Complaints {
    /// Waits for another, and keeps it. `None` when no more will come.
    pub async fn next(&mut self) -> Option<()> {
        let line = self.lines.next_line().await.ok()??;
        if !line.trim().is_empty() {
            if self.last.len() == COMPLAINTS_MAX {
                self.last.pop_front();
            }
            self.last.push_back(line.trim().chars().take(COMPLAINT_MAX_CHARS).collect());
        }
        Some(())
    }
}
