//! A delivered message, what is known about its events, and what happens to it.

use async_nats::jetstream::message::Message;

/// The place of an event among the messages of a [`Work`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The place of its message.
    pub(super) message: usize,
    /// Its place in a batch; `None` if the message holds one event, or is none.
    pub(super) event: Option<usize>,
}

/// A delivered message, and what is known about its events.
pub(super) struct Delivered {
    pub(super) message: Message,
    /// Its sequence in the stream.
    pub(super) sequence: u64,
    /// How often the server has delivered it.
    pub(super) delivered: i64,
    /// The number of its events to record.
    pub(super) events: usize,
    /// The places of its events whose user or resource is erased.
    pub(super) erased: Vec<Option<usize>>,
    /// Whether some of it goes into quarantine.
    pub(super) is_refused: bool,
    /// Whether some of it can neither be recorded nor kept in quarantine now.
    pub(super) is_for_later: bool,
    /// Whether some of its events are of a resource type that this process does not serve.
    pub(super) is_for_others: bool,
}

/// What happens to a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Each of its events is recorded or in quarantine: it is acknowledged.
    Done,
    /// Some events are of the erased: the others are published again, before it leaves the stream.
    Erased,
    /// It is redelivered.
    Later,
    /// It is redelivered, until a worker gets it that serves the resource types of all its events.
    Others,
}

impl Delivered {
    /// Returns what happens to it, as far as is known.
    pub(super) fn fate(&self) -> Fate {
        if !self.erased.is_empty() {
            Fate::Erased
        } else if self.is_for_later {
            Fate::Later
        } else if self.is_for_others {
            Fate::Others
        } else {
            Fate::Done
        }
    }
}
