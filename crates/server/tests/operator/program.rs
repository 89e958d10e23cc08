//! The word with which the running program can be called.

use crate::temp::Temp;
use pairline_server::up::program::{name_from, quoted};
use std::path::Path;

#[test]
fn a_program_below_the_current_folder_is_named_from_there() {
    let here = Path::new("/srv/ada/pairline");
    let name = |program: &str| name_from(Path::new(program), here, &[]);
    assert_eq!(name("/srv/ada/pairline/target/release/pairline"), "target/release/pairline");
    assert_eq!(name("/srv/ada/pairline/pairline"), "./pairline", "a bare name would be looked for on the PATH");
    assert_eq!(name("/opt/pairline"), "/opt/pairline");
    assert_eq!(name("/opt/my programs/pairline"), "'/opt/my programs/pairline'");
    assert_eq!(quoted(Path::new("/it's")), "'/it'\\''s'");
}

#[test]
fn a_program_on_the_path_has_its_bare_name_if_it_is_the_first_there() {
    let temp = Temp::new("program");
    let folder = std::fs::canonicalize(temp.path()).expect("a folder");
    let (mine, other) = (folder.join("mine"), folder.join("other"));
    for folder in [&mine, &other] {
        std::fs::create_dir_all(folder).expect("a folder");
        std::fs::write(folder.join("pairline"), "x").expect("a file");
    }
    let program = mine.join("pairline");
    let here = Path::new("/");
    assert_eq!(name_from(&program, here, &[mine.clone(), other.clone()]), "pairline");
    assert_ne!(name_from(&program, here, &[other, mine]), "pairline", "another program would be started");
}
