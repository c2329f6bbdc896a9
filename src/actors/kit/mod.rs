//! What every actor is built on: the guardian that keeps it alive, the mailbox that bounds its work,
//! the batcher that groups it, and the registry that shows how it is doing.

pub mod batcher;
pub mod guardian;
pub mod mailbox;
pub mod registry;
pub mod turn;

pub(super) use batcher::supervise_batching;
pub use batcher::{Batcher, Flush, Lane, Weigh, spawn_batch};
pub use guardian::{Guardian, GuardianPolicy, Provoke, spawn_work};
pub use mailbox::{Answer, Closed, Mailbox, Parcel, Refused, Reply, Request, Slot};
pub use registry::{ActorReport, Registry, State, Vitals};
pub use turn::Turn;
