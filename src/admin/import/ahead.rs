//! Reads the next window of an import while the one before it is written.

use std::sync::Arc;

use super::input::Input;
use super::options::ImportOptions;
use super::row::Position;
use super::window::Window;
use crate::domain::ImportRules;
use crate::store::Store;

/// The rows of the first window, as a multiple of those of a chunk. Nothing is written before they are read.
const FIRST_WINDOW: usize = 10;

/// The rows of the largest window, as a multiple of those of a chunk. They are in memory twice: in the window that is
/// written, and in the one that is read. A larger window has more rows of each page of an index.
const LARGEST_WINDOW: usize = 25;

/// How many times as large as the one before it a window is. To read and sort a row takes less than this part of the time
/// to write one.
const GROWTH: usize = 4;

/// The reader of the next window.
pub(super) struct Ahead {
    store: Arc<Store>,
    pub(super) input: Input,
    pub(super) rules: Arc<ImportRules>,
    /// The rows of a chunk, which are read at once.
    batch: usize,
    /// The lanes into which a window is divided.
    lanes: usize,
    is_strict: bool,
    next: Window,
    /// The rows that it may have, as a multiple of those of a chunk.
    room: usize,
}

impl Ahead {
    pub(super) fn new(
        store: Arc<Store>,
        input: Input,
        rules: Arc<ImportRules>,
        options: &ImportOptions,
    ) -> Self {
        Self {
            lanes: store.import_lanes(),
            store,
            input,
            rules,
            batch: options.batch,
            is_strict: options.strict,
            next: Window::at(Position::default()),
            room: FIRST_WINDOW,
        }
    }

    /// Continues at a position, at which the input is.
    pub(super) fn go_on_at(&mut self, position: Position) {
        self.next = Window::at(position);
    }

    /// Whether the next window has room, and the input may have more rows.
    fn reads_on(&self) -> bool {
        self.next.end.is_none() && self.next.rows() < self.room * self.batch
    }

    /// Reads as many rows of the next window as are worth a chunk that is written meanwhile. Sorts the window when it is
    /// complete.
    pub(super) async fn read(&mut self) {
        for _ in 0..GROWTH {
            if !self.reads_on() {
                return self.next.sort(self.lanes).await;
            }
            self.read_some().await;
        }
    }

    /// Completes the next window and returns it.
    pub(super) async fn window(&mut self) -> Window {
        while self.reads_on() {
            self.read_some().await;
        }
        self.next.sort(self.lanes).await;
        self.room = match self.next.end {
            Some(_) => 0,
            None => LARGEST_WINDOW.min(GROWTH * self.room),
        };
        let following = Window::at(self.next.after.clone());
        std::mem::replace(&mut self.next, following)
    }

    async fn read_some(&mut self) {
        let (store, rules) = (&self.store, &self.rules);
        self.next
            .read(&mut self.input, rules, store, self.batch, self.is_strict)
            .await;
    }
}
