//! Administrators' clients of a pool: they read and change contacts, settings and users through any server, repeat what was not
//! answered, and note what they were told.
//!
//! Owns the workload of commands and its history. Each value is written once, so that a read says which write it saw.

use super::register::{Register, Value};
use super::world::{Due, World};
use crate::phones::PASSWORD;
use pairline_group::{GroupId, Key};
use pairline_node::command::{Command, Problem, Reply};
use std::collections::{BTreeMap, BTreeSet};

/// Users of a run that have a phone; others are added while it goes on.
pub const USERS: usize = 6;

/// The contact whose name is the register of each user.
const REGISTER: &str = "sip:register@pairline.test";

/// A command under way.
#[derive(Clone, Debug)]
pub enum Pending {
    /// A write of a user's register, with its value and the step at which it began.
    Write(usize, u64, u64),
    /// A read of a user's register, with the step at which it began.
    Read(usize, u64),
    /// A contact that is only added, by its number.
    Add(usize),
    /// A change of a user's note.
    Note(usize, u64),
    /// A read of it.
    ReadNote(usize),
    /// A read of a user's bindings, with the step at which it began.
    Where(usize, u64),
    /// A new user, by number.
    NewUser(usize),
    /// A server passes on what it leads, or may lead again.
    Drain,
    /// The same of a server, by its place, that is then started anew.
    Restart(usize),
    /// A user of the run, by number.
    SetUp(usize),
    /// A document that is published.
    Publish,
    /// An operator's command, with the time at which it was given.
    Operator(Command, u64),
    /// An order to stand down, of a server in one start of it, with its number for it, to another.
    Fence {
        /// Who gave it.
        by: usize,
        /// In which start.
        boot: u64,
        /// Its number there.
        id: u64,
        /// Who got it.
        at: usize,
    },
    /// A command of a script: its answer is kept, and nothing follows from it by chance.
    Script,
}

/// A change that is made once and stays.
#[derive(Clone, Debug)]
struct Lasting {
    user: usize,
    name: String,
    acknowledged: bool,
}

/// What clients have done and were told.
#[derive(Default)]
pub struct Clients {
    /// Users by number.
    pub users: Vec<String>,
    there: BTreeSet<usize>,
    /// Users whose group may be served by two pools at once, each in an epoch of its own: nothing is counted.
    split: BTreeSet<usize>,
    /// Operations on a user's register that began before this step count for nothing.
    counted_from: BTreeMap<usize, u64>,
    registers: BTreeMap<usize, Register>,
    next_value: u64,
    adds: Vec<Lasting>,
    /// Writes that were not answered: user and value.
    open: Vec<(usize, u64)>,
    /// Newest note of a user that was acknowledged, and all that were written.
    notes: BTreeMap<usize, Vec<u64>>,
    new_users: Vec<Lasting>,
    /// What is tried after healing.
    pub probes: Vec<super::probes::Probe>,
}

/// Adds the users of the run that are not there yet; whether all are.
pub fn set_up(world: &mut World) -> bool {
    if world.clients.users.is_empty() {
        world.clients.users = (0..USERS).map(|number| format!("u{number}")).collect();
    }
    for number in 0..USERS {
        if !world.clients.there.contains(&number) {
            let command = add_user(world, world.clients.users[number].clone());
            let members = world.members();
            let at = members[number % members.len()];
            world.command(at, command, Pending::SetUp(number));
        }
    }
    let next = world.now + 3_000;
    world.run_until(next);
    world.clients.there.len() == USERS
}

fn add_user(world: &World, user: String) -> Command {
    let home = super::checks::home_of(world, &user);
    let pool = home.and_then(|home| Some(world.topology.pool(home)?.name.clone()));
    Command::UserAdd { user, password: PASSWORD.to_owned(), display_name: None, pool }
}

/// Users of the run whose group that is.
fn users_of(world: &World, group: GroupId) -> Vec<usize> {
    let of = |number: &usize| aor(&format!("u{number}")).and_then(|user| super::checks::group_of(world, &user));
    (0..USERS).filter(|number| of(number) == Some(group)).collect()
}

/// A group was promoted without the source's help: two pools may serve its users, and what was acknowledged may be in a tail.
pub fn split(world: &mut World, group: GroupId) {
    for number in users_of(world, group) {
        world.clients.split.insert(number);
        if let Some(phone) = world.phones.all.get_mut(number) {
            phone.bindings.split();
        }
    }
}

/// One pool serves a group again, alone. Whatever was written before may be there, or come from a tail.
pub fn whole(world: &mut World, group: GroupId) {
    let step = world.step();
    for number in users_of(world, group) {
        world.clients.split.remove(&number);
        world.clients.counted_from.insert(number, step);
        let register = world.clients.registers.entry(number).or_default();
        *register = register.forgotten();
        if let Some(phone) = world.phones.all.get_mut(number) {
            phone.bindings.whole(step);
        }
    }
}

/// Whether an operation that began at a step is counted.
fn counts_now(world: &World, number: usize, began: u64) -> bool {
    let from = world.clients.counted_from.get(&number).copied().unwrap_or(0);
    !world.clients.split.contains(&number) && began >= from
}

/// One client acts.
pub fn act(world: &mut World) {
    let at = world.any_server();
    let number = usize::try_from(world.rng.below(USERS as u64)).unwrap_or(0);
    match world.rng.below(100) {
        0..=29 => write(world, at, number),
        30..=59 => read(world, at, number),
        60..=66 => again(world, at),
        67..=74 => add(world, at, number),
        75..=79 => note(world, at, number),
        80..=83 => {
            let user = world.clients.users[number].clone();
            world.command(at, Command::SettingsGet { user }, Pending::ReadNote(number));
        }
        84..=95 => {
            let user = world.clients.users[number].clone();
            let began = world.step();
            world.command(at, Command::UserWhere { user }, Pending::Where(number, began));
        }
        96..=97 => new_user(world, at),
        _ => drain(world, at),
    }
    let pause = world.options.change_every_ms;
    let wait = world.rng.between(pause / 2 + 1, pause * 2);
    world.after(wait, Due::Client);
}

fn write(world: &mut World, at: usize, number: usize) {
    world.clients.next_value += 1;
    let value = world.clients.next_value;
    send_write(world, at, number, value);
}

/// A server is told to pass on what it leads, or that it may lead again; most are told so by whoever is asked.
fn drain(world: &mut World, at: usize) {
    let which = world.any_server();
    let server = world.members.all[which].name.clone();
    let command = match world.rng.chance(50) {
        true => Command::ServerDrain { server, seconds: 5 },
        false => Command::ServerUndrain { server },
    };
    let restarts = matches!(command, Command::ServerDrain { .. }) && world.rng.chance(60);
    world.command(at, command, if restarts { Pending::Restart(which) } else { Pending::Drain });
}

/// No server is to be drained any more.
pub fn undrain(world: &mut World) {
    for which in world.members() {
        let server = world.members.all[which].name.clone();
        world.command(which, Command::ServerUndrain { server }, Pending::Drain);
    }
}

/// Many writes through one server at one moment.
pub fn burst(world: &mut World, at: usize) {
    for number in 0..4 * USERS {
        write(world, at, number % USERS);
    }
}

/// A write that was not answered, once more, under the same operation id.
fn again(world: &mut World, at: usize) {
    let open = world.clients.open.clone();
    let Some((number, value)) = world.rng.pick(&open).copied() else { return };
    world.clients.open.retain(|(_, of)| *of != value);
    world.met("a change was repeated");
    send_write(world, at, number, value);
}

fn send_write(world: &mut World, at: usize, number: usize, value: u64) {
    let step = world.step();
    world.clients.registers.entry(number).or_default().writes(value, step);
    let user = world.clients.users[number].clone();
    let command = Command::ContactPut {
        op: Some((format!("session-{user}"), value)),
        user,
        contact: REGISTER.to_owned(),
        name: value.to_string(),
        groups: Vec::new(),
    };
    world.command(at, command, Pending::Write(number, value, step));
}

/// Reads a user's register.
pub fn read(world: &mut World, at: usize, number: usize) {
    let user = world.clients.users[number].clone();
    let began = world.step();
    world.command(at, Command::ContactList { user }, Pending::Read(number, began));
}

fn add(world: &mut World, at: usize, number: usize) {
    let count = world.clients.adds.len();
    let name = format!("sip:c{count}@pairline.test");
    world.clients.adds.push(Lasting { user: number, name: name.clone(), acknowledged: false });
    let user = world.clients.users[number].clone();
    let op = Some((format!("adds-{user}"), count as u64 + 1));
    let command = Command::ContactPut { user, contact: name, name: "added".to_owned(), groups: Vec::new(), op };
    world.command(at, command, Pending::Add(count));
}

fn note(world: &mut World, at: usize, number: usize) {
    world.clients.next_value += 1;
    let value = world.clients.next_value;
    world.clients.notes.entry(number).or_default().push(value);
    let user = world.clients.users[number].clone();
    let command = Command::SettingsPut { user, display_name: None, forward_to: None, note: Some(value.to_string()) };
    world.command(at, command, Pending::Note(number, value));
}

fn new_user(world: &mut World, at: usize) {
    let count = world.clients.new_users.len();
    let name = format!("n{count}");
    world.clients.new_users.push(Lasting { user: 0, name: name.clone(), acknowledged: false });
    let command = add_user(world, name);
    world.command(at, command, Pending::NewUser(count));
}

/// A command was answered.
pub fn answered(world: &mut World, at: usize, what: Pending, reply: &Result<Reply, Problem>) {
    let step = world.step();
    match (what, reply) {
        (Pending::Write(number, value, began), Ok(_)) => {
            if counts_now(world, number, began) {
                world.clients.registers.entry(number).or_default().wrote(value, step);
            }
            acknowledged(world, number, &format!("session-u{number}"), value);
        }
        (Pending::Write(number, value, _), Err(_)) => {
            world.met("a change was refused");
            if world.clients.open.len() < 20 {
                world.clients.open.push((number, value));
            }
        }
        (Pending::Read(number, began), Ok(Reply::Contacts { contacts, read_only })) => {
            let found = contacts.iter().find(|contact| contact.contact == REGISTER);
            let value: Value = found.and_then(|contact| contact.name.parse().ok());
            if *read_only {
                return world.met("users were served in limits");
            }
            world.note("read", &format!("user {number} through {at}: {value:?}"));
            if !counts_now(world, number, began) {
                return;
            }
            let register = world.clients.registers.entry(number).or_default();
            register.read(value, began, step);
            if let Err(why) = register.check() {
                let what = format!("contacts of u{number}, read through server {at}: {why}");
                world.history.violate(1, what);
            }
        }
        (Pending::Add(count), Ok(_)) => {
            let user = world.clients.adds[count].user;
            world.clients.adds[count].acknowledged = true;
            acknowledged(world, user, &format!("adds-u{user}"), count as u64 + 1);
        }
        (Pending::ReadNote(number), Ok(Reply::Settings(view))) => {
            let value = view.note.as_ref().and_then(|note| note.parse::<u64>().ok());
            if value.is_some_and(|value| !world.clients.notes.entry(number).or_default().contains(&value)) {
                world.history.violate(1, format!("settings of u{number}: {value:?} was never written"));
            }
        }
        (Pending::Where(number, began), Ok(Reply::Where(view))) => {
            super::bindings::read(world, number, began, step, view);
        }
        (Pending::Operator(command, asked), _) => crate::site::operators::answered(world, at, &command, asked, reply),
        (Pending::Fence { by, boot, id, at }, _) => {
            crate::site::fence_answered(world, (by, boot), id, at, reply.is_ok());
        }
        (Pending::Publish, reply) => super::members::published(world, reply),
        (Pending::Script, _) => world.pair.answer = Some(reply.clone()),
        (Pending::Drain, Ok(_)) => world.met("a server was drained"),
        (Pending::Restart(which), Ok(_)) => {
            world.met("a server was drained");
            super::faults::restart(world, which);
        }
        (Pending::NewUser(count), Ok(_)) => world.clients.new_users[count].acknowledged = true,
        (Pending::SetUp(number), Ok(_)) => {
            world.clients.there.insert(number);
        }
        (Pending::SetUp(number), Err(problem)) if problem.kind == "user-exists" => {
            world.clients.there.insert(number);
        }
        _ => {}
    }
}

/// A change is acknowledged: a majority of its group's servers has it on disk.
fn acknowledged(world: &mut World, number: usize, session: &str, counter: u64) {
    let Some(user) = aor(&format!("u{number}")) else { return };
    let op = pairline_services::contacts::op_id(&user, session, counter);
    let Some(group) = super::checks::group_of(world, &user) else { return };
    // No more than three vote; but which, may have changed since.
    let disks = |pool| {
        let have = |at: &usize| world.side[*at] == pool && world.servers[*at].has_on_disk(&op);
        (0..world.size()).filter(have).count()
    };
    let disks: Vec<usize> = (0..world.options.servers.len()).map(disks).collect();
    if disks.iter().all(|have| *have < 2) {
        let what =
            format!("group {group}: {session} {counter} was acknowledged and is on {disks:?} disks of each pool");
        world.history.violate(1, what);
    }
}

/// The address of a user of the run.
pub fn aor(name: &str) -> Option<pairline_sip::uri::Aor> {
    pairline_sip::uri::Aor::parse(&format!("sip:{name}@pairline.test"))
}

/// What was acknowledged is there, at whoever leads each group, or in a divergent tail.
pub fn kept(world: &mut World) {
    let mut missing = Vec::new();
    for (count, add) in (1..).zip(&world.clients.adds).filter(|(_, add)| add.acknowledged) {
        let Some(user) = aor(&format!("u{}", add.user)) else { continue };
        let key = pairline_services::records::contact_key(user.as_str(), &add.name);
        let op = pairline_services::contacts::op_id(&user, &format!("adds-u{}", add.user), count);
        let in_tail = world.pair.in_tails.contains(&op) || world.pair.in_fronts.contains(&key);
        let group = super::checks::group_of(world, &user);
        if !in_tail && group.is_some_and(|group| !super::checks::has(world, group, &key)) {
            missing.push(format!("contact {} of u{}", add.name, add.user));
        }
    }
    for new in world.clients.new_users.iter().filter(|new| new.acknowledged) {
        let Some(user) = aor(&new.name) else { continue };
        let entry = pairline_topology::directory::user_key(user.as_str());
        let credential = pairline_services::records::credential_key(user.as_str());
        let there = |group: GroupId, key: &Key| {
            world.pair.touched_by_tails.contains(key) || super::checks::has(world, group, key)
        };
        let group = super::checks::group_of(world, &user);
        if !there(GroupId::CMS, &entry) || group.is_some_and(|group| !there(group, &credential)) {
            missing.push(format!("user {}", new.name));
        }
    }
    if let Some(first) = missing.first() {
        let what = format!("{} acknowledged changes are gone, {first} first", missing.len());
        world.history.violate(1, what);
    }
}

/// How many registers were read, acknowledged changes and all changes.
pub fn counts(clients: &Clients) -> (usize, usize, usize) {
    let reads = clients.registers.values().map(Register::reads_done).sum();
    let done = clients.adds.iter().filter(|add| add.acknowledged).count();
    (reads, done, clients.adds.len())
}
