//! Calls of the script in `rule/`: one call runs a verb on many pairs.

use std::fmt::{self, Write};

use redis::{Cmd, Script};

use super::entry;
use super::keys::Keys;
use super::text::{Digits, TEXT, write_id, write_number, write_resource};
use crate::cache::{CountFilling, Incarnation, Settlement, UserFilling};
use crate::domain::{LikeCount, Pair, Resource, UserId, Version, VersionedState};

/// The script, which implements the rule of `domain/user_entry.rs` and `domain/count_entry.rs`. A file uses the locals of the
/// files before it.
pub(super) const RULE: &str = concat!(
    include_str!("rule/shared.lua"),
    include_str!("rule/user_entry.lua"),
    include_str!("rule/count_entry.lua"),
    include_str!("rule/verbs.lua"),
);

/// The largest number of pairs in one call. Redis runs nothing else meanwhile, and the memory that a larger one needs makes
/// each pair dearer.
pub(super) const PAIRS_PER_CALL: usize = 64;

/// What all calls have in common.
pub(super) struct Caller {
    script: Script,
    time_to_live: String,
    pairs_per_user: String,
}

/// A call in the making.
pub(super) struct Call {
    keys: Texts,
    arguments: Texts,
}

/// Texts one after the other, with the place where each ends.
struct Texts {
    text: String,
    ends: Vec<usize>,
}

impl Texts {
    fn new(count: usize) -> Self {
        Self {
            text: String::with_capacity(count * TEXT),
            ends: Vec::with_capacity(count),
        }
    }

    /// Adds what `write` writes.
    fn push(&mut self, write: impl FnOnce(&mut String) -> fmt::Result) {
        // Writing to text cannot fail.
        let _ = write(&mut self.text);
        self.ends.push(self.text.len());
    }

    fn iter(&self) -> impl Iterator<Item = &str> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let text = &self.text[start..*end];
            start = *end;
            text
        })
    }
}

impl Caller {
    pub(super) fn new(time_to_live: u64, pairs_per_user: usize) -> Self {
        Self {
            script: Script::new(RULE),
            time_to_live: time_to_live.max(1).to_string(),
            pairs_per_user: format!("{:05}", pairs_per_user.min(99_999)),
        }
    }

    /// Returns the command of a call.
    pub(super) fn command(&self, verb: &'static str, now: Version, call: &Call) -> Cmd {
        let (keys, arguments) = (&call.keys, &call.arguments);
        let count = 8 + keys.ends.len() + arguments.ends.len();
        let mut command = Cmd::with_capacity(count, 200 + keys.text.len() + arguments.text.len());
        command
            .arg("EVALSHA")
            .arg(self.script.get_hash())
            .arg(call.keys());
        for key in keys.iter() {
            command.arg(key);
        }
        // Names of lifetimes have at most 16 digits, and Lua counts exactly up to 2^53.
        let life = rand::random::<u64>() >> 12;
        command
            .arg(verb)
            .arg(&self.time_to_live)
            .arg(&self.pairs_per_user)
            .arg(Digits::of_version(now).as_str())
            .arg(Digits::of(life, 16).as_str());
        for argument in arguments.iter() {
            command.arg(argument);
        }
        command
    }
}

impl Call {
    /// Returns a call that settles the count entry of a commit: always one, because the count has all of the commit's events.
    /// After a part of them had left, the others would be counted twice.
    pub(super) fn settle_count(keys: &Keys, resource: &Resource, settlement: &Settlement) -> Self {
        let mut call = Self::new(1 + settlement.states.len());
        call.count(keys, resource);
        call.settled_count(settlement.count);
        for (user_id, state) in &settlement.states {
            call.user_id(user_id);
            call.state(*state);
        }
        call
    }

    /// Returns a call that asks for the events of a resource before a version.
    pub(super) fn overdue(keys: &Keys, resource: &Resource, before: Version, limit: usize) -> Self {
        let mut call = Self::new(1);
        call.count(keys, resource);
        call.number(before.0);
        call.size(limit);
        call
    }

    pub(super) fn new(pairs: usize) -> Self {
        Self {
            keys: Texts::new(pairs * 2),
            arguments: Texts::new(pairs * 2),
        }
    }

    /// Returns the number of keys, which is the place of the last one.
    pub(super) fn keys(&self) -> usize {
        self.keys.ends.len()
    }

    /// Adds the key of a user entry.
    pub(super) fn user(&mut self, keys: &Keys, user_id: &UserId) {
        self.keys.push(|text| keys.user(user_id).write(text));
    }

    /// Adds the key of a count entry.
    pub(super) fn count(&mut self, keys: &Keys, resource: &Resource) {
        self.keys.push(|text| keys.count(resource).write(text));
    }

    /// Adds the keys of both entries of a pair.
    pub(super) fn pair(&mut self, keys: &Keys, pair: &Pair) {
        self.user(keys, &pair.user_id);
        self.count(keys, &pair.resource);
    }

    /// Returns the first key.
    pub(super) fn first_key(&self) -> &str {
        self.keys.iter().next().unwrap_or_default()
    }

    /// Adds the key of a user entry and what fills it.
    pub(super) fn user_filling(&mut self, keys: &Keys, filling: &UserFilling) {
        self.user(keys, &filling.user_id);
        self.incarnation(filling.incarnation);
        self.arg(entry::letter(filling.coverage));
        self.size(filling.rows.len());
        for (resource, state) in &filling.rows {
            self.resource(resource);
            self.state(*state);
        }
    }

    /// Adds the key of a count entry and what fills it.
    pub(super) fn count_filling(&mut self, keys: &Keys, filling: &CountFilling) {
        self.count(keys, &filling.resource);
        self.incarnation(filling.incarnation);
        self.number(filling.count.like_count);
        self.number(filling.count.revision);
    }

    /// Adds the count of a commit and its revision; empty texts without one.
    pub(super) fn settled_count(&mut self, count: Option<LikeCount>) {
        match count {
            Some(count) => {
                self.number(count.like_count);
                self.number(count.revision);
            }
            None => {
                self.arg("");
                self.arg("");
            }
        }
    }

    /// Adds text.
    pub(super) fn arg(&mut self, argument: &str) {
        self.arguments.push(|text| text.write_str(argument));
    }

    /// Adds a number.
    pub(super) fn number(&mut self, number: i64) {
        self.arguments.push(|text| write_number(text, number));
    }

    /// Adds a number of items, or the place of a key.
    pub(super) fn size(&mut self, size: usize) {
        self.arg(Digits::of(size as u64, 1).as_str());
    }

    /// Adds a user, without a key.
    pub(super) fn user_id(&mut self, user_id: &UserId) {
        self.arguments.push(|text| write_id(text, user_id));
    }

    /// Adds a resource, without a key.
    pub(super) fn resource(&mut self, resource: &Resource) {
        self.arguments.push(|text| write_resource(text, resource));
    }

    /// Adds a version.
    pub(super) fn version(&mut self, version: Version) {
        self.arg(Digits::of_version(version).as_str());
    }

    /// Adds a state: its version, and whether it is liked.
    pub(super) fn state(&mut self, state: VersionedState) {
        self.arguments.push(|text| {
            text.write_str(Digits::of_version(state.version).as_str())?;
            text.write_char(if state.liked { '1' } else { '0' })
        });
    }

    fn incarnation(&mut self, incarnation: Incarnation) {
        self.arg(Digits::of(incarnation, 16).as_str());
    }
}
