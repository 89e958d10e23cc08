//! From a request's members to a command: one small function a route.
//!
//! Owns the mapping. Does not own which members exist (`routes`) or what commands mean (the node).

use super::params::Params;
use super::problem::bad_request;
use pairline_node::command::{Command, ImportRow, Problem};

type Built = Result<Command, Problem>;

/// Most rows that one import call takes.
pub const IMPORT_ROWS: usize = 1000;

/// `GET /users`.
pub fn user_list(p: &Params) -> Built {
    Ok(Command::UserList { after: p.query("after"), limit: p.query_number("limit", 100, 1, 1000)? })
}

/// `POST /users`.
pub fn user_add(p: &Params) -> Built {
    Ok(Command::UserAdd {
        user: p.need("user")?,
        password: p.need("password")?,
        display_name: p.get("display_name")?,
        pool: p.get("pool")?,
    })
}

/// `POST /users/import`.
pub fn user_import(p: &Params) -> Built {
    let rows: Vec<ImportRow> = p.need("rows")?;
    check_rows(&rows)?;
    Ok(Command::UserImport { rows })
}

/// Refuses an import of more rows than one call takes, by whichever route it comes.
pub fn check_rows(rows: &[ImportRow]) -> Result<(), Problem> {
    if rows.len() > IMPORT_ROWS {
        return Err(bad_request(format!("{} rows; one call takes at most {IMPORT_ROWS}.", rows.len())));
    }
    Ok(())
}

/// `GET /users/{user}`.
pub fn user_show(p: &Params) -> Built {
    Ok(Command::UserShow { user: p.path("user")? })
}

/// `DELETE /users/{user}`.
pub fn user_remove(p: &Params) -> Built {
    Ok(Command::UserRemove { user: p.path("user")? })
}

/// `PUT /users/{user}/password`.
pub fn user_password(p: &Params) -> Built {
    Ok(Command::UserPassword { user: p.path("user")?, password: p.need("password")? })
}

/// `GET /users/{user}/where`.
pub fn user_where(p: &Params) -> Built {
    Ok(Command::UserWhere { user: p.path("user")? })
}

/// `GET /users/{user}/contacts`.
pub fn contact_list(p: &Params) -> Built {
    Ok(Command::ContactList { user: p.path("user")? })
}

/// `PUT /users/{user}/contacts/{contact}`.
pub fn contact_put(p: &Params) -> Built {
    Ok(Command::ContactPut {
        user: p.path("user")?,
        contact: p.path("contact")?,
        name: p.get("name")?.unwrap_or_default(),
        groups: p.list("groups")?,
        op: p.get("op")?,
    })
}

/// `DELETE /users/{user}/contacts/{contact}`.
pub fn contact_remove(p: &Params) -> Built {
    Ok(Command::ContactRemove { user: p.path("user")?, contact: p.path("contact")?, op: p.get("op")? })
}

/// `GET /users/{user}/settings`.
pub fn settings_get(p: &Params) -> Built {
    Ok(Command::SettingsGet { user: p.path("user")? })
}

/// `PATCH /users/{user}/settings`.
pub fn settings_put(p: &Params) -> Built {
    Ok(Command::SettingsPut {
        user: p.path("user")?,
        display_name: p.get("display_name")?,
        forward_to: p.get("forward_to")?,
        note: p.get("note")?,
    })
}

/// `GET /registrations`.
pub fn registration_list(p: &Params) -> Built {
    Ok(Command::RegistrationList { user: None, after: p.query("after"), limit: p.query_number("limit", 100, 1, 1000)? })
}

/// `GET /users/{user}/registrations`.
pub fn registration_of(p: &Params) -> Built {
    Ok(Command::RegistrationList { user: Some(p.path("user")?), after: None, limit: 1 })
}

/// `DELETE /users/{user}/registrations`.
pub fn registration_drop(p: &Params) -> Built {
    Ok(Command::RegistrationDrop { user: p.path("user")?, contact: p.query("contact") })
}

/// `GET /pools`.
pub fn pool_status(_: &Params) -> Built {
    Ok(Command::PoolStatus)
}

/// `GET /health` below the API's root.
pub fn health(_: &Params) -> Built {
    Ok(Command::PoolHealth { pool: None, part: false })
}

/// `GET /pools/{pool}/health`.
pub fn pool_health(p: &Params) -> Built {
    Ok(Command::PoolHealth { pool: Some(p.path("pool")?), part: false })
}

/// `POST /servers/{server}/drain`.
pub fn server_drain(p: &Params) -> Built {
    let seconds = p.get("seconds")?.unwrap_or(60_u64);
    if !(1..=3_600).contains(&seconds) {
        return Err(Problem::new(
            400,
            "bad-field",
            "a field is out of range",
            "seconds: 1 to 3600",
            "give another number",
        ));
    }
    Ok(Command::ServerDrain { server: p.path("server")?, seconds })
}

/// `POST /servers/{server}/undrain`.
pub fn server_undrain(p: &Params) -> Built {
    Ok(Command::ServerUndrain { server: p.path("server")? })
}

/// `POST /servers/{server}/restart`.
pub fn server_restart(p: &Params) -> Built {
    Ok(Command::ServerRestart { server: p.path("server")? })
}

/// `POST /pools/{pool}/sync`.
pub fn pool_sync(p: &Params) -> Built {
    Ok(Command::PoolSync { pool: p.path("pool")? })
}

/// `POST /pools/{pool}/verify`.
pub fn pool_verify(p: &Params) -> Built {
    Ok(Command::PoolVerify { pool: p.path("pool")? })
}

/// `POST /pools/{pool}/pair`.
pub fn pool_pair(p: &Params) -> Built {
    Ok(Command::PoolPair { a: p.path("pool")?, b: p.need("with")?, accept_unsupported: p.get("accept_unsupported")? })
}

/// `POST /pools/{pool}/unpair`.
pub fn pool_unpair(p: &Params) -> Built {
    Ok(Command::PoolUnpair { a: p.path("pool")?, b: p.need("with")? })
}

/// `POST /pools/{pool}/failover`.
pub fn pool_failover(p: &Params) -> Built {
    Ok(Command::PoolFailover {
        pool: p.path("pool")?,
        disaster: p.flag("disaster")?,
        dry_run: p.flag("dry_run")?,
        force: p.flag("force")?,
        confirm: p.get("confirm")?,
        reason: p.get("reason")?,
    })
}

/// `POST /pools/{pool}/failback`.
pub fn pool_failback(p: &Params) -> Built {
    Ok(Command::PoolFailback {
        pool: p.path("pool")?,
        disaster: p.flag("disaster")?,
        dry_run: p.flag("dry_run")?,
        force: p.flag("force")?,
        confirm: p.get("confirm")?,
        reason: p.get("reason")?,
    })
}

/// `POST /pools/{pool}/assert-active`.
pub fn pool_assert_active(p: &Params) -> Built {
    Ok(Command::PoolAssertActive { pool: p.path("pool")?, reason: p.get("reason")? })
}

/// `GET /pools/{pool}/groups`.
pub fn group_list(p: &Params) -> Built {
    Ok(Command::GroupList { pool: p.path("pool")?, group: p.query("group") })
}

/// `POST /pools/{pool}/groups/recover`.
pub fn group_recover(p: &Params) -> Built {
    Ok(Command::GroupRecover {
        pool: p.path("pool")?,
        groups: p.list("groups")?,
        all: p.flag("all")?,
        confirm: p.get("confirm")?,
        reason: p.get("reason")?,
    })
}

/// `GET /pools/{pool}/divergence`.
pub fn divergence_list(p: &Params) -> Built {
    Ok(Command::PoolDivergence { pool: p.path("pool")?, apply: false })
}

/// `POST /pools/{pool}/divergence`.
pub fn divergence_apply(p: &Params) -> Built {
    Ok(Command::PoolDivergence { pool: p.path("pool")?, apply: true })
}

/// `DELETE /pools/{pool}/divergence`.
pub fn divergence_settle(p: &Params) -> Built {
    Ok(Command::PoolDivergenceSettle { pool: p.path("pool")? })
}

/// `GET /pools/{pool}/preflight`.
pub fn preflight(p: &Params) -> Built {
    Ok(Command::Preflight { pool: p.path("pool")? })
}

/// `POST /management/failover`.
pub fn management_failover(p: &Params) -> Built {
    Ok(Command::ManagementFailover {
        disaster: p.flag("disaster")?,
        dry_run: p.flag("dry_run")?,
        force: p.flag("force")?,
        confirm: p.get("confirm")?,
        reason: p.get("reason")?,
    })
}

/// `POST /fence`.
pub fn fence(p: &Params) -> Built {
    Ok(Command::Fence {
        procedure: p.need("procedure")?,
        by: p.need("by")?,
        groups: p.need("groups")?,
        proof: p.need("proof")?,
    })
}

/// `GET /procedures`.
pub fn procedure_list(_: &Params) -> Built {
    Ok(Command::ProcedureList)
}

/// `GET /procedures/{id}`.
pub fn procedure_show(p: &Params) -> Built {
    Ok(Command::ProcedureShow { id: p.path("id")? })
}

/// `POST /procedures/{id}/resume`.
pub fn procedure_resume(p: &Params) -> Built {
    Ok(Command::ProcedureResume { id: p.path("id")? })
}

/// `POST /procedures/{id}/abort`.
pub fn procedure_abort(p: &Params) -> Built {
    Ok(Command::ProcedureAbort { id: p.path("id")?, reclaim: p.flag("reclaim")? })
}

/// `GET /topology`.
pub fn topology_show(_: &Params) -> Built {
    Ok(Command::TopologyShow)
}

/// `PUT /topology`.
pub fn topology_publish(p: &Params) -> Built {
    Ok(Command::TopologyPublish { document: p.need("document")?, dry_run: p.flag("dry_run")? })
}

/// `GET /status`.
pub fn server_status(_: &Params) -> Built {
    Ok(Command::ServerStatus)
}
