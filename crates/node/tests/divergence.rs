//! The divergent tail of a pool that came back, through two whole nodes: applied, in conflict, given up, interrupted.
#![allow(clippy::unwrap_used)]

use super::common;

use common::{EAST, Pair, WEST};
use pairline_group::Position;
use pairline_group::io::Role;
use pairline_group::tail::Resolution;
use pairline_node::command::{Command, Reply};
use pairline_node::io::Input;
use pairline_node::view::TailEntryView;

fn put(contact: &str, name: &str, op: u64) -> Command {
    Command::ContactPut {
        user: "alice".to_owned(),
        contact: format!("{contact}@pairline.test"),
        name: name.to_owned(),
        groups: Vec::new(),
        op: Some(("phone".to_owned(), op)),
    }
}

/// East with alice, who has the contact `shared`; both copies equal.
fn with_alice() -> Pair {
    let mut pair = Pair::steady();
    let password = "a long password".to_owned();
    pair.must(
        EAST,
        Command::UserAdd { user: "alice".to_owned(), password, display_name: None, pool: Some("east".into()) },
    );
    pair.must(EAST, put("shared", "first", 1));
    pair.run(500);
    pair
}

/// East commits these while cut off, dies, and west takes over.
fn lost(changes: &[Command]) -> Pair {
    let mut pair = with_alice();
    pair.cut();
    for change in changes {
        pair.must(EAST, change.clone());
    }
    pair.crash(EAST);
    pair.run(35_000);
    fail_over(&mut pair);
    pair
}

fn fail_over(pair: &mut Pair) {
    pair.must(
        WEST,
        Command::PoolFailover {
            pool: "east".to_owned(),
            disaster: true,
            dry_run: false,
            force: false,
            confirm: Some("yes".to_owned()),
            reason: None,
        },
    );
    pair.run(5_000);
    let active = |pair: &Pair| pair.statuses(WEST).iter().all(|status| status.role == Role::Active);
    assert!(active(pair), "{:?}", pair.statuses(WEST));
}

/// East comes back and becomes the backup.
fn comes_back(pair: &mut Pair) {
    pair.start(EAST);
    pair.connect();
    pair.run(5_000);
    assert!(pair.statuses(EAST).iter().all(|status| status.role == Role::Backup), "{:?}", pair.statuses(EAST));
}

fn divergence(pair: &mut Pair, command: Command) -> Vec<TailEntryView> {
    match pair.must(EAST, command) {
        Reply::Divergence(view) => view.entries.into_iter().filter(|entry| entry.durable).collect(),
        other => panic!("{other:?}"),
    }
}

fn list(pair: &mut Pair) -> Vec<TailEntryView> {
    divergence(pair, Command::PoolDivergence { pool: "east".to_owned(), apply: false })
}

fn apply(pair: &mut Pair) -> Vec<TailEntryView> {
    divergence(pair, Command::PoolDivergence { pool: "east".to_owned(), apply: true })
}

fn settle(pair: &mut Pair) -> Vec<TailEntryView> {
    divergence(pair, Command::PoolDivergenceSettle { pool: "east".to_owned() })
}

fn outcomes(entries: &[TailEntryView]) -> Vec<&str> {
    entries.iter().map(|entry| entry.outcome.as_str()).collect()
}

/// Name of one of alice's contacts as a site reads it.
fn name(pair: &mut Pair, at: usize, contact: &str) -> Option<String> {
    let Reply::Contacts { contacts, .. } = pair.must(at, Command::ContactList { user: "alice".to_owned() }) else {
        panic!("no contact list")
    };
    let found = contacts.into_iter().find(|c| c.contact.contains(&format!("{contact}@")));
    found.map(|c| c.name)
}

fn failback_allowed(pair: &mut Pair) -> Result<(), String> {
    let command = Command::PoolFailback {
        pool: "east".to_owned(),
        disaster: false,
        dry_run: true,
        force: false,
        confirm: None,
        reason: None,
    };
    match pair.ask(EAST, command) {
        Ok(Reply::Plan(plan)) if plan.allowed => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// Marks of the tail's entries as they stand on disk, over all tails.
fn marks(pair: &Pair) -> Vec<Resolution> {
    pair.sites[EAST].disk.tails.iter().flat_map(|tail| tail.resolutions.clone()).collect()
}

#[test]
fn entries_that_build_on_each_other_are_applied_before_the_copy_hears_of_them() {
    let mut pair = lost(&[
        put("bob", "one", 2),
        put("bob", "two", 3),
        put("shared", "second", 4),
        Command::ContactRemove {
            user: "alice".into(),
            contact: "bob@pairline.test".into(),
            op: Some(("phone".into(), 5)),
        },
        put("bob", "three", 6),
    ]);
    comes_back(&mut pair);
    assert!(pair.open(EAST) >= 5);
    assert!(failback_allowed(&mut pair).unwrap_err().contains("divergent tail"));
    assert_eq!(outcomes(&list(&mut pair)), ["open"; 5], "the list says what --apply would do");
    // West's answers to proposals arrive before what it ships.
    pair.sites[WEST].hold = true;
    assert_eq!(outcomes(&apply(&mut pair)), ["applied"; 5]);
    pair.release(WEST);
    pair.run(2_000);
    for at in [EAST, WEST] {
        assert_eq!(name(&mut pair, at, "bob").as_deref(), Some("three"));
        assert_eq!(name(&mut pair, at, "shared").as_deref(), Some("second"));
    }
    assert!(marks(&pair).iter().all(|mark| mark.is_settled()));
    assert_eq!(pair.open(EAST), 0);
    assert_eq!(apply(&mut pair), [], "nothing is left");
    failback_allowed(&mut pair).unwrap();
}

#[test]
fn a_conflict_stays_listed_until_a_person_gives_it_up() {
    let mut pair = lost(&[put("shared", "lost", 2), put("shared", "lost too", 3), put("bob", "kept", 4)]);
    pair.must(WEST, put("shared", "newer", 50));
    comes_back(&mut pair);
    assert_eq!(outcomes(&list(&mut pair)), ["conflict", "conflict", "open"]);
    let entries = settle(&mut pair);
    assert_eq!(outcomes(&entries), ["open"; 3], "what nobody has offered is not given up");
    assert_eq!(outcomes(&apply(&mut pair)), ["conflict", "conflict", "applied"]);
    assert_eq!(outcomes(&apply(&mut pair)), ["conflict", "conflict"]);
    assert_eq!(outcomes(&list(&mut pair)), ["conflict", "conflict"]);
    assert_eq!(pair.open(EAST), 2);
    assert!(failback_allowed(&mut pair).unwrap_err().contains("divergent tail"));
    let entries = settle(&mut pair);
    assert_eq!(outcomes(&entries), ["given-up", "given-up"]);
    let told = pair.told(EAST, "tail-given-up");
    assert_eq!(told.len(), 2);
    assert!(told[0].contains("anna") && told[0].contains("shared@pairline.test"), "{told:?}");
    assert_eq!(pair.open(EAST), 0);
    assert_eq!(list(&mut pair), []);
    failback_allowed(&mut pair).unwrap();
    assert_eq!(name(&mut pair, WEST, "shared").as_deref(), Some("newer"), "nothing is merged");
    assert_eq!(name(&mut pair, WEST, "bob").as_deref(), Some("kept"));
}

#[test]
fn what_its_client_has_left_behind_is_for_a_person() {
    let mut pair = lost(&[put("bob", "lost", 2)]);
    for op in 100..140 {
        pair.must(WEST, put("carol", &format!("c{op}"), op));
    }
    comes_back(&mut pair);
    let entries = apply(&mut pair);
    assert_eq!(outcomes(&entries), ["conflict"]);
    assert!(entries[0].reason.as_ref().unwrap().contains("cannot be told"), "{entries:?}");
    assert_eq!(outcomes(&settle(&mut pair)), ["given-up"]);
    failback_allowed(&mut pair).unwrap();
}

#[test]
fn what_the_client_asked_for_again_is_skipped_and_carried_on() {
    let mut pair = lost(&[put("bob", "one", 2), put("bob", "two", 3)]);
    pair.must(WEST, put("bob", "one", 2));
    comes_back(&mut pair);
    assert_eq!(outcomes(&apply(&mut pair)), ["skipped", "applied"]);
    assert_eq!(name(&mut pair, WEST, "bob").as_deref(), Some("two"));
}

#[test]
fn a_run_that_is_cut_off_stops_and_the_next_one_goes_on() {
    let changes: Vec<Command> = (2..8).map(|op| put("bob", &format!("v{op}"), op)).collect();
    let mut pair = lost(&changes);
    comes_back(&mut pair);
    pair.sites[EAST].cut_after = Some(2);
    let entries = apply(&mut pair);
    assert_eq!(outcomes(&entries), ["applied", "applied", "open", "open", "open", "open"]);
    assert!(entries[5].reason.as_ref().unwrap().contains("an earlier entry"), "{entries:?}");
    assert_eq!(pair.open(EAST), 4 + soft_open(&pair));
    pair.connect();
    pair.run(3_000);
    assert_eq!(outcomes(&apply(&mut pair)), ["applied"; 4]);
    assert_eq!(name(&mut pair, WEST, "bob").as_deref(), Some("v7"));
    assert_eq!(pair.open(EAST), 0);
}

/// Entries without a durable effect that are open on disk.
fn soft_open(pair: &Pair) -> u64 {
    let open = marks(pair).iter().filter(|mark| !mark.is_settled()).count();
    u64::try_from(open).unwrap().saturating_sub(4)
}

#[test]
fn a_crash_before_the_marks_are_stored_applies_nothing_twice() {
    let mut pair = lost(&[put("bob", "one", 2), put("bob", "two", 3)]);
    comes_back(&mut pair);
    pair.sites[EAST].disk.lose_marks = true;
    assert_eq!(outcomes(&apply(&mut pair)), ["applied", "applied"]);
    pair.must(WEST, put("bob", "later", 60));
    pair.crash(EAST);
    pair.sites[EAST].disk.lose_marks = false;
    comes_back(&mut pair);
    assert!(pair.open(EAST) >= 2);
    assert_eq!(outcomes(&apply(&mut pair)), ["skipped", "skipped"]);
    assert_eq!(name(&mut pair, WEST, "bob").as_deref(), Some("later"));
    assert_eq!(pair.open(EAST), 0);
}

#[test]
fn what_is_settled_stays_so_after_a_crash_before_the_checkpoint() {
    let mut pair = lost(&[put("bob", "one", 2)]);
    pair.sites[EAST].disk.lose_checkpoints = true;
    comes_back(&mut pair);
    apply(&mut pair);
    assert_eq!(pair.open(EAST), 0);
    pair.crash(EAST);
    comes_back(&mut pair);
    assert_eq!(pair.open(EAST), 0, "the tails' files say so");
    failback_allowed(&mut pair).unwrap();
}

#[test]
fn before_the_copy_is_re_based_nothing_is_decided() {
    let mut pair = lost(&[put("bob", "one", 2)]);
    pair.sites[EAST].withhold_tails = true;
    pair.start(EAST);
    pair.connect();
    pair.run(3_000);
    assert!(pair.statuses(EAST).iter().any(|status| status.role == Role::Fenced));
    // The fenced copy still has the entry and would say that it is applied.
    let entries = apply(&mut pair);
    assert_eq!(outcomes(&entries), ["open"]);
    assert!(entries[0].reason.as_ref().unwrap().contains("backup"), "{entries:?}");
    pair.answer_tails(EAST);
    pair.run(5_000);
    assert_eq!(name(&mut pair, WEST, "bob"), None);
    assert_eq!(outcomes(&apply(&mut pair)), ["applied"]);
    assert_eq!(name(&mut pair, WEST, "bob").as_deref(), Some("one"));
}

#[test]
fn tails_of_one_group_are_counted_together() {
    let mut pair = lost(&[put("bob", "one", 2)]);
    comes_back(&mut pair);
    // An older tail of the same group, in conflict since.
    let mut older = pair.sites[EAST].disk.tails.iter().find(|tail| !tail.group.is_cms()).unwrap().clone();
    older.fork = Position { seq: older.fork.seq - 1, ..older.fork };
    older.resolutions.fill(Resolution::Conflict);
    let open = u64::try_from(older.resolutions.len()).unwrap();
    pair.sites[EAST].disk.tails.insert(0, older);
    apply(&mut pair);
    // The older one holds the same operations: they are applied now, so nothing is left of either.
    assert!(pair.open(EAST) <= open);
    assert_eq!(
        pair.open(EAST),
        u64::try_from(marks(&pair).iter().filter(|mark| !mark.is_settled()).count()).unwrap(),
        "the count is what the files say"
    );
}

#[test]
fn a_full_disk_refuses_at_once_and_takes_changes_again_when_there_is_room() {
    let mut pair = with_alice();
    pair.give(EAST, Input::Disk { full: true });
    let before = pair.now;
    let problem = pair.ask(EAST, put("bob", "no", 10)).unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (507, "disk-full"));
    assert!(problem.remedy.contains("free space"), "{problem:?}");
    assert_eq!(pair.now, before, "at once");
    assert_eq!(name(&mut pair, EAST, "shared").as_deref(), Some("first"), "reading goes on");
    // A backup's full disk does not matter for what another pool commits.
    pair.give(WEST, Input::Disk { full: true });
    pair.give(EAST, Input::Disk { full: false });
    pair.must(WEST, put("bob", "yes", 11));
    assert_eq!(name(&mut pair, EAST, "bob").as_deref(), Some("yes"));
}

#[test]
fn whoever_waits_when_the_disk_fills_up_is_told_at_once_and_the_change_is_made_when_there_is_room() {
    let mut pair = with_alice();
    pair.sites[EAST].disk.full = true;
    let before = pair.now;
    let problem = pair.ask(EAST, put("bob", "caught", 10)).unwrap_err();
    assert_eq!((problem.status, problem.kind.as_str()), (507, "disk-full"));
    assert!(problem.remedy.contains("repeating is harmless"), "{problem:?}");
    assert!(pair.now - before < 100, "told after {} ms", pair.now - before);
    assert_eq!(name(&mut pair, EAST, "bob"), None, "not before it is durable");
    pair.make_room(EAST);
    assert_eq!(name(&mut pair, EAST, "bob").as_deref(), Some("caught"));
    pair.must(EAST, put("bob", "caught", 10));
    pair.must(EAST, put("carol", "after", 11));
    assert_eq!(name(&mut pair, EAST, "carol").as_deref(), Some("after"));
}
