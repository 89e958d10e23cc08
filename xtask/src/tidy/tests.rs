//! The rules' own tests: each rule finds its fault and lets the cure pass.

use super::files::{Source, Text};
use super::ratchet::Ratchet;
use super::{architecture, functions, lexer, rules, words};
use std::collections::BTreeSet;

fn findings(path: &str, content: &str) -> Vec<String> {
    let text = Text { path: path.to_owned(), content: content.to_owned() };
    rules::check(&Source::new(&text))
}

#[test]
fn comments_and_literals_are_not_code() {
    let source = "let a = \"x.unwrap() // no\"; // .unwrap()\n/* todo!( /* nested */ */ let b = r#\"dbg!(\"#; let c = '\"'; let d: &'static str;";
    let split = lexer::split(source);
    assert!(!split.code.contains("unwrap") && !split.code.contains("todo") && !split.code.contains("dbg"));
    assert!(split.code.contains("let b") && split.code.contains("&'static str"));
    assert!(split.comments.contains("// .unwrap()") && split.comments.contains("nested"));
    assert_eq!(split.code.lines().count(), source.lines().count());
}

#[test]
fn functions_are_measured_from_fn_to_closing_brace() {
    let code = lexer::split("trait T { fn no_body(&self); }\nfn one() {}\nfn three<T>(a: [u8; 3]) -> T\nwhere T: Copy {\n    if x { y } else { \"}\" }\n}\n").code;
    let found: Vec<_> = functions::find(&code).into_iter().map(|f| (f.name, f.lines)).collect();
    assert_eq!(found, [("one".to_owned(), 1), ("three".to_owned(), 4)]);
}

#[test]
fn unwrap_is_for_tests() {
    let module = "//! m\nfn f() { g().unwrap(); }\n#[cfg(test)]\nmod tests { fn t() { g().unwrap(); } }\n";
    let found = findings("crates/sip/src/a.rs", module);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("crates/sip/src/a.rs:2:"), "{found:?}");
    assert!(findings("crates/sip/tests/a.rs", module).is_empty());
    assert!(findings("crates/sip/src/a/tests.rs", module).is_empty());
}

#[test]
fn every_module_opens_with_its_documentation() {
    assert_eq!(findings("a.rs", "use x;\n").len(), 1);
    assert_eq!(findings("a.rs", "").len(), 1);
    assert!(findings("a.rs", "\n#![cfg(test)]\n//! What it owns.\n").is_empty());
}

#[test]
fn unfinished_work_and_unbounded_queues_are_found() {
    for fault in [
        "fn f() { todo!() }",
        "// FIXME later",
        "use tokio::sync::mpsc::unbounded_channel;",
        "let x = mpsc::channel();",
    ] {
        assert_eq!(findings("a.rs", &format!("//! m\n{fault}\n")).len(), 1, "{fault}");
    }
    assert!(findings("a.rs", "//! m\n// a METHODOLOGY, not a MARKER\nlet x = mpsc::channel(5);\n").is_empty());
}

#[test]
fn a_lint_is_switched_off_with_its_reason() {
    assert_eq!(findings("a.rs", "//! m\nuse x;\n#![allow(clippy::all)]\n").len(), 1);
    assert!(findings("a.rs", "//! m\n#![allow(unsafe_code, reason = \"the kernel\")]\n").is_empty());
    assert!(findings("a.rs", "//! m\n// Nobody needs it.\n#![allow(async_fn_in_trait)]\n").is_empty());
}

#[test]
fn a_hash_map_in_a_pure_crate_needs_a_fixed_hasher() {
    let map = "//! m\nuse std::collections::HashMap;\n";
    assert_eq!(findings("crates/group/src/a.rs", map).len(), 1);
    assert!(findings("crates/server/src/a.rs", map).is_empty());
    assert!(
        findings("crates/group/src/a.rs", &format!("{map}// fixed hasher; looked up, never iterated\n")).is_empty()
    );
}

#[test]
fn unsafe_has_one_place() {
    let code = "//! m\nfn f() { unsafe { g() } }\n";
    assert_eq!(findings("crates/server/src/up.rs", code).len(), 1);
    assert!(findings("crates/server/src/net/batch.rs", code).is_empty());
    assert!(findings("crates/sip/src/lib.rs", "//! m\n#![forbid(unsafe_code)]\n").is_empty());
}

#[test]
fn the_ratchet_only_turns_one_way() {
    let list = "[files]\n\"big.rs\" = 900\n[functions]\n\"a.rs::f\" = 90\n\"gone.rs::g\" = 80\n";
    let mut ratchet = Ratchet::parse(list).unwrap();
    assert_eq!(ratchet.file("big.rs", 900), None);
    assert!(ratchet.file("big.rs", 901).unwrap().contains("grew"));
    assert!(ratchet.file("big.rs", 850).unwrap().contains("lower"));
    assert!(ratchet.file("big.rs", 800).unwrap().contains("remove"));
    assert!(ratchet.file("new.rs", 801).unwrap().contains("budget"));
    assert_eq!(ratchet.file("new.rs", 800), None);
    assert_eq!(ratchet.function("a.rs", "f", 90), None);
    assert!(ratchet.function("a.rs", "h", 71).unwrap().contains("split the function"));
    assert_eq!(ratchet.unused().len(), 1, "only gone.rs was never met");
}

#[test]
fn machine_paths_and_foreign_spelling_are_found() {
    let fault = ["see /ro", "ot/x and initiali", "ze"].concat();
    assert_eq!(words::check("README.md", &fault, &fault).len(), 2);
    assert_eq!(words::check("a.rs", &fault, "").len(), 1, "names in code are spelt as their owners spell them");
    assert!(words::check("README.md", "see ./pairline-data", "and initialise").is_empty());
}

#[test]
fn the_architecture_names_every_room() {
    let folders: BTreeSet<String> = ["crates/a", "crates/b", "xtask"].map(str::to_owned).into();
    let text = "# A\n\n### `crates/a`\nMust never contain: b.\n\n### `crates/c`\nMust never contain: d.\n\n### `xtask`\nChores.\n";
    let found = architecture::compare(text, &folders);
    assert_eq!(found.len(), 3, "{found:?}");
}
