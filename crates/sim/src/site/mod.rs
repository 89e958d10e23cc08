//! Two paired pools of several servers each: set-up, safety phase under faults and operators, healing, probes, last checks.
//!
//! Owns the phases and what there is only with two pools. The world, its clients, phones and faults of single servers are those of one
//! pool, in `pool`.

pub mod checks;
pub mod epochs;
pub mod faults;
pub mod operators;
pub mod options;
pub mod remedies;

use crate::pool::clients::Pending;
use crate::pool::options::Options;
use crate::pool::world::{Due, World};
use crate::pool::{self, clients};
use crate::rng::Rng;
use crate::run::Outcome;
use pairline_group::{Epoch, GroupId, Key, OpId};
use pairline_node::command::{Actor, Command, Problem, Reply};
use pairline_node::io::Input;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

/// Conditions that a set of seeds must meet, or it has proven nothing.
pub const SOMETIMES: [&str; 45] = [
    "servers were cut off while groups were opened",
    "power was lost",
    "a process died",
    "a majority was down",
    "a pool was lost",
    "all servers were down",
    "a server was frozen",
    "a pool was frozen",
    "two servers were cut off from each other",
    "one direction was cut",
    "a server was cut off from all others",
    "the pools were cut off from each other",
    "one direction between the pools was cut",
    "frames of one direction were slow",
    "a disk was slow",
    "a disk was full",
    "process ended by a disk fault",
    "a leader died with proposals in flight",
    "a frozen leader woke after another was elected",
    "a copy by state transfer was needed",
    "a disk was wiped",
    "an old disk came back",
    "a server was told that its disk is not the one of before",
    "a server that had lost its disk counts again",
    "a server was added",
    "a server was taken out",
    "a server was drained",
    "users were served in limits",
    "a change was repeated",
    "a phone registered",
    "a phone registered in limits",
    "a message was delivered",
    "a call was set up",
    "a planned failover was started",
    "a disaster failover was started",
    "a failback was started",
    "the management store was moved",
    "a command was refused by preflight",
    "a procedure was resumed or aborted",
    "the server of a procedure was lost",
    "a procedure was taken over",
    "two pools served one group, in two epochs",
    "a divergent tail was applied",
    "copies were proven equal",
    "a backup was behind",
];

/// How long operators mend what is left before everything must work.
const HEALING_MS: u64 = 30_000;

/// How long an answer to a command of the end may take.
const PATIENCE_MS: u64 = 130_000;

/// What there is only with two pools.
#[derive(Default)]
pub struct Pair {
    /// Promotions that were seen.
    pub promoted: BTreeSet<(GroupId, Epoch)>,
    /// Groups that the pool of an older epoch may still serve.
    pub split: BTreeMap<GroupId, Epoch>,
    /// When entries were first applied by whoever led: not before that anybody is told of them.
    pub led: BTreeMap<GroupId, BTreeMap<(Epoch, u64), u64>>,
    /// When each server applied entries, last.
    pub applied_at: BTreeMap<(usize, GroupId), BTreeMap<(Epoch, u64), u64>>,
    /// Since when two pools serve a group and everybody hears everybody.
    pub both_active: BTreeMap<GroupId, u64>,
    /// The server of the other pool that each server hears, and since when.
    pub heard_since: BTreeMap<usize, (usize, u64)>,
    /// Orders to stand down that are out: their number at whoever gave them, and which server, in which start.
    pub orders: BTreeMap<(usize, u64, u64), Command>,
    /// Whether the admin APIs reach each other while links are cut.
    pub admin_open: bool,
    /// Operations on the surviving histories, gathered at the end.
    pub applied: BTreeSet<OpId>,
    /// Operations in divergent tails.
    pub in_tails: BTreeSet<OpId>,
    /// Records of which tails have the state and not the operation.
    pub in_fronts: BTreeSet<Key>,
    /// All records that entries of tails touch.
    pub touched_by_tails: BTreeSet<Key>,
    /// The answer to the last command of a script.
    pub answer: Option<Result<Reply, Problem>>,
}

/// A server's process orders another one to stand down, by its admin API.
pub fn fence(world: &mut World, by: usize, id: u64, admin: SocketAddr, order: Command) {
    let Some(at) = world.members.all.iter().position(|server| server.admin == admin) else { return };
    let boot = world.servers[by].boot;
    if !world.servers[at].runs() || !reaches(world, by, at) {
        return fenced(world, (by, boot), id, (false, false));
    }
    world.pair.orders.insert((by, boot, id), order.clone());
    world.command_of(Actor::User(String::new()), at, order, Pending::Fence { by, boot, id, at });
}

/// Whether one server reaches the admin API of another.
fn reaches(world: &World, by: usize, at: usize) -> bool {
    world.mesh.whole(by, at) || world.pair.admin_open
}

/// That order was answered: whether by anybody, and whether it was carried out.
pub fn fenced(world: &mut World, (by, boot): (usize, u64), id: u64, (alive, fenced): (bool, bool)) {
    if world.servers[by].boot == boot {
        let command = Command::FenceAnswer { id, alive, fenced };
        world.give(by, vec![Input::Admin { request: 0, actor: Actor::Server, command }]);
    }
}

/// The answer to an order comes back, if it can.
pub fn fence_answered(world: &mut World, by: (usize, u64), id: u64, at: usize, done: bool) {
    if let Some(order) = world.pair.orders.remove(&(by.0, by.1, id)).filter(|_| done) {
        checks::stood_down(world, at, &order);
    }
    let alive = reaches(world, by.0, at);
    fenced(world, by, id, (alive, alive && done));
}

/// Gives a command and waits for its answer; nothing follows from it by chance.
pub fn ask(world: &mut World, at: usize, command: Command) -> Option<Result<Reply, Problem>> {
    world.pair.answer = None;
    world.command(at, command, Pending::Script);
    let end = world.now + PATIENCE_MS;
    while world.pair.answer.is_none() && world.now < end && world.is_good() {
        let next = world.now + 20;
        world.run_until(next);
    }
    world.pair.answer.take()
}

/// Runs one seed.
pub fn seed(seed: u64, change: impl FnOnce(&mut Options)) -> Outcome {
    let mut rng = Rng::new(seed ^ 0x517E);
    let mut options = options::drawn(&mut rng);
    change(&mut options);
    let mut world = World::new(rng.draw(), options);
    world.pair.admin_open = world.rng.chance(30);
    pool::set_up(&mut world);
    if world.options.operator_every_ms > 0 {
        let first = world.options.operator_every_ms;
        world.after(first, Due::Operator);
    }
    pool::strain(&mut world);
    heal(&mut world);
    pool::finish(seed, world)
}

/// Heals everything; operators finish what is open, and then it must all work.
fn heal(world: &mut World) {
    if !world.is_good() {
        return;
    }
    pool::faults::heal(world);
    world.after(500, Due::Operator);
    let settled = world.now + HEALING_MS;
    world.run_until(settled);
    world.quiet = true;
    clients::undrain(world);
    let calm = world.now + 5_000;
    world.run_until(calm);
    for check in [
        checks::nothing_is_stranded,
        checks::procedures_end,
        checks::tails_are_applied,
        pool::probes::run,
        checks::in_step,
    ] {
        if world.is_good() {
            check(world);
        }
    }
    if world.is_good() {
        pool::levelled(world);
    }
    for server in &mut world.servers {
        world.pair.in_tails.extend(server.tail_operations());
        world.pair.in_fronts.extend(server.tail_records());
        world.pair.touched_by_tails.extend(server.tail_touched());
    }
}
