//! Imports existing likes from a file or from a table of the product while services run, in chunks. Called by
//! `likewise import`.

mod checks;
mod columns;
mod file;
mod input;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures_util::future::join3;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub use columns::ColumnNames;
pub use file::Format;

use super::{AdminError, Dependencies, Progress};
use crate::actors::cache_writer::settlements;
use crate::actors::sync_publisher::announce;
use crate::cache::CacheError;
use crate::domain::{
    Backoff, BehaviorEvent, FailureKind, ImportRules, ImportedRow, Pair, ResourceType, Source,
};
use crate::store::{ImportChunk, ImportRecord, NewImport, Settled, Store, StoreError};
use checks::{check_caches, check_source};
use input::{Input, InputRow, Position};

/// The number of rejected rows that a report shows.
const SHOWN: usize = 20;

/// How long an import tries again while the database or Redis does not answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The waits between its attempts.
const TRY_AGAIN: Backoff = Backoff {
    base: Duration::from_millis(100),
    cap: Duration::from_secs(5),
};

/// The interval between two looks at the running processes.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What to import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportInput {
    /// A file, or `-` for the standard input.
    File {
        /// Its path.
        path: String,
        /// Its format, if its name does not tell.
        format: Option<Format>,
    },
    /// A table of the same database.
    Table {
        /// Its name.
        name: String,
        /// The columns of a unique index to read it by; empty for the primary key.
        key: Vec<String>,
    },
}

/// The options of an import.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// What to import.
    pub input: ImportInput,
    /// The type of the resources, if no column tells.
    pub resource_type: Option<ResourceType>,
    /// The names of columns.
    pub columns: ColumnNames,
    /// The source of the events.
    pub source: String,
    /// The time of rows that have none; `None` for the start of the import.
    pub default_time: Option<DateTime<Utc>>,
    /// The number of rows of one transaction.
    pub batch: usize,
    /// Whether to end at the first invalid row.
    pub strict: bool,
    /// Whether to read and check the rows only.
    pub dry_run: bool,
    /// Whether to begin anew where an earlier run stopped.
    pub restart: bool,
    /// Whether to import although a running process caches in its own memory, and so shows old counts until the end.
    pub stale_caches: bool,
}

/// An invalid row.
#[derive(Debug, Clone, Serialize)]
pub struct Rejected {
    /// Its place in the input, such as `line 7`.
    pub place: String,
    /// Why it is invalid.
    pub reason: String,
    /// What was read of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row: Option<ImportedRow>,
}

/// The outcome of an import, its earlier runs included.
#[derive(Debug, Clone, Serialize)]
pub struct ImportReport {
    /// The input.
    pub name: String,
    /// The rows read.
    pub rows: i64,
    /// The invalid ones.
    pub rejected: i64,
    /// The events that were recorded; none in a dry run.
    pub new: i64,
    /// The events that were recorded before; none in a dry run.
    pub repeated: i64,
    /// The rows that earlier runs had read.
    pub resumed_at: u64,
    /// The duration of this run.
    pub seconds: f64,
    /// The rows that this run read a second.
    pub rows_per_second: f64,
    /// The first invalid rows of this run.
    pub examples: Vec<Rejected>,
}

/// The positions that the database keeps: a killed process may not have settled the cache for the rows between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    before: Position,
    after: Position,
}

/// An import in progress.
pub struct Import {
    dependencies: Dependencies,
    options: ImportOptions,
    rules: ImportRules,
    input: Input,
    /// `None` in a dry run.
    record: Option<ImportRecord>,
    checkpoint: Checkpoint,
    started: Instant,
    looked: Instant,
    /// The start of the last chunk, for which the cache may not be settled.
    unsettled: Position,
    /// What the last chunk wrote.
    last: Option<Settled>,
    /// The next chunk.
    ahead: Option<Result<Prepared, AdminError>>,
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
        let mut import = Self {
            rules: ImportRules {
                kinds: store.id_kinds(),
                types: store.resource_types().clone(),
                default_type: options.resource_type.or(input.named_type()),
                default_time: options.default_time.unwrap_or_else(|| store.now()),
                source: Source::Foreign(options.source.clone()),
            },
            dependencies,
            options,
            input,
            record: None,
            checkpoint: Checkpoint::default(),
            started: Instant::now(),
            looked: Instant::now(),
            unsettled: Position::default(),
            last: None,
            ahead: None,
            resumed_at: 0,
            rejected: 0,
            examples: Vec::new(),
            fresh: Vec::new(),
            ended: false,
        };
        if !import.options.dry_run {
            import.resume().await?;
        }
        Ok(import)
    }

    /// Finds the import in the database, and goes to its position in the input.
    async fn resume(&mut self) -> Result<(), AdminError> {
        let store = self.dependencies.store.clone();
        let mut new = NewImport {
            input: fingerprint(&self.options),
            name: self.options.input.name(),
            position: to_json(&Checkpoint::default()),
            default_time: self.options.default_time,
            // What the standard input holds is not known before it is read.
            restart: self.options.restart || self.options.input.name() == "-",
        };
        let mut record = store.begin_import(&new, store.now()).await?;
        self.checkpoint = serde_json::from_str(&record.position).unwrap_or_default();
        let is_forgotten = record.position.is_empty();
        if is_forgotten || self.checkpoint.after.rows > 0 && !self.skip().await? {
            // An erasure forgot the place, or the file is another one, or an unreadable position of another version.
            new.restart = true;
            record = store.begin_import(&new, store.now()).await?;
            self.checkpoint = Checkpoint::default();
            self.input = input::open(&self.dependencies, &self.options).await?;
        }
        self.unsettled.clone_from(&self.checkpoint.after);
        self.resumed_at = self.checkpoint.after.rows;
        self.rules.default_time = record.default_time;
        self.rejected = record.rows_rejected;
        self.record = Some(record);
        Ok(())
    }

    /// Goes to the position of the checkpoint, and settles the cache for the last chunks before it. Returns whether the
    /// input has this position.
    async fn skip(&mut self) -> Result<bool, AdminError> {
        const AT_ONCE: usize = 5_000;
        let Checkpoint { before, after } = self.checkpoint.clone();
        let store = self.dependencies.store.clone();
        self.input.go_to(&before);
        while self.input.position().rows < after.rows {
            let position = self.input.position().rows;
            let is_settled = position < before.rows;
            let until = if is_settled { before.rows } else { after.rows };
            let most = usize::try_from(until - position).unwrap_or(AT_ONCE);
            let prepared = self.prepare(most.min(AT_ONCE)).await?;
            if prepared.rows == 0 {
                break;
            }
            if !is_settled {
                let pairs: BTreeSet<Pair> = prepared.events.iter().map(Pair::of).collect();
                let found = store.find(&pairs).await?;
                settle(&self.dependencies, &found.into()).await?;
            }
        }
        // The rows of a table may have changed since; its key says where to go on.
        self.input.go_to(&after);
        Ok(self.input.position() == after)
    }

    async fn prepare(&mut self, most: usize) -> Result<Prepared, AdminError> {
        let store = &self.dependencies.store;
        Prepared::read(&mut self.input, &self.rules, store, most).await
    }

    /// Imports the next chunk. Meanwhile it reads the one after it, and settles the cache for the one before it.
    /// Returns `None` after the last one.
    ///
    /// # Errors
    /// If the input cannot be read, a row is invalid and the import is strict, the database or Redis does not answer
    /// for a minute, or another process goes on with the import. Chunks before it stay, and another run resumes.
    pub async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        if self.ended {
            return Ok(None);
        }
        if self.looked.elapsed() > LOOK_EVERY {
            self.looked = Instant::now();
            check_caches(&self.dependencies, &self.options).await?;
        }
        let prepared = match self.ahead.take() {
            Some(prepared) => prepared?,
            None => self.prepare(self.options.batch).await?,
        };
        self.ended = prepared.rows < self.options.batch;
        self.reject(prepared.rejected)?;
        let checkpoint = Checkpoint {
            before: std::mem::replace(&mut self.unsettled, self.checkpoint.after.clone()),
            after: prepared.after,
        };
        if let Some(record) = &self.record
            && prepared.rows > 0
        {
            let chunk = ImportChunk {
                import_id: record.import_id,
                before: &to_json(&self.checkpoint),
                after: &to_json(&checkpoint),
                rows: prepared.rows,
                rejected: self.fresh.len(),
                events: &prepared.events,
            };
            let dependencies = &self.dependencies;
            let (input, rules) = (&mut self.input, &self.rules);
            let most = self.options.batch;
            let next = async {
                match self.ended {
                    true => None,
                    false => Some(Prepared::read(input, rules, &dependencies.store, most).await),
                }
            };
            // The write comes first, so that the database works while a file is read.
            let (written, told, ahead) = join3(
                write(dependencies, &chunk),
                tell(dependencies, self.last.take()),
                next,
            )
            .await;
            self.ahead = ahead;
            told?;
            self.last = Some(written?);
        }
        if self.ended {
            tell(&self.dependencies, self.last.take()).await?;
        }
        self.checkpoint = checkpoint;
        let done = self.checkpoint.after.rows;
        Ok(Some(Progress {
            stage: "rows",
            done,
            total: match self.ended {
                true => done,
                false => self.input.total().max(done),
            },
        }))
    }

    /// Notes the invalid rows of a chunk, or ends a strict import.
    fn reject(&mut self, rejected: Vec<Rejected>) -> Result<(), AdminError> {
        self.fresh = rejected;
        if let Some(Rejected { place, reason, .. }) =
            self.fresh.first().filter(|_| self.options.strict)
        {
            return Err(AdminError::Invalid(format!(
                "{place} is invalid: {reason}; {} rows before it are imported, and another run resumes after them",
                self.checkpoint.after.rows
            )));
        }
        self.rejected += self.fresh.len() as i64;
        let room = SHOWN.saturating_sub(self.examples.len());
        self.examples.extend(self.fresh.iter().take(room).cloned());
        Ok(())
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
        let rows = self.checkpoint.after.rows;
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

/// Rows that are read and checked.
struct Prepared {
    rows: usize,
    events: Vec<BehaviorEvent>,
    rejected: Vec<Rejected>,
    /// The position after them.
    after: Position,
}

impl Prepared {
    /// Reads the next rows, fewer than `most` at the end of the input.
    async fn read(
        input: &mut Input,
        rules: &ImportRules,
        store: &Store,
        most: usize,
    ) -> Result<Self, AdminError> {
        let rows = input.read(store, most).await?;
        let now = store.now();
        let mut prepared = Self {
            rows: rows.len(),
            events: Vec::with_capacity(rows.len()),
            rejected: Vec::new(),
            after: input.position(),
        };
        for InputRow {
            place,
            named_type,
            row,
        } in rows
        {
            let events = match &row {
                Ok(row) => rules.events(row, named_type, now),
                Err(reason) => Err(reason.clone()),
            };
            match events {
                Ok(events) => prepared.events.extend(events),
                Err(reason) => prepared.rejected.push(Rejected {
                    place,
                    reason,
                    row: row.ok(),
                }),
            }
        }
        Ok(prepared)
    }
}

/// Writes a chunk.
async fn write(
    dependencies: &Dependencies,
    chunk: &ImportChunk<'_>,
) -> Result<Settled, AdminError> {
    let store = &dependencies.store;
    let written = insist(async || store.import(chunk, store.now()).await);
    written.await?.ok_or_else(|| {
        AdminError::Conflict(
            "another process runs this import, or has begun it anew; wait for its end".to_owned(),
        )
    })
}

/// Settles the cache and announces changed counts after a commit, as a worker does.
async fn tell(dependencies: &Dependencies, settled: Option<Settled>) -> Result<(), CacheError> {
    let Some(settled) = settled else {
        return Ok(());
    };
    settle(dependencies, &settled).await?;
    announce(dependencies.broker.as_ref(), &settled).await;
    Ok(())
}

async fn settle(dependencies: &Dependencies, settled: &Settled) -> Result<(), CacheError> {
    let Some(cache) = &dependencies.cache else {
        return Ok(());
    };
    let (settlements, _) = settlements(std::iter::once(settled));
    let started = Instant::now();
    let mut tries = 0;
    while let Err(error) = cache.settle(&settlements).await {
        if started.elapsed() > PATIENCE {
            return Err(error);
        }
        tries += 1;
        tokio::time::sleep(TRY_AGAIN.draw(tries)).await;
    }
    Ok(())
}

impl ImportInput {
    /// Returns its name for people.
    #[must_use]
    pub fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.clone(),
            Self::Table { name, .. } => format!("table {name}"),
        }
    }
}

/// Identifies an input with the options that its events depend on.
fn fingerprint(options: &ImportOptions) -> String {
    let input = match &options.input {
        ImportInput::File { path, format } => {
            let full = std::fs::canonicalize(path).map(|full| full.display().to_string());
            format!("file {} {format:?}", full.unwrap_or_else(|_| path.clone()))
        }
        ImportInput::Table { name, key } => format!("table {name} {key:?}"),
    };
    let text = format!(
        "{input} {:?} {} {}",
        options.resource_type, options.columns, options.source
    );
    hex::encode(digest(&SHA256, text.as_bytes()))
}

fn to_json(checkpoint: &Checkpoint) -> String {
    serde_json::to_string(checkpoint)
        .unwrap_or_else(|error| unreachable!("numbers and text are always JSON: {error}"))
}

/// Repeats a call of the database while it does not answer, and once if the database refused the data: another process
/// may have recorded one of the events at the same time.
async fn insist<T>(call: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreError> {
    let started = Instant::now();
    let mut tries = 0;
    loop {
        let error = match call().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        tries += 1;
        let is_over = match error.kind() {
            FailureKind::Infrastructure => started.elapsed() > PATIENCE,
            _ => tries > 1,
        };
        if is_over {
            return Err(error);
        }
        tokio::time::sleep(TRY_AGAIN.draw(tries)).await;
    }
}
