//! The admin API: HTTPS and JSON over the node's commands.
//!
//! Owns listening, authentication, the route table and its OpenAPI document, problem details and `/metrics`. Does not own
//! what a command does (the node), nor certificates (`tls`).

pub mod about;
pub mod auth;
pub mod build;
pub mod digest;
pub mod handler;
pub mod metrics;
pub mod openapi;
pub mod params;
pub mod port;
pub mod problem;
pub mod routes;
pub mod serve;
pub mod token;
pub mod traces;

pub use handler::ApiState;
pub use port::{CommandFuture, CommandPort};
pub use serve::{ApiError, serve};
