//! Commands on users, settings and registrations, and the preflights, as an administrator gives them.

use super::kept::equal;
use super::{east, west};
use pairline_interop::deployment::{DOMAIN, Deployment};
use pairline_interop::phone::Phone;
use pairline_interop::wait::until;
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::time::Duration;

/// Whether a phone of the user gets in with a password; it leaves no registration behind.
fn gets_in(pairline: &Deployment, user: &str, password: &str, port: u16) -> bool {
    let told = Phone::new(user, east(), port).sign_in(password);
    let inside = told.starts_with("SIP/2.0 200 ");
    assert!(inside || told.starts_with("SIP/2.0 401 "), "{told}");
    // The answering server lists from its own copy, which follows the serving pool's by some milliseconds.
    let listed = || pairline.must(&["registration", "list", user]).out.contains(&port.to_string());
    if inside {
        until(Duration::from_secs(5), "an accepted registration is listed", || listed().then_some(()));
    } else {
        assert!(!listed(), "a refused registration is listed");
    }
    if inside {
        pairline.must(&["registration", "drop", user]);
    }
    inside
}

/// A user is added with a password from a file, gets another one from standard input, and is removed with all it has.
pub fn user_life(pairline: &mut Deployment) {
    let file = pairline.folder().with_file_name("password.txt");
    fs::write(&file, "first-password-of-erika\nnot this line\n").expect("the folder can be written");
    for secret in ["first-password-of-erika", "second-password-of-erika"] {
        pairline.keep_secret(secret);
    }
    let file = file.to_string_lossy().into_owned();
    let name = "--display-name";
    pairline.must(&["user", "add", "erika", "--pool", "west", name, "Erika West", "--password-file", &file]);
    // The answering server shows the name from its own copy, as it lists registrations.
    let shown = || pairline.must(&["user", "show", "erika"]).out;
    assert!(shown().contains("sip:erika@pairline.test") && shown().contains("west"), "{}", shown());
    let named = || shown().contains("Erika West").then_some(());
    until(Duration::from_secs(5), "the name of a user who was added is shown", named);
    let twice = pairline.cli(&["user", "add", "erika", "--pool", "west", "--password-file", &file]);
    assert!(!twice.success && twice.err.contains("exists already"), "{}", twice.all());
    assert!(pairline.must(&["user", "list"]).out.contains("erika"));
    assert!(gets_in(pairline, "erika", "first-password-of-erika", 17_401));
    assert!(!gets_in(pairline, "erika", "second-password-of-erika", 17_402));
    let said = pairline.cli_with(&["user", "password", "erika"], "second-password-of-erika\n");
    assert!(said.success, "{}", said.all());
    assert!(!gets_in(pairline, "erika", "first-password-of-erika", 17_403), "the old password is still good");
    assert!(gets_in(pairline, "erika", "second-password-of-erika", 17_404));
    let nothing = pairline.cli(&["user", "password", "erika"]);
    assert!(!nothing.success && nothing.err.contains("no password"), "{}", nothing.all());
    pairline.must(&["contact", "put", "erika", "sip:bob@pairline.test", "--name", "Bob"]);
    pairline.must(&["user", "remove", "erika"]);
    for command in [["user", "show"], ["user", "where"], ["contact", "list"], ["settings", "show"], ["user", "remove"]]
    {
        let said = pairline.cli(&[&command[..], &["erika"]].concat());
        assert!(!said.success && said.err.contains("there is no user"), "{command:?}: {}", said.all());
    }
    assert!(!gets_in_nowhere("erika", "second-password-of-erika"), "a removed user gets in");
    pairline.must(&["user", "add", "erika", "--pool", "east", "--password-file", &file]);
    let contacts = pairline.must(&["contact", "list", "erika"]).out;
    assert!(contacts.contains("no contacts"), "a new user has what an old one of that name had: {contacts}");
    pairline.must(&["user", "remove", "erika"]);
    equal(pairline);
}

fn gets_in_nowhere(user: &str, password: &str) -> bool {
    Phone::new(user, west(), 17_405).sign_in(password).starts_with("SIP/2.0 200 ")
}

/// Settings are shown as they were set; what is not given stays; an empty value clears.
pub fn settings(pairline: &mut Deployment) {
    let of = |pairline: &Deployment| {
        let json = pairline.must(&["settings", "show", "carol", "--json"]).json();
        ["display_name", "forward_to", "note"].map(|name| json[name].as_str().unwrap_or_default().to_owned())
    };
    let before = of(pairline);
    assert_eq!(before, ["Carol West", "", ""]);
    pairline.must(&["settings", "set", "carol", "--note", "Back at three", "--forward-to", "sip:dave@pairline.test"]);
    assert_eq!(of(pairline), ["Carol West", "sip:dave@pairline.test", "Back at three"]);
    pairline.must(&["settings", "set", "carol", "--display-name", "Carol W.", "--note", ""]);
    assert_eq!(of(pairline), ["Carol W.", "sip:dave@pairline.test", ""]);
    let shown = pairline.must(&["user", "show", "carol"]).out;
    assert!(shown.contains("Carol W."), "{shown}");
    let text = pairline.must(&["settings", "show", "carol"]).out;
    assert!(text.contains("forward to    sip:dave@pairline.test"), "{text}");
    let long = "x".repeat(2_000);
    let refused = pairline.cli(&["settings", "set", "carol", "--note", &long]);
    assert!(!refused.success && refused.err.contains("note"), "{}", refused.all());
    pairline.must(&["settings", "set", "carol", "--display-name", "Carol West", "--forward-to", ""]);
    assert_eq!(of(pairline), before);
}

/// Two registrations of one user are listed; one is dropped by its contact, then the rest.
pub fn registrations(pairline: &mut Deployment) {
    let password = pairline.password("bob");
    let phones = [17_411, 17_412].map(|port| {
        let mut phone = Phone::new("bob", east(), port);
        assert!(phone.sign_in(&password).starts_with("SIP/2.0 200 "));
        phone
    });
    let listed = pairline.must(&["registration", "list", "bob"]).out;
    assert!(phones.iter().all(|phone| listed.contains(&phone.contact)), "{listed}");
    let all = pairline.must(&["registration", "list", "--json"]).json();
    let of_bob = |all: &Value| {
        let rows = all["registrations"].as_array().cloned().unwrap_or_default();
        rows.iter().filter(|row| row["user"] == "sip:bob@pairline.test").count()
    };
    assert_eq!(of_bob(&all), 2, "{all}");
    let said = pairline.must(&["registration", "drop", "bob", "--contact", &phones[0].contact]).out;
    assert!(said.starts_with("1 registration"), "{said}");
    let listed = pairline.must(&["registration", "list", "bob"]).out;
    assert!(!listed.contains(&phones[0].contact) && listed.contains(&phones[1].contact), "{listed}");
    pairline.must(&["registration", "drop", "bob"]);
    assert!(pairline.must(&["registration", "list", "bob"]).out.contains("no registrations"));
    let nobody = pairline.cli(&["registration", "list", "nobody"]);
    assert!(!nobody.success && nobody.err.contains("there is no user"), "{}", nobody.all());
}

/// Asks the admin API with curl: status and body.
fn curl(pairline: &Deployment, args: &[&str], path: &str) -> (String, String) {
    ask(pairline, "east", args, &format!("api/v1/{path}"))
}

/// What a pool's metrics say of a name with its labels, as they are written there.
pub fn metric(pairline: &Deployment, pool: &str, series: &str) -> f64 {
    let (status, text) = ask(pairline, pool, &[], "metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_else(|| panic!("no {series}: {status}: {text}"))
}

fn ask(pairline: &Deployment, pool: &str, args: &[&str], path: &str) -> (String, String) {
    let authority = pairline.folder().join("authority/authority.pem");
    let mut command = Command::new("curl");
    command.args(["--silent", "--show-error", "--max-time", "20", "--write-out", "\n%{http_code}", "--cacert"]);
    command.arg(authority).args(args).arg(format!("https://{}/{path}", Deployment::admin(pool)));
    let output = command.output().expect("curl can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = text.rsplit_once('\n').unwrap_or_else(|| panic!("curl: {text} {output:?}"));
    (status.to_owned(), body.to_owned())
}

/// One user reads and changes its own contacts and settings in one way of proving who it is, and reaches nothing else:
/// `closed` answers it where only an administrator may come in (a password is not weighed there at all).
fn own_data(pairline: &Deployment, user: &str, way: &[&str], closed: &str) {
    let own = format!("users/{user}/contacts");
    let contact = "sip:own@pairline.test";
    let body = ["--request", "PUT", "--json", "{\"name\": \"Own\", \"groups\": [\"friends\"]}"];
    let put = curl(pairline, &[way, &body].concat(), &format!("{own}/{contact}"));
    assert_eq!(put.0, "200", "{user}: {}", put.1);
    let list = curl(pairline, way, &own);
    assert!(list.0 == "200" && list.1.contains(contact) && list.1.contains("friends"), "{user}: {list:?}");
    assert!(pairline.must(&["contact", "list", user]).out.contains(contact));
    let gone = curl(pairline, &[way, &["--request", "DELETE"]].concat(), &format!("{own}/{contact}"));
    assert_eq!(gone.0, "200", "{user}: {}", gone.1);
    assert_eq!(curl(pairline, way, &format!("users/{user}/settings")).0, "200");
    for beyond in ["users/bob/contacts", "users/bob/settings", "users", "pools", "procedures"] {
        let wanted = if beyond.contains('/') { "403" } else { closed };
        let (status, body) = curl(pairline, way, beyond);
        assert!(status == wanted && body.contains("urn:pairline:problem:"), "{user} at {beyond}: {status} {body}");
    }
}

/// With a token, for users of both pools; a changed token and none are not let in.
pub fn own_token(pairline: &mut Deployment) {
    for user in ["alice", "carol"] {
        let token = pairline.must(&["user", "token", user, "--hours", "1"]).out.trim().to_owned();
        assert!(token.len() > 40 && !token.contains(char::is_whitespace), "{token}");
        pairline.keep_secret(&token);
        own_data(pairline, user, &["--header", &format!("Authorization: Bearer {token}")], "403");
        let changed = format!("Authorization: Bearer {}", token.replacen('.', ".0", 1));
        assert_eq!(curl(pairline, &["--header", &changed], &format!("users/{user}/contacts")).0, "401");
    }
    let (status, body) = curl(pairline, &[], "users/alice/contacts");
    assert!(status == "401" && body.contains("urn:pairline:problem:unauthorised"), "{status} {body}");
}

/// With the password that the user's phone has, by digest, for users of both pools; a wrong password is not let in.
pub fn own_digest(pairline: &mut Deployment) {
    for user in ["alice", "carol"] {
        let wrong =
            curl(pairline, &["--digest", "--user", &format!("{user}:wrong")], &format!("users/{user}/contacts"));
        assert_eq!(wrong.0, "401", "{}", wrong.1);
        own_data(pairline, user, &["--digest", "--user", &format!("{user}:{}", pairline.password(user))], "401");
    }
}

/// The very records that a zone of this deployment needs.
fn wanted_records() -> Vec<(String, String, String)> {
    let mut all = Vec::new();
    let mut add = |name: String, kind: &str, data: String| all.push((name, kind.to_owned(), data));
    let services =
        [("_sip._udp", 5060), ("_sip._tcp", 5060), ("_sips._tcp", 5061), ("_sips._ws", 8443), ("_sip._ws", 5066)];
    let naptr = ["SIP+D2U", "SIP+D2T", "SIPS+D2T", "SIPS+D2W", "SIP+D2W"];
    for ((place, naptr), (service, _)) in (1..).zip(naptr).zip(services) {
        for name in [DOMAIN.to_owned(), format!("east.{DOMAIN}"), format!("west.{DOMAIN}")] {
            let data = format!("10 {place}0 \"s\" \"{naptr}\" \"\" {service}.{name}.");
            add(name, "NAPTR", data);
        }
    }
    for (service, port) in services {
        for pool in ["east", "west"] {
            add(format!("{service}.{DOMAIN}"), "SRV", format!("10 50 {port} fe1.{pool}.{DOMAIN}."));
            add(format!("{service}.{pool}.{DOMAIN}"), "SRV", format!("10 50 {port} fe1.{pool}.{DOMAIN}."));
            let partner = if pool == "east" { "west" } else { "east" };
            add(format!("{service}.{pool}.{DOMAIN}"), "SRV", format!("20 50 {port} fe1.{partner}.{DOMAIN}."));
        }
    }
    for (pool, address) in [("east", "127.0.1.1"), ("west", "127.0.2.1")] {
        add(format!("{pool}.{DOMAIN}"), "A", address.to_owned());
        add(format!("fe1.{pool}.{DOMAIN}"), "A", address.to_owned());
    }
    all.sort();
    all
}

/// `preflight dns` prints exactly the records to create, in JSON and as a zone would have them, and asks the own DNS for them.
/// Its exit code depends on the machine's resolver and is not looked at.
pub fn preflight_dns(pairline: &mut Deployment) {
    let json = pairline.cli(&["preflight", "dns", "--json"]).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let rows = json["records"].as_array().cloned().unwrap_or_default();
    let mut found: Vec<_> =
        rows.iter().map(|row| (text(&row["name"]), text(&row["kind"]), text(&row["data"]))).collect();
    found.sort();
    assert_eq!(found, wanted_records());
    let said = pairline.cli(&["preflight", "dns"]).out;
    for (name, kind, data) in wanted_records() {
        let line = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "));
        let wanted = format!("{name}. {kind} {data} ");
        assert!(line.into_iter().any(|line| line.starts_with(&wanted)), "`{wanted}` is missing in:\n{said}");
    }
    let looks = json["looks"].as_array().cloned().unwrap_or_default();
    for server in ["fe1.east", "fe1.west"] {
        let own: Vec<_> = looks.iter().filter(|look| text(&look["server"]).starts_with(server)).collect();
        assert_eq!(own.len(), 15, "five services of three names: {json}");
        for look in own {
            let answer = text(&look["answer"]);
            let both = ["fe1.east", "fe1.west"].map(|of| answer.matches(&format!(" {of}.{DOMAIN}.")).count());
            assert_eq!(both, [1, 1], "{look}");
        }
    }
}

/// `preflight cert` prints exactly the names that each certificate carries; `preflight clients` the ways to set a client.
pub fn preflight_cert_and_clients(pairline: &mut Deployment) {
    let said = pairline.must(&["preflight", "cert"]).out;
    let mut lines = said.lines().map(str::trim);
    for (pool, address, number) in [("east", "127.0.1.1", 1), ("west", "127.0.2.1", 2)] {
        let head = lines.next().unwrap_or_default();
        assert!(head.starts_with(&format!("fe1.{pool}.{DOMAIN} (expires in ")), "{said}");
        let names: Vec<String> = lines.by_ref().take(6).map(|line| line.to_owned()).collect();
        let dns =
            [format!("east.{DOMAIN}"), format!("fe1.{pool}.{DOMAIN}"), DOMAIN.to_owned(), format!("west.{DOMAIN}")];
        let others = [address.to_owned(), format!("pairline://pool/{number}/server/{number}")];
        let wanted: Vec<String> = dns.iter().chain(&others).map(|name| format!("ok       {name}")).collect();
        assert_eq!(names, wanted, "{said}");
    }
    assert_eq!(lines.next(), None, "{said}");
    let said = pairline.must(&["preflight", "clients"]).out;
    for part in [
        "Domain and realm: pairline.test. User name: the part before @. Registrar: pairline.test.",
        "outbound proxies at both pools (east = 127.0.1.1:5060, west = 127.0.2.1:5060), SIP outbound (RFC 5626), TCP or TLS",
        "server pairline.test; DNS servers 127.0.1.1:5353, 127.0.2.1:5353",
        "at most 52 s: the granted expiry (20 s) and 32 s until the next target",
    ] {
        assert!(said.contains(part), "`{part}` is missing in:\n{said}");
    }
    let pool = pairline.must(&["preflight", "pool", "east"]).out;
    assert!(pool.contains("33 groups move") && pool.contains("allowed"), "{pool}");
}
