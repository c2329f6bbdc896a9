//! The rows of an import that are in memory: a window of the input. Its events are written in the order of their users and
//! resources, which is that of most indexes. So neighbouring rows change a page together, and few pages at a time.

use std::panic::resume_unwind;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use ring::digest::{Context, SHA256};
use tokio::task::spawn_blocking;
use uuid::Uuid;

use super::input::Input;
use super::options::Rejected;
use super::row::{InputRow, Position};
use crate::admin::AdminError;
use crate::domain::{BehaviorEvent, ImportRules, Resource, UserId};
use crate::store::Store;

/// The rows between two positions of the input, read and checked.
pub(super) struct Window {
    /// The position before its rows.
    pub(super) before: Position,
    /// The position after them.
    pub(super) after: Position,
    /// The events of its rows.
    pub(super) events: Arc<Vec<BehaviorEvent>>,
    /// Once they are [`sort`](Self::sort)ed, a digest that tells whether another window has the same events.
    pub(super) digest: Option<String>,
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
            events: Arc::default(),
            digest: None,
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
        Arc::make_mut(&mut self.events).extend(checked.events);
        self.rejected.extend(checked.rejected);
    }

    /// Sorts its events, unless they are sorted, beside the caller's thread.
    pub(super) async fn sort(&mut self) {
        if self.digest.is_some() {
            return;
        }
        let mut events = std::mem::take(&mut self.events);
        let sorted = spawn_blocking(move || {
            let digest = sorted(Arc::<Vec<_>>::make_mut(&mut events));
            (events, digest)
        });
        let (events, digest) = sorted
            .await
            .unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
        self.events = events;
        self.digest = Some(digest);
    }
}

/// Sorts events by user and resource. Returns their digest.
fn sorted(events: &mut [BehaviorEvent]) -> String {
    events.sort_unstable_by(|one, other| order(one).cmp(&order(other)));
    let mut digest = Context::new(&SHA256);
    for event in events {
        digest.update(event.event_id.as_bytes());
    }
    hex::encode(digest.finish())
}

const fn order(event: &BehaviorEvent) -> (&UserId, &Resource, Uuid) {
    (&event.user_id, &event.resource, event.event_id)
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
