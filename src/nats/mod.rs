//! NATS JetStream: the connection, the stream and its consumer, and the events that travel on them.

mod apply;
mod batch;
mod check;
mod connection;
mod consumer;
mod counts;
mod decode;
mod encode;
mod erase;
mod facts;
mod jetstream;
mod legacy;
mod processes;
mod publish;
mod refusals;
mod report;
mod settings;
mod subjects;
mod trace;
mod undecodable;
mod waiting;

pub use apply::Applied;
pub use batch::{NoEvent, Packed, is_batch, pack, unpack};
pub use connection::Broker;
pub use counts::{Announced, Announcements};
pub use decode::{Incoming, decode};
pub use encode::{encode, subject};
pub use erase::{Erasable, OverwriteLimit, StreamSwept};
pub use facts::{FACTS, FactPublish, Published};
pub use processes::{ProcessLink, ProcessMessage, ProcessMessages};
pub use publish::{original_id, publish_error};
pub use refusals::Holds;
pub use report::{StreamReport, StreamState};
pub use settings::{Owner, Setting, Severity};
pub use trace::trace_of;
pub use undecodable::{MAX_PAYLOAD, Undecodable};

/// The header of our own events that names their deployment.
const DEPLOYMENT_HEADER: &str = "Likewise-Deployment";

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
    /// The consumer had other settings again after each change by `stream apply`.
    #[error(
        "consumer {consumer} does not keep its settings: {reason}; another client writes them back after each change, so \
         stop that client, and run `likewise stream apply` again"
    )]
    ChangedBack {
        /// The consumer.
        consumer: String,
        /// The settings that differ.
        reason: String,
    },
    /// The stream of facts exists with settings that would lose facts.
    #[error(
        "stream {stream} cannot carry facts: {reason}; facts wait in the table likewise_outbox until an administrator \
         has changed the stream, or deleted it so that Likewise creates it"
    )]
    FactsMisconfigured {
        /// The stream.
        stream: String,
        /// The settings that are wrong.
        reason: String,
    },
}
