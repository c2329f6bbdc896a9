//! The rules of Likewise: pure, without I/O and without actix. All other rooms call them.

pub mod attempt;
pub mod backoff;
pub mod behavior;
pub mod bisection;
pub mod breaker;
pub mod cached_pair;
pub mod database_clock;
pub mod durability;
pub mod entry;
#[cfg(test)]
mod entry_model;
pub mod entry_view;
pub mod fold;
pub mod idempotency;
pub mod in_flight;
pub mod job;
pub mod lease;
pub mod ledger;
pub mod like_count;
pub mod origin;
pub mod version;
pub mod versioned_state;
pub mod words;

pub use attempt::{Claim, FailureKind, Verdict};
pub use backoff::Backoff;
pub use behavior::{
    Action, BehaviorEvent, BehaviorType, InvalidBehavior, Resource, ResourceType, Source, UserId,
};
pub use bisection::Bisection;
pub use breaker::{Breaker, BreakerPolicy, Change};
pub use cached_pair::CachedPair;
pub use database_clock::{ClockNews, ClockWatch, DatabaseClock};
pub use durability::Durability;
pub use entry::{Applied, Entry, Reading};
pub use entry_view::{Contradiction, DatabaseState, EntryView, Mismatch};
pub use fold::{Fold, Pair};
pub use idempotency::{Identity, KeyedRequest, Started, StoredRequest};
pub use in_flight::{Flight, InFlight};
pub use job::{JobKind, JobState};
pub use lease::Lease;
pub use ledger::{LedgerRow, Priority, Status, Step};
pub use like_count::LikeCount;
pub use origin::Origin;
pub use version::{HybridClock, Version};
pub use versioned_state::VersionedState;
