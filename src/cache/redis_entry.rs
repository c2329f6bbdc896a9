//! The encoding of entries on Redis: their keys, their content as `rule.lua` writes it, and the answers of that script.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use foldhash::fast::RandomState;
use redis::{RedisWrite, ToRedisArgs, ToSingleRedisArg, Value};

use super::{CacheError, Incarnation, Opened, OpenedPair};
use crate::domain::{
    Applied, CachedPair, CountView, Coverage, Deployment, EntryId, Id, Join, LikeCount, Progress,
    Reading, Resource, UserId, UserView, Version, VersionedState,
};

/// The prefix of all keys.
pub(super) const PREFIX: &str = "likewise:";

/// The keys of one generation of a deployment. The braces place the keys of one user, and those of one resource, on one
/// node of a cluster.
pub(super) struct Keys(pub(super) Arc<Deployment>);

impl Keys {
    /// Returns the key of a user entry.
    pub(super) fn user<'a>(&'a self, user_id: &'a UserId) -> Key<'a> {
        self.key('u', Name::User(user_id))
    }

    /// Returns the key of a count entry.
    pub(super) fn count<'a>(&'a self, resource: &'a Resource) -> Key<'a> {
        self.key('c', Name::Resource(resource))
    }

    /// Returns the key of the events in flight of a count entry.
    pub(super) fn events<'a>(&'a self, resource: &'a Resource) -> Key<'a> {
        self.key('f', Name::Resource(resource))
    }

    fn key<'a>(&'a self, kind: char, name: Name<'a>) -> Key<'a> {
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
    kind: char,
    name: Name<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Name<'a> {
    User(&'a UserId),
    Resource(&'a Resource),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            generation, kind, ..
        } = self;
        write!(f, "{PREFIX}{generation}:{kind}:{{")?;
        match self.name {
            Name::User(user_id) => write!(f, "{}}}", user_id.key()),
            Name::Resource(resource) => write!(f, "{}}}", resource.key()),
        }
    }
}

impl ToRedisArgs for Key<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        out.write_arg_fmt(self);
    }
}

impl ToSingleRedisArg for Key<'_> {}

/// Returns the key of the last known heartbeat of a generation.
pub(super) fn beat_key(deployment: &Deployment) -> String {
    format!("{PREFIX}{}:beat", deployment.generation)
}

/// How long a heartbeat is remembered after the last one.
pub(super) const BEAT_KEPT_FOR: Duration = Duration::from_secs(30 * 86_400);

/// The key of the deployment that used this Redis last.
pub(super) const DEPLOYMENT_KEY: &str = "likewise:deployment";

/// The lengths of the head of a user entry, and of the state of a pair.
const HEADER: usize = 22;
const STATE: usize = 20;

/// A user entry as Redis returns it.
pub(super) struct UserText<'a> {
    coverage: Coverage,
    pairs: &'a str,
}

impl<'a> UserText<'a> {
    /// Parses the head; `None` if it cannot be parsed.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let head = text.get(..HEADER)?;
        head.get(..16)?.parse::<Incarnation>().ok()?;
        Some(Self {
            coverage: coverage(head.get(16..17)?)?,
            pairs: &text[HEADER..],
        })
    }

    /// Returns the resource, as its key, and the state of each pair. A state of `None` cannot be parsed.
    fn pairs(&self) -> impl Iterator<Item = (&'a str, Option<CachedPair>)> + use<'a> {
        self.pairs.split('\n').skip(1).map(|record| {
            let (resource, state) = record.split_once('\t').unwrap_or((record, ""));
            (resource, pair(state))
        })
    }

    /// Returns the pairs of these resources.
    pub(super) fn read(&self, resources: &[Resource]) -> Vec<CachedPair> {
        let absent = match self.coverage {
            Coverage::Complete => CachedPair::settled(VersionedState::NEVER),
            Coverage::Unfilled | Coverage::Partial => CachedPair::UNKNOWN,
        };
        if let [resource] = resources {
            let name = format!("\n{}\t", resource.key());
            let place = self.pairs.find(&name).map(|place| place + name.len());
            let state = place.and_then(|place| self.pairs.get(place..place + STATE));
            let held = state.map(|state| pair(state).unwrap_or(CachedPair::UNKNOWN));
            return vec![held.unwrap_or(absent)];
        }
        let held: HashMap<&str, Option<CachedPair>, RandomState> = self.pairs().collect();
        let mut name = String::new();
        let read = |resource: &Resource| {
            use std::fmt::Write;
            name.clear();
            // Writing to text cannot fail.
            let _ = write!(name, "{}", resource.key());
            let held = held.get(name.as_str()).copied();
            held.map_or(absent, |held| held.unwrap_or(CachedPair::UNKNOWN))
        };
        resources.iter().map(read).collect()
    }

    /// Returns whether the entry holds a pair of this resource.
    pub(super) fn holds(&self, resource: &Resource) -> bool {
        self.pairs.contains(&format!("\n{}\t", resource.key()))
    }
}

fn coverage(letter: &str) -> Option<Coverage> {
    match letter {
        "u" => Some(Coverage::Unfilled),
        "p" => Some(Coverage::Partial),
        "c" => Some(Coverage::Complete),
        _ => None,
    }
}

/// Returns the letter of a coverage.
pub(super) const fn letter(coverage: Coverage) -> &'static str {
    match coverage {
        Coverage::Unfilled => "u",
        Coverage::Partial => "p",
        Coverage::Complete => "c",
    }
}

/// Parses the state of a pair.
fn pair(text: &str) -> Option<CachedPair> {
    if text.len() != STATE {
        return None;
    }
    let state = VersionedState {
        version: Version(text.get(..18)?.parse().ok()?),
        liked: flag(text.get(18..19)?)?,
    };
    let progress = match text.get(19..)? {
        "s" => Progress::Settled,
        "?" => return Some(CachedPair::UNKNOWN),
        "r" => Progress::Reverted,
        "-" => Progress::InFlight { base: None },
        base => Progress::InFlight {
            base: Some(flag(base)?),
        },
    };
    Some(CachedPair { state, progress })
}

fn flag(text: &str) -> Option<bool> {
    match text {
        "1" => Some(true),
        "0" => Some(false),
        _ => None,
    }
}

/// A count entry as Redis returns it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct CountText<'a> {
    /// `None` if it is unknown.
    count: Option<LikeCount>,
    sum: i64,
    size: usize,
    oldest: Option<Version>,
    /// The events in flight, or `*` if the sorted set holds them.
    events: &'a str,
}

impl<'a> CountText<'a> {
    /// Parses an entry; `None` if it cannot be parsed.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if let Some(life) = text.strip_prefix('?') {
            life.parse::<Incarnation>().ok()?;
            return Some(Self::default());
        }
        let mut parts = text.splitn(6, ':');
        let count = LikeCount {
            like_count: parts.next()?.parse().ok()?,
            revision: parts.next()?.parse().ok()?,
        };
        let mut held = Self {
            count: Some(count),
            ..Self::default()
        };
        if let Some(sum) = parts.next() {
            held.sum = sum.parse().ok()?;
            held.size = parts.next()?.parse().ok()?;
            held.oldest = Some(Version(parts.next()?.parse().ok()?));
            held.events = parts.next()?;
        }
        Some(held)
    }

    /// Returns each event in flight that is in the entry itself: its version, and its name.
    fn events(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let events = self.events.split('\n').skip(1);
        events.map(|event| event.split_at_checked(18).unwrap_or((event, "")))
    }

    /// Returns what it tells a reader.
    pub(super) fn reading(&self, before: Version) -> Reading {
        Reading {
            liked: None,
            like_count: self.count.map(|count| count.like_count + self.sum),
            is_overdue: self.oldest.is_some_and(|oldest| oldest < before),
        }
    }
}

/// Parses a user entry. Names what it cannot parse.
pub(super) fn user_view(text: &str) -> UserView {
    let Some(entry) = UserText::parse(text) else {
        return UserView {
            unreadable: Some("the head of the entry".to_owned()),
            ..UserView::default()
        };
    };
    let mut view = UserView {
        coverage: entry.coverage,
        ..UserView::default()
    };
    let mut pairs = 0;
    for (resource, held) in entry.pairs() {
        pairs += 1;
        match Resource::from_key(resource).zip(held) {
            Some((resource, held)) => {
                view.pairs.insert(resource, held);
            }
            None => view.unreadable = Some(format!("the pair of '{resource}'")),
        }
    }
    if text.get(17..HEADER).and_then(|size| size.parse().ok()) != Some(pairs) {
        view.unreadable = Some(format!("the number of the {pairs} pairs"));
    }
    view
}

/// Parses a count entry and its events in flight. Names what it cannot parse.
pub(super) fn count_view(text: &str, events: &[(String, f64)]) -> CountView {
    let Some(entry) = CountText::parse(text) else {
        return CountView {
            unreadable: Some(format!("the count '{text}'")),
            ..CountView::default()
        };
    };
    let mut in_flight = BTreeMap::new();
    let mut unreadable = None;
    let own = entry
        .events()
        .map(|(version, name)| (name, version.parse().ok()));
    // Without a mark in the entry, the set is left from one that was evicted.
    let in_set = events.iter().filter(|_| entry.events == "*");
    let in_set = in_set.map(|(name, score)| (&**name, Some(*score as i64)));
    for (name, version) in own.chain(in_set) {
        match version.and_then(|version| event(name, version)) {
            Some((user_id, event)) => {
                in_flight.insert(user_id, event);
            }
            None => unreadable = Some(format!("the event '{name}'")),
        }
    }
    CountView {
        count: entry.count,
        sum: entry.sum,
        size: entry.size,
        in_flight,
        unreadable,
    }
}

/// Parses the name of an event: what it sets, what the database had, and the user.
fn event(name: &str, version: i64) -> Option<(UserId, Join)> {
    let (code, user) = name.split_at_checked(2)?;
    let event = Join {
        state: VersionedState {
            version: Version(version),
            liked: flag(code.get(..1)?)?,
        },
        base: flag(code.get(1..)?)?,
    };
    Some((Id::from_key(user)?, event))
}

/// Returns the names that the events of a user may have.
pub(super) fn event_names(user_id: &UserId) -> [String; 4] {
    ["00", "01", "10", "11"].map(|code| format!("{code}{}", user_id.key()))
}

/// Returns whether a count entry itself has an event of a user.
pub(super) fn has_event(text: &str, user_id: &UserId) -> bool {
    let wanted = user_id.key().to_string();
    let mut events = CountText::parse(text).unwrap_or_default().events();
    events.any(|(_, name)| name.get(2..) == Some(wanted.as_str()))
}

/// Parses the answer to `overdue`.
pub(super) fn overdue(reply: Option<Value>) -> Result<Vec<(UserId, Version)>, CacheError> {
    let reply = reply.unwrap_or(Value::Array(Vec::new()));
    let events: Vec<(String, f64)> = redis::from_redis_value(reply).map_err(unreadable)?;
    let parse = |(name, score): &(String, f64)| {
        let parsed = event(name, *score as i64);
        parsed.map(|(user_id, event)| (user_id, event.state.version))
    };
    Ok(events.iter().filter_map(parse).collect())
}

/// Parses the answer to `apply` about one event.
pub(super) fn applied(answer: &str) -> Result<(Applied, Option<OpenedPair>), CacheError> {
    let mut parts = answer.split(':');
    let mut next = || parts.next().unwrap_or_default();
    let (changed, newer, like_count, user, count) = (next(), next(), next(), next(), next());
    let applied = Applied {
        changed: known(changed)?.map(|changed: u8| changed == 1),
        newer: known(newer)?.map(Version),
        like_count: known(like_count)?,
    };
    if user.is_empty() {
        return Ok((applied, None));
    }
    let opened = OpenedPair {
        user: opened_user(user)?,
        count: opened_count(count)?,
    };
    Ok((applied, Some(opened)))
}

/// Parses the answer to an event that waited for a fill; `None` if an entry refused it.
pub(super) fn applied_after_fill(answer: &str) -> Result<Option<Applied>, CacheError> {
    if answer.is_empty() {
        return Ok(None);
    }
    applied(answer).map(|(applied, _)| Some(applied))
}

/// Parses the answers to `open`: first those about `users` users, then those about counts.
pub(super) fn opened(answers: &[String], users: usize) -> Result<Opened, CacheError> {
    let Some((of_users, of_counts)) = answers.split_at_checked(users) else {
        return Err(CacheError::Unavailable(
            "the script answered about too few entries".to_owned(),
        ));
    };
    let users = of_users.iter().map(|text| opened_user(text));
    let counts = of_counts.iter().map(|text| opened_count(text));
    Ok(Opened {
        users: users.collect::<Result<_, _>>()?,
        counts: counts.collect::<Result<_, _>>()?,
    })
}

/// Parses the answer to `open` about one user.
fn opened_user(answer: &str) -> Result<(Incarnation, Coverage), CacheError> {
    let parsed = answer.split_at_checked(16).and_then(|(life, letter)| {
        let life = life.parse().ok()?;
        Some((life, coverage(letter)?))
    });
    parsed.ok_or_else(|| unreadable(format!("it opened a user entry with '{answer}'")))
}

/// Parses the answer to `open` about one count.
fn opened_count(answer: &str) -> Result<Option<Incarnation>, CacheError> {
    known(answer)
}

/// Returns the texts of an answer.
pub(super) fn texts(reply: Value) -> Result<Vec<String>, CacheError> {
    value(reply)
}

/// Parses a reply.
pub(super) fn value<T: redis::FromRedisValue>(reply: Value) -> Result<T, CacheError> {
    redis::from_redis_value(reply).map_err(unreadable)
}

/// Parses a part of the script's answer; an empty text is an unknown value.
fn known<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<Option<T>, CacheError> {
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(unreadable)
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
pub(super) fn unreadable(error: impl ToString) -> CacheError {
    CacheError::Unavailable(format!(
        "the script's answer cannot be read: {}",
        error.to_string()
    ))
}
