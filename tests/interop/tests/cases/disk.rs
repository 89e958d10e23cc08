//! A full disk: changes are refused with the reason and soon, reading goes on, and nothing acknowledged is lost.

use super::kept::{Kept, contacts, equal, steady};
use super::{east, raw_serves};
use pairline_interop::deployment::Deployment;
use pairline_interop::wait::until;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// Size of the file system: a segment of the log (64 MiB), the next one, and room for a checkpoint of all that these two can hold,
/// which is what is written first once there is room again.
const MEBIBYTES: u32 = 512;
/// Time in which a change has an answer, whatever it is.
const ANSWER: Duration = Duration::from_secs(10);
/// Time in which a full disk is noticed by changes of some kilobytes each.
const NOTICED: Duration = Duration::from_secs(90);
const SOON: Duration = Duration::from_secs(60);
/// Users of the import that uses up the reserved part of the log, and contacts of each.
const BULK: (usize, usize) = (4_000, 200);

/// The demo with east's data on a small file system.
pub fn start(binary: &Path, folder: &Path) -> Deployment {
    let mut deployment = Deployment::start(binary, &folder.join("data"), &[]);
    assert!(deployment.interrupt(), "the demo did not stop when asked");
    deployment.put_on_small_disk("east", MEBIBYTES);
    deployment.up_again(&[]);
    steady(&deployment);
    deployment
}

/// A file whose import writes much: users of east with long contact lists.
fn bulk(folder: &Path) -> String {
    let mut text = String::from("user,password,display_name,pool,contacts\n");
    let contacts: Vec<String> = (0..BULK.1)
        .map(|n| format!("sip:somebody-with-a-long-name-{n:04}@a-domain-with-a-long-name.example"))
        .collect();
    let contacts = contacts.join(";");
    for number in 0..BULK.0 {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "bulk{number:05},bulk-password-{number:05},,east,{contacts}");
    }
    let path = folder.join("bulk.csv");
    fs::write(&path, text).expect("the folder can be written");
    path.to_string_lossy().into_owned()
}

/// One change: whether it was acknowledged, and what was said. It must be answered soon either way.
fn put(pairline: &Deployment, contact: &str) -> (bool, String) {
    let asked = Instant::now();
    let said = pairline.cli(&["contact", "put", "alice", &format!("sip:{contact}@pairline.test"), "--name", contact]);
    let took = asked.elapsed();
    assert!(took < ANSWER, "a change was answered only after {:.1} s: {}", took.as_secs_f64(), said.all());
    (said.success, said.all())
}

/// The disk fills up under changes: the first one that is refused names the disk. Room is made: changes are taken again, and
/// everything acknowledged is there.
pub fn full(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "beforefull");
    let file = bulk(pairline.folder().parent().expect("data lies in the group's folder"));
    let mark = pairline.up().mark();
    pairline.disk().fill();
    let import = pairline.start_cli(&["user", "import", &file, "--batch", "20"]);
    let mut acknowledged = Vec::new();
    let mut number = 0;
    let refusal = until(NOTICED, "a change is refused on a full disk", || {
        let contact = format!("full{number}");
        number += 1;
        let (done, said) = put(pairline, &contact);
        if done {
            acknowledged.push(contact);
        }
        (!done).then_some(said)
    });
    assert!(refusal.contains("disk"), "a full disk is not named as the reason: {refusal}");
    drop(import);
    let (again, said) = put(pairline, "refusedagain");
    assert!(!again && said.contains("disk"), "{said}");
    assert!(pairline.up().lines(mark).iter().any(|line| line.contains("disk-full")), "the log does not say it");
    let list = contacts(pairline, "alice");
    assert!(acknowledged.iter().all(|contact| list.contains(contact)), "acknowledged, and not there: {list}");
    raw_serves(east(), "fulldisk");
    pairline.must(&["contact", "put", "carol", "sip:whilefull@pairline.test"]);
    pairline.disk().make_room();
    if pairline.server_pid("east").is_none() {
        pairline.start_again("east");
    }
    until(SOON, "changes are taken again", || put(pairline, "roomagain").0.then_some(()));
    let list = contacts(pairline, "alice");
    for contact in acknowledged.iter().map(String::as_str).chain(["beforefull", "roomagain"]) {
        assert!(list.contains(contact), "{contact} was acknowledged and is lost: {list}");
    }
    assert!(contacts(pairline, "carol").contains("whilefull"), "the partner's change is lost");
    equal(pairline);
    for contact in acknowledged.iter().map(String::as_str).chain(["roomagain", "refusedagain"]) {
        // The refused one may have been written after all, or not: that is what `remove` finds out.
        pairline.cli(&["contact", "remove", "alice", &format!("sip:{contact}@pairline.test")]);
    }
    pairline.cli(&["contact", "remove", "alice", &format!("sip:full{}@pairline.test", number - 1)]);
    pairline.must(&["contact", "remove", "carol", "sip:whilefull@pairline.test"]);
    kept.still(pairline);
}

/// After a restart of both servers everything is as it was.
pub fn restarted(pairline: &mut Deployment) {
    let kept = Kept::with(pairline, "afterfull");
    assert!(pairline.interrupt(), "the deployment does not stop cleanly");
    pairline.up_again(&[]);
    steady(pairline);
    kept.still(pairline);
}
