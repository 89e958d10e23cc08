//! The witness of a pool: where it may stand, what a publish says of it, and how it is stored.
#![allow(clippy::unwrap_used)]

use pairline_group::ServerId;
use pairline_topology::demo::{EAST, WEST, enterprise, with_witnesses};
use pairline_topology::stored::{decode_topology, encode_topology};
use pairline_topology::{ServerRole, Topology, demo_topology, parse, plan_publish, to_toml, validate, warnings};

/// One Enterprise pool with this many Front Ends.
fn servers(count: u8) -> Topology {
    enterprise(&[(EAST, "east", (1..=count).map(|n| [127, 0, 1, n].into()).collect())], 5060)
}

/// Two of them, and a witness.
fn witnessed() -> Topology {
    with_witnesses(servers(2))
}

fn problems<T: std::fmt::Debug>(result: Result<T, Vec<pairline_topology::ConfigError>>) -> Vec<String> {
    result.unwrap_err().into_iter().map(|e| e.to_string()).collect()
}

#[test]
fn a_pool_of_two_and_its_witness_are_valid_and_read_back() {
    let t = witnessed();
    validate(&t).unwrap();
    let text = to_toml(&t);
    assert_eq!(text.matches("role = ").count(), 1, "only what is no Front End says so: {text}");
    assert_eq!(parse("demo.toml", &text).unwrap(), t);
    let witness = t.witness_of(EAST).unwrap();
    assert_eq!((witness.id, witness.name.as_str()), (ServerId(3), "witness.east.pairline.test"));
    assert_eq!(witness.role, ServerRole::Witness);
    assert_eq!(t.servers_of(EAST).len(), 2, "it is no Front End");
    assert_eq!(t.voters_of(EAST).iter().map(|s| s.id.0).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(t.witness_of(WEST), None);
}

#[test]
fn where_a_witness_cannot_stand_the_reason_is_said() {
    let refused = |change: &dyn Fn(&mut Topology), words: &[&str]| {
        let mut t = witnessed();
        change(&mut t);
        let found = problems(validate(&t));
        let says = |p: &String| words.iter().all(|word| p.contains(word));
        assert!(found.iter().any(says), "{words:?}: {found:?}");
    };
    refused(
        &|t| {
            let mut second = t.server[2].clone();
            (second.id, second.name) = (ServerId(9), "w2.east.pairline.test".to_owned());
            t.server.push(second);
        },
        &["server[3].role", "second witness of pool east", "remove one"],
    );
    let third = servers(3).server.remove(2);
    refused(
        &|t| {
            let mut third = third.clone();
            third.id = ServerId(4);
            t.server.push(third);
        },
        &["server[2].role", "has 3 Front Ends", "remove the witness in the publish that adds the third"],
    );
    refused(&|t| drop(t.server.remove(1)), &["does not have two Front Ends", "replaces no Front End"]);
    refused(&|t| t.server[2].listener = t.server[0].listener.clone(), &["server[2].listener", "serves no SIP"]);
    refused(&|t| t.server[2].dns = Some("127.0.1.3:5353".parse().unwrap()), &["server[2].dns", "serves no DNS"]);
    let mut standard = demo_topology();
    let mut witness = witnessed().server.remove(2);
    witness.id = ServerId(7);
    standard.server.push(witness);
    assert!(problems(validate(&standard)).iter().any(|p| p.contains("does not have two Front Ends")));
}

#[test]
fn a_publish_says_what_a_pool_of_two_does_not_survive_without_a_witness() {
    let said = |t: &Topology| warnings(t).into_iter().filter(|w| w.contains("surviv")).collect::<Vec<_>>();
    let without = said(&servers(2));
    assert!(without[0].contains("does not survive the loss of either"), "{without:?}");
    assert!(without[0].contains("role = \"witness\""), "{without:?}");
    assert_eq!(said(&witnessed()), Vec::<String>::new());
}

#[test]
fn a_witness_comes_and_goes_and_a_pool_grows_beyond_it_in_one_publish() {
    let plan = plan_publish(&servers(2), &witnessed()).unwrap().to_string();
    assert!(plan.contains("server 3 witness.east.pairline.test: joins once it is started"), "{plan}");
    let plan = plan_publish(&witnessed(), &servers(2)).unwrap().to_string();
    assert!(plan.contains("server 3 (removed): leaves") && plan.contains("does not survive"), "{plan}");
    let mut grown = servers(3);
    grown.server[2].id = ServerId(4);
    let plan = plan_publish(&witnessed(), &grown).unwrap().to_string();
    assert!(plan.contains("server 3 (removed): leaves") && plan.contains("server 4"), "{plan}");
    // A Front End is replaced while the witness and the other are a majority; not both at once.
    let mut replaced = witnessed();
    replaced.server[1].id = ServerId(5);
    plan_publish(&witnessed(), &replaced).unwrap();
    replaced.server[2].id = ServerId(6);
    let found = problems(plan_publish(&witnessed(), &replaced));
    assert!(found[0].contains("would lose 2 of its servers at once"), "{found:?}");
    let mut turned = servers(3);
    let found = problems(plan_publish(&witnessed(), &turned));
    assert!(found.iter().any(|p| p.contains("server fe3.east.pairline.test.role")), "{found:?}");
    turned.server[2].id = ServerId(4);
    plan_publish(&witnessed(), &turned).unwrap();
}

#[test]
fn a_document_with_a_witness_is_stored_as_text_and_one_without_as_ever() {
    assert_eq!(encode_topology(&servers(2))[0], 1, "earlier builds read it");
    let value = encode_topology(&witnessed());
    assert_eq!(value[0], 2);
    assert_eq!(decode_topology(&value).unwrap(), witnessed());
    // Read by every later build; defaults that are added later are not in it.
    let frozen = include_bytes!("golden/topology-witness.v2");
    let read = decode_topology(frozen).unwrap();
    assert_eq!((read.server, read.pool), (witnessed().server, witnessed().pool));
}
