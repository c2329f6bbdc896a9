//! Likewise: an event-driven like service. The cache changes and the answer comes back at once; the
//! event becomes durable; the database follows exactly; every step can be seen, retried and proven.
//!
//! `docs/ARCHITECTURE.md` walks through the rooms.

pub mod actors;
pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod domain;
pub mod health;
pub mod likes;
pub mod messages;
pub mod nats;
pub mod store;
pub mod telemetry;
pub mod web;
