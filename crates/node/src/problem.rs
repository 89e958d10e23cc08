//! Problems: errors of the admin API that name the remedy.
//!
//! Owns their wording for what the node itself finds; services' errors are translated here, too.

use crate::command::Problem;
use pairline_group::io::Refusal;

impl Problem {
    /// A problem in four parts.
    pub fn new(status: u16, kind: &str, title: &str, detail: impl Into<String>, remedy: impl Into<String>) -> Problem {
        Problem { status, kind: kind.to_owned(), title: title.to_owned(), detail: detail.into(), remedy: remedy.into() }
    }

    /// The partner answered with something that this build cannot read.
    pub fn bad_peer_answer() -> Problem {
        Problem::new(
            502,
            "partner-answer-unreadable",
            "the partner's answer cannot be read",
            "the other pool answered in a form that this build does not know",
            "bring both pools to the same version; see `pairline pool status`",
        )
    }

    /// The command belongs to a pool that cannot be reached from here.
    pub fn unreachable(pool: &str) -> Problem {
        Problem::new(
            503,
            "pool-unreachable",
            "who must do this cannot be reached",
            format!("there is no link to {pool}"),
            "repeat the command when the link is up, or send it there with --server",
        )
    }

    /// What was asked for is served elsewhere since a moment ago.
    pub fn moved() -> Problem {
        Problem::new(
            503,
            "just-moved",
            "another server serves this now",
            "who serves the user has changed while the command was passed on",
            "repeat the command",
        )
    }

    /// Whether that is what it says.
    pub fn is_moved(&self) -> bool {
        self.kind == "just-moved"
    }

    /// The link went while the other pool worked on a command.
    pub fn link_lost(pool: &str) -> Problem {
        Problem::new(
            504,
            "link-lost",
            "the link went before the answer came",
            format!("{pool} was asked and may have done it or go on with it"),
            "look at `pairline procedure list` there; repeating the command is harmless",
        )
    }

    /// No such pool.
    pub fn no_such_pool(name: &str, known: &str) -> Problem {
        Problem::new(
            404,
            "no-such-pool",
            "no such pool",
            format!("the topology has no pool named {name}"),
            format!("use one of: {known}"),
        )
    }

    /// The actor may not do this.
    pub fn forbidden() -> Problem {
        Problem::new(
            403,
            "forbidden",
            "not allowed",
            "users may only read and change their own contacts and settings",
            "use the administrator's token for this command",
        )
    }

    /// Not answered within its time.
    pub fn timeout(what: &str) -> Problem {
        Problem::new(
            504,
            "timeout",
            "no answer in time",
            format!("{what} did not finish in time; it may still do so"),
            "look at `pairline pool status` and repeat the command; repeating is harmless",
        )
    }

    /// Replication refused a change.
    pub fn refused(refusal: &Refusal) -> Problem {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Conflict(_) => {
                Problem::new(409, "conflict", "changed meanwhile", detail, "read it again and repeat the change")
            }
            Refusal::NotActive(..) | Refusal::Moved(..) | Refusal::Unconfirmed | Refusal::NoSuchGroup => Problem::new(
                503,
                "resiliency-mode",
                "limited service: nothing durable can be changed now",
                detail,
                "wait until the serving pool is back, or let an administrator run `pairline pool failover`",
            ),
            Refusal::OutcomeUnknown => Problem::new(
                504,
                "outcome-unknown",
                "the outcome is not known",
                detail,
                "repeat the change with the same operation id",
            ),
            Refusal::HandingOver(_) | Refusal::Busy | Refusal::NotLeader(_) => {
                Problem::new(503, "busy", "not at this moment", detail, "repeat the command in a second")
            }
            Refusal::TooLarge(_) => {
                Problem::new(413, "too-large", "too large", detail, "split the change into smaller ones")
            }
            Refusal::Stopped(_) => Problem::new(
                500,
                "group-stopped",
                "a group has stopped",
                detail,
                "see the alarms in `pairline pool status` and docs/operations",
            ),
            Refusal::DiskFull => Problem::new(
                507,
                "disk-full",
                "the disk is full",
                detail,
                "free space on the data folder's file system and repeat the command; it may have been done by then, if it was under way when the disk filled up: repeating is harmless",
            ),
            Refusal::NotNow(_) => {
                Problem::new(409, "not-now", "not possible now", detail, "see `pairline pool status`")
            }
        }
    }
}
