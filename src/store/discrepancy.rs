//! Discrepancies: what audits find, and the rows that show them. Used by `audit.rs` and `repair.rs`.

use std::fmt;

use diesel::prelude::QueryableByName;
use diesel::sql_types::Text;
use serde::{Deserialize, Serialize};

use super::ids::AnyId;
use crate::domain::{Id, Pair, Resource, ResourceType, UserId};

/// The kinds of discrepancies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Finding {
    /// A like event without a ledger row.
    MissingLedgerRow,
    /// A ledger row without a behavior.
    MissingBehavior,
    /// A ledger row in a state that no transition leads to, so that it may never be closed.
    BrokenLedgerRow,
    /// A pair whose read model row differs from the fold of its events.
    WrongLike,
    /// A like count that differs from the number of liked rows.
    WrongCount,
    /// A count by behavior that differs from the number of recorded and pruned behaviors.
    WrongBehaviorCount,
    /// A cache entry that differs from the database.
    StaleCacheEntry,
    /// An acknowledged event in quarantine, which has no effect.
    AcknowledgedEventInQuarantine,
}

impl Finding {
    /// Every kind.
    pub const ALL: [Self; 8] = [
        Self::MissingLedgerRow,
        Self::MissingBehavior,
        Self::BrokenLedgerRow,
        Self::WrongLike,
        Self::WrongCount,
        Self::WrongBehaviorCount,
        Self::StaleCacheEntry,
        Self::AcknowledgedEventInQuarantine,
    ];

    /// The name in JSON and metrics.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::MissingLedgerRow => "missing_ledger_row",
            Self::MissingBehavior => "missing_behavior",
            Self::BrokenLedgerRow => "broken_ledger_row",
            Self::WrongLike => "wrong_like",
            Self::WrongCount => "wrong_count",
            Self::WrongBehaviorCount => "wrong_behavior_count",
            Self::StaleCacheEntry => "stale_cache_entry",
            Self::AcknowledgedEventInQuarantine => "acknowledged_event_in_quarantine",
        }
    }
}

/// The subject of a [`Discrepancy`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Subject {
    /// A like event, by its id as it is stored.
    Event(String),
    /// A user and a resource.
    Pair(Pair),
    /// A resource.
    Resource(Resource),
    /// A user.
    User(UserId),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Event(id) => write!(f, "event {id}"),
            Self::Pair(pair) => write!(f, "user {}, {}", pair.user_id, pair.resource),
            Self::Resource(resource) => write!(f, "{resource}"),
            Self::User(user_id) => write!(f, "user {user_id}"),
        }
    }
}

/// One place where the data breaks a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Discrepancy {
    /// The kind.
    pub finding: Finding,
    /// The event, pair, resource or user.
    pub subject: Subject,
    /// The expected value.
    pub expected: String,
    /// The value found.
    pub found: String,
}

/// The two sides of a discrepancy.
#[derive(QueryableByName)]
struct Sides {
    #[diesel(sql_type = Text)]
    expected: String,
    #[diesel(sql_type = Text)]
    found: String,
}

impl Sides {
    fn of(self, finding: Finding, subject: Subject) -> Discrepancy {
        Discrepancy {
            finding,
            subject,
            expected: self.expected,
            found: self.found,
        }
    }
}

/// An event with a discrepancy.
#[derive(QueryableByName)]
pub(super) struct EventRow {
    #[diesel(sql_type = Text)]
    event_id: String,
    #[diesel(embed)]
    sides: Sides,
}

impl EventRow {
    pub(super) fn discrepancies(
        rows: Vec<Self>,
        finding: Finding,
    ) -> impl Iterator<Item = Discrepancy> {
        rows.into_iter()
            .map(move |row| row.sides.of(finding, Subject::Event(row.event_id)))
    }
}

/// A pair with a discrepancy.
#[derive(QueryableByName)]
pub(super) struct LikeRow {
    #[diesel(sql_type = AnyId)]
    user_id: Id,
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    #[diesel(embed)]
    sides: Sides,
}

impl LikeRow {
    pub(super) fn discrepancies(
        rows: Vec<Self>,
        of: ResourceType,
    ) -> impl Iterator<Item = Discrepancy> {
        rows.into_iter().map(move |row| {
            let pair = Pair {
                resource: resource(of, row.resource_id),
                user_id: row.user_id,
            };
            row.sides.of(Finding::WrongLike, Subject::Pair(pair))
        })
    }
}

/// A resource with a discrepancy in one of its counts.
#[derive(QueryableByName)]
pub(super) struct CountRow {
    #[diesel(sql_type = AnyId)]
    resource_id: Id,
    #[diesel(embed)]
    sides: Sides,
}

impl CountRow {
    pub(super) fn discrepancies(
        rows: Vec<Self>,
        finding: Finding,
        of: ResourceType,
    ) -> impl Iterator<Item = Discrepancy> {
        rows.into_iter().map(move |row| {
            let subject = Subject::Resource(resource(of, row.resource_id));
            row.sides.of(finding, subject)
        })
    }
}

const fn resource(resource_type: ResourceType, id: Id) -> Resource {
    Resource { resource_type, id }
}
