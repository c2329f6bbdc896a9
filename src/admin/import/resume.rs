//! Where an import stopped: the checkpoints of its lanes in the database, and how another run goes on from them.

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
use crate::store::{BegunImport, NewImport};

/// The pairs whose states are read at once.
const AT_ONCE: usize = 5_000;

/// The rows before a checkpoint that are read at once.
const SKIPPED: usize = 50_000;

/// The place of a lane within a window: how many of its events are written, in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Checkpoint {
    /// The position before the window.
    pub(super) before: Position,
    /// The position after it.
    pub(super) after: Position,
    /// The digest of the events of all lanes.
    pub(super) events: String,
    /// The number of the lane's events for which the cache was settled when the last chunk began.
    pub(super) told: usize,
    /// The number of the lane's events that are written.
    pub(super) done: usize,
    /// The number of the others.
    pub(super) left: usize,
}

impl Checkpoint {
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self)
            .unwrap_or_else(|error| unreachable!("numbers and text are always JSON: {error}"))
    }

    fn is_of_window(&self, other: &Self) -> bool {
        (&self.before, &self.after, &self.events) == (&other.before, &other.after, &other.events)
    }
}

/// Returns the newest checkpoint of the lanes, and each lane's, if it is of the same window. The others have written nothing
/// of it.
fn newest(lanes: Vec<Checkpoint>) -> Option<(Checkpoint, Vec<Option<Checkpoint>>)> {
    let newest = lanes.iter().max_by_key(|lane| lane.after.rows)?.clone();
    let lanes = lanes.into_iter();
    let lanes = lanes.map(|lane| lane.is_of_window(&newest).then_some(lane));
    let lanes = lanes.collect();
    Some((newest, lanes))
}

fn new(options: &ImportOptions, lanes: usize, restart: bool) -> NewImport {
    NewImport {
        lanes,
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
) -> Result<BegunImport, AdminError> {
    let store = &dependencies.store;
    // What the standard input holds is not known before it is read.
    let restart = options.restart || options.input.name() == "-";
    let new = new(options, store.import_lanes(), restart);
    Ok(store.begin_import(&new, store.now()).await?)
}

impl Import {
    /// Goes to the checkpoints of an earlier run, or begins anew if there are none for this input.
    pub(super) async fn resume(&mut self, begun: BegunImport) -> Result<(), AdminError> {
        self.rejected = begun.record.rows_rejected;
        self.lanes.set_positions(&begun.positions);
        // An erasure forgets the places.
        let places = begun.positions.iter();
        let places = places.map(|position| serde_json::from_str(position).ok());
        let places: Option<Vec<Checkpoint>> = places.collect();
        if let Some((window, places)) = places.and_then(newest)
            && (window.after.rows == 0 || self.go_to(&window, places).await?)
        {
            return Ok(());
        }
        let store = &self.dependencies.store;
        let new = new(&self.options, store.import_lanes(), true);
        let begun = store.begin_import(&new, store.now()).await?;
        self.lanes.set_positions(&begun.positions);
        self.begun = Some(begun);
        self.rejected = 0;
        self.ahead.input = input::open(&self.dependencies, &self.options).await?;
        Ok(())
    }

    /// Reads the window of a checkpoint again, and settles the cache for the last chunks of its lanes, because a killed
    /// process may not have done it. Returns whether the input has this window: a file may be another one.
    async fn go_to(
        &mut self,
        place: &Checkpoint,
        places: Vec<Option<Checkpoint>>,
    ) -> Result<bool, AdminError> {
        let Some(mut window) = self.read_again(place).await? else {
            return Ok(false);
        };
        window.sort(places.len()).await;
        let is_same = window.digest.as_ref() == Some(&place.events) && window.after == place.after;
        let mut lanes = Vec::with_capacity(places.len());
        for (events, place) in window.lanes.iter().zip(places) {
            let is_complete = place.as_ref().is_some_and(|place| place.left == 0);
            // If rows of a table have changed, all events count as not written. Those that are will be found.
            let kept = place.filter(|_| is_same).unwrap_or_default();
            let written = match is_same {
                true => &events[kept.told..kept.done],
                false => events,
            };
            for events in written.chunks(AT_ONCE) {
                let pairs = events.iter().map(Pair::of).collect();
                let found = self.dependencies.store.find(&pairs).await?;
                settle(&self.dependencies, &found.into()).await?;
            }
            lanes.push((kept.done, is_complete));
        }
        let is_written = lanes.iter().all(|(_, is_complete)| *is_complete);
        self.lanes.go_on(&window, &lanes, is_same || is_written);
        if is_written {
            self.ahead.input.go_to(&place.after);
            window.after = place.after.clone();
        }
        self.resumed_at = match is_written {
            true => window.after.rows,
            false => window.before.rows,
        };
        self.ahead.go_on_at(window.after.clone());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn checkpoint(before: u64, after: u64, done: usize) -> Checkpoint {
        let position = |rows| Position {
            rows,
            ..Position::default()
        };
        Checkpoint {
            before: position(before),
            after: position(after),
            events: format!("digest of {before}"),
            done,
            ..Checkpoint::default()
        }
    }

    #[test]
    fn lane_of_an_older_window_has_written_nothing_of_the_newest() {
        let lanes = vec![
            checkpoint(100, 500, 70),
            checkpoint(0, 100, 30),
            checkpoint(100, 500, 0),
        ];
        let (window, places) = newest(lanes.clone()).expect("lanes");
        assert_eq!(window.after.rows, 500);
        assert_eq!(
            places,
            [Some(lanes[0].clone()), None, Some(lanes[2].clone())]
        );
        assert_eq!(newest(Vec::new()), None);
    }
}
