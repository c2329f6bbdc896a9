//! The audit: walks through behaviors, ledger, read models, counts and cache in bounded chunks, beside
//! the live pipeline, and mends what is wrong if it is told to.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};

use super::cache_audit::CacheAudit;
use super::report::EXAMPLES;
use super::{AuditReport, MaintenanceError, Parts, Progress};
use crate::domain::ResourceType;
use crate::store::{Chunk, Discrepancy, Finding, Pass, Position, Subject};

/// How an audit goes about it.
#[derive(Debug, Clone, Copy)]
pub struct AuditOptions {
    /// Whether it mends what it finds.
    pub repair: bool,
    /// About how many rows it looks at in one chunk.
    pub chunk: usize,
    /// How long something must last to count: a state of the live pipeline passes. With none, everything
    /// counts at once.
    pub patience: Duration,
    /// For each second of work, how many it rests.
    pub rest: f64,
}

impl AuditOptions {
    /// An audit that goes on without rest.
    #[must_use]
    pub const fn new(repair: bool) -> Self {
        Self {
            repair,
            chunk: 5_000,
            patience: Duration::from_secs(3),
            rest: 0.0,
        }
    }
}

/// How many suspects are gathered before they are looked at again.
const MOST_SUSPECTS: usize = 10_000;

/// How much is mended in one transaction.
const MENDED_AT_ONCE: usize = 500;

/// For how long a row must have been due to be overdue.
const OVERDUE: TimeDelta = TimeDelta::minutes(5);

/// An audit under way.
pub struct Audit {
    parts: Parts,
    options: AuditOptions,
    passes: VecDeque<Pass>,
    position: Option<Position>,
    suspects: Vec<(Chunk, Vec<Discrepancy>)>,
    cache: Option<CacheAudit>,
    done: u64,
    total: u64,
    report: AuditReport,
}

impl Audit {
    /// An audit of everything. Behaviors and ledger come first, because the read models follow from them,
    /// and the counts from those.
    ///
    /// # Errors
    /// If the database cannot be asked how large it is.
    pub async fn begin(parts: Parts, options: AuditOptions) -> Result<Self, MaintenanceError> {
        let mut passes = vec![Pass::Behaviors, Pass::Ledger];
        passes.extend(ResourceType::ALL.map(Pass::Likes));
        passes.extend(ResourceType::ALL.map(Pass::Counts));
        let cache = parts.cache.clone().map(CacheAudit::new);
        Self::of(parts, options, passes, cache).await
    }

    /// An audit of these passes.
    pub(super) async fn of(
        parts: Parts,
        options: AuditOptions,
        passes: Vec<Pass>,
        cache: Option<CacheAudit>,
    ) -> Result<Self, MaintenanceError> {
        let sizes = parts.store.sizes().await?;
        let rows = |pass: &Pass| match pass {
            Pass::Behaviors | Pass::Likes(_) => sizes.behaviors,
            Pass::Ledger => sizes.ledger_rows,
            Pass::Counts(_) => sizes.counts,
        };
        let total = passes.iter().map(rows).sum::<i64>();
        Ok(Self {
            parts,
            options,
            passes: passes.into(),
            position: None,
            suspects: Vec::new(),
            cache,
            done: 0,
            total: u64::try_from(total).unwrap_or(0),
            report: AuditReport::new(options.repair, sizes),
        })
    }

    /// Looks at the next chunk; `None` if there is none left.
    ///
    /// # Errors
    /// If the database or the cache fails; the same chunk comes again with the next step.
    pub async fn step(&mut self) -> Result<Option<Progress>, MaintenanceError> {
        let started = Instant::now();
        let stage = match self.passes.front().copied() {
            Some(pass) => self.step_table(pass).await?,
            None => match self.step_cache().await? {
                Some(stage) => stage,
                None => return Ok(None),
            },
        };
        if self.options.rest > 0.0 {
            tokio::time::sleep(started.elapsed().mul_f64(self.options.rest)).await;
        }
        Ok(Some(Progress {
            stage,
            done: self.done,
            total: self.total.max(self.done),
        }))
    }

    /// What it found, once there is no step left. Events in quarantine are found here: they stay there until
    /// an operator resolves them, and no repair may publish them by itself.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish(mut self) -> Result<AuditReport, MaintenanceError> {
        self.report.overdue_rows = self.parts.store.overdue(Utc::now() - OVERDUE).await?;
        let quarantine = self.parts.store.acknowledged_in_quarantine(EXAMPLES);
        self.report
            .add_check(Finding::AcknowledgedEventInQuarantine, quarantine.await?);
        self.report.finished_at = Utc::now();
        Ok(self.report)
    }

    async fn step_table(&mut self, pass: Pass) -> Result<&'static str, MaintenanceError> {
        let after = self.position.clone().unwrap_or_else(|| pass.start());
        let store = &self.parts.store;
        let chunk = store.chunk(pass, after, self.options.chunk).await?;
        let found = store.inspect(&chunk).await?;
        let until = chunk.until.clone();
        if !found.is_empty() {
            self.suspects.push((chunk, found));
        }
        let gathered: usize = self.suspects.iter().map(|(_, found)| found.len()).sum();
        if until.is_none() || gathered >= MOST_SUSPECTS {
            self.judge_suspects().await?;
        }
        self.done = (self.done + self.options.chunk as u64).min(self.total);
        if until.is_none() {
            self.passes.pop_front();
        }
        self.position = until;
        Ok(match pass {
            Pass::Behaviors => "behaviors",
            Pass::Ledger => "ledger",
            Pass::Likes(_) => "read models",
            Pass::Counts(_) => "counts",
        })
    }

    /// Looks again at what was found, and takes what has lasted.
    async fn judge_suspects(&mut self) -> Result<(), MaintenanceError> {
        let patience = self.options.patience;
        if !self.suspects.is_empty() && !patience.is_zero() {
            tokio::time::sleep(patience).await;
        }
        while let Some((chunk, mut found)) = self.suspects.pop() {
            if !patience.is_zero() {
                let now = self.parts.store.inspect(&chunk).await?;
                found.retain(|one| now.contains(one));
            }
            self.report.add(&found);
            if self.options.repair && !found.is_empty() {
                self.mend(&chunk, &found).await?;
            }
        }
        Ok(())
    }

    async fn mend(&mut self, chunk: &Chunk, found: &[Discrepancy]) -> Result<(), MaintenanceError> {
        for some in found.chunks(MENDED_AT_ONCE) {
            let mended = self.parts.store.mend(some, Utc::now()).await?;
            self.parts.drop_entries(&mended.resources).await?;
        }
        let left: BTreeSet<(Finding, Subject)> = self
            .parts
            .store
            .inspect(chunk)
            .await?
            .iter()
            .map(|one| (one.finding, one.subject.clone()))
            .collect();
        let mended = found
            .iter()
            .filter(|one| !left.contains(&(one.finding, one.subject.clone())));
        self.report.mend(mended);
        Ok(())
    }

    async fn step_cache(&mut self) -> Result<Option<&'static str>, MaintenanceError> {
        let Some(cache) = &mut self.cache else {
            return Ok(None);
        };
        let step = cache.step(&self.parts, &self.options).await?;
        let Some(stale) = step else {
            return Ok(None);
        };
        self.report.cache_entries = Some(cache.entries());
        self.report.add(&stale);
        if self.options.repair && !stale.is_empty() {
            let resources: Vec<_> = stale
                .iter()
                .filter_map(|one| match one.subject {
                    Subject::Resource(resource) => Some(resource),
                    _ => None,
                })
                .collect();
            self.parts.drop_entries(&resources).await?;
            self.report.mend(stale.iter());
        }
        Ok(Some("cache"))
    }
}
