//! Records that decide something, read where they are true: at the server that leads their group.
//!
//! Owns the question to that server and its answer. The management store, which every server follows, is read here; so is everything
//! where this pool has one server, or where nobody leads.

use crate::core::{Core, WaitResult};
use crate::cx::TaskCx;
use crate::neighbours;
use crate::peer::PeerFrame;
use crate::place;
use pairline_group::{GroupId, Key, Kind, Record, ServerId};
use pairline_services::cx::Peer;

/// How long one server may take to answer, in milliseconds.
const ANSWER_MS: u64 = 1_000;

/// How long an answer may take in all, in milliseconds.
const READ_MS: u64 = 3_000;

/// Pause before another question where the servers do not agree who leads, in milliseconds.
const PAUSE_MS: u64 = 40;

/// Whether the copy here is the one to read.
pub fn is_here(core: &Core, group: GroupId) -> bool {
    let ours = core.host.serving(group).map_or(group.pool, |(pool, _)| pool) == core.pool;
    let stale = crate::config::planted!(core.config, StaleLocalRead);
    stale || group.is_cms() || !ours || core.host.can_commit(group) || !neighbours::has_several(core)
}

/// Records of an owner in the copy here, in the order of their keys.
pub fn local(core: &Core, group: GroupId, owner: &str, kind: Option<Kind>) -> Vec<(Key, Record)> {
    core.host.scan(group, owner, kind).map(|(key, record)| (key.clone(), record.clone())).collect()
}

/// The answer to another server of the pool.
pub fn answer(
    core: &Core,
    group: GroupId,
    owner: &str,
    kind: Option<Kind>,
) -> Result<Vec<(Key, Record)>, Option<ServerId>> {
    match core.host.can_commit(group) {
        true => Ok(local(core, group, owner, kind)),
        false => Err(core.host.leader(group)),
    }
}

/// Records of an owner as they stand at the server that leads the group; from the copy here where none leads for long.
pub async fn records(cx: &TaskCx, group: GroupId, owner: &str, kind: Option<Kind>) -> Vec<(Key, Record)> {
    let until = cx.with(|core| core.now.mono) + READ_MS;
    let mut hint = None;
    while cx.with(|core| core.now.mono < until && !is_here(core, group)) {
        let asked = cx.with(|core| {
            hint.take().filter(|server| is_heard(core, *server)).or_else(|| place::asked_for(core, group))
        });
        let Some(server) = asked else {
            if cx.with(|core| place::is_long_leaderless(core, group)) {
                break;
            }
            cx.leader_changed(until).await;
            continue;
        };
        let Some((link, _)) = cx.with(|core| core.way_to(Peer::Server(server))) else { continue };
        let call = cx.start_peer_wait(server, ANSWER_MS);
        let frame = PeerFrame::Read { call, group, owner: owner.to_owned(), kind };
        cx.with(|core| core.send_on(link, &frame));
        match cx.wait(call).await {
            WaitResult::Records(Ok(found)) => return found,
            WaitResult::Records(Err(leader)) => hint = leader,
            _ => {}
        }
        if hint.is_none() {
            cx.sleep(PAUSE_MS).await;
        }
    }
    cx.with(|core| local(core, group, owner, kind))
}

fn is_heard(core: &Core, server: ServerId) -> bool {
    server != core.config.server && core.way_to(Peer::Server(server)).is_some()
}
