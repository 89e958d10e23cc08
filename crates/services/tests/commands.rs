//! Commands on users, registrations, contacts and settings.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{client, device};
use common::{EAST, Fake, WEST, aor, group_of, now};
use pairline_group::io::Refusal;
use pairline_group::{GroupId, OpId, PoolId};
use pairline_services::contacts::{self, SettingsChange};
use pairline_services::cx::{Peer, Place, Reach};
use pairline_services::records::{Contact, Credential, credential_key};
use pairline_services::remedy::CommandError;
use pairline_services::users::{self, Added, NewUser};
use pairline_sip::auth::Algorithm;
use pairline_topology::directory;

fn new_user(name: &str) -> NewUser {
    NewUser {
        user: aor(&format!("sip:{name}@pairline.test")),
        password: "pass word".into(),
        display_name: Some("A Name".into()),
        home: EAST,
        contacts: vec![],
        op: None,
    }
}

/// A user with directory entry, served here.
fn fake_with(name: &str) -> (Fake, NewUser) {
    let fake = Fake::new();
    let new = new_user(name);
    assert_eq!(now(users::add(&fake, &new)), Ok(Added::New));
    fake.set_place(&new.user, Place::Here { group: group_of(EAST, &new.user) });
    (fake, new)
}

#[test]
fn adding_a_user_writes_both_halves_and_no_password() {
    let (fake, new) = fake_with("erin");
    let info = now(users::show(&fake, &new.user)).unwrap();
    assert!(info.complete && info.enabled);
    assert_eq!((info.home, info.settings.display_name.as_deref()), (EAST, Some("A Name")));
    let world = fake.0.borrow();
    for record in world.records.values() {
        assert!(!record.value.windows(9).any(|w| w == b"pass word"));
    }
    let record = &world.records[&(info.group, credential_key(new.user.as_str()))];
    let credential = Credential::open(&world.view.sealing_key, new.user.as_str(), &record.value).unwrap();
    let ha1 = pairline_sip::auth::ha1(Algorithm::Sha256, b"erin", b"pairline.test", b"pass word");
    assert_eq!(credential.ha1(Algorithm::Sha256), Some(ha1.as_slice()));
    drop(world);
    let error = now(users::add(&fake, &new)).unwrap_err();
    assert_eq!((error.kind(), error.status()), ("user-exists", 409));
}

#[test]
fn a_half_made_user_is_completed_by_the_same_command() {
    let fake = Fake::new();
    let new = new_user("erin");
    // The first commit goes to `cms`, the second is refused.
    let slot = fake.clone();
    let entry = directory::DirectoryEntry { home: EAST, enabled: true };
    slot.put(GroupId::CMS, directory::user_key(new.user.as_str()), pairline_group::Class::Durable, entry.encode());
    fake.0.borrow_mut().refusals.push_back(Refusal::Busy);
    assert_eq!(now(users::add(&fake, &new)), Err(CommandError::Refused(Refusal::Busy)));
    assert!(!now(users::show(&fake, &new.user)).unwrap().complete);
    assert_eq!(now(users::add(&fake, &new)), Ok(Added::Completed));
    assert!(now(users::show(&fake, &new.user)).unwrap().complete);
}

#[test]
fn bad_users_are_refused_with_a_remedy() {
    let fake = Fake::new();
    let cases = [
        (NewUser { password: String::new(), ..new_user("erin") }, "bad-value"),
        (NewUser { password: "x".repeat(300), ..new_user("erin") }, "bad-value"),
        (NewUser { user: aor("sip:erin@other.example"), ..new_user("erin") }, "bad-user"),
        (NewUser { home: PoolId(9), ..new_user("erin") }, "no-such-pool"),
        (NewUser { display_name: Some("a\nb".into()), ..new_user("erin") }, "bad-value"),
    ];
    for (new, kind) in cases {
        let error = now(users::add(&fake, &new)).unwrap_err();
        assert_eq!(error.kind(), kind);
        assert!(!error.remedy().is_empty());
    }
    assert!(fake.0.borrow().commits.is_empty());
}

#[test]
fn a_removed_user_leaves_nothing() {
    let (fake, new) = fake_with("erin");
    now(contacts::put(&fake, &new.user, "bob", &Contact::default(), None)).unwrap();
    now(users::remove(&fake, &new.user)).unwrap();
    let world = fake.0.borrow();
    assert!(!world.records.keys().any(|(_, key)| &*key.owner == new.user.as_str()));
    drop(world);
    assert_eq!(now(users::remove(&fake, &new.user)).unwrap_err().kind(), "no-such-user");
}

#[test]
fn a_password_can_be_changed_and_works() {
    let (fake, new) = fake_with("erin");
    now(users::set_password(&fake, &new.user, "other")).unwrap();
    let mut phone = client("alice");
    phone.user = "erin";
    phone.password = "pass word";
    assert_eq!(phone.register(&fake, &["Contact: <sip:e@127.0.0.1:7001>"]).0, 401);
    phone.password = "other";
    assert_eq!(phone.register(&fake, &["Contact: <sip:e@127.0.0.1:7001>"]).0, 200);
}

#[test]
fn an_import_is_batched_and_harmless_to_repeat() {
    let fake = Fake::new();
    let mut rows: Vec<NewUser> = (0..100).map(|i| new_user(&format!("u{i}"))).collect();
    rows[3].contacts = vec![aor("sip:u4@pairline.test").as_str().to_owned()];
    rows.push(NewUser { password: String::new(), ..new_user("bad") });
    rows.push(NewUser { home: WEST, ..new_user("west") });
    let result = now(users::import(&fake, &rows));
    assert_eq!((result.added, result.unchanged, result.refused_count), (101, 0, 1));
    assert!(result.refused[0].0.contains("bad"));
    assert!(fake.0.borrow().commits.len() <= 1 + 8, "one proposal for the directory, one per group");
    let again = now(users::import(&fake, &rows));
    assert_eq!((again.added, again.unchanged, again.refused_count), (0, 101, 1));
}

#[test]
fn an_import_with_a_doubled_row_or_half_made_users_still_completes() {
    let fake = Fake::new();
    let rows = vec![new_user("u1"), new_user("u2")];
    fake.0.borrow_mut().refusals.push_back(Refusal::Busy);
    let result = now(users::import(&fake, &rows));
    assert_eq!(result.added, 2, "falls back to one by one");
    let fake = Fake::new();
    let entry = directory::DirectoryEntry { home: EAST, enabled: true };
    let key = directory::user_key("sip:u1@pairline.test");
    fake.put(GroupId::CMS, key, pairline_group::Class::Durable, entry.encode());
    let result = now(users::import(&fake, &rows));
    assert_eq!(result.added, 2);
    assert!(now(users::show(&fake, &rows[0].user)).unwrap().complete);
}

#[test]
fn where_tells_bindings_and_their_reach() {
    let (fake, new) = fake_with("bob2");
    let bob = aor("sip:bob@pairline.test");
    let entry = directory::DirectoryEntry { home: EAST, enabled: true };
    fake.put(GroupId::CMS, directory::user_key(bob.as_str()), pairline_group::Class::Durable, entry.encode());
    device(&fake, "bob", "127.0.0.1:7101", "");
    device(&fake, "bob", "127.0.0.1:7102", "");
    let found = now(users::where_is(&fake, &bob)).unwrap();
    assert_eq!((found.home, found.serving, found.registrations.len()), (EAST, Some(EAST), 2));
    assert!(found.registrations.iter().all(|r| r.reach == Reach::Open && !r.guest && r.expires_in == 600));
    assert_eq!(now(users::drop_registrations(&fake, &bob, Some("sip:bob@127.0.0.1:7101"))), Ok(1));
    assert_eq!(now(users::drop_registrations(&fake, &bob, None)), Ok(1));
    assert!(now(users::where_is(&fake, &bob)).unwrap().registrations.is_empty());
    let missing = now(users::drop_registrations(&fake, &bob, Some("sip:x@y")));
    assert_eq!(missing.unwrap_err().kind(), "not-there");
    assert!(now(users::where_is(&fake, &new.user)).unwrap().registrations.is_empty());
}

#[test]
fn contacts_are_added_changed_listed_and_removed() {
    let fake = Fake::new();
    let alice = aor("sip:alice@pairline.test");
    let contact = Contact { name: "Bob".into(), groups: vec!["Friends".into()] };
    now(contacts::put(&fake, &alice, "bob", &contact, None)).unwrap();
    now(contacts::put(&fake, &alice, "sip:BOB2@other.example", &contact, None)).unwrap();
    let changed = Contact { name: "Robert".into(), ..contact };
    now(contacts::put(&fake, &alice, "sip:bob@pairline.test", &changed, None)).unwrap();
    let list = now(contacts::list(&fake, &alice)).unwrap();
    assert!(!list.read_only);
    let names: Vec<(&str, &str)> =
        list.contacts.iter().map(|c| (c.address.as_str(), c.contact.name.as_str())).collect();
    assert_eq!(names, [("sip:BOB2@other.example", "Bob"), ("sip:bob@pairline.test", "Robert")]);
    now(contacts::remove(&fake, &alice, "bob", None)).unwrap();
    assert_eq!(now(contacts::remove(&fake, &alice, "bob", None)).unwrap_err().kind(), "not-there");
    assert_eq!(now(contacts::list(&fake, &alice)).unwrap().contacts.len(), 1);
}

#[test]
fn the_same_operation_is_applied_once() {
    let fake = Fake::new();
    let alice = aor("sip:alice@pairline.test");
    let op: OpId = contacts::op_id(&alice, "tablet", 1);
    now(contacts::put(&fake, &alice, "bob", &Contact::default(), Some(op))).unwrap();
    now(contacts::remove(&fake, &alice, "bob", None)).unwrap();
    now(contacts::put(&fake, &alice, "bob", &Contact::default(), Some(op))).unwrap();
    assert!(now(contacts::list(&fake, &alice)).unwrap().contacts.is_empty(), "a late repeat changes nothing");
    assert_ne!(op, contacts::op_id(&aor("sip:bob@pairline.test"), "tablet", 1));
}

#[test]
fn lists_and_fields_have_limits() {
    let fake = Fake::new();
    let alice = aor("sip:alice@pairline.test");
    let put = |address: &str, contact: Contact| now(contacts::put(&fake, &alice, address, &contact, None));
    for name in ["a", "b", "c"] {
        put(name, Contact::default()).unwrap();
    }
    assert_eq!(put("d", Contact::default()), Err(CommandError::ListFull(3)));
    put("a", Contact { name: "changed".into(), groups: vec![] }).unwrap();
    assert_eq!(put("a", Contact { name: "x".repeat(300), groups: vec![] }).unwrap_err().kind(), "bad-value");
    assert_eq!(
        put("a", Contact { name: String::new(), groups: vec![String::new(); 40] }).unwrap_err().kind(),
        "bad-value"
    );
    for bad in ["", "sip:", "sip:nobody-at-all", "x y", "\u{7}"] {
        assert_eq!(put(bad, Contact::default()).unwrap_err().kind(), "bad-value", "{bad:?}");
    }
}

#[test]
fn settings_change_field_by_field() {
    let fake = Fake::new();
    let alice = aor("sip:alice@pairline.test");
    let set = |change: SettingsChange| now(contacts::change_settings(&fake, &alice, &change));
    set(SettingsChange { display_name: Some("Alice".into()), note: Some("away".into()), ..Default::default() })
        .unwrap();
    let settings = set(SettingsChange { forward_to: Some("bob".into()), ..Default::default() }).unwrap();
    assert_eq!(settings.display_name.as_deref(), Some("Alice"));
    assert_eq!(settings.forward_to.as_deref(), Some("sip:bob@pairline.test"));
    let settings = set(SettingsChange { forward_to: Some(String::new()), ..Default::default() }).unwrap();
    assert_eq!((settings.forward_to, settings.note.as_deref()), (None, Some("away")));
    for bad in ["sip:x@elsewhere.example", "alice"] {
        assert_eq!(
            set(SettingsChange { forward_to: Some(bad.into()), ..Default::default() }).unwrap_err().kind(),
            "bad-value"
        );
    }
    // Somebody else was faster: read again, then written.
    fake.0.borrow_mut().refusals.push_back(Refusal::Conflict(pairline_services::records::settings_key(alice.as_str())));
    assert_eq!(
        set(SettingsChange { note: Some("back".into()), ..Default::default() }).unwrap().note.as_deref(),
        Some("back")
    );
    assert_eq!(now(contacts::settings(&fake, &alice)).unwrap().note.as_deref(), Some("back"));
}

#[test]
fn in_resiliency_mode_everything_is_read_and_nothing_changed() {
    let fake = Fake::new();
    let alice = aor("sip:alice@pairline.test");
    now(contacts::put(&fake, &alice, "bob", &Contact::default(), None)).unwrap();
    let entry = directory::DirectoryEntry { home: EAST, enabled: true };
    fake.put(GroupId::CMS, directory::user_key(alice.as_str()), pairline_group::Class::Durable, entry.encode());
    fake.set_place(&alice, Place::Resiliency { group: group_of(EAST, &alice) });
    let commits = fake.0.borrow().commits.len();
    let list = now(contacts::list(&fake, &alice)).unwrap();
    assert_eq!((list.read_only, list.contacts.len()), (true, 1));
    now(contacts::settings(&fake, &alice)).unwrap();
    let refused = [
        now(contacts::put(&fake, &alice, "dave", &Contact::default(), None)),
        now(contacts::remove(&fake, &alice, "bob", None)),
        now(contacts::change_settings(&fake, &alice, &SettingsChange::default())).map(drop),
        now(users::set_password(&fake, &alice, "x")),
        now(users::remove(&fake, &alice)),
    ];
    for result in refused {
        let error = result.unwrap_err();
        assert_eq!((error.kind(), error.status()), ("resiliency-mode", 503));
        assert!(error.remedy().contains("failover"));
    }
    assert_eq!(fake.0.borrow().commits.len(), commits);
    fake.set_place(&alice, Place::Unavailable { group: Some(group_of(EAST, &alice)), pool: WEST });
    assert_eq!(now(contacts::list(&fake, &alice)).unwrap_err().kind(), "pool-unreachable");
}

#[test]
fn what_is_changed_of_a_user_who_is_not_known_yet_is_refused_and_not_written_into_another_group() {
    let fake = Fake::new();
    let alice = aor("sip:alice@pairline.test");
    for place in
        [Place::Elsewhere { group: None, at: Peer::Pool(WEST) }, Place::Unavailable { group: None, pool: EAST }]
    {
        fake.set_place(&alice, place);
        let refused = [
            now(contacts::list(&fake, &alice)).map(drop),
            now(contacts::put(&fake, &alice, "dave", &Contact::default(), None)),
            now(contacts::remove(&fake, &alice, "bob", None)),
            now(contacts::change_settings(&fake, &alice, &SettingsChange::default())).map(drop),
        ];
        for result in refused {
            let error = result.unwrap_err();
            assert_eq!((error.kind(), error.status(), error.passes()), ("not-known-yet", 503, true));
        }
    }
    assert_eq!(fake.0.borrow().commits.len(), 0);
}
