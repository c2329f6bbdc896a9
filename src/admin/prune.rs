//! Retention: completed ledger rows and old behaviors go by age, in bounded batches.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{AdminError, Dependencies, Progress};
use crate::store::{ArchivedBehavior, is_storable};

/// What goes, and at what age.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PruneOptions {
    /// Completed ledger rows that were recorded so long ago; none if absent.
    pub ledger_after: Option<Duration>,
    /// Behaviors that were recorded so long ago and that no promise needs; none if absent.
    pub behaviors_after: Option<Duration>,
    /// The file that behaviors are appended to before they are deleted: gzip, one JSON object a line.
    pub archive: Option<PathBuf>,
}

/// How far pruning has come: with this, another process goes on with it.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
pub struct PruneState {
    /// The last behavior that was looked at.
    position: i64,
    /// The behaviors have all been looked at.
    behaviors_done: bool,
    ledger_rows: u64,
    behaviors: u64,
}

/// How many rows go in one transaction, or are looked at for it.
const AT_ONCE: usize = 1_000;

/// Pruning under way.
pub struct Prune {
    dependencies: Dependencies,
    options: PruneOptions,
    ledger_before: Option<DateTime<Utc>>,
    behaviors_before: Option<DateTime<Utc>>,
    state: PruneState,
}

impl Prune {
    /// Begins, or goes on from where another has come; ages are counted from now.
    #[must_use]
    pub fn begin(
        dependencies: Dependencies,
        options: PruneOptions,
        from: Option<PruneState>,
    ) -> Self {
        let now = Utc::now();
        let state = from.unwrap_or_default();
        let behaviors_before = so_long_before(now, options.behaviors_after);
        Self {
            ledger_before: so_long_before(now, options.ledger_after),
            behaviors_before: behaviors_before.filter(|_| !state.behaviors_done),
            dependencies,
            options,
            state,
        }
    }

    /// How far it has come, for whoever goes on with it.
    #[must_use]
    pub const fn state(&self) -> &PruneState {
        &self.state
    }

    /// How many ledger rows have gone.
    #[must_use]
    pub const fn ledger_rows(&self) -> u64 {
        self.state.ledger_rows
    }

    /// How many behaviors have gone.
    #[must_use]
    pub const fn behaviors(&self) -> u64 {
        self.state.behaviors
    }

    /// Prunes the next batch; `None` if there is none left.
    ///
    /// # Errors
    /// If the database fails or the archive cannot be written; nothing is deleted that is not archived.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        if let Some(before) = self.behaviors_before {
            let prunable = self
                .dependencies
                .store
                .prunable(before, self.state.position, AT_ONCE)
                .await?;
            if !prunable.behaviors.is_empty() {
                if let Some(path) = &self.options.archive {
                    archive(path, &prunable.behaviors).map_err(|source| AdminError::Archive {
                        path: path.display().to_string(),
                        source,
                    })?;
                }
                self.dependencies
                    .store
                    .prune_behaviors(&prunable.behaviors)
                    .await?;
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
            let pruned = self
                .dependencies
                .store
                .prune_ledger(before, AT_ONCE)
                .await?;
            self.state.ledger_rows += pruned as u64;
            if pruned < AT_ONCE {
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

/// The moment so long ago, before which rows go; `None` if no row can be that old.
fn so_long_before(now: DateTime<Utc>, age: Option<Duration>) -> Option<DateTime<Utc>> {
    let age = TimeDelta::from_std(age?).ok()?;
    let moment = now.checked_sub_signed(age)?;
    is_storable(moment).then_some(moment)
}

/// Appends behaviors to a file, and has the disk keep them. Each call is a gzip member of its own, which
/// readers take for one stream.
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
        assert_eq!(so_long_before(now, None), None);
        assert_eq!(
            so_long_before(now, Some(day)),
            Some(now - TimeDelta::days(1))
        );
        for days in [1_000_000, 100_000_000, u32::MAX] {
            assert_eq!(so_long_before(now, Some(day * days)), None, "{days}");
        }
        assert_eq!(so_long_before(now, Some(Duration::MAX)), None);
    }
}
