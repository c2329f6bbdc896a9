//! A request to accept a behavior, and its draft until an event is made of it.

use crate::domain::{BehaviorType, Identity, Pair, Resource, TraceParent, UserId};

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
    /// Whether the request draws a newer version when it meets a newer event of its pair. False if a later behavior
    /// of the same request has the same pair, and for a resumed request, which a newer event may have superseded.
    pub(super) must_win: bool,
}

impl Draft {
    /// Returns the draft of a behavior. `is_last` tells whether no later behavior of the request has its pair.
    pub(super) fn new(asked: LikeRequest, identity: Option<Identity>, is_last: bool) -> Self {
        Self {
            asked,
            identity,
            must_win: is_last && !identity.is_some_and(|identity| identity.resumed),
        }
    }
}
