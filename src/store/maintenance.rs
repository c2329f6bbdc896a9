//! What keeps the database in order over time: audits, rebuilds, retention.

/// What audits, rebuilds and retention ask of the database; a part of [`Store`](super::Store).
pub trait Maintenance: Send + Sync {}
