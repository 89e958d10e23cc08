//! Pools of several servers: what they survive, what a publish says of it, and what cannot be done with them yet.
#![allow(clippy::unwrap_used)]

use pairline_group::{GroupId, PoolId, ServerId};
use pairline_topology::demo::{EAST, enterprise, enterprise_topology};
use pairline_topology::{Edition, Topology, demo_topology, parse, plan_publish, to_toml, validate, warnings};

/// One Enterprise pool with this many servers.
fn servers(count: u8) -> Topology {
    enterprise(&[(EAST, "east", (1..=count).map(|n| [127, 0, 1, n].into()).collect())], 5060)
}

fn problems<T: std::fmt::Debug>(result: Result<T, Vec<pairline_topology::ConfigError>>) -> Vec<String> {
    result.unwrap_err().into_iter().map(|e| e.to_string()).collect()
}

#[test]
fn the_enterprise_demonstration_is_valid_and_reads_back() {
    let demo = enterprise_topology();
    validate(&demo).unwrap();
    assert_eq!(parse("demo.toml", &to_toml(&demo)).unwrap(), demo);
    let names: Vec<&str> = demo.servers_of(EAST).iter().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["fe1.east.pairline.test", "fe2.east.pairline.test", "fe3.east.pairline.test"]);
    assert_eq!(demo.servers_of(EAST)[2].admin, "127.0.1.3:7443".parse().unwrap());
    assert_eq!(
        demo.servers_of(EAST)[0],
        demo_topology().servers_of(EAST)[0],
        "the first is the one of the small demonstration"
    );
}

#[test]
fn a_server_knows_its_own_name_and_the_pools_and_not_its_neighbours() {
    let names = servers(3).own_names(ServerId(2));
    assert_eq!(names, ["127.0.1.2", "east.pairline.test", "fe2.east.pairline.test", "pairline.test"]);
    let paired = enterprise_topology().own_names(ServerId(2));
    assert!(
        paired.contains(&"west.pairline.test".to_owned()) && !paired.contains(&"fe3.east.pairline.test".to_owned())
    );
}

#[test]
fn a_publish_says_what_a_pool_survives() {
    let said = |count: u8| {
        let t = servers(count);
        validate(&t).unwrap();
        let plan = plan_publish(&t, &t).unwrap();
        assert_eq!(plan.warnings, warnings(&t));
        plan.warnings.into_iter().filter(|w| w.contains("surviv")).collect::<Vec<_>>()
    };
    assert!(said(2)[0].contains("does not survive the loss of either"), "{:?}", said(2));
    assert_eq!(said(3), Vec::<String>::new(), "as anybody expects");
    for count in [4, 5, 16] {
        let t = servers(count);
        assert!(warnings(&t).iter().any(|w| w.contains("any one server of each group's three")), "{count}");
        validate(&t).unwrap();
    }
    assert!(problems(validate(&servers(17))).iter().any(|p| p.contains("has 17 servers")));
    assert!(problems(validate(&servers(1)))[0].contains("has 1 servers"));
}

#[test]
fn servers_come_as_many_as_one_likes_and_go_one_at_a_time() {
    let (three, five) = (servers(3), servers(5));
    let plan = plan_publish(&three, &five).unwrap().to_string();
    assert!(plan.contains("fe5.east.pairline.test: joins once it is started"), "{plan}");
    let plan = plan_publish(&five, &servers(4)).unwrap().to_string();
    assert!(plan.contains("server 5 (removed): leaves"), "{plan}");
    let found = problems(plan_publish(&five, &three));
    assert!(found[0].contains("would lose 2 of its servers at once, and with them a majority of"), "{found:?}");
    plan_publish(&three, &servers(2)).unwrap();
    let found = problems(plan_publish(&servers(2), &servers(1)));
    assert!(found.iter().any(|p| p.contains("would lose 1 of its servers at once")), "{found:?}");
    // Two at once, where no group has copies on both.
    let mut few = servers(16);
    few.pool[0].routing_groups = 1;
    let mut without = few.clone();
    let on =
        |group| pairline_group::placement::of(group, &few.servers_of(EAST).iter().map(|s| s.id).collect::<Vec<_>>());
    let (first, store) = (on(GroupId { pool: EAST, index: 0 }), on(GroupId::CMS));
    let both = |a: &ServerId, b: &ServerId| [&first, &store].iter().any(|on| on.contains(a) && on.contains(b));
    let other = (1..=16).map(ServerId).find(|other| !first.contains(other) && !both(&first[0], other)).unwrap();
    without.server.retain(|server| server.id != first[0] && server.id != other);
    plan_publish(&few, &without).unwrap();
    let mut replaced = three.clone();
    replaced.server[2].id = ServerId(9);
    plan_publish(&three, &replaced).unwrap();
    let mut standard = demo_topology();
    standard.server[1].id = ServerId(7);
    assert!(
        plan_publish(&demo_topology(), &standard).is_err(),
        "a Standard pool's does not: its one server has the only copies"
    );
    let mut moved = three.clone();
    moved.server[2].admin.set_port(7445);
    plan_publish(&three, &moved).unwrap();
    let mut grown = three.clone();
    grown.pool[0].edition = Edition::Standard;
    grown.server.truncate(1);
    let found = problems(plan_publish(&grown, &three));
    assert!(found.iter().any(|p| p.contains("cannot get others yet")), "{found:?}");
}

fn in_domains(domains: &[Option<u16>]) -> Topology {
    let mut t = servers(u8::try_from(domains.len()).unwrap());
    for (server, domain) in t.server.iter_mut().zip(domains) {
        server.upgrade_domain = *domain;
    }
    t
}

#[test]
fn upgrade_domains_are_of_all_front_ends_or_none_and_at_least_three() {
    let five = in_domains(&[Some(1), Some(2), Some(3), Some(1), Some(2)]);
    validate(&five).unwrap();
    let text = to_toml(&five);
    assert!(text.contains("upgrade_domain = 3"), "{text}");
    assert_eq!(parse("five.toml", &text).unwrap(), five);
    let found = problems(parse("five.toml", &text.replace("upgrade_domain = 3", "upgrade_domain = 0")));
    assert!(found.iter().any(|p| p.contains("upgrade_domain")), "{found:?}");
    assert!(warnings(&five)[0].contains("survives all servers of any one upgrade domain"), "{:?}", warnings(&five));
    let found = problems(validate(&in_domains(&[Some(1), Some(2), None, Some(3)])));
    assert!(found.len() == 1 && found[0].contains("server[2].upgrade_domain"), "{found:?}");
    let found = problems(validate(&in_domains(&[Some(1), Some(2), Some(1), Some(2)])));
    assert!(found.len() == 1 && found[0].contains("has 2 upgrade domains"), "{found:?}");
    let mut witnessed = servers(3);
    witnessed.server[2].role = pairline_topology::ServerRole::Witness;
    (witnessed.server[2].listener, witnessed.server[2].dns) = (Vec::new(), None);
    validate(&witnessed).unwrap();
    witnessed.server[2].upgrade_domain = Some(1);
    let found = problems(validate(&witnessed));
    assert!(found.len() == 1 && found[0].contains("a witness has no upgrade domain"), "{found:?}");
}

#[test]
fn another_upgrade_domain_is_no_reason_for_a_restart() {
    let plan = plan_publish(&servers(3), &in_domains(&[Some(1), Some(2), Some(3)])).unwrap().to_string();
    assert!(plan.contains("upgrade_domain") && !plan.contains("restart"), "{plan}");
}

/// The small demonstration whose second pool has two servers more.
fn with_a_larger_west() -> Topology {
    let mut t = demo_topology();
    t.pool[1].edition = Edition::Enterprise;
    for (id, mut server) in (3..).zip(servers(3).server.split_off(1)) {
        server.id = ServerId(id);
        server.pool = PoolId(2);
        t.server.push(server);
    }
    t
}

#[test]
fn pools_of_several_servers_can_be_paired() {
    let mut t = with_a_larger_west();
    assert!(problems(validate(&t)).iter().all(|p| p.contains("edition")), "{:?}", problems(validate(&t)));
    t.pairing[0].accept_unsupported = Some("we insist".to_owned());
    validate(&t).unwrap();
    validate(&enterprise_topology()).unwrap();
}

#[test]
fn an_enterprise_pool_shares_its_deployment_with_its_partner_only_for_now() {
    let mut t = with_a_larger_west();
    t.pairing.clear();
    let found = problems(validate(&t));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("west is an Enterprise pool") && found[0].contains("only pool"), "{found:?}");
    let mut three = enterprise_topology();
    let mut north = (three.pool[1].clone(), three.server[5].clone());
    (north.0.id, north.0.name, north.0.fqdn) = (PoolId(3), "north".to_owned(), "north.pairline.test".to_owned());
    (north.1.id, north.1.pool, north.1.name) = (ServerId(9), PoolId(3), "fe1.north.pairline.test".to_owned());
    north.0.edition = Edition::Standard;
    three.pool.push(north.0);
    three.server.push(north.1);
    assert!(
        problems(validate(&three)).iter().any(|p| p.contains("at most two pools")),
        "{:?}",
        problems(validate(&three))
    );
}
