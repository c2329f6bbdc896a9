//! The lanes of an import. Each writes the events of some resources, chunk after chunk, beside the others. They change other
//! pairs and other counts, so none waits for another.

use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::JoinSet;

use super::commit::write;
use super::resume::Checkpoint;
use super::window::Window;
use crate::admin::AdminError;
use crate::domain::BehaviorEvent;
use crate::store::{BegunImport, ImportChunk, Imported, Store};

/// The lanes of an import.
pub(super) struct Lanes {
    store: Arc<Store>,
    lanes: Vec<Lane>,
    running: JoinSet<Result<Written, AdminError>>,
}

/// What one lane writes of a window.
#[derive(Debug, Default)]
struct Lane {
    /// Its events of the window, in their order.
    events: Arc<Vec<BehaviorEvent>>,
    /// Its position in the database, once the chunk that is being written is committed.
    position: String,
    /// The number of its events that are written.
    done: usize,
    /// The number of those for which the cache is settled.
    told: usize,
    /// Whether its last chunk of the window is written.
    is_done: bool,
    is_running: bool,
    /// Whether its last chunk counts the rows of the window.
    counts_rows: bool,
}

/// A chunk that is committed.
struct Written {
    lane: usize,
    /// The place of its first event among those of the lane.
    from: usize,
    /// The place after its last event.
    to: usize,
    imported: Imported,
}

impl Lanes {
    /// Creates lanes that have nothing to write.
    pub(super) fn new(store: Arc<Store>, lanes: usize) -> Self {
        let idle = || Lane {
            is_done: true,
            ..Lane::default()
        };
        Self {
            store,
            lanes: std::iter::repeat_with(idle).take(lanes).collect(),
            running: JoinSet::new(),
        }
    }

    /// Sets the positions that they have in the database.
    pub(super) fn set_positions(&mut self, positions: &[String]) {
        for (lane, position) in self.lanes.iter_mut().zip(positions) {
            lane.position.clone_from(position);
        }
    }

    /// Goes on to the next window. Each lane writes a chunk at least, to take the position of the window. Only at the end of
    /// the input may a window have no row.
    pub(super) fn enter(&mut self, window: &Window) {
        let anew = vec![(0, window.rows() == 0); self.lanes.len()];
        self.go_on(window, &anew, true);
    }

    /// Goes on within a window. `places` has for each lane how many of its events are written, and whether its last chunk
    /// of the window is, or was when the window had other rows.
    pub(super) fn go_on(&mut self, window: &Window, places: &[(usize, bool)], is_same: bool) {
        let lanes = self.lanes.iter_mut().zip(&window.lanes).zip(places);
        for (number, ((lane, events), (done, is_done))) in lanes.enumerate() {
            lane.events = Arc::clone(events);
            (lane.done, lane.told) = (*done, *done);
            lane.is_done = *is_done && is_same;
            lane.counts_rows = number == 0 && !is_done;
        }
    }

    /// Whether all events of the window are written.
    pub(super) fn are_done(&self) -> bool {
        self.lanes.iter().all(|lane| lane.is_done)
    }

    /// The number of events of the window that are written.
    pub(super) fn done(&self) -> usize {
        self.lanes.iter().map(|lane| lane.done).sum()
    }

    /// Counts all events of the window as written.
    pub(super) fn skip(&mut self) {
        for lane in &mut self.lanes {
            (lane.done, lane.is_done) = (lane.events.len(), true);
        }
    }

    /// Lets each lane that writes nothing begin its next chunk.
    pub(super) fn begin(
        &mut self,
        import: &BegunImport,
        window: &Window,
        most: usize,
        may_be_recorded: bool,
    ) {
        for number in 0..self.lanes.len() {
            let lane = &mut self.lanes[number];
            if !lane.is_running && !lane.is_done {
                lane.is_running = true;
                let chunk = lane.next_chunk(number, import, window, most, may_be_recorded);
                self.start(chunk);
            }
        }
    }

    fn start(&mut self, chunk: ImportChunk) {
        let store = Arc::clone(&self.store);
        self.running.spawn_local(async move {
            let imported = write(&store, &chunk).await?;
            Ok(Written {
                lane: chunk.lane,
                from: chunk.places.start,
                to: chunk.places.end,
                imported,
            })
        });
    }

    /// Waits until one of the chunks is committed; `None` if none is being written.
    pub(super) async fn next(&mut self) -> Option<Result<Imported, AdminError>> {
        let written = match self.running.join_next().await? {
            Ok(Ok(written)) => written,
            Ok(Err(error)) => return Some(Err(error)),
            Err(failed) => resume_unwind(failed.into_panic()),
        };
        let lane = &mut self.lanes[written.lane];
        lane.is_running = false;
        lane.is_done = written.to == lane.events.len();
        // The chunk before this one was settled while this one was written.
        (lane.told, lane.done) = (written.from, written.to);
        Some(Ok(written.imported))
    }
}

impl Lane {
    /// Returns the chunk of its next events. Equal events are in one chunk: the second of them would be refused.
    fn next_chunk(
        &mut self,
        number: usize,
        import: &BegunImport,
        window: &Window,
        most: usize,
        may_be_recorded: bool,
    ) -> ImportChunk {
        let (events, from) = (&self.events, self.done);
        let total = events.len();
        let mut to = total.min(from + most);
        while to < total && to > from && events[to].event_id == events[to - 1].event_id {
            to += 1;
        }
        let checkpoint = Checkpoint {
            before: window.before.clone(),
            after: window.after.clone(),
            events: window.digest.clone().unwrap_or_default(),
            told: self.told,
            done: to,
            left: total - to,
        };
        let (rows, rejected) = match self.counts_rows && to == total {
            true => (window.rows(), window.rejected.len()),
            false => (0, 0),
        };
        let after = checkpoint.to_json();
        ImportChunk {
            import_id: import.record.import_id,
            run: import.run,
            lane: number,
            before: std::mem::replace(&mut self.position, after.clone()),
            after,
            rows,
            rejected,
            events: Arc::clone(&self.events),
            places: from..to,
            may_be_recorded,
        }
    }
}
