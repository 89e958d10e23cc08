//! What is shown of single groups: their copies, and their recovery.
//!
//! Owns the shapes of answers. Computes nothing.

use pairline_group::io::{GroupStatus, Standing};
use serde::{Deserialize, Serialize};

/// One copy, as its server tells the others of its pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCopy {
    /// How it stands.
    pub status: GroupStatus,
    /// Whether its server leads the group.
    pub leads: bool,
    /// How it stands among the copies of the group; nothing where nothing ever stood in it.
    #[serde(default)]
    pub standing: Option<Standing>,
}

/// Groups that have copies in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupsView {
    /// The pool.
    pub pool: String,
    /// The answering server.
    pub seen_by: String,
    /// In order.
    pub groups: Vec<GroupView>,
}

/// One group and its copies in a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupView {
    /// Home pool's number and the group's in it, or `cms`.
    pub group: String,
    /// `led`, `choosing` (a majority is there), `no-majority`, or `none` (no copy is left).
    pub state: String,
    /// The pool that serves it.
    pub serving: String,
    /// In which epoch.
    pub epoch: String,
    /// The server that leads the copies here.
    pub leader: Option<String>,
    /// How often it went on with one copy.
    pub survived: u64,
    /// The copies.
    pub copies: Vec<GroupCopyView>,
    /// When it was recovered, newest first.
    pub recoveries: Vec<RecoveryView>,
}

/// One copy of a group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupCopyView {
    /// Its server.
    pub server: String,
    /// `leads`, `up`, `stopped`, `empty` (the server is up and has no copy), `silent` (linked, does not answer), `away`.
    pub state: String,
    /// Whether it decides, as far as is known.
    pub votes: bool,
    /// Where it stands; nothing if that is not known.
    pub position: Option<String>,
    /// Items of its log that it does not know to be committed.
    pub doubtful: u64,
    /// Seconds since it last heard a leader, or since its server's start.
    pub quiet_seconds: Option<u64>,
    /// If it has stopped: why.
    pub stopped: Option<String>,
}

/// One recovery of a group, as recorded.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryView {
    /// The order, in hex.
    pub id: String,
    /// Who ordered it.
    pub operator: String,
    /// Why.
    pub reason: String,
    /// Wall-clock milliseconds.
    pub at: u64,
    /// The server whose copy was left.
    pub survivor: String,
    /// Servers whose copies were given up.
    pub lost: Vec<String>,
    /// Where the copy stood.
    pub before: String,
    /// Where the group went on.
    pub after: String,
    /// What the operator was told might be lost.
    pub at_risk: String,
}

/// Plan or outcome of a recovery.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecoveryView {
    /// The pool.
    pub pool: String,
    /// Whether it was done; else this is what would be.
    pub done: bool,
    /// Group by group.
    pub groups: Vec<GroupRecoverView>,
    /// What to do next, and what never to do.
    pub next: Vec<String>,
}

/// One group of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRecoverView {
    /// Which.
    pub group: String,
    /// The server whose copy is left, and would go on: of several the one that has most.
    pub survivor: Option<String>,
    /// Up to where it knows that everything was committed.
    pub position: String,
    /// Wall-clock milliseconds of the last change there.
    pub last_change: u64,
    /// Seconds since it last heard a leader, or since its server's start.
    pub quiet_seconds: u64,
    /// Items of its log beyond that; they would count.
    pub doubtful: u64,
    /// Servers whose copies would be given up.
    pub lost: Vec<String>,
    /// What may be lost.
    pub at_risk: String,
    /// What would be better, if something would.
    pub better: Option<String>,
    /// Why not, if it cannot be recovered now.
    pub refused: Option<String>,
    /// What to do about that.
    pub remedy: Option<String>,
    /// If it was ordered: how it ended.
    pub outcome: Option<String>,
    /// Whether it goes on.
    pub goes_on: bool,
}
