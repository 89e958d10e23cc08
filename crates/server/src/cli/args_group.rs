//! The command line's grammar for single groups.
//!
//! Owns those arguments and their help. Does not own what the commands do.

use clap::Subcommand;

/// `pairline group …`.
#[derive(Debug, Subcommand)]
pub enum GroupCommand {
    /// Groups that have copies in a pool: who leads each, where its copies are and how far.
    List {
        /// The pool.
        pool: String,
    },
    /// One group: every copy of it in a pool, and when it was recovered.
    Show {
        /// The pool.
        pool: String,
        /// Its number in the pool, home pool and number (`1/3`), or `cms`.
        group: String,
    },
    /// Have groups that have lost their majority for good go on with the copy that is left. Without --confirm only says which copy that is,
    /// what may be lost, and what would be better.
    Recover {
        /// The pool whose copies are lost.
        pool: String,
        /// Which groups, as in `show`.
        #[arg(required_unless_present = "all_without_majority")]
        groups: Vec<String>,
        /// Every group that has no majority.
        #[arg(long, conflicts_with = "groups")]
        all_without_majority: bool,
        /// State that the servers named in the plan never come back with their disks, and accept what may be lost.
        #[arg(long, value_name = "yes", num_args = 0..=1, default_missing_value = "yes")]
        confirm: Option<String>,
        /// Why, for the record.
        #[arg(long)]
        reason: Option<String>,
    },
}
