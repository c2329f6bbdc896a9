//! A request to accept a behavior, and its draft until an event is made of it.

use crate::domain::{
    BehaviorType, HybridClock, Identity, Pair, Resource, TraceParent, UserId, Version,
};

/// A request to accept a behavior.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LikeRequest {
    /// The user.
    pub user_id: UserId,
    /// The resource.
    pub resource: Resource,
    /// The type of the behavior.
    pub behavior: BehaviorType,
    /// The trace that the caller sent.
    pub trace: Option<TraceParent>,
}

impl LikeRequest {
    /// The pair, if the behavior is a like or unlike.
    pub(super) fn pair(&self) -> Option<Pair> {
        let pair = Pair {
            resource: self.resource.clone(),
            user_id: self.user_id.clone(),
        };
        self.behavior.action().map(|_| pair)
    }
}

/// A behavior that has no event yet.
pub(super) struct Draft {
    pub(super) asked: LikeRequest,
    /// The event id and version of a request with an `Idempotency-Key`. Without it, `send` draws both.
    pub(super) identity: Option<Identity>,
    /// False if a later behavior of the same request has the same pair, which wins.
    is_last: bool,
}

impl Draft {
    /// Returns the draft of a behavior. `is_last` tells whether no later behavior of the request has its pair.
    pub(super) fn new(asked: LikeRequest, identity: Option<Identity>, is_last: bool) -> Self {
        Self {
            asked,
            identity,
            is_last,
        }
    }

    /// Returns whether the request draws a newer version when it meets this newer one of its pair. A resumed request does not:
    /// a later request may have superseded it. But a version from the future tells nothing about the order of requests,
    /// and the request was perhaps never sent before.
    pub(super) fn must_win(&self, newer: Version, now: Version) -> bool {
        let is_resumed = self.identity.is_some_and(|identity| identity.resumed);
        self.is_last && (!is_resumed || HybridClock::is_from_the_future(newer, now))
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn resumed_request_wins_over_the_future_only() {
        let draft = |resumed, is_last| {
            let asked = LikeRequest {
                user_id: 1.into(),
                resource: Resource::video(7),
                behavior: BehaviorType::Like,
                trace: None,
            };
            let identity = Identity {
                event_id: Uuid::now_v7(),
                version: Version(1_000),
                resumed,
            };
            Draft::new(asked, Some(identity), is_last)
        };
        let now = Version(60_000_000);
        let (past, future) = (Version(59_000_000), Version(90_000_000));
        assert!(!draft(true, true).must_win(past, now));
        assert!(draft(true, true).must_win(future, now));
        assert!(draft(false, true).must_win(past, now));
        assert!(!draft(true, false).must_win(future, now));
    }
}
