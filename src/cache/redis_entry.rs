//! The encoding of an entry on Redis: its key, its fields as `rule.lua` writes them, and the answers of that script.

use std::sync::Arc;

use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg, Value};

use super::{CacheError, Incarnation};
use crate::domain::{
    Applied, CachedPair, Deployment, EntryView, Id, LikeCount, Reading, Resource, UserId, Version,
    VersionedState,
};

/// The prefix of all keys.
pub(super) const PREFIX: &str = "likewise:";

/// The keys of one generation of a deployment.
pub(super) struct Keys(pub(super) Arc<Deployment>);

impl Keys {
    /// Returns the key of a resource's entry. The braces place a resource's keys on one node of a cluster.
    pub(super) fn entry(&self, resource: &Resource) -> String {
        let generation = &self.0.generation;
        let (resource_type, id) = (resource.resource_type, resource.id.key());
        format!("{PREFIX}{generation}:{{{resource_type}:{id}}}")
    }

    /// Returns the pattern of the keys of entries.
    pub(super) fn entries(&self) -> String {
        format!("{PREFIX}{}:{{*", self.0.generation)
    }

    /// Returns the resource of an entry's key.
    pub(super) fn resource(&self, key: &str) -> Option<Resource> {
        let name = key
            .strip_prefix(PREFIX)?
            .strip_prefix(self.0.generation.as_str())?
            .strip_prefix(":{")?
            .strip_suffix('}')?;
        let (resource_type, id) = name.split_once(':')?;
        Some(Resource {
            resource_type: resource_type.parse().ok()?,
            id: Id::from_key(id)?,
        })
    }
}

/// Returns the key of the last known heartbeat of a generation.
pub(super) fn beat_key(deployment: &Deployment) -> String {
    format!("{PREFIX}{}:beat", deployment.generation)
}

/// The key of the deployment that used this Redis last.
pub(super) const DEPLOYMENT_KEY: &str = "likewise:deployment";

/// The field of a user in an entry.
pub(super) struct Field<'a>(pub(super) &'a UserId);

impl ToRedisArgs for Field<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self.0.key());
    }
}

impl ToSingleRedisArg for Field<'_> {}

/// Returns a count as the field `n` holds it.
pub(super) fn count_text(count: LikeCount) -> String {
    format!("{}:{}", count.like_count, count.revision)
}

/// Parses the fields of an entry. Names a field that it cannot parse.
pub(super) fn view(fields: &[(String, String)]) -> EntryView {
    let mut view = EntryView::default();
    for (name, value) in fields {
        let read = match name.as_str() {
            "i" => value.parse::<u64>().ok().map(drop),
            "c" => {
                view.complete = true;
                Some(())
            }
            "n" => read_count(value).map(|count| view.count = Some(count)),
            "f" => value.parse().ok().map(|likes| view.in_flight = likes),
            "u" => value.parse().ok().map(|pairs| view.unknown = pairs),
            user => Id::from_key(user)
                .zip(read_pair(value))
                .map(|(user_id, pair)| {
                    view.pairs.insert(user_id, pair);
                }),
        };
        if read.is_none() && view.unreadable.is_none() {
            view.unreadable = Some(format!("field {name} is '{value}'"));
        }
    }
    if !fields.iter().any(|(name, _)| name == "i") {
        view.unreadable
            .get_or_insert_with(|| "field i is missing".to_owned());
    }
    view
}

fn read_count(text: &str) -> Option<LikeCount> {
    let (like_count, revision) = text.split_once(':')?;
    Some(LikeCount {
        like_count: like_count.parse().ok()?,
        revision: revision.parse().ok()?,
    })
}

/// Parses `version:liked:settled_version:settled_liked`, or `version:liked:-` if the pair is not settled.
fn read_pair(text: &str) -> Option<CachedPair> {
    let parts: Vec<_> = text.split(':').collect();
    let (current, settled) = match parts[..] {
        [version, liked] => {
            let state = read_state(version, liked)?;
            (state, Some(state))
        }
        [version, liked, "-"] => (read_state(version, liked)?, None),
        [version, liked, settled_version, settled_liked] => (
            read_state(version, liked)?,
            Some(read_state(settled_version, settled_liked)?),
        ),
        _ => return None,
    };
    Some(CachedPair { current, settled })
}

fn read_state(version: &str, liked: &str) -> Option<VersionedState> {
    let liked = match liked {
        "1" => true,
        "0" => false,
        _ => return None,
    };
    Some(VersionedState {
        version: Version(version.parse().ok()?),
        liked,
    })
}

/// Parses the fields `n`, `c`, `f`, `u` and that of the user.
pub(super) fn reading(
    [count, complete, in_flight, unknown, pair]: &[Option<String>; 5],
) -> Reading {
    let liked = match pair {
        Some(text) => text.split(':').nth(1).map(|liked| liked == "1"),
        None if complete.is_some() => Some(false),
        None => None,
    };
    Reading {
        liked,
        like_count: like_count(count, in_flight, unknown),
    }
}

/// Parses the count in the fields `n`, `f` and `u`.
pub(super) fn like_count(
    count: &Option<String>,
    in_flight: &Option<String>,
    unknown: &Option<String>,
) -> Option<i64> {
    let number = |field: &Option<String>| field.as_ref().and_then(|text| text.parse::<i64>().ok());
    count
        .as_ref()
        .filter(|_| number(unknown) == Some(0))
        .and_then(|text| text.split(':').next()?.parse::<i64>().ok())
        .zip(number(in_flight))
        .map(|(count, in_flight)| count + in_flight)
}

/// Parses the answer to `apply`.
pub(super) fn applied(reply: Value) -> Result<Applied, CacheError> {
    let [changed, newer, like_count]: [String; 3] =
        redis::from_redis_value(reply).map_err(unreadable)?;
    Ok(Applied {
        changed: known(&changed)?.map(|changed: u8| changed == 1),
        newer: known(&newer)?.map(Version),
        like_count: known(&like_count)?,
    })
}

/// Parses the answer to `open`.
pub(super) fn opened(reply: Value) -> Result<Incarnation, CacheError> {
    let incarnation: String = redis::from_redis_value(reply).map_err(unreadable)?;
    incarnation.parse().map_err(unreadable)
}

/// Parses the answer to `fill`.
pub(super) fn filled(reply: Value) -> Result<Option<Reading>, CacheError> {
    let [filled, liked, like_count]: [String; 3] =
        redis::from_redis_value(reply).map_err(unreadable)?;
    if filled != "1" {
        return Ok(None);
    }
    Ok(Some(Reading {
        liked: known(&liked)?.map(|liked: u8| liked == 1),
        like_count: known(&like_count)?,
    }))
}

/// Parses a part of the script's answer; an empty text is an unknown value.
fn known<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<Option<T>, CacheError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn unreadable(error: impl ToString) -> CacheError {
    CacheError::Unavailable(format!(
        "the script's answer cannot be read: {}",
        error.to_string()
    ))
}
