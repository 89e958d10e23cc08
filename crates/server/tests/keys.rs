//! Files with keys and secrets: modes, versions, what is refused; and the authority.
#![allow(clippy::unwrap_used)]

use super::support;

use pairline_server::secrets::{Secrets, SecretsError};
use pairline_server::shell::boot;
use pairline_server::tls::files::{self, FileError};
use pairline_server::tls::{Authority, PeerIdentity};
use std::os::unix::fs::PermissionsExt as _;
use support::{Folder, credentials_from, identity, names};

const GOLDEN: &str = "version = 1\n\
    sealing = \"0101010101010101010101010101010101010101010101010101010101010101\"\n\
    nonce_current = \"02020202020202020202020202020202020202020202020202020202020202ff\"\n\
    nonce_previous = \"0303030303030303030303030303030303030303030303030303030303030303\"\n";

#[test]
fn the_form_of_the_secrets_is_frozen() {
    let mut current = [2; 32];
    current[31] = 0xff;
    let secrets = Secrets { sealing: [1; 32], nonce_current: current, nonce_previous: Some([3; 32]) };
    assert_eq!(secrets.to_toml(), GOLDEN);
    assert_eq!(Secrets::from_toml(GOLDEN).unwrap(), secrets);
}

#[test]
fn secrets_are_private_survive_and_newer_ones_are_refused_untouched() {
    let folder = Folder::new();
    let path = folder.path().join("deployment.secret");
    let first = Secrets::load_or_create(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Secrets::load_or_create(&path).unwrap(), first);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(Secrets::load(&path), Err(SecretsError::File(FileError::NotPrivate { mode: 0o640, .. }))));
    let newer = "version = 2\nwhatever = true\n";
    files::write_private(&path, newer.as_bytes()).unwrap();
    assert!(matches!(Secrets::load_or_create(&path), Err(SecretsError::Newer(2))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
}

#[test]
fn no_secret_shows_in_errors_or_debug_output() {
    let secrets = Secrets { sealing: [0xab; 32], nonce_current: [0xcd; 32], nonce_previous: None };
    assert!(!format!("{secrets:?}").contains("ab"));
    let broken = secrets.to_toml().replace("nonce_current", "nonce_curent");
    assert!(!Secrets::from_toml(&broken).unwrap_err().to_string().contains("abab"));
    let short = secrets.to_toml().replace(&"ab".repeat(32), &"ab".repeat(31));
    assert!(!Secrets::from_toml(&short).unwrap_err().to_string().contains("abab"));
}

#[test]
fn the_authority_survives_and_issues_what_its_earlier_self_is_trusted_for() {
    let folder = Folder::new();
    let first = Authority::load_or_create(folder.path(), "demo").unwrap();
    let key = folder.path().join("authority.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    let second = Authority::load_or_create(folder.path(), "demo").unwrap();
    assert_eq!(first.certificate_pem(), second.certificate_pem());
    let issued = second.issue(&names(identity(3, 4))).unwrap();
    let credentials = credentials_from(&first, &issued);
    assert_eq!(credentials.identity(), identity(3, 4));
    let now = time::OffsetDateTime::now_utc().unix_timestamp();
    // Whole days of 397 less a moment, which may be less than a second.
    assert!((396..=397).contains(&credentials.days_left(now)));
    issued.write(&folder.path().join("server.pem"), &folder.path().join("server.key")).unwrap();
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    assert!(Authority::load(folder.path()).is_err(), "an authority's key that others can read is refused");
}

#[test]
fn identities_have_one_spelling() {
    assert_eq!(PeerIdentity::parse("pairline://pool/1/server/2"), Some(identity(1, 2)));
    for other in [
        "pairline://pool/01/server/2",
        "pairline://pool/1/server/+2",
        "pairline://pool/1/server/2/",
        "pairline://pool/70000/server/2",
        "PAIRLINE://pool/1/server/2",
        "pairline://pool//server/2",
    ] {
        assert_eq!(PeerIdentity::parse(other), None, "{other}");
    }
}

#[test]
fn the_start_number_rises_and_a_foreign_file_is_refused() {
    let folder = Folder::new();
    let first = boot::next(folder.path()).unwrap();
    assert!(first > 1_700_000_000, "a folder that was emptied begins later than it ended");
    assert_eq!(boot::next(folder.path()).unwrap(), first + 1);
    assert_eq!(std::fs::read_to_string(folder.path().join("boot")).unwrap(), format!("1 {}\n", first + 1));
    std::fs::write(folder.path().join("boot"), "2 7\n").unwrap();
    assert!(boot::next(folder.path()).is_err());
}
