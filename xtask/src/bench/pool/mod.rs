//! A pool of several Front Ends: what a registration costs, what a server's death costs, what a restart of them all costs, how long a
//! server with an empty disk needs, what silence costs, and how sixteen of them come and go.
//!
//! Owns the options, the choice of parts, and the report's frame. Each part has a module that measures it and says what it found.

mod cut;
mod dmq;
mod faults;
mod faults_report;
mod front_ends;
mod idle;
mod journal;
mod many;
mod network;
mod register;
mod rejoin;
mod rolling;
mod traffic;

use super::{Binaries, machine, today, write_report};
use register::Part;
use serde_json::{Map, Value, json};
use std::path::Path;

/// The parts, in the order of the report.
const PARTS: [&str; 7] = ["register", "cut", "faults", "rolling", "rejoin", "idle", "many"];

/// Options.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Options {
    /// The only part; all, if absent.
    pub part: Option<&'static str>,
    /// Registered users.
    pub users: u32,
    /// Seconds of each measurement of registrations.
    pub seconds: u32,
    /// How often each of them is made.
    pub repeats: u32,
    /// Rounds of each fault.
    pub rounds: u32,
    /// Part of the wanted load, in percent.
    pub load_percent: u32,
    /// Core of the servers while registrations are measured.
    pub server_core: u32,
    /// Core of the generator then.
    pub load_core: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            part: None,
            users: 20_000,
            seconds: 5,
            repeats: 5,
            rounds: 20,
            load_percent: 100,
            server_core: 0,
            load_core: 1,
        }
    }
}

impl Options {
    /// As the command line says.
    pub(crate) fn read(args: &[&str]) -> Result<Self, String> {
        let mut options = Self::default();
        let mut rest = args.to_vec();
        if let Some(at) = rest.iter().position(|arg| *arg == "--part") {
            let name = rest.get(at + 1).copied().unwrap_or_default();
            let known = PARTS.into_iter().find(|part| *part == name);
            options.part = Some(known.ok_or_else(|| format!("--part needs one of {}", PARTS.join(", ")))?);
            rest.drain(at..at + 2);
        }
        let Self { users, seconds, repeats, rounds, load_percent, server_core, load_core, .. } = &mut options;
        let known = &mut [
            ("--users", users),
            ("--seconds", seconds),
            ("--repeats", repeats),
            ("--rounds", rounds),
            ("--load-percent", load_percent),
            ("--server-core", server_core),
            ("--load-core", load_core),
        ];
        super::numbers(&rest, known)?;
        if !(100..=99_999).contains(&options.users) || options.seconds == 0 || options.repeats == 0 {
            return Err("100 to 99999 users, at least one second, one repeat".to_owned());
        }
        if options.rounds == 0 || !(1..=1000).contains(&options.load_percent) {
            return Err("at least one round, and 1 to 1000 percent of the load".to_owned());
        }
        Ok(options)
    }

    /// Those of the side-by-side measurements.
    fn load(&self) -> super::Options {
        let Self { users, seconds, repeats, server_core, load_core, .. } = *self;
        super::Options { users, seconds, repeats, server_core, load_core }
    }
}

/// Measures the parts that are wanted and writes the report.
pub(crate) fn run(root: &Path, binaries: &Binaries, folder: &Path, options: &Options) -> Result<(), String> {
    let before = load_average();
    let mut parts: Vec<(&str, Part)> = Vec::new();
    for name in PARTS.into_iter().filter(|name| options.part.is_none_or(|only| only == *name)) {
        let part = match name {
            "register" => register::run(binaries, folder, options)?,
            "cut" => cut::run(binaries, folder, options)?,
            "faults" => faults::run(binaries, folder, options)?,
            "rolling" => rolling::run(binaries, folder, options)?,
            "rejoin" => rejoin::run(binaries, folder, options)?,
            "many" => many::run(binaries, folder)?,
            _ => idle::run(binaries, folder)?,
        };
        parts.push((name, part));
    }
    let (text, json) = report(options, &before, &parts, &earlier(root));
    write_report(root, "pool.md", &text)?;
    let pretty = serde_json::to_string_pretty(&json).unwrap_or_default() + "\n";
    std::fs::write(root.join("docs/results/pool.json"), pretty).map_err(|e| format!("pool.json: {e}"))?;
    let missed = parts.iter().filter(|(_, (text, _))| text.contains("missed"));
    let missed: Vec<&str> = missed.map(|(name, _)| *name).collect();
    if missed.is_empty() { Ok(()) } else { Err(format!("a target is missed: {}", missed.join(", "))) }
}

/// The load of the machine before the first measurement, as it says itself.
fn load_average() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = text.split(' ').next().unwrap_or("unknown");
    // A benchmark that is about to begin uses nothing itself.
    let busy = load.parse().is_ok_and(|load: f64| load > 1.0);
    format!("{load}{}", if busy { " (it was busy with other work: not figures to compare)" } else { "" })
}

/// The parts of the last report, which stay where only one is measured anew.
fn earlier(root: &Path) -> Map<String, Value> {
    let text = std::fs::read_to_string(root.join("docs/results/pool.json")).unwrap_or_default();
    match serde_json::from_str::<Value>(&text) {
        Ok(Value::Object(mut all)) => match all.remove("parts") {
            Some(Value::Object(parts)) => parts,
            _ => Map::new(),
        },
        _ => Map::new(),
    }
}

/// Each part says when and how it was made, so that one of another day is known as such.
fn report(options: &Options, before: &str, parts: &[(&str, Part)], earlier: &Map<String, Value>) -> (String, Value) {
    let conditions = format!(
        "Made by `cargo xtask bench pool{} --users {} --seconds {} --repeats {} --rounds {} --load-percent {}` on {}, {}; load average of the \
         machine before it: {before}.",
        options.part.map(|part| format!(" --part {part}")).unwrap_or_default(),
        options.users,
        options.seconds,
        options.repeats,
        options.rounds,
        options.load_percent,
        today(),
        machine()
    );
    let mut all = Map::new();
    for name in PARTS {
        if let Some((_, (text, json))) = parts.iter().find(|(part, _)| *part == name) {
            all.insert(name.to_owned(), json!({"conditions": conditions, "text": text, "figures": json}));
        } else if let Some(part) = earlier.get(name) {
            all.insert(name.to_owned(), part.clone());
        }
    }
    let mut text = String::from("# A pool of three Front Ends\n");
    for part in PARTS.iter().filter_map(|name| all.get(*name)) {
        let said = part["text"].as_str().unwrap_or_default();
        let conditions = part["conditions"].as_str().unwrap_or_default();
        text = format!("{text}\n{}\n\n{conditions}\n", said.trim_end());
    }
    (text, json!({"v": 1, "parts": all}))
}

#[cfg(test)]
mod tests {
    //! Options, and parts of several days in one report.

    use super::*;

    #[test]
    fn one_part_can_be_chosen() {
        let options = Options::read(&["--users", "300", "--part", "idle", "--rounds", "2"]).unwrap();
        assert_eq!((options.part, options.users, options.rounds), (Some("idle"), 300, 2));
        assert!(Options::read(&["--part", "all"]).is_err() && Options::read(&["--part"]).is_err());
        assert!(Options::read(&["--load-percent", "0"]).is_err() && Options::read(&["--rounds", "0"]).is_err());
    }

    #[test]
    fn a_part_that_is_not_measured_stays_as_it_was() {
        let part = |text: &str| (format!("## {text}\n"), json!(1));
        let (text, json) = report(&Options::default(), "0.1", &[("idle", part("quiet"))], &Map::new());
        assert!(text.contains("## quiet\n\nMade by `cargo xtask bench pool --users 20000"), "{text}");
        let Value::Object(earlier) = json["parts"].clone() else { panic!("{json}") };
        let (text, _) = report(&Options::default(), "7.5", &[("register", part("cost"))], &earlier);
        let places = ["## cost", "before it: 7.5", "## quiet", "before it: 0.1"].map(|part| text.find(part));
        assert!(places.is_sorted() && places[0].is_some(), "{text}");
    }
}
