//! The rows of an import that are in memory: a window of the input. Its events are divided into lanes by their resources.
//! Each lane writes them in the order of their users, which is that of most indexes. So neighbouring rows change a page
//! together, and few pages at a time.

use std::hash::BuildHasher;
use std::panic::resume_unwind;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use foldhash::fast::FixedState;
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
    /// The events of its rows, until they are [`sort`](Self::sort)ed.
    events: Vec<BehaviorEvent>,
    /// The events of each lane, in their order, once they are sorted.
    pub(super) lanes: Vec<Arc<Vec<BehaviorEvent>>>,
    /// A digest that tells whether another window has the same events, once they are sorted.
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
            events: Vec::new(),
            lanes: Vec::new(),
            digest: None,
            rejected: Vec::new(),
            end: None,
        }
    }

    /// Returns the number of its rows, invalid ones included.
    pub(super) const fn rows(&self) -> usize {
        (self.after.rows - self.before.rows) as usize
    }

    /// Returns the number of its events, once they are sorted.
    pub(super) fn events(&self) -> usize {
        self.lanes.iter().map(|events| events.len()).sum()
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

    /// Sorts its events into so many lanes, unless they are sorted, beside the caller's thread.
    pub(super) async fn sort(&mut self, lanes: usize) {
        if self.digest.is_some() {
            return;
        }
        let events = std::mem::take(&mut self.events);
        let sorted = spawn_blocking(move || {
            let lanes = divided(events, lanes);
            let digest = digest(&lanes);
            (lanes, digest)
        });
        let (lanes, digest) = sorted
            .await
            .unwrap_or_else(|panic| resume_unwind(panic.into_panic()));
        self.lanes = lanes.into_iter().map(Arc::new).collect();
        self.digest = Some(digest);
    }
}

/// Divides events by their resources into so many lanes, and sorts each by user and resource. The lane of a resource is the
/// same in each run.
fn divided(events: Vec<BehaviorEvent>, lanes: usize) -> Vec<Vec<BehaviorEvent>> {
    let hasher = FixedState::with_seed(0);
    // An eighth more, so that few lanes must grow.
    let room = events.len() / lanes * 9 / 8;
    let mut divided: Vec<_> = (0..lanes).map(|_| Vec::with_capacity(room)).collect();
    for event in events {
        let hash = hasher.hash_one(&event.resource);
        divided[(hash % lanes as u64) as usize].push(event);
    }
    for events in &mut divided {
        events.sort_unstable_by(|one, other| order(one).cmp(&order(other)));
    }
    divided
}

fn digest(lanes: &[Vec<BehaviorEvent>]) -> String {
    let mut digest = Context::new(&SHA256);
    for events in lanes {
        digest.update(&events.len().to_le_bytes());
        for event in events {
            digest.update(event.event_id.as_bytes());
        }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::domain::{BehaviorType, Source, Version};

    fn event(user: i64, video: i64) -> BehaviorEvent {
        BehaviorEvent {
            event_id: Uuid::from_u64_pair(user as u64, video as u64),
            user_id: user.into(),
            resource: Resource::video(video),
            behavior: BehaviorType::Like,
            version: Version(1),
            source: Source::Foreign("import".to_owned()),
            occurred_at: DateTime::UNIX_EPOCH,
            stream_sequence: None,
            trace: None,
        }
    }

    #[test]
    fn each_resource_has_one_lane_and_each_lane_is_sorted() {
        let events: Vec<_> = (0..3_000).map(|n| event(n * 7 % 50, n % 40)).collect();
        let lanes = divided(events.clone(), 3);
        let mut lane_of = BTreeMap::new();
        for (number, lane) in lanes.iter().enumerate() {
            assert!(lane.is_sorted_by_key(|event| (event.user_id.clone(), event.resource.clone())));
            assert!(
                lane.len() > 300,
                "a lane has {} of 3,000 events",
                lane.len()
            );
            for event in lane {
                let first = *lane_of.entry(event.resource.clone()).or_insert(number);
                assert_eq!(first, number, "{:?}", event.resource);
            }
        }
        assert_eq!(lanes.iter().map(Vec::len).sum::<usize>(), events.len());
        let again = divided(events.into_iter().rev().collect(), 3);
        assert_eq!(digest(&again), digest(&lanes));
    }
}
