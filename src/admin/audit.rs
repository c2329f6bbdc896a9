//! The audit: walks through behaviors, ledger, read models, counts and cache in bounded chunks, beside
//! the live pipeline, and mends what is wrong if it is told to.

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use chrono::{TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::cache_audit::CacheAudit;
use super::report::EXAMPLES;
use super::{AdminError, AuditReport, Dependencies, Progress};
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
}

impl AuditOptions {
    /// An audit in chunks of 5,000 rows, which judges what has lasted for three seconds.
    #[must_use]
    pub const fn new(repair: bool) -> Self {
        Self {
            repair,
            chunk: 5_000,
            patience: Duration::from_secs(3),
        }
    }
}

/// How many suspects are gathered before they are looked at again.
const MOST_SUSPECTS: usize = 10_000;

/// How much is mended in one transaction.
const MENDED_AT_ONCE: usize = 500;

/// How many likes a resource is taken to have.
const LIKES_PER_COUNT: usize = 10;

/// By how much a chunk shrinks that took too long.
const SHRINK_BY: usize = 4;

/// After how many chunks suspects are looked at again, so that an audit which is cut off need not go far back.
const MOST_CHUNKS: usize = 20;

/// For how long a row must have been due to be overdue.
const OVERDUE: TimeDelta = TimeDelta::minutes(5);

/// How far an audit has come: with this, another process goes on with it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditState {
    /// What it still walks through, the current table first.
    passes: VecDeque<Pass>,
    /// The last row of the current table that it has looked at.
    position: Option<Position>,
    done: u64,
    total: u64,
    report: AuditReport,
}

/// An audit under way.
pub struct Audit {
    dependencies: Dependencies,
    options: AuditOptions,
    state: AuditState,
    /// The state when there were no suspects last: what came after is looked at again by whoever goes on.
    kept: AuditState,
    suspects: Vec<(Chunk, Vec<Discrepancy>)>,
    /// How many chunks have been looked at since the first of the suspects.
    chunks_since: usize,
    cache: Option<CacheAudit>,
}

impl Audit {
    /// An audit of everything, from its beginning or from where another has come. Behaviors and ledger come
    /// first, because the read models follow from them, and the counts from those. The cache comes last, and
    /// always as a whole.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin(
        dependencies: Dependencies,
        options: AuditOptions,
        from: Option<AuditState>,
    ) -> Result<Self, AdminError> {
        let mut passes = vec![Pass::Behaviors, Pass::Ledger];
        passes.extend(ResourceType::ALL.map(Pass::Likes));
        passes.extend(ResourceType::ALL.map(Pass::Counts));
        let cache = dependencies.cache.clone().map(CacheAudit::new);
        Self::of(dependencies, options, passes, cache, from).await
    }

    /// An audit of these passes.
    pub(super) async fn of(
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
                };
                let total = passes.iter().map(rows).sum::<i64>();
                AuditState {
                    passes: passes.into(),
                    position: None,
                    done: 0,
                    total: u64::try_from(total).unwrap_or(0),
                    report: AuditReport::new(options.repair),
                }
            }
        };
        Ok(Self {
            dependencies,
            options,
            kept: state.clone(),
            state,
            suspects: Vec::new(),
            chunks_since: 0,
            cache,
        })
    }

    /// How far it has come, for whoever goes on with it.
    #[must_use]
    pub const fn checkpoint(&self) -> &AuditState {
        &self.kept
    }

    /// Looks at fewer rows at once from here on, because a chunk took too long; answers how many.
    pub fn shrink(&mut self) -> usize {
        self.options.chunk = (self.options.chunk / SHRINK_BY).max(1);
        self.options.chunk
    }

    /// Looks at the next chunk; `None` if there is none left.
    ///
    /// # Errors
    /// If the database or the cache fails; the next step goes on where nothing was in doubt.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        let stepped = match self.state.passes.front().copied() {
            Some(pass) => self.step_table(pass).await.map(Some),
            None => self.step_cache().await,
        };
        if stepped.is_err() && !self.state.passes.is_empty() {
            self.state = self.kept.clone();
            self.suspects.clear();
        }
        Ok(stepped?.map(|stage| Progress {
            stage,
            done: self.state.done,
            total: self.state.total.max(self.state.done),
        }))
    }

    /// What it found, once there is no step left. Events in quarantine are found here: they stay there until
    /// an operator resolves them, and no repair may publish them by itself.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn finish(mut self) -> Result<AuditReport, AdminError> {
        let store = &self.dependencies.store;
        let report = &mut self.state.report;
        report.overdue_rows = store.overdue(store.now() - OVERDUE).await?;
        let quarantine = store.acknowledged_in_quarantine(EXAMPLES).await?;
        report.add_check(Finding::AcknowledgedEventInQuarantine, quarantine);
        report.finished_at = Utc::now();
        Ok(self.state.report)
    }

    async fn step_table(&mut self, pass: Pass) -> Result<&'static str, AdminError> {
        let after = self.state.position.clone();
        let after = after.unwrap_or_else(|| pass.start());
        let store = &self.dependencies.store;
        // Behind each count are the rows that it counts.
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
            Pass::Likes(_) => {}
        }
        if !found.is_empty() {
            self.suspects.push((chunk, found));
        }
        self.chunks_since += usize::from(!self.suspects.is_empty());
        let gathered: usize = self.suspects.iter().map(|(_, found)| found.len()).sum();
        if until.is_none() || gathered >= MOST_SUSPECTS || self.chunks_since >= MOST_CHUNKS {
            self.judge_suspects().await?;
            self.chunks_since = 0;
        }
        self.state.done += rows as u64;
        if until.is_none() {
            self.state.passes.pop_front();
        }
        self.state.position = until;
        if self.suspects.is_empty() {
            self.kept = self.state.clone();
        }
        Ok(match pass {
            Pass::Behaviors => "behaviors",
            Pass::Ledger => "ledger",
            Pass::Likes(_) => "read models",
            Pass::Counts(_) => "counts",
        })
    }

    /// Looks again at what was found, and takes what has lasted.
    async fn judge_suspects(&mut self) -> Result<(), AdminError> {
        let patience = self.options.patience;
        if !self.suspects.is_empty() && !patience.is_zero() {
            tokio::time::sleep(patience).await;
        }
        while let Some((chunk, mut found)) = self.suspects.pop() {
            if !patience.is_zero() {
                let now = self.dependencies.store.inspect(&chunk).await?;
                found.retain(|one| now.contains(one));
            }
            self.state.report.add(&found);
            if self.options.repair && !found.is_empty() {
                self.mend(&chunk, &found).await?;
            }
        }
        Ok(())
    }

    async fn mend(&mut self, chunk: &Chunk, found: &[Discrepancy]) -> Result<(), AdminError> {
        for some in found.chunks(MENDED_AT_ONCE) {
            let mended = self
                .dependencies
                .store
                .mend(some, self.dependencies.store.now())
                .await?;
            self.dependencies.drop_entries(&mended.resources).await?;
        }
        let left: BTreeSet<(Finding, Subject)> = self
            .dependencies
            .store
            .inspect(chunk)
            .await?
            .iter()
            .map(|one| (one.finding, one.subject.clone()))
            .collect();
        let mended = found
            .iter()
            .filter(|one| !left.contains(&(one.finding, one.subject.clone())));
        self.state.report.mend(mended);
        Ok(())
    }

    async fn step_cache(&mut self) -> Result<Option<&'static str>, AdminError> {
        let Some(cache) = &mut self.cache else {
            return Ok(None);
        };
        let step = cache.step(&self.dependencies, &self.options).await?;
        let Some(stale) = step else {
            return Ok(None);
        };
        self.state.report.cache_entries = Some(cache.entries());
        self.state.report.add(&stale);
        if self.options.repair && !stale.is_empty() {
            let resources: Vec<_> = stale
                .iter()
                .filter_map(|one| match one.subject {
                    Subject::Resource(resource) => Some(resource),
                    _ => None,
                })
                .collect();
            self.dependencies.drop_entries(&resources).await?;
            self.state.report.mend(stale.iter());
        }
        Ok(Some("cache"))
    }
}
