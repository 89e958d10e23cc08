//! Import: batches within the limits of a request, and a count that is right.

use crate::api::{start, start_with};
use pairline_node::command::{Command, ImportRow, Reply};
use pairline_server::api::build::IMPORT_ROWS;
use pairline_server::api::handler::BODY_LIMIT;
use pairline_server::cli::{import, render};
use std::time::Duration;

fn row(number: usize, contacts: usize, pool: &str) -> ImportRow {
    ImportRow {
        user: format!("u{number:05}"),
        password: "pw".into(),
        display_name: None,
        pool: Some(pool.into()),
        contacts: (0..contacts).map(|n| format!("sip:contact-number-{n:04}@elsewhere.example.org")).collect(),
    }
}

#[test]
fn batches_are_cut_by_rows_by_bytes_and_by_pool() {
    let rows: Vec<ImportRow> = (0..500).map(|n| row(n, 1000, if n % 2 == 0 { "east" } else { "west" })).collect();
    let batches = import::batches(rows, 500);
    let all: usize = batches.iter().map(Vec::len).sum();
    assert_eq!(all, 500, "every row is in one batch");
    for batch in &batches {
        let body = serde_json::to_vec(&Command::UserImport { rows: batch.clone() }).expect("JSON");
        assert!(body.len() <= BODY_LIMIT, "{} bytes in {} rows", body.len(), batch.len());
        assert!(batch.iter().all(|row| row.pool == batch[0].pool));
    }
    assert!(batches.len() < 20, "{} batches: they are filled", batches.len());
    let small = import::batches((0..1_001).map(|n| row(n, 0, "east")).collect(), 500);
    assert_eq!(small.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 1]);
}

/// Rows with many contacts go through the real limits of the API.
#[tokio::test]
async fn long_contact_lists_are_no_obstacle_and_every_refusal_counts() {
    let api = start_with(|command| match command {
        Command::UserImport { rows } => {
            let refused = u64::try_from(rows.len()).expect("small");
            // As the node does: a hundred reasons at most, and the true number.
            let reasons = rows.iter().take(100).map(|row| (row.user.clone(), "no".to_owned())).collect();
            Some(Ok(Reply::Imported {
                added: 0,
                unchanged: 0,
                refused: reasons,
                refused_count: refused,
                unfinished: vec![],
            }))
        }
        _ => None,
    })
    .await;
    let rows: Vec<ImportRow> = (0..400).map(|n| row(n, 1000, "east")).collect();
    let done = import::run(api.access.clone(), rows, 500, false).await.expect("an import");
    assert_eq!((done.refused, done.added), (400, 0));
    let reply = Reply::Imported { added: 1, unchanged: 0, refused: vec![], refused_count: 150, unfinished: vec![] };
    assert!(render::reply(&reply).contains("150 refused"));
    api.stop.send_replace(true);
}

#[tokio::test]
async fn more_rows_than_a_call_takes_are_refused_by_either_route() {
    let api = start().await;
    let rows: Vec<ImportRow> = (0..=IMPORT_ROWS).map(|n| row(n, 0, "east")).collect();
    let token = api.access.token.clone();
    let whole = serde_json::to_string(&Command::UserImport { rows: rows.clone() }).expect("JSON");
    let plain = serde_json::json!({ "rows": rows }).to_string();
    for (path, body) in [("/api/v1/command", whole), ("/api/v1/users/import", plain)] {
        let mut connection = api.connect().await;
        let answer = connection.post(path, &token, body.into(), Duration::from_secs(10)).await.expect("an answer");
        let text = String::from_utf8_lossy(&answer.1).into_owned();
        assert_eq!(answer.0, 400, "{path}: {text}");
        assert!(text.contains("1001 rows; one call takes at most 1000"), "{text}");
    }
    assert!(api.asked().is_empty(), "none of it reached the node");
    api.stop.send_replace(true);
}
