//! `pairline pool restart`: one upgrade domain after the other, each only while the pool can do without it.
//!
//! Owns the order, the gates and their deadlines. Draining and restarting are the servers'. When this program ends on the way, the
//! servers that were drained are taken back by `pairline server undrain`, or by their restart.

use super::render_health;
use crate::client::{Access, CallError, Prefer, Session};
use pairline_group::ServerId;
use pairline_node::command::{Command, Reply};
use pairline_node::view::{GroupView, StatusView};
use pairline_topology::Topology;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Between two questions.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a pool may take to be healthy before a server is touched, and after.
const HEALTHY: Duration = Duration::from_secs(120);
/// How long a server may take to be back.
const BACK: Duration = Duration::from_secs(60);
/// How long one server may take to answer a question about itself.
const ANSWER: Duration = Duration::from_secs(3);

/// Why a rolling restart stops. Servers that were restarted before are fine; no other was touched.
#[derive(Debug, thiserror::Error)]
pub enum RollingError {
    /// No such pool, or one that cannot do without a server.
    #[error("pool {pool} {why}")]
    Pool {
        /// Which.
        pool: String,
        /// Why not.
        why: &'static str,
    },
    /// The pool did not become healthy.
    #[error("pool {pool} is not healthy after {} s, so no further server is touched; see `pairline pool health {pool}`", HEALTHY.as_secs())]
    NotHealthy {
        /// Which.
        pool: String,
    },
    /// A group would have no majority meanwhile.
    #[error(
        "group {group} would have no majority without {servers}, and still has its copies there after {} s, so no further server is touched; see \
         `pairline group list`",
        HEALTHY.as_secs()
    )]
    Needed {
        /// Which, or one of them.
        group: String,
        /// What was to be restarted.
        servers: String,
    },
    /// A server did not come back.
    #[error("{server} did not come back within {} s; look at its log. No other server was touched", BACK.as_secs())]
    NotBack {
        /// Which.
        server: String,
    },
    /// A server refused, or none answered.
    #[error(transparent)]
    Call(#[from] CallError),
    /// What is published could not be had.
    #[error(transparent)]
    Published(#[from] crate::preflight::PreflightError),
}

/// Restarts every server of a pool, the servers of an upgrade domain together; `told` gets a line per step.
pub async fn restart(
    access: &Access,
    pool: &str,
    deadline: u64,
    mut told: impl FnMut(&str),
) -> Result<(), RollingError> {
    let mut session = Session::new(access.clone());
    // As it is published: a folder may have an older document, by which two copies of a group would be stopped at once.
    let steps = steps(&crate::preflight::published(access).await?, pool)?;
    let of = steps.len();
    for (number, (what, servers)) in steps.iter().enumerate() {
        let what = format!("{what} ({} of {of})", number + 1);
        healthy(&mut session, pool).await?;
        spared(&mut session, pool, servers).await?;
        drain(&mut session, pool, servers, deadline).await?;
        told(&format!("{what}: drained"));
        let begun = Instant::now();
        let mut before = Vec::new();
        for server in servers {
            before.push(status(access, server).await.map(|status| status.start));
            let order = Command::ServerRestart { server: server.clone() };
            session.call(&order, &Prefer::Pool(pool.to_owned())).await?;
        }
        for (server, before) in servers.iter().zip(before) {
            back(access, server, before).await?;
        }
        told(&format!("{what}: back after {:.1} s", begun.elapsed().as_secs_f64()));
    }
    healthy(&mut session, pool).await?;
    told("every server was restarted; the pool is healthy");
    Ok(())
}

/// What is restarted one after the other: a name for it, and its servers.
fn steps(topology: &Topology, pool: &str) -> Result<Vec<(String, Vec<String>)>, RollingError> {
    let refused = |why| RollingError::Pool { pool: pool.to_owned(), why };
    let id = topology.pool.iter().find(|known| known.name == pool).ok_or(refused("is not in the topology"))?.id;
    let servers = topology.voters_of(id);
    if servers.len() < 3 {
        return Err(refused(
            "cannot do without one of its servers: restart them by their service manager, at an hour that suits its users",
        ));
    }
    let mut domains: BTreeMap<(Option<u16>, ServerId), Vec<String>> = BTreeMap::new();
    for server in servers {
        let alone = if server.upgrade_domain.is_some() { ServerId(0) } else { server.id };
        domains.entry((server.upgrade_domain, alone)).or_default().push(server.name.clone());
    }
    let named = |((domain, _), servers): ((Option<u16>, ServerId), Vec<String>)| match domain {
        Some(domain) => (format!("upgrade domain {domain}: {}", servers.join(", ")), servers),
        None => (servers.join(", "), servers),
    };
    Ok(domains.into_iter().map(named).collect())
}

/// Every group must have a majority without these servers, as its leader knows its voters: a domain that was published a moment ago may still
/// have two copies of a group, and the server that says that all is well may not have the document yet.
async fn spared(session: &mut Session, pool: &str, servers: &[String]) -> Result<(), RollingError> {
    let command = Command::GroupList { pool: pool.to_owned(), group: None };
    let until = Instant::now() + HEALTHY;
    loop {
        let Reply::Groups(view) = session.call(&command, &Prefer::Pool(pool.to_owned())).await? else {
            return Err(RollingError::Pool { pool: pool.to_owned(), why: "did not say where its groups are" });
        };
        let Some(group) = view.groups.iter().find(|group| needs(group, servers)) else { return Ok(()) };
        if Instant::now() >= until {
            let (group, servers) = (group.group.clone(), servers.join(", "));
            return Err(RollingError::Needed { group, servers });
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Whether a group would have no majority without these servers.
fn needs(group: &GroupView, servers: &[String]) -> bool {
    let voters: Vec<&str> = group.copies.iter().filter(|copy| copy.votes).map(|copy| copy.server.as_str()).collect();
    let gone = voters.iter().filter(|voter| servers.iter().any(|server| server == *voter)).count();
    gone > 0 && (voters.len() - gone) * 2 <= voters.len()
}

/// Drains servers; where one of them cannot be drained, the others are taken back.
async fn drain(session: &mut Session, pool: &str, servers: &[String], deadline: u64) -> Result<(), RollingError> {
    for (number, server) in servers.iter().enumerate() {
        let drain = Command::ServerDrain { server: server.clone(), seconds: deadline };
        let Err(error) = session.call(&drain, &Prefer::Pool(pool.to_owned())).await else { continue };
        for server in &servers[..number] {
            let undrain = Command::ServerUndrain { server: server.clone() };
            session.call(&undrain, &Prefer::Pool(pool.to_owned())).await?;
        }
        return Err(error.into());
    }
    Ok(())
}

/// Waits until nothing is missing in the pool.
async fn healthy(session: &mut Session, pool: &str) -> Result<(), RollingError> {
    let until = Instant::now() + HEALTHY;
    let command = Command::PoolHealth { pool: Some(pool.to_owned()), part: false };
    while Instant::now() < until {
        match session.call(&command, &Prefer::Pool(pool.to_owned())).await {
            Ok(Reply::Health(view)) if render_health::exit_code(&view) == 0 => return Ok(()),
            Ok(_) | Err(CallError::Unreachable(_) | CallError::Unknown { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(RollingError::NotHealthy { pool: pool.to_owned() })
}

/// What a server says of itself, if it answers.
async fn status(access: &Access, server: &str) -> Option<StatusView> {
    let mut session = Session::with_limit(access.only_server(server), ANSWER);
    match session.call(&Command::ServerStatus, &Prefer::Any).await {
        Ok(Reply::Status(status)) => Some(status),
        _ => None,
    }
}

/// Waits until another process of the server answers; how long that took.
async fn back(access: &Access, server: &str, before: Option<u64>) -> Result<Duration, RollingError> {
    let begun = Instant::now();
    while begun.elapsed() < BACK {
        if status(access, server).await.is_some_and(|now| Some(now.start) != before) {
            return Ok(begun.elapsed());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Err(RollingError::NotBack { server: server.to_owned() })
}

#[cfg(test)]
mod tests {
    //! What is restarted together.

    use super::*;
    use pairline_node::view::GroupCopyView;
    use pairline_topology::demo;

    #[test]
    fn servers_that_a_group_needs_are_not_restarted_together() {
        let copy = |n: u8, votes| GroupCopyView { server: format!("fe{n}"), votes, ..GroupCopyView::default() };
        let copies = vec![copy(1, true), copy(2, true), copy(3, true), copy(4, false)];
        let group = GroupView { copies, ..GroupView::default() };
        let needed =
            |servers: &[&str]| needs(&group, &servers.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        assert!(needed(&["fe1", "fe3"]) && needed(&["fe4", "fe2", "fe1"]));
        assert!(!needed(&["fe1"]) && !needed(&["fe1", "fe4", "fe5"]) && !needed(&["fe4", "fe5"]));
    }

    #[test]
    fn servers_of_an_upgrade_domain_are_one_step_and_others_one_each() {
        let address = |n: u8| std::net::IpAddr::from([127, 0, 1, n]);
        let mut topology = demo::enterprise(&[(demo::EAST, "east", (1..=5).map(address).collect())], 5060);
        let names = |topology: &Topology| {
            let steps = steps(topology, "east").unwrap();
            steps.into_iter().map(|(_, servers)| servers.len()).collect::<Vec<_>>()
        };
        assert_eq!(names(&topology), [1; 5]);
        for (server, domain) in topology.server.iter_mut().zip([2, 1, 3, 2, 1]) {
            server.upgrade_domain = Some(domain);
        }
        assert_eq!(names(&topology), [2, 2, 1]);
        let (first, servers) = steps(&topology, "east").unwrap().remove(0);
        assert!(first.starts_with("upgrade domain 1: fe2.") && servers[1].starts_with("fe5."), "{first}");
        let mut witnessed = topology.clone();
        witnessed.server.truncate(3);
        witnessed.server.iter_mut().for_each(|server| server.upgrade_domain = None);
        witnessed.server[2].role = pairline_topology::ServerRole::Witness;
        assert_eq!(names(&witnessed), [1; 3], "a witness is restarted as well");
        topology.server.truncate(2);
        assert!(matches!(steps(&topology, "east"), Err(RollingError::Pool { .. })));
        assert!(matches!(steps(&topology, "west"), Err(RollingError::Pool { .. })));
    }
}
