//! Retention: deletes completed ledger rows and superseded behaviors by age, in bounded batches. Run by the job
//! runner and by `likewise prune`.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{AdminError, Dependencies, Progress};
use crate::config::PruneOptions;
use crate::store::{ArchivedBehavior, is_storable};

/// The progress of a prune. Another process resumes from it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct PruneState {
    /// The last examined behavior.
    position: i64,
    /// Whether all behaviors were examined.
    behaviors_done: bool,
    ledger_rows: u64,
    behaviors: u64,
}

/// The number of rows that one step examines or deletes.
const BATCH: usize = 1_000;

/// A prune in progress.
pub struct Prune {
    dependencies: Dependencies,
    options: PruneOptions,
    begun_at: DateTime<Utc>,
    ledger_before: Option<DateTime<Utc>>,
    behaviors_before: Option<DateTime<Utc>>,
    state: PruneState,
}

impl Prune {
    /// Starts or resumes. Ages are measured from now, by the clock of the database: a wall clock that is ahead would
    /// delete rows that are young.
    ///
    /// # Errors
    /// If the database does not answer.
    pub async fn begin(
        dependencies: Dependencies,
        options: PruneOptions,
        from: Option<PruneState>,
    ) -> Result<Self, AdminError> {
        let now = dependencies.store.measure_clock().await?;
        let state = from.unwrap_or_default();
        let behaviors_before = cutoff(now, options.behaviors_after);
        Ok(Self {
            ledger_before: cutoff(now, options.ledger_after),
            behaviors_before: behaviors_before.filter(|_| !state.behaviors_done),
            dependencies,
            options,
            begun_at: now,
            state,
        })
    }

    /// The database's time when it started or resumed.
    #[must_use]
    pub const fn begun_at(&self) -> DateTime<Utc> {
        self.begun_at
    }

    /// The state from which another process can resume.
    #[must_use]
    pub const fn state(&self) -> &PruneState {
        &self.state
    }

    /// The number of deleted ledger rows.
    #[must_use]
    pub const fn ledger_rows(&self) -> u64 {
        self.state.ledger_rows
    }

    /// The number of deleted behaviors.
    #[must_use]
    pub const fn behaviors(&self) -> u64 {
        self.state.behaviors
    }

    /// Deletes the next batch. Returns `None` after the last one.
    ///
    /// # Errors
    /// If the database fails or the archive cannot be written. A behavior is deleted only after it is archived.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        let store = &self.dependencies.store;
        if let Some(before) = self.behaviors_before {
            let prunable = store.prunable(before, self.state.position, BATCH).await?;
            if !prunable.behaviors.is_empty() {
                if let Some(path) = &self.options.archive {
                    archive(path, &prunable.behaviors).map_err(|source| AdminError::Archive {
                        path: path.display().to_string(),
                        source,
                    })?;
                }
                store.prune_behaviors(&prunable.behaviors).await?;
                self.state.behaviors += prunable.behaviors.len() as u64;
            }
            match prunable.position {
                Some(position) => self.state.position = position,
                None => {
                    self.behaviors_before = None;
                    self.state.behaviors_done = true;
                }
            }
            return Ok(Some(self.progress("behaviors")));
        }
        if let Some(before) = self.ledger_before {
            let pruned = store.prune_ledger(before, BATCH).await?;
            self.state.ledger_rows += pruned as u64;
            if pruned < BATCH {
                self.ledger_before = None;
            }
            return Ok(Some(self.progress("ledger")));
        }
        Ok(None)
    }

    const fn progress(&self, stage: &'static str) -> Progress {
        let done = self.state.behaviors + self.state.ledger_rows;
        Progress {
            stage,
            done,
            total: done,
        }
    }
}

/// The time at this age; `None` if no row can be that old.
fn cutoff(now: DateTime<Utc>, age: Option<Duration>) -> Option<DateTime<Utc>> {
    let age = TimeDelta::from_std(age?).ok()?;
    let moment = now.checked_sub_signed(age)?;
    is_storable(moment).then_some(moment)
}

/// Appends behaviors to a file and syncs it to disk. Each call appends one gzip member; readers see one stream.
fn archive(path: &Path, behaviors: &[ArchivedBehavior]) -> io::Result<()> {
    let file: File = OpenOptions::new().create(true).append(true).open(path)?;
    let mut lines = GzEncoder::new(file, Compression::default());
    for behavior in behaviors {
        serde_json::to_writer(&mut lines, behavior)?;
        lines.write_all(b"\n")?;
    }
    lines.finish()?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn age_beyond_any_row_prunes_nothing() {
        let now = Utc::now();
        let day = Duration::from_secs(86_400);
        assert_eq!(cutoff(now, None), None);
        assert_eq!(cutoff(now, Some(day)), Some(now - TimeDelta::days(1)));
        for days in [1_000_000, 100_000_000, u32::MAX] {
            assert_eq!(cutoff(now, Some(day * days)), None, "{days}");
        }
        assert_eq!(cutoff(now, Some(Duration::MAX)), None);
    }
}
