//! What follows from what a pool's servers say: state, what may fail now, what happens next, in words.
//!
//! Owns the counting and the wording. Asks nobody: a pure function of what was heard.

use crate::view::{CopyView, GroupHealthView, PoolHealthView, ServerHealthView};
use pairline_group::placement::{self, FrontEnd};
use pairline_group::{GroupId, ServerId};
use std::collections::BTreeMap;

/// Entries that a copy may lack without being behind: so many may be on their way to it.
const ON_THE_WAY: u64 = 64;

/// What was heard of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its copies.
    Says(Vec<CopyView>),
    /// There is no link to it.
    NoLink,
    /// There is a link, and no answer came.
    Silent,
}

/// What a judgement is made from.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The pool's short name.
    pub pool: String,
    /// Its partner's.
    pub partner: Option<String>,
    /// All its servers, in order of their numbers.
    pub servers: Vec<(ServerId, String)>,
    /// Those of them that hold data, as copies are placed on them.
    pub front_ends: Vec<FrontEnd>,
    /// The one of them that votes and holds no data.
    pub witness: Option<ServerId>,
    /// All groups that have their copies in it.
    pub groups: Vec<GroupId>,
    /// What was heard of each server.
    pub heard: BTreeMap<ServerId, Heard>,
}

/// One group as the servers' words put it together.
struct Group {
    id: GroupId,
    /// Servers that should have a copy.
    placed: Vec<ServerId>,
    /// Servers whose copies decide: those, but while copies move.
    voters: Vec<ServerId>,
    leader: Option<ServerId>,
    /// It is led, and nothing was ever written in it: nobody serves its users.
    unopened: bool,
    /// Copies that take part: their servers are up and they have not stopped.
    there: Vec<ServerId>,
    /// Those of them that lack more than what is on its way.
    behind: Vec<ServerId>,
    stopped: Vec<(ServerId, String)>,
}

impl Group {
    fn of(sight: &Sight, id: GroupId) -> Group {
        let servers: Vec<ServerId> = sight.servers.iter().map(|(id, _)| *id).collect();
        let mut placed = placement::of(id, &sight.front_ends);
        placed.extend(sight.witness);
        let all: BTreeMap<ServerId, &CopyView> =
            servers.iter().filter_map(|s| Some((*s, copy(sight, *s, id)?))).collect();
        let leader = all.iter().filter(|(_, copy)| copy.leads && copy.stopped.is_none());
        let leader = leader.max_by_key(|(_, copy)| copy.sequence).map(|(server, copy)| (*server, *copy));
        let told = leader.map(|(_, copy)| copy.voters.iter().copied().map(ServerId).collect::<Vec<_>>());
        let voters = told.filter(|told| !told.is_empty()).unwrap_or_else(|| placed.clone());
        let counts = |server: &ServerId| placed.contains(server) || voters.contains(server);
        let copies: BTreeMap<ServerId, &CopyView> = all.into_iter().filter(|(server, _)| counts(server)).collect();
        let running = || copies.iter().filter(|(_, copy)| copy.stopped.is_none());
        let first = running().map(|(_, copy)| copy.sequence).max().unwrap_or(0);
        let told: BTreeMap<u32, u64> =
            leader.map(|(_, copy)| copy.behind.iter().copied().collect()).unwrap_or_default();
        let behind = |server: &ServerId, copy: &CopyView| {
            let told = told.get(&server.0).copied().unwrap_or(0);
            if sight.witness == Some(*server) {
                // It never applies anything.
                return told > ON_THE_WAY;
            }
            // A copy that has applied nothing, where there is something, has just started.
            let empty = copy.sequence == 0 && first > 0;
            empty || told.max(first.saturating_sub(copy.sequence)) > ON_THE_WAY
        };
        Group {
            id,
            leader: leader.map(|(server, _)| server),
            unopened: leader.is_some_and(|(_, copy)| copy.sequence == 0),
            there: running().map(|(server, _)| *server).collect(),
            behind: running().filter(|(server, copy)| behind(server, copy)).map(|(server, _)| *server).collect(),
            stopped: copies.iter().filter_map(|(s, copy)| Some((*s, copy.stopped.clone()?))).collect(),
            placed,
            voters,
        }
    }

    /// Copies that a majority is.
    fn needed(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether a majority takes part: as far as is heard, or because there is a leader that has one.
    fn majority(&self) -> bool {
        self.there.iter().filter(|server| self.voters.contains(server)).count() >= self.needed()
            || self.leader.is_some()
    }

    /// Whether its copies are not yet where they should be.
    fn moves(&self) -> bool {
        self.voters.len() != self.placed.len() || self.voters.iter().any(|voter| !self.placed.contains(voter))
    }

    /// Copies that are there and where they should be.
    fn in_place(&self) -> usize {
        self.placed.iter().filter(|server| self.there.contains(server)).count()
    }

    fn missing(&self) -> Vec<ServerId> {
        let mut all: Vec<ServerId> =
            self.placed.iter().filter(|server| !self.there.contains(server)).copied().collect();
        all.sort_unstable();
        all
    }

    /// Copies that could go on without waiting for anything, if these servers failed.
    fn left_without(&self, failed: &[ServerId]) -> usize {
        let counts = |server: &&ServerId| self.voters.contains(server) && !self.behind.contains(server);
        self.there.iter().filter(counts).filter(|server| !failed.contains(server)).count()
    }

    fn bears_loss_of(&self, failed: &[ServerId]) -> bool {
        !self.voters.iter().any(|voter| failed.contains(voter)) || self.left_without(failed) >= self.needed()
    }

    fn whole(&self) -> bool {
        self.leader.is_some()
            && !self.unopened
            && self.in_place() == self.placed.len()
            && self.behind.is_empty()
            && !self.moves()
    }
}

fn copy(sight: &Sight, server: ServerId, group: GroupId) -> Option<&CopyView> {
    match sight.heard.get(&server)? {
        Heard::Says(copies) => copies.iter().find(|copy| copy.pool == group.pool.0 && copy.index == group.index),
        Heard::NoLink | Heard::Silent => None,
    }
}

/// The health of a pool.
pub fn judge(sight: &Sight) -> PoolHealthView {
    let groups: Vec<Group> = sight.groups.iter().map(|id| Group::of(sight, *id)).collect();
    let state = match () {
        () if !groups.iter().all(Group::majority) => "no-majority",
        () if !groups.iter().all(Group::whole) => "degraded",
        () => "healthy",
    };
    PoolHealthView {
        pool: sight.pool.clone(),
        state: state.to_owned(),
        servers: sight.servers.iter().map(|(id, name)| server(sight, &groups, *id, name)).collect(),
        groups: u32::try_from(groups.len()).unwrap_or(u32::MAX),
        troubled: groups.iter().filter(|group| !group.whole()).map(|group| troubled(sight, group)).collect(),
        survives: survives(sight, &groups),
        next: next(sight, &groups),
    }
}

fn server(sight: &Sight, groups: &[Group], id: ServerId, name: &str) -> ServerHealthView {
    let count =
        |of: &dyn Fn(&Group) -> bool| u32::try_from(groups.iter().filter(|g| of(g)).count()).unwrap_or(u32::MAX);
    ServerHealthView {
        server: name.to_owned(),
        witness: sight.witness == Some(id),
        up: matches!(sight.heard.get(&id), Some(Heard::Says(_))),
        heard: heard_words(sight.heard.get(&id)).to_owned(),
        leads: count(&|group| group.leader == Some(id)),
        copies: count(&|group| group.there.contains(&id) && group.placed.contains(&id)),
        of_copies: count(&|group| group.placed.contains(&id)),
        behind: count(&|group| group.behind.contains(&id)),
    }
}

fn heard_words(heard: Option<&Heard>) -> &'static str {
    match heard {
        Some(Heard::Says(_)) => "up",
        Some(Heard::Silent) => "linked, but does not answer: it is frozen or overloaded",
        Some(Heard::NoLink) | None => "no link: it is down or cut off",
    }
}

fn troubled(sight: &Sight, group: &Group) -> GroupHealthView {
    let names = |of: &[ServerId]| of.iter().map(|server| short(sight, *server)).collect();
    let state = match () {
        () if !group.majority() => "no-majority",
        () if group.leader.is_none() => "no-leader",
        () if group.unopened => "not-opened",
        () if group.in_place() < group.placed.len() => "fewer-copies",
        () if group.behind.is_empty() => "moving",
        () => "behind",
    };
    GroupHealthView {
        group: if group.id.is_cms() { "management store".to_owned() } else { group.id.to_string() },
        state: state.to_owned(),
        leader: group.leader.map(|server| short(sight, server)),
        copies: u32::try_from(group.in_place()).unwrap_or(u32::MAX),
        of_copies: u32::try_from(group.placed.len()).unwrap_or(u32::MAX),
        missing: names(&group.missing()),
        behind: names(&group.behind),
        stopped: group.stopped.iter().map(|(server, why)| (short(sight, *server), why.clone())).collect(),
    }
}

/// A server's first label, where no other of the pool has the same.
fn short(sight: &Sight, server: ServerId) -> String {
    let Some((_, name)) = sight.servers.iter().find(|(id, _)| *id == server) else { return server.0.to_string() };
    let first = |name: &str| name.split('.').next().unwrap_or(name).to_owned();
    let alone = sight.servers.iter().filter(|(_, other)| first(other) == first(name)).count() == 1;
    if alone { first(name) } else { name.clone() }
}

fn list(sight: &Sight, servers: &[ServerId], last: &str) -> String {
    let names: Vec<String> = servers.iter().map(|server| short(sight, *server)).collect();
    match names.split_last() {
        Some((name, before)) if !before.is_empty() => format!("{} {last} {name}", before.join(", ")),
        _ => names.join(", "),
    }
}

/// What the pool survives now.
fn survives(sight: &Sight, groups: &[Group]) -> String {
    if let [_] = &sight.servers[..] {
        return match &sight.partner {
            Some(partner) => {
                format!("the pool has one server; if it fails, {partner} takes its users in resiliency mode")
            }
            None => "nothing: the pool has one server and no partner".to_owned(),
        };
    }
    let up = sight.servers.iter().map(|(id, _)| *id).filter(|id| matches!(sight.heard.get(id), Some(Heard::Says(_))));
    let (may, may_not): (Vec<ServerId>, Vec<ServerId>) =
        up.partition(|server| groups.iter().all(|group| group.bears_loss_of(&[*server])));
    let critical: Vec<&Group> =
        groups.iter().filter(|group| may_not.iter().any(|server| !group.bears_loss_of(&[*server]))).collect();
    let why = why_not(&critical, if sight.witness.is_some() { "votes" } else { "copies" });
    let one = match (may.is_empty(), may_not.is_empty()) {
        (false, true) if may.len() == 1 => format!("{} may fail now", list(sight, &may, "or")),
        (false, true) => format!("any one of {} may fail now", list(sight, &may, "and").replace(" and ", ", ")),
        (false, false) => {
            format!("{} may fail now; not {}: {why}", list(sight, &may, "or"), list(sight, &may_not, "or"))
        }
        (true, _) if sight.servers.len() == 2 && groups.iter().all(Group::whole) => {
            "no server may fail: a majority of two copies is both".to_owned()
        }
        (true, _) => format!("no further server may fail: {why}"),
    };
    [Some(one), domains(sight, groups)].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

/// Whether all servers of an upgrade domain may fail together, where one has several that are up.
fn domains(sight: &Sight, groups: &[Group]) -> Option<String> {
    let mut all: BTreeMap<u16, Vec<ServerId>> = BTreeMap::new();
    let up = sight.front_ends.iter().filter(|one| matches!(sight.heard.get(&one.server), Some(Heard::Says(_))));
    for (domain, server) in up.filter_map(|one| Some((one.domain?, one.server))) {
        all.entry(domain).or_default().push(server);
    }
    all.retain(|_, servers| servers.len() > 1);
    let count = all.len();
    let (may, may_not): (BTreeMap<u16, Vec<ServerId>>, _) =
        all.into_iter().partition(|(_, servers)| groups.iter().all(|group| group.bears_loss_of(servers)));
    let names = |of: &BTreeMap<u16, _>| of.keys().map(u16::to_string).collect::<Vec<_>>().join(", ");
    match (may.len(), may_not.len()) {
        (0, 0) => None,
        (_, 0) if count == 1 => Some(format!("all servers of upgrade domain {} may fail at once", names(&may))),
        (_, 0) => Some(format!("all servers of any one of the upgrade domains {} may fail at once", names(&may))),
        (0, _) => Some(format!("not all servers of an upgrade domain at once ({})", names(&may_not))),
        _ => Some(format!(
            "all servers of upgrade domain {} may fail at once, not those of {}",
            names(&may).replace(", ", " or "),
            names(&may_not).replace(", ", " or ")
        )),
    }
}

/// Groups by how many copies they have, or votes, in words.
fn why_not(critical: &[&Group], copies: &str) -> String {
    let mut by_count: BTreeMap<(usize, usize), Vec<GroupId>> = BTreeMap::new();
    for group in critical {
        let good = group.left_without(&[]);
        by_count.entry((good, group.voters.len())).or_default().push(group.id);
    }
    let parts = by_count.iter().map(|((good, of), ids)| {
        let has = if ids.len() == 1 { "has" } else { "have" };
        format!("{} {has} {} of {} {copies}", numbers(ids), word(*good), word(*of))
    });
    parts.collect::<Vec<_>>().join("; ")
}

fn word(count: usize) -> String {
    match count {
        0 => "none".to_owned(),
        1 => "one".to_owned(),
        2 => "two".to_owned(),
        3 => "three".to_owned(),
        more => more.to_string(),
    }
}

/// Groups in words, runs of numbers shortened: `groups 0-4, 7 and the management store`.
fn numbers(ids: &[GroupId]) -> String {
    let mut runs: Vec<(u16, u16)> = Vec::new();
    let mut indices: Vec<u16> = ids.iter().filter(|id| !id.is_cms()).map(|id| id.index).collect();
    indices.sort_unstable();
    for index in indices {
        match runs.last_mut() {
            Some((_, to)) if index == *to + 1 => *to = index,
            _ => runs.push((index, index)),
        }
    }
    let runs: Vec<String> =
        runs.iter().map(|(from, to)| if from == to { from.to_string() } else { format!("{from}-{to}") }).collect();
    let many = ids.iter().filter(|id| !id.is_cms()).count();
    let store = ids.iter().any(|id| id.is_cms()).then_some("the management store");
    let groups = match many {
        0 => None,
        1 => Some(format!("group {}", runs.join(", "))),
        _ => Some(format!("groups {}", runs.join(", "))),
    };
    match (groups, store) {
        (Some(groups), Some(store)) => format!("{groups} and {store}"),
        (Some(groups), None) => groups,
        (None, _) => store.unwrap_or_default().to_owned(),
    }
}

/// What happens next, and what there is to do.
fn next(sight: &Sight, groups: &[Group]) -> Vec<String> {
    let mut all = Vec::new();
    let of = |wanted: &dyn Fn(&&Group) -> bool| groups.iter().filter(wanted).collect::<Vec<&Group>>();
    let ids = |of: &[&Group]| of.iter().map(|group| group.id).collect::<Vec<GroupId>>();
    let lost = of(&|group| !group.majority());
    if !lost.is_empty() {
        let mut missing: Vec<ServerId> = lost.iter().flat_map(|group| group.missing()).collect();
        missing.sort_unstable();
        missing.dedup();
        all.push(format!(
            "bring {} back: {} without majority; calls and messages of their users go on as far as the servers that are up know \
             them, but nothing can be changed. They go on by themselves as soon as enough copies are there",
            list(sight, &missing, "or"),
            are(&ids(&lost)),
        ));
    }
    for (server, _) in &sight.servers {
        let how = match sight.heard.get(server) {
            Some(Heard::Says(_)) => continue,
            Some(Heard::Silent) => "let its process go on, or end it and start it again",
            Some(Heard::NoLink) | None => "start it again",
        };
        let bears = lost.iter().all(|group| !group.placed.contains(server));
        let one_disk = sight.witness.is_some_and(|witness| witness != *server);
        let rest = match (bears, one_disk) {
            (true, true) => "its groups go on without it, and what is changed is on one disk only; ",
            (true, false) => "its groups go on without it; ",
            (false, _) => "",
        };
        all.push(format!("{}: {rest}{how}, and it takes what it missed by itself", short(sight, *server)));
    }
    if lost.iter().any(|group| group.in_place() > 0) {
        all.push(format!(
            "only if their disks are gone for good: `pairline group recover {} --all-without-majority` says what is left, and what going on \
             with that may lose",
            sight.pool
        ));
    }
    let moving = of(&|group| group.moves() && group.leader.is_some());
    if !moving.is_empty() {
        let what = numbers(&ids(&moving));
        let left = if moving.len() == 1 { "one group is".to_owned() } else { format!("{} groups are", moving.len()) };
        all.push(format!(
            "copies are on their way: {left} not yet where they should be ({what}); they move by themselves"
        ));
    }
    let choosing = of(&|group| group.majority() && group.leader.is_none());
    if !choosing.is_empty() {
        all.push(format!("{} choosing who leads: ask again in a few seconds", are(&ids(&choosing))));
    }
    all.extend(unopened(sight, groups));
    all.extend(taken_over(sight, groups));
    all
}

/// What there is to do for groups that are led and were never opened.
fn unopened(sight: &Sight, groups: &[Group]) -> Option<String> {
    let ids: Vec<GroupId> = groups.iter().filter(|group| group.unopened).map(|group| group.id).collect();
    let whom = sight.partner.as_deref().unwrap_or("the other pool");
    (!ids.is_empty()).then(|| {
        format!(
            "{} not opened yet, and nobody serves the users in it: that is done once {whom} says that it has nothing of it, or sends what it has; \
             only if {whom} is lost for good: `pairline pool assert-active {}`",
            are(&ids),
            sight.pool
        )
    })
}

/// What each server still takes over, and what it does not.
fn taken_over(sight: &Sight, groups: &[Group]) -> Vec<String> {
    let mut all = Vec::new();
    for (server, _) in &sight.servers {
        let behind = groups.iter().filter(|group| group.behind.contains(server)).map(|group| group.id);
        let behind: Vec<GroupId> = behind.collect();
        if !behind.is_empty() {
            all.push(format!("{} takes over what it missed of {}, by itself", short(sight, *server), numbers(&behind)));
        }
        for (group, why) in groups
            .iter()
            .flat_map(|g| g.stopped.iter().map(move |(s, why)| (g.id, s, why)))
            .filter_map(|(id, at, why)| (at == server).then_some((id, why)))
        {
            let who = short(sight, *server);
            all.push(format!("{who} has stopped its copy of {}: {why}; see its log", numbers(&[group])));
        }
    }
    all
}

fn are(ids: &[GroupId]) -> String {
    format!("{} {}", numbers(ids), if ids.len() == 1 { "is" } else { "are" })
}
