//! Digest algorithms by policy (RFC 8760): each from the stored password to the answer, and no way down.
#![allow(clippy::unwrap_used)]

use super::common;

use common::sip::{Client, client, last};
use common::{EAST, Fake, Task, aor, group_of};
use pairline_group::Class;
use pairline_services::metrics::Counter;
use pairline_services::records::{Credential, credential_key};
use pairline_services::settings::AuthRule;
use pairline_sip::auth::{Algorithm, Challenge, answer};

const ALL: [Algorithm; 3] = [Algorithm::Md5, Algorithm::Sha256, Algorithm::Sha512_256];

/// A world where one kind of phone is asked for that algorithm, and alice's password was set when `stored` were allowed.
fn world(algorithm: Algorithm, stored: &[Algorithm]) -> (Fake, Client) {
    let fake = Fake::new();
    fake.edit_view(|view| {
        view.auth_rules = vec![AuthRule { listener: None, user_agent: "NewPhone".into(), algorithm }];
        view.stored_algorithms = stored.to_vec();
    });
    let user = aor("sip:alice@pairline.test");
    let credential = Credential::from_password(stored, user.user(), user.domain(), "secret");
    let value = credential.seal(&fake.0.borrow().view.sealing_key, user.as_str(), 1);
    fake.put(group_of(EAST, &user), credential_key(user.as_str()), Class::Durable, value);
    let phone = Client { agent: "NewPhone/2", ..client("alice") };
    (fake, phone)
}

/// The challenge that a REGISTER gets.
fn challenge(fake: &Fake, phone: &Client) -> Vec<u8> {
    let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[], "");
    assert!(!Task::start(fake, request, phone.flow).is_running());
    last(fake).1.header_named("WWW-Authenticate").unwrap().to_vec()
}

#[test]
fn each_algorithm_leads_from_the_stored_password_to_a_200() {
    for algorithm in ALL {
        let (fake, mut phone) = world(algorithm, &ALL);
        let offered = challenge(&fake, &phone);
        assert_eq!(Challenge::parse(&offered).unwrap().algorithm, algorithm);
        assert_eq!(phone.register(&fake, &["Contact: <sip:a@127.0.0.1:7001>"]).0, 200, "{algorithm:?}");
        phone.password = "guess";
        assert_eq!(phone.register(&fake, &["Contact: <sip:a@127.0.0.1:7001>"]).0, 401, "{algorithm:?}");
    }
}

#[test]
fn only_the_offered_algorithm_is_taken() {
    for offered in ALL {
        for given in ALL.into_iter().filter(|given| *given != offered) {
            let (fake, mut phone) = world(offered, &ALL);
            let value = challenge(&fake, &phone);
            let changed = Challenge { algorithm: given, ..Challenge::parse(&value).unwrap() };
            phone.cseq += 1;
            let header = answer(&changed, "alice", "secret", "REGISTER", "sip:pairline.test", "cn", 1);
            let line = format!("Authorization: {header}");
            let request = phone.message("REGISTER", "sip:pairline.test", "<sip:alice@pairline.test>", &[&line], "");
            assert!(!Task::start(&fake, request, phone.flow).is_running());
            let (status, reply) = last(&fake);
            let again = Challenge::parse(reply.header_named("WWW-Authenticate").unwrap()).unwrap();
            assert_eq!((status, again.algorithm, again.stale), (401, offered, false), "{given:?} for {offered:?}");
            assert_eq!(fake.count_of(Counter::AuthFailed), 1);
        }
    }
}

#[test]
fn a_password_set_before_an_algorithm_was_allowed_must_be_set_anew_and_looks_like_a_wrong_one() {
    let (fake, mut phone) = world(Algorithm::Sha512_256, &[Algorithm::Sha256]);
    let (status, reply) = phone.register(&fake, &["Contact: <sip:a@127.0.0.1:7001>"]);
    assert_eq!(status, 401);
    assert!(!Challenge::parse(reply.header_named("WWW-Authenticate").unwrap()).unwrap().stale);
    let (fake, mut phone) = world(Algorithm::Sha512_256, &ALL);
    assert_eq!(phone.register(&fake, &["Contact: <sip:a@127.0.0.1:7001>"]).0, 200);
}
