//! NATS JetStream: the connection, the stream and its consumer, and the events that travel on them.

mod codec;
mod connection;
mod settings;
mod stream;

use std::path::PathBuf;
use std::time::Duration;

pub use codec::{Incoming, MAX_PAYLOAD, Undecodable, decode, encode, subject};
pub use connection::{Broker, original_id, publish_error};
pub use settings::{Holds, Owner, Setting, Severity};
pub use stream::{Applied, StreamReport, StreamState};

/// How to reach NATS, and how the stream is kept.
#[derive(Debug, Clone)]
pub struct NatsOptions {
    /// `nats://HOST:PORT`, several with commas between, or `tls://`.
    pub url: String,
    /// A credentials file (user JWT and seed).
    pub credentials_file: Option<PathBuf>,
    /// The certificate authority that the servers' certificates must come from.
    pub tls_ca: Option<PathBuf>,
    /// The certificate that this client shows.
    pub tls_cert: Option<PathBuf>,
    /// Its key.
    pub tls_key: Option<PathBuf>,
    /// The stream's name.
    pub stream: String,
    /// How many servers keep each message.
    pub replicas: usize,
    /// How long messages are kept, done or not.
    pub max_age: Duration,
    /// How much the stream may hold, in bytes; when it is full, likes go to the database directly.
    pub max_bytes: i64,
    /// How long a publish may wait for its acknowledgement.
    pub ack_timeout: Duration,
    /// After how long an unacknowledged message is delivered again.
    pub redeliver_after: Duration,
    /// How many messages may be delivered and not acknowledged, over all workers.
    pub max_ack_pending: i64,
}

impl NatsOptions {
    /// The URL as it may be shown: without user and password.
    #[must_use]
    pub fn url_without_password(&self) -> String {
        let shown = self
            .url
            .split(',')
            .map(|server| match server.split_once("://") {
                Some((scheme, rest)) => {
                    let host = rest.rsplit_once('@').map_or(rest, |(_, host)| host);
                    format!("{scheme}://{host}")
                }
                None => server
                    .rsplit_once('@')
                    .map_or(server, |(_, host)| host)
                    .to_owned(),
            });
        shown.collect::<Vec<_>>().join(",")
    }
}

/// Subjects of announced counts: `likewise.counts.<resource_type>.<resource_id>`.
pub const COUNTS: &str = "likewise.counts";

/// The durable consumer that all workers share.
pub const CONSUMER: &str = "likewise-workers";

/// What can go wrong with NATS.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NatsError {
    /// A setting cannot be used.
    #[error("NATS cannot be used as configured: {0}")]
    Unusable(String),
    /// The server is too old.
    #[error(
        "the NATS server at {url} is version {version}, and Likewise needs 2.10 or newer: older ones \
         ignore the consumer's filter without a word; install a current nats-server"
    )]
    TooOld {
        /// Where it is.
        url: String,
        /// What it says it is.
        version: String,
    },
    /// It cannot be reached, or did not answer in time.
    #[error("NATS cannot be reached: {0}")]
    Unavailable(String),
    /// The server refused to create or change the stream or its consumer.
    #[error("the NATS server refused {what}: {said}; {advice}")]
    Refused {
        /// The stream or consumer.
        what: String,
        /// The server's own words.
        said: String,
        /// What to do about it.
        advice: String,
    },
    /// The stream or its consumer exists with settings that would lose acknowledged likes.
    #[error(
        "stream {stream} cannot carry acknowledged likes: {reason}; likes go to the database until \
         `likewise stream apply` has changed it (`likewise stream show` compares the settings)"
    )]
    Misconfigured {
        /// The stream.
        stream: String,
        /// The settings that are wrong.
        reason: String,
    },
}
