//! Reading users from CSV: columns, limits, and errors that name the line.
//!
//! Owns the file's form. Does not own the import (`import`).

use pairline_node::command::ImportRow;
use std::collections::BTreeMap;
use std::io::Read;

/// Most rows of one file.
const ROWS: usize = 2_000_000;

/// Longest field in bytes, the contacts' excepted.
const FIELD: usize = 256;

/// Most contacts of one row.
const CONTACTS: usize = 1_000;

/// Most faults that are collected before reading stops.
const FAULTS: usize = 100;

/// One fault of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Line of the file, from 1; 0 = the file as a whole.
    pub line: u64,
    /// What is wrong.
    pub problem: String,
}

/// Where each known column stands.
struct Columns {
    user: usize,
    password: usize,
    display_name: Option<usize>,
    pool: Option<usize>,
    contacts: Option<usize>,
    count: usize,
}

/// Reads all rows, or every fault found (at most 100).
pub fn read(input: impl Read) -> Result<Vec<ImportRow>, Vec<Fault>> {
    let mut reader = csv::ReaderBuilder::new().flexible(true).trim(csv::Trim::All).from_reader(input);
    let header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(error) => return Err(vec![fault_of(&error)]),
    };
    let columns = columns(&header).map_err(|problem| vec![Fault { line: 1, problem }])?;
    let mut rows = Vec::new();
    let mut faults = Vec::new();
    let mut seen: BTreeMap<String, u64> = BTreeMap::new();
    for record in reader.records() {
        if faults.len() >= FAULTS {
            break;
        }
        if rows.len() >= ROWS {
            faults.push(Fault { line: 0, problem: format!("more than {ROWS} rows; split the file") });
            break;
        }
        match record {
            Err(error) => faults.push(fault_of(&error)),
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                match row(&columns, &record) {
                    Ok(row) => match seen.insert(row.user.to_ascii_lowercase(), line) {
                        Some(first) => {
                            faults.push(Fault {
                                line,
                                problem: format!("`{}` stands on line {first} already", row.user),
                            });
                        }
                        None => rows.push(row),
                    },
                    Err(problem) => faults.push(Fault { line, problem }),
                }
            }
        }
    }
    if faults.is_empty() { Ok(rows) } else { Err(faults) }
}

fn fault_of(error: &csv::Error) -> Fault {
    let line = error.position().map_or(0, csv::Position::line);
    Fault { line, problem: error.to_string() }
}

fn columns(header: &csv::StringRecord) -> Result<Columns, String> {
    let mut found: BTreeMap<&str, usize> = BTreeMap::new();
    for (at, name) in header.iter().enumerate() {
        if !["user", "password", "display_name", "pool", "contacts"].contains(&name) {
            return Err(format!("unknown column `{name}`; known: user, password, display_name, pool, contacts"));
        }
        if found.insert(name, at).is_some() {
            return Err(format!("column `{name}` stands twice"));
        }
    }
    let need = |name: &str| found.get(name).copied().ok_or_else(|| format!("column `{name}` is missing"));
    Ok(Columns {
        user: need("user")?,
        password: need("password")?,
        display_name: found.get("display_name").copied(),
        pool: found.get("pool").copied(),
        contacts: found.get("contacts").copied(),
        count: header.len(),
    })
}

fn row(columns: &Columns, record: &csv::StringRecord) -> Result<ImportRow, String> {
    if record.len() != columns.count {
        return Err(format!("{} fields, the first line has {}", record.len(), columns.count));
    }
    let field = |at: usize, name: &str| -> Result<String, String> {
        let text = record.get(at).unwrap_or_default();
        if text.len() > FIELD {
            return Err(format!("`{name}` is longer than {FIELD} bytes"));
        }
        Ok(text.to_owned())
    };
    let filled = |at: usize, name: &str| {
        field(at, name).and_then(|text| if text.is_empty() { Err(format!("`{name}` is empty")) } else { Ok(text) })
    };
    let optional = |at: Option<usize>, name: &str| -> Result<Option<String>, String> {
        let text = at.map(|at| field(at, name)).transpose()?;
        Ok(text.filter(|text| !text.is_empty()))
    };
    let user = filled(columns.user, "user")?;
    if user.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("`user` has a space or control character".into());
    }
    let contacts: Vec<String> = columns
        .contacts
        .and_then(|at| record.get(at))
        .unwrap_or_default()
        .split(';')
        .map(str::trim)
        .filter(|contact| !contact.is_empty())
        .map(str::to_owned)
        .collect();
    if contacts.len() > CONTACTS {
        return Err(format!("{} contacts; at most {CONTACTS}", contacts.len()));
    }
    if let Some(long) = contacts.iter().find(|contact| contact.len() > FIELD) {
        return Err(format!("contact `{}…` is longer than {FIELD} bytes", long.chars().take(20).collect::<String>()));
    }
    Ok(ImportRow {
        user,
        password: filled(columns.password, "password")?,
        display_name: optional(columns.display_name, "display_name")?,
        pool: optional(columns.pool, "pool")?,
        contacts,
    })
}
