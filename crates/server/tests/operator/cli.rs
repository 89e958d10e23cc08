//! The grammar of the command line.

use clap::{CommandFactory, Parser};
use pairline_server::cli::args::{Cli, PreflightCommand, Top, UserCommand};
use pairline_server::cli::args_pool::{PoolCommand, ProcedureCommand, WaitFor};
use std::path::Path;

fn parse(line: &str) -> Cli {
    Cli::try_parse_from(line.split_whitespace()).expect("good command line")
}

fn usage_error(line: &str) -> i32 {
    Cli::try_parse_from(line.split_whitespace()).expect_err("bad command line").exit_code()
}

#[test]
fn the_grammar_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_help() {
    fn look(command: &clap::Command, path: &str) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            assert!(sub.get_about().is_some(), "{path} has no help");
            look(sub, &path);
        }
    }
    look(&Cli::command(), "pairline");
}

#[test]
fn commands_of_the_documentation_are_understood() {
    for line in [
        "pairline up",
        "pairline up --listen 192.0.2.7 --fresh --users 100",
        "pairline up --topology t.toml --data d",
        "pairline server --config s.toml",
        "pairline user add alice --pool east --password-file p",
        "pairline user import users.csv --batch 1000",
        "pairline user where alice --json",
        "pairline user token alice --hours 1",
        "pairline registration list alice",
        "pairline registration drop alice --contact sip:alice@192.0.2.1",
        "pairline contact put alice sip:bob@pairline.test --name Bob --group work --group friends",
        "pairline settings set alice --note away --forward-to sip:bob@pairline.test",
        "pairline pool status --wait steady --timeout 60 --json",
        "pairline up --enterprise",
        "pairline pool health",
        "pairline pool health east --json",
        "pairline pool pair east west --accept-unsupported lab",
        "pairline pool failover east --disaster --confirm --reason fire",
        "pairline pool failback east --dry-run",
        "pairline pool divergence east --apply",
        "pairline pool assert-active east --confirm",
        "pairline management failover --dry-run",
        "pairline procedure abort ab12 --reclaim",
        "pairline preflight pool east",
        "pairline topology show",
        "pairline topology publish new.toml --dry-run",
        "pairline server create fe4.east.pairline.test",
        "pairline drill --users 200 --rate 50 --keep --json",
        "pairline drill --enterprise --users 60",
    ] {
        parse(line);
    }
}

#[test]
fn a_confirmation_without_value_means_yes() {
    let Top::Pool(PoolCommand::Failover { confirm, disaster, .. }) =
        parse("pairline pool failover east --disaster --confirm").command
    else {
        panic!("a failover")
    };
    assert_eq!((confirm.as_deref(), disaster), (Some("yes"), true));
    let Top::Pool(PoolCommand::Failover { confirm, .. }) =
        parse("pairline pool failover east --disaster --confirm a1b2").command
    else {
        panic!("a failover")
    };
    assert_eq!(confirm.as_deref(), Some("a1b2"));
}

#[test]
fn options_of_all_commands_may_stand_anywhere() {
    let cli = parse("pairline user show alice --server 192.0.2.1:7443 --data elsewhere --json");
    assert_eq!(cli.common.server, ["192.0.2.1:7443"]);
    assert_eq!(cli.common.data, Path::new("elsewhere"));
    assert!(cli.common.json && matches!(cli.command, Top::User(UserCommand::Show { .. })));
}

#[test]
fn waiting_and_resuming_are_read() {
    let Top::Pool(PoolCommand::Status { wait, timeout }) = parse("pairline pool status --wait steady").command else {
        panic!("a status")
    };
    assert_eq!((wait, timeout), (Some(WaitFor::Steady), 300));
    let resume = parse("pairline procedure resume ab12 --no-wait").command;
    assert!(matches!(resume, Top::Procedure(ProcedureCommand::Resume { no_wait: true, .. })));
    assert!(matches!(parse("pairline preflight dns").command, Top::Preflight(PreflightCommand::Dns)));
}

#[test]
fn wrong_usage_is_exit_code_two() {
    for line in [
        "pairline",
        "pairline fly",
        "pairline user import users.csv --batch 1001",
        "pairline pool status --wait quiet",
        "pairline server",
        "pairline drill --users 1",
        "pairline drill --enterprise --kills 5",
        "pairline user list --limit 0",
        "pairline up --listen phone",
    ] {
        assert_eq!(usage_error(line), 2, "{line}");
    }
}
