//! The HTTP API, one file for each group of URLs.

mod admin;
mod auth;
mod batch;
mod bounds;
mod clients;
mod cors;
mod guard;
mod health;
mod legacy;
mod likes;
mod limits;
mod openapi;
mod openapi_fuzz;
mod reads;
mod rotation;
mod tour;
mod visitors;
