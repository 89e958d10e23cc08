//! Whether a group's copies in a pool are lost beyond what a majority can bear, which copy is left, and what going on with it may lose.
//!
//! Owns the decision and the wording. Asks nobody: a pure function of what was heard.

use crate::view::GroupCopy;
use pairline_group::io::{GroupStatus, Standing};
use pairline_group::{GroupId, ServerId};
use std::collections::{BTreeMap, BTreeSet};

/// So long no leader was heard, in milliseconds, where a group can be recovered.
const QUIET_MS: u64 = 2_000;

/// What was heard of one server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Its copies.
    Says(Vec<GroupCopy>),
    /// There is no link to it.
    Away,
    /// There is a link, and no answer came.
    Silent,
}

/// What a judgement is made from.
#[derive(Clone, Debug)]
pub struct Sight {
    /// The pool's short name.
    pub pool: String,
    /// Its servers, in order of their numbers.
    pub servers: Vec<(ServerId, String)>,
    /// What was heard of each.
    pub heard: BTreeMap<ServerId, Heard>,
    /// The partner's short name, and its copies if it is heard.
    pub partner: Option<(String, Option<Vec<GroupStatus>>)>,
}

/// What is so of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// That server leads it.
    Led(ServerId),
    /// Nobody leads, and a majority is there to choose.
    Majority,
    /// It has no majority, and cannot be recovered now.
    Refused {
        /// Why.
        why: String,
        /// What to do.
        remedy: String,
    },
    /// It has no majority; this is left.
    Left(Box<Left>),
}

/// What is left of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// The server with the copy that has most.
    pub survivor: ServerId,
    /// How that copy stands.
    pub status: GroupStatus,
    /// The same, among those of the group.
    pub standing: Standing,
    /// Servers whose copies decide and that are not heard, or have none any more.
    pub lost: Vec<ServerId>,
    /// How the partner's copy stands, if it is heard.
    pub partner: Option<GroupStatus>,
}

impl Sight {
    /// A group's copies on servers that answer.
    pub fn copies(&self, group: GroupId) -> impl Iterator<Item = (ServerId, &GroupCopy)> {
        self.heard.iter().filter_map(move |(server, heard)| match heard {
            Heard::Says(copies) => copies.iter().find(|copy| copy.status.group == group).map(|copy| (*server, copy)),
            Heard::Away | Heard::Silent => None,
        })
    }

    /// All groups that somebody has a copy of.
    pub fn groups(&self) -> BTreeSet<GroupId> {
        let says = self.heard.values().filter_map(|heard| match heard {
            Heard::Says(copies) => Some(copies),
            Heard::Away | Heard::Silent => None,
        });
        says.flatten().map(|copy| copy.status.group).collect()
    }

    /// A server's name; its number, if the topology does not have it any more.
    pub fn name(&self, server: ServerId) -> String {
        let known = self.servers.iter().find(|(id, _)| *id == server);
        known.map_or_else(|| format!("server {}", server.0), |(_, name)| name.clone())
    }

    fn names(&self, servers: &[ServerId]) -> String {
        servers.iter().map(|server| self.name(*server)).collect::<Vec<_>>().join(" and ")
    }

    fn partners(&self, group: GroupId) -> Option<&GroupStatus> {
        let (_, copies) = self.partner.as_ref()?;
        copies.as_ref()?.iter().find(|status| status.group == group)
    }
}

/// Judges one group.
pub fn judge(sight: &Sight, group: GroupId) -> Verdict {
    let leads = sight.copies(group).find(|(_, copy)| copy.leads && copy.status.stopped.is_none());
    if let Some((leader, _)) = leads {
        return Verdict::Led(leader);
    }
    let mut standing: Vec<(ServerId, &GroupCopy, &Standing)> =
        sight.copies(group).filter_map(|(server, copy)| Some((server, copy, copy.standing.as_ref()?))).collect();
    // A later generation knows of all earlier ones, and of two logs the one with the later last item has all that both have.
    standing
        .sort_by_key(|(server, copy, one)| (one.survived, one.last, one.voters.contains(server), copy.status.position));
    let Some((survivor, copy, best)) = standing.last().copied() else {
        return Verdict::Refused {
            why: "no server that answers has a copy of it".to_owned(),
            remedy: "start a server that has one; or have the partner serve it: `pairline pool failover --disaster`"
                .to_owned(),
        };
    };
    let of_now = |server: &ServerId| standing.iter().find(|(at, _, one)| at == server && one.survived == best.survived);
    if let Some(refused) = refused(sight, best, (survivor, copy), of_now) {
        return refused;
    }
    let there = best.voters.iter().filter(|voter| of_now(voter).is_some()).count();
    if there * 2 > best.voters.len() {
        return Verdict::Majority;
    }
    if best.quiet < QUIET_MS {
        return Verdict::Refused {
            why: format!("{} heard a leader {} ms ago", sight.name(survivor), best.quiet),
            remedy: "ask again in a few seconds".to_owned(),
        };
    }
    let lost = best.voters.iter().copied().filter(|voter| *voter != survivor && of_now(voter).is_none()).collect();
    let (status, standing) = (copy.status.clone(), best.clone());
    let partner = sight.partners(group).cloned();
    Verdict::Left(Box::new(Left { survivor, status, standing, lost, partner }))
}

/// Why a copy may not go on: another one may have more, and can still be had.
fn refused<'a>(
    sight: &Sight,
    best: &Standing,
    (survivor, copy): (ServerId, &GroupCopy),
    of_now: impl Fn(&ServerId) -> Option<&'a (ServerId, &'a GroupCopy, &'a Standing)>,
) -> Option<Verdict> {
    let refused = |why: String, remedy: &str| Some(Verdict::Refused { why, remedy: remedy.to_owned() });
    if let Some(why) = &copy.status.stopped {
        return refused(
            format!("{}, whose copy has most, has stopped it: {why}", sight.name(survivor)),
            "see that server's log: its disk has to be repaired, or given up, first",
        );
    }
    for voter in best.voters.iter().filter(|voter| **voter != survivor) {
        let name = sight.name(*voter);
        if sight.heard.get(voter) == Some(&Heard::Silent) {
            return refused(
                format!("{name} has a copy, is linked and does not answer: it may go on at any moment"),
                "let its process go on, or end it",
            );
        }
        if let Some(why) = of_now(voter).and_then(|(_, copy, _)| copy.status.stopped.as_ref()) {
            return refused(
                format!("{name} is up and has a copy, which it has stopped: {why}"),
                "see that server's log: its disk has to be repaired, or emptied, first",
            );
        }
    }
    None
}

/// What going on with what is left may lose.
pub fn at_risk(sight: &Sight, left: &Left) -> String {
    let (here, standing) = (sight.name(left.survivor), &left.standing);
    if !serves(left) {
        let serving = sight.partner.as_ref().map_or("its pool", |(name, _)| name.as_str());
        return format!("nothing: {serving} serves it, and ships what the copy at {here} lacks");
    }
    let mut text = format!(
        "whatever {} acknowledged after {here} last heard a leader ({} s ago, or before that server was started)",
        sight.names(&left.lost),
        standing.quiet / 1_000
    );
    if standing.doubtful > 0 {
        text.push_str(&format!(
            "; {} items of its log, of which it never heard whether they were committed, count from now on",
            standing.doubtful
        ));
    }
    match (&sight.partner, &left.partner) {
        (None, _) => {}
        (Some((name, _)), None) => text.push_str(&format!(
            "; {name}, which has a copy too, does not answer: should it have more, that becomes a divergent tail there"
        )),
        (Some((name, _)), Some(partner)) => match beyond(left, partner) {
            0 => text.push_str(&format!("; {name}'s copy has nothing beyond it")),
            more => text.push_str(&format!(
                "; {name}'s copy (at {}) has {more} changes beyond what is known here to be committed: if this copy's log does not have all of \
                 them, they become a divergent tail at {name}",
                partner.position
            )),
        },
    }
    text
}

/// What would be better than going on with what is left, if something would.
pub fn better(sight: &Sight, left: &Left) -> Option<String> {
    let ((name, _), partner) = (sight.partner.as_ref()?, left.partner.as_ref()?);
    let more = beyond(left, partner);
    if !serves(left) || more == 0 {
        return None;
    }
    let pool = &sight.pool;
    Some(format!(
        "{name} has {more} changes more: `pairline pool failover {pool} --disaster` keeps them in service. It moves all groups of {pool} to \
         {name}, also those that are well, until `pairline pool failback {pool}`; what only this copy has becomes a divergent tail here"
    ))
}

/// Changes that the partner's copy has beyond what is known here to be committed.
fn beyond(left: &Left, partner: &GroupStatus) -> u64 {
    let (here, there) = (left.standing.position, partner.position);
    if there > here { there.seq.saturating_sub(here.seq) } else { 0 }
}

/// Whether this pool serves the group.
pub fn serves(left: &Left) -> bool {
    left.status.role == pairline_group::io::Role::Active
}

#[cfg(test)]
mod tests {
    //! Which copy is left, and when none may go on.

    use super::*;
    use pairline_group::io::{ExportState, ImportState, Lag, Role};
    use pairline_group::{Epoch, PoolId, Position};

    const GROUP: GroupId = GroupId { pool: PoolId(1), index: 3 };

    fn at(seq: u64) -> Position {
        Position { epoch: Epoch { number: 1, granted_by: PoolId(1) }, seq }
    }

    fn status(seq: u64) -> GroupStatus {
        GroupStatus {
            group: GROUP,
            role: Role::Active,
            confirmed: true,
            serving: PoolId(1),
            epoch: at(seq).epoch,
            position: at(seq),
            digest: [0; 32],
            records: 0,
            bytes: 0,
            export: ExportState::Steady,
            import: ImportState::Normal,
            lag: Lag::Unknown,
            behind_entries: 0,
            behind_bytes: 0,
            seed: None,
            verified: None,
            tail: 0,
            stopped: None,
            leader: None,
        }
    }

    fn copy(seq: u64, last: (u64, u64)) -> GroupCopy {
        let standing = Standing {
            voters: [1, 2, 3].map(ServerId).to_vec(),
            learners: vec![ServerId(4)],
            survived: 0,
            last,
            doubtful: 0,
            quiet: 41_000,
            position: at(seq),
            time: 0,
        };
        GroupCopy { status: status(seq), leads: false, standing: Some(standing) }
    }

    fn sight(heard: Vec<Heard>) -> Sight {
        let servers = (1..).map(|id| (ServerId(id), format!("fe{id}"))).take(heard.len()).collect();
        let heard = (1..).map(ServerId).zip(heard).collect();
        Sight { pool: "east".to_owned(), servers, heard, partner: None }
    }

    fn says(copies: &[GroupCopy]) -> Heard {
        Heard::Says(copies.to_vec())
    }

    fn left(sight: &Sight) -> Left {
        match judge(sight, GROUP) {
            Verdict::Left(left) => *left,
            other => panic!("{other:?}"),
        }
    }

    fn why_not(sight: &Sight) -> String {
        match judge(sight, GROUP) {
            Verdict::Refused { why, .. } => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_copy_with_the_latest_last_item_is_left_whoever_has_it() {
        let one = left(&sight(vec![says(&[copy(7, (2, 9))]), Heard::Away, says(&[])]));
        assert_eq!(
            (one.survivor, one.lost),
            (ServerId(1), vec![ServerId(2), ServerId(3)]),
            "an empty disk is a lost one"
        );
        let learner = sight(vec![says(&[copy(7, (2, 9))]), Heard::Away, Heard::Away, says(&[copy(7, (2, 10))])]);
        assert_eq!(left(&learner).survivor, ServerId(4), "it only follows, and has more");
        let equal = sight(vec![says(&[copy(7, (2, 9))]), Heard::Away, Heard::Away, says(&[copy(7, (2, 9))])]);
        assert_eq!(left(&equal).survivor, ServerId(1));
        let mut later = copy(3, (1, 3));
        later
            .standing
            .iter_mut()
            .for_each(|standing| (standing.survived, standing.voters) = (1, vec![ServerId(4), ServerId(2)]));
        let recovered = sight(vec![says(&[copy(7, (2, 9))]), Heard::Away, says(&[copy(7, (2, 9))]), says(&[later])]);
        let one = left(&recovered);
        assert_eq!((one.survivor, one.lost), (ServerId(4), vec![ServerId(2)]), "what is of before does not count");
    }

    #[test]
    fn it_is_refused_while_there_is_a_majority_or_might_be_more() {
        let mut leader = copy(7, (2, 9));
        leader.leads = true;
        assert_eq!(judge(&sight(vec![says(&[leader]), Heard::Away, Heard::Away]), GROUP), Verdict::Led(ServerId(1)));
        let two = sight(vec![says(&[copy(7, (2, 9))]), says(&[copy(6, (2, 8))]), Heard::Away]);
        assert_eq!(judge(&two, GROUP), Verdict::Majority);
        assert!(why_not(&sight(vec![Heard::Away, Heard::Away, says(&[])])).contains("no server that answers"));
        let silent = sight(vec![says(&[copy(7, (2, 9))]), Heard::Silent, Heard::Away]);
        assert!(why_not(&silent).contains("fe2 has a copy, is linked and does not answer"));
        let mut stopped = copy(6, (2, 8));
        stopped.status.stopped = Some("digest".into());
        let other = sight(vec![says(&[copy(7, (2, 9))]), says(&[stopped.clone()]), Heard::Away]);
        assert!(why_not(&other).contains("fe2 is up and has a copy, which it has stopped: digest"));
        assert!(why_not(&sight(vec![says(&[stopped]), Heard::Away, Heard::Away])).contains("whose copy has most"));
        let mut moment = copy(7, (2, 9));
        moment.standing.iter_mut().for_each(|standing| standing.quiet = 900);
        assert!(why_not(&sight(vec![says(&[moment]), Heard::Away, Heard::Away])).contains("heard a leader 900 ms ago"));
    }

    #[test]
    fn what_may_be_lost_is_said_with_what_the_partner_has() {
        let mut doubtful = copy(7, (2, 9));
        doubtful.standing.iter_mut().for_each(|standing| standing.doubtful = 2);
        let mut sight = sight(vec![says(&[doubtful]), Heard::Away, Heard::Away]);
        let text = at_risk(&sight, &left(&sight));
        assert!(text.contains("whatever fe2 and fe3 acknowledged after fe1 last heard a leader (41 s ago"), "{text}");
        assert!(text.contains("2 items of its log"), "{text}");
        assert_eq!(better(&sight, &left(&sight)), None, "there is no partner");
        sight.partner = Some(("west".to_owned(), None));
        assert!(at_risk(&sight, &left(&sight)).contains("west, which has a copy too, does not answer"));
        sight.partner = Some(("west".to_owned(), Some(vec![status(7)])));
        assert!(at_risk(&sight, &left(&sight)).ends_with("west's copy has nothing beyond it"));
        assert_eq!(better(&sight, &left(&sight)), None);
        sight.partner = Some(("west".to_owned(), Some(vec![status(10)])));
        let one = left(&sight);
        assert!(at_risk(&sight, &one).contains("has 3 changes beyond"));
        assert!(better(&sight, &one).is_some_and(|text| text.contains("pool failover east --disaster")));
        let backup = Left { status: GroupStatus { role: Role::Backup, ..one.status.clone() }, ..one };
        assert!(at_risk(&sight, &backup).starts_with("nothing: west serves it") && better(&sight, &backup).is_none());
    }
}
