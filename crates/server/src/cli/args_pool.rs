//! The command line's grammar for pools, the management store and procedures.
//!
//! Owns those arguments and their help. Does not own what the commands do.

use clap::{Subcommand, ValueEnum};

/// `pairline pool …`.
#[derive(Debug, Subcommand)]
pub enum PoolCommand {
    /// Pools, modes, both directions of shipping, lag, and what would be lost now.
    Status {
        /// Wait until the pair is in this state.
        #[arg(long, value_enum)]
        wait: Option<WaitFor>,
        /// Give up waiting after this many seconds.
        #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
    },
    /// Servers and copies of a pool: who is up and leads what, what may fail now, what happens next. Exit code: 0 healthy, 1 with
    /// fewer copies than there should be, 2 where a group has no majority or nobody answers.
    Health {
        /// The pool; all, if absent.
        name: Option<String>,
        /// Wait until it is healthy, and show how far its copies are.
        #[arg(long)]
        wait: bool,
        /// Give up waiting after this many seconds.
        #[arg(long, default_value_t = 600, value_parser = clap::value_parser!(u64).range(1..=86_400))]
        timeout: u64,
    },
    /// Restart the servers of a pool one after the other, or one upgrade domain after the other, each drained before and only while the pool
    /// is healthy; what is installed now is what they start. Stops at the first that does not come back.
    Restart {
        /// The pool.
        name: String,
        /// Seconds that the drain of one server may take.
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
        deadline: u64,
    },
    /// Ship everything now; answers when the partner has all that was committed before the call.
    Sync {
        /// Source pool.
        name: String,
    },
    /// Prove that both copies of a pool's groups are equal.
    Verify {
        /// Home pool of the groups.
        name: String,
    },
    /// Pair two running pools.
    Pair {
        /// One.
        a: String,
        /// The other.
        b: String,
        /// Reason to accept an unsupported pairing; recorded.
        #[arg(long, value_name = "REASON")]
        accept_unsupported: Option<String>,
    },
    /// End a pairing; both pools go on serving their own users.
    Unpair {
        /// One.
        a: String,
        /// The other.
        b: String,
    },
    /// Fail a pool over to its partner. Without --disaster nothing is lost or it does not happen.
    Failover {
        /// The affected pool.
        name: String,
        /// The pool cannot take part: promote the partner's copies.
        #[arg(long)]
        disaster: bool,
        /// Print findings and plan, change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Go on although the pool is healthy.
        #[arg(long)]
        force: bool,
        /// State that the source is off, or accept what it may still commit as its divergent tail.
        #[arg(long, value_name = "yes", num_args = 0..=1, default_missing_value = "yes")]
        confirm: Option<String>,
        /// Why, for the report.
        #[arg(long)]
        reason: Option<String>,
        /// Return at once instead of waiting for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// Fail a pool back to its home.
    Failback {
        /// The affected pool, the same name as in the failover.
        name: String,
        /// The partner is lost: the home pool takes its groups back with what it has itself.
        #[arg(long)]
        disaster: bool,
        /// Print findings and plan, change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Accept the findings that may be accepted.
        #[arg(long, conflicts_with = "disaster")]
        force: bool,
        /// State that the partner is off, or accept what it may still commit as its divergent tail.
        #[arg(long, value_name = "yes", num_args = 0..=1, default_missing_value = "yes", requires = "disaster")]
        confirm: Option<String>,
        /// Why, for the report.
        #[arg(long)]
        reason: Option<String>,
        /// Return at once instead of waiting for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// List the divergent tail of a pool that came back, or offer it entry by entry.
    Divergence {
        /// The returned pool.
        name: String,
        /// Apply what can be applied.
        #[arg(long)]
        apply: bool,
        /// Give up what is in conflict: nothing waits for it any more.
        #[arg(long, conflicts_with = "apply")]
        settle: bool,
    },
    /// Assert that this pool holds the current epochs (cold start while its partner is away).
    AssertActive {
        /// The pool; it must be the answering server's.
        name: String,
        /// Why, for the audit.
        #[arg(long)]
        reason: Option<String>,
        /// Confirm the risk: if the partner was promoted meanwhile, both will serve until they meet.
        #[arg(long)]
        confirm: bool,
    },
}

/// What `pool status --wait` waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Every direction of every module keeps up, and no seed runs.
    Steady,
}

/// `pairline management …`.
#[derive(Debug, Subcommand)]
pub enum ManagementCommand {
    /// Move the management store to the partner.
    Failover {
        /// Without the source's help.
        #[arg(long)]
        disaster: bool,
        /// Print findings and plan, change nothing.
        #[arg(long)]
        dry_run: bool,
        /// Accept the findings that may be accepted.
        #[arg(long)]
        force: bool,
        /// State that the source is off, or accept what it may still commit as its divergent tail.
        #[arg(long, value_name = "yes", num_args = 0..=1, default_missing_value = "yes")]
        confirm: Option<String>,
        /// Why, for the report.
        #[arg(long)]
        reason: Option<String>,
        /// Return at once instead of waiting for the end.
        #[arg(long)]
        no_wait: bool,
    },
}

/// `pairline procedure …`.
#[derive(Debug, Subcommand)]
pub enum ProcedureCommand {
    /// List procedures, newest first.
    List,
    /// Show one procedure: plan, steps, report.
    Show {
        /// Its id, or a unique beginning of it.
        id: String,
    },
    /// Resume a stopped or interrupted procedure.
    Resume {
        /// Its id.
        id: String,
        /// Return at once instead of waiting for the end.
        #[arg(long)]
        no_wait: bool,
    },
    /// Abort a procedure.
    Abort {
        /// Its id.
        id: String,
        /// Take back groups whose handover the target never got; confirms that the target is off.
        #[arg(long)]
        reclaim: bool,
    },
}
