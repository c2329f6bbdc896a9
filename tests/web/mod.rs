//! The HTTP API, one file for each group of URLs.

mod actors;
mod admin;
mod anonymous_reads;
mod auth;
mod batch;
mod console;
mod cors;
mod cross_site_and_proxies;
mod generated_clients;
mod health;
mod history;
mod key_rotation;
mod legacy_api;
mod likes;
mod openapi;
mod openapi_fuzz;
mod operations;
mod rate_limits;
mod reads;
mod request_size_and_time;
mod tour;
