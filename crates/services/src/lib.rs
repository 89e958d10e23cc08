//! Services: registrar, proxy, instant messages, contacts and settings, users.
//!
//! Each service is a folder that owns its requests; siblings do not import each other, shared types are at the root. All
//! are `async fn`s over the capabilities of [`cx::Cx`]: they read and commit records, send and answer SIP messages, and
//! know nothing of replication, sockets, clocks or randomness.
#![forbid(unsafe_code)]
// The futures of services run on one thread, inside one node; `Send` would be a promise that nobody needs.
#![allow(async_fn_in_trait)]

pub mod access;
pub mod admission;
pub mod auth;
mod back;
pub mod binding;
pub mod contacts;
pub mod cx;
pub mod dispatch;
pub mod emergency;
pub mod events;
pub mod forward;
pub mod gruu;
pub mod ident;
pub mod join;
pub mod messaging;
pub mod metrics;
mod parts;
pub mod privacy;
pub mod proxy;
pub mod push;
pub mod records;
pub mod regevent;
pub mod registrar;
pub mod remedy;
pub mod replies;
pub mod routes;
pub mod settings;
pub mod sight;
pub mod sips;
pub mod subscription;
pub mod trust;
pub mod users;
pub mod watching;
