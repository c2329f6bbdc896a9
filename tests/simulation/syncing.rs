//! From the ledger into the read models: the work of the sync publisher and the retry scheduler.

use std::time::Duration;

use likewise::domain::{Backoff, Bisection, FailureKind, LedgerRow, Status, Verdict};
use likewise::store::{FailedAttempt, StoreError};
use rand::RngExt;

use super::Broken;
use super::database::{Bane, held};
use super::process::{Syncing, ToCache, entries, pair_of};
use super::world::{Outcome, World};

const RETRY: Backoff = Backoff {
    base: Duration::from_secs(1),
    cap: Duration::from_secs(300),
};

impl World {
    pub fn take_to_sync(&mut self, p: usize) {
        let most = self.rng.random_range(1..=8);
        let memory = self.memory(p);
        let most = most.min(memory.to_sync.len());
        let rows: Vec<_> = memory.to_sync.drain(..most).collect();
        memory.syncing = Some(Syncing {
            parts: Bisection::of(rows.len()),
            rows,
            done: Vec::new(),
            failed: Vec::new(),
        });
    }

    /// The next transaction of the batch in flight: an attempt, the record of a failure, or the settlement of the
    /// cache.
    pub fn sync(&mut self, p: usize) -> Result<(), Broken> {
        let Some(mut syncing) = self.memory(p).syncing.take() else {
            return Ok(());
        };
        if let Some(part) = syncing.parts.next_part() {
            let rows = &syncing.rows[part.clone()];
            let kills =
                |row: &LedgerRow| self.database.banes.get(&row.event_id) == Some(&Bane::Worker);
            if rows.iter().any(kills) {
                self.memory(p).syncing = Some(syncing);
                self.crash(p);
                return Ok(());
            }
            self.note(|_| {
                let rows = rows.iter().map(|row| (row.event_id, row.fencing_token));
                format!("  attempt on {:?}", rows.collect::<Vec<_>>())
            });
            let outcome = self.transaction();
            let synced = match outcome {
                Outcome::NotCommitted(error) => Err(error),
                Outcome::Committed => self.database.sync(rows)?,
                Outcome::AnswerLost(error) => {
                    let synced = self.database.sync(rows)?;
                    if synced.is_ok() {
                        self.cache.leave_untold(entries(rows));
                    }
                    synced.and(Err(error))
                }
            };
            match synced {
                Ok(settled) => syncing.done.push(settled),
                Err(error) if error.may_be_of_one_row() && syncing.parts.halve(&part) => {}
                Err(error) => syncing.failed.push((part, error)),
            }
            self.memory(p).syncing = Some(syncing);
        } else if let Some((part, error)) = syncing.failed.pop() {
            self.note_value(&error);
            if !self.write_failure(p, &syncing.rows[part.clone()], &error)? {
                syncing.failed.push((part, error));
            }
            self.memory(p).syncing = Some(syncing);
        } else {
            let settle = |settled| ToCache::Settle(settled, Vec::new());
            let settlements = syncing.done.into_iter().map(settle);
            self.memory(p).to_cache.extend(settlements);
        }
        Ok(())
    }

    /// Returns whether the batch is done. Work that the infrastructure prevents is retried.
    fn write_failure(
        &mut self,
        p: usize,
        rows: &[LedgerRow],
        error: &StoreError,
    ) -> Result<bool, Broken> {
        let now = self.now;
        let attempts: Vec<_> = rows
            .iter()
            .map(|row| FailedAttempt {
                row: row.clone(),
                verdict: Verdict::after_failure(
                    error.kind(),
                    row,
                    now,
                    &RETRY,
                    self.rng.random_range(0.0..1.0),
                ),
                error: error.to_string(),
            })
            .collect();
        let outcome = self.transaction();
        match &outcome {
            Outcome::NotCommitted(error) => {
                return Ok(error.kind() != FailureKind::Infrastructure);
            }
            Outcome::Committed | Outcome::AnswerLost(_) => {}
        }
        self.database.fail(&attempts)?;
        if error.kind() == FailureKind::Invalid {
            self.is_not_tried_again(rows)?;
        }
        let dead = attempts
            .iter()
            .filter(|attempt| attempt.verdict == Verdict::Dead);
        for row in dead.map(|attempt| &attempt.row) {
            self.forget_dead(p, row, &outcome);
        }
        Ok(true)
    }

    /// A permanently refused row is closed, or no longer held under this token: another worker claimed it, or the batch
    /// had it twice and it failed for another reason before.
    fn is_not_tried_again(&self, rows: &[LedgerRow]) -> Result<(), Broken> {
        for row in rows {
            if let Some(found) = self.database.ledger.get(&row.event_id)
                && held(found, row.fencing_token)
            {
                return Err(Broken::new(format!(
                    "refused for good, but open: {found:?}"
                )));
            }
        }
        Ok(())
    }

    /// A dead event is reverted in the cache by the worker that learns of it.
    fn forget_dead(&mut self, p: usize, row: &LedgerRow, outcome: &Outcome) {
        if matches!(outcome, Outcome::Committed) {
            let put_back = ToCache::Forget(pair_of(row), row.version);
            self.memory(p).to_cache.push(put_back);
        } else {
            self.cache
                .haunt(&pair_of(row), "nobody was told that an event is dead");
        }
    }

    pub fn claim(&mut self, p: usize) -> Result<(), Broken> {
        let limit = self.rng.random_range(1..=6);
        let lease = self.lease();
        let outcome = self.transaction();
        if matches!(outcome, Outcome::NotCommitted(_)) {
            return Ok(());
        }
        for claim in self.database.claim(lease, limit)? {
            self.note_value(&(claim.row.event_id, claim.row.fencing_token, claim.status));
            if claim.status == Status::Dead {
                self.forget_dead(p, &claim.row, &outcome);
            } else if matches!(outcome, Outcome::Committed) {
                self.memory(p).to_sync.push(claim.row);
            }
        }
        Ok(())
    }
}
