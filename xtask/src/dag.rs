//! The dependency graph against `docs/dag.toml`.
//!
//! Owns the comparison: internal edges must be exactly the listed ones; pure crates may use the listed external crates and no
//! others; some crates must never reach certain others, even through third parties' crates.

use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

/// Crates without I/O, clock, randomness or threads.
pub(crate) const PURE: [&str; 6] = ["group", "node", "resilience", "services", "sip", "topology"];

/// `docs/dag.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Dag {
    rooms: BTreeMap<String, Room>,
}

/// One crate's edges.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Room {
    /// Crates of the workspace that it uses, exactly.
    uses: BTreeSet<String>,
    /// External crates that it may use; absent means any.
    external: Option<BTreeSet<String>>,
    /// External crates that its tests may use besides; absent means any.
    tests: Option<BTreeSet<String>>,
    /// External crates that must not be reachable from it by any way.
    #[serde(default)]
    never: BTreeSet<String>,
}

/// What `cargo metadata` says of one workspace crate.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Real {
    /// Direct normal and build dependencies.
    pub normal: BTreeSet<String>,
    /// Direct development dependencies.
    pub dev: BTreeSet<String>,
    /// Everything reachable over normal and build dependencies.
    pub reach: BTreeSet<String>,
}

/// All differences between the file and the workspace.
pub(crate) fn check(root: &Path) -> Vec<String> {
    let path = root.join("docs/dag.toml");
    let listed = std::fs::read_to_string(&path).map_err(|e| e.to_string()).and_then(|text| parse(&text));
    match (listed, metadata(root)) {
        (Ok(dag), Ok(real)) => compare(&dag, &real),
        (Err(error), _) => vec![format!("docs/dag.toml: {error}")],
        (_, Err(error)) => vec![format!("cargo metadata: {error}")],
    }
}

/// Parses the file.
///
/// # Errors
/// The parser's message.
pub(crate) fn parse(text: &str) -> Result<Dag, String> {
    toml::from_str(text).map_err(|e| e.to_string())
}

fn metadata(root: &Path) -> Result<BTreeMap<String, Real>, String> {
    // Crates of other platforms were never downloaded here.
    let compiler = run(root, "RUSTC", "rustc", &["-vV"])?;
    let host = compiler.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("the compiler names no host")?;
    let args = ["metadata", "--format-version", "1", "--all-features", "--offline", "--filter-platform", host];
    let value = serde_json::from_str(&run(root, "CARGO", "cargo", &args)?).map_err(|e| e.to_string())?;
    read(&value).ok_or_else(|| "unexpected shape".to_owned())
}

/// What a program says that the environment may name.
fn run(root: &Path, variable: &str, program: &str, args: &[&str]) -> Result<String, String> {
    let program = std::env::var(variable).unwrap_or_else(|_| program.to_owned());
    let output = Command::new(program).args(args).current_dir(root).output().map_err(|e| e.to_string())?;
    if output.status.success() {
        String::from_utf8(output.stdout).map_err(|e| e.to_string())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// Reads the workspace's crates out of cargo's document; names are without the `pairline-` prefix.
fn read(value: &Value) -> Option<BTreeMap<String, Real>> {
    let mut names = BTreeMap::new();
    for package in value.get("packages")?.as_array()? {
        names.insert(package.get("id")?.as_str()?, short(package.get("name")?.as_str()?));
    }
    let mut normal: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    let mut dev: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for node in value.get("resolve")?.get("nodes")?.as_array()? {
        let id = node.get("id")?.as_str()?;
        for dependency in node.get("deps")?.as_array()? {
            let target = dependency.get("pkg")?.as_str()?;
            for kind in dependency.get("dep_kinds")?.as_array()? {
                let side = if kind.get("kind")?.as_str() == Some("dev") { &mut dev } else { &mut normal };
                side.entry(id).or_default().insert(target);
            }
        }
    }
    let mut crates = BTreeMap::new();
    for member in value.get("workspace_members")?.as_array()? {
        let id = member.as_str()?;
        let named = |ids: Option<&BTreeSet<&str>>| -> BTreeSet<String> {
            ids.into_iter().flatten().filter_map(|id| names.get(id)).map(|n| (*n).to_owned()).collect()
        };
        let reach = reachable(id, &normal).iter().filter_map(|id| names.get(id)).map(|n| (*n).to_owned()).collect();
        let real = Real { normal: named(normal.get(id)), dev: named(dev.get(id)), reach };
        crates.insert((*names.get(id)?).to_owned(), real);
    }
    Some(crates)
}

fn short(name: &str) -> &str {
    name.strip_prefix("pairline-").unwrap_or(name)
}

fn reachable<'a>(from: &'a str, edges: &BTreeMap<&'a str, BTreeSet<&'a str>>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open = vec![from];
    while let Some(id) = open.pop() {
        for target in edges.get(id).into_iter().flatten() {
            if seen.insert(*target) {
                open.push(target);
            }
        }
    }
    seen
}

/// Differences, each with its remedy.
pub(crate) fn compare(dag: &Dag, real: &BTreeMap<String, Real>) -> Vec<String> {
    let mut findings = Vec::new();
    for name in dag.rooms.keys().filter(|name| !real.contains_key(*name)) {
        findings.push(format!("docs/dag.toml: [rooms.{name}] is no crate of the workspace"));
    }
    for name in PURE.iter().filter(|name| dag.rooms.get(**name).is_some_and(|room| room.external.is_none())) {
        findings.push(format!("docs/dag.toml: [rooms.{name}] is pure: list its external crates"));
    }
    for (name, found) in real {
        match dag.rooms.get(name) {
            Some(room) => findings.extend(room_findings(name, room, found, real)),
            None => findings.push(format!("docs/dag.toml: [rooms.{name}] is missing")),
        }
    }
    findings
}

fn room_findings(name: &str, room: &Room, found: &Real, real: &BTreeMap<String, Real>) -> Vec<String> {
    let internal = |set: &BTreeSet<String>| -> BTreeSet<String> {
        set.iter().filter(|n| real.contains_key(*n)).cloned().collect()
    };
    let mut findings = Vec::new();
    let edges = internal(&found.normal);
    for new in edges.difference(&room.uses) {
        findings.push(format!("{name} → {new}: an edge that docs/dag.toml does not know"));
    }
    for gone in room.uses.difference(&edges) {
        findings.push(format!("{name} → {gone}: in docs/dag.toml and not in the crate: remove it"));
    }
    for new in internal(&found.dev).difference(&room.uses).filter(|n| *n != name) {
        if !room.tests.as_ref().is_some_and(|tests| tests.contains(new)) {
            findings.push(format!("{name} → {new} (tests): an edge that docs/dag.toml does not know"));
        }
    }
    if let Some(allowed) = &room.external {
        let foreign = found.normal.difference(&edges).filter(|n| !allowed.contains(*n));
        findings.extend(foreign.map(|n| format!("{name} → {n}: not among its external crates in docs/dag.toml")));
    }
    if let (Some(allowed), Some(tests)) = (&room.external, &room.tests) {
        let foreign =
            found.dev.iter().filter(|n| !real.contains_key(*n) && !allowed.contains(*n) && !tests.contains(*n));
        findings.extend(foreign.map(|n| format!("{name} → {n} (tests): not allowed by docs/dag.toml")));
    }
    let reached = room.never.intersection(&found.reach);
    findings.extend(reached.map(|n| format!("{name} reaches {n}, which it must never contain")));
    findings
}

#[cfg(test)]
mod tests {
    //! The comparison itself, and the real workspace held against the real file.

    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|n| (*n).to_owned()).collect()
    }

    fn real(normal: &[&str], dev: &[&str], reach: &[&str]) -> Real {
        Real { normal: set(normal), dev: set(dev), reach: set(reach) }
    }

    const LISTED: &str = "[rooms.sip]\nuses = []\nexternal = [\"bytes\"]\ntests = [\"proptest\"]\nnever = [\"tokio\"]\n\
                          [rooms.node]\nuses = [\"sip\"]\nexternal = []\n";

    #[test]
    fn equal_graphs_have_no_findings() {
        let dag = parse(LISTED).unwrap();
        let real = [
            ("sip".to_owned(), real(&["bytes"], &["proptest"], &["bytes"])),
            ("node".to_owned(), real(&["sip"], &[], &["sip"])),
        ];
        assert_eq!(compare(&dag, &real.into()), Vec::<String>::new());
    }

    #[test]
    fn each_difference_is_found() {
        let dag = parse(LISTED).unwrap();
        let sip = real(&["bytes", "libc", "node"], &["insta"], &["bytes", "libc", "tokio"]);
        let graph =
            [("sip".to_owned(), sip), ("node".to_owned(), real(&[], &[], &[])), ("new".to_owned(), Real::default())];
        let found = compare(&dag, &graph.into()).join("\n");
        for part in [
            "sip → node",
            "sip → libc",
            "sip → insta (tests)",
            "sip reaches tokio",
            "node → sip: in docs",
            "[rooms.new] is missing",
        ] {
            assert!(found.contains(part), "{part} in\n{found}");
        }
    }

    #[test]
    fn the_workspace_is_as_listed() {
        assert_eq!(check(&crate::root()), Vec::<String>::new());
    }
}
