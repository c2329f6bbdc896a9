//! Actors on actix that survive panics, bound their work, and report their state.
//!
//! The crate knows nothing of the messages it carries. An actor is one type in one file: it implements
//! [`Actor`], and [`BatchActor`] for each message that it takes. The crate supplies the rest:
//!
//! * [`Mailbox`]: the handle in front of an actor. Its bound counts waiting, reserved and running work.
//! * Batches: a burst is one batch, and while one batch runs, the next gathers ([`BatchLimits`]).
//! * Ticks: periodic work, one tick at a time ([`Schedule`]).
//! * [`Supervisor`](SupervisorPolicy): catches panics, waits, and restarts the actor with its mailbox intact.
//! * [`Registry`]: state, mailbox, counters and last error of each actor.
//!
//! ```
//! use std::sync::Arc;
//! use actor_kit::{Actor, BatchActor, BatchLimits, Envelope, Request};
//!
//! struct Add(u32, u32);
//! impl Request for Add {
//!     type Reply = u32;
//! }
//!
//! struct Adder;
//! impl Actor for Adder {
//!     const NAME: &'static str = "adder";
//! }
//! impl BatchActor<Add> for Adder {
//!     type Item = Envelope<Add>;
//!
//!     fn limits(&self) -> BatchLimits {
//!         BatchLimits { largest: 100, lanes: 1, spare_lanes: 0 }
//!     }
//!
//!     async fn run(self: Arc<Self>, batch: Vec<Envelope<Add>>) {
//!         for envelope in batch {
//!             let Add(a, b) = envelope.body;
//!             envelope.reply.send(a + b);
//!         }
//!     }
//! }
//! ```

mod actor;
mod batcher;
mod envelope;
mod gauge;
mod host;
mod mailbox;
mod messages;
mod observer;
mod panics;
mod registry;
mod report;
mod stats;
mod supervisor;
#[cfg(test)]
mod testing;
mod waits;

pub use actor::{Actor, BatchActor, Schedule};
pub use batcher::{BatchLimits, Weigh};
pub use envelope::{Answer, Closed, Envelope, Reply, Request};
pub use gauge::{Gauge, Permit};
pub use host::Context;
pub use mailbox::{Mailbox, Refused, Slot};
pub use messages::{LATENCY_BOUNDS, MessageReport, Percentiles, RunningReport};
pub use observer::Observer;
pub use registry::{Registry, Unheeded};
pub use report::{
    ActorReport, ActorState, MailboxReport, PanicReport, Snapshot, StuckAfter, SupervisionPolicy,
    SupervisionReport,
};
pub use supervisor::{Starter, SupervisorPolicy};
pub use waits::WaitReport;
