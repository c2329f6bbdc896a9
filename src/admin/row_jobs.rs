//! Jobs on a snapshot of rows: events of the ledger, messages in quarantine, dead letters of webhooks. Each step changes some
//! rows and moves the job, in one transaction, so a cancelled job changes nothing more. Run by `job_kinds`.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::held_job::{HeldJob, Interrupted, JobExit, POSTPONED};
use super::webhooks::done;
use super::{AdminError, Progress};
use crate::domain::{JobKind, Priority, Resolution};
use crate::store::{
    DeadLetterAction, Intervention, InterventionKind, JobReport, JobStep, RowChange,
};
use crate::telemetry::OperatorIntervened;

/// How long a job on rows is leased by each of its short steps.
const LEASE: TimeDelta = TimeDelta::seconds(10);

/// The most rows in one transaction.
const ROWS_AT_ONCE: usize = 500;

/// The number of transactions a second that a slow job is spread over.
const STEPS_PER_SECOND: usize = 4;

/// The number of dead letters, or of messages that are discarded, in one step.
const FEW: usize = 100;

/// The number of messages that one step publishes.
const PUBLISHED_AT_ONCE: usize = 20;

impl HeldJob<'_> {
    /// Retries or discards the events of the job's snapshot, at most `per_second` a second.
    pub(super) async fn intervene(
        &mut self,
        per_second: u32,
        reason: Option<String>,
    ) -> Result<(), Interrupted> {
        let (job, admin) = (self.job, self.admin);
        let action = match reason {
            Some(reason) if job.kind == JobKind::Discard => InterventionKind::Discard(reason),
            _ => InterventionKind::Retry,
        };
        let limit = (per_second as usize / STEPS_PER_SECOND).clamp(1, ROWS_AT_ONCE);
        let mut snapshot = self.snapshot("events").await?;
        loop {
            let (started, now) = (Instant::now(), admin.store().now());
            let intervention = Intervention {
                action: action.clone(),
                operator: job.requested_by.clone(),
                priority: Priority::Bulk,
                now,
            };
            let step = snapshot
                .step(self, RowChange::Events(&intervention), limit)
                .await?;
            admin.intervened(&intervention, &step.events).await?;
            if step.finished {
                return Ok(());
            }
            self.goes_on()?;
            let share = Duration::from_secs_f64(step.passed as f64 / f64::from(per_second));
            tokio::time::sleep(share.saturating_sub(started.elapsed())).await;
        }
    }

    /// Republishes or discards the messages of the job's snapshot. A message that still cannot be decoded stays in
    /// quarantine.
    pub(super) async fn resolve_messages(&mut self) -> Result<(), Interrupted> {
        let admin = self.admin;
        let resolution = match self.job.kind {
            JobKind::Republish => Resolution::Republished,
            _ => Resolution::Discarded,
        };
        if resolution == Resolution::Republished {
            admin.publisher()?;
        }
        let mut snapshot = self.snapshot("messages").await?;
        loop {
            let started = Instant::now();
            let step = match resolution {
                Resolution::Discarded => {
                    snapshot.step(self, RowChange::DiscardMessages, FEW).await?
                }
                Resolution::Republished => {
                    let (published, limit) = self.publish_next(&snapshot).await?;
                    let change = RowChange::Republished(&published);
                    match snapshot.step(self, change, limit).await {
                        // What was published is resolved, also for a job that was cancelled meanwhile.
                        Err(Interrupted::Exit(JobExit::Lost)) => {
                            let (store, by) = (admin.store(), &self.job.requested_by);
                            for id in &published {
                                store
                                    .resolve_quarantined(id, resolution, by, store.now())
                                    .await?;
                            }
                            return Err(Interrupted::Exit(JobExit::Lost));
                        }
                        step => step?,
                    }
                }
            };
            self.changed_rows(resolution.as_str(), &step);
            if step.finished {
                return Ok(());
            }
            self.goes_on()?;
            self.pace.leave_time(started.elapsed()).await;
        }
    }

    /// Publishes the next messages of the job's snapshot. Returns the ids of those that were published, and the most rows
    /// that the step passes.
    async fn publish_next(
        &self,
        snapshot: &Snapshot,
    ) -> Result<(BTreeSet<String>, usize), Interrupted> {
        let (job, admin) = (self.job, self.admin);
        let store = admin.store();
        let ids = store.next_of_job(job, PUBLISHED_AT_ONCE).await?;
        let ids = ids.ok_or(Interrupted::Exit(JobExit::Lost))?;
        let mut published = BTreeSet::new();
        for (place, id) in ids.into_iter().enumerate() {
            let entry = store.quarantine_entry(&id).await?;
            let Some(entry) = entry.filter(|entry| entry.resolution.is_none()) else {
                continue;
            };
            match admin.publish_again(&entry, None).await {
                Ok(_) => {
                    published.insert(id);
                }
                // It stays in quarantine.
                Err(AdminError::Invalid(_)) => {}
                Err(error) if published.is_empty() => {
                    return self.wait_for(snapshot, &error).await;
                }
                // The next step begins with this message.
                Err(_) => return Ok((published, place)),
            }
        }
        Ok((published, PUBLISHED_AT_ONCE))
    }

    /// Leaves the job for a while, with the reason, so that other jobs run meanwhile.
    async fn wait_for<T>(&self, snapshot: &Snapshot, error: &AdminError) -> Result<T, Interrupted> {
        let until = self.admin.store().now() + POSTPONED;
        let report = JobReport {
            error_message: Some(format!("the job waits: {error}")),
            ..snapshot.report(until)
        };
        self.write(&report).await?;
        Err(Interrupted::Exit(JobExit::Stopped))
    }

    /// Retries or deletes the dead letters of the job's snapshot.
    pub(super) async fn resolve_dead_letters(&mut self) -> Result<(), Interrupted> {
        let action = match self.job.kind {
            JobKind::DiscardWebhooks => DeadLetterAction::Discard,
            _ => DeadLetterAction::Retry,
        };
        let mut snapshot = self.snapshot("dead letters").await?;
        loop {
            let started = Instant::now();
            let change = RowChange::DeadLetters(action);
            let step = snapshot.step(self, change, FEW).await?;
            self.changed_rows(done(action), &step);
            if step.finished {
                return Ok(());
            }
            self.goes_on()?;
            self.pace.leave_time(started.elapsed()).await;
        }
    }

    /// Begins to work through the job's snapshot: from the long lease of the claim to the short one of the steps.
    async fn snapshot(&self, stage: &'static str) -> Result<Snapshot, Interrupted> {
        let job = self.job;
        let snapshot = Snapshot {
            stage,
            total: job.total,
            done: job.done,
            changed: job.changed,
        };
        let until = self.admin.store().now() + LEASE;
        self.write(&snapshot.report(until)).await?;
        Ok(snapshot)
    }

    /// Logs how many rows a step changed.
    fn changed_rows(&self, action: &'static str, step: &JobStep) {
        if step.changed > 0 {
            OperatorIntervened {
                operator: &self.job.requested_by,
                action,
                rows: step.changed,
            }
            .emit();
        }
    }

    /// Ends the work here if the runner is told to stop. The next worker resumes it when the short lease expires.
    fn goes_on(&self) -> Result<(), Interrupted> {
        match self.pace.is_stopped() {
            true => Err(Interrupted::Exit(JobExit::Stopped)),
            false => Ok(()),
        }
    }
}

/// How far a job has come through its snapshot.
struct Snapshot {
    /// What the rows are.
    stage: &'static str,
    total: Option<i64>,
    done: i64,
    changed: i64,
}

impl Snapshot {
    /// Changes the next rows.
    async fn step(
        &mut self,
        held: &mut HeldJob<'_>,
        change: RowChange<'_>,
        limit: usize,
    ) -> Result<JobStep, Interrupted> {
        let store = held.admin.store();
        let now = store.now();
        let step = store
            .step_job(held.job, change, limit, (now, now + LEASE))
            .await?;
        let step = step.ok_or(Interrupted::Exit(JobExit::Lost))?;
        self.done += step.passed as i64;
        self.changed += step.changed as i64;
        let done = self.done.unsigned_abs();
        held.show(Progress {
            stage: self.stage,
            done,
            total: self.total.map_or(done, i64::unsigned_abs),
        });
        Ok(step)
    }

    /// Returns a report that leaves the position as it is.
    fn report(&self, lease_until: DateTime<Utc>) -> JobReport {
        JobReport {
            total: self.total,
            done: self.done,
            changed: self.changed,
            lease_until: Some(lease_until),
            ..JobReport::default()
        }
    }
}
