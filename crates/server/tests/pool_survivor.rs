//! Three server processes of one Enterprise pool, two of which lose their disks for good: by command its groups go on with what is left, users
//! can be changed again, and the two come back with empty disks and count again.
#![allow(clippy::unwrap_used)]

use super::people;
use super::processes;
use super::support;

use people::{USERS, add, contact, contacts_at, with_phones};
use processes::Pool;
use std::time::Duration;
use support::{PATIENCE, wait_for};

const ONE_ANSWER: Duration = Duration::from_secs(2);

/// Runs `pairline group …`; whether it succeeded, and what it said.
fn group(pool: &Pool, args: &[&str]) -> (bool, String) {
    let output =
        pool.command(&[&["group"], args].concat()).wait_while(|| std::thread::sleep(Duration::from_millis(10)));
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn two_of_three_are_gone_for_good_and_the_pool_goes_on_with_what_is_left() {
    let (mut pool, mut phones) = with_phones();
    let (ok, said) = group(&pool, &["recover", "east", "--all-without-majority", "--confirm"]);
    assert!(!ok && said.contains("nothing to recover"), "{said}");
    for n in [1, 2] {
        pool.kill(n);
        pool.wipe(n);
    }
    pool.wait("no-majority", 0);
    let user = phones[0].user.clone();
    wait_for("a refusal", || pool.ask(0, &contact(&user, 1)).err());

    // Without confirmation nothing happens but that it is said.
    let plan = ["recover", "east", "--all-without-majority"];
    let said = wait_for("a plan", || Some(group(&pool, &plan)).filter(|(ok, _)| *ok)).1;
    for word in ["plan of a recovery", "fe1.east.pairline.test", "given up", "whatever fe2.east", "--confirm"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    assert_eq!(pool.health(0).unwrap().pools[0].state, "no-majority");

    let (ok, said) = group(&pool, &[&plan[..], &["--confirm", "--reason", "fire in the rack"]].concat());
    assert!(ok && said.contains("goes on at fe1.east.pairline.test"), "{said}\n{}", pool.logs());
    wait_for("a change", || pool.ask(0, &contact(&user, 2)).ok());
    add(&pool, 0, "after");
    for phone in &mut phones {
        let registered = wait_for("a registration", || phone.register(pool.sip(0), ONE_ANSWER).filter(|s| *s == 200));
        assert_eq!(registered, 200);
    }

    // The two come back with empty disks, and count again.
    for n in [1, 2] {
        pool.launch(n);
    }
    let view = pool.settled(1);
    assert!(view.pools[0].servers.iter().all(|server| server.copies == 33 && server.behind == 0), "{view:?}");
    pool.kill(0);
    for n in 0..USERS {
        let user = format!("user{n}");
        wait_for("a change", || pool.ask(1 + n % 2, &contact(&user, 3)).ok());
        assert!(contacts_at(&pool, 1, &user) >= 2, "{user}");
    }
    let sent = phones[1].message(pool.sip(1), &user, "through the new ones", PATIENCE);
    assert!(sent.is_some_and(|status| status == 200 || status == 202), "{sent:?}\n{}", pool.logs());

    // What was done is shown, by whom and why.
    let (ok, said) = group(&pool, &["show", "east", "cms"]);
    assert!(ok && said.contains("fire in the rack") && said.contains("given up      fe2.east"), "{said}");
    let led = |said: &str| said.lines().filter(|line| line.contains(" led ")).count();
    wait_for("every group is led", || {
        Some(group(&pool, &["list", "east"])).filter(|(ok, said)| *ok && led(said) == 33)
    });
}

#[test]
fn old_disks_that_are_started_all_the_same_are_void() {
    let (mut pool, phones) = with_phones();
    for n in [1, 2] {
        pool.kill(n);
    }
    pool.wait("no-majority", 0);
    let order = ["recover", "east", "--all-without-majority", "--confirm"];
    wait_for("the recovery", || Some(group(&pool, &order)).filter(|(ok, _)| *ok));
    let user = phones[0].user.clone();
    wait_for("a change", || pool.ask(0, &contact(&user, 2)).ok());
    for n in [1, 2] {
        pool.launch(n);
    }
    pool.settled(2);
    assert!(pool.logs_contain(1, "copy-outlived") && pool.logs_contain(2, "copy-outlived"), "{}", pool.logs());
    for n in 0..3 {
        assert_eq!(contacts_at(&pool, n, &user), 2, "at server {n}");
    }
}
