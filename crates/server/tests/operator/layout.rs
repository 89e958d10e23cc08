//! A data folder is recognised, or left alone.

use crate::temp::Temp;
use pairline_server::tls::files;
use pairline_server::up::create;
use pairline_server::up::layout::{Found, Layout, LayoutError};
use pairline_topology::{demo_topology, parse, parse_server_config};
use std::fs;
use std::os::unix::fs::PermissionsExt;

#[test]
fn nothing_and_an_empty_folder_are_free() {
    let temp = Temp::new("free");
    assert_eq!(Layout::new(temp.path()).look().expect("a look"), Found::Nothing);
    assert_eq!(Layout::new(&temp.path().join("absent")).look().expect("a look"), Found::Nothing);
}

#[test]
fn a_foreign_folder_is_never_removed() {
    let temp = Temp::new("foreign");
    fs::write(temp.path().join("thesis.txt"), "years of work").expect("a file");
    let layout = Layout::new(temp.path());
    assert!(matches!(layout.look(), Err(LayoutError::Foreign(_))));
    assert!(matches!(layout.remove(), Err(LayoutError::Foreign(_))));
    fs::write(layout.marker(), "{\"kind\":\"another\",\"format\":1,\"created_by\":\"x\"}").expect("a file");
    assert!(matches!(layout.remove(), Err(LayoutError::Foreign(_))));
    assert!(temp.path().join("thesis.txt").exists());
}

#[test]
fn the_folder_of_a_server_that_joined_is_never_removed() {
    let temp = Temp::new("joined");
    let layout = Layout::new(temp.path());
    layout.mark_server().expect("a marker");
    assert_eq!(layout.look().expect("a look"), Found::Server);
    assert!(matches!(layout.remove(), Err(LayoutError::OneServer(_))));
    assert!(layout.marker().exists());
}

#[test]
fn a_file_in_its_place_is_foreign() {
    let temp = Temp::new("file");
    let file = temp.path().join("pairline-data");
    fs::write(&file, "x").expect("a file");
    assert!(matches!(Layout::new(&file).look(), Err(LayoutError::Foreign(_))));
}

#[test]
fn a_newer_format_is_refused_untouched() {
    let temp = Temp::new("newer");
    let layout = Layout::new(temp.path());
    layout.mark().expect("a marker");
    assert_eq!(layout.look().expect("a look"), Found::Deployment);
    let newer = fs::read_to_string(layout.marker()).expect("the marker").replace("\"format\": 1", "\"format\": 2");
    fs::write(layout.marker(), &newer).expect("a file");
    assert!(matches!(layout.look(), Err(LayoutError::Newer { format: 2, .. })));
    assert!(matches!(layout.remove(), Err(LayoutError::Newer { .. })));
    assert_eq!(fs::read_to_string(layout.marker()).expect("the marker"), newer);
}

#[test]
fn a_new_folder_has_what_servers_and_operator_need() {
    let temp = Temp::new("create");
    let root = temp.path().join("pairline-data");
    let topology = demo_topology();
    let layout = create::create(&root, &topology).expect("a deployment");
    assert_eq!(layout.look().expect("a look"), Found::Deployment);
    let text = fs::read_to_string(layout.topology()).expect("topology");
    assert_eq!(parse("topology.toml", &text).expect("topology"), topology);
    for server in &topology.server {
        let path = layout.server_config(&server.name);
        let config = parse_server_config("server.toml", &fs::read_to_string(path).expect("config")).expect("config");
        assert_eq!(config.server, server.name);
        for file in [&config.certificate, &config.key, &config.authority, &config.secret, &config.topology] {
            assert!(file.is_absolute() && file.exists(), "{}", file.display());
        }
        assert!(config.data.is_dir());
    }
    for private in [layout.admin_token(), layout.secret(), layout.authority().join("authority.key")] {
        let mode = fs::metadata(&private).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", private.display());
        files::read_private(&private).expect("private");
    }
    let beside: Vec<_> = fs::read_dir(temp.path()).expect("a folder").collect();
    assert_eq!(beside.len(), 1, "nothing is left beside it");
    layout.remove().expect("removed");
    assert!(!root.exists());
}

#[test]
fn passwords_are_long_and_differ() {
    let (one, other) = (create::password().expect("random"), create::password().expect("random"));
    assert_eq!(one.len(), 16);
    assert_ne!(one, other);
}
