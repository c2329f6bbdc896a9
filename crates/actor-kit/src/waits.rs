//! Which actors an actor waits for. A message that is sent from an actor's own work counts until its answer arrives or is
//! no longer awaited.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use serde::Serialize;

tokio::task_local! {
    /// The waits of the actor whose work the task does.
    static CURRENT: Arc<Waits>;
}

/// The messages of one actor that other actors have not answered.
#[derive(Debug, Default)]
pub(crate) struct Waits(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    since: BTreeMap<u64, (&'static str, Instant)>,
}

/// Another actor whose answers an actor waits for.
#[derive(Debug, Clone, Serialize)]
#[cfg_attr(feature = "utoipa", derive(utoipa::ToSchema))]
pub struct WaitReport {
    /// The name of the other actor.
    pub actor: &'static str,
    /// The number of messages without an answer.
    pub messages: usize,
    /// The age of the oldest of them, in milliseconds.
    pub oldest_ms: u64,
}

impl Waits {
    /// Runs an actor's work. Messages that it sends count as waits of the actor.
    pub(crate) fn run<F: Future>(
        self: &Arc<Self>,
        work: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(Arc::clone(self), work)
    }

    pub(crate) fn report(&self) -> Vec<WaitReport> {
        let mut reports: BTreeMap<&'static str, WaitReport> = BTreeMap::new();
        for (actor, since) in self.open().since.values() {
            let report = reports.entry(actor).or_insert(WaitReport {
                actor,
                messages: 0,
                oldest_ms: 0,
            });
            report.messages += 1;
            report.oldest_ms = report.oldest_ms.max(since.elapsed().as_millis() as u64);
        }
        reports.into_values().collect()
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting {
    waits: Arc<Waits>,
    id: u64,
}

/// Begins a wait for this actor; `None` outside the work of an actor.
pub(crate) fn wait_for(actor: &'static str) -> Option<Waiting> {
    let waits = CURRENT.try_with(Arc::clone).ok()?;
    let mut open = waits.open();
    let id = open.next;
    open.next += 1;
    open.since.insert(id, (actor, Instant::now()));
    drop(open);
    Some(Waiting { waits, id })
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.waits.open().since.remove(&self.id);
    }
}
