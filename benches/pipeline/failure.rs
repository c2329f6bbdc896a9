//! Why a benchmark fails.

use std::io;
use std::time::Duration;

use harness::InteractionsError;
use harness::process::ProcessError;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("{doing}: {reason}")]
    Io {
        doing: &'static str,
        reason: io::Error,
    },

    #[error(transparent)]
    Interactions(#[from] InteractionsError),

    #[error(transparent)]
    Process(#[from] ProcessError),

    #[error("cannot read the metrics: {0}")]
    Metrics(harness::Failure),

    #[error("{failed} of {sent} requests failed: {kinds}")]
    Requests {
        failed: u64,
        sent: u64,
        kinds: String,
    },

    #[error("the measurement took longer than {0:?}")]
    TooLong(Duration),

    #[error("the address `{0}` is not one that requests can be sent to")]
    Address(String),

    #[error("`likewise verify` printed no report; its log ends with:\n{0}")]
    NoReport(String),

    #[error("the promises do not hold on the data:\n{0}")]
    Unkept(String),
}

impl Failure {
    /// Adds the failed operation to an I/O error.
    pub(crate) fn doing(doing: &'static str) -> impl Fn(io::Error) -> Self {
        move |reason| Self::Io { doing, reason }
    }
}
