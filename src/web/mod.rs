//! The HTTP API. Handlers are thin: they read a request, call [`Likes`](crate::likes::Likes) or
//! [`AdminService`](crate::admin::AdminService), and write the response. `app/` builds the server from what is
//! exported here.
//!
//! `likes/`, `legacy/`, `data/`, `admin/`, `console/`, `health.rs` and `openapi/` have the handlers, one file for each path or two, and
//! `routes.rs` puts them together. The middleware, from the outside in: `cors.rs`, `bounds.rs`, `guard/`, `limits/`.
//! Extractors are in `extract.rs` and `auth/extract.rs`. `problem/catalogue.rs` has every code of an error.

pub mod admin;
mod app_data;
pub mod auth;
pub mod bounds;
mod console;
mod context;
mod cors;
mod cursor;
mod data;
mod draining;
mod extract;
pub mod guard;
mod headers;
mod health;
mod idempotency;
mod ids;
mod legacy;
mod likes;
pub mod limits;
mod methods;
mod moment;
mod named;
pub mod openapi;
mod operator;
mod parameters;
pub mod problem;
mod requests;
mod routes;
pub mod slow_clients;
mod sse;
mod trace;

pub use bounds::bound;
pub use context::Context;
pub use cors::cors;
pub use draining::Draining;
pub use guard::guard;
pub use health::Health;
pub use limits::limit;
pub use problem::Problem;
pub use requests::Pending;
pub use routes::{harden, routes};
