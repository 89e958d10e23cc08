//! Phones in a page of a headless Chromium, run by `browser/run.mjs`.
//!
//! Owns the command line and what the runner is told. What the phones do is in `browser/`.

use crate::deployment::{DOMAIN, Deployment};
use crate::program::Program;
use serde_json::json;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

/// Time for a whole run.
const LIMIT: Duration = Duration::from_secs(90);

/// One phone: the library it is made with, its user, and the WebSocket it signals over.
pub type Phone<'a> = (&'a str, &'a str, &'a str);

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("browser")
}

/// Why its libraries are not to be had here, if so.
pub fn lacks() -> Option<String> {
    let there = folder().join("node_modules/puppeteer-core").is_dir();
    (!there).then(|| "the browser's libraries are not installed (npm ci in tests/interop/browser)".to_owned())
}

/// Two phones in one page of the deployment's domain: they register, write and call each other, in both directions. The browser
/// knows the pools by name.
///
/// # Panics
/// If any step fails, with all that was said.
pub fn talk(pairline: &Deployment, phones: [Phone<'_>; 2]) {
    let hosts = json!({DOMAIN: "127.0.1.1", "east.pairline.test": "127.0.1.1", "west.pairline.test": "127.0.2.1"});
    let certificates = ["east", "west"].map(|pool| pairline.server_config(pool).with_file_name("server.pem"));
    let phones = phones.map(|(kind, user, server)| {
        let password = pairline.password(user);
        json!({"kind": kind, "user": user, "domain": DOMAIN, "password": password, "server": server})
    });
    let told = json!({"page": DOMAIN, "hosts": hosts, "certificates": certificates, "phones": phones}).to_string();
    let mut command = Command::new("node");
    command.arg(folder().join("run.mjs")).env("PAIRLINE_PHONES", told);
    let mut program = Program::start("node run.mjs", &mut command);
    let status = program.finish(LIMIT);
    assert!(status.success(), "{}", program.tail(60));
    let steps = program.lines(0).iter().filter(|line| line.starts_with("ok ")).count();
    assert_eq!(steps, 10, "two registrations, and four steps each way:\n{}", program.tail(60));
}
