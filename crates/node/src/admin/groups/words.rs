//! Groups and their recovery in the shapes that are shown.
//!
//! Owns what is said before and after a recovery. Decides nothing (`judge`).

use super::judge::{self, Heard, Left, Sight, Verdict};
use crate::core::Core;
use crate::view::{GroupCopy, GroupCopyView, GroupRecoverView, GroupView, GroupsView, RecoveryView};
use pairline_group::{GroupId, ServerId, placement};
use pairline_resilience::{Recovery, recovery};
use std::collections::BTreeSet;

/// Groups with their copies and recoveries.
pub fn groups(core: &Core, sight: &Sight, groups: &[GroupId]) -> GroupsView {
    let records = core.host.scan(GroupId::CMS, recovery::OWNER, Some(recovery::KIND_RECOVERY));
    let all: Vec<Recovery> = records.filter_map(|(_, record)| Recovery::decode(&record.value).ok()).collect();
    let own = |group: GroupId| all.iter().rev().filter(move |one| one.group == group && one.pool == core.pool);
    GroupsView {
        pool: sight.pool.clone(),
        seen_by: core.topology.server(core.config.server).map(|server| server.name.clone()).unwrap_or_default(),
        groups: groups
            .iter()
            .map(|group| GroupView {
                recoveries: own(*group).map(|one| recovered(sight, one)).collect(),
                ..one_group(core, sight, *group)
            })
            .collect(),
    }
}

fn one_group(core: &Core, sight: &Sight, group: GroupId) -> GroupView {
    let leader = sight.copies(group).find(|(_, copy)| copy.leads);
    let best = leader.or_else(|| sight.copies(group).max_by_key(|(_, copy)| copy.status.position));
    let (state, leads) = match judge::judge(sight, group) {
        Verdict::Led(server) => ("led", Some(server)),
        Verdict::Majority => ("choosing", None),
        _ if best.is_none() => ("none", None),
        Verdict::Refused { .. } | Verdict::Left(_) => ("no-majority", None),
    };
    let standing = best.and_then(|(_, copy)| copy.standing.as_ref());
    let mut shown: BTreeSet<ServerId> = sight.copies(group).map(|(server, _)| server).collect();
    shown.extend(standing.map_or_else(
        || placement::of(group, &core.topology.front_ends(core.pool)),
        |standing| standing.voters.clone(),
    ));
    let votes = |server: &ServerId| standing.is_some_and(|standing| standing.voters.contains(server));
    GroupView {
        group: group.to_string(),
        state: state.to_owned(),
        serving: best.map(|(_, copy)| core.topology.pool_name(copy.status.serving)).unwrap_or_default(),
        epoch: best.map(|(_, copy)| copy.status.epoch.to_string()).unwrap_or_default(),
        leader: leads.map(|server| sight.name(server)),
        survived: standing.map_or(0, |standing| standing.survived),
        copies: shown.iter().map(|server| copy(sight, *server, group, votes(server))).collect(),
        recoveries: Vec::new(),
    }
}

fn copy(sight: &Sight, server: ServerId, group: GroupId, votes: bool) -> GroupCopyView {
    let found: Option<&GroupCopy> = sight.copies(group).find(|(at, _)| *at == server).map(|(_, copy)| copy);
    let state = match (sight.heard.get(&server), found) {
        (Some(Heard::Silent), _) => "silent",
        (Some(Heard::Away) | None, _) => "away",
        (Some(Heard::Says(_)), None) => "empty",
        (Some(Heard::Says(_)), Some(copy)) if copy.status.stopped.is_some() => "stopped",
        (Some(Heard::Says(_)), Some(copy)) if copy.leads => "leads",
        (Some(Heard::Says(_)), Some(_)) => "up",
    };
    let standing = found.and_then(|copy| copy.standing.as_ref());
    GroupCopyView {
        server: sight.name(server),
        state: state.to_owned(),
        votes,
        position: found.map(|copy| copy.status.position.to_string()),
        doubtful: standing.map_or(0, |standing| standing.doubtful),
        quiet_seconds: standing.map(|standing| standing.quiet / 1_000),
        stopped: found.and_then(|copy| copy.status.stopped.as_ref()).map(ToString::to_string),
    }
}

fn recovered(sight: &Sight, one: &Recovery) -> RecoveryView {
    RecoveryView {
        id: format!("{:032x}", one.id),
        operator: one.operator.clone(),
        reason: one.reason.clone(),
        at: one.at,
        survivor: sight.name(one.survivor),
        lost: one.lost.iter().map(|server| sight.name(*server)).collect(),
        before: one.before.to_string(),
        after: one.after.to_string(),
        at_risk: one.at_risk.clone(),
    }
}

/// Why a group is not recovered, and what to do; nothing if it can be.
pub fn refusal(sight: &Sight, verdict: &Verdict) -> Option<(String, String)> {
    match verdict {
        Verdict::Led(server) => Some((
            format!("{} leads it with a majority of its copies", sight.name(*server)),
            "it needs no recovery; see `pairline pool health`".to_owned(),
        )),
        Verdict::Majority => Some((
            "a majority of its copies is there, and chooses who leads".to_owned(),
            "wait a few seconds; see `pairline pool health`".to_owned(),
        )),
        Verdict::Refused { why, remedy } => Some((why.clone(), remedy.clone())),
        Verdict::Left(_) => None,
    }
}

/// What would be done with a group.
pub fn planned(sight: &Sight, group: GroupId, verdict: &Verdict) -> GroupRecoverView {
    let (refused, remedy) = refusal(sight, verdict).unzip();
    let view = GroupRecoverView { group: group.to_string(), refused, remedy, ..GroupRecoverView::default() };
    let Verdict::Left(left) = verdict else { return view };
    GroupRecoverView {
        survivor: Some(sight.name(left.survivor)),
        position: left.standing.position.to_string(),
        last_change: left.standing.time,
        quiet_seconds: left.standing.quiet / 1_000,
        doubtful: left.standing.doubtful,
        lost: left.lost.iter().map(|server| sight.name(*server)).collect(),
        at_risk: judge::at_risk(sight, left),
        better: judge::better(sight, left),
        ..view
    }
}

/// All servers whose copies are given up.
fn lost(sight: &Sight, lefts: &[(GroupId, &Left)]) -> Vec<String> {
    let all: BTreeSet<ServerId> = lefts.iter().flat_map(|(_, left)| left.lost.iter().copied()).collect();
    all.into_iter().map(|server| sight.name(server)).collect()
}

/// What an administrator has to know before.
pub fn before(sight: &Sight, lefts: &[(GroupId, &Left)]) -> Vec<String> {
    if lefts.is_empty() {
        return vec!["nothing can be recovered now".to_owned()];
    }
    let names = lost(sight, lefts).join(" and ");
    vec![
        "nothing was changed".to_owned(),
        format!("if one of {names} can be started with its disk, do that instead: nothing is lost then"),
        format!(
            "after it, {names} must never be started with their old disks: their copies are given up, and what only they have is not in \
             service any more. Empty the disks first; they come back by themselves then"
        ),
        "to go on: repeat the command with --confirm".to_owned(),
    ]
}

/// What is to be done after it.
pub fn after(sight: &Sight, lefts: &[(GroupId, &Left)], groups: &[GroupRecoverView]) -> Vec<String> {
    let names = lost(sight, lefts).join(" and ");
    let mut next = Vec::new();
    if groups.iter().any(|group| !group.goes_on) {
        next.push("repeat the command for what does not go on; what does is not touched again".to_owned());
    }
    if groups.iter().any(|group| group.goes_on) {
        next.push(format!(
            "start {names} with empty disks, or replace them: they take copies by themselves, and until then nothing more may fail; see \
             `pairline pool health {}`",
            sight.pool
        ));
        next.push(format!(
            "should {names} be started with an old disk all the same, its copies are void as soon as it is linked; changes that only it had are \
             kept as a divergent tail (`pairline pool divergence {}`)",
            sight.pool
        ));
    }
    next
}
