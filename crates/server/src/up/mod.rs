//! `pairline up`: a deployment on this machine, each pool its own process.
//!
//! Owns creating and recognising the data folder, starting and stopping the servers, and the stream of readable lines.
//! Speaks to the servers through the admin API only.

pub mod children;
pub mod clients;
pub mod create;
pub mod greeting;
pub mod layout;
pub mod ports;
pub mod program;
pub mod ready;
pub mod run;
pub mod stream;
pub mod users;

pub use run::{UpError, listen_too, run};
