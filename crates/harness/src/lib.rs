//! Drives a running Likewise service over HTTP. [`load`] is the subcommand `likewise load`, [`bench`] is `likewise bench`; [`journal`] is the
//! file that it writes for `likewise verify`; [`drive`], [`generate`] and [`process`] also serve the benchmark; [`servers`]
//! serves the benchmark and the tests of Likewise. The crate knows processes, HTTP and files only: no store, no actors.

pub mod bench;
mod client;
mod drive;
pub mod generate;
mod ids;
mod interaction;
mod interactions;
mod io_error;
pub mod journal;
pub mod load;
pub mod machine;
pub mod process;
mod progress;
mod refusal;
mod report;
mod request;
mod schedule;
pub mod servers;
mod summary;

pub use client::{Cause, Client, Failure, Outcome};
pub use drive::{Observer, Options, drive};
pub use hyper::Method;
pub use ids::{IdForm, Ids};
pub use interaction::Interaction;
pub use interactions::{Interactions, InteractionsError};
pub use io_error::IoError;
pub use request::{InvalidTarget, Request, Target};
pub use summary::Summary;
