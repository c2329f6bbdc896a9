//! The answer to an event on a cluster, in two parts: that of its user entry, and that of its count entry.

use crate::cache::redis::answer;
use crate::cache::{CacheError, OpenedPair};
use crate::domain::Applied;

/// What a user entry answers to an event.
pub(super) struct TakenEvent {
    /// Whether it changed the pair, and a newer version.
    applied: String,
    /// What the count entry has to count: the base of an event in flight, `-` if that is unknown, or nothing.
    pub(super) base: String,
    /// What `open` answers about the user entry.
    opened: String,
}

impl TakenEvent {
    /// Parses the answer of the user entry.
    pub(super) fn parse(answer: &str) -> Result<Self, CacheError> {
        let mut parts = answer.rsplitn(3, ':');
        let mut next = || parts.next().map(str::to_owned);
        let (opened, base, applied) = (next(), next(), next());
        let taken = opened.zip(base).zip(applied);
        let taken = taken.map(|((opened, base), applied)| Self {
            applied,
            base,
            opened,
        });
        taken.ok_or_else(|| answer::unreadable(format!("it applied '{answer}'")))
    }

    /// Returns whether the event joins its count entry.
    pub(super) fn has_joined(&self) -> bool {
        !self.base.is_empty() && self.base != "-"
    }

    /// Returns whether the count has to be opened: `1`, `?` if it is unknown, or `0`.
    pub(super) fn opens_count(&self) -> &'static str {
        match self.applied.split_once(':') {
            Some((_, newer)) if !newer.is_empty() => "0",
            Some(("", _)) => "1",
            _ => "?",
        }
    }

    /// Returns the whole answer, with that of the count entry.
    pub(super) fn answer(&self, count: &str) -> Result<(Applied, Option<OpenedPair>), CacheError> {
        let answer = match count.split_once(':') {
            None => format!("{}:{count}", self.applied),
            Some((count, opened)) => {
                format!("{}:{count}:{}:{opened}", self.applied, self.opened)
            }
        };
        answer::applied(&answer)
    }
}
