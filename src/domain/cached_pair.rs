//! The cached state of one pair. User entries hold it; the cache audit compares it with the database.

use super::versioned_state::VersionedState;

/// A user entry's state of one pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CachedPair {
    /// The newest state that a request asked for or the database is known to hold. [`VersionedState::NEVER`] while the
    /// state is unknown.
    pub state: VersionedState,
    /// How far that state has come.
    pub progress: Progress,
}

/// How far a cached state has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The database holds it.
    Settled,
    /// A request asked for it, and the database is not known to hold it yet.
    InFlight {
        /// Whether the database had the pair liked before; `None` if that is unknown.
        base: Option<bool>,
    },
    /// A request asked for another state and was reverted. Whether the pair is liked is known, and its version is not.
    Reverted,
    /// Only the database knows the state.
    Unknown,
}

impl CachedPair {
    /// The pair of which only the database knows the state.
    pub const UNKNOWN: Self = Self {
        state: VersionedState::NEVER,
        progress: Progress::Unknown,
    };

    /// Creates a pair from the database's state.
    #[must_use]
    pub const fn settled(state: VersionedState) -> Self {
        Self {
            state,
            progress: Progress::Settled,
        }
    }

    /// Returns the state; `None` if it is unknown.
    #[must_use]
    pub const fn known(self) -> Option<VersionedState> {
        match self.progress {
            Progress::Settled | Progress::InFlight { .. } => Some(self.state),
            Progress::Reverted | Progress::Unknown => None,
        }
    }

    /// Returns whether the pair is liked; `None` if that is unknown.
    #[must_use]
    pub const fn liked(self) -> Option<bool> {
        match self.progress {
            Progress::Settled | Progress::InFlight { .. } | Progress::Reverted => {
                Some(self.state.liked)
            }
            Progress::Unknown => None,
        }
    }

    /// Returns the pair after its event in flight was reverted.
    #[must_use]
    pub const fn reverted(self) -> Self {
        match self.progress {
            Progress::InFlight { base: Some(liked) } => Self {
                state: VersionedState {
                    liked,
                    ..VersionedState::NEVER
                },
                progress: Progress::Reverted,
            },
            _ => Self::UNKNOWN,
        }
    }

    /// Returns whether a request asked for the state, and the database is not known to hold it.
    #[must_use]
    pub const fn is_in_flight(self) -> bool {
        matches!(self.progress, Progress::InFlight { .. })
    }

    /// Returns the pair after a read of the database that found this state.
    #[must_use]
    pub fn filled(self, stored: VersionedState) -> Self {
        match self.progress {
            Progress::Settled if self.state > stored => self,
            Progress::InFlight { .. } if self.state > stored => Self {
                progress: Progress::InFlight {
                    base: Some(stored.liked),
                },
                ..self
            },
            _ => Self::settled(stored),
        }
    }
}

/// An event that a [`CountEntry`](super::CountEntry) counts as in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Join {
    /// The state that the event sets.
    pub state: VersionedState,
    /// Whether the database had the pair liked before.
    pub base: bool,
}
