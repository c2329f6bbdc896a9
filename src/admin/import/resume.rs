//! Where an import stopped: the checkpoint in the database, and how another run goes on from it.

use serde::{Deserialize, Serialize};

use super::Import;
use super::ahead::Ahead;
use super::commit::settle;
use super::input::{self, Input};
use super::options::ImportOptions;
use super::row::Position;
use super::window::{End, Window};
use crate::admin::{AdminError, Dependencies};
use crate::domain::Pair;
use crate::store::{ImportRecord, NewImport};

/// The pairs whose states are read at once.
const AT_ONCE: usize = 5_000;

/// The rows before a checkpoint that are read at once.
const SKIPPED: usize = 50_000;

/// A place within a window: how many of its events are written, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The position before the window.
    pub(super) before: Position,
    /// The position after it.
    pub(super) after: Position,
    /// The digest of its events.
    pub(super) events: String,
    /// The number of events for which the cache was settled when the last chunk began.
    pub(super) told: usize,
    /// The number of events that are written.
    pub(super) done: usize,
    /// The number of the others.
    pub(super) left: usize,
}

impl Checkpoint {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("numbers and text are always JSON: {error}"))
    }
}

fn new(options: &ImportOptions, restart: bool) -> NewImport {
    NewImport {
        input: options.fingerprint(),
        name: options.input.name(),
        position: Checkpoint::default().to_json(),
        default_time: options.default_time,
        restart,
    }
}

/// Finds the import in the database, or creates it.
pub(super) async fn begin(
    dependencies: &Dependencies,
    options: &ImportOptions,
) -> Result<ImportRecord, AdminError> {
    let store = &dependencies.store;
    // What the standard input holds is not known before it is read.
    let restart = options.restart || options.input.name() == "-";
    let new = new(options, restart);
    Ok(store.begin_import(&new, store.now()).await?)
}

impl Import {
    /// Goes to the checkpoint of an earlier run, or begins anew if there is none for this input.
    pub(super) async fn resume(&mut self) -> Result<(), AdminError> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        self.rejected = record.rows_rejected;
        // An erasure forgets the place.
        let is_forgotten = record.position.is_empty();
        self.checkpoint = serde_json::from_str(&record.position).unwrap_or_default();
        if self.checkpoint.after.rows == 0 && !is_forgotten {
            return Ok(());
        }
        if is_forgotten || !self.go_to_checkpoint().await? {
            let store = &self.dependencies.store;
            let new = new(&self.options, true);
            self.record = Some(store.begin_import(&new, store.now()).await?);
            self.checkpoint = Checkpoint::default();
            self.rejected = 0;
            self.ahead.input = input::open(&self.dependencies, &self.options).await?;
        }
        Ok(())
    }

    /// Reads the window of the checkpoint again, and settles the cache for its last chunks, because a killed process may
    /// not have done it. Returns whether the input has this window: a file may be another one.
    async fn go_to_checkpoint(&mut self) -> Result<bool, AdminError> {
        let place = self.checkpoint.clone();
        let Some(mut window) = self.read_again(&place).await? else {
            return Ok(false);
        };
        window.sort().await;
        let is_same = window.digest.as_ref() == Some(&place.events) && window.after == place.after;
        // If rows of a table have changed, all events count as not written. Those that are will be found.
        let (told, done) = match is_same {
            true => (place.told, place.done),
            false => (0, 0),
        };
        let written = match is_same {
            true => &window.events[told..done],
            false => &window.events,
        };
        for events in written.chunks(AT_ONCE) {
            let pairs = events.iter().map(Pair::of).collect();
            let found = self.dependencies.store.find(&pairs).await?;
            settle(&self.dependencies, &found.into()).await?;
        }
        self.is_begun = place.left == 0;
        if self.is_begun {
            self.ahead.input.go_to(&place.after);
            window.after = place.after;
        }
        self.resumed_at = match self.is_begun {
            true => window.after.rows,
            false => window.before.rows,
        };
        self.ahead.go_on_at(window.after.clone());
        (self.begun, self.done, self.told) = (done, done, done);
        self.window = window;
        Ok(true)
    }

    /// Reads the rows before the window of a checkpoint, and then the window. Returns `None` if a file does not have the
    /// same rows up to there.
    async fn read_again(&mut self, place: &Checkpoint) -> Result<Option<Window>, AdminError> {
        let store = self.dependencies.store.clone();
        let Ahead { input, rules, .. } = &mut self.ahead;
        input.go_to(&place.before);
        let mut at = input.position().rows;
        while at < place.before.rows {
            let most = (place.before.rows - at).min(SKIPPED as u64);
            let read = input.read(&store, most as usize, |_, after| after.rows);
            let now_at = read.await?;
            if now_at == at {
                return Ok(None);
            }
            at = now_at;
        }
        let mut window = Window::at(input.position());
        while window.after.rows < place.after.rows && window.end.is_none() {
            let most = (place.after.rows - window.after.rows).min(AT_ONCE as u64) as usize;
            window.read(input, rules, &store, most, false).await;
        }
        if let Some(End::Failure(error)) = window.end.take() {
            return Err(error);
        }
        if matches!(input, Input::File(_)) && window.after != place.after {
            return Ok(None);
        }
        Ok(Some(window))
    }
}
