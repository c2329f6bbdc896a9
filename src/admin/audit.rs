//! The audit: compares behaviors, ledger, read models, counts and cache in bounded chunks while the service
//! runs, and repairs what differs if asked to. Run by the job runner and by `likewise audit`; a rebuild is an
//! audit that repairs at once (`rebuild.rs`).

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::cache_audit::CacheAudit;
use super::report::EXAMPLES;
use super::{AdminError, AuditReport, Dependencies, Progress};
use crate::domain::EntryId;
use crate::store::{Chunk, Discrepancy, Finding, Pass, Position, Subject};

/// How an audit works.
#[derive(Debug, Clone, Copy)]
pub struct AuditOptions {
    /// Whether it repairs what it finds.
    pub repair: bool,
    /// The number of rows in one chunk, approximately.
    pub chunk: usize,
    /// How long a discrepancy must last to be reported: the live pipeline causes short ones. Zero reports all.
    pub grace_period: Duration,
}

impl AuditOptions {
    /// Chunks of 5,000 rows and a grace period of three seconds.
    #[must_use]
    pub const fn new(repair: bool) -> Self {
        Self {
            repair,
            chunk: 5_000,
            grace_period: Duration::from_secs(3),
        }
    }
}

/// The number of suspects after which they are compared again.
const MAX_SUSPECTS: usize = 10_000;

/// The number of discrepancies that one transaction repairs.
const REPAIR_BATCH: usize = 500;

/// The assumed number of likes behind each count.
const LIKES_PER_COUNT: usize = 10;

/// The factor by which chunks shrink after a timeout.
const SHRINK_BY: usize = 4;

/// The number of chunks after which suspects are compared again. It limits how far back an interrupted audit
/// resumes.
const MAX_CHUNKS: usize = 20;

/// How long an open row must have been due to be overdue.
const OVERDUE: TimeDelta = TimeDelta::minutes(5);

/// The progress of an audit. Another process resumes from it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditState {
    /// The remaining passes, the current one first.
    passes: VecDeque<Pass>,
    /// The last compared row of the current pass.
    position: Option<Position>,
    done: u64,
    total: u64,
    report: AuditReport,
}

/// An audit in progress.
pub struct Audit {
    dependencies: Dependencies,
    options: AuditOptions,
    state: AuditState,
    /// The latest state without suspects. A resumed audit compares everything after it again.
    checkpoint: AuditState,
    suspects: Vec<(Chunk, Vec<Discrepancy>)>,
    /// The number of chunks since the first suspect.
    chunks_since: usize,
    cache: Option<CacheAudit>,
}

impl Audit {
    /// Starts an audit of all tables and the cache, or resumes one. Behaviors and ledger come first, because
    /// the read models follow from them, and the counts from those. The cache comes last, and always from its
    /// beginning.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin(
        dependencies: Dependencies,
        options: AuditOptions,
        from: Option<AuditState>,
    ) -> Result<Self, AdminError> {
        let mut passes = vec![Pass::Behaviors, Pass::Ledger];
        let types = dependencies.store.resource_types();
        passes.extend(types.iter().map(Pass::Likes));
        passes.extend(types.iter().map(Pass::Counts));
        passes.extend(types.iter().map(Pass::BehaviorCounts));
        let cache = CacheAudit::new(&dependencies);
        Self::with_passes(dependencies, options, passes, cache, from).await
    }

    /// Starts or resumes an audit of these passes.
    pub(super) async fn with_passes(
        dependencies: Dependencies,
        options: AuditOptions,
        passes: Vec<Pass>,
        cache: Option<CacheAudit>,
        from: Option<AuditState>,
    ) -> Result<Self, AdminError> {
        let state = match from {
            Some(state) => state,
            None => {
                let sizes = dependencies.store.sizes().await?;
                let rows = |pass: &Pass| match pass {
                    Pass::Behaviors | Pass::Likes(_) => sizes.behaviors,
                    Pass::Ledger => sizes.ledger_rows,
                    Pass::Counts(_) => sizes.counts,
                    Pass::BehaviorCounts(_) => sizes.behavior_counts,
                };
                let total = passes.iter().map(rows).sum::<i64>();
                AuditState {
                    passes: passes.into(),
                    position: None,
                    done: 0,
                    total: u64::try_from(total).unwrap_or(0),
                    report: AuditReport::new(options.repair, dependencies.store.now()),
                }
            }
        };
        Ok(Self {
            dependencies,
            options,
            checkpoint: state.clone(),
            state,
            suspects: Vec::new(),
            chunks_since: 0,
            cache,
        })
    }

    /// The state from which another process can resume.
    #[must_use]
    pub const fn checkpoint(&self) -> &AuditState {
        &self.checkpoint
    }

    /// Shrinks the following chunks after a timeout. Returns their number of rows.
    pub fn shrink(&mut self) -> usize {
        self.options.chunk = (self.options.chunk / SHRINK_BY).max(1);
        self.options.chunk
    }

    /// Compares the next chunk. Returns `None` after the last one.
    ///
    /// # Errors
    /// If the database or the cache fails. The next step resumes at the checkpoint.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        let stepped = match self.state.passes.front().copied() {
            Some(pass) => self.step_table(pass).await.map(Some),
            None => self.step_cache().await,
        };
        if stepped.is_err() && !self.state.passes.is_empty() {
            self.state = self.checkpoint.clone();
            self.suspects.clear();
        }
        Ok(stepped?.map(|stage| Progress {
            stage,
            done: self.state.done,
            total: self.state.total.max(self.state.done),
        }))
    }

    /// Adds overdue rows and acknowledged events in quarantine, and returns the report. No repair publishes
    /// events from quarantine: an operator resolves them.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish(mut self) -> Result<AuditReport, AdminError> {
        let store = &self.dependencies.store;
        let report = &mut self.state.report;
        report.overdue_rows = store.overdue(store.now() - OVERDUE).await?;
        let quarantine = store.acknowledged_in_quarantine(EXAMPLES).await?;
        report.add_check(Finding::AcknowledgedEventInQuarantine, quarantine);
        report.finished_at = store.now();
        Ok(self.state.report)
    }

    async fn step_table(&mut self, pass: Pass) -> Result<&'static str, AdminError> {
        let after = self.state.position.clone();
        let after = after.unwrap_or_else(|| pass.start(self.dependencies.store.id_kinds()));
        let store = &self.dependencies.store;
        let rows = match pass {
            Pass::Counts(_) => (self.options.chunk / LIKES_PER_COUNT).max(1),
            _ => self.options.chunk,
        };
        let chunk = store.chunk(pass, after, rows).await?;
        let found = store.inspect(&chunk).await?;
        let until = chunk.until.clone();
        let checked = &mut self.state.report.checked;
        match pass {
            Pass::Behaviors => checked.behaviors += chunk.rows,
            Pass::Ledger => checked.ledger_rows += chunk.rows,
            Pass::Counts(_) => checked.counts += chunk.rows,
            Pass::BehaviorCounts(_) => checked.behavior_counts += chunk.rows,
            Pass::Likes(_) => {}
        }
        if !found.is_empty() {
            self.suspects.push((chunk, found));
        }
        self.chunks_since += usize::from(!self.suspects.is_empty());
        let suspects: usize = self.suspects.iter().map(|(_, found)| found.len()).sum();
        if until.is_none() || suspects >= MAX_SUSPECTS || self.chunks_since >= MAX_CHUNKS {
            self.recheck_suspects().await?;
            self.chunks_since = 0;
        }
        self.state.done += rows as u64;
        if until.is_none() {
            self.state.passes.pop_front();
        }
        self.state.position = until;
        if self.suspects.is_empty() {
            self.checkpoint = self.state.clone();
        }
        Ok(match pass {
            Pass::Behaviors => "behaviors",
            Pass::Ledger => "ledger",
            Pass::Likes(_) => "read models",
            Pass::Counts(_) => "counts",
            Pass::BehaviorCounts(_) => "counts by behavior",
        })
    }

    /// Compares suspects again, and reports and repairs those that still differ.
    async fn recheck_suspects(&mut self) -> Result<(), AdminError> {
        let grace_period = self.options.grace_period;
        if !self.suspects.is_empty() && !grace_period.is_zero() {
            tokio::time::sleep(grace_period).await;
        }
        while let Some((chunk, mut found)) = self.suspects.pop() {
            if !grace_period.is_zero() {
                let now = self.dependencies.store.inspect(&chunk).await?;
                found.retain(|one| now.contains(one));
            }
            self.state.report.add(&found);
            if self.options.repair && !found.is_empty() {
                self.repair(&chunk, &found).await?;
            }
        }
        Ok(())
    }

    async fn repair(&mut self, chunk: &Chunk, found: &[Discrepancy]) -> Result<(), AdminError> {
        let store = &self.dependencies.store;
        for some in found.chunks(REPAIR_BATCH) {
            let repaired = store.repair(some, store.now()).await?;
            self.dependencies.drop_entries(&repaired.entries).await?;
        }
        let left = store.inspect(chunk).await?;
        let left: BTreeSet<(Finding, &Subject)> =
            left.iter().map(|one| (one.finding, &one.subject)).collect();
        let repaired = found
            .iter()
            .filter(|one| !left.contains(&(one.finding, &one.subject)));
        self.state.report.add_repaired(repaired);
        Ok(())
    }

    async fn step_cache(&mut self) -> Result<Option<&'static str>, AdminError> {
        let Some(cache) = &mut self.cache else {
            return Ok(None);
        };
        let Some(stale) = cache.step(self.options.grace_period).await? else {
            return Ok(None);
        };
        self.state.report.cache_entries = Some(cache.entries());
        self.state.report.add(&stale);
        if self.options.repair && !stale.is_empty() {
            let entries: Vec<_> = stale
                .iter()
                .filter_map(|one| match &one.subject {
                    Subject::Resource(resource) => Some(EntryId::Count(resource.clone())),
                    Subject::User(user_id) => Some(EntryId::User(user_id.clone())),
                    Subject::Event(_) | Subject::Pair(_) => None,
                })
                .collect();
            self.dependencies.drop_entries(&entries).await?;
            self.state.report.add_repaired(stale.iter());
        }
        Ok(Some("cache"))
    }
}
