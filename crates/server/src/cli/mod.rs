//! The command line: grammar, dispatch, output and exit codes (0 done, 1 refused or failed, 2 usage).
//!
//! Owns what a person types and reads. Uses nothing but the admin API; has no rules of its own.

pub mod args;
pub mod args_group;
pub mod args_pool;
pub mod health;
pub mod import;
pub mod import_csv;
pub mod joining;
pub mod ladder;
pub mod policy;
pub mod procedures;
pub mod render;
pub mod render_group;
pub mod render_health;
pub mod render_pool;
pub mod rolling;
pub mod run;
pub mod server;
pub mod table;
pub mod trace;

pub use run::main;
