//! Topology texts: round trip, all findings at once, pairing rules, publish, stored values.
#![allow(clippy::unwrap_used, clippy::disallowed_methods)]

use pairline_group::{Epoch, GroupId, PoolId, ServerId};
use pairline_topology::directory::{aor, group_of_key, ownership_key, user_key};
use pairline_topology::publish::Does;
use pairline_topology::stored::{StoredError, decode_topology, encode_topology};
use pairline_topology::{
    Algorithm, BackEndMethod, Change, DirectoryEntry, Edition, OwnershipHint, Platform, Topology, demo_topology, diff,
    parse, plan_publish, to_toml, validate,
};

const EAST: PoolId = PoolId(1);
const WEST: PoolId = PoolId(2);

fn problems(result: Result<impl std::fmt::Debug, Vec<pairline_topology::ConfigError>>) -> Vec<String> {
    result.unwrap_err().into_iter().map(|e| e.to_string()).collect()
}

#[test]
fn the_demonstration_is_valid_and_reads_back() {
    let demo = demo_topology();
    validate(&demo).unwrap();
    let text = to_toml(&demo);
    assert!(text.contains("management_store = \"east\""), "{text}");
    assert_eq!(parse("demo.toml", &text).unwrap(), demo);
    assert_eq!(demo.partner(EAST).unwrap().id, WEST);
    assert!(demo.holds_cms(EAST) && demo.holds_cms(WEST));
    assert_eq!(demo.groups_of(WEST).len(), 32);
    let names = demo.own_names(ServerId(1));
    for name in ["pairline.test", "127.0.1.1", "east.pairline.test", "west.pairline.test", "fe1.east.pairline.test"] {
        assert!(names.iter().any(|n| n == name), "{name} in {names:?}");
    }
}

#[test]
fn all_findings_come_at_once_with_place_and_remedy() {
    let text = r#"
        colour = "red"
        [deployment]
        name = 5
        domains = ["not a domain"]
        management_store = "north"
        [[pool]]
        id = 70000
        name = "east"
        fqdn = "east.example.org"
        site = "east"
        edition = "gold"
        [[server]]
        id = 1
        name = "fe1"
        pool = "east"
        admin = "here"
        [policies.registration]
        min_expiry_s = 5
        [[policies.authentication.rule]]
        user_agent = "SIPp"
    "#;
    let found = parse("bad.toml", text).unwrap_err();
    let keys: Vec<&str> = found.iter().map(|e| e.key.as_str()).collect();
    for key in [
        "colour",
        "deployment.name",
        "deployment.id",
        "deployment.management_store",
        "pool[0].id",
        "pool[0].edition",
        "server[0].admin",
        "server[0].link",
        "policies.registration.min_expiry_s",
        "policies.authentication.rule[0].algorithm",
    ] {
        assert!(keys.contains(&key), "{key} in {keys:?}");
    }
    assert!(found.iter().all(|e| e.file == "bad.toml" && !e.remedy.is_empty() && !e.problem.is_empty()));
    let broken = parse("broken.toml", "a = 1\nb = [").unwrap_err();
    assert_eq!(broken.len(), 1);
    assert_eq!(broken[0].key, "line 2");
}

#[test]
fn broken_rules_between_parts_come_at_once() {
    let mut t = demo_topology();
    t.server[1].link = t.server[0].link;
    t.pool[1].site = "nowhere".to_owned();
    t.policies.registration.max_expiry_s = 10;
    t.policies.resilience.detection_ms = 300;
    t.deployment.domains.push("PAIRLINE.test".to_owned());
    let found = problems(validate(&t));
    for part in ["server[1].link", "pool[1].site", "policies.registration", "detection_ms", "domains[1]"] {
        assert!(found.iter().any(|p| p.contains(part)), "{part} in {found:?}");
    }
}

#[test]
fn pairing_rules_that_cannot_be_overridden() {
    let mut same_site = demo_topology();
    same_site.pool[1].site = "east".to_owned();
    same_site.pairing[0].accept_unsupported = Some("we insist".to_owned());
    assert!(problems(validate(&same_site))[0].contains("cannot be overridden"));

    let mut twice = demo_topology();
    let mut again = twice.pairing[0].clone();
    again.accept_unsupported = Some("we insist".to_owned());
    twice.pairing.push(again);
    assert!(problems(validate(&twice)).iter().any(|p| p.contains("one partner")));

    let mut itself = demo_topology();
    itself.pairing[0].b = EAST;
    assert!(problems(validate(&itself)).iter().any(|p| p.contains("itself")));
}

#[test]
fn unsupported_differences_need_a_reason() {
    let spoil: [fn(&mut Topology); 4] = [
        |t| t.pool[1].platform = Platform::Physical,
        |t| t.pool[1].base_os = "bsd".to_owned(),
        |t| t.pool[1].back_end = BackEndMethod::Single,
        |t| {
            t.pool[0].version = Some("0.1".to_owned());
            t.pool[1].version = Some("0.2".to_owned());
        },
    ];
    for spoil in spoil {
        let mut t = demo_topology();
        spoil(&mut t);
        assert!(problems(validate(&t))[0].contains("differs"));
        t.pairing[0].accept_unsupported = Some("  ".to_owned());
        assert!(validate(&t).is_err(), "blanks are no reason");
        t.pairing[0].accept_unsupported = Some("x".repeat(513));
        assert!(validate(&t).is_err(), "longer than any text of a document");
        t.pairing[0].accept_unsupported = Some("until the new hardware comes".to_owned());
        validate(&t).unwrap();
        let plan = plan_publish(&demo_topology(), &t).unwrap();
        assert!(plan.warnings.iter().any(|w| w.contains("until the new hardware comes")), "{:?}", plan.warnings);
    }
    let mut edition = demo_topology();
    edition.pool[1].edition = Edition::Enterprise;
    let found = problems(validate(&edition));
    assert!(found.iter().any(|p| p.contains("edition differs")), "{found:?}");
}

#[test]
fn differences_are_told_once_each() {
    let old = demo_topology();
    assert_eq!(diff(&old, &old), Vec::new());
    let mut new = old.clone();
    new.policies.resilience.detection_ms = 5_000;
    new.pairing.clear();
    new.pool[0].base_os = "debian".to_owned();
    let changes = diff(&old, &new);
    assert_eq!(changes.len(), 3, "{changes:?}");
    assert_eq!(changes[0], Change::Unpaired(EAST, WEST));
    assert_eq!(changes[1].to_string(), "~ policies.resilience.detection_ms: 2000 -> 5000");
    assert_eq!(changes[2].to_string(), "~ pool[1].base_os: \"linux\" -> \"debian\"");
}

#[test]
fn a_publish_says_who_does_what() {
    let paired = demo_topology();
    let mut single = paired.clone();
    single.pairing.clear();
    let plan = plan_publish(&single, &paired).unwrap();
    assert_eq!((plan.base_revision, plan.document.revision), (1, 2));
    let pair = |partner| Does::Pair { partner, groups: 32, with_cms: true };
    assert!(plan.effects.contains(&(ServerId(1), pair(WEST))) && plan.effects.contains(&(ServerId(2), pair(EAST))));
    assert!(plan.to_string().contains("seeding starts"));
    let back = plan_publish(&plan.document, &Topology { revision: 0, ..single }).unwrap();
    assert!(back.effects.contains(&(ServerId(1), Does::Unpair { partner: WEST })));
    assert!(back.warnings.iter().any(|w| w.contains("not paired")), "{:?}", back.warnings);
}

#[test]
fn what_a_publish_refuses() {
    let old = demo_topology();
    let refuse = |change: fn(&mut Topology), part: &str| {
        let mut new = demo_topology();
        change(&mut new);
        let found = problems(plan_publish(&old, &new));
        assert!(found.iter().any(|p| p.contains(part)), "{part} in {found:?}");
    };
    refuse(|t| t.revision = 7, "revision");
    refuse(|t| t.deployment.id = "other".to_owned(), "deployment.id");
    refuse(|t| t.deployment.domains.insert(0, "new.example".to_owned()), "default domain");
    refuse(|t| t.pool[0].routing_groups = 64, "routing_groups");
    refuse(|t| t.deployment.management_store = WEST, "management failover");
    refuse(|t| t.pool[1].fqdn = "w.example".to_owned(), "fqdn");
    refuse(
        |t| {
            t.pool.pop();
            t.server.pop();
            t.pairing.clear();
        },
        "still paired",
    );
}

#[test]
fn challenges_follow_the_rules_in_order() {
    let auth = demo_topology().policies.authentication;
    let ask = |agent| auth.algorithm("udp", agent);
    assert_eq!(ask(Some("baresip v1.0.0 (x86_64/linux)")), Algorithm::Md5);
    assert_eq!(ask(Some("sipp")), Algorithm::Md5);
    assert_eq!(ask(Some("baresip v2.0")), Algorithm::Sha256);
    assert_eq!(ask(Some("SIP")), Algorithm::Sha256);
    assert_eq!(ask(Some("bären")), Algorithm::Sha256);
    assert_eq!(ask(None), Algorithm::Sha256);
    assert_eq!(auth.algorithms(), vec![Algorithm::Sha256, Algorithm::Md5]);
}

#[test]
fn users_have_one_key_and_one_group() {
    let t = demo_topology();
    let alice = aor("alice", "Pairline.TEST").unwrap();
    assert_eq!(alice, "sip:alice@pairline.test");
    assert_eq!(user_key(&alice).owner.as_ref(), alice);
    for (user, domain) in [("", "a.b"), ("a b", "a.b"), ("a\"", "a.b"), ("a", "-x"), ("a", "")] {
        assert_eq!(aor(user, domain), None, "{user}@{domain}");
    }
    let place = DirectoryEntry { home: WEST, enabled: true }.place(&t, &alice).unwrap();
    assert_eq!(place.group, GroupId::of_user(WEST, 32, &alice));
    assert_eq!(DirectoryEntry { home: PoolId(9), enabled: true }.place(&t, &alice), None);
    let group = GroupId { pool: WEST, index: 31 };
    assert_eq!(group_of_key(&ownership_key(group)), Some(group));
    assert_eq!(group_of_key(&user_key(&alice)), None);
}

#[test]
fn stored_values_are_frozen() {
    let entry = DirectoryEntry { home: WEST, enabled: true };
    let hint = OwnershipHint { serving: EAST, epoch: Epoch { number: 300, granted_by: WEST } };
    golden("directory.v1", &entry.encode());
    golden("ownership.v1", &hint.encode());
    // The sample is of the day on which it was frozen; defaults have moved since.
    let mut demo = demo_topology();
    demo.policies.limits.transactions_per_server = 200_000;
    demo.policies.procedure.min_free_disk_percent = 10;
    demo.policies.authentication.rule.truncate(4);
    demo.server.iter_mut().for_each(|server| server.listener.truncate(2));
    golden("topology.v1", &encode_topology(&demo));
    assert_eq!(DirectoryEntry::decode(&sample("directory.v1")).unwrap(), entry);
    assert_eq!(OwnershipHint::decode(&sample("ownership.v1")).unwrap(), hint);
    assert_eq!(decode_topology(&sample("topology.v1")).unwrap(), demo);
}

#[test]
fn bad_stored_values_are_refused() {
    assert_eq!(DirectoryEntry::decode(&[]), Err(StoredError::Empty));
    assert_eq!(DirectoryEntry::decode(&[9, 1, 1]), Err(StoredError::Newer(9)));
    assert_eq!(DirectoryEntry::decode(&[1, 2, 1, 0]), Err(StoredError::Trailing(1)));
    assert!(matches!(DirectoryEntry::decode(&[1, 2]), Err(StoredError::Malformed(_))));
    assert!(matches!(decode_topology(&vec![1; 5_000_000]), Err(StoredError::TooLong(_))));
}

fn path(name: &str) -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn sample(name: &str) -> Vec<u8> {
    std::fs::read(path(name)).unwrap()
}

/// Compares with the frozen sample; a missing one is written and fails the test, so that it is looked at and committed.
fn golden(name: &str, value: &[u8]) {
    if !path(name).exists() {
        std::fs::write(path(name), value).unwrap();
        panic!("wrote the first sample {name}: check and commit it");
    }
    assert_eq!(sample(name), value, "{name}");
}
