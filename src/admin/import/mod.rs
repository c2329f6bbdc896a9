//! Imports existing likes from a file or from a table of the product while services run: reads windows of rows, and
//! writes their events in chunks. Called by `likewise import`.

mod checks;
mod columns;
mod commit;
mod file;
mod input;
mod options;
mod resume;
mod window;

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::future::join3;

pub use columns::ColumnNames;
pub use file::Format;
pub use options::{ImportInput, ImportOptions, ImportReport, Rejected};

use super::{AdminError, Dependencies, Progress};
use crate::domain::{ImportRules, Source};
use crate::store::{ImportChunk, ImportRecord, Settled};
use checks::{check_caches, check_source};
use commit::{tell, write};
use input::{Input, Position};
use resume::Checkpoint;
use window::{End, Window};

/// The number of rejected rows that a report shows.
const SHOWN: usize = 20;

/// The interval between two looks at the running processes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// The rows of a window, as a multiple of the events of a chunk. They are in memory twice: while one window is written,
/// the next one is read. A wider window has more rows of each resource, and of each page of an index.
const WINDOW: usize = 50;

/// An import in progress.
pub struct Import {
    dependencies: Dependencies,
    options: ImportOptions,
    rules: Arc<ImportRules>,
    input: Input,
    /// `None` in a dry run.
    record: Option<ImportRecord>,
    /// The checkpoint in the database.
    checkpoint: Checkpoint,
    /// The window that is written.
    window: Window,
    /// The digest of its events.
    digest: String,
    /// The number of its events that are written.
    done: usize,
    /// The number of those for which the cache is settled.
    told: usize,
    /// Whether its last chunk is written.
    is_written: bool,
    /// The window that is read meanwhile.
    next: Window,
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
        store.measure_clock().await?;
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
        let record = match options.dry_run {
            true => None,
            false => Some(resume::begin(&dependencies, &options).await?),
        };
        if let Some(record) = &record {
            rules.default_time = record.default_time;
        }
        let mut import = Self {
            rules: Arc::new(rules),
            dependencies,
            options,
            input,
            record,
            checkpoint: Checkpoint::default(),
            window: Window::at(Position::default()),
            digest: String::new(),
            done: 0,
            told: 0,
            is_written: true,
            next: Window::at(Position::default()),
            last: None,
            started: Instant::now(),
            looked: Instant::now(),
            resumed_at: 0,
            rejected: 0,
            examples: Vec::new(),
            fresh: Vec::new(),
            ended: false,
        };
        if import.record.is_some() {
            import.resume().await?;
        }
        Ok(import)
    }

    /// Imports the next chunk. Meanwhile it reads rows of the next window, and settles the cache for the chunk before.
    /// Returns `None` after the last one.
    ///
    /// # Errors
    /// If the input cannot be read, a row is invalid and the import is strict, the database or Redis does not answer
    /// for a minute, or another process goes on with the import. Chunks before it stay, and another run resumes.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        self.fresh.clear();
        if self.ended {
            return Ok(None);
        }
        if self.looked.elapsed() > LOOK_EVERY {
            self.looked = Instant::now();
            check_caches(&self.dependencies, &self.options).await?;
        }
        if self.is_written {
            // A checkpoint knows only of chunks of its own window.
            tell(&self.dependencies, self.last.take()).await?;
            if let Some(end) = self.window.end.take() {
                self.ended = true;
                return match end {
                    End::Input => Ok(None),
                    End::Failure(error) => Err(error),
                };
            }
            self.advance().await;
        }
        self.write_chunk().await?;
        Ok(Some(self.progress()))
    }

    /// Goes on to the next window, and completes it.
    async fn advance(&mut self) {
        while self.reads_on() {
            self.read_ahead().await;
        }
        let following = Window::at(self.next.after.clone());
        self.window = std::mem::replace(&mut self.next, following);
        self.digest = self.window.sort();
        (self.done, self.told) = (0, 0);
        // At the end of the input, a window may be empty.
        self.is_written = self.window.rows() == 0;
    }

    /// Whether the next window has room, and the input may have more rows.
    fn reads_on(&self) -> bool {
        self.window.end.is_none()
            && self.next.end.is_none()
            && self.next.rows() < WINDOW * self.options.batch
    }

    async fn read_ahead(&mut self) {
        let Self {
            next,
            input,
            rules,
            dependencies,
            options,
            ..
        } = self;
        let (store, most) = (&dependencies.store, options.batch);
        next.read(input, rules, store, most, options.strict).await;
    }

    /// Writes the next events of the window. The last chunk of a window counts its rows.
    async fn write_chunk(&mut self) -> Result<(), AdminError> {
        if self.is_written {
            return Ok(());
        }
        let (from, total) = (self.done, self.window.events.len());
        let to = total.min(from + self.options.batch);
        let is_last = to == total;
        let checkpoint = Checkpoint {
            before: self.window.before.clone(),
            after: self.window.after.clone(),
            events: self.digest.clone(),
            told: self.told,
            done: to,
            left: total - to,
        };
        if let Some(record) = &self.record {
            let (rows, rejected) = match is_last {
                true => (self.window.rows(), self.window.rejected.len()),
                false => (0, 0),
            };
            let chunk = ImportChunk {
                import_id: record.import_id,
                before: &self.checkpoint.to_json(),
                after: &checkpoint.to_json(),
                rows,
                rejected,
                events: &self.window.events[from..to],
            };
            let reads_on = self.reads_on();
            let (dependencies, options) = (&self.dependencies, &self.options);
            let (next, input, rules) = (&mut self.next, &mut self.input, &self.rules);
            let ahead = async {
                if reads_on {
                    let (store, most) = (&dependencies.store, options.batch);
                    next.read(input, rules, store, most, options.strict).await;
                }
            };
            let (written, told, ()) = join3(
                write(dependencies, &chunk),
                tell(dependencies, self.last.take()),
                ahead,
            )
            .await;
            told?;
            self.told = from;
            self.last = Some(written?);
        }
        self.checkpoint = checkpoint;
        self.done = to;
        if is_last {
            self.is_written = true;
            self.fresh = std::mem::take(&mut self.window.rejected);
            self.rejected += self.fresh.len() as i64;
            let room = SHOWN.saturating_sub(self.examples.len());
            self.examples.extend(self.fresh.iter().take(room).cloned());
        }
        Ok(())
    }

    fn progress(&self) -> Progress {
        let events = self.window.events.len();
        let share = match self.is_written {
            true => self.window.rows(),
            false => self.window.rows() * self.done / events.max(1),
        };
        let done = self.window.before.rows + share as u64;
        Progress {
            stage: "rows",
            done,
            total: match self.window.end {
                Some(_) => self.window.after.rows,
                None => self.input.total().max(done),
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
        if let Some(record) = &self.record {
            store.finish_import(record.import_id, store.now()).await?;
            let record = store.import_record(record.import_id).await?;
            report.rejected = record.rows_rejected;
            report.new = record.events_new;
            report.repeated = record.events_repeated;
        }
        Ok(report)
    }
}
