//! The job that erases a user or a resource: deletes what tables, stream and cache hold, in bounded steps that another
//! worker resumes. `erasures.rs` has marked the erased before, so that no new event is recorded. Run by the job runner.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::read::MultiGzDecoder;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{AdminError, AdminService, Progress};
use crate::domain::{DataSubject, EntryId, LikeCount, Names, Resource};
use crate::nats::{OverwriteLimit, StreamSwept};
use crate::store::{Erased, Sweep, Swept};

/// The progress of an erasure. Another process resumes from it. Its position may contain the id of the erased, and ends
/// with the job.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct EraseState {
    /// The place of the current stage in [`STAGES`].
    stage: usize,
    /// The position within the stage.
    position: String,
    /// Rows and messages that the stages deleted.
    done: u64,
    /// The likes among them whose counts are dropped from the cache. The proof counts those of every commit.
    likes: u64,
    total: u64,
    /// The last sequence of the stream when its stage began.
    last_sequence: Option<u64>,
    /// Whether entries of the cache could not be dropped, so that its stage drops all.
    clears_cache: bool,
    /// The messages that the server overwrote, and the time that this took.
    overwritten: usize,
    overwriting_millis: u64,
    unreadable_in_quarantine: u64,
    unreadable_in_stream: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Behaviors,
    Likes,
    Processes,
    Ledger,
    Facts,
    Quarantine,
    Keys,
    Jobs,
    History,
    Stream,
    FactStream,
    Cache,
}

/// The stages. Behaviors and likes come again when every process keeps new events out, which is the fence of a database
/// whose locks do not reach all of its servers. What is in the stream and the cache comes last, because processes that
/// did not know the erasure yet wrote there.
const STAGES: [Stage; 14] = [
    Stage::Behaviors,
    Stage::Likes,
    Stage::Processes,
    Stage::Behaviors,
    Stage::Ledger,
    Stage::Likes,
    Stage::Facts,
    Stage::Quarantine,
    Stage::Keys,
    Stage::Jobs,
    Stage::History,
    Stage::Stream,
    Stage::FactStream,
    Stage::Cache,
];

impl Stage {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Behaviors => "behaviors",
            Self::Likes => "likes",
            Self::Processes => "processes",
            Self::Ledger => "ledger",
            Self::Facts => "facts",
            Self::Quarantine => "quarantine",
            Self::Keys => "idempotency keys",
            Self::Jobs => "jobs",
            Self::History => "history",
            Self::Stream => "stream",
            Self::FactStream => "stream of facts",
            Self::Cache => "cache",
        }
    }
}

/// The rows of one transaction, at first.
const BATCH: usize = 1_000;

/// The messages in quarantine of one step: each may be large.
const MESSAGES: usize = 50;

/// The time between two looks at the other processes.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How long a request may take that a process accepted before it knew of the erasure.
const GRACE: Duration = Duration::from_secs(2);

/// The messages that the server overwrites for one erasure, and the time for it. It rewrites much of a block for each, about
/// a hundred a second in a large stream. Beyond these, it only deletes them.
const OVERWRITES: usize = 1_000;
const OVERWRITING: Duration = Duration::from_secs(10);

/// An erasure in progress.
pub(super) struct Erase<'a> {
    admin: &'a AdminService,
    sweep: Sweep,
    job_id: String,
    epoch: i64,
    batch: usize,
    state: EraseState,
}

impl<'a> Erase<'a> {
    /// Starts or resumes the erasure of a subject by this job.
    pub(super) async fn begin(
        admin: &'a AdminService,
        subject: &DataSubject,
        job_id: &str,
        from: Option<EraseState>,
    ) -> Result<Self, AdminError> {
        let store = admin.store();
        let digest = store.digest(subject).await?;
        let erasure = store.erasure(&digest).await?.ok_or_else(|| {
            AdminError::Invalid("the job has no erasure; ask for the erasure again".to_owned())
        })?;
        let mut state = from.unwrap_or_default();
        if state.total == 0 {
            state.total = store.erasable(subject).await?.unsigned_abs();
        }
        Ok(Self {
            admin,
            sweep: Sweep {
                subject: subject.clone(),
                digest,
            },
            job_id: job_id.to_owned(),
            epoch: erasure.epoch,
            batch: BATCH,
            state,
        })
    }

    /// What is erased.
    pub(super) const fn sweep(&self) -> &Sweep {
        &self.sweep
    }

    /// Returns the result, without the numbers of what was deleted, which the proof has.
    pub(super) async fn result(&self) -> Result<Value, AdminError> {
        let mut archives = Vec::new();
        if let Some(path) = self.admin.prune.archive.clone() {
            let rows = self.archived(path.clone()).await?;
            archives.push(json!({"path": path.display().to_string(), "rows": rows}));
        }
        Ok(json!({
            "erasure": self.sweep.digest,
            "unreadable_messages": {
                "quarantine": self.state.unreadable_in_quarantine,
                "stream": self.state.unreadable_in_stream,
            },
            "stream_searched": self.admin.broker().is_some(),
            "archives": archives,
        }))
    }

    /// Returns the number of rows in an archive that are the subject's.
    async fn archived(&self, path: PathBuf) -> Result<u64, AdminError> {
        let subject = self.sweep.subject.clone();
        let (kinds, types) = (
            self.admin.store().id_kinds(),
            self.admin.store().resource_types().clone(),
        );
        let shown = path.display().to_string();
        let counting = tokio::task::spawn_blocking(move || {
            let names = Names {
                kinds,
                resource_types: &types,
            };
            rows_of(&path, &subject, &names)
        });
        let counted = counting
            .await
            .unwrap_or_else(|error| Err(io::Error::other(error)));
        counted.map_err(|error| {
            AdminError::Invalid(format!("the archive {shown} cannot be read: {error}"))
        })
    }

    /// Does a step of a stage. Returns whether the stage is over.
    async fn step_of(&mut self, stage: Stage) -> Result<bool, AdminError> {
        let (store, batch) = (self.admin.store(), self.batch);
        let (sweep, position) = (self.sweep.clone(), self.state.position.clone());
        let swept = match stage {
            Stage::Behaviors => store.erase_behaviors(&sweep, &position, batch).await?,
            Stage::Likes => store.erase_likes(&sweep, batch).await?,
            Stage::Ledger => store.erase_ledger(&sweep, &position, batch).await?,
            Stage::Facts => store.erase_facts(&sweep, &position).await?,
            Stage::Quarantine => {
                let swept = store.erase_quarantine(&sweep, &position, MESSAGES).await?;
                self.state.unreadable_in_quarantine += swept.unreadable as u64;
                swept
            }
            Stage::Keys => store.erase_keys(&sweep, &position, batch).await?,
            Stage::Jobs => {
                store
                    .erase_from_jobs(&sweep, &self.job_id, &position, MESSAGES)
                    .await?
            }
            Stage::History => store.erase_from_history(&sweep, &position).await?,
            Stage::Processes => return self.await_processes().await,
            Stage::Stream => {
                let stream = self.admin.broker().map(|one| one.stream_name().to_owned());
                return self.sweep_stream(stream).await;
            }
            Stage::FactStream => {
                let stream = self.admin.facts_stream.clone();
                return self.sweep_stream(stream).await;
            }
            Stage::Cache => return self.sweep_cache().await,
        };
        self.state.done += swept.rows as u64;
        self.tell(&swept).await;
        self.state.likes += swept.likes;
        match swept.position {
            Some(position) => {
                self.state.position = position;
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Drops cache entries, and announces counts, after a commit. Entries that cannot be dropped now end with the last
    /// stage.
    async fn tell(&mut self, swept: &Swept) {
        let entries: Vec<EntryId> = swept.entries.iter().cloned().collect();
        if self
            .admin
            .dependencies
            .drop_entries(&entries)
            .await
            .is_err()
        {
            self.state.clears_cache = true;
        }
        self.announce(&swept.changed).await;
    }

    /// Returns whether a commit has deleted likes whose counts may still be in the cache. Its worker was killed, or did not
    /// hear of the commit, and no later step finds its rows.
    async fn has_untold_commits(&self) -> Result<bool, AdminError> {
        let erasure = self.admin.store().erasure(&self.sweep.digest).await?;
        let deleted = erasure.map(|erasure| erasure.deleted).unwrap_or_default();
        let deleted: Erased = serde_json::from_value(deleted).unwrap_or_default();
        Ok(deleted.likes != self.state.likes)
    }

    async fn announce(&self, changed: &[(Resource, LikeCount)]) {
        let Some(broker) = self.admin.broker().filter(|broker| broker.is_connected()) else {
            return;
        };
        let counts = changed.iter().map(|(resource, count)| (resource, *count));
        // Nothing depends on an announcement, and the stage of the stream reports a broker that is away.
        let _ = broker.announce(counts).await;
    }

    /// Waits until every process keeps the erased out, and until the requests that were in work are answered.
    async fn await_processes(&self) -> Result<bool, AdminError> {
        if self.admin.store().processes_behind(self.epoch).await? > 0 {
            tokio::time::sleep(LOOK_EVERY).await;
            return Ok(false);
        }
        tokio::time::sleep(GRACE).await;
        Ok(true)
    }

    async fn sweep_stream(&mut self, stream: Option<String>) -> Result<bool, AdminError> {
        let Some((broker, stream)) = self.admin.broker().zip(stream) else {
            return Ok(true);
        };
        let is_of_events = stream == broker.stream_name();
        let last = match self.state.last_sequence {
            Some(last) => last,
            None => {
                if !is_of_events {
                    // Facts that were deleted may have been on their way.
                    tokio::time::sleep(GRACE).await;
                }
                match broker.last_sequence(&stream).await? {
                    Some(last) => *self.state.last_sequence.insert(last),
                    None => return Ok(true),
                }
            }
        };
        let after: u64 = self.state.position.parse().unwrap_or_default();
        if after >= last {
            return Ok(true);
        }
        let names = Names {
            kinds: self.admin.store().id_kinds(),
            resource_types: self.admin.store().resource_types(),
        };
        let limit = OverwriteLimit {
            messages: OVERWRITES.saturating_sub(self.state.overwritten),
            time: OVERWRITING.saturating_sub(Duration::from_millis(self.state.overwriting_millis)),
        };
        let mut swept = StreamSwept {
            sequence: after,
            ..StreamSwept::default()
        };
        // What a failed step has erased is part of the proof too.
        let named = (&self.sweep.subject, &names);
        let outcome = broker.sweep(&stream, last, limit, named, &mut swept).await;
        self.state.overwritten += usize::try_from(swept.overwritten).unwrap_or(usize::MAX);
        let millis = swept.overwriting.as_millis();
        self.state.overwriting_millis += u64::try_from(millis).unwrap_or(u64::MAX);
        let erased = if is_of_events {
            Erased {
                stream_messages: swept.erased,
                messages_overwritten: swept.overwritten,
                ..Erased::default()
            }
        } else {
            Erased {
                facts: swept.erased,
                messages_overwritten: swept.overwritten,
                ..Erased::default()
            }
        };
        self.admin
            .store()
            .note_erased(&self.sweep.digest, erased)
            .await?;
        self.state.done += swept.erased;
        outcome?;
        self.state.unreadable_in_stream += swept.unreadable;
        self.state.position = swept.sequence.to_string();
        Ok(swept.sequence >= last)
    }

    async fn sweep_cache(&mut self) -> Result<bool, AdminError> {
        let Some(cache) = &self.admin.dependencies.cache else {
            return Ok(true);
        };
        if self.state.position.is_empty() && self.has_untold_commits().await? {
            self.state.clears_cache = true;
        }
        if self.state.clears_cache {
            cache.clear().await?;
            self.state.clears_cache = false;
            return Ok(true);
        }
        let cursor = self.state.position.parse().unwrap_or_default();
        let scanned = cache.scan(cursor, BATCH).await?;
        let entries: BTreeSet<EntryId> = scanned.entries.into_iter().collect();
        let entries: Vec<EntryId> = entries.into_iter().collect();
        let named = cache.name(&entries, &self.sweep.subject).await?;
        let found = entries.into_iter().zip(named).filter(|(_, named)| *named);
        let found: Vec<EntryId> = found.map(|(entry, _)| entry).collect();
        self.admin.dependencies.drop_entries(&found).await?;
        let erased = Erased {
            cache_entries: found.len() as u64,
            ..Erased::default()
        };
        self.admin
            .store()
            .note_erased(&self.sweep.digest, erased)
            .await?;
        match scanned.cursor {
            Some(cursor) => {
                self.state.position = cursor.to_string();
                Ok(false)
            }
            None => Ok(true),
        }
    }

    /// Takes one step. Returns `None` after the last one.
    pub(super) async fn step(&mut self) -> Result<Option<Progress>, AdminError> {
        let Some(stage) = STAGES.get(self.state.stage).copied() else {
            return Ok(None);
        };
        if self.step_of(stage).await? {
            self.state.stage += 1;
            self.state.position.clear();
            self.state.last_sequence = None;
        }
        Ok(Some(Progress {
            stage: stage.as_str(),
            done: self.state.done,
            total: self.state.total.max(self.state.done),
        }))
    }

    /// Returns where it is.
    pub(super) const fn state(&self) -> &EraseState {
        &self.state
    }

    /// Returns the number of rows and messages that are erased so far.
    pub(super) const fn done(&self) -> u64 {
        self.state.done
    }

    /// Halves the number of rows in a step, and returns it.
    pub(super) fn shrink(&mut self) -> usize {
        self.batch = (self.batch / 2).max(10);
        self.batch
    }
}

/// Returns the number of rows in an archive that name the subject; none if there is no archive yet.
fn rows_of(path: &Path, subject: &DataSubject, names: &Names<'_>) -> io::Result<u64> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(error) => return Err(error),
    };
    let mut lines = BufReader::new(MultiGzDecoder::new(BufReader::new(file)));
    let (mut line, mut rows) = (Vec::new(), 0);
    while lines.read_until(b'\n', &mut line)? > 0 {
        rows += u64::from(subject.is_named_in_bytes(&line, names) == Some(true));
        line.clear();
    }
    Ok(rows)
}
