//! What can end a load test before it has figures. Each says what to change.

use std::io;

#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    #[error("{0}")]
    Arguments(String),
    #[error("this machine refuses {what}: {source}")]
    System { what: &'static str, source: io::Error },
    /// The server refused the first viewer, so it would refuse the others too.
    #[error("no viewer could join: {0}")]
    Refused(String),
    #[error("the publisher could not go live: {0}")]
    Publisher(String),
    #[error("process {pid} cannot be measured: {source}; is --server-pid the server's, and may this user read it?")]
    Process { pid: u32, source: io::Error },
}

impl BenchError {
    /// For `map_err` on a system call.
    pub(super) fn system(what: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::System { what, source }
    }
}
