//! Imports existing likes from a file or from a table of the product while services run: reads windows of rows, and
//! writes their events in chunks. Called by `likewise import`.

mod ahead;
mod checks;
mod columns;
mod commit;
mod file;
mod input;
mod lanes;
mod options;
mod resume;
mod row;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join3;

pub use columns::ColumnNames;
pub use options::{Format, ImportInput, ImportOptions, ImportReport, Rejected};

use super::{AdminError, Dependencies, Progress};
use crate::domain::{ImportRules, Source};
use crate::store::{BegunImport, Settled};
use ahead::Ahead;
use checks::{check_caches, check_source};
use commit::tell;
use lanes::Lanes;
use row::Position;
use window::{End, Window};

/// The number of rejected rows that a report shows.
const SHOWN: usize = 20;

/// The interval between two looks at the running processes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The number of chunks whose events are looked for after a chunk with events that were recorded before. Other chunks are
/// inserted at once, and begin again if one of their events is recorded.
const CAREFUL_FOR: usize = 10;

/// An import in progress.
pub struct Import {
    dependencies: Dependencies,
    options: ImportOptions,
    /// `None` in a dry run.
    begun: Option<BegunImport>,
    /// The window that is written.
    window: Window,
    /// What writes it.
    lanes: Lanes,
    /// The number of next chunks whose events may be recorded already, because some of the last chunk's were.
    careful: usize,
    /// What reads the next window meanwhile.
    ahead: Ahead,
    /// What the last chunk wrote.
    last: Option<Settled>,
    started: Instant,
    looked: Instant,
    resumed_at: u64,
    rejected: i64,
    examples: Vec<Rejected>,
    /// The invalid rows of the last step.
    fresh: Vec<Rejected>,
    ended: bool,
}

impl Import {
    /// Begins an import, or resumes it where an earlier run of the same input stopped.
    ///
    /// # Errors
    /// If the input cannot be read, an option is invalid, or a running process has a cache that this one cannot reach.
    pub async fn begin(
        dependencies: Dependencies,
        options: ImportOptions,
    ) -> Result<Self, AdminError> {
        let store = &dependencies.store;
        check_source(&options.source)?;
        check_caches(&dependencies, &options).await?;
        let input = input::open(&dependencies, &options).await?;
        let mut rules = ImportRules {
            kinds: store.id_kinds(),
            types: store.resource_types().clone(),
            default_type: options.resource_type.or(input.named_type()),
            default_time: options.default_time.unwrap_or_else(|| store.now()),
            source: Source::Foreign(options.source.clone()),
        };
        let begun = match options.dry_run {
            true => None,
            false => Some(resume::begin(&dependencies, &options).await?),
        };
        if let Some(begun) = &begun {
            rules.default_time = begun.record.default_time;
        }
        let mut import = Self {
            lanes: Lanes::new(Arc::clone(store), store.import_lanes()),
            ahead: Ahead::new(Arc::clone(store), input, Arc::new(rules), &options),
            dependencies,
            options,
            begun,
            window: Window::at(Position::default()),
            careful: 0,
            last: None,
            started: Instant::now(),
            looked: Instant::now(),
            resumed_at: 0,
            rejected: 0,
            examples: Vec::new(),
            fresh: Vec::new(),
            ended: false,
        };
        if let Some(begun) = import.begun.clone() {
            import.resume(begun).await?;
        }
        Ok(import)
    }

    /// Waits until the next chunk is imported. Meanwhile it reads rows of the next window, and settles the cache for the
    /// chunk before; the other lanes write theirs.
    /// Returns `None` after the last one.
    ///
    /// # Errors
    /// If the input cannot be read, a row is invalid and the import is strict, the database or Redis does not answer
    /// for a minute, or a newer run goes on with the import. What is written stays, and another run resumes.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.fresh.clear();
        if self.ended {
            return Ok(None);
        }
        if self.looked.elapsed() > LOOK_EVERY {
            self.looked = Instant::now();
            check_caches(&self.dependencies, &self.options).await?;
        }
        if self.lanes.are_done() {
            // A checkpoint knows only of chunks of its own window.
            tell(&self.dependencies, self.last.take()).await?;
            if let Some(end) = self.window.end.take() {
                self.ended = true;
                return match end {
                    End::Input => Ok(None),
                    End::Failure(error) => Err(error),
                };
            }
            self.window = self.ahead.window().await;
            self.lanes.enter(&self.window);
        }
        self.write_chunk().await?;
        Ok(Some(self.progress()))
    }

    /// Waits until one of the chunks is written.
    async fn write_chunk(&mut self) -> Result<(), AdminError> {
        if let Some(begun) = &self.begun {
            let may_be_recorded = self.careful > 0;
            self.lanes
                .begin(begun, &self.window, self.options.batch, may_be_recorded);
            let (imported, told, ()) = join3(
                self.lanes.next(),
                tell(&self.dependencies, self.last.take()),
                self.ahead.read(),
            )
            .await;
            told?;
            if let Some(imported) = imported {
                let imported = imported?;
                self.careful = match imported.repeated {
                    0 => self.careful.saturating_sub(1),
                    _ => CAREFUL_FOR,
                };
                self.last = Some(imported.settled);
            }
        } else {
            self.lanes.skip();
        }
        if self.lanes.are_done() {
            self.fresh = std::mem::take(&mut self.window.rejected);
            self.rejected += self.fresh.len() as i64;
            let room = SHOWN.saturating_sub(self.examples.len());
            self.examples.extend(self.fresh.iter().take(room).cloned());
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        let share = match self.lanes.are_done() {
            true => self.window.rows(),
            false => self.window.rows() * self.lanes.done() / self.window.events().max(1),
        };
        let done = self.window.before.rows + share as u64;
        Progress {
            stage: "rows",
            done,
            total: match self.window.end {
                Some(_) => self.window.after.rows,
                None => self.ahead.input.total().max(done),
            },
        }
    }

    /// Returns the invalid rows of the last step.
    #[must_use]
    pub fn rejected(&self) -> &[Rejected] {
        &self.fresh
    }

    /// Ends the import.
    ///
    /// # Errors
    /// If the database cannot be reached.
    pub async fn finish(self) -> Result<ImportReport, AdminError> {
        let store = &self.dependencies.store;
        let rows = self.window.after.rows;
        let seconds = self.started.elapsed().as_secs_f64();
        let mut report = ImportReport {
            name: self.options.input.name(),
            rows: i64::try_from(rows).unwrap_or(i64::MAX),
            rejected: self.rejected,
            new: 0,
            repeated: 0,
            resumed_at: self.resumed_at,
            seconds,
            rows_per_second: (rows - self.resumed_at) as f64 / seconds,
            examples: self.examples,
        };
        if let Some(BegunImport { record, .. }) = &self.begun {
            store.finish_import(record.import_id, store.now()).await?;
            let record = store.import_record(record.import_id).await?;
            report.rejected = record.rows_rejected;
            report.new = record.events_new;
            report.repeated = record.events_repeated;
        }
        Ok(report)
    }
}
