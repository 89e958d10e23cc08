//! What is lost of the registrations that a server acknowledged when its cable is pulled in mid-flow: at a pool of three that is paired, and at
//! two Kamailio nodes that tell each other.
//!
//! Owns the rounds and their part of the report. A user registers once, so that what is lost of it is seen: nobody else knows it.

use super::super::{Binaries, kamailio};
use super::Options;
use super::dmq::Nodes;
use super::front_ends::{FrontEnds, Shape};
use super::journal::{self, Line};
use super::network::{Network, SERVERS};
use super::register::Part;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

/// Users of a round, and how many of them register a second.
const USERS: u32 = 2_000;
const RATE: u32 = 2_000;
/// The first of them at Kamailio's nodes, where others have registered before.
const AFTER_THOSE: u32 = 10;
/// From the start of the generator to the cut: about the half of them.
const MID_FLOW: Duration = Duration::from_millis(500);
/// Routing groups, as by default.
const GROUPS: u32 = 32;

/// What the rounds of one side gave.
#[derive(Clone, Debug, Default)]
struct Side {
    rounds: u32,
    acknowledged: u64,
    /// By round.
    lost: Vec<u64>,
}

impl Side {
    fn add(&mut self, acknowledged: usize, lost: usize) {
        self.rounds += 1;
        self.acknowledged += acknowledged as u64;
        self.lost.push(lost as u64);
    }

    fn line(&self, name: &str) -> String {
        let rounds = self.lost.iter().filter(|lost| **lost > 0).count();
        let (all, most) = (self.lost.iter().sum::<u64>(), self.lost.iter().max().copied().unwrap_or(0));
        format!("| {name} | {} | {} | {all} | {rounds} | {most} |\n", self.rounds, self.acknowledged)
    }

    fn json(&self) -> Value {
        json!({"rounds": self.rounds, "acknowledged": self.acknowledged, "lost": self.lost})
    }
}

/// Plays all rounds and reports.
pub(crate) fn run(binaries: &Binaries, folder: &Path, options: &Options) -> Result<Part, String> {
    kamailio::install()?;
    if let Some(why_not) = Network::with_cables().why_not() {
        return Ok((format!("## A host is cut off in mid-flow\n\nNot measured: {why_not}.\n"), json!(null)));
    }
    let theirs = theirs(binaries, folder, options.rounds)?;
    let ours = ours(binaries, folder, options.rounds)?;
    Ok(report(&theirs, &ours))
}

fn theirs(binaries: &Binaries, folder: &Path, rounds: u32) -> Result<Side, String> {
    let mut side = Side::default();
    let mut network = Network::with_cables();
    network.part()?;
    for round in 1..=rounds {
        let nodes = Nodes::start_behind(&folder.join("cut-kamailio"), &network)?;
        // Two users first: nodes that have not found each other yet have nobody to tell.
        register(binaries, folder, nodes.addresses[0], (0, 2))?.wait().map_err(|e| e.to_string())?;
        // The second is asked for at the second node.
        nodes.replicated(2..=2)?;
        let acknowledged = cut_off(binaries, folder, &network, (0, nodes.addresses[0]), AFTER_THOSE)?;
        let lost = nodes.unknown(1, acknowledged.iter().copied());
        network.heal(0)?;
        let lost = lost?;
        println!("  Kamailio, round {round}: {} acknowledged, {} lost", acknowledged.len(), lost.len());
        side.add(acknowledged.len(), lost.len());
    }
    Ok(side)
}

fn ours(binaries: &Binaries, folder: &Path, rounds: u32) -> Result<Side, String> {
    let pool = FrontEnds::start(binaries, &folder.join("cut"), Network::with_cables(), Shape::paired(GROUPS), None)?;
    pool.import(rounds * USERS + 1)?;
    pool.healthy()?;
    pool.steady()?;
    let mut side = Side::default();
    for round in 1..=rounds {
        let victim = round as usize % SERVERS;
        let survivor = (victim + 1) % SERVERS;
        let first = (round - 1) * USERS + 1;
        let acknowledged = cut_off(binaries, folder, &pool.network, (victim, pool.sip(victim)?), first)?;
        // The others choose who leads first.
        let there = pool.read(survivor, "/api/v1/users/{user}/registrations", round * USERS);
        pool.network.heal(victim)?;
        let there: BTreeSet<u32> =
            there?.iter().filter(|(.., body)| has_any(body)).map(|(user, ..)| number(user)).collect();
        let lost = acknowledged.iter().filter(|user| !there.contains(user)).count();
        println!("  Pairline, round {round}: {} acknowledged, {lost} lost", acknowledged.len());
        side.add(acknowledged.len(), lost);
        pool.healthy()?;
        pool.steady()?;
    }
    Ok(side)
}

fn has_any(body: &Value) -> bool {
    body["registrations"].as_array().is_some_and(|all| !all.is_empty())
}

fn number(user: &str) -> u32 {
    user.trim_start_matches('u').parse().unwrap_or(0)
}

/// Users register once each at a server whose cable is pulled meanwhile; those whose registration it had acknowledged.
fn cut_off(
    binaries: &Binaries,
    folder: &Path,
    network: &Network,
    (server, sip): (usize, SocketAddr),
    first: u32,
) -> Result<Vec<u32>, String> {
    let mut generator = register(binaries, folder, sip, (first - 1, USERS))?;
    std::thread::sleep(MID_FLOW);
    let cut = network.cut(server);
    generator.wait().map_err(|e| e.to_string())?;
    cut?;
    let path = folder.join("cut.journal");
    let text = std::fs::read_to_string(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let lines: Vec<Line> = journal::read(&text);
    let acknowledged: Vec<u32> = journal::bindings(&lines).keys().map(|user| number(user)).collect();
    let some = !acknowledged.is_empty() && acknowledged.len() < USERS as usize;
    if some {
        Ok(acknowledged)
    } else {
        Err(format!("{} of {USERS} were acknowledged: no cut in mid-flow", acknowledged.len()))
    }
}

/// Starts the generator for so many users after that one.
fn register(
    binaries: &Binaries,
    folder: &Path,
    server: SocketAddr,
    (after, users): (u32, u32),
) -> Result<std::process::Child, String> {
    let mut command = Command::new(&binaries.load);
    command.args(["register", "--once", "--digest", "--json", "--user-agent", "SIPp", "--timeout", "1"]);
    command.args(["--expires", "3600", "--rate", &RATE.to_string(), "--server", &server.to_string()]);
    command.args(["--first", &(after + 1).to_string(), "--users", &users.to_string(), "--journal"]);
    command.arg(folder.join("cut.journal")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().map_err(|e| format!("pairline-load: {e}"))
}

fn report(theirs: &Side, ours: &Side) -> Part {
    let mut text = String::from("## A host is cut off in mid-flow\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{RATE} users a second register, each once and with a digest, at one server, whose cable is pulled after about the half of {USERS}: to its \
         clients and to the other servers at once. While it is away a server that is left is asked for each user whose 200 has come. Kamailio: {}, two \
         nodes with `dmq` and `dmq_usrloc`, started anew for each round. Pairline: three Front Ends, each in turn, which ship to a partner of three.\n",
        kamailio::version()
    );
    text.push_str("| | rounds | acknowledged | of these lost | rounds with a loss | most in a round |\n|---|---|---|---|---|---|\n");
    text.push_str(&theirs.line("Kamailio, two nodes with dmq_usrloc"));
    text.push_str(&ours.line("Pairline, pool of three, paired"));
    let verdict = if ours.lost.iter().all(|lost| *lost == 0) { "met" } else { "missed" };
    let _ = writeln!(text, "\nTarget: nothing that Pairline acknowledged is lost. {verdict}.");
    (text, json!({"kamailio": theirs.json(), "pairline": ours.json()}))
}

#[cfg(test)]
mod tests {
    //! The report's arithmetic.

    use super::*;

    #[test]
    fn what_is_lost_is_counted_by_round() {
        let (mut theirs, mut ours) = (Side::default(), Side::default());
        [3, 0, 7].into_iter().for_each(|lost| theirs.add(1_000, lost));
        ours.add(900, 0);
        let (text, json) = report(&theirs, &ours);
        assert!(text.contains("| Kamailio, two nodes with dmq_usrloc | 3 | 3000 | 10 | 2 | 7 |"), "{text}");
        assert!(
            text.contains("| Pairline, pool of three, paired | 1 | 900 | 0 | 0 | 0 |") && text.contains("lost. met."),
            "{text}"
        );
        assert_eq!(json["kamailio"]["lost"], json!([3, 0, 7]));
        ours.add(900, 1);
        assert!(report(&theirs, &ours).0.contains("lost. missed."));
    }

    #[test]
    fn a_user_is_known_by_its_number_and_has_something_or_not() {
        assert_eq!((number("u00042"), number("x")), (42, 0));
        assert!(has_any(&json!({"registrations": [{}]})) && !has_any(&json!({"registrations": []})));
    }
}
