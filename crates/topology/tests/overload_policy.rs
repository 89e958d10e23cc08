//! The policy of overload: its text, its bounds, its stored form.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use pairline_topology::policy_overload::OverloadPolicy;
use pairline_topology::stored::{decode_topology, encode_topology};
use pairline_topology::{demo_topology, parse, to_toml};

#[test]
fn the_text_reads_back_and_defaults_hold_without_it() {
    let mut topology = demo_topology();
    assert_eq!(topology.policies.overload, OverloadPolicy::default());
    topology.policies.overload = OverloadPolicy {
        enabled: false,
        target_delay_ms: 50,
        min_rate: 10,
        max_rate: 20,
        emergency_per_s: 7,
        retry_after_max_s: 60,
        expiry_spread_percent: 0,
        source_per_s: 0,
        source_burst: 5,
        identity_per_s: 9,
        identity_burst: 10,
        neighbours: false,
    };
    let text = to_toml(&topology);
    assert_eq!(parse("t", &text).unwrap(), topology);
    let stored = encode_topology(&topology);
    assert_eq!(stored[0], 2, "version 1 cannot say it");
    assert_eq!(decode_topology(&stored).unwrap(), topology);
}

#[test]
fn what_is_out_of_bounds_is_named_with_a_remedy() {
    let text = to_toml(&demo_topology());
    for (from, to, key) in [
        ("target_delay_ms = 20", "target_delay_ms = 4", "policies.overload.target_delay_ms"),
        ("min_rate = 200", "min_rate = 2000000", "policies.overload.min_rate"),
        ("min_rate = 200", "min_rate = 1000000\nmax_rat = 3", "policies.overload"),
        ("max_rate = 1000000", "max_rate = 100", "policies.overload"),
        ("expiry_spread_percent = 10", "expiry_spread_percent = 51", "policies.overload.expiry_spread_percent"),
        ("retry_after_max_s = 30", "retry_after_max_s = \"x\"", "policies.overload.retry_after_max_s"),
    ] {
        assert!(text.contains(from), "{from} is a default");
        let errors = parse("t", &text.replace(from, to)).unwrap_err();
        assert!(errors.iter().any(|error| error.to_string().contains(key)), "{key}: {errors:?}");
    }
}
