//! The HTTP API, a file for each group of URLs.

mod admin;
mod auth;
mod bounds;
mod cors;
mod health;
mod likes;
mod limits;
mod openapi;
mod openapi_fuzz;
