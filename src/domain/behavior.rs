//! Behaviors of users on resources, and the event that carries one.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

use super::id::{Id, IdKinds, InvalidId, ResourceId, UserId};
use super::resource_type::ResourceType;
use super::trace_parent::TraceParent;
use super::version::Version;
use super::words::words;

/// An action of a user on a resource.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum BehaviorType {
    /// The user likes the resource.
    Like,
    /// The user unlikes the resource.
    Unlike,
    /// The user viewed the resource.
    View,
    /// The user shared the resource.
    Share,
    /// The user commented on the resource.
    Comment,
}

words!(
    BehaviorType,
    "behavior",
    [
        Like = "like",
        Unlike = "unlike",
        View = "view",
        Share = "share",
        Comment = "comment",
    ]
);

impl BehaviorType {
    /// Returns the effect on the like of the pair; `None` for other behaviors.
    #[must_use]
    pub const fn action(self) -> Option<Action> {
        match self {
            Self::Like => Some(Action::Like),
            Self::Unlike => Some(Action::Unlike),
            Self::View | Self::Share | Self::Comment => None,
        }
    }
}

/// The effect of a like event.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Like the resource.
    Like,
    /// Unlike the resource.
    Unlike,
}

words!(Action, "action", [Like = "like", Unlike = "unlike"]);

impl Action {
    /// Returns whether the pair is liked after this action.
    #[must_use]
    pub const fn liked(self) -> bool {
        matches!(self, Self::Like)
    }

    /// Returns the behavior with this effect.
    #[must_use]
    pub const fn behavior_type(self) -> BehaviorType {
        match self {
            Self::Like => BehaviorType::Like,
            Self::Unlike => BehaviorType::Unlike,
        }
    }
}

/// The target of a behavior.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Resource {
    /// Its type.
    pub resource_type: ResourceType,
    /// Its id.
    pub id: ResourceId,
}

impl Resource {
    /// Returns the video with this id.
    #[must_use]
    pub const fn video(id: i64) -> Self {
        Self {
            resource_type: ResourceType::VIDEO,
            id: Id::Number(id),
        }
    }
}

impl Resource {
    /// Returns the resource in the keys of the cache.
    #[must_use]
    pub const fn key(&self) -> ResourceKey<'_> {
        ResourceKey(self)
    }

    /// Reads what [`key`](Self::key) wrote.
    #[must_use]
    pub fn from_key(key: &str) -> Option<Self> {
        let (resource_type, id) = key.split_once(':')?;
        Some(Self {
            resource_type: resource_type.parse().ok()?,
            id: Id::from_key(id)?,
        })
    }
}

/// A resource as the keys of the cache show it: see [`Resource::key`].
#[derive(Debug, Clone, Copy)]
pub struct ResourceKey<'a>(&'a Resource);

impl fmt::Display for ResourceKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.resource_type.as_str())?;
        f.write_str(":")?;
        fmt::Display::fmt(&self.0.id.key(), f)
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.resource_type, self.id)
    }
}

/// The author of an event.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A process of Likewise, which generated the event id and the version.
    Api,
    /// Another service, under the name that it sent.
    Foreign(String),
}

impl Source {
    /// The name in `user_behaviors.source` for events that Likewise's API accepted.
    pub const API: &'static str = "likewise-api";

    /// The name in `user_behaviors.source` for the decisions of operators.
    pub const ADMIN: &'static str = "likewise-admin";

    /// The longest name of a source, in bytes.
    pub const MAX_LENGTH: usize = 64;

    /// Returns the name stored in `user_behaviors.source`.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Api => Cow::Borrowed(Self::API),
            Self::Foreign(name) => Cow::Owned(name.clone()),
        }
    }
}

/// A behavior in the pipeline. A like or unlike is a *like event*.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BehaviorEvent {
    /// Its identity: two events with the same id are the same event.
    pub event_id: Uuid,
    /// The acting user.
    pub user_id: UserId,
    /// The target.
    pub resource: Resource,
    /// The behavior.
    pub behavior: BehaviorType,
    /// Its order among the events of the same user and resource.
    pub version: Version,
    /// The time of the behavior.
    pub occurred_at: DateTime<Utc>,
    /// The author of the event.
    pub source: Source,
    /// The sequence of its message in the stream, if it came through the stream. The events of a batch share it.
    pub stream_sequence: Option<u64>,
    /// Its place in the trace that its caller or publisher sent. No part of its content: a repeat may bring another one.
    pub trace: Option<TraceParent>,
}

/// The reason why a behavior is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBehavior {
    /// The deployment does not accept the user's id.
    #[error("user_id {0}")]
    UserId(InvalidId),
    /// The deployment does not accept the resource's id.
    #[error("resource_id {0}")]
    ResourceId(InvalidId),
}

impl BehaviorEvent {
    /// Creates the event of a request that this service accepts.
    #[must_use]
    pub fn accepted(
        event_id: Uuid,
        user_id: UserId,
        resource: Resource,
        behavior: BehaviorType,
        version: Version,
    ) -> Self {
        Self {
            event_id,
            user_id,
            resource,
            behavior,
            version,
            occurred_at: version.moment(),
            source: Source::Api,
            stream_sequence: None,
            trace: None,
        }
    }

    /// Puts the event into the trace of its caller or publisher.
    #[must_use]
    pub fn traced(mut self, caller: Option<TraceParent>) -> Self {
        self.trace = caller.map(|caller| caller.of_event(self.event_id));
        self
    }

    /// Brings the ids into the form of their kinds.
    ///
    /// # Errors
    /// If the deployment does not accept an id.
    pub fn validated(mut self, kinds: IdKinds) -> Result<Self, InvalidBehavior> {
        let (user_id, id) = (
            kinds.users.check(self.user_id),
            kinds.resources.check(self.resource.id),
        );
        self.user_id = user_id.map_err(InvalidBehavior::UserId)?;
        self.resource.id = id.map_err(InvalidBehavior::ResourceId)?;
        Ok(self)
    }

    /// Returns the effect on the like; `None` for other behaviors.
    #[must_use]
    pub const fn action(&self) -> Option<Action> {
        self.behavior.action()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_another_kind_are_rejected() {
        let event = |user: Id, id: Id| {
            let resource = Resource {
                resource_type: ResourceType::VIDEO,
                id,
            };
            let event_id = Uuid::now_v7();
            BehaviorEvent::accepted(event_id, user, resource, BehaviorType::Like, Version(1))
                .validated(IdKinds::default())
        };
        let user = event(0.into(), 1.into()).expect_err("0").to_string();
        assert!(user.starts_with("user_id must be a number"), "{user}");
        let resource = event(1.into(), "a".into()).expect_err("a").to_string();
        assert!(resource.starts_with("resource_id must be"), "{resource}");
        let event = event("1".into(), 1.into()).expect("numbers");
        assert_eq!(event.user_id, Id::Number(1));
    }
}
