//! The topology document as version 1 stored it: fields by their order, so it can never get another one.
//!
//! Owns that form, both ways. What version 1 could not say is in the form of version 2 (`stored`).

use crate::model::{Deployment, Pairing, Pool, Server, Site, Topology};
use crate::policy::{AuthPolicy, LimitPolicy, Policies, ProcedurePolicy, RegistrationPolicy, ResiliencePolicy};
use serde::{Deserialize, Serialize};

/// The document of version 1.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct TopologyV1 {
    revision: u64,
    deployment: Deployment,
    site: Vec<Site>,
    pool: Vec<Pool>,
    server: Vec<Server>,
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

impl TopologyV1 {
    /// The document in version 1's form, if it says nothing that version 1 could not: a build that knows no other reads it.
    pub(crate) fn of(topology: &Topology) -> Option<TopologyV1> {
        let t = topology.clone();
        let v1 = TopologyV1 {
            revision: t.revision,
            deployment: t.deployment,
            site: t.site,
            pool: t.pool,
            server: t.server,
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
            server: v1.server,
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
