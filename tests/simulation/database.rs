//! The database: each transaction of the store, by the rules of the domain. A transaction is one step of the
//! simulation, as row locks ensure in the real database.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use likewise::domain::{
    Action, BehaviorEvent, Claim, Fold, LedgerRow, LikeCount, Pair, PairState, Resource, Status,
    VersionedState,
};
use likewise::store::{FailedAttempt, Lease, Recorded, Settled, StoreError};
use uuid::Uuid;

use super::Broken;

/// The part of an event that the database refuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bane {
    /// The behavior.
    Recording,
    /// The state, permanently.
    Syncing,
    /// The state, with an unknown error.
    SyncingInUnknownWords,
    /// Nothing, but the process that tries dies.
    Worker,
}

/// A row of `sync_events`.
#[derive(Debug, Clone)]
pub struct Row {
    pub row: LedgerRow,
    pub status: Status,
    pub next_attempt_at: Option<DateTime<Utc>>,
    pub error: Option<String>,
}

#[derive(Default, Clone)]
pub struct Database {
    pub behaviors: BTreeMap<Uuid, BehaviorEvent>,
    pub ledger: BTreeMap<Uuid, Row>,
    pub states: BTreeMap<Pair, PairState>,
    pub counts: BTreeMap<Resource, LikeCount>,
    pub quarantine: BTreeSet<Uuid>,
    pub banes: BTreeMap<Uuid, Bane>,
    /// The tokens under which a row was found due. Each may be claimed once.
    claimed: BTreeSet<(Uuid, i64)>,
    /// The tokens under which an attempt failed. Each may fail once.
    failed: BTreeSet<(Uuid, i64)>,
}

/// The condition for a held row: no other worker has claimed it since, and it is open.
pub fn held(row: &Row, token: i64) -> bool {
    row.row.fencing_token == token && matches!(row.status, Status::Pending | Status::Processing)
}

/// `next_attempt_at <= now`: `due` in store/statements.rs.
fn due(row: &Row, now: DateTime<Utc>) -> bool {
    row.next_attempt_at.is_some_and(|at| at <= now)
}

/// The condition for equal content. The sender and the place in the stream do not matter.
fn is_same(one: &BehaviorEvent, other: &BehaviorEvent) -> bool {
    let content = |event: &BehaviorEvent| {
        let BehaviorEvent {
            user_id,
            resource,
            behavior,
            version,
            occurred_at,
            ..
        } = event.clone();
        (user_id, resource, behavior, version, occurred_at)
    };
    content(one) == content(other)
}

fn event_of(row: &LedgerRow) -> (Pair, VersionedState) {
    let pair = Pair {
        resource: row.resource.clone(),
        user_id: row.user_id.clone(),
    };
    (pair, VersionedState::new(row.version, row.action))
}

impl Database {
    /// `record`: existing rows stay, and other content under their id is refused.
    pub fn record(
        &mut self,
        events: &[&BehaviorEvent],
        lease: Lease,
    ) -> Result<Recorded, StoreError> {
        let recording = |event: &&&BehaviorEvent| {
            self.banes.get(&event.event_id) == Some(&Bane::Recording)
                && !self.behaviors.contains_key(&event.event_id)
        };
        if events.iter().any(|event| recording(&event)) {
            return Err(StoreError::Refused("a behavior".into()));
        }
        let mut recorded = Recorded::default();
        for (place, event) in events.iter().enumerate() {
            let first = self.behaviors.entry(event.event_id);
            let first = first.or_insert_with(|| (*event).clone());
            if !is_same(first, event) {
                recorded.conflicts.push(place);
            } else if let Some(row) = LedgerRow::born(event, lease.max_retries) {
                self.ledger.entry(event.event_id).or_insert(Row {
                    row: row.clone(),
                    status: Status::Pending,
                    next_attempt_at: Some(lease.until()),
                    error: None,
                });
                recorded.rows.push(row);
            }
        }
        Ok(recorded)
    }

    /// `record_and_sync`: both or nothing, and only new events.
    pub fn record_and_sync(
        &mut self,
        events: &[&BehaviorEvent],
        lease: Lease,
    ) -> Result<Result<Settled, StoreError>, Broken> {
        let ids: BTreeSet<Uuid> = events.iter().map(|event| event.event_id).collect();
        let is_known = |id: &Uuid| self.behaviors.contains_key(id);
        if ids.len() < events.len() || ids.iter().any(is_known) {
            return Ok(Err(StoreError::Refused("an event that is known".into())));
        }
        let mut after = self.clone();
        let rows = match after.record(events, lease) {
            Ok(recorded) => recorded.rows,
            Err(error) => return Ok(Err(error)),
        };
        let synced = after.sync(&rows)?;
        if synced.is_ok() {
            *self = after;
        }
        Ok(synced)
    }

    /// `sync`: the count is locked, so no other transaction runs between fold and commit.
    pub fn sync(&mut self, rows: &[LedgerRow]) -> Result<Result<Settled, StoreError>, Broken> {
        // Closed rows count only if they are completed, and only if the ledger has the same content.
        let completes = |row: &LedgerRow| {
            self.ledger.get(&row.event_id).is_some_and(|found| {
                (held(found, row.fencing_token) || found.status == Status::Completed)
                    && found.row.is_of_one_content_with(row)
            })
        };
        let effective: Vec<&LedgerRow> = rows.iter().filter(|row| completes(row)).collect();
        let mut fold = Fold::of(
            |pair| self.states.get(pair).copied(),
            effective.iter().map(|row| event_of(row)),
        );
        if !fold.unclear().is_empty() {
            let batch = effective.iter().map(|row| event_of(row));
            fold.clarify(&Fold::of(|_| None, self.completed().chain(batch)).states);
        }
        for row in &effective {
            let (pair, mark) = event_of(row);
            let written = fold.changed.contains(&pair) && fold.states[&pair].newest == mark;
            match self.banes.get(&row.event_id) {
                Some(Bane::Syncing) if written => {
                    return Ok(Err(StoreError::Refused("a state".into())));
                }
                Some(Bane::SyncingInUnknownWords) if written => {
                    return Ok(Err(StoreError::Failed("a trigger's own words".into())));
                }
                _ => {}
            }
        }
        for row in rows {
            let (id, token) = (row.event_id, row.fencing_token);
            if self.ledger.get(&id).is_some_and(|found| held(found, token)) {
                self.change(id, token, |found| {
                    found.status = Status::Completed;
                    found.next_attempt_at = None;
                })?;
            }
        }
        let mut settled = Settled::default();
        for row in rows {
            let (pair, _) = event_of(row);
            if let Some(stored) = self.states.get(&pair) {
                settled.states.insert(pair, stored.newest);
            }
            let count = self
                .counts
                .entry(row.resource.clone())
                .or_insert(LikeCount::NEVER);
            settled.counts.insert(row.resource.clone(), *count);
        }
        for pair in &fold.changed {
            self.states.insert(pair.clone(), fold.states[pair]);
        }
        let newest = fold.states.into_iter();
        let newest = newest.map(|(pair, state)| (pair, state.newest));
        settled.states.extend(newest);
        for (resource, change) in fold.count_changes {
            if let Some(after) = self.count(&resource.clone()).after(change) {
                self.counts.insert(resource.clone(), after);
                settled.counts.insert(resource, after);
            }
        }
        self.counts_are_exact(settled.counts.keys())?;
        Ok(Ok(settled))
    }

    /// `fail`.
    pub fn fail(&mut self, attempts: &[FailedAttempt]) -> Result<(), Broken> {
        for attempt in attempts {
            let (id, token) = (attempt.row.event_id, attempt.row.fencing_token);
            if !self.ledger.get(&id).is_some_and(|row| held(row, token)) {
                continue;
            }
            self.change(id, token, |row| {
                row.status = attempt.verdict.status();
                row.row.retry_count += i32::from(attempt.verdict.is_counted());
                row.error = Some(attempt.error.clone());
                row.next_attempt_at = attempt.verdict.next_attempt_at();
            })?;
            if !self.failed.insert((id, token)) {
                return Err(Broken::new(format!(
                    "an attempt on {id} failed twice under token {token}"
                )));
            }
        }
        Ok(())
    }

    /// `claim`: skips rows that others have locked, so that each is claimed once.
    pub fn claim(&mut self, lease: Lease, limit: usize) -> Result<Vec<Claim>, Broken> {
        let mut found: Vec<Row> = self
            .ledger
            .values()
            .filter(|row| due(row, lease.now))
            .cloned()
            .collect();
        found.sort_by_key(|row| row.next_attempt_at);
        found.truncate(limit);
        let mut claims = Vec::new();
        for found in found {
            let (id, token) = (found.row.event_id, found.row.fencing_token);
            let claim = Claim::of(found.status, found.row, false);
            self.change(id, token, |row| {
                row.status = claim.status;
                row.row = claim.row.clone();
                row.next_attempt_at = claim.status.is_open().then_some(lease.until());
                row.error = claim.error.map(str::to_owned).or(row.error.take());
            })?;
            if !self.claimed.insert((id, token)) {
                return Err(Broken::new(format!(
                    "{id} was claimed twice under token {token}"
                )));
            }
            claims.push(claim);
        }
        Ok(claims)
    }

    pub fn is_any_due(&self, now: DateTime<Utc>) -> bool {
        self.ledger.values().any(|row| due(row, now))
    }

    /// The completed like events.
    fn completed(&self) -> impl Iterator<Item = (Pair, VersionedState)> {
        self.behaviors.iter().filter_map(|(id, event)| {
            let row = self.ledger.get(id)?;
            let pair = Pair {
                resource: event.resource.clone(),
                user_id: event.user_id.clone(),
            };
            let state = VersionedState::new(event.version, event.action()?);
            (row.status == Status::Completed).then_some((pair, state))
        })
    }

    pub fn mark(&self, pair: &Pair) -> VersionedState {
        let state = self.states.get(pair);
        state.map_or(VersionedState::NEVER, |state| state.newest)
    }

    pub fn count(&self, resource: &Resource) -> LikeCount {
        let count = self.counts.get(resource).copied();
        count.unwrap_or(LikeCount::NEVER)
    }

    /// Changes a ledger row under this token, and checks that the change is allowed.
    fn change(
        &mut self,
        id: Uuid,
        presented: i64,
        change: impl FnOnce(&mut Row),
    ) -> Result<(), Broken> {
        let Some(row) = self.ledger.get_mut(&id) else {
            return Err(Broken::new(format!("{id} has no ledger row")));
        };
        let before = row.clone();
        change(row);
        let broken = if !before.status.is_open() {
            "a closed row was changed"
        } else if before.row.fencing_token != presented {
            "a stale token changed a row"
        } else if row.row.fencing_token < before.row.fencing_token {
            "a token went back"
        } else if row.row.retry_count > row.row.max_retries + 1 {
            "an event was tried too often"
        } else if row.status == Status::Failed && row.row.retry_count > row.row.max_retries {
            "a row is to be tried again, though it was tried often enough"
        } else if row.status == Status::Dead && row.error.is_none() {
            "a row is dead without a reason"
        } else if row.status.is_open() == row.next_attempt_at.is_none() {
            "an open row is never due, or a closed one is"
        } else {
            return Ok(());
        };
        Err(Broken::new(format!("{broken}: {before:?} became {row:?}")))
    }

    /// Checks promise 4 after each commit.
    fn counts_are_exact<'a>(
        &self,
        resources: impl IntoIterator<Item = &'a Resource>,
    ) -> Result<(), Broken> {
        for resource in resources {
            let of_it = self
                .states
                .iter()
                .filter(|(pair, _)| pair.resource == *resource);
            let liked: i64 = of_it.map(|(_, state)| state.weight()).sum();
            let count = self.count(&resource.clone()).like_count;
            if count != liked {
                return Err(Broken::new(format!(
                    "{resource} has a count of {count}, but {liked} liked rows"
                )));
            }
        }
        Ok(())
    }

    /// At the end, read models are the fold of the completed events, and the ledger is closed.
    pub fn is_what_its_events_add_up_to(&self) -> Result<(), Broken> {
        for (id, event) in &self.behaviors {
            if event.action().is_none() {
                continue;
            }
            let Some(row) = self.ledger.get(id) else {
                return Err(Broken::new(format!(
                    "{id} is recorded, but has no ledger row"
                )));
            };
            if row.status.is_open() {
                return Err(Broken::new(format!("{id} was left open: {row:?}")));
            }
        }
        for id in self.ledger.keys() {
            let liked = self.behaviors.get(id).and_then(BehaviorEvent::action);
            let expected: Option<Action> = self.ledger.get(id).map(|row| row.row.action);
            if liked != expected {
                return Err(Broken::new(format!(
                    "the ledger row {id} says {expected:?}, its behavior {liked:?}"
                )));
            }
        }
        let fold = Fold::of(|_| None, self.completed());
        if fold.states != self.states {
            let of = |pair: &Pair| (fold.states.get(pair), self.states.get(pair));
            let pairs: BTreeSet<&Pair> = fold.states.keys().chain(self.states.keys()).collect();
            let differing = pairs
                .into_iter()
                .map(|pair| (pair, of(pair)))
                .find(|(_, (folded, stored))| folded != stored);
            return Err(Broken::new(format!(
                "the read model is not the fold of the completed events (pair, (folded, stored)): \
                 {differing:?}"
            )));
        }
        self.counts_are_exact(self.counts.keys())
    }
}
