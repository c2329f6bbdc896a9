//! The cached state of one pair. Entries hold it; the cache audit compares it with the database.

use super::versioned_state::VersionedState;

/// An entry's state of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedPair {
    /// The state that requests asked for.
    pub current: VersionedState,
    /// The state that the database is known to hold; `None` if unknown.
    pub settled: Option<VersionedState>,
}

impl CachedPair {
    /// Creates a pair from the database's state.
    #[must_use]
    pub const fn settled(state: VersionedState) -> Self {
        Self {
            current: state,
            settled: Some(state),
        }
    }

    /// Returns the pair after settling this state of the database.
    #[must_use]
    pub fn settling(self, state: VersionedState) -> Self {
        Self {
            current: self.current.max(state),
            settled: Some(self.settled.map_or(state, |settled| settled.max(state))),
        }
    }

    /// Returns the pair's contribution to the likes in flight: zero if the settled state is unknown.
    #[must_use]
    pub fn in_flight(self) -> i64 {
        self.settled
            .map_or(0, |settled| self.current.weight() - settled.weight())
    }
}
