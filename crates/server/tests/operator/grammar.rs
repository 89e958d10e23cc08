//! Every command that a person is told to type exists: in the documentation, in remedies, in the greeting.

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser};
use pairline_server::cli::args::Cli;
use pairline_server::up::greeting::Greeting;
use pairline_server::up::layout::Layout;
use pairline_server::up::users::DemoUser;
use pairline_topology::demo_topology;
use std::path::{Path, PathBuf};

fn workspace() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Every file of these endings below a folder of the workspace, generated ones excepted.
fn files(below: &str, ending: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, ending: &str, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            match entry.is_dir() {
                true if !entry.ends_with("target") => walk(&entry, ending, found),
                false if entry.extension().is_some_and(|e| e == ending) => found.push(entry),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(&workspace().join(below), ending, &mut found);
    found.sort();
    found.into_iter().map(|path| (path.clone(), std::fs::read_to_string(&path).expect("text"))).collect()
}

/// The words of a line as a shell splits them, up to a comment, a redirection or another command.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(q), c) if c == q => quote = None,
            (None, '"' | '\'') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#' | '<' | '|' | '&' | ';') if word.is_none() => break,
            (None, c) if c.is_whitespace() => words.extend(word.take()),
            (_, c) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words
}

/// The words with examples in the place of placeholders: `{}` of a format string, `ADDRESS` and the like.
fn filled(words: Vec<String>) -> Vec<String> {
    let example = |word: String| match word.as_str() {
        "ADDRESS" => "192.0.2.1".to_owned(),
        "N" => "20".to_owned(),
        _ => match (word.find('{'), word.find('}')) {
            (Some(from), Some(to)) if from < to => format!("{}x{}", &word[..from], &word[to + 1..]),
            _ => word,
        },
    };
    words.into_iter().filter(|word| word != "…").map(example).collect()
}

/// What is wrong with a command line, if anything. A mention may leave out what must follow (`pairline pool failover`).
pub fn fault(line: &str, mention: bool) -> Option<String> {
    let error = Cli::try_parse_from(filled(words(line))).err()?;
    let help = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    let short = matches!(
        error.kind(),
        ErrorKind::MissingRequiredArgument
            | ErrorKind::MissingSubcommand
            | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    let fine = help || (mention && short);
    (!fine).then(|| format!("`{line}`: {error}"))
}

/// Texts between backticks on one line that begin with the program's name.
fn in_backticks(text: &str) -> Vec<String> {
    let parts = text.lines().flat_map(|line| line.split('`').skip(1).step_by(2));
    parts.filter(|part| *part == "pairline" || part.starts_with("pairline ")).map(str::to_owned).collect()
}

#[test]
fn a_wrong_command_would_be_found() {
    assert_eq!(fault("pairline pool failback east --dry-run   # looks only", false), None);
    assert_eq!(fault("pairline pool failover", true), None);
    for (line, mention) in [
        ("pairline pool failover", false),
        ("pairline pool verify east --force", true),
        ("pairline management recover", true),
        ("pairline pool status --wait quiet", true),
    ] {
        assert!(fault(line, mention).is_some(), "{line}");
    }
    assert_eq!(in_backticks("see `pairline pool status` and `x`, not pairline `y`"), ["pairline pool status"]);
}

#[test]
fn commands_of_the_documentation_exist() {
    let mut texts = files("docs", "md");
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md"] {
        let path = workspace().join(name);
        texts.push((path.clone(), std::fs::read_to_string(path).expect("text")));
    }
    let mut seen = 0;
    let mut faults = Vec::new();
    for (path, text) in texts {
        let typed = text.lines().filter_map(|line| {
            let line = line.trim_start();
            let line =
                line.strip_prefix("cargo run --release -- ").map_or(line.to_owned(), |rest| format!("pairline {rest}"));
            line.starts_with("pairline ").then_some(line)
        });
        // Prose that begins a line with the name is no command: those stand alone, in a block.
        let blocks: Vec<String> = typed.filter(|line| is_known(line)).collect();
        let found = blocks.iter().map(|line| fault(line, false));
        let mentioned = in_backticks(&text);
        seen += blocks.len() + mentioned.len();
        faults.extend(found.chain(mentioned.iter().map(|line| fault(line, true))).flatten().map(|f| (path.clone(), f)));
    }
    assert!(seen >= 60, "only {seen} commands were found");
    assert!(faults.is_empty(), "{faults:#?}");
}

fn is_known(line: &str) -> bool {
    let second = words(line).get(1).cloned().unwrap_or_default();
    Cli::command().get_subcommands().any(|command| command.get_name() == second)
}

#[test]
fn commands_of_remedies_and_comments_exist() {
    let mut seen = 0;
    let mut faults = Vec::new();
    for (path, text) in files("crates", "rs").into_iter().filter(|(path, _)| !path.ends_with("operator/grammar.rs")) {
        for line in in_backticks(&text) {
            seen += 1;
            faults.extend(fault(&line, true).map(|fault| (path.clone(), fault)));
        }
    }
    assert!(seen >= 30, "only {seen} commands were found");
    assert!(faults.is_empty(), "{faults:#?}");
}

/// Remedies of the procedures' rules stand without backticks: the words after the name must at least be a command's.
#[test]
fn commands_that_are_named_in_passing_exist() {
    let cli = Cli::command();
    let mut seen = 0;
    let mut faults = Vec::new();
    let sources =
        files("crates", "rs").into_iter().filter(|(path, _)| path.components().any(|c| c.as_os_str() == "src"));
    for (path, text) in sources {
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        for rest in code.flat_map(|line| line.split("pairline ").skip(1)) {
            let letter = |c: &char| c.is_ascii_lowercase() || matches!(c, '-' | '|');
            let word = |text: &str| text.chars().take_while(letter).collect::<String>();
            let mut named = rest.split(' ').map(word);
            let Some(command) = named.next().and_then(|first| cli.find_subcommand(first)) else { continue };
            let second = named.next().unwrap_or_default();
            if !command.has_subcommands() || second.is_empty() || second.starts_with('-') {
                continue;
            }
            seen += 1;
            let whole = format!("{} {second}", command.get_name());
            let known = second.split('|').all(|one| command.find_subcommand(one).is_some());
            if !known {
                faults.push((path.clone(), whole));
            }
        }
    }
    assert!(seen >= 15, "only {seen} commands were found");
    assert!(faults.is_empty(), "{faults:#?}");
}

fn user(name: &str, pool: &str) -> DemoUser {
    DemoUser { name: name.into(), pool: pool.into(), password: format!("secret-of-{name}") }
}

#[test]
fn the_greeting_names_commands_that_exist_as_they_can_be_typed() {
    let topology = demo_topology();
    for (root, program) in [("/srv/pairline-data", "target/release/pairline"), ("/srv/my data", "./pairline")] {
        let layout = Layout::new(Path::new(root));
        let users = [user("alice", "east"), user("bob", "east")];
        let greeting = Greeting {
            program: program.to_owned(),
            layout: &layout,
            topology: &topology,
            users: &users,
            missing: &[],
            processes: &[],
            listen: None,
        };
        let text = greeting.text();
        let lines: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix(program)).collect();
        assert!(lines.len() >= 7, "{text}");
        for line in lines {
            assert_eq!(fault(&format!("pairline{line}"), false), None, "{text}");
        }
        assert!(!text.contains("--force"), "a planned failover needs no force");
        assert!(!text.contains("  pairline "), "the bare name is not on the PATH: {text}");
    }
}

#[test]
fn the_greeting_shows_no_password_of_a_user_that_is_not_there() {
    let topology = demo_topology();
    let layout = Layout::new(Path::new("/srv/pairline-data"));
    let users = [user("alice", "east"), user("carol", "west")];
    let missing = [("carol".to_owned(), "its pool stayed busy or away".to_owned())];
    let greeting = Greeting {
        program: "pairline".to_owned(),
        layout: &layout,
        topology: &topology,
        users: &users,
        missing: &missing,
        processes: &[],
        listen: None,
    };
    let text = greeting.text();
    assert!(text.contains("secret-of-alice") && !text.contains("secret-of-carol"), "{text}");
    assert!(text.contains("NOT added: carol: its pool stayed busy or away"), "{text}");
}
