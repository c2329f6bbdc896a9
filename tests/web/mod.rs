//! The HTTP API, a file for each group of URLs.

mod admin;
mod health;
mod likes;
