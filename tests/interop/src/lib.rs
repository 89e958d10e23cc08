//! What the interop tests share: starting Pairline and the real programs, and waiting for what they do.
//!
//! Owns processes, folders and bounded waits. Depends on nothing of Pairline but its binary and its documented CLI.
