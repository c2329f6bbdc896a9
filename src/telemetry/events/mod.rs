//! The events that logs and metrics report, one struct each: its `emit` writes the log line and updates the metric. One
//! file for each concern.

mod actors;
mod dependencies;
mod facts;
mod live;
mod operators;
mod pipeline;
mod requests;
mod service;
mod stream;

pub use actors::*;
pub use dependencies::*;
pub use facts::*;
pub use live::*;
pub use operators::*;
pub use pipeline::*;
pub use requests::*;
pub use service::*;
pub use stream::*;
