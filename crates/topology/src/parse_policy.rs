//! The policies' part of the topology text.
//!
//! Owns bounds of single values. Rules between values are in `check`.

use crate::parse_proxy;
use crate::policy::{
    Algorithm, AuthPolicy, AuthRule, LimitPolicy, Policies, ProcedurePolicy, RegistrationPolicy, ResiliencePolicy,
};
use crate::reader::{Findings, Section};
use crate::{policy_features, policy_overload};

const ALGORITHMS: &[(&str, Algorithm)] =
    &[("SHA-256", Algorithm::Sha256), ("SHA-512-256", Algorithm::Sha512_256), ("MD5", Algorithm::Md5)];

/// Reads `[policies]` and everything below it.
pub(crate) fn policies(mut s: Section<'_>, f: &mut Findings) -> Policies {
    let policies = Policies {
        registration: registration(s.section(f, "registration"), f),
        resilience: resilience(s.section(f, "resilience"), f),
        procedure: procedure(s.section(f, "procedure"), f),
        limits: limits(s.section(f, "limits"), f),
        authentication: authentication(s.section(f, "authentication"), f),
        proxy: parse_proxy::proxy(s.section(f, "proxy"), f),
        trust: parse_proxy::trust(s.section(f, "trust"), f),
        emergency: parse_proxy::emergency(s.section(f, "emergency"), f),
        overload: policy_overload::overload(s.section(f, "overload"), f),
        features: policy_features::features(s.section(f, "features"), f),
    };
    s.done(f);
    policies
}

fn registration(mut s: Section<'_>, f: &mut Findings) -> RegistrationPolicy {
    let d = RegistrationPolicy::default();
    let policy = RegistrationPolicy {
        min_expiry_s: s.number(f, "min_expiry_s", d.min_expiry_s, 20, 3_600),
        default_expiry_s: s.number(f, "default_expiry_s", d.default_expiry_s, 20, 86_400),
        max_expiry_s: s.number(f, "max_expiry_s", d.max_expiry_s, 20, 86_400),
        max_endpoints_per_user: s.number(f, "max_endpoints_per_user", d.max_endpoints_per_user, 1, 64),
        max_contacts: s.number(f, "max_contacts", d.max_contacts, 1, 10_000),
        guest_expiry_s: s.number(f, "guest_expiry_s", d.guest_expiry_s, 20, 120),
        stranded_hold_s: s.number(f, "stranded_hold_s", d.stranded_hold_s, 5, 10),
    };
    s.done(f);
    policy
}

fn resilience(mut s: Section<'_>, f: &mut Findings) -> ResiliencePolicy {
    let d = ResiliencePolicy::default();
    let policy = ResiliencePolicy {
        voice_failover: s.flag(f, "voice_failover", d.voice_failover),
        heartbeat_ms: s.number(f, "heartbeat_ms", d.heartbeat_ms, 100, 30_000),
        detection_ms: s.number(f, "detection_ms", d.detection_ms, 1_000, 86_400_000),
        failback_ms: s.number(f, "failback_ms", d.failback_ms, 1_000, 86_400_000),
    };
    s.done(f);
    policy
}

fn procedure(mut s: Section<'_>, f: &mut Findings) -> ProcedurePolicy {
    let d = ProcedurePolicy::default();
    let policy = ProcedurePolicy {
        lag_bound_ms: s.number(f, "lag_bound_ms", d.lag_bound_ms, 100, 60_000),
        catch_up_s: s.number(f, "catch_up_s", d.catch_up_s, 1, 3_600),
        parallel_groups: s.number(f, "parallel_groups", d.parallel_groups, 1, 256),
        certificate_warn_days: s.number(f, "certificate_warn_days", d.certificate_warn_days, 1, 365),
        clock_warn_ms: s.number(f, "clock_warn_ms", d.clock_warn_ms, 10, 60_000),
        min_free_disk_percent: s.number(f, "min_free_disk_percent", d.min_free_disk_percent, 1, 90),
    };
    s.done(f);
    policy
}

fn limits(mut s: Section<'_>, f: &mut Findings) -> LimitPolicy {
    let d = LimitPolicy::default();
    let policy = LimitPolicy {
        users_per_pool: s.number(f, "users_per_pool", d.users_per_pool, 1, 10_000_000),
        bindings_per_pool: s.number(f, "bindings_per_pool", d.bindings_per_pool, 1, 100_000_000),
        transactions_per_server: s.number(f, "transactions_per_server", d.transactions_per_server, 100, 10_000_000),
        connections_per_server: s.number(f, "connections_per_server", d.connections_per_server, 10, 1_000_000),
        commits_in_flight: s.number(f, "commits_in_flight", d.commits_in_flight, 100, 1_000_000),
    };
    s.done(f);
    policy
}

fn authentication(mut s: Section<'_>, f: &mut Findings) -> AuthPolicy {
    let d = AuthPolicy::default();
    let default_algorithm = s.word(f, "default_algorithm", ALGORITHMS, d.default_algorithm);
    let nonce_lifetime_s = s.number(f, "nonce_lifetime_s", d.nonce_lifetime_s, 30, 3_600);
    let mut rule = Vec::new();
    for mut r in s.list(f, "rule") {
        if !r.has("algorithm") {
            f.add(r.at("algorithm"), "is missing", "write for example algorithm = \"MD5\"");
        }
        rule.push(AuthRule {
            listener: r.opt_text(f, "listener"),
            user_agent: r.opt_text(f, "user_agent"),
            algorithm: r.word(f, "algorithm", ALGORITHMS, Algorithm::Sha256),
        });
        r.done(f);
    }
    s.done(f);
    AuthPolicy { default_algorithm, nonce_lifetime_s, rule }
}
