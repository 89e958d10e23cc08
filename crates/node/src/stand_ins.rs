//! Who stands in for a name that nobody has: the users of the directory, in an order that nobody without the deployment's key
//! knows.
//!
//! Owns the table, which follows the copy of the management store here entry by entry. What a stand-in is for is the services'
//! (`pairline_services::auth::Kept`). Names are shared with the records' keys: it takes some forty bytes a user.

use crate::core::Core;
use pairline_group::{Body, Effect, Entry, GroupId, Key};
use pairline_services::auth::mark_of;
use pairline_services::cx::Place;
use pairline_sip::uri::Aor;
use pairline_topology::stored::KIND_DIRECTORY;
use std::collections::BTreeMap;
use std::hint::black_box;
use std::sync::Arc;

/// Records of a directory that was replaced which are read at a time, about: together they would take as long as there are users, in which
/// nobody is served.
const PIECE: usize = 2_048;

/// Users by the keyed hash of their names.
#[derive(Default)]
pub struct StandIns {
    table: BTreeMap<u64, Arc<str>>,
    /// Whose records are the next to be read, while a directory that was replaced is.
    unread: Option<Arc<str>>,
}

/// An entry was applied here.
pub fn noted(core: &mut Core, group: GroupId, entry: &Entry) {
    let (true, Body::Effects(effects)) = (group.is_cms(), &entry.body) else { return };
    for effect in effects.iter().filter(|effect| effect.key().kind == KIND_DIRECTORY) {
        let owner = &effect.key().owner;
        let mark = mark_of(&core.view.sealing_key, owner);
        match effect {
            Effect::Put { .. } => {
                core.stand_ins.table.insert(mark, Arc::clone(owner));
            }
            Effect::Delete { .. } => {
                core.stand_ins.table.remove(&mark);
            }
        }
    }
}

/// The directory was read from disk; nobody is served yet.
pub fn renew(core: &mut Core) {
    let users = core.host.scan_all(GroupId::CMS).filter(|(key, _)| key.kind == KIND_DIRECTORY);
    let marked = users.map(|(key, _)| (mark_of(&core.view.sealing_key, &key.owner), Arc::clone(&key.owner)));
    core.stand_ins = StandIns { table: marked.collect(), unread: None };
}

/// The directory was replaced: its first users stand in at once, the others as they are read.
pub fn replaced(core: &mut Core) {
    core.stand_ins = StandIns { table: BTreeMap::new(), unread: Some(Arc::default()) };
    tick(core);
}

/// Reads the next piece of a directory that was replaced. What changes meanwhile is noted, on either side of what has been read.
pub fn tick(core: &mut Core) {
    let StandIns { table, unread } = &mut core.stand_ins;
    let Some(from) = unread.take() else { return };
    let keys = core.host.scan_from(GroupId::CMS, &from).map(|(key, _)| key);
    *unread = read(keys, PIECE, |owner| {
        table.insert(mark_of(&core.view.sealing_key, owner), Arc::clone(owner));
    });
}

/// Tells whose directory records stand among the next, about so many; gives whose records come then, if there are more. Ends between two
/// owners, so that each piece begins behind the one before.
fn read<'a>(keys: impl Iterator<Item = &'a Key>, most: usize, mut user: impl FnMut(&Arc<str>)) -> Option<Arc<str>> {
    let mut last = None;
    for (read, key) in keys.enumerate() {
        if read >= most && last != Some(&key.owner) {
            return Some(Arc::clone(&key.owner));
        }
        last = Some(&key.owner);
        if key.kind == KIND_DIRECTORY {
            user(&key.owner);
        }
    }
    None
}

/// The user who stands in for a name, with its place. For a name that is a user's there is none: then a record that is not there
/// is looked for, which is what the name of nobody cost before this.
pub fn of(core: &Core, user: &Aor) -> Option<(Aor, Place)> {
    let table = &core.stand_ins.table;
    let mark = mark_of(&core.view.sealing_key, user.as_str());
    let owner = table.range(mark..).next().or_else(|| table.first_key_value()).map(|(_, owner)| owner)?;
    let stand_in = Aor::parse(owner)?;
    if stand_in == *user {
        let beside = Key::new(user.as_str(), KIND_DIRECTORY, b"-");
        black_box(core.host.get(GroupId::CMS, &beside));
        return None;
    }
    let place = crate::place::of_user(core, &stand_in);
    Some((stand_in, place))
}

#[cfg(test)]
mod tests {
    //! A directory is read once, whatever stands beside it.

    use super::*;
    use pairline_group::Kind;
    use std::collections::BTreeSet;

    #[test]
    fn pieces_are_all_users_once_and_end_between_two_owners() {
        let other = Kind(KIND_DIRECTORY.0 + 1);
        let many = (0..9).map(|item| Key::new("m", other, &[item]));
        let users = ["a", "b", "c", "m", "x", "y", "z"].map(|owner| Key::new(owner, KIND_DIRECTORY, b""));
        let keys: BTreeSet<Key> = users.into_iter().chain(many).chain([Key::new("o", other, b"")]).collect();
        for most in 1..20 {
            let (mut from, mut seen, mut pieces) = (Some(Arc::<str>::default()), Vec::new(), 0);
            while let Some(owner) = from {
                pieces += 1;
                let rest = keys.range(Key::new(&owner, Kind::default(), b"")..);
                from = read(rest, most, |user| seen.push(user.to_string()));
            }
            assert_eq!(seen, ["a", "b", "c", "m", "x", "y", "z"], "{most} at a time");
            assert_eq!(pieces, [8, 4, 4, 2][..].get(most - 1).copied().unwrap_or(pieces), "{most} at a time");
        }
    }
}
