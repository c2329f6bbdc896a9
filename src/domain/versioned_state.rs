//! Which of two events of one user and resource wins: the one of the newer version.

use std::cmp::Ordering;

use super::behavior::Action;
use super::version::Version;

/// The state of a pair at its newest event.
///
/// States are totally ordered: by version, and between equal versions the unlike is newer. Every process therefore picks
/// the same winner, in any order of arrival.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct VersionedState {
    /// The version of the newest event.
    pub version: Version,
    /// Whether the pair is liked.
    pub liked: bool,
}

impl VersionedState {
    /// The state of a pair without events.
    pub const NEVER: Self = Self {
        version: Version::NEVER,
        liked: false,
    };

    /// Creates the state after an action at this version.
    #[must_use]
    pub const fn new(version: Version, action: Action) -> Self {
        Self {
            version,
            liked: action.liked(),
        }
    }

    /// Returns the pair's contribution to the like count: 1 if liked, otherwise 0.
    #[must_use]
    pub const fn weight(self) -> i64 {
        self.liked as i64
    }
}

impl Ord for VersionedState {
    fn cmp(&self, other: &Self) -> Ordering {
        self.version
            .cmp(&other.version)
            .then_with(|| other.liked.cmp(&self.liked))
    }
}

impl PartialOrd for VersionedState {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unlike_wins_between_equal_versions() {
        let like = VersionedState::new(Version(5), Action::Like);
        let unlike = VersionedState::new(Version(5), Action::Unlike);
        assert!(unlike > like);
        assert!(like > VersionedState::NEVER);
    }
}
