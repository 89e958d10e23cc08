//! Servers that die in the middle of procedures, and a pool that starts alone.
//!
//! The small form of what the simulator sweeps: here the processes, sockets and disks are real.

use super::kept::{contacts, equal, put, steady};
use pairline_interop::deployment::Deployment;
use pairline_interop::program::Program;
use pairline_interop::wait::until;
use serde_json::Value;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_secs(40);
/// Time for a procedure that was interrupted, from its resumption.
const PROCEDURE: Duration = Duration::from_secs(90);

/// A server that dies while a procedure is under way.
struct Round {
    /// `failover` or `failback` of east.
    procedure: &'static str,
    /// Whose server dies.
    victim: &'static str,
    /// How long after the command has reached the server that carries it out; a whole procedure takes some forty milliseconds.
    after_ms: u64,
}

/// Changes alice's contacts until told to stop; the acknowledged ones.
fn write(pairline: &Deployment, mark: &str, stop: &AtomicBool) -> Vec<String> {
    let mut acknowledged = Vec::new();
    for number in 0..60 {
        if stop.load(Ordering::Acquire) {
            break;
        }
        let contact = format!("sip:{mark}x{number}@pairline.test");
        let mut change = pairline.start_cli(&["contact", "put", "alice", &contact, "--name", mark]);
        // Whether a change took effect whose answer a death cut off is nobody's to say: it is not waited for.
        while change.ended().is_none() && !stop.load(Ordering::Acquire) {
            thread::sleep(Duration::from_millis(1));
        }
        if change.ended().is_some_and(|status| status.success()) {
            acknowledged.push(contact);
        }
    }
    acknowledged
}

fn procedures(pairline: &Deployment) -> Vec<Value> {
    let said = until(SOON, "the procedures can be listed", || {
        let said = pairline.cli(&["procedure", "list", "--json"]);
        said.success.then_some(said)
    });
    said.json()["procedures"].as_array().cloned().unwrap_or_default()
}

/// Resumes what has not ended until everything is done.
fn resume_all(pairline: &Deployment) {
    let mut resuming: Option<Program> = None;
    until(PROCEDURE, "every procedure is done", || {
        let all = procedures(pairline);
        let open = all.iter().find(|procedure| procedure["state"] != "done" && procedure["state"] != "aborted");
        let Some(open) = open else { return Some(()) };
        // It is refused while the pools have not found each other yet; then it is tried again.
        if resuming.as_mut().is_none_or(|program| program.ended().is_some()) {
            let id = open["id"].as_str().expect("a procedure has an id");
            resuming = Some(pairline.start_cli(&["procedure", "resume", id]));
        }
        None
    });
}

/// One pool serves each group, and both servers agree which.
fn one_place(pairline: &Deployment) -> bool {
    until(SOON, "both servers agree who serves east's groups", || {
        let at_home = pairline.pool_at("east", "east")["serving_own"].as_u64()?;
        let moved = pairline.pool_at("west", "west")["serving_partner"].as_u64()?;
        let seen_west = pairline.pool_at("west", "east")["serving_own"].as_u64()?;
        let seen_east = pairline.pool_at("east", "west")["serving_partner"].as_u64()?;
        assert!(at_home + moved <= 32, "{at_home} groups are served at home and {moved} at the partner: some twice");
        let whole = at_home + moved == 32 && (at_home == 0 || moved == 0);
        (whole && at_home == seen_west && moved == seen_east).then_some(at_home == 32)
    })
}

/// Lines of all servers that contain a part.
fn said(pairline: &Deployment, part: &str) -> usize {
    pairline.server_lines().iter().filter(|line| line.contains(part)).count()
}

/// Waits closely until such a line was said once more: what follows it is over within milliseconds.
fn said_again(pairline: &Deployment, before: usize, part: &str) {
    let ends = Instant::now() + SOON;
    while said(pairline, part) == before {
        assert!(Instant::now() < ends, "no server says `{part}`");
        thread::sleep(Duration::from_millis(1));
    }
}

fn play(pairline: &mut Deployment, round: &Round) {
    let Round { procedure, victim, after_ms } = *round;
    let mark = format!("{procedure}{victim}{after_ms}");
    let stop = AtomicBool::new(false);
    let pid = pairline.server_pid(victim).unwrap_or_else(|| panic!("{victim} does not run"));
    let (acknowledged, _command) = thread::scope(|scope| {
        let writing = scope.spawn(|| write(pairline, &mark, &stop));
        let order = format!("asked for pool {procedure} east");
        let before = said(pairline, &order);
        let command = pairline.start_cli(&["pool", procedure, "east", "--reason", "interop"]);
        said_again(pairline, before, &order);
        // The moment of the death is what the round is about.
        thread::sleep(Duration::from_millis(after_ms));
        pairline_interop::program::signal(pid, "KILL");
        stop.store(true, Ordering::Release);
        (writing.join().expect("the writer does not panic"), command)
    });
    pairline.gone(pid);
    pairline.start_again(victim);
    until(SOON, "both servers answer", || {
        let answers = |pool| pairline.cli(&["--server", Deployment::admin(pool), "pool", "status", "--json"]).success;
        (answers("east") && answers("west")).then_some(())
    });
    let state = |all: Vec<Value>| all.first().map(|p| format!("{} at step {}", p["state"], p["steps"]));
    println!("       {mark}: {} acknowledged; {:?}", acknowledged.len(), state(procedures(pairline)));
    resume_all(pairline);
    steady(pairline);
    one_place(pairline);
    let now = contacts(pairline, "alice");
    let lost: Vec<&String> = acknowledged.iter().filter(|contact| !now.contains(*contact)).collect();
    assert!(lost.is_empty(), "{mark}: acknowledged and lost: {lost:?}\n{now}");
    equal(pairline);
    for contact in acknowledged {
        pairline.must(&["contact", "remove", "alice", &contact]);
    }
}

/// Brings east's groups to where a round wants them.
fn set_out(pairline: &Deployment, round: &Round) {
    let home = one_place(pairline);
    match (round.procedure, home) {
        ("failover", false) => pairline.must(&["pool", "failback", "east", "--reason", "setting out"]),
        ("failback", true) => pairline.must(&["pool", "failover", "east", "--reason", "setting out"]),
        _ => return,
    };
    steady(pairline);
}

fn rounds(pairline: &mut Deployment, procedure: &'static str) {
    for (victim, after_ms) in [("west", 4), ("east", 4), ("west", 12), ("east", 12), ("west", 20)] {
        let round = Round { procedure, victim, after_ms };
        set_out(pairline, &round);
        play(pairline, &round);
    }
    if !one_place(pairline) {
        pairline.must(&["pool", "failback", "east", "--reason", "interop"]);
    }
    equal(pairline);
}

/// Either server is killed at moments of a planned failover; it comes back and the procedure is resumed: nothing is lost.
pub fn in_failover(pairline: &mut Deployment) {
    rounds(pairline, "failover");
}

/// The same in a failback.
pub fn in_failback(pairline: &mut Deployment) {
    rounds(pairline, "failback");
}

/// Whether alice can be given a contact.
fn can_put(pairline: &Deployment, contact: &str) -> bool {
    pairline.cli(&["contact", "put", "alice", &format!("sip:{contact}@pairline.test")]).success
}

/// East starts while west is away: it cannot know whether west was promoted, so contacts are read and not changed.
fn alone(pairline: &mut Deployment, mark: &str) {
    steady(pairline);
    put(pairline, "alice", mark);
    steady(pairline);
    assert!(pairline.interrupt(), "the deployment does not stop cleanly");
    pairline.start_again("east");
    let list = contacts(pairline, "alice");
    assert!(list.contains(mark), "acknowledged before the stop, and not there: {list}");
    let said = pairline.cli(&["contact", "put", "alice", "sip:refused@pairline.test"]);
    assert!(!said.success, "changed although nobody knows whether the partner was promoted: {}", said.all());
    assert!(said.err.contains("resiliency") || said.err.contains("limited"), "{}", said.err);
}

/// A cold start without the partner, ended by the partner's return.
pub fn cold_until_return(pairline: &mut Deployment) {
    alone(pairline, "coldone");
    pairline.start_again("west");
    until(SOON, "changes are taken after the partner's return", || can_put(pairline, "returned").then_some(()));
    equal(pairline);
    let list = contacts(pairline, "alice");
    assert!(list.contains("coldone") && list.contains("returned") && !list.contains("refused"), "{list}");
}

/// A cold start without the partner, ended by the administrator's word; the partner comes later.
pub fn cold_until_word(pairline: &mut Deployment) {
    alone(pairline, "coldtwo");
    let unsaid = pairline.cli(&["pool", "assert-active", "east"]);
    assert!(!unsaid.success && unsaid.err.contains("--confirm"), "{}", unsaid.all());
    assert!(!can_put(pairline, "refused"), "changed before the word was given");
    pairline.must(&["pool", "assert-active", "east", "--confirm", "--reason", "interop"]);
    until(SOON, "changes are taken after the word", || can_put(pairline, "asserted").then_some(()));
    pairline.start_again("west");
    equal(pairline);
    let list = contacts(pairline, "alice");
    assert!(list.contains("coldtwo") && list.contains("asserted") && !list.contains("refused"), "{list}");
    assert_eq!(pairline.pool_at("east", "east")["tail"], 0);
}
