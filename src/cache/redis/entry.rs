//! The content of entries, as the script in `rule/` writes it.

use std::collections::{BTreeMap, HashMap};

use foldhash::fast::RandomState;

use super::text::{TEXT, write_resource};
use crate::cache::Incarnation;
use crate::domain::{
    CachedPair, CountView, Coverage, Id, Join, LikeCount, Progress, Reading, Resource, UserId,
    UserView, Version, VersionedState,
};

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
            let mut name = String::with_capacity(TEXT);
            name.push('\n');
            // Writing to text cannot fail.
            let _ = write_resource(&mut name, resource);
            name.push('\t');
            let place = self.pairs.find(&name).map(|place| place + name.len());
            let state = place.and_then(|place| self.pairs.get(place..place + STATE));
            let held = state.map(|state| pair(state).unwrap_or(CachedPair::UNKNOWN));
            return vec![held.unwrap_or(absent)];
        }
        let held: HashMap<&str, Option<CachedPair>, RandomState> = self.pairs().collect();
        let mut name = String::new();
        let read = |resource: &Resource| {
            name.clear();
            // Writing to text cannot fail.
            let _ = write_resource(&mut name, resource);
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

/// Returns the coverage of a letter.
pub(super) fn coverage(letter: &str) -> Option<Coverage> {
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
pub(super) fn event(name: &str, version: i64) -> Option<(UserId, Join)> {
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
