//! The demo's users: their passwords, their client configurations, and adding them through the admin API.
//!
//! Owns which users a new demo has. Passwords lie in the data folder, readable by its owner only.

use super::clients::{self, ClientFiles};
use super::create::{self, CreateError};
use super::layout::Layout;
use crate::cli::import;
use crate::client::{Access, CallError};
use crate::tls::files;
use pairline_node::command::ImportRow;
use pairline_topology::Topology;
use std::time::{Duration, Instant};

/// Name, first name and the number of its home pool among the topology's pools; the first, where there are not so many.
const DEMO: [(&str, &str, usize); 4] =
    [("alice", "Alice", 0), ("bob", "Bob", 0), ("carol", "Carol", 1), ("dave", "Dave", 1)];

/// One demo user as it is printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DemoUser {
    /// Name without domain.
    pub name: String,
    /// Home pool.
    pub pool: String,
    /// Its password.
    pub password: String,
}

/// Writes passwords and client configurations of the demo's users into a new folder.
pub fn prepare(layout: &Layout, topology: &Topology) -> Result<(), CreateError> {
    for (index, (name, first, pool)) in DEMO.iter().enumerate() {
        let Some(home) = topology.pool.get(*pool).or(topology.pool.first()) else { continue };
        let display = display_name(first, &home.name);
        let password = create::password()?;
        files::write_private(&layout.client(name).join("password"), format!("{password}\n").as_bytes())?;
        let authority = layout.authority_certificate();
        let files = ClientFiles::new(topology, &authority, home.id, name, &display, &password, index);
        for (path, content) in files.all() {
            files::write_private(&layout.client(name).join(path), content.as_bytes())?;
        }
    }
    Ok(())
}

/// A user's name with its pool's as surname, so that people see who is at home where.
fn display_name(first: &str, pool: &str) -> String {
    let mut letters = pool.chars();
    let initial = letters.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
    format!("{first} {initial}{}", letters.as_str())
}

/// The demo's users of a folder, as far as their password files are there.
pub fn of_folder(layout: &Layout, topology: &Topology) -> Vec<DemoUser> {
    DEMO.iter()
        .filter_map(|(name, _, pool)| {
            let password = files::read_private(&layout.client(name).join("password")).ok()?;
            let pool = topology.pool.get(*pool).or(topology.pool.first())?.name.clone();
            let password = String::from_utf8(password).ok()?.trim().to_owned();
            Some(DemoUser { name: (*name).to_owned(), pool, password })
        })
        .collect()
}

/// How long the pools may take to find each other before users that need both are given up.
const TOGETHER: Duration = Duration::from_secs(20);

/// Adds the demo's users once; a user that an administrator removed later does not come back. A user at home on the pool
/// without the management store needs the link between them, which may come up a moment after both pools answer.
///
/// Returns who was not added within [`TOGETHER`], and why: name and reason.
pub async fn add_demo(
    access: &Access,
    layout: &Layout,
    topology: &Topology,
) -> Result<Vec<(String, String)>, CallError> {
    let done = layout.root().join("clients").join("added");
    if done.exists() {
        return Ok(Vec::new());
    }
    let users = of_folder(layout, topology);
    let until = Instant::now() + TOGETHER;
    loop {
        let refused = try_demo(access, &users, topology).await?;
        if refused.is_empty() {
            // Not being able to note it only means that the same harmless import is repeated at the next start.
            let _ = files::write_public(&done, b"added\n");
            return Ok(refused);
        }
        if Instant::now() >= until {
            return Ok(refused);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Adds what is missing; name and reason of those that were refused.
async fn try_demo(
    access: &Access,
    users: &[DemoUser],
    topology: &Topology,
) -> Result<Vec<(String, String)>, CallError> {
    let rows: Vec<ImportRow> = users
        .iter()
        .map(|user| ImportRow {
            user: user.name.clone(),
            password: user.password.clone(),
            display_name: DEMO.iter().find(|demo| demo.0 == user.name).map(|demo| display_name(demo.1, &user.pool)),
            pool: Some(user.pool.clone()),
            contacts: users
                .iter()
                .filter(|other| other.name != user.name)
                .map(|other| format!("sip:{}@{}", other.name, topology.default_domain()))
                .collect(),
        })
        .collect();
    let imported = import::run(access.clone(), rows, 100, false).await?;
    Ok(imported.refusals.into_iter().map(|(user, reason)| (bare(&user).to_owned(), reason)).collect())
}

/// The name of a user as the demo writes it, from any way to write it.
fn bare(user: &str) -> &str {
    let user = user.strip_prefix("sip:").unwrap_or(user);
    user.split_once('@').map_or(user, |(name, _)| name)
}

/// Adds further users `u00001` …, spread over the pools. Passwords are kept in `clients/users.csv`.
pub async fn add_many(
    access: &Access,
    layout: &Layout,
    topology: &Topology,
    count: u32,
) -> Result<import::Imported, super::UpError> {
    let rows = many(topology, count)?;
    let mut csv = String::from("user,password,pool\n");
    for row in &rows {
        csv.push_str(&format!("{},{},{}\n", row.user, row.password, row.pool.as_deref().unwrap_or_default()));
    }
    files::write_private(&layout.root().join("clients").join("users.csv"), csv.as_bytes())
        .map_err(CreateError::from)?;
    Ok(import::run(access.clone(), rows, 500, true).await?)
}

/// Rows of users `u00001` … with random passwords, spread over the pools in turn.
pub fn many(topology: &Topology, count: u32) -> Result<Vec<ImportRow>, CreateError> {
    let pools: Vec<&str> = topology.pool.iter().map(|pool| pool.name.as_str()).collect();
    let mut rows = Vec::new();
    for (number, pool) in (1..=count).zip(pools.iter().cycle()) {
        rows.push(ImportRow {
            user: format!("u{number:05}"),
            password: create::password()?,
            display_name: None,
            pool: Some((*pool).to_owned()),
            contacts: Vec::new(),
        });
    }
    Ok(rows)
}

/// Names of the configurations that each demo user has.
pub fn variants() -> [&'static str; 4] {
    clients::VARIANTS
}
