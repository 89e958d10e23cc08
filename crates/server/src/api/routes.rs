//! The one table of routes: the router and the OpenAPI document are both made from it.
//!
//! Owns which route exists, who may use it and what it takes. Does not own how commands are built from it (`build`).

use super::build;
use super::params::Params;
use super::traces;
use crate::capture::TraceOrder;
use pairline_node::command::{Command, Problem};

/// HTTP methods in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Starts or does something.
    Post,
    /// Creates or replaces.
    Put,
    /// Changes some members.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    /// As in a request line.
    pub fn as_str(self) -> &'static str {
        match self {
            Verb::Get => "GET",
            Verb::Post => "POST",
            Verb::Put => "PUT",
            Verb::Patch => "PATCH",
            Verb::Delete => "DELETE",
        }
    }
}

/// Who may use a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Everyone: says nothing but that the process lives.
    Open,
    /// Everyone on this machine; others with the administrator's token.
    Local,
    /// The administrator.
    Administrator,
    /// The administrator, and the user that the path names (by its own token, or by digest with its password).
    Owner,
}

/// What a route does.
#[derive(Clone, Copy)]
pub enum Action {
    /// Builds a command and answers with its reply.
    Command(fn(&Params) -> Result<Command, Problem>),
    /// Takes any command as it is.
    AnyCommand,
    /// Carries an order about a trace out.
    Trace(fn(&Params) -> Result<TraceOrder, Problem>),
    /// Issues a user's token.
    UserToken,
    /// Serves the OpenAPI document.
    OpenApi,
    /// Says that the process lives.
    Health,
    /// Metrics in Prometheus' text format.
    Metrics,
}

/// Type of a member, in JSON Schema's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Text,
    /// A whole number.
    Number,
    /// True or false.
    Flag,
    /// A list of texts.
    Texts,
    /// Client session (text) and counter (number).
    Operation,
    /// Rows of an import.
    Rows,
}

/// One member of query or body.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    /// Its name.
    pub name: &'static str,
    /// Its type.
    pub kind: Kind,
    /// Whether it must be there.
    pub required: bool,
    /// What it means.
    pub about: &'static str,
}

/// One route.
#[derive(Clone, Copy)]
pub struct Route {
    /// Method.
    pub verb: Verb,
    /// Path with `{members}`.
    pub path: &'static str,
    /// One line.
    pub summary: &'static str,
    /// Who may.
    pub access: Access,
    /// Members of the query.
    pub query: &'static [Field],
    /// Members of the body; empty = no body is read.
    pub body: &'static [Field],
    /// What it does.
    pub action: Action,
}

const fn need(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: true, about }
}

const fn may(name: &'static str, kind: Kind, about: &'static str) -> Field {
    Field { name, kind, required: false, about }
}

const PAGE: &[Field] =
    &[may("after", Kind::Text, "start after this user"), may("limit", Kind::Number, "at most this many, 1 to 1000")];
const OPERATION: Field =
    may("op", Kind::Operation, "client session and counter: the same pair is applied once, also across a failover");
const REASON: Field = may("reason", Kind::Text, "why, for report and audit");
const DRY_RUN: Field = may("dry_run", Kind::Flag, "findings and plan only");
const FORCE: Field = may("force", Kind::Flag, "accept the findings that may be accepted");
const CONFIRM: Field =
    may("confirm", Kind::Text, "`yes`: the pool that is left is off, or what it still commits is accepted as its tail");

const fn get(path: &'static str, summary: &'static str, make: fn(&Params) -> Result<Command, Problem>) -> Route {
    Route {
        verb: Verb::Get,
        path,
        summary,
        access: Access::Administrator,
        query: &[],
        body: &[],
        action: Action::Command(make),
    }
}

const fn act(
    verb: Verb,
    path: &'static str,
    summary: &'static str,
    body: &'static [Field],
    make: fn(&Params) -> Result<Command, Problem>,
) -> Route {
    Route { verb, path, summary, access: Access::Administrator, query: &[], body, action: Action::Command(make) }
}

impl Route {
    const fn with_query(mut self, query: &'static [Field]) -> Route {
        self.query = query;
        self
    }

    const fn owned(mut self) -> Route {
        self.access = Access::Owner;
        self
    }

    const fn special(
        verb: Verb,
        path: &'static str,
        summary: &'static str,
        access: Access,
        body: &'static [Field],
        action: Action,
    ) -> Route {
        Route { verb, path, summary, access, query: &[], body, action }
    }
}

/// Every route of the API.
pub const ROUTES: &[Route] = &[
    Route::special(Verb::Get, "/health", "Whether the process lives", Access::Open, &[], Action::Health),
    Route::special(Verb::Get, "/metrics", "Metrics in Prometheus' text format", Access::Local, &[], Action::Metrics),
    Route::special(Verb::Get, "/openapi.json", "This document", Access::Open, &[], Action::OpenApi),
    Route::special(
        Verb::Post,
        "/api/v1/command",
        "Any command, as its JSON",
        Access::Administrator,
        &[need("command", Kind::Text, "which command, in kebab case; its members stand beside it")],
        Action::AnyCommand,
    ),
    Route::special(
        Verb::Post,
        "/api/v1/fence",
        "Stand down: order of the partner's disaster procedure, proven by the deployment's secret",
        Access::Open,
        &[
            need("procedure", Kind::Text, "the procedure, in hexadecimal"),
            need("by", Kind::Number, "number of the pool that will serve"),
            need("groups", Kind::Texts, "groups with the latest epoch that is meant: pool/index@epoch.granted-by"),
            need("proof", Kind::Text, "keyed hash of the rest, in hexadecimal"),
        ],
        Action::Command(build::fence),
    ),
    get("/api/v1/users", "List users", build::user_list).with_query(PAGE),
    act(
        Verb::Post,
        "/api/v1/users",
        "Add a user",
        &[
            need("user", Kind::Text, "name or name@domain"),
            need("password", Kind::Text, "its password; never stored in clear"),
            may("display_name", Kind::Text, "shown to others"),
            may("pool", Kind::Text, "home pool; default: the answering server's"),
        ],
        build::user_add,
    ),
    act(
        Verb::Post,
        "/api/v1/users/import",
        "Import up to 1000 users; repeating it is harmless",
        &[need("rows", Kind::Rows, "user, password, display_name, pool, contacts")],
        build::user_import,
    ),
    get("/api/v1/users/{user}", "Show a user", build::user_show),
    act(Verb::Delete, "/api/v1/users/{user}", "Remove a user with everything it has", &[], build::user_remove),
    act(
        Verb::Put,
        "/api/v1/users/{user}/password",
        "Set a password",
        &[need("password", Kind::Text, "the new password")],
        build::user_password,
    ),
    get("/api/v1/users/{user}/where", "Home and serving pool, bindings, flows", build::user_where),
    Route::special(
        Verb::Post,
        "/api/v1/users/{user}/token",
        "Issue a bearer token for the user's own contacts and settings",
        Access::Administrator,
        &[may("hours", Kind::Number, "how long it is valid, 1 to 8760; default 24")],
        Action::UserToken,
    ),
    get("/api/v1/users/{user}/contacts", "List a user's contacts", build::contact_list).owned(),
    act(
        Verb::Put,
        "/api/v1/users/{user}/contacts/{contact}",
        "Add or change a contact",
        &[may("name", Kind::Text, "its name"), may("groups", Kind::Texts, "groups that it is in"), OPERATION],
        build::contact_put,
    )
    .owned(),
    act(
        Verb::Delete,
        "/api/v1/users/{user}/contacts/{contact}",
        "Remove a contact",
        &[OPERATION],
        build::contact_remove,
    )
    .owned(),
    get("/api/v1/users/{user}/settings", "Read a user's settings", build::settings_get).owned(),
    act(
        Verb::Patch,
        "/api/v1/users/{user}/settings",
        "Change a user's settings; absent members stay",
        &[
            may("display_name", Kind::Text, "shown to others"),
            may("forward_to", Kind::Text, "call-forward target; empty clears it"),
            may("note", Kind::Text, "a note; empty clears it"),
        ],
        build::settings_put,
    )
    .owned(),
    get("/api/v1/registrations", "List registrations", build::registration_list).with_query(PAGE),
    get("/api/v1/users/{user}/registrations", "List a user's registrations", build::registration_of),
    act(
        Verb::Delete,
        "/api/v1/users/{user}/registrations",
        "Drop a user's registrations",
        &[],
        build::registration_drop,
    )
    .with_query(&[may("contact", Kind::Text, "only the binding with this contact URI")]),
    get("/api/v1/pools", "Status of all pools, both directions of shipping", build::pool_status),
    get("/api/v1/health", "Servers and copies of all pools: who is up, what may fail now", build::health),
    get("/api/v1/pools/{pool}/health", "The same of one pool", build::pool_health),
    act(
        Verb::Post,
        "/api/v1/servers/{server}/drain",
        "Have a server pass on all that it leads, before it is stopped",
        &[may("seconds", Kind::Number, "how long that may take, 1 to 3600; default 60. After it all is as it was")],
        build::server_drain,
    ),
    act(Verb::Post, "/api/v1/servers/{server}/undrain", "Take a drain back", &[], build::server_undrain),
    act(
        Verb::Post,
        "/api/v1/servers/{server}/restart",
        "End a drained server's process in order and start it again",
        &[],
        build::server_restart,
    ),
    act(Verb::Post, "/api/v1/pools/{pool}/sync", "Ship everything now", &[], build::pool_sync),
    act(Verb::Post, "/api/v1/pools/{pool}/verify", "Prove both copies equal", &[], build::pool_verify),
    act(
        Verb::Post,
        "/api/v1/pools/{pool}/pair",
        "Pair two running pools",
        &[
            need("with", Kind::Text, "the other pool"),
            may("accept_unsupported", Kind::Text, "reason to accept an unsupported pairing"),
        ],
        build::pool_pair,
    ),
    act(
        Verb::Post,
        "/api/v1/pools/{pool}/unpair",
        "End a pairing",
        &[need("with", Kind::Text, "the other pool")],
        build::pool_unpair,
    ),
    act(
        Verb::Post,
        "/api/v1/pools/{pool}/failover",
        "Fail a pool over to its partner",
        &[
            may("disaster", Kind::Flag, "the pool cannot take part"),
            DRY_RUN,
            may("force", Kind::Flag, "go on although the pool is healthy"),
            CONFIRM,
            REASON,
        ],
        build::pool_failover,
    ),
    act(
        Verb::Post,
        "/api/v1/pools/{pool}/failback",
        "Fail a pool back to its home",
        &[
            may("disaster", Kind::Flag, "the partner is lost: the home pool takes its groups back with what it has"),
            DRY_RUN,
            FORCE,
            CONFIRM,
            REASON,
        ],
        build::pool_failback,
    ),
    act(
        Verb::Post,
        "/api/v1/pools/{pool}/assert-active",
        "Assert that the answering pool holds the current epochs",
        &[REASON],
        build::pool_assert_active,
    ),
    get("/api/v1/pools/{pool}/groups", "Groups that have copies in a pool, with each copy", build::group_list)
        .with_query(&[may("group", Kind::Text, "only this one: its number, home pool and number, or `cms`")]),
    act(
        Verb::Post,
        "/api/v1/pools/{pool}/groups/recover",
        "Have groups that lost their majority for good go on with the copy that is left; without confirm only the plan",
        &[
            may("groups", Kind::Texts, "which, as above"),
            may("all", Kind::Flag, "all that have no majority"),
            may("confirm", Kind::Text, "`yes`: the copies given up never come back, and what may be lost is accepted"),
            REASON,
        ],
        build::group_recover,
    ),
    get("/api/v1/pools/{pool}/divergence", "The divergent tail of a pool", build::divergence_list),
    act(
        Verb::Post,
        "/api/v1/pools/{pool}/divergence",
        "Offer the divergent tail, entry by entry",
        &[],
        build::divergence_apply,
    ),
    act(
        Verb::Delete,
        "/api/v1/pools/{pool}/divergence",
        "Give up what is in conflict in the divergent tail",
        &[],
        build::divergence_settle,
    ),
    get("/api/v1/pools/{pool}/preflight", "Whether the pool could be failed over now", build::preflight),
    act(
        Verb::Post,
        "/api/v1/management/failover",
        "Move the management store to the partner",
        &[may("disaster", Kind::Flag, "without the source's help"), DRY_RUN, FORCE, CONFIRM, REASON],
        build::management_failover,
    ),
    get("/api/v1/procedures", "List procedures, newest first", build::procedure_list),
    get("/api/v1/procedures/{id}", "Show a procedure with plan, steps and report", build::procedure_show),
    act(Verb::Post, "/api/v1/procedures/{id}/resume", "Resume a procedure", &[], build::procedure_resume),
    act(
        Verb::Post,
        "/api/v1/procedures/{id}/abort",
        "Abort a procedure",
        &[may("reclaim", Kind::Flag, "take groups back whose handover the target never got; the target is off")],
        build::procedure_abort,
    ),
    Route::special(
        Verb::Post,
        "/api/v1/traces",
        "Trace a user's messages on the answering server, for a time",
        Access::Administrator,
        &[
            need("user", Kind::Text, "name or name@domain"),
            may("seconds", Kind::Number, "how long, 1 to 3600; default 60. A trace that is not read for 30 s ends"),
        ],
        Action::Trace(traces::start),
    ),
    Route::special(
        Verb::Get,
        "/api/v1/traces/{id}",
        "Messages of a trace, after a number",
        Access::Administrator,
        &[],
        Action::Trace(traces::read),
    )
    .with_query(&[may("after", Kind::Number, "the last message that is known already; those up to it are let go")]),
    Route::special(
        Verb::Delete,
        "/api/v1/traces/{id}",
        "End a trace",
        Access::Administrator,
        &[],
        Action::Trace(traces::stop),
    ),
    get("/api/v1/topology", "The published topology, as TOML", build::topology_show),
    act(
        Verb::Put,
        "/api/v1/topology",
        "Publish a topology in the place of the present one",
        &[need("document", Kind::Text, "the whole document, as TOML"), DRY_RUN],
        build::topology_publish,
    ),
    get("/api/v1/status", "Health and numbers of the answering server", build::server_status),
];
