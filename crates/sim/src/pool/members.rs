//! Which servers a pool has: those of the document in force. Servers are added, taken out, and put in the place of others while it works.
//!
//! Owns the servers that there ever are, the document that each knows, and the operators who publish one, start who has come and stop who
//! has gone. What a document may say, and when, is the servers' matter; when operators try is drawn from the seed.

use super::clients::Pending;
use super::faults::Mend;
use super::options::{self, Options};
use super::world::{Due, World};
use super::{checks, disks};
use pairline_group::{Epoch, GroupId, LinkId};
use pairline_node::command::{Command, Problem, Reply};
use pairline_node::io::Input;
use pairline_topology::{Topology, model};

/// Fewest servers that operators leave in a pool.
const FEWEST: usize = 3;

/// Longest time after which an operator starts who has come, or stops who has gone.
const BY_HAND_MS: u64 = 2_500;

/// What is known of it.
pub struct Members {
    /// All servers by their numbers in the run, also those that are no part of the deployment yet, or any more.
    pub all: Vec<model::Server>,
    /// The document that each knows.
    known: Vec<Topology>,
    /// Revision of the last that each has applied since its start.
    applied: Vec<u64>,
    /// Epoch of the management store and revision of the document in force.
    version: (Epoch, u64),
}

impl Members {
    /// All servers of a run, and the document of those with which it begins.
    pub fn of(options: &Options) -> (Members, Topology) {
        let mut topology = options::topology(options);
        let all = topology.server.clone();
        for (pool, servers) in topology.pool.clone().iter().zip(&options.servers) {
            let later: Vec<_> = topology.servers_of(pool.id).iter().skip(*servers).map(|server| server.id).collect();
            topology.server.retain(|server| !later.contains(&server.id));
        }
        let known = all.iter().map(|_| topology.clone()).collect();
        let applied = all.iter().map(|_| 0).collect();
        (Members { all, known, applied, version: Default::default() }, topology)
    }

    /// Whether each of two servers has the other in its document: else no connection between them is made.
    pub fn know_each_other(&self, a: usize, b: usize) -> bool {
        self.knows(a, b) && self.knows(b, a)
    }

    fn knows(&self, at: usize, other: usize) -> bool {
        self.known[at].server(self.all[other].id).is_some()
    }

    /// A server starts with the present document.
    pub fn started(&mut self, at: usize, topology: &Topology) {
        self.known[at] = topology.clone();
        self.applied[at] = 0;
    }
}

/// A document is in force at a server: who is not in it is cut off, and who is new connected.
pub fn adopted(world: &mut World, at: usize, document: Topology) {
    world.note("document", &format!("server {at}: revision {}", document.revision));
    let before = std::mem::replace(&mut world.members.applied[at], document.revision);
    // With two pools, what was published in an epoch that did not last is taken back.
    if document.revision < before && !world.is_paired() {
        let what = format!("server {at} applies revision {} of the document after {before}", document.revision);
        world.history.violate(8, what);
    }
    world.members.known[at] = document;
    for other in (0..world.size()).filter(|other| *other != at) {
        match world.mesh.end(at, other) {
            Some(link) if !world.members.knows(at, other) => cut_off(world, at, other, link),
            None if world.members.know_each_other(at, other) => world.passes(at, other),
            _ => {}
        }
    }
}

fn cut_off(world: &mut World, at: usize, other: usize, link: LinkId) {
    world.mesh.drop_end(at, other);
    world.give(at, vec![Input::LinkDown { link }]);
    if let Some(there) = world.mesh.end(other, at) {
        world.after(2, Due::GiveUp(other, at, there));
    }
}

/// The document in force: that of whoever can commit in the management store.
fn in_force(world: &World) -> Option<((Epoch, u64), Topology)> {
    let committing = checks::committing(world, GroupId::CMS);
    let (at, epoch) = committing.into_iter().max_by_key(|(_, epoch)| *epoch)?;
    let node = world.servers[at].node.as_ref().filter(|_| world.servers[at].runs())?;
    let document = node.inspect(|core| core.document.is_published().then(|| (*core.topology).clone()))?;
    Some(((epoch, document.revision), document))
}

/// Keeps to the document in force: operators start who has come, and stop who has gone.
pub fn follow(world: &mut World) {
    let Some((version, document)) = in_force(world).filter(|(version, _)| *version > world.members.version) else {
        return;
    };
    world.members.version = version;
    let before: Vec<bool> = (0..world.size()).map(|at| world.is_member(at)).collect();
    world.topology = document;
    for (at, before) in before.into_iter().enumerate() {
        let wait = world.rng.between(1, BY_HAND_MS);
        match (before, world.is_member(at)) {
            (false, true) => {
                world.met("a server was added");
                // One that was taken out a moment ago goes on as it was until it is stopped.
                world.stop(at, false);
                // It is the machine of before, or another one with its name.
                if world.servers[at].node.is_none() && world.rng.chance(50) {
                    world.servers[at].empty_disk();
                    disks::may_be_new(world, at);
                }
                world.after(wait, Due::Mend(Mend::Start(at)));
            }
            (true, false) => {
                world.met("a server was taken out");
                let pool = world.side[at];
                disks::unsettled(world, pool, None);
                world.after(wait, Due::Mend(Mend::Retire(at)));
            }
            _ => {}
        }
    }
}

/// Who is no part of the deployment any more is stopped.
pub fn retire(world: &mut World, at: usize) {
    if !world.is_member(at) {
        world.stop(at, false);
    }
}

/// One operator publishes a document: a server more, one less, or one in the place of another.
pub fn act(world: &mut World) {
    if world.healing {
        return;
    }
    let pool = usize::try_from(world.rng.below(world.options.servers.len() as u64)).unwrap_or(0);
    let there = world.pool(pool);
    let others: Vec<usize> = (0..world.size()).filter(|at| world.side[*at] == pool && !there.contains(at)).collect();
    let comes = world.rng.pick(&others).copied();
    let goes = world.rng.pick(&there).copied();
    let (comes, goes) = match world.rng.below(10) {
        0..=3 => (comes, None),
        4..=6 => (None, goes),
        _ => (comes, goes),
    };
    let left = there.len() + usize::from(comes.is_some()) - usize::from(goes.is_some());
    let goes = goes.filter(|_| left >= FEWEST && disks::is_settled(world, pool));
    if (comes.is_some() || goes.is_some()) && !world.pair.split.contains_key(&GroupId::CMS) {
        publish(world, pool, comes, goes);
    }
    let mean = world.options.members_every_ms;
    let wait = world.rng.between(mean / 2 + 1, mean * 2);
    world.after(wait, Due::Members);
}

fn publish(world: &mut World, pool: usize, comes: Option<usize>, goes: Option<usize>) {
    let mut document = Topology { revision: 0, ..world.topology.clone() };
    if let Some(goes) = goes {
        // Whatever comes of it: no disk is lost before.
        disks::unsettled(world, pool, None);
        let id = world.members.all[goes].id;
        document.server.retain(|server| server.id != id);
    }
    document.server.extend(comes.map(|comes| world.members.all[comes].clone()));
    let there = world.pool(pool);
    let Some(at) = world.rng.pick(&there).copied() else { return };
    world.note("publish", &format!("through server {at}: {comes:?} comes, {goes:?} goes"));
    let document = pairline_topology::to_toml(&document);
    world.command(at, Command::TopologyPublish { document, dry_run: false }, Pending::Publish);
}

/// A publication was answered.
pub fn published(world: &mut World, reply: &Result<Reply, Problem>) {
    match reply {
        Ok(_) => follow(world),
        Err(problem) if problem.kind == "copies-missing" => world.met("no server might go"),
        Err(_) => {}
    }
}
