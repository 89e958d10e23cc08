//! Procedures of two real nodes under virtual time: who wins, who may resume, what a procedure that was replaced does.
//!
//! Owns scripted cases that seeds meet too seldom.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::*;
use pairline_node::command::Command;

#[test]
fn of_two_commands_at_one_moment_one_wins_and_the_other_leaves_nothing() {
    let mut world = world();
    let (east, west) = (groups_of(&world, EAST), groups_of(&world, WEST));
    give(&mut world, WEST, failover("east"));
    give(&mut world, EAST, failover("west"));
    until(&mut world, 120_000, |world| world.answers.len() >= 2);
    let east_moves = answers_to(&world, &failover("east")).remove(0);
    let west_moves = answers_to(&world, &failover("west")).remove(0);
    let (winner, loser) = if east_moves.is_ok() { (east_moves, west_moves) } else { (west_moves, east_moves) };
    assert_eq!(view(winner).state, "done");
    let refused = loser.unwrap_err();
    assert_eq!((refused.status, refused.kind.as_str()), (409, "procedure-running"), "{refused:?}");
    let more = world.now + 3_000;
    world.run_until(more);
    for site in [EAST, WEST] {
        let all = procedures(&mut world, site);
        assert_eq!(all.len(), 1, "the loser left nothing at site {site}: {all:?}");
        assert_eq!(all[0].state, "done");
    }
    // Neither node is held up by it.
    let moved = if active(&world, WEST, &east) == east.len() { "east" } else { "west" };
    let home = if moved == "east" { EAST } else { WEST };
    assert_eq!(view(ask(&mut world, home, failback(moved))).state, "done");
    assert_eq!((active(&world, EAST, &east), active(&world, WEST, &west)), (east.len(), west.len()));
    clean(&world);
}

#[test]
fn a_failback_that_was_replaced_while_cut_off_moves_nothing_when_the_link_heals() {
    let mut world = world();
    let east = groups_of(&world, EAST);
    assert_eq!(view(ask(&mut world, WEST, failover("east"))).state, "done");
    // The management store is at west now; east's runner is cut off when its first group has come home.
    give(&mut world, EAST, failback("east"));
    until(&mut world, 30_000, |world| active(world, EAST, &groups_of(world, EAST)) > 0);
    cut(&mut world, true);
    let more = world.now + 6_000;
    world.run_until(more);
    let replaced = view(ask(&mut world, WEST, disaster("east", true)));
    assert_eq!(replaced.state, "done", "{replaced:?}");
    assert_eq!(active(&world, WEST, &east), east.len());
    cut(&mut world, false);
    in_step(&mut world);
    let more = world.now + 20_000;
    world.run_until(more);
    assert_eq!((active(&world, EAST, &east), active(&world, WEST, &east)), (0, east.len()), "east took nothing back");
    for site in [EAST, WEST] {
        let all = procedures(&mut world, site);
        let states: Vec<&str> = all.iter().map(|p| p.state.as_str()).collect();
        assert_eq!(states, ["done", "superseded", "done"], "site {site}: {all:?}");
        let old = all[1].id.clone();
        let refused = ask(&mut world, site, Command::ProcedureResume { id: old }).unwrap_err();
        assert_eq!(refused.kind, "cannot-start", "{refused:?}");
    }
    assert_eq!(view(ask(&mut world, EAST, failback("east"))).state, "done");
    clean(&world);
}
