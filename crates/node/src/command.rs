//! Commands of the admin API and their answers: the one language of CLI, HTTP API and peers.
//!
//! Owns their types. Does not own how they are carried (the server's API) or executed (`admin`, `services::users`).

use serde::{Deserialize, Serialize};

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Actor {
    /// Holder of an administrator token; the name is for the audit.
    Administrator(String),
    /// A user, authenticated by digest or bearer token; may only touch its own contacts and settings.
    User(String),
    /// Another server of the deployment, over its link.
    Server,
}

/// Commands. Users are written `name`, `name@domain` or `sip:name@domain`; pools by their short name (`east`) or FQDN.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "kebab-case")]
pub enum Command {
    /// Adds a user.
    UserAdd {
        /// The new user.
        user: String,
        /// Its password (never stored in clear).
        password: String,
        /// Shown to others.
        display_name: Option<String>,
        /// Home pool; the answering server's if absent.
        pool: Option<String>,
    },
    /// Lists users, in order, after a name.
    UserList {
        /// Start after this user.
        after: Option<String>,
        /// At most this many (1–1000).
        limit: u32,
    },
    /// Shows one user.
    UserShow {
        /// Who.
        user: String,
    },
    /// Removes a user with all its records.
    UserRemove {
        /// Who.
        user: String,
    },
    /// Sets a password.
    UserPassword {
        /// Who.
        user: String,
        /// New password.
        password: String,
    },
    /// Where a user is: home and serving pool, bindings, flows, reachable or stranded.
    UserWhere {
        /// Who.
        user: String,
    },
    /// Whom the Authorization header of an HTTP request proves (RFC 7616, SHA-256). The API asks it for its own routes.
    UserProve {
        /// The header's value, if there is one.
        authorization: Option<String>,
        /// The request's method.
        method: String,
        /// The request's target: path and query, as sent.
        target: String,
    },
    /// Imports users, at most 1000 rows a call, rows beyond that are refused; repeating it is harmless.
    UserImport {
        /// Rows.
        rows: Vec<ImportRow>,
    },
    /// Lists registrations (of one user, or all in order after a name).
    RegistrationList {
        /// Only this user.
        user: Option<String>,
        /// Start after this user.
        after: Option<String>,
        /// At most this many users (1–1000).
        limit: u32,
    },
    /// Drops a user's registrations (one by contact, or all).
    RegistrationDrop {
        /// Who.
        user: String,
        /// Only the binding with this contact URI.
        contact: Option<String>,
    },
    /// Lists a user's contacts.
    ContactList {
        /// Whose.
        user: String,
    },
    /// Adds or changes a contact.
    ContactPut {
        /// Whose list.
        user: String,
        /// The contact's address.
        contact: String,
        /// Its name.
        name: String,
        /// Groups that it is in.
        groups: Vec<String>,
        /// De-duplication: (client session, counter). The same pair is applied once, also across a failover.
        op: Option<(String, u64)>,
    },
    /// Removes a contact.
    ContactRemove {
        /// Whose list.
        user: String,
        /// The contact's address.
        contact: String,
        /// De-duplication, as in `ContactPut`.
        op: Option<(String, u64)>,
    },
    /// Reads a user's settings.
    SettingsGet {
        /// Whose.
        user: String,
    },
    /// Changes a user's settings; absent fields stay.
    SettingsPut {
        /// Whose.
        user: String,
        /// Shown to others.
        display_name: Option<String>,
        /// Call-forward target; empty string clears it.
        forward_to: Option<String>,
        /// A note; empty string clears it.
        note: Option<String>,
    },
    /// Status of pools, pairing and lag, both directions.
    PoolStatus,
    /// Servers and copies of a pool: who is up, who leads what, which groups have a majority, what may fail now.
    PoolHealth {
        /// The pool; all, if absent.
        pool: Option<String>,
        /// Only what the answering server itself has: the servers of a pool ask each other so.
        #[serde(default)]
        part: bool,
    },
    /// Has a server pass on all that it leads, and waits until it does and sets up no call; else nothing changes.
    ServerDrain {
        /// Its name.
        server: String,
        /// How long that may take.
        seconds: u64,
    },
    /// Takes that back.
    ServerUndrain {
        /// Its name.
        server: String,
    },
    /// Ends a drained server's process in order and starts it again.
    ServerRestart {
        /// Its name.
        server: String,
    },
    /// Ships everything now and answers when the partner has all that was committed before the call.
    PoolSync {
        /// Source pool.
        pool: String,
    },
    /// Compares both copies of all groups of a pool.
    PoolVerify {
        /// Home pool of the groups.
        pool: String,
    },
    /// Pairs two running pools.
    PoolPair {
        /// One.
        a: String,
        /// The other.
        b: String,
        /// Reason to accept an unsupported pairing, recorded.
        accept_unsupported: Option<String>,
    },
    /// Ends a pairing; both keep serving their own users.
    PoolUnpair {
        /// One.
        a: String,
        /// The other.
        b: String,
    },
    /// Fails a pool over to its partner.
    PoolFailover {
        /// The affected pool.
        pool: String,
        /// The source cannot take part.
        disaster: bool,
        /// Print plan and findings, change nothing.
        dry_run: bool,
        /// Go on although the pool is healthy.
        force: bool,
        /// The administrator's confirmation of the recovery point (disaster): `"yes"`. Force does not stand for it.
        confirm: Option<String>,
        /// Why, for the report.
        reason: Option<String>,
    },
    /// Fails a pool back to its home.
    PoolFailback {
        /// The affected pool (same name as in the failover).
        pool: String,
        /// The partner is lost: the home pool takes its groups back with what it has itself.
        #[serde(default)]
        disaster: bool,
        /// Print plan and findings, change nothing.
        dry_run: bool,
        /// Accept the findings that may be accepted.
        #[serde(default)]
        force: bool,
        /// As in `PoolFailover`: the partner is off.
        #[serde(default)]
        confirm: Option<String>,
        /// Why, for the report.
        reason: Option<String>,
    },
    /// Asserts that this pool holds the current epochs (cold start with the partner away).
    PoolAssertActive {
        /// The pool of the answering server.
        pool: String,
        /// Why, for the audit.
        reason: Option<String>,
    },
    /// Lists the divergent tail of a pool, or offers it entry by entry.
    PoolDivergence {
        /// The returned pool.
        pool: String,
        /// Apply what can be applied.
        apply: bool,
    },
    /// Gives up the entries of a pool's divergent tail that are in conflict: nothing waits for them any more.
    PoolDivergenceSettle {
        /// The returned pool.
        pool: String,
    },
    /// Moves the management store to the partner.
    ManagementFailover {
        /// Without the source's help.
        disaster: bool,
        /// Print plan and findings, change nothing.
        dry_run: bool,
        /// Accept the findings that may be accepted.
        #[serde(default)]
        force: bool,
        /// As in `PoolFailover`.
        confirm: Option<String>,
        /// Why, for the report.
        reason: Option<String>,
    },
    /// Lists procedures, newest first.
    ProcedureList,
    /// Shows one procedure with plan, steps and report.
    ProcedureShow {
        /// Its id, in hex, or a unique beginning of it.
        id: String,
    },
    /// Resumes a stopped or interrupted procedure.
    ProcedureResume {
        /// Its id.
        id: String,
    },
    /// Aborts a procedure; `reclaim` takes groups back whose handover the target never got (target is off).
    ProcedureAbort {
        /// Its id.
        id: String,
        /// Confirmation that the target is off.
        reclaim: bool,
    },
    /// Readiness: the findings of preflight for failing this pool over.
    Preflight {
        /// The pool that would be failed over.
        pool: String,
    },
    /// The published topology, as TOML.
    TopologyShow,
    /// Publishes a topology document in the place of the present one.
    TopologyPublish {
        /// As TOML.
        document: String,
        /// Print the plan, change nothing.
        #[serde(default)]
        dry_run: bool,
    },
    /// Health and metrics of the answering server, for `/metrics` and `/health`.
    ServerStatus,
    /// Groups that have copies in a pool, each with its copies there and its recoveries; or one of them.
    GroupList {
        /// The pool.
        pool: String,
        /// Only this one: its number, `home/number`, or `cms`.
        #[serde(default)]
        group: Option<String>,
    },
    /// The copies of the answering server: the servers of a pool ask each other so.
    GroupCopies,
    /// Has groups that have lost their majority for good go on with the copy that is left; without confirmation only says what that would mean.
    GroupRecover {
        /// The pool.
        pool: String,
        /// Which groups, as in `GroupList`.
        #[serde(default)]
        groups: Vec<String>,
        /// All that have no majority.
        #[serde(default)]
        all: bool,
        /// `"yes"`: the servers whose copies are given up never come back with their disks, and what may be lost is accepted.
        #[serde(default)]
        confirm: Option<String>,
        /// Why, for the record.
        #[serde(default)]
        reason: Option<String>,
    },
    /// From a server of the pool that carries that out: the copy here goes on alone.
    GroupSurvive {
        /// Which group, as `home/number`.
        group: String,
        /// The order's number, in hex.
        order: String,
        /// Who gave it.
        operator: String,
        /// What is written down of it in the group's log.
        plan: String,
        /// Where the partner's copy stands, and its digest there, if that is known.
        #[serde(default)]
        partner: Option<(pairline_group::Position, [u8; 32])>,
    },
    /// From a disaster procedure at the partner: stop serving these groups. Over the link, or proven by the deployment's secret.
    Fence {
        /// The procedure, in hex.
        procedure: String,
        /// Number of the pool that will serve.
        by: u16,
        /// Groups as `pool/index@epoch.granted-by`, with the latest epoch that the procedure knows.
        groups: Vec<String>,
        /// Hash of the rest, keyed with the deployment's secret, in hex.
        proof: String,
    },
    /// For the shell: outcome of [`crate::io::Output::TryFence`].
    FenceAnswer {
        /// The request.
        id: u64,
        /// Whether the server answered.
        alive: bool,
        /// Whether it has stopped serving.
        #[serde(default)]
        fenced: bool,
    },
}

/// One row of a user import.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImportRow {
    /// The user.
    pub user: String,
    /// Password.
    pub password: String,
    /// Shown to others.
    #[serde(default)]
    pub display_name: Option<String>,
    /// Home pool; the answering server's if absent.
    #[serde(default)]
    pub pool: Option<String>,
    /// Contacts to put into the user's list.
    #[serde(default)]
    pub contacts: Vec<String>,
}

/// An answer: a typed value for machines. The CLI prints it in words, the API as JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "kebab-case")]
pub enum Reply {
    /// Done; in words.
    Ok {
        /// What was done.
        message: String,
    },
    /// Users.
    Users {
        /// In order.
        users: Vec<crate::view::UserView>,
        /// Where the next page starts, if there is one.
        next: Option<String>,
    },
    /// One user's place and bindings.
    Where(crate::view::WhereView),
    /// What an Authorization header proves.
    Proof {
        /// The user; absent: nobody, so answer 401 with the challenge.
        user: Option<String>,
        /// Value of WWW-Authenticate.
        challenge: Option<String>,
    },
    /// Result of an import call.
    Imported {
        /// Rows that are there now.
        added: u64,
        /// Rows that were there before.
        unchanged: u64,
        /// Rows refused, with reasons (at most 100).
        refused: Vec<(String, String)>,
        /// How many rows were refused in all.
        #[serde(default)]
        refused_count: u64,
        /// Numbers of rows, from 0, that a passing obstacle stopped: give them again.
        #[serde(default)]
        unfinished: Vec<u32>,
    },
    /// Registrations.
    Registrations {
        /// One per binding.
        registrations: Vec<crate::view::BindingView>,
        /// Where the next page starts, if there is one.
        next: Option<String>,
    },
    /// A contact list.
    Contacts {
        /// In order of address.
        contacts: Vec<crate::view::ContactView>,
        /// Whether it was read in resiliency mode (changes would be refused).
        read_only: bool,
    },
    /// A user's settings.
    Settings(crate::view::SettingsView),
    /// Status of all pools.
    Pools(crate::view::PoolsView),
    /// Health of pools' servers and copies.
    Health(crate::view::HealthView),
    /// What one server has of it.
    HealthPart {
        /// Its copies.
        copies: Vec<crate::view::CopyView>,
    },
    /// Outcome of a verification.
    Verify(crate::view::VerifyView),
    /// A plan with its findings (dry run, preflight).
    Plan(crate::view::PlanView),
    /// A procedure that was started or goes on.
    Procedure(crate::view::ProcedureView),
    /// Procedures, newest first.
    Procedures {
        /// Each.
        procedures: Vec<crate::view::ProcedureView>,
    },
    /// The divergent tail and what became of it.
    Divergence(crate::view::DivergenceView),
    /// A document.
    Text {
        /// Its text.
        text: String,
    },
    /// Health and metrics.
    Status(crate::view::StatusView),
    /// Groups and their copies.
    Groups(crate::view::GroupsView),
    /// The copies of one server.
    GroupCopies {
        /// One per group.
        copies: Vec<crate::view::GroupCopy>,
    },
    /// Plan or outcome of a recovery of groups.
    GroupRecovery(crate::view::GroupRecoveryView),
    /// A copy goes on alone.
    GroupSurvived {
        /// From where.
        at: pairline_group::Position,
    },
}

/// An error, as RFC 9457 problem details: what was wrong and what to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{title}: {detail}")]
pub struct Problem {
    /// HTTP status that fits.
    pub status: u16,
    /// Short name of the kind, stable (`no-such-user`, `resiliency-mode`, …); the API prefixes it to a URI.
    pub kind: String,
    /// One line.
    pub title: String,
    /// This occurrence.
    pub detail: String,
    /// What to do.
    pub remedy: String,
}
