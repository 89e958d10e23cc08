//! The deployment as services see it: names, listeners, policies, keys.
//!
//! Owns the shape of that view and the questions asked of it. Does not own where it comes from: the node makes it from
//! the topology and replaces it whole when the topology changes.

use crate::push::PushPolicy;
use pairline_group::{GroupId, Millis, PoolId, ServerId};
use pairline_sip::auth::{Algorithm, NonceKeys};
use pairline_sip::flow::Transport;
use pairline_sip::uri::Aor;
pub use pairline_topology::policy_proxy::{EmergencyPolicy, HistoryInfo, TrustPolicy};
use std::net::{IpAddr, SocketAddr};

/// 32 secret bytes; never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(pub [u8; 32]);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// A SIP domain of the deployment. Realm = domain in a new deployment, and immutable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Lower-case domain.
    pub name: String,
    /// Its digest realm, the same on all pools.
    pub realm: String,
}

/// This server's own names and numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OwnNames {
    /// Own pool.
    pub pool: PoolId,
    /// Own server.
    pub server: ServerId,
    /// Start number of this process: a flow of an earlier start is gone.
    pub boot: u64,
    /// Lower-case FQDN of this server.
    pub server_name: String,
    /// Lower-case FQDN of this pool.
    pub pool_name: String,
    /// Addresses with port at which this server (and its pool) is reached.
    pub addresses: Vec<SocketAddr>,
}

/// The names of another pool of the deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PoolNames {
    /// The pool.
    pub pool: PoolId,
    /// Its lower-case FQDN and those of its servers.
    pub names: Vec<String>,
    /// Its addresses with port.
    pub addresses: Vec<SocketAddr>,
}

impl PoolNames {
    fn has_address(&self, ip: IpAddr, port: u16) -> bool {
        self.addresses.iter().any(|a| a.ip() == ip && a.port() == port)
    }

    fn has_name(&self, name: &str) -> bool {
        self.names.iter().any(|n| n.eq_ignore_ascii_case(name))
    }
}

/// A pool and its fixed number of routing groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolInfo {
    /// Which.
    pub id: PoolId,
    /// Short name, for people.
    pub name: String,
    /// Number of routing groups, fixed at creation, at least 1.
    pub groups: u16,
}

/// A place where this server receives SIP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listener {
    /// `Flow::listener` of what arrives here.
    pub id: u16,
    /// Its transport.
    pub transport: Transport,
    /// Where it is bound.
    pub addr: SocketAddr,
    /// `host[:port]` for Via.
    pub via: String,
    /// `host[:port][;transport=…]` for Record-Route: an address, or the pool's name (DESIGN §8).
    pub record_route: String,
}

/// Bounds of registrations (RFC 3261 §10.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrarPolicy {
    /// Shortest expiry in seconds that counts when `refuse_brief` is set.
    pub min_s: u32,
    /// Expiry in seconds where the client asked for none.
    pub default_s: u32,
    /// Longest expiry granted, in seconds; longer wishes are lowered.
    pub max_s: u32,
    /// Answer 423 below `min_s`; otherwise a short wish is granted as asked.
    pub refuse_brief: bool,
    /// Most bindings of one user.
    pub max_bindings: usize,
    /// Longest expiry of a guest binding, in seconds (at most 120).
    pub guest_max_s: u32,
    /// Seconds within which a client with a kept flow must be heard on its stream (RFC 5626 §4.4); 0: it is not told.
    pub flow_timer_s: u32,
    /// By how much a granted expiry is spread, in per cent, so that clients do not come back together.
    pub spread_percent: u32,
    /// Who may watch the registrations of others (RFC 3680); everybody may watch their own.
    pub watchers: Vec<Aor>,
}

impl Default for RegistrarPolicy {
    fn default() -> Self {
        RegistrarPolicy {
            min_s: 30,
            default_s: 600,
            max_s: 900,
            refuse_brief: true,
            max_bindings: 8,
            guest_max_s: 120,
            flow_timer_s: 120,
            spread_percent: 0,
            watchers: Vec::new(),
        }
    }
}

/// Policies of the proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyPolicy {
    /// Whether trusted peers are asked to say when they are overloaded (RFC 7339).
    pub neighbours: bool,
    /// How long an INVITE to a user with only stranded bindings is held, in milliseconds (5–10 s).
    pub hold_ms: Millis,
    /// Timer C in milliseconds (RFC 3261 §16.6 step 11: more than three minutes).
    pub timer_c_ms: Millis,
    /// Most branches of one request.
    pub max_branches: usize,
    /// Where emergency calls go, and whether callers must prove who they are.
    pub emergency: EmergencyPolicy,
    /// Largest body of a MESSAGE, in bytes.
    pub max_message: usize,
    /// Whether redirections to users of the deployment are followed.
    pub follow_redirects: bool,
    /// When History-Info is written.
    pub history_info: HistoryInfo,
    /// Most branches that are open downstream at the same time (RFC 5393 §5.3), where the request allows no fewer.
    pub max_breadth: u16,
}

impl Default for ProxyPolicy {
    fn default() -> Self {
        ProxyPolicy {
            hold_ms: 8_000,
            timer_c_ms: 185_000,
            max_branches: 16,
            neighbours: false,
            emergency: EmergencyPolicy::default(),
            max_message: 32 * 1024,
            follow_redirects: false,
            history_info: HistoryInfo::Asked,
            max_breadth: 60,
        }
    }
}

/// One rule of which challenge is sent; the first that fits counts. Never depends on the user (DESIGN §11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthRule {
    /// Only for what arrived on this listener, also if the other pool authenticates it.
    pub listener: Option<u16>,
    /// Only for a User-Agent that begins so, in any case (empty: any).
    pub user_agent: String,
    /// The one algorithm that is offered and accepted.
    pub algorithm: Algorithm,
}

/// Everything that services know of the deployment.
#[derive(Clone)]
pub struct DeploymentView {
    /// SIP domains; at least one.
    pub domains: Vec<Domain>,
    /// Name of the domain that `user@<own address>` is mapped to.
    pub default_domain: String,
    /// Own names.
    pub own: OwnNames,
    /// The backup partner's names, if this pool is paired; a request for them is treated as our own when the partner cannot be reached.
    pub partner: Option<PoolNames>,
    /// The names of the pools that are neither this one nor its partner.
    pub others: Vec<PoolNames>,
    /// All pools.
    pub pools: Vec<PoolInfo>,
    /// Own listeners; one may have `Transport::Peer`.
    pub listeners: Vec<Listener>,
    /// Registrations.
    pub registrar: RegistrarPolicy,
    /// Proxying.
    pub proxy: ProxyPolicy,
    /// Peers outside the deployment whose word is taken.
    pub trust: TrustPolicy,
    /// Waking of sleeping clients.
    pub push: PushPolicy,
    /// Most contacts in one user's list.
    pub max_contacts: usize,
    /// Which challenge for whom; none fits: SHA-256.
    pub auth_rules: Vec<AuthRule>,
    /// Algorithms for which HA1 is computed when a password is set.
    pub stored_algorithms: Vec<Algorithm>,
    /// Keys of nonces, shared with the partner.
    pub nonce_keys: NonceKeys,
    /// Life of a nonce in milliseconds.
    pub nonce_life_ms: Millis,
    /// Key that seals credentials and marks routes; one per deployment.
    pub sealing_key: Secret,
}

impl DeploymentView {
    /// The domain of that name, if it is one of ours (case-insensitive).
    pub fn domain(&self, name: &str) -> Option<&Domain> {
        self.domains.iter().find(|d| d.name.eq_ignore_ascii_case(name))
    }

    /// The digest realm of a domain of ours; the default domain's for any other.
    pub fn realm(&self, domain: &str) -> &str {
        self.domain(domain).or_else(|| self.domain(&self.default_domain)).map_or(&self.default_domain, |d| &d.realm)
    }

    /// Whether an address with port is this server's or its pool's.
    pub fn is_own_address(&self, ip: IpAddr, port: u16) -> bool {
        self.own.addresses.iter().any(|a| a.ip() == ip && a.port() == port)
    }

    /// Whether an address with port is the partner's.
    pub fn is_partner_address(&self, ip: IpAddr, port: u16) -> bool {
        self.partner.as_ref().is_some_and(|p| p.has_address(ip, port))
    }

    /// Whether a host name is this server's or its pool's.
    pub fn is_own_name(&self, name: &str) -> bool {
        name.eq_ignore_ascii_case(&self.own.server_name) || name.eq_ignore_ascii_case(&self.own.pool_name)
    }

    /// Whether a host name is the partner's.
    pub fn is_partner_name(&self, name: &str) -> bool {
        self.partner.as_ref().is_some_and(|p| p.has_name(name))
    }

    /// Whether an address with port is that of a pool that is neither this one nor its partner.
    pub fn is_other_address(&self, ip: IpAddr, port: u16) -> bool {
        self.others.iter().any(|p| p.has_address(ip, port))
    }

    /// Whether a host name is that of such a pool.
    pub fn is_other_name(&self, name: &str) -> bool {
        self.others.iter().any(|p| p.has_name(name))
    }

    /// The listener that a flow belongs to, or the best stand-in with the same transport.
    pub fn listener(&self, id: u16, transport: Transport) -> Option<&Listener> {
        self.listeners
            .iter()
            .find(|l| l.id == id && l.transport == transport)
            .or_else(|| self.listeners.iter().find(|l| l.transport == transport))
            .or_else(|| self.listeners.first())
    }

    /// A listener for datagrams to that address family.
    pub fn udp_listener(&self, ipv6: bool) -> Option<&Listener> {
        self.listeners.iter().find(|l| l.transport == Transport::Udp && l.addr.is_ipv6() == ipv6)
    }

    /// The routing group of a user with that home pool; `None` for an unknown pool.
    pub fn group_of(&self, home: PoolId, user: &str) -> Option<GroupId> {
        let pool = self.pools.iter().find(|p| p.id == home)?;
        Some(GroupId::of_user(home, pool.groups, user))
    }

    /// A pool's short name, for people.
    pub fn pool_label(&self, pool: PoolId) -> String {
        self.pools.iter().find(|p| p.id == pool).map_or_else(|| format!("pool {}", pool.0), |p| p.name.clone())
    }
}
