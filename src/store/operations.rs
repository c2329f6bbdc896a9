//! What operators ask of the database and do in it.

/// What operators see and do; a part of [`Store`](super::Store).
pub trait Operations: Send + Sync {}
