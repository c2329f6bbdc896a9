//! What callers of the cache get: the answers about pairs, and the names of entries and what they cover.

use std::time::Duration;

use super::behavior::Resource;
use super::fold::Pair;
use super::id::UserId;
use super::version::Version;

/// How long an event may be in flight before a reader has it compared with the database: its process may have died.
pub const OVERDUE_AFTER: Duration = Duration::from_secs(20);

/// Returns the version before which an event in flight is overdue. `now` is the database's time.
#[must_use]
pub fn overdue_before(now: Version) -> Version {
    let micros = i64::try_from(OVERDUE_AFTER.as_micros()).unwrap_or(i64::MAX);
    Version(now.0.saturating_sub(micros))
}

/// The effect of an applied event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Whether the pair's state changed; `None` if the previous state is unknown.
    pub changed: Option<bool>,
    /// The version of a newer event of this pair that the cache holds. If set, nothing changed.
    pub newer: Option<Version>,
    /// The like count after the event; `None` if unknown.
    pub like_count: Option<i64>,
}

impl Applied {
    /// Returns whether a complete answer needs a fill from the database.
    #[must_use]
    pub const fn needs_fill(&self) -> bool {
        self.newer.is_none() && (self.changed.is_none() || self.like_count.is_none())
    }
}

/// The cache's answer about a user and a resource; `None` for unknown values. The cache never guesses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reading {
    /// Whether the user likes the resource.
    pub liked: Option<bool>,
    /// The number of users who like it.
    pub like_count: Option<i64>,
    /// Whether the answer contains an event that has been in flight for too long, so that the cache writer must compare
    /// it with the database.
    pub is_overdue: bool,
}

/// The name of an entry.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EntryId {
    /// The pairs of a user.
    User(UserId),
    /// The like count of a resource, and its events in flight.
    Count(Resource),
}

impl EntryId {
    /// Returns the entries that hold a pair: its user's and its resource's.
    #[must_use]
    pub fn of_pair(pair: &Pair) -> [Self; 2] {
        [
            Self::User(pair.user_id.clone()),
            Self::Count(pair.resource.clone()),
        ]
    }
}

/// Which of the user's pairs an entry holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Coverage {
    /// The database was not read yet. An absent pair is unknown.
    #[default]
    Unfilled,
    /// The user has more pairs than an entry may hold. An absent pair is unknown, and looked up by itself.
    Partial,
    /// Every pair of the user is present, so an absent pair is not liked.
    Complete,
}
