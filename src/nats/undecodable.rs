//! Why a message is not a valid event. The quarantine stores the reason, which is for the message's publisher.

use crate::domain::InvalidBehavior;

/// The largest accepted body of one event, in bytes. An event needs a few hundred.
pub const MAX_PAYLOAD: usize = 16 * 1024;

/// The reason why a message is not a valid event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Undecodable {
    /// The body is too large.
    #[error("the body has {0} bytes; an event has at most {MAX_PAYLOAD}")]
    TooLarge(usize),
    /// The body is not JSON, or not an object.
    #[error("the body is not a JSON object: {0}")]
    NotJson(String),
    /// The body of a batch is not JSON, or not an array.
    #[error("the body is not a JSON array of events: {0}")]
    NotABatch(String),
    /// A field is missing or invalid.
    #[error("{0}")]
    Field(String),
    /// An id is not positive.
    #[error(transparent)]
    Invalid(#[from] InvalidBehavior),
    /// It is our own, of a resource type that this process does not serve. Others may serve it.
    #[error("resource_type: this process does not serve '{0}'")]
    NotServed(String),
    /// A foreign event is dated too far ahead.
    #[error("it is dated {0}, more than five minutes ahead of this server's clock")]
    FromTheFuture(String),
}
