//! Client configurations, compared with frozen samples.

use pairline_server::up::clients::ClientFiles;
use pairline_topology::demo::EAST;
use pairline_topology::demo_topology;
use std::path::{Path, PathBuf};

fn golden() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/clients")
}

#[test]
fn configurations_are_as_frozen() {
    let topology = demo_topology();
    let files = ClientFiles::new(
        &topology,
        Path::new("/data/authority/authority.pem"),
        EAST,
        "alice",
        "Alice East",
        "correcthorse",
        0,
    )
    .all();
    assert_eq!(files.len(), 14);
    for (path, content) in files {
        let sample = golden().join(&path);
        if std::env::var_os("PAIRLINE_FREEZE").is_some() {
            std::fs::create_dir_all(sample.parent().expect("a folder")).expect("a folder");
            std::fs::write(&sample, &content).expect("a sample");
        }
        let frozen = std::fs::read_to_string(&sample).unwrap_or_else(|error| panic!("{}: {error}", sample.display()));
        assert_eq!(content, frozen, "{}", path.display());
    }
}

#[test]
fn clients_of_all_users_have_ports_of_their_own() {
    let topology = demo_topology();
    let mut ports: Vec<u16> = (0..4)
        .flat_map(|index| {
            ClientFiles::new(&topology, Path::new("/data/authority/authority.pem"), EAST, "u", "U", "pw", index).all()
        })
        .filter(|(path, _)| path.ends_with("config"))
        .map(|(_, text)| {
            let line = text.lines().find(|line| line.starts_with("sip_listen")).expect("a port").to_owned();
            line.rsplit(':').next().expect("a port").parse().expect("a number")
        })
        .collect();
    ports.sort_unstable();
    assert_eq!(ports.len(), 16);
    assert!(ports.windows(2).all(|pair| pair[1] - pair[0] >= 10), "{ports:?}");
}
