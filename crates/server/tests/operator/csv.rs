//! Users from CSV: good files, and faults with their lines.

use pairline_server::cli::import_csv::{Fault, read};

fn faults(text: &str) -> Vec<Fault> {
    read(text.as_bytes()).expect_err("faults")
}

#[test]
fn all_columns_are_read() {
    let text = "user,password,display_name,pool,contacts\nalice,s3cret,\"Alice, East\",east,sip:bob@x.test;sip:carol@x.test\nbob,pw,,,\n";
    let rows = read(text.as_bytes()).expect("good file");
    assert_eq!(rows.len(), 2);
    assert_eq!(rows[0].display_name.as_deref(), Some("Alice, East"));
    assert_eq!(rows[0].pool.as_deref(), Some("east"));
    assert_eq!(rows[0].contacts, ["sip:bob@x.test", "sip:carol@x.test"]);
    assert_eq!((rows[1].display_name.clone(), rows[1].pool.clone()), (None, None));
    assert!(rows[1].contacts.is_empty());
}

#[test]
fn columns_may_stand_in_any_order() {
    let rows = read("password,user\npw,alice\n".as_bytes()).expect("good file");
    assert_eq!((rows[0].user.as_str(), rows[0].password.as_str()), ("alice", "pw"));
}

#[test]
fn every_fault_names_its_line() {
    let text = "user,password\nalice,pw\n,pw\nbob,\ncarol,pw,extra\nal ice,pw\nALICE,pw\n";
    let lines: Vec<u64> = faults(text).iter().map(|fault| fault.line).collect();
    assert_eq!(lines, [3, 4, 5, 6, 7]);
    let last = &faults(text)[4];
    assert!(last.problem.contains("line 2"), "{}", last.problem);
}

#[test]
fn lines_are_counted_through_quoted_line_ends() {
    let text = "user,password,display_name\nalice,pw,\"two\nlines\"\nbob,,x\n";
    assert_eq!(faults(text)[0].line, 4);
}

#[test]
fn headers_are_checked() {
    assert!(faults("user\nalice\n")[0].problem.contains("`password` is missing"));
    assert!(faults("user,password,shoe\nalice,pw,42\n")[0].problem.contains("unknown column `shoe`"));
    assert!(faults("user,user,password\na,b,c\n")[0].problem.contains("stands twice"));
}

#[test]
fn bytes_that_are_no_text_are_a_fault() {
    let found = read(&b"user,password\nali\xff\xfe,pw\n"[..]).expect_err("faults");
    assert_eq!(found[0].line, 2);
}

#[test]
fn faults_are_bounded() {
    let mut text = String::from("user,password\n");
    (0..1_000).for_each(|_| text.push_str(",pw\n"));
    assert_eq!(faults(&text).len(), 100);
}
