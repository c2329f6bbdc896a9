//! What every actor is built on: the supervisor that keeps it alive, the mailbox that bounds its work,
//! the batcher that groups it, and the registry that shows how it is doing.

pub mod batcher;
pub mod mailbox;
pub mod registry;
pub mod supervisor;
pub mod turn;

pub(super) use batcher::supervise_batching;
pub use batcher::{Batcher, Flush, Lane, Weigh, spawn_batch};
pub use mailbox::{Answer, Closed, Envelope, Mailbox, Refused, Reply, Request, Slot};
pub use registry::{ActorReport, ActorStats, Registry, State};
pub use supervisor::{InjectPanic, Supervisor, SupervisorPolicy, spawn_work};
pub use turn::Turn;
