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

/// Users by the keyed hash of their names.
#[derive(Default)]
pub struct StandIns(BTreeMap<u64, Arc<str>>);

/// An entry was applied here.
pub fn noted(core: &mut Core, group: GroupId, entry: &Entry) {
    let (true, Body::Effects(effects)) = (group.is_cms(), &entry.body) else { return };
    for effect in effects.iter().filter(|effect| effect.key().kind == KIND_DIRECTORY) {
        let owner = &effect.key().owner;
        let mark = mark_of(&core.view.sealing_key, owner);
        match effect {
            Effect::Put { .. } => {
                core.stand_ins.0.insert(mark, Arc::clone(owner));
            }
            Effect::Delete { .. } => {
                core.stand_ins.0.remove(&mark);
            }
        }
    }
}

/// The directory was read from disk, or replaced.
pub fn renew(core: &mut Core) {
    let users = core.host.scan_all(GroupId::CMS).filter(|(key, _)| key.kind == KIND_DIRECTORY);
    let marked = users.map(|(key, _)| (mark_of(&core.view.sealing_key, &key.owner), Arc::clone(&key.owner)));
    core.stand_ins = StandIns(marked.collect());
}

/// The user who stands in for a name, with its place. For a name that is a user's there is none: then a record that is not there
/// is looked for, which is what the name of nobody cost before this.
pub fn of(core: &Core, user: &Aor) -> Option<(Aor, Place)> {
    let table = &core.stand_ins.0;
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
