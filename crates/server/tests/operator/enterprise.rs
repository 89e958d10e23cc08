//! Pools of several servers in what `up` and the command line say of them.

use crate::grammar::fault;
use clap::Parser;
use pairline_node::command::Reply;
use pairline_node::view::{GroupHealthView, HealthView, PoolHealthView, ServerHealthView};
use pairline_server::cli::args::{Cli, Top};
use pairline_server::cli::{render, render_health};
use pairline_server::client::endpoints_of;
use pairline_server::shell::upkeep::peers;
use pairline_server::tls::PeerIdentity;
use pairline_server::up::clients::ClientFiles;
use pairline_server::up::create::certificate_names;
use pairline_server::up::greeting::Greeting;
use pairline_server::up::label;
use pairline_server::up::layout::Layout;
use pairline_topology::demo::{EAST, enterprise_of, with_witnesses};
use pairline_topology::{Server, Topology, demo_topology, enterprise_topology};
use std::path::Path;

fn greeting(topology: &Topology) -> String {
    let processes = [("fe1.east.pairline.test", 11), ("fe2.east.pairline.test", 12), ("fe3.east.pairline.test", 13)];
    Greeting {
        program: "pairline".to_owned(),
        layout: &Layout::new(Path::new("/srv/pairline-data")),
        topology,
        users: &[],
        missing: &[],
        processes: &processes,
        listen: None,
    }
    .text()
}

#[test]
fn the_greeting_names_every_front_end_and_how_to_lose_one() {
    let text = greeting(&enterprise_topology());
    assert!(text.contains("  east     east.pairline.test, 3 Front Ends; management store created here\n"), "{text}");
    for n in 1..=3 {
        assert!(text.contains(&format!("           fe{n}.east.pairline.test (process 1{n})\n")), "{text}");
        assert!(text.contains(&format!("admin API https://127.0.1.{n}:7443; DNS 127.0.1.{n}:5353")), "{text}");
    }
    assert!(text.contains("kill -9 13 "), "{text}");
    for pair in ["pool failover east", "drill --enterprise", "pool verify east"] {
        assert!(text.contains(pair), "{pair}: {text}");
    }
    let mut alone = enterprise_topology();
    alone.pairing.clear();
    for pair in ["failover", "drill", "pool verify"] {
        assert!(!greeting(&alone).contains(pair), "nothing is paired");
    }
    assert!(!greeting(&demo_topology()).contains("process"), "of one server a pool it is plain");
    let commands: Vec<&str> = text.lines().map(str::trim).filter(|line| line.starts_with("pairline ")).collect();
    assert!(commands.contains(&"pairline pool health"), "{text}");
    assert!(commands.iter().all(|command| fault(command, false).is_none()), "{commands:?}");
}

#[test]
fn a_witness_is_named_as_what_it_is() {
    let topology = with_witnesses(enterprise_of(2));
    let text = greeting(&topology);
    assert!(text.contains("  east     east.pairline.test, 2 Front Ends; management store created here\n"), "{text}");
    assert!(text.contains("witness.east.pairline.test: the witness; votes, and holds no data\n"), "{text}");
    assert!(!text.contains("does not survive the loss of either"), "{text}");
    assert!(greeting(&enterprise_of(2)).contains("role = \"witness\""), "without one it is said what for");
    let labels = topology.server.iter().map(|server| label(&topology, server)).collect::<Vec<_>>();
    assert_eq!(labels, ["fe1.east", "fe2.east", "fe1.west", "fe2.west", "witness.east", "witness.west"]);
    let last = endpoints_of(&topology).pop().and_then(|endpoint| endpoint.server);
    assert_eq!(last.as_deref(), Some("witness.west.pairline.test"), "asked when nobody else answers");
    // It speaks for itself only, and has to do with its own pool only.
    let witness = topology.witness_of(EAST).unwrap();
    let names = certificate_names(&topology, witness);
    assert_eq!(names.names, ["witness.east.pairline.test"]);
    let peers = |of: &Server| {
        let me = PeerIdentity { pool: of.pool, server: of.id };
        peers(&topology, me).into_iter().map(|peer| peer.name).collect::<Vec<_>>()
    };
    assert_eq!(peers(witness), ["fe1.east.pairline.test", "fe2.east.pairline.test"]);
    let of_front_end = peers(&topology.server[0]);
    assert_eq!(of_front_end.len(), 4, "the other Front Ends and its own witness: {of_front_end:?}");
    assert!(!of_front_end.contains(&"witness.west.pairline.test".to_owned()), "{of_front_end:?}");
}

#[test]
fn servers_are_called_by_their_pool_where_that_is_enough() {
    let labels = |t: &Topology| t.server.iter().map(|server| label(t, server)).collect::<Vec<_>>();
    assert_eq!(labels(&demo_topology()), ["east", "west"]);
    let all = ["fe1.east", "fe2.east", "fe3.east", "fe1.west", "fe2.west", "fe3.west"];
    assert_eq!(labels(&enterprise_topology()), all);
    let endpoints = endpoints_of(&enterprise_topology());
    assert_eq!(endpoints[2].server.as_deref(), Some("fe3.east.pairline.test"));
}

#[test]
fn users_begin_at_the_front_ends_in_turn_and_register_at_the_partner_too() {
    let topology = enterprise_topology();
    let file = |index: usize, path: &str| {
        let files = ClientFiles::new(&topology, Path::new("/a.pem"), EAST, "u", "U", "pw", index).all();
        files.into_iter().find(|(name, _)| name == Path::new(path)).expect("a file").1
    };
    for (index, own) in [1, 2, 3, 1].into_iter().enumerate() {
        let accounts = file(index, "baresip/outbound/accounts");
        assert!(accounts.contains(&format!("outbound1=\"sip:127.0.1.{own}:5060;transport=tcp\"")), "{accounts}");
        assert!(accounts.contains(&format!("outbound2=\"sip:127.0.2.{own}:5060;transport=tcp\"")), "{accounts}");
        assert!(file(index, "baresip/tls/accounts").contains(&format!("sip:127.0.1.{own}:5061;transport=tls")));
    }
    let config = file(0, "baresip/srv/config");
    let asked: Vec<&str> = config.lines().filter_map(|line| line.strip_prefix("dns_server\t\t")).collect();
    assert_eq!(asked, ["127.0.1.1:5353", "127.0.2.1:5353", "127.0.1.2:5353"], "no two of one site one after the other");
}

#[test]
fn a_topology_of_ones_own_is_no_demonstration() {
    let parse = |line: &str| Cli::try_parse_from(line.split(' '));
    let Ok(Cli { command: Top::Up(args), .. }) = parse("pairline up --enterprise --fresh --users 10") else { panic!() };
    assert!(args.enterprise && args.fresh && !args.witness);
    assert!(parse("pairline up --enterprise --servers 2 --witness").is_ok());
    assert!(parse("pairline up --witness").is_err(), "a pool of one server has no use for it");
    assert!(parse("pairline up --enterprise --topology t.toml").is_err());
}

#[test]
fn a_witness_for_other_pools_than_those_of_two_is_refused_before_anything_is_touched() {
    let Ok(Cli { command: Top::Up(args), .. }) = Cli::try_parse_from(["pairline", "up", "--enterprise", "--witness"])
    else {
        panic!()
    };
    let folder = std::env::temp_dir().join(format!("pairline-no-witness-{}", std::process::id()));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = runtime.block_on(pairline_server::up::run(&folder, &args)).unwrap_err().to_string();
    assert!(refused.contains("these have 3") && refused.contains("--servers 2"), "{refused}");
    assert!(!folder.exists());
}

fn server(name: &str, heard: &str, leads: u32, copies: u32) -> ServerHealthView {
    let up = heard == "up";
    ServerHealthView {
        server: name.into(),
        up,
        heard: heard.into(),
        leads,
        copies,
        of_copies: 33,
        behind: 0,
        witness: false,
    }
}

fn group(index: u16) -> GroupHealthView {
    GroupHealthView {
        group: format!("1/{index}"),
        state: "fewer-copies".into(),
        leader: Some("fe1".into()),
        copies: 2,
        of_copies: 3,
        missing: vec!["fe3".into()],
        ..GroupHealthView::default()
    }
}

#[test]
fn health_is_told_in_words_with_an_exit_code() {
    let mut view = HealthView {
        seen_by: "fe1.east.pairline.test".into(),
        pools: vec![PoolHealthView {
            pool: "east".into(),
            state: "degraded".into(),
            servers: vec![server("fe1.east", "up", 17, 33), server("fe3.east", "no link: it is down or cut off", 0, 0)],
            groups: 33,
            troubled: (0..14).map(group).collect(),
            survives: "no further server may fail: groups 0-13 have two of three copies".into(),
            next: vec!["fe3: its groups go on without it".into()],
        }],
    };
    let troubled = &mut view.pools[0].troubled;
    (troubled[5].state, troubled[5].leader) = ("no-leader".into(), None);
    troubled.push(GroupHealthView { group: "management store".into(), ..group(0) });
    let text = render::reply(&Reply::Health(view.clone()));
    let expected = "\
as seen by fe1.east.pairline.test

east: DEGRADED: every group has a majority, some have fewer copies than they should, or are not opened yet

SERVER    STATE                           LEADS  COPIES  BEHIND
--------  ------------------------------  -----  ------  ------
fe1.east  up                              17     33/33   -
fe3.east  no link: it is down or cut off  0      0/33    -

GROUPS                           STATE         COPIES  MISSING  BEHIND  LED BY
-------------------------------  ------------  ------  -------  ------  ------
1/0-4, 1/6-13, management store  fewer copies  2 of 3  fe3      -       fe1
1/5                              no leader     2 of 3  fe3      -       nobody

survives: no further server may fail: groups 0-13 have two of three copies
next: fe3: its groups go on without it
";
    assert_eq!(text, expected);
    for (state, code) in [("healthy", 0), ("degraded", 1), ("no-majority", 2), ("unknown", 2)] {
        view.pools[0].state = state.into();
        assert_eq!(render_health::exit_code(&view), code, "{state}");
    }
}
