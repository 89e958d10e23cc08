//! The topology document: deployment, sites, pools, servers, pairings.
//!
//! Owns the types and the questions that others ask of them (who is paired with whom, which names are ours, which group a
//! user is in). Does not own text (`parse`), rules (`check`) or storage (`stored`).

use crate::policy::Policies;
use pairline_group::placement::FrontEnd;
use pairline_group::{GroupId, PoolId, ServerId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// Routing groups of a new pool if nothing else is said.
pub const DEFAULT_ROUTING_GROUPS: u16 = 32;

/// The whole document. Field names are the keys of its text form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topology {
    /// Rises by one with each publish; 0 in a text means "not based on any".
    pub revision: u64,
    /// The installation.
    pub deployment: Deployment,
    /// Places.
    pub site: Vec<Site>,
    /// Pools.
    pub pool: Vec<Pool>,
    /// Servers.
    pub server: Vec<Server>,
    /// Pairs of pools.
    pub pairing: Vec<Pairing>,
    /// Policies.
    pub policies: Policies,
}

/// The installation as a whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployment {
    /// For people.
    pub name: String,
    /// Stable id, never changed: 1 to 64 of letters, digits and `-`.
    pub id: String,
    /// SIP domains, the first is the default; a realm equals its domain.
    pub domains: Vec<String>,
    /// The pool in which the management store was created. Who serves it now is told by its lineage.
    pub management_store: PoolId,
}

/// One place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Site {
    /// Unique name.
    pub name: String,
    /// For people.
    pub description: Option<String>,
}

/// What a pool is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Edition {
    /// One server with everything embedded.
    Standard,
    /// Several Front Ends with an optional Back End.
    Enterprise,
}

/// What the servers run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Platform {
    /// Hardware of their own.
    Physical,
    /// Virtual machines.
    Virtual,
}

/// How the Back End is kept available.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum BackEndMethod {
    /// No Back End.
    None,
    /// One PostgreSQL server.
    Single,
    /// PostgreSQL with Patroni.
    Patroni,
}

/// Servers of one site that serve one population of users under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pool {
    /// Number, never reused; 1 to 65535.
    pub id: PoolId,
    /// Short unique name.
    pub name: String,
    /// The name that clients and certificates use.
    pub fqdn: String,
    /// Where it stands.
    pub site: String,
    /// Standard or Enterprise.
    pub edition: Edition,
    /// Number of routing groups, fixed at creation; 1 to 1024.
    pub routing_groups: u16,
    /// Physical or virtual.
    pub platform: Platform,
    /// Base operating system as one word, compared between paired pools.
    pub base_os: String,
    /// Back End method.
    pub back_end: BackEndMethod,
    /// Release that its servers run, `major.minor`; compared between paired pools when both name one.
    pub version: Option<String>,
    /// Users that this pool can serve (its own and its partner's); the deployment's limit if absent.
    pub capacity_users: Option<u32>,
}

/// Transport of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Transport {
    /// UDP.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket (RFC 7118).
    Ws,
    /// Secure WebSocket.
    Wss,
}

/// What stands in Record-Route and Contact of this listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Advertise {
    /// Its address, port and transport.
    Address,
    /// The pool's name.
    Name,
}

/// One SIP listening point.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Unique on its server.
    pub id: String,
    /// Transport.
    pub transport: Transport,
    /// Where it listens.
    pub address: SocketAddr,
    /// What is told to others.
    pub advertise: Advertise,
    /// The address to tell, where it differs from the one listened on.
    pub advertise_address: Option<SocketAddr>,
}

/// What a server does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ServerRole {
    /// Holds copies of its pool's groups, leads them, and serves users.
    #[default]
    FrontEnd,
    /// Votes in all groups of a pool of two Front Ends, so that one of the three may fail. Holds no data and serves nobody.
    Witness,
}

impl ServerRole {
    /// Whether it is what a server is that says nothing of its role.
    fn is_front_end(&self) -> bool {
        *self == ServerRole::FrontEnd
    }
}

/// One server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Server {
    /// Number, never reused; from 1.
    pub id: ServerId,
    /// Unique host name.
    pub name: String,
    /// Its pool.
    pub pool: PoolId,
    /// What it does there; fixed, like its number. Texts of Front Ends do not say it.
    #[serde(default, skip_serializing_if = "ServerRole::is_front_end")]
    pub role: ServerRole,
    /// Its upgrade domain: a rolling restart stops all servers of one at a time, and no two of them have copies of the same group. From 1;
    /// without one it is a domain by itself. All Front Ends of a pool have one, or none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upgrade_domain: Option<u16>,
    /// Admin API.
    pub admin: SocketAddr,
    /// Links from other servers.
    pub link: SocketAddr,
    /// Embedded DNS, if it serves one.
    pub dns: Option<SocketAddr>,
    /// SIP listening points; a witness has none.
    pub listener: Vec<Listener>,
}

impl Server {
    /// It, as copies are placed on it.
    pub fn front_end(&self) -> FrontEnd {
        FrontEnd { server: self.id, domain: self.upgrade_domain }
    }

    /// Whether it only votes.
    pub fn is_witness(&self) -> bool {
        self.role == ServerRole::Witness
    }
}

/// Two pools that back each other up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pairing {
    /// One of them.
    pub a: PoolId,
    /// The other.
    pub b: PoolId,
    /// Why differences that are not supported are accepted; shown in status and reports.
    pub accept_unsupported: Option<String>,
}

impl Pairing {
    /// The other pool, if `pool` is one of the two.
    pub fn other(&self, pool: PoolId) -> Option<PoolId> {
        match pool {
            p if p == self.a => Some(self.b),
            p if p == self.b => Some(self.a),
            _ => None,
        }
    }
}

impl Topology {
    /// The pool with this number.
    pub fn pool(&self, id: PoolId) -> Option<&Pool> {
        self.pool.iter().find(|p| p.id == id)
    }

    /// The pool with this short name or FQDN.
    pub fn pool_named(&self, name: &str) -> Option<&Pool> {
        self.pool.iter().find(|p| p.name == name || p.fqdn.eq_ignore_ascii_case(name))
    }

    /// Short name of a pool; its number where there is none.
    pub fn pool_name(&self, id: PoolId) -> String {
        self.pool(id).map_or_else(|| format!("pool {}", id.0), |p| p.name.clone())
    }

    /// The server with this number.
    pub fn server(&self, id: ServerId) -> Option<&Server> {
        self.server.iter().find(|s| s.id == id)
    }

    /// The server with this name.
    pub fn server_named(&self, name: &str) -> Option<&Server> {
        self.server.iter().find(|s| s.name.eq_ignore_ascii_case(name))
    }

    /// Servers of a pool that hold its data and serve its users (its Front Ends), in order of their numbers.
    pub fn servers_of(&self, pool: PoolId) -> Vec<&Server> {
        let mut all: Vec<&Server> = self.server.iter().filter(|s| s.pool == pool && !s.is_witness()).collect();
        all.sort_by_key(|s| s.id);
        all
    }

    /// The same, as copies are placed on them.
    pub fn front_ends(&self, pool: PoolId) -> Vec<FrontEnd> {
        self.servers_of(pool).into_iter().map(Server::front_end).collect()
    }

    /// The pool's witness, if it has one.
    pub fn witness_of(&self, pool: PoolId) -> Option<&Server> {
        self.server.iter().find(|s| s.pool == pool && s.is_witness())
    }

    /// All servers of a pool that vote: those that hold its data, then the witness.
    pub fn voters_of(&self, pool: PoolId) -> Vec<&Server> {
        self.servers_of(pool).into_iter().chain(self.witness_of(pool)).collect()
    }

    /// The pool's pairing.
    pub fn pairing_of(&self, pool: PoolId) -> Option<&Pairing> {
        self.pairing.iter().find(|p| p.other(pool).is_some())
    }

    /// The pool that backs this one up.
    pub fn partner(&self, pool: PoolId) -> Option<&Pool> {
        self.pairing_of(pool).and_then(|p| p.other(pool)).and_then(|id| self.pool(id))
    }

    /// Whether this pool holds a copy of the management store that takes part in its procedures: the pool in which it was
    /// created, and that pool's partner.
    pub fn holds_cms(&self, pool: PoolId) -> bool {
        let owner = self.deployment.management_store;
        pool == owner || self.partner(owner).is_some_and(|p| p.id == pool)
    }

    /// The pool with which the management store is exchanged although it is not the partner: where the store's pool has no
    /// partner, the first other pool without one follows it, so that a later pairing, and the end of one, reach both.
    pub fn follows_cms_with(&self, pool: PoolId) -> Option<PoolId> {
        let owner = self.deployment.management_store;
        if self.partner(owner).is_some() {
            return None;
        }
        let follower = self.pool.iter().map(|p| p.id).find(|id| *id != owner && self.partner(*id).is_none())?;
        match pool {
            pool if pool == owner => Some(follower),
            pool if pool == follower => Some(owner),
            _ => None,
        }
    }

    /// The routing groups whose home is this pool.
    pub fn groups_of(&self, pool: PoolId) -> Vec<GroupId> {
        let count = self.pool(pool).map_or(0, |p| p.routing_groups);
        (0..count).map(|index| GroupId { pool, index }).collect()
    }

    /// The group of a user, by its address of record, in its home pool.
    pub fn group_of(&self, home: PoolId, aor: &str) -> Option<GroupId> {
        self.pool(home).map(|p| GroupId::of_user(home, p.routing_groups, aor))
    }

    /// The SIP domain for requests that name none of ours.
    pub fn default_domain(&self) -> &str {
        self.deployment.domains.first().map_or("", String::as_str)
    }

    /// Whether this is one of the deployment's SIP domains.
    pub fn is_domain(&self, host: &str) -> bool {
        self.deployment.domains.iter().any(|d| d.eq_ignore_ascii_case(host))
    }

    /// All names that a server treats as its own: SIP domains, its own name and addresses, its pool's name and its
    /// partner's. Addresses are written without port; all are lower case.
    pub fn own_names(&self, server: ServerId) -> Vec<String> {
        let mut names: Vec<String> = self.deployment.domains.clone();
        if let Some(server) = self.server(server) {
            names.push(server.name.clone());
            for l in &server.listener {
                names.push(l.address.ip().to_string());
                names.extend(l.advertise_address.map(|a| a.ip().to_string()));
            }
            names.extend(self.pool(server.pool).map(|p| p.fqdn.clone()));
            names.extend(self.partner(server.pool).map(|p| p.fqdn.clone()));
        }
        names.iter_mut().for_each(|n| n.make_ascii_lowercase());
        names.sort_unstable();
        names.dedup();
        names
    }
}
