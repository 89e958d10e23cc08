//! Sixteen Front Ends in one pool: started, two lost at once, one back, both taken out, two others added.
//!
//! Owns the course and its part of the report. Every server is a process on an address of its own on loopback.

use super::super::Binaries;
use super::super::server::Server;
use super::register::Part;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The deployment's head and policies, up to its first server.
const TOPOLOGY: &str = include_str!("pool.toml");
/// Front Ends at first.
const SERVERS: u32 = 16;
/// Routing groups: eight a server.
const GROUPS: u32 = 128;
/// The two that die.
const LOST: [u32; 2] = [5, 11];
/// The two that come.
const NEW: [u32; 2] = [17, 18];
/// Users that are added at a time.
const USERS: u32 = 500;
/// Most that a server may lead more or fewer than its even share, in percent.
const UNEVEN: f64 = 20.0;
/// Longest time for one step.
const LIMIT: Duration = Duration::from_secs(300);

/// The servers, and what is asked of them.
struct Many {
    binaries: Binaries,
    folder: PathBuf,
    data: PathBuf,
    servers: BTreeMap<u32, Server>,
    added: u32,
}

/// What a step gave.
struct Step {
    name: &'static str,
    seconds: f64,
    /// Groups led by each server that is up.
    leads: Vec<u64>,
    /// Users that were added in it, and how many of these were refused.
    users: Option<(u32, u32)>,
    /// Groups that had lost two of their three copies.
    without: u64,
}

impl Step {
    /// How far the server that is furthest off leads more or fewer than its share, in percent.
    fn unevenness(&self) -> f64 {
        let count = |n: usize| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let exact = |n: u64| f64::from(u32::try_from(n).unwrap_or(u32::MAX));
        let share = self.leads.iter().map(|led| exact(*led)).sum::<f64>() / count(self.leads.len()).max(1.0);
        let off = self.leads.iter().map(|led| ((exact(*led) - share) / share * 100.0).abs());
        off.fold(0.0, f64::max)
    }
}

/// Measures and reports.
pub(crate) fn run(binaries: &Binaries, folder: &Path) -> Result<Part, String> {
    println!("many: {SERVERS} servers");
    let mut many = Many::create(binaries, &folder.join("many"))?;
    let mut steps = Vec::new();
    let began = Instant::now();
    (1..=SERVERS).try_for_each(|server| many.start(server))?;
    many.until("every group has a leader and its copies", |health| health["state"] == "healthy")?;
    steps.push(many.step("16 start, with what they had", began)?);
    let began = Instant::now();
    LOST.iter().for_each(|lost| many.kill(*lost));
    // With three copies of each group, a few have two of them on the two.
    many.until("every group with a majority has a leader", |health| is_led_but(health, without_majority(health)))?;
    let without = many.health().map(|health| without_majority(&health)).unwrap_or_default();
    let lost = many.step("two are lost at once (kill -9)", began)?;
    steps.push(Step { users: Some(many.users()?), without, ..lost });
    let [first, second] = LOST;
    let began = Instant::now();
    many.start(first)?;
    many.until("every group has a leader", |health| is_led_but(health, 0))?;
    let back = many.step("one of them is back", began)?;
    steps.push(Step { users: Some(many.users()?), ..back });
    let began = Instant::now();
    many.publish(|topology| take_out(topology, second))?;
    many.until("15 have all copies", |health| health["state"] == "healthy")?;
    many.kill(first);
    many.until("every group has a leader", |health| is_led_but(health, 0))?;
    many.publish(|topology| take_out(topology, first))?;
    many.until("14 have all copies", |health| health["state"] == "healthy")?;
    let out = many.step("the dead one is taken out, the other dies and is taken out", began)?;
    steps.push(Step { users: Some(many.users()?), ..out });
    let began = Instant::now();
    many.publish(|topology| NEW.iter().for_each(|new| topology.push_str(&server(*new))))?;
    for new in NEW {
        many.cli(&["server", "create", &name(new)])?;
        many.start(new)?;
    }
    many.until("two others have theirs", |health| {
        health["state"] == "healthy" && led(health).iter().all(|led| *led > 0)
    })?;
    many.even()?;
    let new = many.step("two others are added, and leaders are even again", began)?;
    steps.push(Step { users: Some(many.users()?), ..new });
    let memory: Vec<u64> = many.servers.values().map(|server| resident(server.pid())).collect();
    Ok(report(&steps, &memory))
}

fn name(number: u32) -> String {
    format!("fe{number}.east.pairline.test")
}

/// A server's place in the document.
fn server(number: u32) -> String {
    let (name, ip) = (name(number), format!("127.0.76.{number}"));
    let listener = |transport| {
        format!(
            "\n[[server.listener]]\naddress = \"{ip}:5060\"\nadvertise = \"name\"\nid = \"{transport}\"\ntransport = \"{transport}\"\n"
        )
    };
    format!(
        "\n[[server]]\nadmin = \"{ip}:7443\"\nid = {number}\nlink = \"{ip}:7444\"\nname = \"{name}\"\npool = \"east\"\n{}{}",
        listener("udp"),
        listener("tcp")
    )
}

fn take_out(topology: &mut String, number: u32) {
    let name = format!("name = \"{}\"", name(number));
    let parts: Vec<&str> = topology.split("[[server]]").filter(|part| !part.contains(&name)).collect();
    *topology = parts.join("[[server]]");
}

/// Groups led by each server that is up.
fn led(health: &Value) -> Vec<u64> {
    let servers = health["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
    servers.iter().filter(|server| server["up"] == true).filter_map(|server| server["leads"].as_u64()).collect()
}

/// Whether all groups are led but so many.
fn is_led_but(health: &Value, without: u64) -> bool {
    led(health).iter().sum::<u64>() + without == u64::from(GROUPS) + 1
}

/// Groups of which too few copies are up.
fn without_majority(health: &Value) -> u64 {
    let troubled = health["troubled"].as_array().map(Vec::as_slice).unwrap_or_default();
    let without = troubled.iter().filter(|group| group["state"] == "no-majority").count();
    u64::try_from(without).unwrap_or(u64::MAX)
}

/// Kilobytes of memory of a process.
fn resident(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0)
}

impl Many {
    fn create(binaries: &Binaries, folder: &Path) -> Result<Many, String> {
        let _ = fs::remove_dir_all(folder);
        fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let (head, rest) = TOPOLOGY.split_once("[[server]]").ok_or("the deployment has no server")?;
        let site = rest.rfind("[[site]]").and_then(|at| rest.get(at..)).unwrap_or_default();
        let servers: String = (1..=SERVERS).map(server).collect();
        let text = format!("{}{site}{servers}", head.replace("GROUPS", &GROUPS.to_string()));
        let topology = folder.join("topology.toml");
        fs::write(&topology, text).map_err(|e| format!("{}: {e}", topology.display()))?;
        let data = folder.join("data");
        let many =
            Many { binaries: binaries.clone(), folder: folder.to_owned(), data, servers: BTreeMap::new(), added: 0 };
        let up = ["--data", &many.data.to_string_lossy(), "up", "--topology", &topology.to_string_lossy()];
        let log = many.folder.join("up.log");
        let creating = Server::start_anywhere(&many.binaries.pairline, &up.map(str::to_owned), &log)?;
        many.until("a new pool of 16 is healthy", |health| health["state"] == "healthy")
            .map_err(|error| format!("{error}\n{}", fs::read_to_string(&log).unwrap_or_default()))?;
        drop(creating);
        Ok(many)
    }

    fn start(&mut self, number: u32) -> Result<(), String> {
        let config = self.data.join("servers").join(name(number)).join("server.toml");
        let args = ["server", "--config", &config.to_string_lossy(), "--log", "json"].map(str::to_owned);
        let log = self.folder.join(format!("fe{number}.log"));
        self.servers.insert(number, Server::start_anywhere(&self.binaries.pairline, &args, &log)?);
        Ok(())
    }

    fn kill(&mut self, number: u32) {
        if let Some(mut server) = self.servers.remove(&number) {
            server.kill_at_once();
        }
    }

    /// Runs a command; its output, and whether it says that all is well.
    fn ask(&self, args: &[&str]) -> Result<(String, bool), String> {
        let mut command = Command::new(&self.binaries.pairline);
        command.arg("--data").arg(&self.data).args(args).stdin(Stdio::null());
        let output = command.output().map_err(|e| e.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let text = if text.is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { text };
        Ok((text, output.status.success()))
    }

    fn cli(&self, args: &[&str]) -> Result<String, String> {
        match self.ask(args)? {
            (text, true) => Ok(text),
            (text, false) => Err(format!("pairline {}: {text}", args.join(" "))),
        }
    }

    /// The pool's health; nothing while no server answers.
    fn health(&self) -> Option<Value> {
        let (text, _) = self.ask(&["--json", "pool", "health", "east"]).ok()?;
        let all: Value = serde_json::from_str(&text).ok()?;
        let found = [&all["pools"][0], &all["health"]["pools"][0], &all["Health"]["pools"][0]];
        found.into_iter().find(|pool| pool.is_object()).cloned()
    }

    fn until(&self, what: &str, so: impl Fn(&Value) -> bool) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let seen = self.health();
            if seen.as_ref().is_some_and(&so) {
                return Ok(());
            }
            if began.elapsed() > LIMIT {
                return Err(format!("not within {} s: {what}; last seen {seen:?}", LIMIT.as_secs()));
            }
            std::thread::sleep(Duration::from_millis(250));
        }
    }

    /// Waits until leaders are even, or do not get any more even for half a minute.
    fn even(&self) -> Result<(), String> {
        let (mut best, mut since) = (f64::MAX, Instant::now());
        loop {
            let leads = self.health().map(|health| led(&health)).unwrap_or_default();
            let now = Step { name: "", seconds: 0.0, leads, users: None, without: 0 }.unevenness();
            if now < best {
                (best, since) = (now, Instant::now());
            }
            if best <= UNEVEN || since.elapsed() > Duration::from_secs(30) {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
    }

    fn step(&self, name: &'static str, began: Instant) -> Result<Step, String> {
        let leads = self.health().map(|health| led(&health)).ok_or("no server answers")?;
        let seconds = began.elapsed().as_secs_f64();
        println!("  {name}: {seconds:.1} s; leads {leads:?}");
        Ok(Step { name, seconds, leads, users: None, without: 0 })
    }

    /// Adds users, each a record in the management store and one in its own group; how many, and how many were refused.
    fn users(&mut self) -> Result<(u32, u32), String> {
        let mut csv = String::from("user,password,pool\n");
        for number in self.added + 1..=self.added + USERS {
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "u{number:05},u{number:05},east");
        }
        self.added += USERS;
        let path = self.folder.join("users.csv");
        fs::write(&path, csv).map_err(|e| format!("{}: {e}", path.display()))?;
        let (text, _) = self.ask(&["user", "import", &path.to_string_lossy()])?;
        let sum =
            text.lines().find(|line| line.contains(" added, ")).ok_or_else(|| format!("the import says: {text}"))?;
        println!("  {sum}");
        let refused =
            sum.split(", ").find_map(|part| part.split_once(" refused")).and_then(|(count, _)| count.parse().ok());
        let refused = refused.ok_or_else(|| format!("the import says: {sum}"))?;
        Ok((USERS, refused))
    }

    /// Publishes the present document, changed.
    fn publish(&self, change: impl FnOnce(&mut String)) -> Result<(), String> {
        let mut text = self.cli(&["topology", "show"])?;
        change(&mut text);
        let path = self.folder.join("next.toml");
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        self.cli(&["topology", "publish", &path.to_string_lossy()]).map(drop)
    }
}

fn report(steps: &[Step], memory: &[u64]) -> Part {
    let mut text = format!("## {SERVERS} Front Ends in one pool\n\n");
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "{SERVERS} processes on loopback, {GROUPS} routing groups and the management store, three copies of each group; after each step \
         {USERS} users are added, whose records reach every group. *s*: until the step's end is seen; two lost: every group led that has two of its three copies; \
         one back: every group led; the others: every group has its three copies where they should be. A group that had two copies on the two that are lost \
         at once cannot be changed until one is back: users in it are refused with the reason.\n"
    );
    text.push_str("| | s | servers up | groups led by each, least to most | furthest from even | groups without a majority | users added | refused |\n|---|---|---|---|---|---|---|---|\n");
    for step in steps {
        let (least, most) = (step.leads.iter().min().copied(), step.leads.iter().max().copied());
        let users = step.users.map_or(("-".to_owned(), "-".to_owned()), |(all, no)| (all.to_string(), no.to_string()));
        let _ = writeln!(
            text,
            "| {} | {:.1} | {} | {} to {} | {:.0} % | {} | {} | {} |",
            step.name,
            step.seconds,
            step.leads.len(),
            least.unwrap_or_default(),
            most.unwrap_or_default(),
            step.unevenness(),
            step.without,
            users.0,
            users.1
        );
    }
    let most = memory.iter().max().copied().unwrap_or_default() / 1024;
    let whole = steps.iter().filter(|step| step.without == 0);
    let refused: u32 = whole.filter_map(|step| step.users).map(|(_, refused)| refused).sum();
    let even = steps.last().is_some_and(|step| step.unevenness() <= UNEVEN);
    let verdict = if even && refused == 0 && steps.len() == 5 { "met" } else { "missed" };
    let _ = writeln!(
        text,
        "\nMemory: at most {most} MiB a process. Targets: no user refused but where a group has no majority, leaders within ±{UNEVEN:.0} % of even at the end. {verdict}."
    );
    let json = json!({
        "servers": SERVERS, "groups": GROUPS, "resident_kib": memory,
        "steps": steps.iter().map(|s| json!({"step": s.name, "seconds": s.seconds, "leads": s.leads, "users": s.users, "without_majority": s.without})).collect::<Vec<_>>(),
    });
    (text, json)
}

#[cfg(test)]
mod tests {
    //! The document, and the verdict.

    use super::*;

    #[test]
    fn a_server_is_taken_out_of_the_document_whole() {
        let mut text: String = format!("head\n{}{}{}", server(4), server(5), server(6));
        take_out(&mut text, 5);
        assert_eq!(text, format!("head\n{}{}", server(4), server(6)));
    }

    #[test]
    fn leaders_must_be_even_at_the_end_and_nobody_refused() {
        let step = |leads: &[u64], refused| Step {
            name: "x",
            seconds: 1.0,
            leads: leads.to_vec(),
            without: 0,
            users: Some((500, refused)),
        };
        let verdict = |last: &[u64], refused| {
            let all = [step(&[8, 8], 0), step(&[9, 1], 0), step(&[8, 8], 0), step(&[8, 8], refused), step(last, 0)];
            report(&all, &[1024]).0.contains("at the end. met.")
        };
        assert!(verdict(&[8, 9, 7], 0));
        assert!(!verdict(&[8, 12, 4], 0) && !verdict(&[8, 8, 8], 1));
    }
}
