//! The rows of an import that are in memory: a window of the input. Its events are written in the order of their ids, in
//! which those of one resource are neighbours. So a transaction locks few counts and changes each once, and most rows of
//! an index follow each other.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use ring::digest::{Context, SHA256};

use super::input::{Input, InputRow, Position};
use super::options::Rejected;
use crate::admin::AdminError;
use crate::domain::{BehaviorEvent, ImportRules};
use crate::store::Store;

/// The rows between two positions of the input, read and checked.
pub(super) struct Window {
    /// The position before its rows.
    pub(super) before: Position,
    /// The position after them.
    pub(super) after: Position,
    /// The events of its rows; once it is [`sort`](Self::sort)ed, in the order of their ids.
    pub(super) events: Vec<BehaviorEvent>,
    /// Its invalid rows.
    pub(super) rejected: Vec<Rejected>,
    /// Why the input ends after it.
    pub(super) end: Option<End>,
}

/// Why no window follows.
#[derive(Debug)]
pub(super) enum End {
    /// The input has no more rows.
    Input,
    /// They cannot be read, or a strict import ends.
    Failure(AdminError),
}

impl Window {
    /// Begins a window without rows at a position.
    pub(super) fn at(position: Position) -> Self {
        Self {
            after: position.clone(),
            before: position,
            events: Vec::new(),
            rejected: Vec::new(),
            end: None,
        }
    }

    /// Returns the number of its rows, invalid ones included.
    pub(super) const fn rows(&self) -> usize {
        (self.after.rows - self.before.rows) as usize
    }

    /// Reads `most` more rows into it. A failure ends the input before these rows, and so do invalid rows if the import
    /// is strict.
    pub(super) async fn read(
        &mut self,
        input: &mut Input,
        rules: &Arc<ImportRules>,
        store: &Store,
        most: usize,
        is_strict: bool,
    ) {
        let (rules, now) = (Arc::clone(rules), store.now());
        let check = move |rows, after| Checked::of(rows, after, &rules, now);
        let checked = match input.read(store, most, check).await {
            Ok(checked) => checked,
            Err(error) => {
                self.end = Some(End::Failure(error));
                return;
            }
        };
        if is_strict && let Some(Rejected { place, reason, .. }) = checked.rejected.first() {
            self.end = Some(End::Failure(AdminError::Invalid(format!(
                "{place} is invalid: {reason}; {} rows before it are imported, and another run resumes after them",
                self.after.rows
            ))));
            return;
        }
        if checked.rows < most {
            self.end = Some(End::Input);
        }
        self.after = checked.after;
        self.events.extend(checked.events);
        self.rejected.extend(checked.rejected);
    }

    /// Sorts its events by their ids. Returns a digest that tells whether another window has the same events.
    pub(super) fn sort(&mut self) -> String {
        self.events.sort_unstable_by_key(|event| event.event_id);
        let mut digest = Context::new(&SHA256);
        for event in &self.events {
            digest.update(event.event_id.as_bytes());
        }
        hex::encode(digest.finish())
    }
}

/// Rows that are checked.
struct Checked {
    rows: usize,
    events: Vec<BehaviorEvent>,
    rejected: Vec<Rejected>,
    /// The position after them.
    after: Position,
}

impl Checked {
    fn of(rows: Vec<InputRow>, after: Position, rules: &ImportRules, now: DateTime<Utc>) -> Self {
        let mut checked = Self {
            rows: rows.len(),
            events: Vec::with_capacity(rows.len()),
            rejected: Vec::new(),
            after,
        };
        for InputRow {
            place,
            named_type,
            row,
        } in rows
        {
            let events = match &row {
                Ok(row) => rules.events(row, named_type, now),
                Err(reason) => Err(reason.clone()),
            };
            match events {
                Ok(events) => checked.events.extend(events),
                Err(reason) => checked.rejected.push(Rejected {
                    place,
                    reason,
                    row: row.ok(),
                }),
            }
        }
        checked
    }
}
