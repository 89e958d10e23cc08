//! Where bytes rest: the log of all groups, the checkpoint of their state, divergent tails, and the files below.
//!
//! Owns the file layer (real and simulated), the stored formats, recovery, and the data folder with its lock and format
//! version. Never decides what a log record means, when a checkpoint is due, or what happens to a tail's entries.

pub mod checkpoint;
pub mod files;
pub mod folder;
pub mod log;
pub mod store;
pub mod tails;

pub use checkpoint::{CheckpointError, CheckpointStore, MemoryCheckpoints, RedbCheckpoints};
pub use files::{FileError, FileLayer, MemoryFiles, OpenFile, RealFiles};
pub use folder::FolderError;
pub use log::{Corruption, Log, LogConfig, LogError, LogOpenError, LogRecovery, LogStats};
pub use store::{ForgetError, LogStore, OpenError, OpenReport, Store, StoreConfig};
pub use tails::{Resolution, Tail, TailError, TailId, TailInfo, Tails};
