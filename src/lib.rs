//! Likewise: an event-driven like service. It answers a like from a cache, makes the event durable before it answers, and
//! then updates the database, once per event.
//!
//! `docs/ARCHITECTURE.md` describes the rooms.

pub mod actors;
pub mod admin;
pub mod app;
pub mod cache;
pub mod cli;
pub mod config;
pub mod domain;
pub mod http_client;
pub mod likes;
pub mod live;
pub mod messages;
pub mod nats;
pub mod store;
pub mod telemetry;
pub mod tls;
pub mod web;
pub mod webhooks;
