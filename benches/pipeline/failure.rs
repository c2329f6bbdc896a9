//! Why the benchmark has no result.

use std::io;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::time::Duration;

use likewise::cli::load::InteractionsError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{doing}: {reason}")]
    Io {
        doing: &'static str,
        reason: io::Error,
    },

    #[error(transparent)]
    Interactions(#[from] InteractionsError),

    #[error("{name} did not start within {patience:?}; it said:\n{said}")]
    NotStarted {
        name: &'static str,
        patience: Duration,
        said: String,
    },

    #[error("{name} has ended ({status}); it said:\n{said}")]
    Ended {
        name: &'static str,
        status: ExitStatus,
        said: String,
    },

    #[error("{failed} of {sent} requests failed: {kinds}")]
    Requests {
        failed: u64,
        sent: u64,
        kinds: String,
    },

    #[error("the measurement took longer than {0:?}")]
    TooLong(Duration),

    #[error("what {path} holds cannot be read: {reason}")]
    Unreadable { path: PathBuf, reason: String },

    #[error("the promises do not hold on the data:\n{0}")]
    Unkept(String),
}

impl Failure {
    /// Names what an I/O error has kept from being done.
    pub(crate) fn doing(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |reason| Self::Io { doing, reason }
    }
}
