//! Why a benchmark fails.

use std::path::PathBuf;
use std::time::Duration;

use crate::interactions::InteractionsError;
use crate::io_error::IoError;
use crate::process::ProcessError;
use crate::servers::ServerError;

/// Why a benchmark fails. What was measured before is reported all the same.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A system call failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The file of likes cannot be used.
    #[error(transparent)]
    Interactions(#[from] InteractionsError),
    /// A process did not start, or ended early.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// A server cannot be installed.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A server did not answer its protocol in time.
    #[error("{server} did not answer within {limit:?}: {reason}; its log ends with:\n{log}")]
    NoAnswer {
        /// The server.
        server: String,
        /// The time limit.
        limit: Duration,
        /// The last answer or error.
        reason: String,
        /// The end of its log.
        log: String,
    },
    /// The metrics of a process cannot be read.
    #[error("cannot read the metrics of {process}: {reason}")]
    Metrics {
        /// The process.
        process: String,
        /// Why.
        reason: String,
    },
    /// Requests failed, which spoils a measurement.
    #[error("{failed} of {sent} requests failed: {why}")]
    Requests {
        /// The failed requests.
        failed: u64,
        /// All requests.
        sent: u64,
        /// The failures by kind, and what the first refusal says.
        why: String,
    },
    /// A measurement exceeded `--limit`.
    #[error("{case} took longer than {limit:?}")]
    TooLong {
        /// The measurement.
        case: String,
        /// The time limit.
        limit: Duration,
    },
    /// A process logged an address that is none.
    #[error("{process} listens on `{address}`, to which no request can be sent")]
    Address {
        /// The process.
        process: String,
        /// The address.
        address: String,
    },
    /// A tool of the benchmark failed.
    #[error("`likewise {tool}` failed; its log ends with:\n{log}")]
    Tool {
        /// Its arguments.
        tool: String,
        /// The end of its log.
        log: String,
    },
    /// The data does not equal what was sent.
    #[error("{contestant}: the data is not what was sent:\n{report}")]
    Wrong {
        /// Who stored it.
        contestant: String,
        /// The differences.
        report: String,
    },
    /// A description of a peer cannot be used.
    #[error("{}: {reason}", path.display())]
    Peer {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}
