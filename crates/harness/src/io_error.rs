//! An I/O error with the operation that failed, which the errors of servers, processes and the benchmark share.

use std::io;

/// A system call failed.
#[derive(Debug, thiserror::Error)]
#[error("{doing}: {reason}")]
pub struct IoError {
    /// The operation.
    doing: String,
    /// The system's error.
    reason: io::Error,
}

/// Adds the failed operation to an I/O error.
pub(crate) fn doing(doing: impl Into<String>) -> impl FnOnce(io::Error) -> IoError {
    let doing = doing.into();
    move |reason| IoError { doing, reason }
}
