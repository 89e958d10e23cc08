//! Policies of the deployment: registration, resilience, procedures, limits, authentication.
//!
//! Owns their types, defaults and bounds. The defaults are those of the original where it has them (reference: registrar
//! settings); floors are lower so that a network may choose short expiries. Does not own what is done with them.

use crate::policy_features::FeaturePolicy;
use crate::policy_overload::OverloadPolicy;
use crate::policy_proxy::{EmergencyPolicy, ProxyPolicy, TrustPolicy};
use serde::{Deserialize, Serialize};

/// All policies. One set for the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policies {
    /// Bindings and users.
    pub registration: RegistrationPolicy,
    /// Heartbeats and the automatic level (voice resilience).
    pub resilience: ResiliencePolicy,
    /// Bounds that preflight and procedures use.
    pub procedure: ProcedurePolicy,
    /// Soft limits: beyond them new work is refused early.
    pub limits: LimitPolicy,
    /// Which digest challenge is sent to whom.
    pub authentication: AuthPolicy,
    /// Redirects, history, breadth.
    pub proxy: ProxyPolicy,
    /// Peers outside the deployment whose word is taken.
    pub trust: TrustPolicy,
    /// Where emergency calls go.
    pub emergency: EmergencyPolicy,
    /// What is refused when more comes than can be done.
    pub overload: OverloadPolicy,
    /// What servers may say to each other and write down.
    #[serde(skip_serializing_if = "FeaturePolicy::is_lowest")]
    pub features: FeaturePolicy,
}

/// Registration: expiries in seconds and counts per user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationPolicy {
    /// Shortest expiry that a client may ask for without a 423 (RFC 3261 §10.3); 20 to 3600.
    pub min_expiry_s: u32,
    /// Granted when the client names none; also the value to which longer wishes are lowered is `max_expiry_s`.
    pub default_expiry_s: u32,
    /// Longest expiry granted; at most 86400.
    pub max_expiry_s: u32,
    /// Endpoints (bindings) per user; 1 to 64.
    pub max_endpoints_per_user: u16,
    /// Contact list entries per user; 1 to 10000.
    pub max_contacts: u16,
    /// Longest expiry of a guest binding at the partner; 20 to 120.
    pub guest_expiry_s: u32,
    /// How long an INVITE is held for a user with only stranded bindings; 5 to 10.
    pub stranded_hold_s: u32,
}

impl Default for RegistrationPolicy {
    fn default() -> Self {
        RegistrationPolicy {
            min_expiry_s: 300,
            default_expiry_s: 600,
            max_expiry_s: 900,
            max_endpoints_per_user: 8,
            max_contacts: 250,
            guest_expiry_s: 120,
            stranded_hold_s: 8,
        }
    }
}

/// The automatic level: it lets the partner accept users in resiliency mode and never fails a pool over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResiliencePolicy {
    /// Whether the partner accepts the users of a pool that is not heard.
    pub voice_failover: bool,
    /// Milliseconds between two heartbeats; 100 to 30000.
    pub heartbeat_ms: u32,
    /// Milliseconds without a heartbeat until the partner accepts users; at least three heartbeats.
    pub detection_ms: u32,
    /// Milliseconds of unbroken heartbeats until users go home; at least three heartbeats.
    pub failback_ms: u32,
}

impl Default for ResiliencePolicy {
    fn default() -> Self {
        ResiliencePolicy { voice_failover: true, heartbeat_ms: 1_000, detection_ms: 30_000, failback_ms: 60_000 }
    }
}

/// Bounds of preflight and of procedures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcedurePolicy {
    /// A planned procedure hands over only below this lag, in milliseconds; 100 to 60000.
    pub lag_bound_ms: u32,
    /// How long a planned procedure waits for the lag to fall below the bound; 1 to 3600 seconds.
    pub catch_up_s: u32,
    /// Groups that may be handed over at the same time; 1 to 256.
    pub parallel_groups: u16,
    /// Certificates that expire in fewer days are a warning, expired ones a refusal.
    pub certificate_warn_days: u32,
    /// Clocks that differ by more are a warning, by ten times as much a refusal; milliseconds.
    pub clock_warn_ms: u32,
    /// Least free disk in per cent for a planned procedure; 1 to 90.
    pub min_free_disk_percent: u8,
}

impl Default for ProcedurePolicy {
    fn default() -> Self {
        ProcedurePolicy {
            lag_bound_ms: 2_000,
            catch_up_s: 60,
            parallel_groups: 16,
            certificate_warn_days: 30,
            clock_warn_ms: 1_000,
            min_free_disk_percent: 10,
        }
    }
}

/// Soft limits of one pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LimitPolicy {
    /// Users that one pool can serve, its own and its partner's together, where the pool's own entry does not say (`capacity_users`): a
    /// failover that would bring more is objected to.
    pub users_per_pool: u32,
    /// Bindings that one pool may hold.
    pub bindings_per_pool: u32,
    /// SIP transactions in progress on one server.
    pub transactions_per_server: u32,
    /// Stream connections of one server, accepted and made. Those that there are stay when a smaller number is published.
    pub connections_per_server: u32,
    /// Accepted requests in progress that wait for a commit, on one server.
    pub commits_in_flight: u32,
}

impl Default for LimitPolicy {
    fn default() -> Self {
        LimitPolicy {
            users_per_pool: 500_000,
            bindings_per_pool: 1_000_000,
            transactions_per_server: 400_000,
            connections_per_server: 100_000,
            commits_in_flight: 20_000,
        }
    }
}

/// Digest algorithm of a challenge (RFC 7616, RFC 8760).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Algorithm {
    /// SHA-256: the default.
    #[default]
    #[serde(rename = "SHA-256")]
    Sha256,
    /// SHA-512/256.
    #[serde(rename = "SHA-512-256")]
    Sha512_256,
    /// MD5, only where a rule allows it.
    #[serde(rename = "MD5")]
    Md5,
}

impl Algorithm {
    /// The token of the `algorithm` parameter.
    pub fn token(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha512_256 => "SHA-512-256",
            Algorithm::Md5 => "MD5",
        }
    }
}

/// One rule: the first whose conditions all hold decides. The choice never depends on the user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthRule {
    /// Id of the listener on which the request arrived; any if absent.
    pub listener: Option<String>,
    /// Prefix of the User-Agent header, compared without regard to case; `""` matches a request without the header too.
    pub user_agent: Option<String>,
    /// The only algorithm that is offered.
    pub algorithm: Algorithm,
}

impl AuthRule {
    /// Whether the rule holds for a request on this listener with this User-Agent.
    pub fn matches(&self, listener: &str, user_agent: Option<&str>) -> bool {
        let listener_fits = self.listener.as_deref().is_none_or(|id| id == listener);
        let agent_fits = match (&self.user_agent, user_agent) {
            (None, _) => true,
            (Some(prefix), None) => prefix.is_empty(),
            (Some(prefix), Some(agent)) => {
                agent.as_bytes().get(..prefix.len()).is_some_and(|head| head.eq_ignore_ascii_case(prefix.as_bytes()))
            }
        };
        listener_fits && agent_fits
    }
}

/// Authentication: an ordered list of rules and what holds when none does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthPolicy {
    /// Offered where no rule matches.
    pub default_algorithm: Algorithm,
    /// How long a nonce is good; 30 to 3600 seconds.
    pub nonce_lifetime_s: u32,
    /// Tried in order; at most 64.
    pub rule: Vec<AuthRule>,
}

impl Default for AuthPolicy {
    fn default() -> Self {
        AuthPolicy { default_algorithm: Algorithm::Sha256, nonce_lifetime_s: 300, rule: Vec::new() }
    }
}

impl AuthPolicy {
    /// The algorithm to challenge with.
    pub fn algorithm(&self, listener: &str, user_agent: Option<&str>) -> Algorithm {
        self.rule.iter().find(|r| r.matches(listener, user_agent)).map_or(self.default_algorithm, |r| r.algorithm)
    }

    /// All algorithms that may ever be asked for: HA1 is stored for each of them when a password is set.
    pub fn algorithms(&self) -> Vec<Algorithm> {
        let mut all: Vec<Algorithm> = self.rule.iter().map(|r| r.algorithm).collect();
        all.push(self.default_algorithm);
        all.sort_unstable();
        all.dedup();
        all
    }
}
