//! Sign-in: `policy.rs` identifies callers by their tokens and decides what they may do, `extract.rs` has the
//! extractors with which handlers ask it. Users have JWTs (`jwt.rs`, `keys.rs`, `verified.rs`), services and
//! operators have tokens of their own (`service_tokens.rs`) with scopes. `credentials.rs` reads both, and `watch.rs` reads
//! them again when they change.

mod caller;
mod credentials;
mod crypto;
mod error;
mod extract;
mod jwks;
mod jwt;
mod keys;
mod policy;
mod refusals;
mod scope;
pub mod service_tokens;
mod verified;
mod watch;

pub use caller::Caller;
pub(super) use caller::Right;
pub use error::AuthError;
pub(super) use extract::{
    AnyUser, CountReader, DataOwner, Eraser, Owner, PublicReader, User, Visitor, caller,
};
pub use policy::Auth;
pub use scope::{Scope, UnknownScope};
pub use watch::watch;
