//! `pairline policy …`: the table of who may send what, as it is built into this binary.
//!
//! Owns its form. The cells are the services'.

use super::table::table;
use pairline_services::access::{Cell, cells};

/// The table for machines: one object a cell.
pub fn json() -> serde_json::Value {
    serde_json::to_value(cells().collect::<Vec<Cell>>()).unwrap_or_default()
}

/// The table for people: a row for each method and direction, a column for each proof.
pub fn text() -> String {
    let all: Vec<Cell> = cells().collect();
    let rows: Vec<Vec<String>> = all
        .chunk_by(|a, b| a.method == b.method && a.direction == b.direction)
        .map(|row| {
            let mut line = vec![row[0].method.to_owned(), row[0].direction.to_owned()];
            line.extend(row.chunk_by(|a, b| a.proof == b.proof).map(both));
            line
        })
        .collect();
    let legend = "\nEach request outside a dialog is looked up before any service sees it. Open is UDP, TCP and WS; secure is TLS, WSS and \
                  the link between pools.\nWhere they differ the open transport's verdict comes first. \"challenge\" is 401 or 407; with right \
                  credentials the digest column counts.\nIn a dialog the proof is the mark in our own Route. ACK and CANCEL belong to the \
                  transaction that they name.\n";
    table(&["METHOD", "DIRECTION", "NO PROOF", "DIGEST", "CERTIFICATE", "TRUSTED PEER"], &rows) + legend
}

/// The verdicts of both transports as one, if they are one. A certificate cannot be shown over an open transport.
fn both(cells: &[Cell]) -> String {
    let mut verdicts: Vec<&str> = cells.iter().map(|cell| cell.verdict).filter(|v| *v != "cannot be").collect();
    verdicts.dedup();
    verdicts.join(" / ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_hold_every_cell() {
        let json = json();
        let list = json.as_array().expect("a list");
        assert_eq!(list.len(), cells().count());
        assert!(list.iter().all(|cell| cell["verdict"].as_str().is_some_and(|verdict| !verdict.is_empty())));
        let text = text();
        let invite = text.lines().find(|line| line.starts_with("INVITE") && line.contains("own user to own user"));
        let words: Vec<&str> = invite.expect("a row").split("  ").map(str::trim).filter(|w| !w.is_empty()).collect();
        assert_eq!(words, ["INVITE", "own user to own user", "challenge", "allow", "allow", "allow"]);
        assert_eq!(text.lines().filter(|line| line.starts_with("REGISTER")).count(), 7);
    }
}
