//! The keys of entries and of heartbeats.

use std::fmt::{self, Write};
use std::io;
use std::sync::Arc;
use std::time::Duration;

use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg};

use super::text::{TEXT, write_id, write_resource};
use crate::domain::{Deployment, EntryId, Id, Resource, UserId};

/// The prefix of all keys.
pub(super) const PREFIX: &str = "likewise:";

/// The keys of one generation of a deployment. The braces place the keys of one user, and those of one resource, on one
/// node of a cluster.
pub(super) struct Keys(pub(super) Arc<Deployment>);

impl Keys {
    /// Returns the key of a user entry.
    pub(super) fn user<'a>(&'a self, user_id: &'a UserId) -> Key<'a> {
        self.key(":u:{", Name::User(user_id))
    }

    /// Returns the key of a count entry.
    pub(super) fn count<'a>(&'a self, resource: &'a Resource) -> Key<'a> {
        self.key(":c:{", Name::Resource(resource))
    }

    /// Returns the key of the events in flight of a count entry.
    pub(super) fn events<'a>(&'a self, resource: &'a Resource) -> Key<'a> {
        self.key(":f:{", Name::Resource(resource))
    }

    /// Returns the keys of an entry; of a count also that of its events in flight.
    pub(super) fn of_entry<'a>(&'a self, entry: &'a EntryId) -> impl Iterator<Item = Key<'a>> {
        let (key, events) = match entry {
            EntryId::User(user_id) => (self.user(user_id), None),
            EntryId::Count(resource) => (self.count(resource), Some(self.events(resource))),
        };
        std::iter::once(key).chain(events)
    }

    fn key<'a>(&'a self, kind: &'static str, name: Name<'a>) -> Key<'a> {
        Key {
            generation: &self.0.generation,
            kind,
            name,
        }
    }

    /// Returns the pattern of all keys of entries.
    pub(super) fn all(&self) -> String {
        format!("{PREFIX}{}:[ucf]:{{*", self.0.generation)
    }

    /// Returns the pattern of the keys of entries, without those of events in flight.
    pub(super) fn entries(&self) -> String {
        format!("{PREFIX}{}:[uc]:{{*", self.0.generation)
    }

    /// Returns whether a key is of an entry, or of the events in flight of one.
    pub(super) fn is_entry(&self, key: &str) -> bool {
        let name = key.strip_prefix(PREFIX);
        let name = name.and_then(|name| name.strip_prefix(self.0.generation.as_str()));
        let name = name.and_then(|name| name.strip_prefix(':'));
        name.is_some_and(|name| {
            ["u:{", "c:{", "f:{"]
                .iter()
                .any(|kind| name.starts_with(kind))
        })
    }

    /// Returns the entry of a key.
    pub(super) fn entry(&self, key: &str) -> Option<EntryId> {
        let name = key
            .strip_prefix(PREFIX)?
            .strip_prefix(self.0.generation.as_str())?
            .strip_suffix('}')?;
        match name.strip_prefix(":u:{") {
            Some(user) => Id::from_key(user).map(EntryId::User),
            None => Resource::from_key(name.strip_prefix(":c:{")?).map(EntryId::Count),
        }
    }
}

/// A key, which a command takes without a copy of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key<'a> {
    generation: &'a str,
    kind: &'static str,
    name: Name<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    User(&'a UserId),
    Resource(&'a Resource),
}

impl Key<'_> {
    /// Appends the key.
    pub(super) fn write(&self, out: &mut impl Write) -> fmt::Result {
        for part in [PREFIX, self.generation, self.kind] {
            out.write_str(part)?;
        }
        match self.name {
            Name::User(user_id) => write_id(out, user_id)?,
            Name::Resource(resource) => write_resource(out, resource)?,
        }
        out.write_char('}')
    }

    /// Returns the key as text.
    pub(super) fn text(&self) -> String {
        let mut text = String::with_capacity(TEXT);
        // Writing to text cannot fail.
        let _ = self.write(&mut text);
        text
    }
}

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        // A command takes all that is written.
        let _ = self.write(&mut Argument(out.writer_for_next_arg()));
    }
}

impl ToSingleRedisArg for Key<'_> {}

/// An argument of a command in the making.
struct Argument<W>(W);

impl<W: io::Write> Write for Argument<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_all(text.as_bytes()).map_err(|_| fmt::Error)
    }
}

/// Returns the key of the last known heartbeat of a generation.
pub(super) fn beat_key(deployment: &Deployment) -> String {
    format!("{PREFIX}{}:beat", deployment.generation)
}

/// How long a heartbeat is remembered after the last one.
pub(super) const BEAT_KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The key of the deployment that used this Redis last.
pub(super) const DEPLOYMENT_KEY: &str = "likewise:deployment";
