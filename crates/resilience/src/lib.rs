//! Keeping users served through the loss of a pool: heartbeats, modes, preflight, plans, the runner of procedures, its
//! journal and report, and what becomes of a divergent tail.
//!
//! Owns the rules of DESIGN §7 and §8 as pure state machines: inputs and the time come in, actions come out. Never
//! contains I/O, clocks, SIP, or the means by which a group replicates; it only says when a group is to be handed over or
//! promoted. Nothing here makes a pool failover automatic.

pub mod codec;
pub mod divergence;
pub mod heartbeat;
pub mod journal;
pub mod mode;
pub mod plan;
mod plan_text;
pub mod planner;
pub mod preflight;
pub mod recovery;
pub mod report;
mod rules;
pub mod runner;
mod stages;
mod work;

pub use divergence::{Applied, Divergence, Lookup, Progress, Verdict as TailVerdict, decide, decide_all, revisit};
pub use heartbeat::{ClockEstimate, Heartbeat};
pub use journal::{Procedure, ProcedureState, StepOutcome, StepResult};
pub use mode::{Mode, ModeChange, ModeEvent, ModeMachine, ModeReason, OperatorEvent, Ownership, View};
pub use plan::{Command, Plan, Step, StepKind};
pub use planner::{Refused, plan};
pub use preflight::{Finding, GroupSight, Observed, PoolSight, Rule, RunningProcedure, Verdict, preflight};
pub use recovery::Recovery;
pub use report::Report;
pub use runner::{Action, Event, LockCheck, Runner};
