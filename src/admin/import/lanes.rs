//! The chunks of an import that are being written: two at a time, on a connection each. While the database folds the
//! events of one, it inserts those of the next. They take effect one after the other, in their order.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesOrdered;
use tokio::sync::watch;

use super::commit::write;
use crate::admin::AdminError;
use crate::store::{ImportChunk, Imported, Store, Turn};

/// The chunks that are written at a time.
const AT_A_TIME: usize = 2;

/// The chunks that are being written.
pub(super) struct Chunks {
    store: Arc<Store>,
    running: FuturesOrdered<LocalBoxFuture<'static, Result<Written, AdminError>>>,
    begun: usize,
    committed: watch::Sender<usize>,
}

/// A chunk that is committed.
pub(super) struct Written {
    /// The place of its first event in the window.
    pub(super) from: usize,
    /// The place after its last event.
    pub(super) to: usize,
    /// What it has written.
    pub(super) imported: Imported,
}

impl Chunks {
    pub(super) fn new(store: Arc<Store>) -> Self {
        Self {
            store,
            running: FuturesOrdered::new(),
            begun: 0,
            committed: watch::Sender::new(0),
        }
    }

    /// Whether another chunk may begin.
    pub(super) fn has_room(&self) -> bool {
        self.running.len() < AT_A_TIME
    }

    /// Whether none is being written.
    pub(super) fn is_empty(&self) -> bool {
        self.running.is_empty()
    }

    /// Begins to write a chunk, which follows those that have begun before.
    pub(super) fn begin(&mut self, chunk: ImportChunk) {
        let (store, committed) = (Arc::clone(&self.store), self.committed.clone());
        let turn = Turn {
            number: self.begun,
            committed: committed.subscribe(),
        };
        self.begun += 1;
        self.running.push_back(Box::pin(async move {
            let imported = write(&store, &chunk, &turn).await?;
            committed.send_replace(turn.number + 1);
            Ok(Written {
                from: chunk.places.start,
                to: chunk.places.end,
                imported,
            })
        }));
    }

    /// Waits until the first of them is committed; `None` if there is none. After a failure, none of the others takes
    /// effect.
    pub(super) async fn next(&mut self) -> Option<Result<Written, AdminError>> {
        self.running.next().await
    }
}
