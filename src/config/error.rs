//! The errors of settings.

use std::net::SocketAddr;
use std::time::Duration;

/// Why the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The settings file cannot be read.
    #[error("cannot read {path}: {reason}")]
    Unreadable {
        /// The file.
        path: String,
        /// The reason.
        reason: String,
    },
    /// The settings file has an unknown key or a value of another type.
    #[error("{path} is not a valid settings file: {reason}")]
    Invalid {
        /// The file.
        path: String,
        /// The line, its key and the reason.
        reason: String,
    },
    /// Environment variables begin with `LIKEWISE_` and are no settings.
    #[error(
        "unknown environment variables: {0}; a misspelt setting would have no effect, so Likewise does not start: \
         correct or unset it (`likewise --help` lists the settings)"
    )]
    UnknownVariables(String),
    /// A setting is out of range.
    #[error("{setting} must be {expected}, got {found}")]
    OutOfRange {
        /// The setting's environment variable.
        setting: &'static str,
        /// The values that it may have.
        expected: String,
        /// The value that it has.
        found: String,
    },
    /// The settings of TLS to the database contradict each other.
    #[error("{0}")]
    DatabaseTls(String),
    /// The settings of facts contradict each other.
    #[error("{0}")]
    Facts(String),
    /// A lease could expire during an attempt.
    #[error(
        "LIKEWISE_LEASE_SECONDS must be at least one and a half times LIKEWISE_DATABASE_TIMEOUT_SECONDS, got {lease:?} \
         and {timeout:?}: a lease must outlast the longest attempt on a ledger row; raise the one or lower the other"
    )]
    ShortLease {
        /// How long a worker holds ledger rows.
        lease: Duration,
        /// How long one attempt may take.
        timeout: Duration,
    },
    /// The address is reachable from other machines, and users do not sign in.
    #[error(
        "refusing to listen on {0}: no authentication is configured, so anyone who can reach it could \
         like in anyone's name; set LIKEWISE_AUTH_MODE=jwt, or listen on a loopback address \
         (LIKEWISE_HTTP_ADDR=127.0.0.1:8080) and put a gateway that signs users in before it"
    )]
    Open(SocketAddr),
}
