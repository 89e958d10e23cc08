//! The topology document as version 1 stored it: fields by their order, so it can never get another one.
//!
//! Owns that form, both ways. What version 1 could not say is in the form of version 2 (`stored`).

use crate::model::{Deployment, Listener, Pairing, Pool, Server, ServerRole, Site, Topology};
use crate::policy::{AuthPolicy, LimitPolicy, Policies, ProcedurePolicy, RegistrationPolicy, ResiliencePolicy};
use pairline_group::{PoolId, ServerId};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// The document of version 1.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TopologyV1 {
    revision: u64,
    deployment: Deployment,
    site: Vec<Site>,
    pool: Vec<Pool>,
    server: Vec<ServerV1>,
    pairing: Vec<Pairing>,
    policies: PoliciesV1,
}

#[derive(Clone, Serialize, Deserialize)]
struct PoliciesV1 {
    registration: RegistrationPolicy,
    resilience: ResiliencePolicy,
    procedure: ProcedurePolicy,
    limits: LimitPolicy,
    authentication: AuthPolicy,
}

/// A server of version 1, which knew no roles.
#[derive(Clone, Serialize, Deserialize)]
struct ServerV1 {
    id: ServerId,
    name: String,
    pool: PoolId,
    admin: SocketAddr,
    link: SocketAddr,
    dns: Option<SocketAddr>,
    listener: Vec<Listener>,
}

impl ServerV1 {
    /// What version 1 says of a server: neither its role nor its upgrade domain.
    fn of(server: Server) -> ServerV1 {
        let Server { id, name, pool, role: _, upgrade_domain: _, admin, link, dns, listener } = server;
        ServerV1 { id, name, pool, admin, link, dns, listener }
    }
}

impl From<ServerV1> for Server {
    fn from(v1: ServerV1) -> Server {
        let ServerV1 { id, name, pool, admin, link, dns, listener } = v1;
        Server { id, name, pool, role: ServerRole::FrontEnd, upgrade_domain: None, admin, link, dns, listener }
    }
}

impl TopologyV1 {
    /// The document in version 1's form, if it says nothing that version 1 could not: a build that knows no other reads it.
    pub(crate) fn of(topology: &Topology) -> Option<TopologyV1> {
        let t = topology.clone();
        let v1 = TopologyV1 {
            revision: t.revision,
            deployment: t.deployment,
            site: t.site,
            pool: t.pool,
            server: t.server.into_iter().map(ServerV1::of).collect(),
            pairing: t.pairing,
            policies: PoliciesV1 {
                registration: t.policies.registration,
                resilience: t.policies.resilience,
                procedure: t.policies.procedure,
                limits: t.policies.limits,
                authentication: t.policies.authentication,
            },
        };
        (Topology::from(v1.clone()) == *topology).then_some(v1)
    }
}

impl From<TopologyV1> for Topology {
    fn from(v1: TopologyV1) -> Topology {
        Topology {
            revision: v1.revision,
            deployment: v1.deployment,
            site: v1.site,
            pool: v1.pool,
            server: v1.server.into_iter().map(Server::from).collect(),
            pairing: v1.pairing,
            policies: Policies {
                registration: v1.policies.registration,
                resilience: v1.policies.resilience,
                procedure: v1.policies.procedure,
                limits: v1.policies.limits,
                authentication: v1.policies.authentication,
                ..Policies::default()
            },
        }
    }
}
