//! Imports existing likes from a file or from a table of the product while services run, in chunks. Called by
//! `likewise import`.

mod columns;
mod file;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

pub use columns::ColumnNames;
pub use file::Format;

use super::{AdminError, Dependencies, Progress};
use crate::actors::cache_writer::settlements;
use crate::cache::CacheError;
use crate::domain::{
    Backoff, BehaviorEvent, FailureKind, ImportRules, ImportedRow, Pair, ResourceType,
    ResourceTypes, Source,
};
use crate::store::{
    ImportChunk, ImportRecord, NewImport, Settled, SourceColumn, SourceColumns, SourceTable,
    StoreError,
};
use columns::{Columns, Field};
use file::FileRows;

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

/// A row of the input.
struct InputRow {
    place: String,
    /// The type that the name of its column tells.
    named_type: Option<ResourceType>,
    row: Result<ImportedRow, String>,
}

/// A place between two rows of the input.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// The number of rows before it.
    rows: u64,
    /// Of a file, the digest of these rows; of a table, the key of the last one.
    place: Vec<String>,
}

/// The positions that the database keeps: a killed process may not have settled the cache for the rows between them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Checkpoint {
    before: Position,
    after: Position,
}

enum Input {
    File(Box<FileRows>),
    Table {
        table: Box<SourceTable>,
        named_type: Option<ResourceType>,
        position: Position,
        size: u64,
    },
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
        let input = open(&dependencies, &options).await?;
        let mut import = Self {
            rules: ImportRules {
                kinds: store.id_kinds(),
                types: store.resource_types().clone(),
                default_type: options.resource_type,
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
        if self.checkpoint.after.rows > 0 && !self.skip().await? {
            // The file is another one, or an unreadable position of another version.
            new.restart = true;
            record = store.begin_import(&new, store.now()).await?;
            self.checkpoint = Checkpoint::default();
            self.input = open(&self.dependencies, &self.options).await?;
        }
        self.resumed_at = self.checkpoint.after.rows;
        self.rules.default_time = record.default_time;
        self.rejected = record.rows_rejected;
        self.record = Some(record);
        Ok(())
    }

    /// Goes to the position of the checkpoint, and settles the cache for the last chunk before it. Returns whether the
    /// input has this position.
    async fn skip(&mut self) -> Result<bool, AdminError> {
        let Checkpoint { before, after } = self.checkpoint.clone();
        let mut last = Vec::new();
        if let Input::Table { position, .. } = &mut self.input {
            *position = before.clone();
            let rows = usize::try_from(after.rows - before.rows).unwrap_or_default();
            last = self.read(rows).await?;
            if let Input::Table { position, .. } = &mut self.input {
                position.clone_from(&after);
            }
        } else {
            while self.input.position().rows < after.rows {
                let is_last = self.input.position().rows >= before.rows;
                let Some(row) = self.read(1).await?.pop() else {
                    return Ok(false);
                };
                if is_last {
                    last.push(row);
                }
            }
            if self.input.position() != after {
                return Ok(false);
            }
        }
        let now = self.dependencies.store.now();
        let pairs: BTreeSet<Pair> = last
            .iter()
            .filter_map(|row| self.events(row, now).ok())
            .flatten()
            .map(|event| Pair::of(&event))
            .collect();
        let found = self.dependencies.store.find(&pairs).await?;
        self.settle(&Settled {
            states: found.states,
            counts: found.counts,
            changed: Vec::new(),
        })
        .await?;
        Ok(true)
    }

    /// Imports the next chunk. Returns `None` after the last one.
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
        let rows = self.read(self.options.batch).await?;
        self.ended = rows.len() < self.options.batch;
        let now = self.dependencies.store.now();
        let mut events = Vec::with_capacity(rows.len());
        self.fresh.clear();
        for row in &rows {
            match self.events(row, now) {
                Ok(found) => events.extend(found),
                Err(reason) => self.fresh.push(Rejected {
                    place: row.place.clone(),
                    reason,
                    row: row.row.as_ref().ok().cloned(),
                }),
            }
        }
        if let Some(first) = self.fresh.first().filter(|_| self.options.strict) {
            let Rejected { place, reason, .. } = first;
            return Err(AdminError::Invalid(format!(
                "{place} is invalid: {reason}; the rows before it are imported up to row {}, and another run resumes \
                 there",
                self.checkpoint.after.rows
            )));
        }
        self.rejected += self.fresh.len() as i64;
        let room = SHOWN.saturating_sub(self.examples.len());
        self.examples.extend(self.fresh.iter().take(room).cloned());
        let checkpoint = Checkpoint {
            before: self.checkpoint.after.clone(),
            after: self.input.position(),
        };
        if let Some(record) = &self.record
            && !rows.is_empty()
        {
            let chunk = ImportChunk {
                import_id: record.import_id,
                before: &to_json(&self.checkpoint),
                after: &to_json(&checkpoint),
                rows: rows.len(),
                rejected: self.fresh.len(),
                events: &events,
            };
            let settled = self.write(&chunk).await?;
            self.settle(&settled).await?;
            self.announce(&settled).await;
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

    fn events(&self, row: &InputRow, now: DateTime<Utc>) -> Result<Vec<BehaviorEvent>, String> {
        let fields = row.row.as_ref().map_err(Clone::clone)?;
        match (self.rules.default_type, row.named_type) {
            (None, Some(named)) => {
                let mut rules = self.rules.clone();
                rules.default_type = Some(named);
                rules.events(fields, now)
            }
            _ => self.rules.events(fields, now),
        }
    }

    /// Reads the next rows, fewer than `most` at the end of the input.
    async fn read(&mut self, most: usize) -> Result<Vec<InputRow>, AdminError> {
        match &mut self.input {
            Input::File(file) => {
                let mut rows = Vec::with_capacity(most);
                while rows.len() < most {
                    match file.next() {
                        Ok(Some(row)) => rows.push(row),
                        Ok(None) => break,
                        Err(source) => {
                            let path = self.options.input.name();
                            return Err(AdminError::Input { path, source });
                        }
                    }
                }
                Ok(rows)
            }
            Input::Table {
                table,
                named_type,
                position,
                ..
            } => {
                let store = &self.dependencies.store;
                let found = insist(async || store.source_rows(table, &position.place, most).await);
                let found = found.await?;
                position.rows += found.len() as u64;
                if let Some(last) = found.last() {
                    position.place.clone_from(&last.key);
                }
                let row = |row: crate::store::SourceRow| InputRow {
                    place: format!("row {}", row.key.join(", ")),
                    named_type: *named_type,
                    row: Ok(row.row),
                };
                Ok(found.into_iter().map(row).collect())
            }
        }
    }

    /// Writes a chunk.
    async fn write(&self, chunk: &ImportChunk<'_>) -> Result<Settled, AdminError> {
        let store = &self.dependencies.store;
        let written = insist(async || store.import(chunk, store.now()).await);
        written.await?.ok_or_else(|| {
            AdminError::Conflict(
                "another process runs this import, or has begun it anew; wait for its end"
                    .to_owned(),
            )
        })
    }

    /// Settles the cache after a commit, as a worker does.
    async fn settle(&self, settled: &Settled) -> Result<(), CacheError> {
        let Some(cache) = &self.dependencies.cache else {
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

    /// Announces changed counts, as a worker does.
    async fn announce(&self, settled: &Settled) {
        let broker = self.dependencies.broker.as_ref();
        let Some(broker) = broker.filter(|broker| broker.is_connected()) else {
            return;
        };
        for resource in &settled.changed {
            // An announcement may be lost; the next one has the count.
            if let Some(count) = settled.counts.get(resource)
                && broker.announce(resource, *count).await.is_err()
            {
                return;
            }
        }
    }
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

impl Input {
    fn position(&self) -> Position {
        match self {
            Self::File(file) => file.position(),
            Self::Table { position, .. } => position.clone(),
        }
    }

    /// About how many rows there are; zero if unknown.
    fn total(&self) -> u64 {
        match self {
            Self::File(file) => file.total(),
            Self::Table { size, .. } => *size,
        }
    }
}

/// Opens the input at its first row.
async fn open(dependencies: &Dependencies, options: &ImportOptions) -> Result<Input, AdminError> {
    let store = &dependencies.store;
    // With a given type, the column of another type's id is not the resource.
    let types: ResourceTypes = match options.resource_type {
        Some(one) => one.as_str().parse().map_err(AdminError::Invalid)?,
        None => store.resource_types().clone(),
    };
    let (input, named_type, has_type) = match &options.input {
        ImportInput::File { path, format } => {
            let file = FileRows::open(path, *format, &options.columns, &types)?;
            let columns = file.columns();
            let named = columns.and_then(|columns| columns.named_type);
            let has_type = columns.is_none_or(|columns| columns.place(Field::Type).is_some());
            (Input::File(Box::new(file)), named, has_type)
        }
        ImportInput::Table { name, key } => {
            let found = store.source_columns(name).await?;
            if found.is_empty() {
                return Err(AdminError::NotFound(format!("there is no table {name}")));
            }
            let names: Vec<&str> = found.iter().map(|column| column.name.as_str()).collect();
            let columns = options.columns.resolve(&names, &types);
            let columns = columns.map_err(AdminError::Invalid)?;
            let key = key_columns(name, key, &found)?;
            let table = SourceTable::new(name, &found, source_columns(&columns, &found), &key)
                .map_err(AdminError::Invalid)?;
            let named_type = columns.named_type;
            let input = Input::Table {
                size: store.source_size(&table).await?,
                table: Box::new(table),
                named_type,
                position: Position::default(),
            };
            (input, named_type, columns.place(Field::Type).is_some())
        }
    };
    if options.resource_type.or(named_type).is_none() && !has_type {
        let types = store.resource_types();
        return Err(AdminError::Invalid(format!(
            "no column tells the type of the resources; name it with --type: one of {types}"
        )));
    }
    Ok(input)
}

/// Finds the columns of a key by their names.
fn key_columns(
    table: &str,
    key: &[String],
    all: &[SourceColumn],
) -> Result<Vec<SourceColumn>, AdminError> {
    key.iter()
        .map(|name| {
            let column = all.iter().find(|one| one.name.eq_ignore_ascii_case(name));
            column.cloned().ok_or_else(|| {
                AdminError::Invalid(format!("the table {table} has no column '{name}'"))
            })
        })
        .collect()
}

fn source_columns(columns: &Columns, all: &[SourceColumn]) -> SourceColumns {
    let column = |field| columns.place(field).map(|place| all[place].clone());
    let needed = |field| column(field).unwrap_or_else(|| all[0].clone());
    SourceColumns {
        user: needed(Field::User),
        resource: needed(Field::Resource),
        resource_type: column(Field::Type),
        time: column(Field::Time),
        action: column(Field::Action),
        deleted: column(Field::Deleted),
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

/// Refuses the names of sources that have a meaning of their own.
fn check_source(source: &str) -> Result<(), AdminError> {
    let taken = [Source::API, "legacy", "audit"];
    let is_usable = (1..=Source::MAX_LENGTH).contains(&source.len())
        && !source.chars().any(char::is_control)
        && !taken.contains(&source);
    match is_usable {
        true => Ok(()),
        false => Err(AdminError::Invalid(format!(
            "'{source}' is not a usable source: use 1 to {} bytes, but none of {}",
            Source::MAX_LENGTH,
            taken.join(", ")
        ))),
    }
}

/// Refuses to import behind the back of a cache: after a commit, the cache must be told.
async fn check_caches(
    dependencies: &Dependencies,
    options: &ImportOptions,
) -> Result<(), AdminError> {
    if options.dry_run {
        return Ok(());
    }
    for process in dependencies.store.running_processes().await? {
        let who = format!("{} (role {})", process.host, process.role);
        match process.cache.as_str() {
            "none" if process.role == "worker" || options.stale_caches => {}
            "none" => {
                return Err(AdminError::Conflict(format!(
                    "a service on this database caches in its own memory, which an import cannot reach, so it would \
                     show old likes and counts: {who}, seen within the last 45 seconds. Stop it first; or import all \
                     the same with --stale-caches, and it drops its cache when the import ends"
                )));
            }
            _ if dependencies.cache.is_none() => {
                return Err(AdminError::Conflict(format!(
                    "a service on this database caches in Redis, and this command has none, so the service would show \
                     old likes and counts: {who}. Set the service's LIKEWISE_REDIS_URL"
                )));
            }
            _ => {}
        }
    }
    Ok(())
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
